# SPDX-License-Identifier: GPL-2.0-only
"""What is shown of a crash names who crashed where, and is about no other CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.crash import FRAMES, explain
from harness.splat import Scanner

CRASHES = Path(__file__).parents[1] / "data" / "crashes"


def explained(name: str) -> tuple[str, ...]:
    lines = (CRASHES / f"{name}.log").read_text().splitlines()
    scanner = Scanner()
    splats = [splat for splat in map(scanner.feed, lines) if splat is not None and splat.fatal]
    return explain(lines, splats[0].line_number)


@pytest.mark.parametrize(
    ("name", "headline", "who", "where", "last"),
    [
        ("panic-arm", "sysrq triggered crash", "Comm: sh", "show_stack from", "panic from sysrq_"),
        (
            "oops-x86",
            "NULL pointer dereference",
            "CPU: 3 PID: 412 Comm: mm_play",
            "RIP: 0010:user_oom_scan",
            "RIP: 0033:",
        ),
        (
            "oops-arm-3.4",
            "NULL pointer dereference",
            "Process sh (pid: 51",
            "PC is at sysrq_handle_crash",
            "(write_sysrq_trigger+0x38/0x48) from",
        ),
        (
            "soft-lockup",
            "soft lockup - CPU#1",
            "CPU: 1 PID: 231 Comm: mm_play",
            "PC is at user_oom_scan",
            "do_DataAbort from __dabt_usr",
        ),
        (
            "rcu-stall",
            "detected stalls",
            "CPU: 0 PID: 190 Comm: holder",
            "PC is at hold_lock",
            "proc_reg_write from vfs_write",
        ),
        (
            "rcu-stall-arm64",
            "detected stalls",
            "task:mm_play",
            "score+0x10/0x20 [bad]",
            "__arm64_sys_set_mm_limits",
        ),
        (
            "rcu-stall-elsewhere",
            "detected stalls",
            "task:mm_play",
            "score+0x10/0x20 [bad]",
            "el0_svc+",
        ),
        (
            "rcu-stall-elsewhere-6.1",
            "detected stalls",
            "task:mm_play",
            "score+0x10/0x20 [bad]",
            "mm_syscall_set_mm_limits",
        ),
        (
            "rcu-stall-elsewhere-3.4",
            "detected stalls",
            "Pid: 75, comm:              mm_play",
            "(score+0x14/0x28 [bad]) from",
            "ret_fast_syscall",
        ),
    ],
)
def test_who_where_and_how_they_got_there(
    name: str, headline: str, who: str, where: str, last: str
) -> None:
    lines = explained(name)
    assert headline in lines[0]
    assert any(who in line for line in lines)
    assert any(where in line for line in lines)
    assert last in lines[-1]
    assert not any("swapper" in line or "Code:" in line for line in lines)


def test_frames_of_modules_are_frames() -> None:
    assert any("hold_lock [bad] from" in line for line in explained("rcu-stall"))


def test_ten_frames_are_enough() -> None:
    head = ["Kernel panic - not syncing: x", "CPU: 0 PID: 1 Comm: init"]
    frames = [f"[    1.0]  f{number} from f{number + 1}+0x4/0x8" for number in range(30)]
    assert explain([*head, *frames], 0) == (*head, *frames[:FRAMES])


def test_where_there_is_no_trace_nothing_is_chosen() -> None:
    assert explain(["Kernel panic - not syncing: x", "1", "2"], 0) == ()
