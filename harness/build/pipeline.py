# SPDX-License-Identifier: GPL-2.0-only
"""The stages in order, from a target to what can be booted.

Everything that needs a kernel goes through ``prepare``; a stage that has
nothing to do costs a comparison of stamps.  Two runs in one checkout take turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness import process, ui
from harness.build import build, compiler, policy, programs, rootfs
from harness.build.build import BuildRequest, KernelBuild
from harness.build.programs import Programs, ProgramsRequest
from harness.build.rootfs import Initramfs, RootfsRequest
from harness.kernels import Board, KernelLine, Target
from harness.layout import Layout
from harness.policies import Policy
from harness.source import fetch, patch, userland
from harness.source.fetch import FetchRequest, Source
from harness.source.patch import PatchedTree, PatchRequest
from harness.source.userland import Adbd


@dataclass(frozen=True, kw_only=True)
class PrepareRequest:
    """What to boot, from which source (None: the line's own), busybox and adbd.

    Without ``initramfs`` none is made, for a guest that brings its own user space.
    ``ndk`` is a folder whose ndk-build makes the programs.
    """

    target: Target
    source: str | None = None
    busybox: str | None = None
    adbd: str | None = None
    initramfs: bool = True
    ndk: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything a device needs to boot and run cases."""

    kernel: KernelBuild
    programs: Programs
    initramfs: Initramfs | None


def prepare(request: PrepareRequest, *, layout: Layout) -> Prepared:
    """Run every stage up to the initramfs; raises HarnessError from the one that fails."""
    kernel = build_kernel(request, layout=layout)
    with exclusive(layout):
        compiled = build_programs(kernel, ndk=request.ndk, layout=layout)
        initramfs = None
        if request.initramfs:
            initramfs = make_rootfs(request, kernel, compiled, layout=layout)
        return Prepared(kernel=kernel, programs=compiled, initramfs=initramfs)


def build_kernel(request: PrepareRequest, *, layout: Layout) -> KernelBuild:
    """fetch → patch → configure → build."""
    line = request.target.line
    with exclusive(layout):
        source = fetch_source(line, request.source, layout=layout)
        variant = request.target.variant
        tree = patch_source(
            line,
            source,
            layout=layout,
            compat=compiler.needs_compat(line, request.target.board),
            until=variant.until if variant else None,
        )
        with ui.stage("build") as stage:
            kernel = build.build(
                BuildRequest(tree=tree, target=request.target), layout=layout, stage=stage
            )
            warnings = f", {len(kernel.warnings)} warning(s)" if kernel.warnings else ""
            stage.note(f"{request.target.name} {kernel.release}{warnings}")
    for warning in kernel.warnings:
        ui.say(warning)
    return kernel


def fetch_source(
    line: KernelLine, source: str | None, *, layout: Layout, update: bool = False
) -> Source:
    """The source of a line, downloaded if it is not there."""
    with ui.stage("fetch") as stage:
        fetched = fetch.fetch(
            FetchRequest(line=line, source=source, update=update), layout=layout, stage=stage
        )
        stage.note(f"{line.name} {fetched.version} {fetched.path}")
    return fetched


def fetch_busybox(board: Board, given: str | None, *, layout: Layout, update: bool = False) -> Path:
    """The guest's busybox, downloaded if it is not there."""
    with ui.stage("busybox") as stage:
        path = userland.busybox(board, given=given, layout=layout, stage=stage, update=update)
        stage.note(str(path))
    return path


def fetch_adbd(board: Board, given: str | None, *, layout: Layout, update: bool = False) -> Adbd:
    """The guest's adbd, downloaded if it is not there."""
    with ui.stage("adbd") as stage:
        adbd = userland.adbd(board, given=given, layout=layout, stage=stage, update=update)
        stage.note(f"Android's, {adbd.version}, {len(adbd.files)} files")
    return adbd


def patch_source(
    line: KernelLine,
    source: Source,
    *,
    layout: Layout,
    force: bool = False,
    compat: bool = False,
    until: str | None = None,
) -> PatchedTree:
    """The patched tree of a line; says which hunks moved and what was edited by hand."""
    with ui.stage("patch") as stage:
        tree = patch.apply(
            PatchRequest(line=line, source=source, force=force, compat=compat, until=until),
            layout=layout,
            stage=stage,
        )
        edits = f", {len(tree.edits)} file(s) edited by hand" if tree.edits else ""
        offsets = f", {len(tree.offsets)} hunk(s) at an offset" if tree.offsets else ""
        stage.note(f"{tree.release}, {len(tree.patched)} files{offsets}{edits}")
    return tree


def build_policy(kernel: KernelBuild, chosen: Policy, *, layout: Layout) -> Path:
    """The module of a policy that is a file."""
    with exclusive(layout), ui.stage("policy") as stage:
        module = policy.build_policy(kernel, chosen, layout=layout, stage=stage)
        stage.note(f"{chosen.name}: {module.name} for {kernel.release}")
    return module


def build_programs(kernel: KernelBuild, *, ndk: Path | None = None, layout: Layout) -> Programs:
    """userspace/ and guest/, for this kernel's board and headers."""
    with ui.stage("programs") as stage:
        compiled = programs.build(ProgramsRequest.of(kernel, ndk=ndk), layout=layout, stage=stage)
        stage.note(f"{len(compiled.files)} programs")
    return compiled


def make_rootfs(
    request: PrepareRequest, kernel: KernelBuild, compiled: Programs, *, layout: Layout
) -> Initramfs:
    """The initramfs: busybox, adbd, our init and programs."""
    busybox = fetch_busybox(request.target.board, request.busybox, layout=layout)
    adbd = fetch_adbd(request.target.board, request.adbd, layout=layout)
    with ui.stage("rootfs") as stage:
        initramfs = rootfs.make(
            RootfsRequest(
                busybox=busybox,
                adbd=adbd.files,
                programs=compiled.guest,
                guest_dir=layout.root / "guest",
                out=compiled.directory.parent / "initramfs.cpio",
            )
        )
        stage.note(f"{initramfs.path.stat().st_size / 1e6:.1f} MB")
    return initramfs


# What this run uses until it ends: the kernels and programs in build/, that is.
_in_use: dict[Path, IO[str]] = {}

# The locks in build/; nothing removes them (process.lock()).
WORK_LOCK, USE_LOCK = ".lock", ".use"


@contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """One run at a time changes what is in build/; a second one waits and says so."""
    use = layout.build / USE_LOCK
    if use not in _in_use:
        if layout.is_elsewhere:
            ui.say(f"what is built is in {layout.build}: make cannot work in {layout.root}")
        cleaning = "build/ is being removed: waiting for that to finish"
        _in_use[use] = process.lock(use, shared=True, on_wait=lambda: ui.say(cleaning))
    waiting = "another run works in this checkout: waiting for it to finish"
    with process.exclusive(layout.build / WORK_LOCK, on_wait=lambda: ui.say(waiting)):
        yield


@contextmanager
def unused(layout: Layout) -> Iterator[None]:
    """Nobody uses build/: who does is waited for, who wants to waits."""
    use = layout.build / USE_LOCK
    if use in _in_use:
        _in_use.pop(use).close()
    waiting = "another run uses build/: waiting for it to finish"
    with process.exclusive(use, on_wait=lambda: ui.say(waiting)):
        yield
