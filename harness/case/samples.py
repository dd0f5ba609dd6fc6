# SPDX-License-Identifier: GPL-2.0-only
"""Who had how much while a case ran, as mm_sample wrote it down in the guest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class LimitSample:
    """A row of /proc/mm_limits: ``time_s`` since boot, sizes in bytes."""

    time_s: float
    uid: int
    limit: int
    usage: int


@dataclass(frozen=True)
class ProcessSample:
    """What a process of an app's user had: ``time_s`` since boot, ``rss`` in bytes."""

    time_s: float
    uid: int
    pid: int
    rss: int
    comm: str


@dataclass(frozen=True)
class Samples:
    """All that was written down, in the order of time."""

    limits: tuple[LimitSample, ...] = ()
    processes: tuple[ProcessSample, ...] = ()


def parse_samples(lines: Iterable[str]) -> Samples:
    """The lines of mm_sample; one that was cut off as it was ended is passed over."""
    limits, processes = [], []
    for line in lines:
        kind, _, rest = line.partition(" ")
        words = rest.split(" ", 4)
        numbers = words[:4]
        if len(numbers) < 4 or not all(word.isdigit() for word in numbers):
            continue
        time, uid, first, second = (int(word) for word in numbers)
        if kind == "L" and len(words) == 4:
            limits.append(LimitSample(time / 1000, uid, first, second))
        elif kind == "P" and len(words) == 5:
            processes.append(ProcessSample(time / 1000, uid, first, second, words[4]))
    return Samples(tuple(limits), tuple(processes))
