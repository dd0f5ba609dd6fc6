# SPDX-License-Identifier: GPL-2.0-only
"""Why this one and not that one: the candidates of a kill, as a table for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from harness.case.candidates import CANDIDATE, CHOSEN, Candidate, Ranking, rankings
from harness.case.run import CaseResult
from harness.policies import Policy

# Who comes behind these is not what a reader looks for.
ROWS_SHOWN = 12
WALKS_SHOWN = 3


def tables(result: CaseResult) -> Iterator[Table | str]:
    """A table for each of the first kills of a case, and how many more there were."""
    walks = rankings(result.candidates)
    policy = result.case.policies[result.case.policy]
    for walk in walks[:WALKS_SHOWN]:
        yield _table(walk, policy, title=f"{result.case.scenario.name}: whom {policy.name} chose")
    if len(walks) > WALKS_SHOWN:
        yield f"… and {len(walks) - WALKS_SHOWN} more"


def _table(walk: Ranking, policy: Policy, *, title: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    table.add_column("process")
    for heading in ("pid", "memory", policy.field or "score"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for one in walk.rows[:ROWS_SHOWN]:
        table.add_row(*_row(one), style="bold red" if one.fate == CHOSEN else None)
    if len(walk.rows) > ROWS_SHOWN:
        table.add_row(f"… {len(walk.rows) - ROWS_SHOWN} more")
    return table


def _row(one: Candidate) -> tuple[str, ...]:
    scored = one.fate in (CHOSEN, CANDIDATE)
    what = {CHOSEN: "killed", CANDIDATE: ""}.get(one.fate, f"spared: {one.fate}")
    return (
        one.comm,
        str(one.pid),
        f"{one.rss / 1e6:.1f} MB",
        str(one.score) if scored else "",
        what,
    )
