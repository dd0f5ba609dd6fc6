# SPDX-License-Identifier: GPL-2.0-only
"""Stage 4: the kernel, its modules and its exported headers, kept per policy.

All policies of a flavour share one object folder, so that a policy switch
recompiles one file; what comes out is copied to a folder per policy, so that a
switch back costs nothing.  When nothing changed since then no make is started:
its no-op takes five seconds, comparing identities takes a fraction of one.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import process, stamp
from harness.build import compiler, configure
from harness.build.configure import ConfiguredTree, ConfigureRequest
from harness.errors import HarnessError
from harness.kernels import Target
from harness.layout import Layout
from harness.source.patch import PatchedTree
from harness.ui import Stage

# Fixed, so that the same source gives the same kernel, and ccache the same objects.
REPRODUCIBLE = (
    "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER=mm-limits",
    "KBUILD_BUILD_HOST=harness",
    "KBUILD_BUILD_VERSION=1",
    "LOCALVERSION=",
)
MODULES_FOLDER = "modules"

# What follows the name of the object folder where programs need headers of their own.
USER_HEADERS = "-user"
GDB_SCRIPTS = "CONFIG_GDB_SCRIPTS"
ERROR_CONTEXT_BEFORE = 3
ERROR_CONTEXT_AFTER = 12
# Most telling first: what the compiler, the linker or modpost says, then make itself.
ERROR_PATTERNS = (
    re.compile(r":\d+(:\d+)?: (fatal )?error: |^ERROR: modpost|: undefined reference to "),
    re.compile(r"\b(ld|as|objcopy): |^/bin/sh: |No such file or directory|: error: "),
    re.compile(r"^make(\[\d+\])?: \*\*\* "),
)


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """The patched tree and what to build from it."""

    tree: PatchedTree
    target: Target


@dataclass(frozen=True, kw_only=True)
class KernelBuild:
    """A built kernel.

    ``headers`` is what its ``make headers`` exported (usr/include), the same
    folder for all policies; ``warnings`` are the compiler's, about files of the
    series, of the modules or edited by hand, in the make that was just run.
    ``make`` is the command but for the goals, ``reproduce`` all of it, to be typed.
    ``scripts`` are those of the kernel for gdb, if its config has them.
    """

    target: Target
    image: Path
    modules: tuple[Path, ...]
    headers: Path
    headers_identity: str
    release: str
    identity: str
    make: tuple[str, ...]
    reproduce: str
    scripts: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def table_length(self) -> int:
        """How many limits it has room for, MY_MM_LENGTH; 0 for a kernel without the series."""
        config = (self.image.parent / ".config").read_text(encoding="utf-8")
        return int(configure.parse_config(config).get("CONFIG_MY_MM_LENGTH", 0))


def build(request: BuildRequest, *, layout: Layout, stage: Stage) -> KernelBuild:
    """Build what is not built yet; HarnessError shows the compile error and the command."""
    target, tree = request.target, request.tree
    compiler.require(target.board)
    process.require("make")
    wanted = _identity(request, layout=layout)
    record = stamp.Stamp(tree.work / target.flavour / target.policy / "build.json")
    kernel = _result(request, record)
    if kernel is not None and kernel.identity == wanted:
        return kernel
    make = make_command(request, layout=layout)
    ccache = ccache_environment(layout)
    configured = configure.configure(
        ConfigureRequest(tree=tree, target=target),
        make=make,
        env=ccache,
        stage=stage,
    )
    _touch_reverted(configured)
    record.clear()
    log = tree.work / target.flavour / "build.log"
    goals = [target.board.kernel_target, "modules", target.line.goals.headers]
    config = configure.parse_config((configured.objdir / ".config").read_text(encoding="utf-8"))
    if config.get(GDB_SCRIPTS) == "y":
        goals.append("scripts_gdb")
    output = _make([*make, *goals], log=log, env=ccache, stage=stage)
    modules = tree.work / target.flavour / "modules"
    if target.patched:
        output += _make_modules(modules, make, layout=layout, log=log, env=ccache, stage=stage)
    if target.board.user_arch != target.board.arch:
        other = [*_for_user_arch(make, target.board.user_arch), target.line.goals.headers]
        _make(other, log=log.with_name("headers.log"), env=ccache, stage=stage)
    _keep(configured, modules, record, wanted, make=make, goals=goals)
    kernel = _result(request, record, warnings=_warnings(output, tree))
    if kernel is None:
        raise HarnessError(f"make made no {target.board.kernel_image}", hint=f"see {log}")
    return kernel


def _for_user_arch(make: Sequence[str], arch: str) -> list[str]:
    """The same make for another architecture, beside what is built for the first."""
    changed = [re.sub(r"^ARCH=.*", f"ARCH={arch}", word) for word in make]
    return [re.sub(r"^(O=.*)", rf"\1{USER_HEADERS}", word) for word in changed]


def _make_modules(
    folder: Path,
    make: Sequence[str],
    *,
    layout: Layout,
    log: Path,
    env: Mapping[str, str],
    stage: Stage,
) -> tuple[str, ...]:
    """Build our modules in a copy of their sources; returns make's output."""
    _copy_modules(layout.root / MODULES_FOLDER, folder)
    if not any(folder.iterdir()):
        return ()
    command = [*make, f"M={folder.resolve()}", "modules"]
    return _make(command, log=log.with_name("modules.log"), env=env, stage=stage)


def make_command(request: BuildRequest, *, layout: Layout) -> list[str]:
    """make with everything but the goal; typed by hand it does the same."""
    board = request.target.board
    cached = "ccache " if shutil.which("ccache") else ""
    objdir = configure.object_folder(request.tree, request.target)
    return [
        *("make", "-C", os.path.relpath(request.tree.path, Path.cwd()), f"O={objdir.name}"),
        *(f"-j{len(os.sched_getaffinity(0))}", "--output-sync=target", "--no-print-directory"),
        *(f"ARCH={board.arch}", f"CROSS_COMPILE={board.cross_compile}"),
        *(f"CC={cached}{board.compiler}", f"HOSTCC={cached}gcc"),
        *REPRODUCIBLE,
        *(board.debug.make if request.target.debug else ()),
    ]


def failure_lines(output: Sequence[str]) -> list[str]:
    """The first error in make's output with the lines around it, not the last of 2,000."""
    for pattern in ERROR_PATTERNS:
        for number, line in enumerate(output):
            if pattern.search(line):
                return _error_context(output, number)
    return list(output[-ERROR_CONTEXT_AFTER:])


def _error_context(output: Sequence[str], number: int) -> list[str]:
    """The error, what led to it (``In file included``, ``In function``), its source lines."""
    start = number
    while start > 0 and number - start < ERROR_CONTEXT_BEFORE:
        if not re.match(
            r"In file included|\s+from |.*: In function|.*: At top level", output[start - 1]
        ):
            break
        start -= 1
    end = number + 1
    while end < len(output) and end - number < ERROR_CONTEXT_AFTER:
        if re.match(r"  [A-Z]+ {2,}|make", output[end]):
            break
        end += 1
    return list(output[start:end])


def _identity(request: BuildRequest, *, layout: Layout) -> str:
    """Everything the result depends on, by content."""
    sources = layout.root / MODULES_FOLDER
    board = request.target.board
    version = process.run([board.compiler, "--version"], what=f"asking {board.compiler}")
    return stamp.digest(
        configure.identity(ConfigureRequest(tree=request.tree, target=request.target)),
        board.kernel_target,
        *(board.debug.make if request.target.debug else ()),
        version.output[0],
        *(["user " + board.user_arch] if board.user_arch != board.arch else []),
        *REPRODUCIBLE,
        stamp.hash_files(sources, stamp.files_below(sources)),
    )


def _result(
    request: BuildRequest, record: stamp.Stamp, *, warnings: tuple[str, ...] = ()
) -> KernelBuild | None:
    """What the artefact folder holds, or None when it is not whole."""
    known, folder = record.read(), record.path.parent
    headers = folder.parent / "headers"
    if "make" not in known:
        return None
    kernel = KernelBuild(
        target=request.target,
        image=folder / Path(request.target.board.kernel_image).name,
        modules=tuple(folder / name for name in known["modules"]),
        headers=headers / "include",
        headers_identity=stamp.Stamp(headers / "headers.json").read().get("identity", ""),
        release=known["release"],
        identity=known["identity"],
        make=tuple(known["make"]),
        reproduce=known["reproduce"],
        scripts=Path(known["scripts"]) if known.get("scripts") else None,
        warnings=warnings,
    )
    parts = (kernel.image, kernel.headers, *kernel.modules)
    return kernel if all(part.exists() for part in parts) else None


def ccache_environment(layout: Layout) -> dict[str, str]:
    """Our own ccache, whose keys do not depend on where the checkout is."""
    return {"CCACHE_DIR": str(layout.cache / "ccache"), "CCACHE_NOHASHDIR": "1"}


def _make(
    command: Sequence[str], *, log: Path, env: Mapping[str, str], stage: Stage
) -> tuple[str, ...]:
    """Run make with live progress; on failure show the error itself."""
    counted = 0

    def show(line: str) -> None:
        nonlocal counted
        if match := re.match(r"  (?:HOST)?(?:CC|AS|LD|AR|LINK)\b.* (\S+)$", line):
            counted += 1
            stage.update(f"{counted} steps, {match.group(1)}")

    result = process.run(command, what="make", log=log, env=env, on_line=show, check=False)
    if result.returncode == 0:
        return result.output
    if any(process.NO_SPACE in line for line in result.output):
        raise process.disk_full("make")
    raise HarnessError(
        "the kernel does not build",
        details=failure_lines(result.output),
        hint=f"the whole output is in {log}; to run it again: {shlex.join(command)}",
    )


def _touch_reverted(configured: ConfiguredTree) -> None:
    """Make make notice each file whose content differs from what it last compiled.

    make compares times, and putting an old copy of a file back (``cp -p``, ``mv``)
    gives it a time before its object's.
    """
    record = stamp.Stamp(configured.objdir / ".harness-edits.json")
    before: dict[str, str] = record.read()
    last_make = record.path.stat().st_mtime if before else 0.0
    now = dict(configured.tree.edits)
    for name in before.keys() | now.keys():
        path = configured.tree.path / name
        changed = before.get(name) != now.get(name) and path.exists()
        if changed and path.stat().st_mtime <= last_make:
            path.touch()
    record.write(**now)


def _copy_modules(sources: Path, dest: Path) -> None:
    """Copy the external modules' sources below build/, so that none is built in the checkout.

    One make builds them all: the Kbuild file written here names their folders.
    """
    names = sorted(path.parent.name for path in sources.glob("*/Kbuild"))
    for path in stamp.files_below(sources):
        _copy_if_different(path, dest / path.relative_to(sources))
    dest.mkdir(parents=True, exist_ok=True)
    for folder in dest.iterdir():
        if folder.is_dir() and folder.name not in names:
            shutil.rmtree(folder)
    kbuild = "".join(f"obj-m += {name}/\n" for name in names).encode()
    if names and (not (dest / "Kbuild").exists() or (dest / "Kbuild").read_bytes() != kbuild):
        stamp.write_atomic(dest / "Kbuild", kbuild)


def _copy_if_different(source: Path, dest: Path) -> None:
    content = source.read_bytes()
    if not dest.exists() or dest.read_bytes() != content:
        stamp.write_atomic(dest, content)


def _keep(
    configured: ConfiguredTree,
    modules: Path,
    record: stamp.Stamp,
    identity: str,
    *,
    make: Sequence[str],
    goals: Sequence[str],
) -> None:
    """Copy what was made to the policy's folder; the record, written last, makes it count."""
    objdir, dest = configured.objdir, configured.artefacts
    dest.mkdir(parents=True, exist_ok=True)
    for old in dest.glob("*.ko"):
        old.unlink()
    objects = sorted(modules.rglob("*.ko"))
    names = [configured.target.board.kernel_image, "System.map", ".config", "vmlinux"]
    for path in (*(objdir / name for name in names), *objects):
        if path.exists():
            shutil.copy2(path, dest / path.name)
    board = configured.target.board
    of_programs = "" if board.user_arch == board.arch else USER_HEADERS
    exported = objdir.with_name(objdir.name + of_programs) / "usr" / "include"
    _keep_headers(exported, dest.parent / "headers")
    record.write(
        identity=identity,
        release=(objdir / "include" / "config" / "kernel.release").read_text().strip(),
        modules=[path.name for path in objects],
        make=list(make),
        reproduce=shlex.join([*make, *goals]),
        scripts=str(objdir.absolute() / "vmlinux-gdb.py") if "scripts_gdb" in goals else "",
    )


def _keep_headers(exported: Path, dest: Path) -> None:
    """Copy the exported headers if they changed: programs are rebuilt when they do."""
    record = stamp.Stamp(dest / "headers.json")
    identity = stamp.hash_files(exported, stamp.files_below(exported))
    if record.matches(identity, [dest / "include"]):
        return
    shutil.rmtree(dest, ignore_errors=True)
    shutil.copytree(exported, dest / "include")
    record.write(identity=identity)


def _warnings(output: Sequence[str], tree: PatchedTree) -> tuple[str, ...]:
    """The compiler's warnings about our files: the series', the modules', the edited ones."""
    ours = {*tree.patched, *tree.edits}
    source = f"{tree.path.resolve()}/"  # older kbuilds name files in full
    found = []
    for number, line in enumerate(output):
        if re.match(r"\S+?:\d+(?::\d+)?: warning: ", line):
            name = blamed_file(output[number:]).removeprefix("../").removeprefix(source)
            if name in ours or str(tree.work) in name:
                found.append(line)
    return tuple(found)


def blamed_file(output: Sequence[str]) -> str:
    """The file that a warning, the first line, is about.

    That of a macro which others use wrongly is not to blame: gcc names where it is
    expanded in the notes that follow, the outermost last.
    """
    name = output[0].split(":", 1)[0]
    for line in output[1:]:
        note = re.match(r"(\S+?):\d+:\d+: note: in expansion of macro ", line)
        if note is not None:
            name = note.group(1)
        elif re.match(r"  [A-Z]+ |\S+?:\d+(?::\d+)?: \w+: ", line):
            break
    return name
