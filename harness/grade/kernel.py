# SPDX-License-Identifier: GPL-2.0-only
"""The kernel and modules of a submission, built in the sandbox."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import stamp
from harness.build import configure
from harness.build.build import REPRODUCIBLE, failure_lines
from harness.errors import HarnessError
from harness.grade.contract import ClaimedPolicy, Contract
from harness.grade.sandbox import Sandbox
from harness.kernels import Target
from harness.layout import Layout
from harness.ui import Stage

BUILD_SECONDS = 1200
SELECTED = b"/* selected by the grader */"
WARNING = re.compile(r"\S+?:\d+(:\d+)?: warning: ")


class BuildError(HarnessError):
    """The submission does not build: the student's first error, with file and line."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What can be booted, and the compiler's warnings."""

    image: Path
    modules: tuple[Path, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where a submission is built: its ``tree``, which is read, and ``out``, written."""

    target: Target
    tree: Path
    out: Path
    layout: Layout

    def make(self, *goals: str, what: str, log: Path) -> tuple[str, ...]:
        """Run make in the sandbox; BuildError if it fails, with its first error."""
        ccache = self.layout.cache / "ccache"
        ccache.mkdir(parents=True, exist_ok=True)
        sandbox = Sandbox(
            tree=self.tree,
            out=self.out,
            seconds=BUILD_SECONDS,
            readable=(ccache,),
            # What others have compiled is used; what strangers compile is not kept.
            env={
                "CCACHE_DIR": str(ccache),
                "CCACHE_READONLY": "1",
                "CCACHE_TEMPDIR": "/tmp",
                "CCACHE_NOHASHDIR": "1",
                "CCACHE_NOSTATS": "1",
            },
        )
        done = sandbox.run([*self._command(), *goals], what=what, log=log)
        if done.returncode == 0:
            return done.output
        if done.returncode in (124, 137):
            raise BuildError(f"{what} took more than {BUILD_SECONDS} s", hint=f"see {log}")
        # The student knows the kernel's files, not where they lie here.
        places = (f"{self.out}/submitted-modules/", f"{self.tree}/")
        lines = failure_lines([_without(line, places) for line in done.output])
        raise BuildError(f"{what}: {_headline(lines)}", details=lines, hint=f"see {log}")

    def _command(self) -> list[str]:
        board = self.target.board
        cached = "ccache " if shutil.which("ccache") else ""
        return [
            *("make", "-C", str(self.tree), f"O={self.out.name}"),
            *(f"-j{len(os.sched_getaffinity(0))}", "--output-sync=target", "--no-print-directory"),
            *(f"ARCH={board.arch}", f"CROSS_COMPILE={board.cross_compile}"),
            *(f"CC={cached}{board.compiler}", f"HOSTCC={cached}gcc"),
            *REPRODUCIBLE,
        ]


def build(
    place: Workplace,
    contract: Contract,
    policy: ClaimedPolicy,
    *,
    submission: Path,
    logs: Path,
    stage: Stage,
) -> Built:
    """Build the kernel with one policy selected, and the modules that the contract names."""
    target, out = place.target, place.out
    _define(place.tree, policy)
    wanted = configure.parse_config(target.board.defconfig.read_text(encoding="utf-8"))
    if target.board.base_defconfig is not None:
        base = (place.tree / target.board.base_defconfig).read_text(encoding="utf-8")
        wanted = {**configure.parse_config(base), **wanted}
    _configure(out, {**wanted, **policy.config})
    stage.update("configuring")
    place.make(target.line.goals.configure, what="configuring the kernel", log=logs / "config.log")
    stage.update("compiling the kernel")
    output = place.make(
        target.board.kernel_target, "modules", what="compiling the kernel", log=logs / "build.log"
    )
    image = own_file(out / target.board.kernel_image, out)
    modules: tuple[Path, ...] = ()
    if contract.modules is not None:
        stage.update("compiling its modules")
        more, modules = _modules(place, contract, submission, logs=logs)
        output += more
    warnings = tuple(line for line in output if WARNING.match(line))
    return Built(image=image, modules=modules, warnings=warnings)


def _configure(out: Path, config: Mapping[str, str]) -> None:
    """Write .config if it differs: kbuild goes by its time."""
    record = stamp.Stamp(out.parent.parent / "config.json")  # where no build can write
    text = configure.format_config(config)
    if not record.matches(stamp.digest(text), [out / ".config"]):
        stamp.write_atomic(out / ".config", text.encode())
        record.write(identity=stamp.digest(text))


def _define(tree: Path, policy: ClaimedPolicy) -> None:
    """Put the policy's #define at the top of its file, and no other policy's."""
    path = own_file(tree / policy.defined_in, tree)
    text = path.read_bytes()
    first, _, others = text.partition(b"\n")
    rest = others if first.endswith(SELECTED) else text
    line = b"#define %s 1 %s\n" % (policy.define.encode(), SELECTED) if policy.define else b""
    if line + rest != text:
        path.unlink()  # a link to the base's
        path.write_bytes(line + rest)


def _modules(
    place: Workplace, contract: Contract, submission: Path, *, logs: Path
) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Build each folder that has a Makefile or Kbuild, in a copy; the files in load order."""
    assert contract.modules is not None
    source = (submission / contract.modules.folder).resolve()
    if not source.is_relative_to(submission.resolve()) or not source.is_dir():
        raise BuildError(
            f"the contract's folder of modules, {contract.modules.folder}, is not in the submission"
        )
    folder = place.out / "submitted-modules"
    remove(folder)
    shutil.copytree(source, folder, symlinks=True)
    output: tuple[str, ...] = ()
    for made in _module_folders(folder):
        goal = (f"M={made}", "modules")
        output += place.make(*goal, what=f"compiling {made.name}", log=logs / f"{made.name}.log")
    found = {path.name: path for path in folder.rglob("*.ko")}
    lacking = [name for name in contract.modules.load if name not in found]
    if lacking:
        there = ", ".join(sorted(found)) or "none"
        raise BuildError(f"the modules have no {lacking[0]}: {there}")
    return output, tuple(own_file(found[name], place.out) for name in contract.modules.load)


def _module_folders(folder: Path) -> list[Path]:
    makers = {path.parent for name in ("Kbuild", "Makefile") for path in folder.rglob(name)}
    return sorted(makers)


def _without(line: str, places: Sequence[str]) -> str:
    """A line of make's with the names of the kernel's files as its tree has them."""
    for place in places:
        line = line.replace(place, "")
    return line.removeprefix("../")


def _headline(lines: Sequence[str]) -> str:
    error = re.compile(r"error|Error|undefined|\*\*\*")
    return next((line.strip() for line in lines if error.search(line)), "make failed")


def own_file(path: Path, root: Path) -> Path:
    """The path, if it is a regular file below ``root``; BuildError if it is none.

    What strangers have made may be a link to anything, or no file at all.
    """
    real = path.resolve()
    if not real.is_file() or not real.is_relative_to(root.resolve()):
        there = "is not a file of its own" if path.is_symlink() or path.exists() else "is not there"
        raise BuildError(f"{path.relative_to(root)} {there}")
    return real


def remove(path: Path) -> None:
    """Remove what strangers have made, be it a folder, a file or a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def copy_file(path: Path, dest: Path) -> Path:
    """Keep a result of a build that will be overwritten by the next."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, dest)
    return dest
