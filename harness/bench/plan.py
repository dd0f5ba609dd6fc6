# SPDX-License-Identifier: GPL-2.0-only
"""What is to be measured, as a file of bench/ says; kernels.toml names it for each line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import field
from msgspec.structs import replace

from harness.datafile import NO_KEY, Table, load, name_entries, require_known
from harness.kernels import Count
from harness.kernels import KernelVariant as Kernel
from harness.layout import Layout

FEW_PROCESSES = 10
REPEATED = ("page", "churn")


class Variant(Table, frozen=True, kw_only=True):
    """One way to run the workloads: a kernel, the table of limits, the memory cgroup.

    ``options`` are mm_bench's; ``memory_max`` is the limit of the memory cgroup it
    runs in, None for none; ``processes`` says how many sleeping processes there
    are beside it, one measurement for each number.
    """

    name: str
    kernel: str
    options: tuple[str, ...] = ()
    workloads: tuple[str, ...]
    processes: tuple[Count, ...] = (FEW_PROCESSES,)
    append: str = ""
    memory_max: str | None = None
    rounds: Count | None = None
    quick: bool = False

    @property
    def repeated(self) -> tuple[str, ...]:
        """The workloads by which boots are compared: those that count pages."""
        return tuple(name for name in self.workloads if name in REPEATED)

    @property
    def unrepeated(self) -> tuple[str, ...]:
        """The others."""
        return tuple(name for name in self.workloads if name not in REPEATED)


class Smp(Table, frozen=True, kw_only=True):
    """What is done on several CPUs: breaches, by so many threads at once; rounds with
    and without a reader of /proc/mm_limits; ``spins`` times, 400 processes that spin;
    and the programs of mm_hostile named.  The last two on the kernel ``memcg``, too,
    where a memory cgroup is to hold them; None for none.
    """

    kernel: str
    cpus: Count
    threads: Count
    breaches: Count
    rounds: Count
    spins: Count
    memcg: str | None = None
    hostile: tuple[str, ...] = ()


class Unmet(Table, frozen=True, kw_only=True):
    """A target that cannot be met: the most the figure may be for now, and why."""

    at_most: float
    why: str


class Plan(Table, frozen=True, kw_only=True):
    """Everything ``./run bench`` does; ``targets`` are the most a figure may be, ``unmet``
    those of them that it is not held to.  With ``quick``, few rounds of the main ones."""

    kernels: Mapping[str, Kernel] = field(name="kernel")
    variants: tuple[Variant, ...] = field(name="variant")
    rounds: Count
    quick_rounds: Count
    breaches: Count
    quick_breaches: Count
    processes: tuple[Count, ...]
    smp: Smp
    memory: Count = field(name="memory-mb")
    append: str
    targets: Mapping[str, float] = field(name="target")
    unmet: Mapping[str, Unmet] = field(default_factory=dict)
    quick: bool = field(default=False, name=NO_KEY)

    def __post_init__(self) -> None:
        """ValueError if something is named that is not there."""
        name_entries(self.kernels)
        used = {"smp.kernel": self.smp.kernel, "smp.memcg": self.smp.memcg or self.smp.kernel}
        used |= {f"kernel of the variant {one.name}": one.kernel for one in self.variants}
        for key, name in used.items():
            require_known(key, name, self.kernels)
        for figure in self.unmet:
            require_known("[unmet.NAME]", figure, self.targets)

    @property
    def used_kernels(self) -> tuple[str, ...]:
        """The kernels that have a variant, in the plan's order."""
        used = {self.smp.kernel, self.smp.memcg, *(variant.kernel for variant in self.variants)}
        return tuple(name for name in self.kernels if name in used)


def load_plan(path: Path, *, quick: bool, layout: Layout) -> Plan:
    """Read the plan at ``path``; ``quick`` leaves the main figures with few rounds.

    HarnessError says what is wrong in it, where, and what is valid.
    """
    plan = load(path, Plan, root=layout.root, hint="bench/plan.toml explains the keys")
    return _shortened(plan) if quick else plan


def _shortened(plan: Plan) -> Plan:
    """The main figures: cost of a page, of the kill of one among few."""
    return replace(
        plan,
        variants=tuple(
            replace(variant, workloads=variant.repeated, processes=variant.processes[:1])
            for variant in plan.variants
            if variant.quick
        ),
        rounds=plan.quick_rounds,
        breaches=plan.quick_breaches,
        processes=(plan.processes[0], plan.processes[-2]),
        smp=replace(plan.smp, breaches=plan.quick_breaches, spins=1, memcg=None, hostile=()),
        quick=True,
    )
