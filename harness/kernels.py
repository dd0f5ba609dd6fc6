# SPDX-License-Identifier: GPL-2.0-only
"""The kernel lines, boards and policies there are, as configs/kernels.toml says.

Everything that differs between kernels is data in that file, so that a new line
needs no new Python.  This module turns it into checked, typed values once, and
answers a wrong name with the names that exist.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.layout import Layout

DEBUG_CONFIG = "configs/debug.config"
DEFAULT_BENCH = "bench/plan.toml"

# QEMU with our initramfs; the Android emulator.
DEVICES = ("qemu", "avd")


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """Where a line's source comes from: a Debian package, a tarball, a git repository.

    What is absent is None.  ``git`` is an address with ``#branch`` at its end;
    ``commit`` is what that branch is expected to be at.
    """

    debian_package: str | None = None
    tarball_in_package: str | None = None
    url: str | None = None
    sha256: str | None = None
    git: str | None = None
    commit: str | None = None


@dataclass(frozen=True, kw_only=True)
class CompatPatches:
    """Patches that only compilers since a major version of gcc need."""

    patches: Path
    since_gcc: int


@dataclass(frozen=True, kw_only=True)
class MakeGoals:
    """What the line's kbuild calls a goal that has had other names before."""

    configure: str = "olddefconfig"
    headers: str = "headers"


@dataclass(frozen=True, kw_only=True)
class DebugSettings:
    """What a debug kernel needs.

    ``config`` is merged into the board's defconfig; CPUs, MB of memory (0: as
    ever), arguments for make.
    """

    config: Path
    cpus: int
    memory: int
    make: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EmulatorSettings:
    """What the Android emulator needs for a board of its own.

    ``system_image`` is a package of configs/android-sdk.toml; memory in MB.
    """

    system_image: str
    memory: int


@dataclass(frozen=True, kw_only=True)
class Board:
    """One machine a line can be built for and booted on.

    ``defconfig`` is ours; it is merged into the tree's own ``base_defconfig``, a name
    below the tree, if there is one.  A board without ``qemu`` is one of the Android
    ``emulator``, or can only be built for.
    ``cross_compile`` builds the kernel and its modules, ``user_compile`` what runs
    in the guest.
    """

    name: str
    arch: str
    defconfig: Path
    base_defconfig: str | None
    cross_compile: str
    user_compile: str
    kernel_target: str
    kernel_image: str
    userland: str
    qemu: str | None
    qemu_args: tuple[str, ...]
    net_args: tuple[str, ...]
    tcg_thread: str
    cpus: int
    console: str
    append: str
    emulator: EmulatorSettings | None
    debug: DebugSettings

    @property
    def device(self) -> str:
        """What runs it, as --device names it."""
        return "avd" if self.emulator is not None and self.qemu is None else "qemu"

    @property
    def compiler(self) -> str:
        """The kernel's C compiler, for example ``arm-linux-gnueabihf-gcc``."""
        return f"{self.cross_compile}gcc"

    @property
    def user_compiler(self) -> str:
        """The C compiler of the guest's programs."""
        return f"{self.user_compile}gcc"


@dataclass(frozen=True, kw_only=True)
class KernelLine:
    """A kernel the series exists for."""

    name: str
    description: str
    patches: Path
    compat: CompatPatches | None
    goals: MakeGoals
    source: SourceSpec
    bench: Path
    default_board: str
    boards: Mapping[str, Board]
    policy_symbols: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A kernel that differs from the line's own, to be compared with it.

    The series is applied up to the patch whose name has ``until`` in it (None: all;
    empty: none, which leaves the kernel as it came, with neither policies nor what
    our modules need); ``configs`` are merged into the board's defconfig, later ones
    winning.
    """

    name: str
    until: str | None = None
    configs: tuple[Path, ...] = ()

    @property
    def patched(self) -> bool:
        """Does it have any patch?"""
        return self.until != ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is built: a line, for a board, with a policy."""

    line: KernelLine
    board: Board
    policy: str
    debug: bool = False
    variant: Variant | None = None

    @property
    def flavour(self) -> str:
        """Name of the build folder of this board, variant and debug setting."""
        parts = [self.board.name]
        if self.variant is not None:
            parts.append(self.variant.name)
        if self.debug:
            parts.append("debug")
        return "-".join(parts)

    @property
    def patched(self) -> bool:
        """Does the kernel have the policies, and what our modules need?"""
        return self.variant is None or self.variant.patched

    @property
    def name(self) -> str:
        """For people: ``linux-6.1/arm-virt/rss``."""
        return f"{self.line.name}/{self.flavour}/{self.policy}"


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """All lines, the default one, and the policies every line knows."""

    lines: Mapping[str, KernelLine]
    default_line: str
    policies: tuple[str, ...]

    def line(self, name: str | None = None) -> KernelLine:
        """The line called ``name``, or the default one."""
        name = name or self.default_line
        if name not in self.lines:
            raise _unknown("kernel", name, self.lines, option="--kernel")
        return self.lines[name]

    def target(
        self,
        *,
        line: str | None = None,
        board: str | None = None,
        arch: str | None = None,
        device: str | None = None,
        policy: str | None = None,
        debug: bool = False,
    ) -> Target:
        """The target these names mean; what is None takes its default."""
        kernel = self.line(line)
        policy = policy or self.policies[0]
        if policy not in self.policies:
            raise _unknown("policy", policy, self.policies, option="--policy")
        return Target(
            line=kernel,
            board=_select_board(kernel, board=board, arch=arch, device=device),
            policy=policy,
            debug=debug,
        )


def load_kernels(layout: Layout) -> Kernels:
    """Read configs/kernels.toml; raises HarnessError on a missing or wrong entry."""
    path = layout.root / "configs" / "kernels.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise HarnessError(f"{path} is not valid TOML: {error}") from error
    try:
        return _kernels(data, root=layout.root)
    except TypeError as error:
        raise HarnessError(
            f"{path}: {error}", hint="compare with the other lines of the file"
        ) from error
    except KeyError as error:
        raise HarnessError(
            f"{path}: the key {error} is missing", hint="compare with the other lines of the file"
        ) from error


def _kernels(data: Mapping[str, Any], *, root: Path) -> Kernels:
    lines = {name: _line(name, table, root=root) for name, table in data["line"].items()}
    kernels = Kernels(
        lines=lines, default_line=data["default-line"], policies=tuple(data["policies"])
    )
    kernels.line()
    for line in lines.values():
        _select_board(line, board=None, arch=None)
        missing = [name for name in kernels.policies if name not in line.policy_symbols]
        if missing:
            raise KeyError(f"line.{line.name}.policy-symbols.{missing[0]}")
    return kernels


def _line(name: str, table: Mapping[str, Any], *, root: Path) -> KernelLine:
    source = table["source"]
    return KernelLine(
        name=name,
        description=table["description"],
        patches=root / table["patches"],
        compat=_compat(table.get("compat"), root=root),
        goals=MakeGoals(**table.get("goals", {})),
        source=SourceSpec(**{key.replace("-", "_"): value for key, value in source.items()}),
        bench=root / table.get("bench", DEFAULT_BENCH),
        default_board=table["default-board"],
        boards={key: _board(key, value, root=root) for key, value in table["board"].items()},
        policy_symbols=dict(table["policy-symbols"]),
    )


def _compat(table: Mapping[str, Any] | None, *, root: Path) -> CompatPatches | None:
    if table is None:
        return None
    return CompatPatches(patches=root / table["patches"], since_gcc=table["since-gcc"])


def _board(name: str, table: Mapping[str, Any], *, root: Path) -> Board:
    debug = table.get("debug", {})
    return Board(
        name=name,
        arch=table["arch"],
        defconfig=root / table["defconfig"],
        base_defconfig=table.get("base-defconfig"),
        cross_compile=table["cross-compile"],
        user_compile=table["cross-compile"],
        kernel_target=table["kernel-target"],
        kernel_image=table["kernel-image"],
        userland=table["userland"],
        qemu=table.get("qemu"),
        qemu_args=tuple(table.get("qemu-args", ())),
        net_args=tuple(table.get("net-args", ())),
        tcg_thread=table.get("tcg-thread", "multi"),
        cpus=table["cpus"],
        console=table["console"],
        append=table["append"],
        emulator=_emulator(table.get("emulator")),
        debug=DebugSettings(
            config=root / debug.get("config", DEBUG_CONFIG),
            cpus=debug.get("cpus", table["cpus"]),
            memory=debug.get("memory-mb", 0),
            make=tuple(debug.get("make", ())),
        ),
    )


def _emulator(table: Mapping[str, Any] | None) -> EmulatorSettings | None:
    if table is None:
        return None
    return EmulatorSettings(system_image=table["system-image"], memory=table["memory-mb"])


def _select_board(
    line: KernelLine, *, board: str | None, arch: str | None, device: str | None = None
) -> Board:
    """The named board; else the default one, if it fits; else the first that does."""
    if device is not None and device not in DEVICES:
        raise _unknown("device", device, DEVICES, option="--device")
    if board is not None:
        return _named_board(line, board, arch=arch, device=device)
    if line.default_board not in line.boards:
        raise _unknown("board", line.default_board, line.boards, option="--board", of=line.name)
    candidates = [line.boards[line.default_board], *line.boards.values()]
    of_arch = [one for one in candidates if arch in (None, one.arch)]
    if not of_arch:
        arches = {candidate.arch for candidate in candidates}
        raise _unknown("arch", str(arch), arches, option="--arch", of=line.name)
    for candidate in of_arch:
        if device in (None, candidate.device):
            return candidate
    raise HarnessError(
        f"{line.name} has no board for --device={device}",
        hint=f"its boards are: {', '.join(line.boards)}",
    )


def _named_board(line: KernelLine, name: str, *, arch: str | None, device: str | None) -> Board:
    if name not in line.boards:
        raise _unknown("board", name, line.boards, option="--board", of=line.name)
    chosen = line.boards[name]
    if arch is not None and chosen.arch != arch:
        raise HarnessError(
            f"board {name} is of arch {chosen.arch}, not {arch}",
            hint="leave out --arch or --board",
        )
    if device is not None and chosen.device != device:
        raise HarnessError(
            f"board {name} is run by --device={chosen.device}, not {device}",
            hint="leave out --device or --board",
        )
    return chosen


def _unknown(
    kind: str, name: str, valid: Iterable[str], *, option: str, of: str = ""
) -> HarnessError:
    where = f" of {of}" if of else ""
    return HarnessError(
        f"unknown {kind}{where}: {name!r}", hint=f"{option} takes one of: {', '.join(valid)}"
    )
