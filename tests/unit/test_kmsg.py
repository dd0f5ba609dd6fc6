# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log parser, on recorded logs of both kernel lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.kmsg import (
    ConfirmEvent,
    Event,
    EvictEvent,
    KillEvent,
    LogSlice,
    OtherKillEvent,
    SharerEvent,
    TableEvent,
    UnkillableEvent,
    marker,
    of_kind,
    parse,
    slice_log,
)

LOGS = Path(__file__).parent.parent / "data" / "logs"
TOKEN = "00aa11bb22cc33dd"


def slice_of(file: str, name: str) -> LogSlice:
    return slice_log((LOGS / file).read_text(encoding="utf-8"), name, TOKEN)


def one_event(line: str) -> Event:
    (event,) = parse([line])
    return event


def test_kill_line_of_each_policy() -> None:
    rss = of_kind(slice_of("linux-6.1-kernel-rss.txt", "kernel-rss").events, KillEvent)
    assert rss == (
        KillEvent(
            line=1,
            time_s=12.078,
            uid=10070,
            user_rss=100003840,
            mm_max=100000000,
            pid=94,
            process_rss=97325056,
        ),
    )
    log = slice_of("linux-6.1-daemon-runtime.txt", "daemon-runtime")
    runtime = of_kind(log.events, KillEvent)
    assert [(kill.field, kill.score) for kill in runtime] == [("total_run_time", 412)]
    log = slice_of("goldfish-3.4-kernel-badness.txt", "kernel-badness")
    badness = of_kind(log.events, KillEvent)
    assert [(kill.field, kill.score) for kill in badness] == [("badness", -12)]


def test_order_of_kills_and_table_is_kept() -> None:
    events = slice_of("linux-6.1-many-must-die-badness.txt", "many-must-die").events
    kinds = [type(event).__name__[0] for event in events]
    assert "".join(kinds) == "KCKCKCTTTTTT"
    assert [event.line for event in events] == sorted(event.line for event in events)


def test_sharer_and_confirmation() -> None:
    events = slice_of("linux-6.1-threads.txt", "threads").events
    assert [(event.pid, event.comm) for event in of_kind(events, SharerEvent)] == [(74, "mm_play")]
    assert [event.pid for event in of_kind(events, ConfirmEvent)] == [70, 75]


def test_unkillable_and_eviction() -> None:
    events = slice_of("linux-6.1-unkillable.txt", "protected").events
    (unkillable,) = of_kind(events, UnkillableEvent)
    assert (unkillable.uid, unkillable.user_rss, unkillable.mm_max) == (10080, 61231104, 40000000)
    (evicted,) = of_kind(events, EvictEvent)
    assert (evicted.uid, evicted.mm_max) == (10001, 3221225472)
    assert not of_kind(events, KillEvent)


def test_other_killers_are_named() -> None:
    stock = slice_of("linux-6.1-stock-oom.txt", "isolation").events
    assert [(event.killer, event.pid) for event in of_kind(stock, OtherKillEvent)] == [
        ("oom-killer", 88),
        ("memory cgroup", 89),
    ]
    old = slice_of("goldfish-3.4-kernel-badness.txt", "kernel-badness").events
    assert [(one.killer, one.pid, one.comm) for one in of_kind(old, OtherKillEvent)] == [
        ("lowmemorykiller", 77, "m.android.phone"),
        ("oom-killer", 80, "sh"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "uid=1,\tmm_max=2",
        "uid=1,mm_max=2",
        "[    0.000001] uid=1, mm_max=2",
        "<6>[   12.345678] uid=1,mm_max=2\r",
        "[   12.345678][   T12] uid=1,mm_max=2",
        "[   12.345678][    C0] uid=1,\\x09mm_max=2",
    ],
)
def test_prefixes_and_gaps(line: str) -> None:
    event = one_event(line)
    assert isinstance(event, TableEvent)
    assert (event.uid, event.mm_max) == (1, 2)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "uid=1,\tuRSS=2,\tmm_max=3,\tpid=4",
        "uid=1,\tuRSS=2,\tmm_max=3,\tpid=4,\tpRSS=5,\tscore=x",
        "xuid=1,mm_max=2",
        "uid=-1,mm_max=2",
        "hello: uid=1,mm_max=2",
        "Out of memory",
    ],
)
def test_other_lines_are_no_events(line: str) -> None:
    assert parse([line]) == ()


def test_comm_may_hold_brackets() -> None:
    event = one_event("Kill process 7 (a) (b) sharing same memory")
    assert isinstance(event, SharerEvent)
    assert event.comm == "a) (b"


def test_slice_holds_only_what_is_between_the_markers() -> None:
    log = slice_of("linux-6.1-kernel-rss.txt", "kernel-rss")
    assert len(log.lines) == 6
    assert log.start_time_s == pytest.approx(12.052)


def test_lost_start_marker_is_an_error() -> None:
    with pytest.raises(HarnessError, match="start marker") as caught:
        slice_of("overflowed.txt", "small-fry")
    assert "log_buf_len" in caught.value.hint
    assert caught.value.details


def test_lost_end_marker_is_an_error() -> None:
    with pytest.raises(HarnessError, match="end marker"):
        slice_log(marker("start", "a", TOKEN), "a", TOKEN)


def test_markers_of_another_run_do_not_count() -> None:
    text = "\n".join([marker("start", "a", "old"), marker("end", "a", "old")])
    with pytest.raises(HarnessError, match="start marker"):
        slice_log(text, "a", "new")
