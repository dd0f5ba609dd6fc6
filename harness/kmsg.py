# SPDX-License-Identifier: GPL-2.0-only
"""Turns the kernel log into events, so that nothing else matches text.

The kernel log is the contract between the patched kernel and the course: it
says who was killed, why, and what the table of limits looked like.  The judge
reads events, never lines, and so does not care whether a field is followed by a
tab, which kernel printed it, or what else is in the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.errors import HarnessError

# What may stand before the text: a syslog level (3.4's dmesg keeps it), the
# time since boot, and the caller where the kernel has PRINTK_CALLER.
_PREFIX = re.compile(r"^(?:<\d+>)?(?:\[\s*(\d+\.\d+)\])?(?:\[\s*[TC]\d+\])?\s?")

# /dev/kmsg and some dmesg versions show a tab as "\x09".
_GAP = r",(?:\s|\\x09)*"


@dataclass(frozen=True)
class Event:
    """``line`` is its index among the parsed lines; ``time_s`` is since boot, if printed."""

    line: int
    time_s: float | None


@dataclass(frozen=True)
class KillEvent(Event):
    """One of our killers chose a victim.  Sizes in bytes.

    ``field`` is what its policy calls the ``score``, in the policy's unit; a policy
    whose score is in the line anyway has none.
    """

    uid: int
    user_rss: int
    mm_max: int
    pid: int
    process_rss: int
    field: str | None = None
    score: int | None = None


@dataclass(frozen=True)
class SharerEvent(Event):
    """A process dies with the victim because it shares the victim's memory."""

    pid: int
    comm: str


@dataclass(frozen=True)
class ConfirmEvent(Event):
    """The kernel's own line about a kill that our killers ordered."""

    pid: int
    comm: str


@dataclass(frozen=True)
class UnkillableEvent(Event):
    """A user is over its limit and none of its processes may be killed."""

    uid: int
    user_rss: int
    mm_max: int


@dataclass(frozen=True)
class TableEvent(Event):
    """One entry of the table, as logged by each successful set_mm_limits()."""

    uid: int
    mm_max: int


@dataclass(frozen=True)
class EvictEvent(Event):
    """A full table gave up its least recently set entry."""

    uid: int
    mm_max: int


@dataclass(frozen=True)
class OtherKillEvent(Event):
    """A killer that is not ours killed a process."""

    killer: str
    pid: int
    comm: str


_KILL = re.compile(
    rf"uid=(?P<uid>\d+){_GAP}uRSS=(?P<user_rss>\d+){_GAP}mm_max=(?P<mm_max>\d+){_GAP}"
    rf"pid=(?P<pid>\d+){_GAP}pRSS=(?P<process_rss>\d+)"
    rf"(?:{_GAP}(?P<field>[A-Za-z]\w*)=(?P<score>-?\d+))?\s*$"
)
_UNKILLABLE = re.compile(
    rf"uid=(?P<uid>\d+){_GAP}uRSS=(?P<user_rss>\d+){_GAP}mm_max=(?P<mm_max>\d+)"
    r": no killable process\s*$"
)
_TABLE = re.compile(rf"uid=(?P<uid>\d+){_GAP}mm_max=(?P<mm_max>\d+)\s*$")
_EVICT = re.compile(
    rf"set_mm_limits: table full, evicted uid=(?P<uid>\d+){_GAP}mm_max=(?P<mm_max>\d+)\s*$"
)
# A comm may hold any character, brackets too: take all up to the last one.
_SHARER = re.compile(r"Kill process (?P<pid>\d+) \((?P<comm>.*)\) sharing same memory\s*$")
_CONFIRM = re.compile(
    r"Per-user memory limit: Kill(?:ed)? process (?P<pid>\d+) \((?P<comm>.*?)\)(?:,|\s|$)"
)

# Other killers, by the line each writes as it acts.  3.4's OOM killer and low
# memory killer first, then the present ones.
_OTHERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "oom-killer",
        re.compile(r"Out of memory[^:]*: Kill(?:ed)? process (?P<pid>\d+) \((?P<comm>.*?)\)"),
    ),
    (
        "memory cgroup",
        re.compile(
            r"Memory cgroup out of memory: Kill(?:ed)? process (?P<pid>\d+) \((?P<comm>.*?)\)"
        ),
    ),
    (
        "lowmemorykiller",
        re.compile(r"(?:lowmemorykiller: )?send sigkill to (?P<pid>\d+) \((?P<comm>.*?)\), adj"),
    ),
    (
        "lowmemorykiller",
        re.compile(
            r"(?:lowmemorykiller: )?Killing '(?P<comm>.*?)' \((?P<pid>\d+)\)(?: \(tgid \d+\))?, adj"
        ),
    ),
)


def parse(lines: Sequence[str]) -> tuple[Event, ...]:
    """The events in ``lines`` of dmesg output, in order; other lines are passed over."""
    return tuple(_events(lines))


def text(line: str) -> str:
    """One line of dmesg output without what stands before the text."""
    return _PREFIX.sub("", line, count=1)


def _events(lines: Sequence[str]) -> Iterator[Event]:
    for number, line in enumerate(lines):
        prefix = _PREFIX.match(line)
        assert prefix is not None  # every part of the prefix is optional
        time_s = float(prefix[1]) if prefix[1] else None
        event = _parse_text(line[prefix.end() :], number, time_s)
        if event is not None:
            yield event


def _parse_text(text: str, line: int, time_s: float | None) -> Event | None:
    """The event that one line's ``text``, its prefix taken off, stands for."""
    if match := _KILL.match(text):
        words = match.groupdict()
        score_field = words.pop("field")
        numbers = {key: int(value) for key, value in words.items() if value}
        return KillEvent(line, time_s, field=score_field, **numbers)
    for pattern, limit_kind in (
        (_TABLE, TableEvent),
        (_EVICT, EvictEvent),
        (_UNKILLABLE, UnkillableEvent),
    ):
        if match := pattern.match(text):
            return limit_kind(line, time_s, **{k: int(v) for k, v in match.groupdict().items()})
    for pattern, death_kind in ((_SHARER, SharerEvent), (_CONFIRM, ConfirmEvent)):
        if match := pattern.match(text):
            return death_kind(line, time_s, pid=int(match["pid"]), comm=match["comm"])
    for killer, pattern in _OTHERS:
        if match := pattern.match(text):
            return OtherKillEvent(line, time_s, killer, int(match["pid"]), match["comm"])
    return None


E = TypeVar("E", bound=Event)


def of_kind(events: Sequence[Event], kind: type[E]) -> tuple[E, ...]:
    """The events of one kind, in order."""
    return tuple(event for event in events if isinstance(event, kind))


@dataclass(frozen=True)
class LogSlice:
    """The log of one case: the lines between its two markers."""

    lines: tuple[str, ...]
    start_time_s: float | None

    @property
    def events(self) -> tuple[Event, ...]:
        return parse(self.lines)


def marker(edge: str, name: str, token: str) -> str:
    """The line that marks the ``edge`` (``start`` or ``end``) of case ``name``.

    ``token`` is unique to one run of one case, so an earlier run's log in the
    same boot is never taken for this one's.
    """
    return f"mm-harness: {edge} {name} {token}"


def slice_log(text: str, name: str, token: str) -> LogSlice:
    """Cut the lines of one case out of dmesg output.

    Raises HarnessError if a marker is not there: a log that has overflowed has
    lost lines, and a case must not pass on what cannot be read.
    """
    lines = text.splitlines()
    start = _find_marker(lines, marker("start", name, token))
    end = _find_marker(lines, marker("end", name, token))
    if start is None:
        raise HarnessError(
            f"scenario {name}: its start marker is not in the kernel log",
            hint="the log overflowed; give the kernel a larger one (log_buf_len=4M in 'append')",
            details=lines[:5],
        )
    if end is None or end < start:
        raise HarnessError(
            f"scenario {name}: its end marker is not in the kernel log",
            hint="is /dev/kmsg writable, and does dmesg show all of the log?",
            details=lines[-5:],
        )
    prefix = _PREFIX.match(lines[start])
    time_s = float(prefix[1]) if prefix and prefix[1] else None
    return LogSlice(tuple(lines[start + 1 : end]), time_s)


def _find_marker(lines: Sequence[str], text: str) -> int | None:
    for number, line in enumerate(lines):
        if line.rstrip().endswith(text):
            return number
    return None
