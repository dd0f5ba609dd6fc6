# SPDX-License-Identifier: GPL-2.0-only
"""The bench without a kernel: its plan, what it reads, what it makes of that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from harness.bench import show
from harness.bench.figures import Figure, figures, most_apart
from harness.bench.found import Breach, Key, Measurements
from harness.bench.guest import Boot, parse_breaches, parse_figures
from harness.bench.measure import measure
from harness.bench.plan import Plan, Unmet, load_plan
from harness.bench.plot import plot
from harness.command import benching
from harness.device.device import ShellResult
from harness.errors import HarnessError
from harness.kernels import KernelLine, load_kernels
from harness.layout import Layout
from harness.ui import Stage

LAYOUT = Layout.default()
PLAN = LAYOUT.root / "bench" / "plan.toml"
KILL = "[    1.0] uid=10150,\tuRSS={rss},\tmm_max=4096000,\tpid=9,\tpRSS=4096"


def checkout(tmp_path: Path) -> Layout:
    """A checkout that has nothing but the plan."""
    shutil.copytree(LAYOUT.root / "bench", tmp_path / "bench")
    return Layout(root=tmp_path, build=tmp_path / "build", cache=tmp_path / "cache")


def edit(layout: Layout, old: str, new: str) -> None:
    path = layout.root / "bench" / "plan.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


class FakeGuest:
    """Answers mm_bench's command line with numbers that are easy to check."""

    name = "fake"
    serial = "fake"
    accel = "tcg"

    def __init__(self, how: Boot, log: list[str]) -> None:
        self.how = how
        self.log = log
        self.closed = False

    def shell(
        self, argv: list[str], *, timeout: float, user: str | None = None, urgent: bool = False
    ) -> ShellResult:
        command = " ".join(argv)
        self.log.append(f"{self.how.kernel}: {command}")
        return ShellResult(tuple(argv), 0, self.answer(command), "", 0.0)

    def answer(self, command: str) -> str:
        base = {"unpatched": 2000.0, "patched": 2001.0, "memcg": 2600.0}
        if command == "dmesg":
            return "\n".join(KILL.format(rss=4096000 + 4096 * pages) for pages in (1, 7))
        if "breach" in command:
            return "breach 1 1000 6\nbreach 2 3000 7\nbreach 3 2000 7\n"
        if "mm_hostile" in command:
            return "# a note\nok 1 - held\nnot ok 2 - not held\n1..2\n"
        if "memory.peak" in command:
            return "20979712\n20971520\n"
        if "reader" in command:
            return "figure unread 100.0\nfigure read 101.0\n"
        parts = [word for word in command.split() if word in ("page", "churn", "fork", "exec")]
        return "".join(f"figure {part} {base[self.how.kernel]}\n" for part in parts)

    def close(self) -> None:
        self.closed = True


def run(plan: Plan) -> tuple[Measurements, list[str]]:
    log: list[str] = []
    found = measure(plan, lambda how: FakeGuest(how, log), stage=Stage("bench", None))  # type: ignore[arg-type,return-value]
    return found, log


def by_name(plan: Plan, found: Measurements) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(plan, found)}


def test_the_plan_is_whole() -> None:
    plan = load_plan(PLAN, layout=LAYOUT, quick=False)
    assert {"unpatched", "empty", "other", "limited", "near", "memcg"} <= {
        variant.name for variant in plan.variants
    }
    assert all(config.is_file() for kernel in plan.kernels.values() for config in kernel.configs)
    assert plan.processes == (10, 100, 1000, 4000)
    assert plan.breaches == 200


def test_quick_keeps_the_main_figures() -> None:
    plan = load_plan(PLAN, layout=LAYOUT, quick=True)
    assert {variant.name for variant in plan.variants} == {
        "unpatched", "empty", "other", "limited", "near", "memcg",
    }  # fmt: skip
    assert all(variant.processes == (10,) for variant in plan.variants)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kernel = "memcg"', 'kernel = "memgc"', "is 'memgc', valid: unpatched, patched, memcg"),
        ("rounds = 20", "rundes = 12", "unknown key 'rundes', valid: kernel, "),
        ("rounds = 20", "rounds = = 12", "plan.toml"),
        ("breaches = 50", "breeches = 50", "breeches"),
        ("spins = 3", "spins = 0", r"smp\.spins: must be an integer >= 1, is 0"),
        ('[unmet."fork.limited"]', '[unmet."fork.limit"]', "is 'fork.limit', valid: page.empty"),
    ],
)
def test_a_wrong_plan_is_told(tmp_path: Path, old: str, new: str, said: str) -> None:
    layout = checkout(tmp_path)
    edit(layout, old, new)
    with pytest.raises(HarnessError, match=said):
        load_plan(layout.root / "bench/plan.toml", layout=layout, quick=False)


@pytest.mark.parametrize("line", load_kernels(LAYOUT).lines.values(), ids=lambda line: line.name)
def test_each_lines_plan_can_be_read(line: KernelLine) -> None:
    for quick in (False, True):
        plan = load_plan(line.bench, layout=LAYOUT, quick=quick)
        assert plan.smp.kernel in plan.used_kernels


def test_no_plan_is_told(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"plan\.toml"):
        load_plan(tmp_path / "plan.toml", layout=LAYOUT, quick=False)


def test_the_program_is_understood() -> None:
    text = "noise\nfigure page 12.5\nfigure fault 10\nbreach 1 2000 -1\nbreach 2 x y\n"
    assert list(parse_figures(text)) == [("page", 12.5), ("fault", 10.0)]
    assert list(parse_breaches(text)) == [Breach(2000, -1)]


def test_every_kernel_is_booted_twice_and_warmed_up() -> None:
    plan = load_plan(PLAN, layout=LAYOUT, quick=True)
    _, log = run(plan)
    for kernel in ("unpatched", "patched", "memcg"):
        assert log.count(f"{kernel}: sh -c /data/local/tmp/mm_bench -r 3 page") == 2


def test_figures_are_over_the_unpatched_kernel() -> None:
    plan = load_plan(PLAN, layout=LAYOUT, quick=True)
    found, _ = run(plan)
    named = by_name(plan, found)
    assert named["page.unpatched"].value == 2000.0
    assert named["page.empty"].value == 1.0
    assert named["page.near"].value == 1.0
    assert named["page.memcg"].value == 600.0
    assert named["page.limited"].met is True
    assert named["kill.latency.own.10"].value == 2000.0
    assert named["overshoot.1cpu"].value == 7.0
    assert named["overshoot.4cpu"].value == 7.0
    assert named["reader"].value == pytest.approx(1.0)
    assert named["repeat"].value == 0.0


def test_growth_and_shares_are_in_percent() -> None:
    plan = load_plan(PLAN, layout=LAYOUT, quick=False)
    found = Measurements()
    for variant, few, many in (("unpatched", 1000.0, 1000.0), ("limited", 1000.0, 1020.0)):
        found.add(Key(variant, 10, "page"), few)
        found.add(Key(variant, 4000, "page"), many)
        found.add(Key(variant, 10, "exec"), few * (1.01 if variant == "limited" else 1))
    named = by_name(plan, found)
    assert named["growth.processes.limited"].value == pytest.approx(2.0)
    assert named["growth.processes.limited"].met is False
    assert named["exec.limited"].value == pytest.approx(1.0)
    assert named["exec.unpatched"].unit == "instructions"


def test_boots_that_differ_are_seen() -> None:
    plan = load_plan(PLAN, layout=LAYOUT, quick=True)
    found = Measurements()
    for value in (2000.0, 2001.5):
        found.add(Key("unpatched", 10, "page"), value)
    repeat = by_name(plan, found)["repeat"]
    assert repeat.value == 1.5
    assert repeat.met is False
    assert most_apart(found) == "page of unpatched, 10 processes"


def test_the_cost_of_a_process_is_the_slope() -> None:
    plan = load_plan(PLAN, layout=LAYOUT, quick=False)
    found = Measurements()
    found.breaches["own", 10] = [Breach(1000, 5)]
    found.breaches["own", 4000] = [Breach(1000 + 3990 * 120, 5)]
    slope = by_name(plan, found)["kill.per-process.own"]
    assert slope.value == 120.0
    assert slope.met is True


def test_a_guest_that_fails_ends_the_others() -> None:
    plan = load_plan(PLAN, layout=LAYOUT, quick=True)
    guests: list[FakeGuest] = []

    class Failing(FakeGuest):
        def answer(self, command: str) -> str:
            if self.how.kernel == "memcg":
                raise HarnessError("mm_bench ended with 1")
            return super().answer(command)

    def boot(how: Boot) -> FakeGuest:
        guests.append(Failing(how, []))
        return guests[-1]

    with pytest.raises(HarnessError, match="ended with 1"):
        measure(plan, boot, stage=Stage("bench", None))  # type: ignore[arg-type]
    assert all(guest.closed for guest in guests)


def test_the_results_are_schema_1() -> None:
    text = show.results_json(
        [Figure("page.empty", "instructions/page", 1.23456, 1.5), Figure("x", "%", 2.0)],
        kernel="linux-6.1",
        release="6.1.1",
        board="arm-virt",
        reproduce="./run bench",
    )
    data = json.loads(text)
    assert data["schema"] == 1
    assert data["figures"] == [
        {"name": "page.empty", "unit": "instructions/page", "value": 1.235, "target": 1.5},
        {"name": "x", "unit": "%", "value": 2.0, "target": None},
    ]


def test_the_table_says_what_is_missed() -> None:
    console = Console(width=100, record=True)
    console.print(show.table([Figure("a", "%", 2.0, 1.0), Figure("b", "%", 0.5, 1.0)]))
    text = console.export_text()
    assert "missed" in text.splitlines()[1]
    assert "met" in text.splitlines()[2]


def test_the_page_of_plots_is_drawn(tmp_path: Path) -> None:
    plan = load_plan(PLAN, layout=LAYOUT, quick=True)
    found, _ = run(plan)
    path = tmp_path / "deep" / "bench.svg"
    plot(plan, found, figures(plan, found), path)
    text = path.read_text(encoding="utf-8")
    assert "<svg" in text


@pytest.mark.parametrize(
    ("value", "report_only", "code"),
    [(1.0, False, 0), (1.0, True, 0), (3.0, False, 1), (3.0, True, 0)],
)
def test_a_missed_target_fails_the_bench(value: float, report_only: bool, code: int) -> None:
    figure = Figure("page.empty", "instructions/page", value, target=2.0)
    verdict = benching.bench_verdict([figure], Measurements(), report_only=report_only)
    assert verdict == code


def test_numbers_that_do_not_repeat_fail_even_a_report() -> None:
    found = Measurements()
    for value in (2000.0, 2001.5):
        found.add(Key("unpatched", 10, "page"), value)
    figure = Figure("repeat", "instructions/page", 1.5, target=0.5)
    assert benching.bench_verdict([figure], found, report_only=True) == 1


def test_spinners_and_hostile_programs_are_held_by_both() -> None:
    plan = load_plan(PLAN, layout=LAYOUT, quick=False)
    named = by_name(plan, run(plan)[0])
    assert named["overshoot.4cpu.spinners"].value == 7.0
    assert named["overshoot.4cpu.spinners.memcg"].value == 2.0
    assert named["hostile.victim-read.limits"].met is False
    assert named["hostile.victim-read.memcg"].target is None


@pytest.mark.parametrize(
    ("value", "met", "excused"), [(8.0, True, False), (9.0, False, True), (11.0, False, False)]
)
def test_a_target_known_to_be_missed_holds_what_was_reached(
    value: float, met: bool, excused: bool
) -> None:
    figure = Figure("x", "%", value, 8.0, Unmet(at_most=10.0, why="two locks"))
    assert (figure.met, figure.excused) == (met, excused)
