# SPDX-License-Identifier: GPL-2.0-only
"""A page of what happened: for each case a picture, who was chosen among whom, and the log.

Made from the results (``--results``) alone, so that an old file makes the same page.  One
file: nothing is loaded from elsewhere, and it is read without JavaScript.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.kmsg import KillEvent, parse
from harness.show.report import write_text

TEMPLATE = Path(__file__).with_name("page.html.j2")

# How many users a picture shows.
USERS = 4
# How many processes a picture tells apart; the others are one band.
BANDS = 10
# How many candidates a table shows, and how many tables a case has.
ROWS, TABLES = 12, 5
LOG_LINES = 400

# In the SVG this stands for the page's own colour of text, which depends on its scheme.
INK = "#010203"
LIMIT, KILL = "#d62728", "#d62728"


def write_page(path: Path, data: Mapping[str, Any]) -> None:
    """Write the page for results; raises HarnessError naming the file."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    write_text(path, template.render(run=data, cases=[_case(case) for case in data["cases"]]))


def _case(case: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs of a case."""
    log = case.get("log", [])
    return {
        **case,
        "title": f"{case['name']} ({case['policy']})",
        "picture": _picture(case),
        "tables": [_table(rows) for rows in case.get("rankings", [])[:TABLES]],
        "more_tables": max(len(case.get("rankings", [])) - TABLES, 0),
        "log_lines": _log(log),
        "detail_lines": [line for line in case.get("detail", "").splitlines() if line],
        "reproduce": case.get("reproduce", ""),
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"rows": rows[:ROWS], "more": max(len(rows) - ROWS, 0)}


def _log(lines: Sequence[str]) -> list[dict[str, Any]]:
    """The last lines, each with whether it bears on a kill."""
    marked = {event.line for event in parse(lines)}
    numbered = list(enumerate(lines))[-LOG_LINES:]
    return [{"text": line, "marked": number in marked} for number, line in numbered]


def _picture(case: Mapping[str, Any]) -> str:
    """The SVG of a case's timeline, empty if nothing was written down."""
    samples = case.get("samples") or {}
    kills = _kills(case)
    uids = _limited(samples, kills)
    if not uids:
        return ""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6 * len(uids) + 0.4), layout="constrained")
    figure.patch.set_alpha(0)
    all_axes = figure.subplots(len(uids), 1, squeeze=False, sharex=True)[:, 0]
    start = min(row[0] for row in samples["processes"])
    for axes, uid in zip(all_axes, uids, strict=True):
        _draw(axes, samples, uid, [kill for kill in kills if kill.uid == uid], start)
    all_axes[-1].set_xlabel("seconds since the first process was started", color=INK)
    out = io.StringIO()
    # The same results make the same page.
    with rc_context({"svg.hashsalt": "page"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _embed(out.getvalue(), case)


def _embed(svg: str, case: Mapping[str, Any]) -> str:
    """The SVG as a part of a page: with its text in the page's colour and names of its own."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    prefix = re.sub(r"\W", "-", str(case.get("id", case["name"])))
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\1{prefix}-", svg)
    label = html.escape(f"memory over time, {case['name']}", quote=True)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _limited(samples: Mapping[str, Any], kills: Sequence[KillEvent]) -> list[int]:
    """The users that had a limit and a process, those with kills first."""
    having = {row[1] for row in samples.get("processes", [])}
    limited = [kill.uid for kill in kills] + [row[1] for row in samples.get("limits", [])]
    return [uid for uid in dict.fromkeys(limited) if uid in having][:USERS]


def _kills(case: Mapping[str, Any]) -> list[KillEvent]:
    return [event for event in parse(case.get("log", [])) if isinstance(event, KillEvent)]


def _draw(
    axes: Any, samples: Mapping[str, Any], uid: int, kills: Sequence[KillEvent], start: float
) -> None:
    """One user: its processes on each other, the limit, and each kill."""
    rows = [row for row in samples["limits"] if row[1] == uid]
    processes = [row for row in samples["processes"] if row[1] == uid]
    times = sorted({row[0] for row in processes} | {row[0] for row in rows})
    names, bands = _bands(processes, times)
    axes.stackplot([time - start for time in times], bands, labels=names, alpha=0.75, step="post")
    # A limit may be set, and somebody killed for it, between two samples.
    limits = sorted(
        [(row[0], row[2]) for row in rows]
        + [(kill.time_s, kill.mm_max) for kill in kills if kill.time_s is not None]
    )
    axes.step(
        [time - start for time, _ in limits] + [times[-1] - start],
        [limit / 1e6 for _, limit in limits] + [limits[-1][1] / 1e6],
        where="post",
        color=LIMIT,
        linestyle="--",
        label="limit",
    )
    for kill in kills[:60]:
        if kill.time_s is not None:
            axes.axvline(kill.time_s - start, color=KILL, linewidth=0.8)
            axes.plot(kill.time_s - start, kill.user_rss / 1e6, "x", color=KILL, markersize=8)
    axes.set_title(f"user {uid}, {len(kills)} killed", loc="left", color=INK, fontsize=10)
    axes.set_ylabel("MB", color=INK)
    axes.set_ylim(bottom=0)
    axes.tick_params(colors=INK)
    axes.patch.set_alpha(0)
    for spine in axes.spines.values():
        spine.set_color(INK)
    legend = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, framealpha=0)
    for text in legend.get_texts():
        text.set_color(INK)


def _bands(
    processes: Sequence[Sequence[Any]], times: Sequence[float]
) -> tuple[list[str], list[list[float]]]:
    """Names of the largest processes and what each had at each time, in MB; the rest last."""
    had: dict[int, dict[float, float]] = {}
    names: dict[int, str] = {}
    for time, _, pid, rss, comm in processes:
        had.setdefault(pid, {})[time] = rss / 1e6
        names[pid] = f"{comm} {pid}"
    largest = sorted(had, key=lambda pid: -max(had[pid].values()))
    shown, rest = largest[:BANDS], largest[BANDS:]
    bands = [[had[pid].get(time, 0.0) for time in times] for pid in shown]
    labels = [names[pid] for pid in shown]
    if rest:
        bands.append([sum(had[pid].get(time, 0.0) for pid in rest) for time in times])
        labels.append(f"{len(rest)} more")
    return labels, bands
