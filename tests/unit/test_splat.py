# SPDX-License-Identifier: GPL-2.0-only
"""Each kind of kernel report is found, and a clean log gives none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.splat import Scanner, scan

LOGS = Path(__file__).parent.parent / "data" / "splats"

# file: kind, whether it ends the run, and the line (from 0) where it is seen
EXPECTED = {
    "panic": ("panic", True, 1),
    "oops-arm": ("oops", True, 1),
    "oops-arm-3.4": ("oops", True, 0),
    "oops-x86": ("oops", True, 0),
    "kernel-bug": ("oops", True, 1),
    "soft-lockup": ("soft lockup", True, 0),
    "hard-lockup": ("hard lockup", True, 0),
    "hung-task": ("hung task", True, 0),
    "rcu-stall": ("RCU stall", True, 0),
    "rcu-stall-3.4": ("RCU stall", True, 0),
    "kasan": ("KASAN", True, 1),
    "ubsan": ("UBSAN", False, 0),
    "kmemleak": ("kmemleak", False, 0),
    "odebug": ("debug objects", False, 0),
    "list-corruption": ("list corruption", False, 0),
    "warning": ("warning", False, 1),
    "warning-3.4": ("warning", False, 1),
    "lockdep-circular": ("lockdep", False, 1),
    "lockdep-recursive": ("lockdep", False, 1),
    "lockdep-state": ("lockdep", False, 1),
    "lockdep-order": ("lockdep", False, 0),
    "lockdep-unlock": ("lockdep", False, 0),
    "lockdep-3.4": ("lockdep", False, 0),
    "oops-x86-page": ("oops", True, 0),
    "oops-short": ("oops", True, 0),
    "lockdep-info": ("lockdep", False, 1),
    "lockdep-full": ("lockdep", False, 0),
    "kcsan": ("KCSAN", False, 1),
    "kfence": ("KFENCE", True, 0),
    "spinlock": ("BUG", True, 0),
    "bad-page-state": ("bad page", False, 0),
    "list-add": ("list corruption", False, 0),
    "oops-x86-gpf": ("oops", True, 0),
    "hung-task-3.4": ("hung task", True, 0),
    "rcu-starved": ("RCU stall", True, 0),
    "rcu-expedited": ("RCU stall", True, 0),
    "rcu-stall-behind-prompt": ("RCU stall", True, 0),
    "rcu-usage-3.4": ("RCU usage", False, 1),
    "lockdep-nested": ("lockdep", False, 1),
    "lockdep-freed": ("lockdep", False, 1),
    "lockdep-held": ("lockdep", False, 1),
    "lockdep-context": ("lockdep", False, 1),
    "lockdep-contention": ("lockdep", False, 0),
    "lockdep-irq": ("lockdep", False, 1),
    "lockdep-return": ("lockdep", False, 1),
    "lockdep-key": ("lockdep", False, 0),
    "lockdep-unlock-3.4": ("lockdep", False, 1),
    "rcu-usage": ("RCU usage", False, 1),
    "might-sleep": ("might sleep", False, 0),
    "atomic": ("scheduling while atomic", True, 0),
    "bad-page": ("bad page", False, 0),
    "slab": ("slab corruption", False, 0),
    "refcount": ("refcount", False, 0),
    "stock-oom": ("out of memory", False, 0),
    "oom-panic": ("out of memory", False, 0),
    "oops-x86-divide": ("oops", True, 0),
    "bad-pmd": ("bad page", False, 0),
    "pgtables": ("bad page", False, 0),
    "non-blocking": ("might sleep", False, 0),
    "cant-sleep": ("might sleep", False, 0),
    "preemptible": ("preemption", False, 0),
    "workqueue-leak": ("lockdep", False, 0),
    "workqueue-lockup": ("BUG", True, 0),
    "lockdep-depth": ("lockdep", False, 0),
    "slab-3.4": ("slab corruption", False, 0),
}


def test_every_recorded_report_is_expected() -> None:
    assert {path.stem for path in LOGS.glob("*.log")} == {*EXPECTED, "clean"}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_first_report_is_found(name: str) -> None:
    first = scan((LOGS / f"{name}.log").read_text().splitlines())[0]
    assert (first.kind, first.fatal, first.line_number) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_clock_of_the_log_does_not_matter(name: str) -> None:
    """Console, dmesg and dmesg -r differ in what stands before the text."""
    lines = (LOGS / f"{name}.log").read_text().splitlines()
    bare = [re.sub(r"^.*?\[ *\d+\.\d+\] ", "", line) for line in lines]
    raw = [f"<3>[    1.000000][   T70] {line}" for line in bare]
    assert scan(bare)[0].kind == scan(raw)[0].kind == EXPECTED[name][0]


def test_a_warning_does_not_hide_the_panic_behind_it() -> None:
    found = scan((LOGS / "oom-panic.log").read_text().splitlines())
    assert [(one.kind, one.fatal) for one in found] == [("out of memory", False), ("panic", True)]


def test_a_clean_log_gives_nothing() -> None:
    assert scan((LOGS / "clean.log").read_text().splitlines()) == []


def test_debug_objects_that_are_well_say_so() -> None:
    well = ("ODEBUG: selftest passed", "ODEBUG: 24 of 24 active objects replaced")
    assert scan(f"[    0.000000] {line}" for line in well) == []


def test_the_scanner_counts_lines_as_they_come() -> None:
    scanner = Scanner()
    assert scanner.feed("[    1.0] fine") is None
    found = scanner.feed("[    1.1] Kernel panic - not syncing: no init")
    assert found is not None
    assert found.line_number == 1


def test_races_of_others_are_not_ours_to_judge() -> None:
    assert scan(["[ 1.0] BUG: KCSAN: data-race in __d_lookup / d_alloc"]) == []
    (found,) = scan(["[ 1.0] BUG: KCSAN: data-race in __mm_limits_fault / mm_limits_fold"])
    assert found.kind == "KCSAN"
