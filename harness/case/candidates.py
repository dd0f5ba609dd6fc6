# SPDX-License-Identifier: GPL-2.0-only
"""Whom the kernel looked at before each kill, and what it made of them.

The log says who was killed, not why this one.  The trace event oom:user_oom_candidate
has each process of each walk with its memory and its score, as they were when the
kernel decided.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CHOSEN = "chosen"
CANDIDATE = "candidate"
EVENT = "events/oom/user_oom_candidate"

_LINE = re.compile(
    r" user_oom_candidate: walk=(?P<walk>\d+) uid=(?P<uid>\d+) pid=(?P<pid>\d+)"
    r" rss=(?P<rss>\d+) score=(?P<score>-?\d+) fate=(?P<fate>\S+) comm=(?P<comm>.*)$"
)


@dataclass(frozen=True)
class Candidate:
    """One process in one walk over those of a user; ``rss`` in bytes.

    ``score`` is what the policy made of it, in the policy's unit; 0 for a process that
    was not scored.  ``fate`` is ``candidate``, ``chosen``, or why it was spared.
    """

    walk: int
    uid: int
    pid: int
    rss: int
    score: int
    fate: str
    comm: str


@dataclass(frozen=True)
class Ranking:
    """A walk that chose somebody: the chosen first, then the others by falling score."""

    chosen: tuple[Candidate, ...]
    others: tuple[Candidate, ...]
    spared: tuple[Candidate, ...]

    @property
    def rows(self) -> tuple[Candidate, ...]:
        """All of them, in the order in which people read them."""
        return (*self.chosen, *self.others, *self.spared)


def parse_trace(lines: Iterable[str]) -> tuple[Candidate, ...]:
    """The candidates in the lines of a trace file; other lines are passed over."""
    return tuple(
        Candidate(
            walk=int(match["walk"]),
            uid=int(match["uid"]),
            pid=int(match["pid"]),
            rss=int(match["rss"]),
            score=int(match["score"]),
            fate=match["fate"],
            comm=match["comm"],
        )
        for line in lines
        if (match := _LINE.search(line))
    )


def rankings(candidates: Sequence[Candidate]) -> tuple[Ranking, ...]:
    """The walks that chose somebody, in their order."""
    walks: dict[int, list[Candidate]] = {}
    for one in candidates:
        walks.setdefault(one.walk, []).append(one)
    ranked = (_rank(walk) for walk in walks.values())
    return tuple(one for one in ranked if one.chosen)


def _rank(walk: Sequence[Candidate]) -> Ranking:
    """A process that was judged has a second event, which says what came of it."""
    last = {one.pid: one for one in walk}
    by_score = sorted(last.values(), key=lambda one: -one.score)
    return Ranking(
        chosen=tuple(one for one in walk if one.fate == CHOSEN),
        others=tuple(one for one in by_score if one.fate == CANDIDATE),
        spared=tuple(one for one in by_score if one.fate not in (CHOSEN, CANDIDATE)),
    )
