# SPDX-License-Identifier: GPL-2.0-only
"""The series: applied, checked, made of edits, as a git repository and back."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from harness import ui
from harness.build import compiler, pipeline
from harness.command import lint
from harness.command.selection import Selection
from harness.errors import HarnessError
from harness.kernels import KernelLine, load_kernels
from harness.layout import Layout
from harness.source import patch, series
from harness.source.fetch import Source
from harness.source.patch import Patch, PatchRequest
from harness.source.series import Edit


def apply_patches(selection: Selection, *, force: bool, layout: Layout) -> None:
    """Apply the series; edits made by hand stay, unless ``force`` drops them."""
    line, fetched = _fetched(selection, layout=layout)
    with pipeline.exclusive(layout):
        tree = pipeline.patch_source(
            line, fetched, layout=layout, force=force, compat=_needs_compat(line)
        )
        request = PatchRequest(line=line, source=fetched, compat=_needs_compat(line))
        if series.is_outdated(request, tree.path):
            ui.say(f"  git in {tree.path} has the commits of another series: ./run patch --track")
        for text in (*tree.offsets, *(f"edited by hand: {name}" for name in tree.edits)):
            ui.say(f"  {text}")
        ui.console.print(str(tree.path), soft_wrap=True)


def check(selection: Selection, *, layout: Layout) -> None:
    """Find out whether the series applies exactly."""
    line, fetched = _fetched(selection, layout=layout)
    with pipeline.exclusive(layout), ui.stage("check") as stage:
        request = PatchRequest(line=line, source=fetched, compat=True)
        patches = patch.check(request, layout=layout, stage=stage)
        stage.note(f"{len(patches)} patches apply to {fetched.version}: no fuzz, no offset")


def export(selection: Selection, out: Path, *, subject: str, layout: Layout) -> None:
    """Write the edits of the kernel tree as one patch."""
    line, fetched = _fetched(selection, layout=layout)
    request = PatchRequest(line=line, source=fetched, compat=_needs_compat(line))
    with pipeline.exclusive(layout), ui.stage("export") as stage:
        found = patch.edited(request, layout=layout, stage=stage)
        edits = [Edit(name, before, after) for name, (before, after) in found.items()]
        series.export_edits(edits, out, subject=subject)
        stage.note(f"{len(edits)} file(s)")
    ui.console.print(str(out), soft_wrap=True)


def track(selection: Selection, *, layout: Layout) -> None:
    """Make the tree that is built a git repository."""
    line, fetched = _fetched(selection, layout=layout)
    compat = _needs_compat(line)
    with pipeline.exclusive(layout):
        tree = pipeline.patch_source(line, fetched, layout=layout, compat=compat)
        request = PatchRequest(line=line, source=fetched, compat=compat)
        with ui.stage("git") as stage:
            series.track(request, tree.path, layout=layout, stage=stage)
            stage.note(f"git -C {tree.path} diff")
    ui.console.print(str(tree.path), soft_wrap=True)


def to_git(selection: Selection, folder: Path, *, layout: Layout) -> None:
    """A repository of the source and the series."""
    line, fetched = _fetched(selection, layout=layout)
    request = PatchRequest(line=line, source=fetched, compat=_needs_compat(line))
    with ui.stage("git") as stage:
        number = series.to_git(request, folder, layout=layout, stage=stage)
        stage.note(f"{number} commits after {series.BASE}")
    ui.console.print(str(folder), soft_wrap=True)
    option = "" if selection.kernel is None else f" --kernel={selection.kernel}"
    ui.say(f"next: commit there, then ./run patch{option} --from-git {folder}")


def from_git(selection: Selection, folder: Path, *, layout: Layout) -> None:
    """Write the commits of a repository back to patches/, if they are good.

    Refused is what checkpatch complains about, does not apply to the line's source, or
    does not build.
    """
    line, fetched = _fetched(selection, layout=layout)
    with tempfile.TemporaryDirectory(prefix="series-") as name:
        new = Path(name)
        patches = series.from_git(folder, new)
        _check_style(patches, layout=layout)
        changed = structs.replace(line, patches=new)
        with pipeline.exclusive(layout), ui.stage("check") as stage:
            request = PatchRequest(line=changed, source=fetched, compat=_needs_compat(line))
            patch.check(request, layout=layout, stage=stage)
            stage.note(f"{len(patches)} patches apply")
        request_of = selection.prepare_request(load_kernels(layout), None)
        target = replace(request_of.target, line=changed)
        pipeline.build_kernel(replace(request_of, target=target), layout=layout)
        series.replace_series(line.patches, new)
    ui.console.print(str(line.patches), soft_wrap=True)
    ui.say("each patch was not built alone: CONTRIBUTING.md says how")


def _check_style(patches: Sequence[Patch], *, layout: Layout) -> None:
    """HarnessError if checkpatch, the default line's, complains."""
    kernels = load_kernels(layout)
    fetched = pipeline.fetch_source(kernels.line(), None, layout=layout)
    with pipeline.exclusive(layout):
        tree = pipeline.patch_source(kernels.line(), fetched, layout=layout)
    if lint.run(layout, [lint.checkpatch(tree.path, [one.path for one in patches])]):
        raise HarnessError(
            "checkpatch complains: patches/ is as it was", hint="mend the commits (git rebase -i)"
        )


def _fetched(selection: Selection, *, layout: Layout) -> tuple[KernelLine, Source]:
    line = load_kernels(layout).line(selection.kernel)
    return line, pipeline.fetch_source(line, selection.source, layout=layout)


def _needs_compat(line: KernelLine) -> bool:
    return compiler.needs_compat(line, line.boards[line.default_board])
