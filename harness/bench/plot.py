# SPDX-License-Identifier: GPL-2.0-only
"""One page of plots of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from harness.bench.figures import BASE, PAGE_SIZE, SHARES, Figure
from harness.bench.found import Key, Measurements
from harness.bench.plan import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (13, 14)
DPI = 110
# Below this a logarithmic axis would show noise as if it meant something.
LINEAR_BELOW = 1.0


def plot(plan: Plan, found: Measurements, figures: Sequence[Figure], path: Path) -> None:
    """Draw the page to ``path``; the suffix says in which format."""
    # Not at the top: importing it takes longer than most tasks.
    from matplotlib.figure import Figure as Page

    page = Page(figsize=SIZE_INCHES, layout="constrained")
    axes = page.subplots(3, 2)
    page.suptitle(f"Per-user memory limits, Linux {found.release}, QEMU -icount shift=0")
    _pages(axes[0][0], figures)
    _processes(axes[0][1], plan, found)
    _shares(axes[1][0], figures)
    _latency(axes[1][1], found)
    _breaches(axes[2][0], found)
    _overshoot(axes[2][1], found)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(path, dpi=DPI)


def _pages(axes: Axes, figures: Sequence[Figure]) -> None:
    rows = [
        (figure.name.removeprefix("page."), figure.value)
        for figure in figures
        if figure.name.startswith("page.") and figure.name != f"page.{BASE}"
    ][::-1]
    base = [figure.value for figure in figures if figure.name == f"page.{BASE}"]
    bars = axes.barh([name for name, _ in rows], [value for _, value in rows])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xscale("symlog", linthresh=LINEAR_BELOW)
    axes.margins(x=0.2)
    axes.set_xlabel("instructions/page more (logarithmic from 1)")
    absolute = f" ({base[0]:.0f} instructions/page)" if base else ""
    axes.set_title(f"Fault and unmap of a page, over the unpatched kernel{absolute}")


def _processes(axes: Axes, plan: Plan, found: Measurements) -> None:
    drawn = False
    for variant in plan.variants:
        part = "churn" if variant.name == "near" else "page"
        points = []
        for count in variant.processes:
            value = found.values.get(Key(variant.name, count, part))
            base = found.values.get(Key(BASE, count, part))
            if value and base and variant.name != BASE:
                points.append((count, min(value) - min(base)))
        if len(points) > 1:
            drawn = True
            axes.plot(*zip(*points, strict=True), marker="o", label=variant.name)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=LINEAR_BELOW)
    axes.set_xlabel("other processes")
    axes.set_ylabel("instructions/page more")
    axes.set_title("The same, by number of processes")
    _legend(axes, drawn)


def _shares(axes: Axes, figures: Sequence[Figure]) -> None:
    values = {figure.name: figure.value for figure in figures if figure.unit == "%"}
    variants = list(
        dict.fromkeys(name.split(".", 1)[1] for name in values if name.split(".")[0] in SHARES)
    )
    width = 0.8 / max(len(variants), 1)
    for number, variant in enumerate(variants):
        at = [place + number * width for place in range(len(SHARES))]
        heights = [values.get(f"{part}.{variant}", 0.0) for part in SHARES]
        bars = axes.bar(at, heights, width, label=variant)
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    middle = 0.4 - width / 2
    axes.set_xticks(
        [place + middle for place in range(len(SHARES))],
        ["fork + exit, 10 MB", "exec", "setuid and back", "thread, 10 sharers", "1000 sharers"],
    )
    axes.margins(y=0.15)
    axes.set_ylabel("% more than unpatched")
    axes.set_title("Operations on processes")
    _legend(axes, bool(variants))


def _latency(axes: Axes, found: Measurements) -> None:
    for owner in dict.fromkeys(owner for owner, _ in found.breaches):
        counts = sorted(count for name, count in found.breaches if name == owner)
        medians = [
            median(breach.instructions for breach in found.breaches[owner, count]) / 1000
            for count in counts
        ]
        whose = "of the limited user" if owner == "own" else "of other users"
        axes.plot(counts, medians, marker="o", label=f"processes {whose}")
    axes.set_xlabel("processes")
    axes.set_ylabel("1000 instructions")
    axes.set_title("Page that crosses the limit, with the kill it causes (median)")
    _legend(axes, bool(found.breaches))


def _breaches(axes: Axes, found: Measurements) -> None:
    pages = [breach.pages for breaches in found.breaches.values() for breach in breaches]
    _histogram(axes, pages)
    axes.set_xlabel("pages beyond the limit that the process had touched")
    axes.set_title("Overshoot as the process sees it, 1 CPU")


def _overshoot(axes: Axes, found: Measurements) -> None:
    for name, sizes in found.overshoot.items():
        _histogram(axes, [size / PAGE_SIZE for size in sizes], label=name)
    axes.set_xlabel("pages beyond the limit by the kernel's exact sum")
    axes.set_title("Overshoot when the kill was decided")
    _legend(axes, bool(found.overshoot))


def _legend(axes: Axes, drawn: bool) -> None:
    """What is what; or that there is nothing, rather than an empty frame."""
    if drawn:
        axes.legend()
    else:
        axes.text(0.5, 0.5, "not measured (--quick)", transform=axes.transAxes, ha="center")


def _histogram(axes: Axes, pages: Sequence[float], label: str = "") -> None:
    if pages:
        low, high = int(min(0, *pages)), int(max(pages)) + 2
        axes.hist(pages, bins=range(low, high), label=label or None, alpha=0.7)
    axes.set_ylabel("kills")
