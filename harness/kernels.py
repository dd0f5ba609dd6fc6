# SPDX-License-Identifier: GPL-2.0-only
"""The kernel lines, boards and policies there are, as configs/kernels.toml says.

Everything that differs between kernels is data in that file, so that a new line
needs no new Python.  The structs here are what the file may hold, key by key; a wrong
name is answered with the names that exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, field
from msgspec.structs import force_setattr

from harness import datafile
from harness.datafile import NO_KEY, Table
from harness.errors import HarnessError
from harness.layout import Layout

# QEMU with our initramfs; the Android emulator.
DEVICES = ("qemu", "avd")

Count = Annotated[int, Meta(ge=1)]


class SourceSpec(Table, frozen=True, kw_only=True):
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

    def __post_init__(self) -> None:
        """ValueError if it leads nowhere."""
        if not (self.debian_package or self.url or self.git):
            raise ValueError("needs debian-package, url or git")
        for key, needed in (("debian-package", "tarball-in-package"), ("url", "sha256")):
            given = (getattr(self, name.replace("-", "_")) for name in (key, needed))
            if len({one is None for one in given}) > 1:
                raise ValueError(f"{key} and {needed} go together")


class CompatPatches(Table, frozen=True, kw_only=True):
    """Patches that only compilers since a major version of gcc need."""

    patches: Path
    since_gcc: int


class MakeGoals(Table, frozen=True, kw_only=True):
    """What the line's kbuild calls a goal that has had other names before."""

    configure: str = "olddefconfig"
    headers: str = "headers"


class DebugSettings(Table, frozen=True, kw_only=True):
    """What a debug kernel needs on a board: CPUs, MB of memory, arguments for make.

    None is as for any other kernel.
    """

    cpus: Count | None = None
    memory: Count | None = field(default=None, name="memory-mb")
    make: tuple[str, ...] = ()


class EmulatorSettings(Table, frozen=True, kw_only=True):
    """What the Android emulator needs for a board of its own.

    ``system_image`` is a package of configs/android-sdk.toml; memory in MB; ``target`` and
    ``config`` are what an AVD's two .ini files say of the hardware.
    """

    system_image: str
    memory: Count = field(name="memory-mb")
    target: str
    config: Mapping[str, str]


class Board(Table, frozen=True, kw_only=True):
    """One machine a line can be built for and booted on.

    ``arch`` is the kernel's word for its architecture, ``machine`` that of ``uname -m``,
    ``userland`` Debian's and ``abi`` the NDK's, where there is one.
    ``defconfig`` is ours; it is merged into the tree's own ``base_defconfig``, a name
    below the tree, if there is one.  A board without ``qemu`` is one of the Android
    ``emulator``, or can only be built for.
    ``share_args`` are QEMU's arguments for a folder that is shared, where there is a device.
    ``cross_compile`` builds the kernel and its modules, ``user_compile`` what runs
    in the guest, for ``user_arch`` where that is not ``arch``.
    """

    name: str = field(default="", name=NO_KEY)
    arch: str
    machine: str = ""
    abi: str | None = None
    defconfig: Path
    base_defconfig: str | None = None
    cross_compile: str
    user_compile: str = ""
    user_arch: str = ""
    kernel_target: str
    kernel_image: str
    userland: str
    qemu: str | None = None
    qemu_args: tuple[str, ...] = ()
    net_args: tuple[str, ...] = ()
    share_args: tuple[str, ...] = ()
    tcg_thread: Literal["multi", "single"] = "multi"
    cpus: Count
    console: str
    append: str
    emulator: EmulatorSettings | None = None
    debug: DebugSettings = DebugSettings()

    def __post_init__(self) -> None:
        """What is the same as another key unless it is given."""
        force_setattr(self, "machine", self.machine or self.arch)
        force_setattr(self, "user_compile", self.user_compile or self.cross_compile)
        force_setattr(self, "user_arch", self.user_arch or self.arch)

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


class KernelLine(Table, frozen=True, kw_only=True):
    """A kernel the series exists for.

    ``debug_config`` is what makes it a debug kernel, ``gdb_config`` one with symbols.
    """

    name: str = field(default="", name=NO_KEY)
    description: str
    patches: Path
    compat: CompatPatches | None = None
    goals: MakeGoals = MakeGoals()
    source: SourceSpec
    bench: Path
    debug_config: Path
    gdb_config: Path
    default_board: str
    boards: Mapping[str, Board] = field(name="board")

    def __post_init__(self) -> None:
        """ValueError if there is no board like the default one."""
        datafile.name_entries(self.boards)
        datafile.require_known("default-board", self.default_board, self.boards)


class BuiltInPolicy(Table, frozen=True, kw_only=True):
    """A policy that is part of the kernel, see harness/policies.py.

    ``symbol`` selects it (a Kconfig choice in mm/Kconfig), ``type`` is the argument of
    my_oom_killer() and ``field`` the name of its score in the log, where there is one.
    """

    name: str = field(default="", name=NO_KEY)
    symbol: str
    type: int | None = None
    field: str | None = None


class TestedKernel(Table, frozen=True, kw_only=True):
    """A part of ``./run test``: the tests of a folder on one kernel, None being the default.

    ``config`` is merged into the board's.  ``files`` are those of the folder that it runs,
    ``scenarios`` the scenarios, shell patterns allowed (none: all).  Unless it is
    ``by_default``, it is run only when it is named.  ``source`` and ``emulator`` name the
    variables that hold the kernel's source and the Android emulator, where there have
    to be any.
    """

    tests: Literal["emulator", "debug", "grade"] = "emulator"
    files: tuple[str, ...] = ()
    by_default: bool = True
    kernel: str | None = None
    arch: str | None = None
    board: str | None = None
    device: Literal["qemu", "avd"] | None = None
    ramdisk: Literal["image", "ours"] | None = None
    config: Path | None = None
    scenarios: tuple[str, ...] = ()
    source: str | None = field(default=None, name="source-from")
    emulator: str | None = field(default=None, name="emulator-from")


class KernelVariant(Table, frozen=True, kw_only=True):
    """A kernel that differs from the line's own, to be compared with it.

    The series is applied up to the patch whose name has ``until`` in it (None: all;
    empty: none, which leaves the kernel as it came, with neither policies nor what
    our modules need); ``configs`` are merged into the board's defconfig, later ones
    winning.  ``apart``: it has objects of its own, as all others have to be compiled again.
    """

    name: str = field(default="", name=NO_KEY)
    until: str | None = None
    configs: tuple[Path, ...] = ()
    apart: bool = False

    @property
    def patched(self) -> bool:
        """Does it have any patch?"""
        return self.until != ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is built: a line, for a board, with a policy.

    ``symbols`` are the Kconfig symbols of all policies.
    """

    line: KernelLine
    board: Board
    policy: str
    symbols: Mapping[str, str]
    debug: bool = False
    variant: KernelVariant | None = None

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


class Kernels(Table, frozen=True, kw_only=True):
    """All lines, the default one, the policies of every line, and what is tested.

    The first policy is the default one.
    """

    lines: Mapping[str, KernelLine] = field(name="line")
    default_line: str
    policies: Annotated[Mapping[str, BuiltInPolicy], Meta(min_length=1)] = field(name="policy")
    tests: Mapping[str, TestedKernel] = field(default_factory=dict, name="test")

    def __post_init__(self) -> None:
        """ValueError if what belongs together does not."""
        datafile.name_entries(self.lines)
        datafile.require_known("default-line", self.default_line, self.lines)
        datafile.name_entries(self.policies)
        for name, part in self.tests.items():
            try:
                self.target(line=part.kernel, board=part.board, arch=part.arch, device=part.device)
            except HarnessError as error:
                raise ValueError(f"test.{name}: {error.what}") from error

    @property
    def default_policy(self) -> str:
        """What a kernel is built with unless another policy is asked for."""
        return next(iter(self.policies))

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
        policy = policy or self.default_policy
        if policy not in self.policies:
            raise _unknown("policy", policy, self.policies, option="--policy")
        return Target(
            line=kernel,
            board=_select_board(kernel, board=board, arch=arch, device=device),
            policy=policy,
            symbols={name: one.symbol for name, one in self.policies.items()},
            debug=debug,
        )


def load_kernels(layout: Layout) -> Kernels:
    """Read configs/kernels.toml; raises HarnessError on a missing or wrong entry."""
    return datafile.load(
        layout.root / "configs" / "kernels.toml",
        Kernels,
        root=layout.root,
        hint="compare with the other lines of the file",
    )


def _select_board(
    line: KernelLine, *, board: str | None, arch: str | None, device: str | None = None
) -> Board:
    """The named board; else the default one, if it fits; else the first that does."""
    if device is not None and device not in DEVICES:
        raise _unknown("device", device, DEVICES, option="--device")
    if board is not None:
        return _named_board(line, board, arch=arch, device=device)
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
