# SPDX-License-Identifier: GPL-2.0-only
"""Turns measurements into the figures that targets are set for.

======================== ==================== ===================================================
figure                   unit                 what it is
======================== ==================== ===================================================
page.unpatched           instructions/page    fault and unmap of an anonymous page, no patch
page.VARIANT             instructions/page    what that takes more in VARIANT
page.near                instructions/page    what 64 pages, allocated and freed over and over at
                                              99 % of the limit, take more than without the patch
file.VARIANT             instructions/page    the same for mapping a page of the page cache
fork|exec|setuid.VARIANT %                    of fork + exit with 10 MB, exec, setuid to and fro
switch.VARIANT           instructions         what two processes that wake each other and sleep
                                              take more, to and fro
clone-N.VARIANT          %                    of a thread, born and joined, of a process whose
                                              memory N others share
growth.processes.VARIANT %                    of a page's cost from the fewest processes to the most
growth.limits            %                    of it from 1 to 1000 limits
kill.latency.OWNER.N     instructions         of the page that crossed the limit, with the kill it
                                              caused, among N processes of the OWNER
kill.per-process.OWNER   instructions/process slope of the latency over N
overshoot.Ncpu           pages                the most beyond the limit when a kill was decided
overshoot.Ncpu.spinners  pages                the same with 400 processes that take 60 pages each
                                              and spin; with .memcg, the peak of a memory cgroup
                                              that has them under the same limit
hostile.KIND.HOLDER      checks               of mm_hostile that fail where limits, or a memory
                                              cgroup, are to hold the program
reader                   %                    a page's time (not instructions) while somebody on
                                              another CPU reads /proc/mm_limits in a loop, more
                                              than while they read /proc/uptime
repeat[.memcg]           instructions/page    the most two boots of one kernel differed; with
                                              memcg, whose own work gets in between, apart
======================== ==================== ===================================================

OWNER is ``own`` (the limited user) or ``other`` (users without a limit).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from harness.bench.found import Key, Measurements
from harness.bench.plan import Plan, Unmet
from harness.bench.smp import READER

BASE = "unpatched"
PAGE_SIZE = 4096
# Workloads told as a share of what they cost without the patches.
SHARES = ("fork", "exec", "setuid", "clone-10", "clone-1000")
PAGE = "instructions/page"


@dataclass(frozen=True)
class Figure:
    """One number; ``target`` is the most it may be, None where there is none, and
    ``unmet`` says so if it is known not to be met."""

    name: str
    unit: str
    value: float
    target: float | None = None
    unmet: Unmet | None = None

    @property
    def met(self) -> bool | None:
        """Is the target met?  None without a target."""
        return None if self.target is None else self.value <= self.target

    @property
    def excused(self) -> bool:
        """Is the target missed, and no more so than is known?"""
        return self.met is False and self.unmet is not None and self.value <= self.unmet.at_most


def figures(plan: Plan, found: Measurements) -> list[Figure]:
    """All figures that the measurements give, in the order of the table above."""
    every = [
        *_pages(plan, found),
        *_files(plan, found),
        *_shares(plan, found),
        *_switches(plan, found),
        *_growth(plan, found),
        *_kills(found),
        *_overshoot(found),
        *_hostile(found),
        *_reader(found),
        ("repeat", PAGE, _repeat(found, memcg=False)),
        *_repeat_memcg(plan, found),
    ]
    return [
        Figure(name, unit, value, plan.targets.get(name), plan.unmet.get(name))
        for name, unit, value in every
    ]


Row = tuple[str, str, float]


def _value(found: Measurements, variant: str, processes: int, part: str) -> float | None:
    values = found.values.get(Key(variant, processes, part))
    return min(values) if values else None


def _over(plan: Plan, found: Measurements, part: str) -> Iterator[tuple[str, float, float]]:
    """(variant, what it takes, what the base takes), fewest processes."""
    base = _value(found, BASE, plan.processes[0], part)
    for variant in plan.variants:
        value = _value(found, variant.name, variant.processes[0], part)
        if value is not None and base is not None:
            yield variant.name, value, base


def _pages(plan: Plan, found: Measurements) -> Iterator[Row]:
    for variant, value, base in _over(plan, found, "page"):
        yield f"page.{variant}", PAGE, value if variant == BASE else value - base
    for variant, value, base in _over(plan, found, "churn"):
        if variant == "near":
            yield "page.near", PAGE, value - base


def _files(plan: Plan, found: Measurements) -> Iterator[Row]:
    for variant, value, base in _over(plan, found, "file"):
        yield f"file.{variant}", PAGE, value if variant == BASE else value - base


def _shares(plan: Plan, found: Measurements) -> Iterator[Row]:
    for part in SHARES:
        for variant, value, base in _over(plan, found, part):
            if variant == BASE:
                yield f"{part}.{variant}", "instructions", value
            else:
                yield f"{part}.{variant}", "%", _percent(value, base)


def _switches(plan: Plan, found: Measurements) -> Iterator[Row]:
    for variant, value, base in _over(plan, found, "switch"):
        yield f"switch.{variant}", "instructions", value if variant == BASE else value - base


def _growth(plan: Plan, found: Measurements) -> Iterator[Row]:
    for variant in plan.variants:
        part = "churn" if variant.name == "near" else "page"
        few, many = variant.processes[0], variant.processes[-1]
        first, last = (_value(found, variant.name, count, part) for count in (few, many))
        if few != many and first is not None and last is not None:
            yield f"growth.processes.{variant.name}", "%", _percent(last, first)
    one = _value(found, "limits-1", plan.processes[0], "page")
    many_limits = _value(found, "limits-1000", plan.processes[0], "page")
    if one is not None and many_limits is not None:
        yield "growth.limits", "%", _percent(many_limits, one)


def _kills(found: Measurements) -> Iterator[Row]:
    latencies: dict[str, dict[int, float]] = {}
    for (owner, processes), breaches in found.breaches.items():
        latency = median(breach.instructions for breach in breaches)
        latencies.setdefault(owner, {})[processes] = latency
        yield f"kill.latency.{owner}.{processes}", "instructions", latency
    for owner, by_count in latencies.items():
        few, many = min(by_count), max(by_count)
        if few != many:
            slope = (by_count[many] - by_count[few]) / (many - few)
            yield f"kill.per-process.{owner}", "instructions/process", slope


def _overshoot(found: Measurements) -> Iterator[Row]:
    for name, sizes in found.overshoot.items():
        if sizes:
            yield f"overshoot.{name}", "pages", max(sizes) / PAGE_SIZE


def _hostile(found: Measurements) -> Iterator[Row]:
    for (kind, holder), failed in found.hostile.items():
        yield f"hostile.{kind}.{holder}", "checks", float(failed)


def _reader(found: Measurements) -> Iterator[Row]:
    without, reading = (_value(found, READER, 0, part) for part in ("unread", "read"))
    if without is not None and reading is not None:
        yield "reader", "%", _percent(reading, without)


def _repeat(found: Measurements, *, memcg: bool) -> float:
    """memcg apart: it flushes its statistics every two seconds, whenever those fall."""
    return max(_apart(found, memcg=memcg).values(), default=0.0)


def _apart(found: Measurements, *, memcg: bool) -> dict[Key, float]:
    """How much the boots of each kernel differed, in what is told per page."""
    return {
        key: max(values) - min(values)
        for key, values in found.values.items()
        if key.part in ("page", "churn")
        and key.variant.startswith("memcg") == memcg
        and len(values) > 1
    }


def most_apart(found: Measurements) -> str:
    """Which measurement the figure ``repeat`` is of, for people."""
    apart = _apart(found, memcg=False)
    key = max(apart, key=lambda one: apart[one])
    return f"{key.part} of {key.variant}, {key.processes} processes"


def _repeat_memcg(plan: Plan, found: Measurements) -> Iterator[Row]:
    if any(variant.memory_max is not None for variant in plan.variants):
        yield "repeat.memcg", PAGE, _repeat(found, memcg=True)


def _percent(value: float, base: float) -> float:
    return (value / base - 1) * 100
