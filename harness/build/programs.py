# SPDX-License-Identifier: GPL-2.0-only
"""Compiles what runs in the guest: the programs of userspace/ and those of guest/.

By a plain cross compiler, or the programs by ndk-build.  Static binaries, so that
they run on our initramfs and on any Android alike; the system call numbers come from
the patched kernel's exported headers.  A program is rebuilt when its sources, the
shared ones, the headers, the compiler or the flags changed.
"""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness import process, stamp
from harness.build.build import KernelBuild
from harness.build.ndk import Ndk, abi_of
from harness.errors import HarnessError
from harness.kernels import Board
from harness.layout import Layout
from harness.ui import Stage

FLAGS = ("-static", "-O2", "-Wall", "-Wextra", "-Werror")
USERSPACE_FLAGS = (*FLAGS, "-std=gnu11")


@dataclass(frozen=True, kw_only=True)
class ProgramsRequest:
    """The compiler's board, and the kernel headers to compile against.

    With ``ndk``, the folder of an Android NDK, its ndk-build makes the programs.
    """

    board: Board
    headers: Path
    headers_identity: str
    out: Path
    ndk: Path | None = None

    @classmethod
    def of(cls, kernel: KernelBuild, *, ndk: Path | None = None) -> ProgramsRequest:
        """The programs for a kernel that was built; the same for all policies of a flavour."""
        return cls(
            board=kernel.target.board,
            headers=kernel.headers,
            headers_identity=kernel.headers_identity,
            out=kernel.headers.parent.parent / ("programs" if ndk is None else "programs-ndk"),
            ndk=ndk,
        )


@dataclass(frozen=True, kw_only=True)
class Programs:
    """``files`` are the programs to push, by name; the initramfs has those of ``guest``."""

    directory: Path
    files: dict[str, Path]
    guest: dict[str, Path]
    identity: str


@dataclass(frozen=True, kw_only=True)
class _Program:
    """One binary: its own sources, and all files its content depends on.

    ``jni`` is what ndk-build makes it from; None for those of guest/, which
    no Android needs.
    """

    name: str
    sources: tuple[Path, ...]
    depends: tuple[Path, ...]
    flags: tuple[str, ...]
    jni: Path | None = None


def build(request: ProgramsRequest, *, layout: Layout, stage: Stage) -> Programs:
    """Compile what changed; HarnessError shows the compiler's first error."""
    process.require(request.board.user_compiler)
    version = process.run([request.board.user_compiler, "--version"], what="asking the compiler")
    compiler = version.output[0]
    ndk = Ndk.at(request.ndk) if request.ndk is not None else None
    identities = {}
    programs, guest = _userspace(layout.root, request), _guest(layout.root)
    for program in (*programs, *guest):
        stage.update(program.name)
        if ndk is not None and program.jni is not None:
            how = _by_ndk(ndk, program, program.jni, request)
        else:
            how = _by_compiler(compiler, program, request)
        identities[program.name] = _compile(program, how, request, root=layout.root)
    return Programs(
        directory=request.out,
        files={program.name: request.out / program.name for program in programs},
        guest={program.name: request.out / program.name for program in guest},
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
            jni=jni,
        )
        for jni in sorted(userspace.glob("*/jni"))
    ]


def _guest(root: Path) -> list[_Program]:
    """Each folder of guest/ that has C sources is a program of that name."""
    return [
        _Program(
            name=folder.name,
            sources=tuple(sorted(folder.glob("*.c"))),
            depends=tuple(stamp.files_below(folder)),
            flags=FLAGS,
        )
        for folder in sorted({source.parent for source in (root / "guest").glob("*/*.c")})
    ]


@dataclass(frozen=True)
class _How:
    """What compiles a program: its version, the command, and where that leaves the binary."""

    version: str
    command: list[str]
    binary: Path


def _by_compiler(version: str, program: _Program, request: ProgramsRequest) -> _How:
    binary = request.out / program.name
    sources = [str(path) for path in program.sources]
    compiler = request.board.user_compiler
    command = [compiler, *program.flags, "-o", str(binary), *sources, "-pthread"]
    return _How(version, command, binary)


def _by_ndk(ndk: Ndk, program: _Program, jni: Path, request: ProgramsRequest) -> _How:
    out, abi = request.out / f"ndk-{program.name}", abi_of(request.board)
    return _How(
        ndk.identity,
        ndk.command(jni, abi=abi, headers=request.headers, out=out),
        ndk.binary(program.name, abi=abi, out=out),
    )


def _compile(program: _Program, how: _How, request: ProgramsRequest, *, root: Path) -> str:
    """Compile one program unless its stamp says it is done; returns its identity."""
    identity = stamp.digest(
        how.version,
        request.headers_identity if program.jni is not None else "",
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
    result = process.run(how.command, what=f"compiling {program.name}", check=False)
    if result.returncode != 0:
        raise HarnessError(
            f"{program.name} does not compile",
            details=result.output[:20],
            hint=f"to run it again: {shlex.join(how.command)}",
        )
    if how.binary != binary:
        shutil.copy2(how.binary, binary)
    record.write(identity=identity)
    return identity
