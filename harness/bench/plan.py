# SPDX-License-Identifier: GPL-2.0-only
"""What is to be measured, as a file of bench/ says; kernels.toml names it for each line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.kernels import KernelVariant as Kernel
from harness.layout import Layout

FEW_PROCESSES = 10
REPEATED = ("page", "churn")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to run the workloads: a kernel, the table of limits, the memory cgroup.

    ``options`` are mm_bench's; ``memory_max`` is the limit of the memory cgroup it
    runs in, None for none; ``processes`` says how many sleeping processes there
    are beside it, one measurement for each number.
    """

    name: str
    kernel: str
    options: tuple[str, ...]
    workloads: tuple[str, ...]
    processes: tuple[int, ...]
    append: str
    memory_max: str | None
    rounds: int | None
    quick: bool

    @property
    def repeated(self) -> tuple[str, ...]:
        """The workloads by which boots are compared: those that count pages."""
        return tuple(name for name in self.workloads if name in REPEATED)

    @property
    def unrepeated(self) -> tuple[str, ...]:
        """The others."""
        return tuple(name for name in self.workloads if name not in REPEATED)


@dataclass(frozen=True, kw_only=True)
class Smp:
    """What is done on several CPUs: breaches, by so many threads at once; rounds with
    and without a reader of /proc/mm_limits; ``spins`` times, 400 processes that spin;
    and the programs of mm_hostile named.  The last two on the kernel ``memcg``, too,
    where a memory cgroup is to hold them; None for none.
    """

    kernel: str
    cpus: int
    threads: int
    breaches: int
    rounds: int
    spins: int
    memcg: str | None = None
    hostile: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unmet:
    """A target that cannot be met: the most the figure may be for now, and why."""

    at_most: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything ``./run bench`` does; ``targets`` are the most a figure may be, ``unmet``
    those of them that it is not held to."""

    kernels: Mapping[str, Kernel]
    variants: tuple[Variant, ...]
    rounds: int
    breaches: int
    processes: tuple[int, ...]
    smp: Smp
    memory: int
    append: str
    targets: Mapping[str, float]
    unmet: Mapping[str, Unmet]
    quick: bool

    @property
    def used_kernels(self) -> tuple[str, ...]:
        """The kernels that have a variant, in the plan's order."""
        used = {self.smp.kernel, self.smp.memcg, *(variant.kernel for variant in self.variants)}
        return tuple(name for name in self.kernels if name in used)


def load_plan(path: Path, *, quick: bool, layout: Layout) -> Plan:
    """Read the plan at ``path``; ``quick`` leaves the main figures with few rounds.

    Raises HarnessError for a missing or wrong entry.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        plan = _plan(data, root=layout.root)
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}") from error
    except KeyError as error:
        raise HarnessError(f"{path}: the key {error} is missing") from error
    except (ValueError, TypeError) as error:
        raise HarnessError(f"{path}: {error}") from error
    for user, kernel in (
        ("smp", plan.smp.kernel),
        ("smp", plan.smp.memcg or plan.smp.kernel),
        *((f"variant {variant.name}", variant.kernel) for variant in plan.variants),
    ):
        if kernel not in plan.kernels:
            raise HarnessError(f"{path}: {user}: no kernel {kernel!r}")
    for figure in plan.unmet:
        if figure not in plan.targets:
            raise HarnessError(f"{path}: unmet {figure!r}: there is no such target")
    return _shortened(plan, data) if quick else plan


def _plan(data: Mapping[str, Any], *, root: Path) -> Plan:
    return Plan(
        kernels={name: _kernel(name, table, root) for name, table in data["kernel"].items()},
        variants=tuple(_variant(table) for table in data["variant"]),
        rounds=data["rounds"],
        breaches=data["breaches"],
        processes=tuple(data["processes"]),
        smp=_smp(data["smp"]),
        memory=data["memory-mb"],
        append=data["append"],
        targets=dict(data["target"]),
        unmet={
            name: Unmet(at_most=table["at-most"], why=table["why"])
            for name, table in data.get("unmet", {}).items()
        },
        quick=False,
    )


def _smp(table: Mapping[str, Any]) -> Smp:
    return Smp(**{**table, "hostile": tuple(table.get("hostile", ()))})


def _kernel(name: str, table: Mapping[str, Any], root: Path) -> Kernel:
    return Kernel(
        name=name,
        until=table.get("until"),
        configs=tuple(root / config for config in table["configs"]),
    )


def _variant(table: Mapping[str, Any]) -> Variant:
    return Variant(
        name=table["name"],
        kernel=table["kernel"],
        options=tuple(table.get("options", ())),
        workloads=tuple(table["workloads"]),
        processes=tuple(table.get("processes", (FEW_PROCESSES,))),
        append=table.get("append", ""),
        memory_max=table.get("memory-max"),
        rounds=table.get("rounds"),
        quick=table.get("quick", False),
    )


def _shortened(plan: Plan, data: Mapping[str, Any]) -> Plan:
    """The main figures: cost of a page, of the kill of one among few."""
    return replace(
        plan,
        variants=tuple(
            replace(
                variant,
                workloads=variant.repeated,
                processes=variant.processes[:1],
            )
            for variant in plan.variants
            if variant.quick
        ),
        rounds=data["quick-rounds"],
        breaches=data["quick-breaches"],
        processes=(plan.processes[0], plan.processes[-2]),
        smp=replace(plan.smp, breaches=data["quick-breaches"], spins=1, memcg=None, hostile=()),
        quick=True,
    )
