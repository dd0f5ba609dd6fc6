# SPDX-License-Identifier: GPL-2.0-only
"""Cross-compiles what runs in the guest: the programs of userspace/ and guest/adbd.

Static binaries, so that they run on our initramfs and on any Android alike; the
system call numbers come from the patched kernel's exported headers.  A program
is rebuilt when its sources, the shared ones, the headers, the compiler or the
flags changed.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from harness import process, stamp
from harness.build import KernelBuild
from harness.errors import HarnessError
from harness.kernels import Board
from harness.layout import Layout
from harness.ui import Stage

FLAGS = ("-static", "-O2", "-Wall", "-Wextra", "-Werror")
USERSPACE_FLAGS = (*FLAGS, "-std=gnu11")


@dataclass(frozen=True, kw_only=True)
class ProgramsRequest:
    """The compiler's board, and the kernel headers to compile against."""

    board: Board
    headers: Path
    headers_identity: str
    out: Path

    @classmethod
    def of(cls, kernel: KernelBuild) -> ProgramsRequest:
        """The programs for a kernel that was built; the same for all policies of a flavour."""
        return cls(
            board=kernel.target.board,
            headers=kernel.headers,
            headers_identity=kernel.headers_identity,
            out=kernel.headers.parent.parent / "programs",
        )


@dataclass(frozen=True, kw_only=True)
class Programs:
    """``files`` are the programs to push, by name; ``adbd`` goes into the initramfs."""

    directory: Path
    files: dict[str, Path]
    adbd: Path
    identity: str


@dataclass(frozen=True, kw_only=True)
class _Program:
    """One binary: its own sources, and all files its content depends on."""

    name: str
    sources: tuple[Path, ...]
    depends: tuple[Path, ...]
    flags: tuple[str, ...]


def build(request: ProgramsRequest, *, layout: Layout, stage: Stage) -> Programs:
    """Compile what changed; HarnessError shows the compiler's first error."""
    process.require(request.board.user_compiler)
    version = process.run([request.board.user_compiler, "--version"], what="asking the compiler")
    compiler = version.output[0]
    adbd = _adbd(layout.root)
    identities = {}
    programs = _userspace(layout.root, request)
    for program in (*programs, adbd):
        stage.update(program.name)
        identities[program.name] = _compile(program, request, compiler=compiler, root=layout.root)
    return Programs(
        directory=request.out,
        files={program.name: request.out / program.name for program in programs},
        adbd=request.out / adbd.name,
        identity=stamp.digest(*(f"{name} {value}" for name, value in sorted(identities.items()))),
    )


def _userspace(root: Path, request: ProgramsRequest) -> list[_Program]:
    """Each folder of userspace/ that has a jni/ is a program of that name."""
    userspace = root / "userspace"
    common = sorted((userspace / "common").glob("*.c"))
    shared = [
        *stamp.files_below(userspace / "include"),
        *stamp.files_below(userspace / "common"),
    ]
    flags = (*USERSPACE_FLAGS, "-isystem", str(request.headers), f"-I{userspace / 'include'}")
    return [
        _Program(
            name=jni.parent.name,
            sources=(*sorted(jni.glob("*.c")), *common),
            depends=(*stamp.files_below(jni), *shared),
            flags=flags,
        )
        for jni in sorted(userspace.glob("*/jni"))
    ]


def _adbd(root: Path) -> _Program:
    folder = root / "guest" / "adbd"
    return _Program(
        name="adbd",
        sources=tuple(sorted(folder.glob("*.c"))),
        depends=tuple(stamp.files_below(folder)),
        flags=FLAGS,
    )


def _compile(program: _Program, request: ProgramsRequest, *, compiler: str, root: Path) -> str:
    """Compile one program unless its stamp says it is done; returns its identity."""
    identity = stamp.digest(
        compiler,
        request.headers_identity if program.name != "adbd" else "",
        *(flag.replace(str(root), "") for flag in program.flags if flag != str(request.headers)),
        stamp.hash_files(root, program.depends),
    )
    binary = request.out / program.name
    record = stamp.Stamp(request.out / f".{program.name}.json")
    if record.matches(identity, [binary]):
        return identity
    if not program.sources:
        raise HarnessError(f"{program.name} has no C source")
    record.clear()
    request.out.mkdir(parents=True, exist_ok=True)
    sources = [str(path) for path in program.sources]
    command = [request.board.user_compiler, *program.flags, "-o", str(binary), *sources, "-pthread"]
    result = process.run(command, what=f"compiling {program.name}", check=False)
    if result.returncode != 0:
        raise HarnessError(
            f"{program.name} does not compile",
            details=result.output[:20],
            hint=f"to run it again: {shlex.join(command)}",
        )
    record.write(identity=identity)
    return identity
