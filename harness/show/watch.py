# SPDX-License-Identifier: GPL-2.0-only
"""A live view of a guest: users, how much of their limit they have, and kills as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness import kmsg
from harness.errors import HarnessError
from harness.kmsg import KillEvent
from harness.users import user_name

BAR_WIDTH = 30
KILLS_SHOWN = 8
SEPARATOR = "--"

# A run of the guest's shell shows it all.  The log is asked for the kills only, which are
# few; all of it may be a megabyte.
SCRIPT = (
    "cat /proc/mm_limits && echo -- && dmesg | grep 'uRSS=.*pRSS='; echo --; "
    "grep MemAvailable /proc/meminfo; true"
)


@dataclass(frozen=True)
class Row:
    """A user's limit and what it has, in bytes."""

    uid: int
    limit: int
    usage: int
    policy: str
    kills: int
    last: str

    @property
    def over(self) -> bool:
        return self.usage > self.limit


@dataclass(frozen=True)
class View:
    """What was seen at one time."""

    rows: tuple[Row, ...]
    kills: tuple[KillEvent, ...]
    free_kb: int | None = None


def parse(output: str) -> View:
    """What SCRIPT has printed; HarnessError if that is something else."""
    parts = output.split(f"{SEPARATOR}\n")
    if len(parts) != 3 or not parts[0].startswith("uid\t"):
        raise HarnessError(
            "the guest does not tell its limits",
            hint="is /proc/mm_limits there, in a kernel with the series?",
            details=output.splitlines()[:3],
        )
    free = parts[2].split()
    events = kmsg.parse(parts[1].splitlines())
    return View(
        rows=tuple(_row(line) for line in parts[0].splitlines()[1:]),
        kills=tuple(event for event in events if isinstance(event, KillEvent)),
        free_kb=int(free[1]) if len(free) > 1 else None,
    )


def _row(line: str) -> Row:
    uid, limit, usage, policy, kills, pid, comm = line.split("\t")
    last = f"{comm} ({pid})" if int(kills) else ""
    return Row(int(uid), int(limit), int(usage), policy, int(kills), last)


def render(view: View) -> RenderableType:
    """The view as a person reads it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("user", no_wrap=True)
    table.add_column("", min_width=10, max_width=BAR_WIDTH)
    for heading in ("has", "limit"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("killed", justify="right")
    table.add_column("last", no_wrap=True)
    for row in view.rows:
        table.add_row(
            user_name(row.uid),
            _bar(row),
            Text(_size(row.usage), style="red" if row.over else ""),
            _size(row.limit),
            str(row.kills),
            row.last,
        )
    parts: list[RenderableType] = [_headline(view), table]
    if not view.rows:
        parts.append(Text("no user has a limit: mmlimit set u0_a70 100M", style="dim"))
    if view.kills:
        parts += [Text(""), Text("\n".join(kill_line(one) for one in view.kills[-KILLS_SHOWN:]))]
    return Group(*parts)


def kill_line(kill: KillEvent) -> str:
    """A kill in words."""
    time = f"{kill.time_s:9.1f} s  " if kill.time_s is not None else ""
    score = f", {kill.field} {kill.score}" if kill.field is not None else ""
    return (
        f"{time}{user_name(kill.uid)} had {_size(kill.user_rss)} of {_size(kill.mm_max)}:"
        f" process {kill.pid} with {_size(kill.process_rss)} was killed{score}"
    )


def _headline(view: View) -> Text:
    policies: Sequence[str] = sorted({row.policy for row in view.rows})
    policy = f"policy {', '.join(policies)}; " if policies else ""
    free = f"{view.free_kb / 1000:.0f} MB available" if view.free_kb is not None else ""
    return Text(f"{policy}{free}", style="dim")


def _bar(row: Row) -> ProgressBar:
    style = "red" if row.over or row.usage > row.limit * 0.9 else "green"
    return ProgressBar(
        total=max(row.limit, 1),
        completed=min(row.usage, row.limit),
        complete_style=style,
        finished_style=style,
    )


def _size(size: int) -> str:
    """Bytes as a person reads them, in powers of 1000 as the scenarios use."""
    return f"{size / 1e6:.1f} MB"
