# SPDX-License-Identifier: GPL-2.0-only
"""Judges one case: a pure function from what was observed to a verdict.

There is no device here, so the judge is tested on recorded logs.  It is a list
of small checks; each compares one thing that the scenario expects with what the
kernel log, the programs and the guest's state show.  A check that has nothing
to look at is a failure, never a pass.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from harness.case.candidates import Candidate, rankings
from harness.case.evidence import SHARER_SUFFIX, Evidence, Process, read_experiments, read_script
from harness.case.samples import Samples
from harness.case.scenario import Case, KillCount, Step
from harness.device.device import ShellResult
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
    of_kind,
)

SIGKILL = 9

# How much of the log, and how many names, a failure shows.
RELEVANT_LINES = 30
NAMES_SHOWN = 8


class Status(Enum):
    """The outcome of a case, as results files spell it."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Observation:
    """What was seen while one case ran.

    ``table_length`` is how many limits the kernel has room for (None: it need not log
    them), ``candidates`` whom it has looked at, where the scenario asks for that.
    ``splats`` are warnings found in the log of the case, ``leftovers`` what it
    left behind in the guest, both one line each.
    """

    runs: tuple[ShellResult, ...]
    log: LogSlice
    table_length: int | None
    candidates: tuple[Candidate, ...] = ()
    samples: Samples = field(default_factory=Samples)
    taint_before: int = 0
    taint_after: int = 0
    splats: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    expected: str
    seen: str


@dataclass(frozen=True)
class Verdict:
    """The status, what is wrong, and the log lines that bear on it."""

    status: Status
    findings: tuple[Finding, ...]
    kills: tuple[KillEvent, ...]
    log_lines: tuple[str, ...]


@dataclass(frozen=True)
class _Facts:
    """The observation of a case, taken apart once for all checks."""

    case: Case
    seen: Observation

    @cached_property
    def events(self) -> tuple[Event, ...]:
        return self.seen.log.events

    @cached_property
    def evidence(self) -> Evidence:
        outputs = [run.stdout for run in self.seen.runs]
        if self.case.scenario.steps:
            return read_script("".join(outputs))
        return read_experiments(outputs)

    @cached_property
    def kills(self) -> tuple[KillEvent, ...]:
        return of_kind(self.events, KillEvent)

    def group(self, name: str) -> tuple[str, ...]:
        """The names that share memory with ``name``, itself included."""
        groups = self.case.expect.together
        return next((group for group in groups if name in group), (name,))

    @cached_property
    def victims(self) -> tuple[Process, ...]:
        """The processes that kill lines name, as far as the case started them."""
        found = (self.evidence.by_pid(kill.pid) for kill in self.kills)
        return tuple(process for process in found if process is not None)

    @cached_property
    def doomed(self) -> frozenset[int]:
        """Pids of the victims and of all that share memory with one."""
        names = {name for victim in self.victims for name in self.group(victim.name)}
        pids = {victim.pid for victim in self.victims}
        if self.case.expect.together:
            pids |= {one.pid for one in self.evidence.processes if one.name in names}
        return frozenset(pids)


Check = Callable[[_Facts], Iterator[Finding]]


def judge(case: Case, observation: Observation) -> Verdict:
    """Compare what was observed with what the scenario expects of this policy."""
    facts = _Facts(case, observation)
    try:
        checks = _SELF_JUDGED if case.expect.self_judged else _CHECKS
        findings = tuple(finding for check in checks for finding in check(facts))
    except (KeyError, ValueError) as error:
        findings = (Finding("output in the form the program promises", f"unreadable: {error!r}"),)
    return Verdict(
        status=Status.FAILED if findings else Status.PASSED,
        findings=findings,
        kills=facts.kills,
        log_lines=_relevant_lines(facts) if findings else (),
    )


def _relevant_lines(facts: _Facts) -> tuple[str, ...]:
    """The lines with events; the last lines of the log if it has none."""
    lines = facts.seen.log.lines
    numbers = [event.line for event in facts.events] or list(range(len(lines)))
    return tuple(lines[number] for number in numbers[-RELEVANT_LINES:])


# --- what the programs did -------------------------------------------------


def _check_exit_status(facts: _Facts) -> Iterator[Finding]:
    scenario = facts.case.scenario
    wanted = [command.exit for command in scenario.commands] or [0]
    if len(facts.seen.runs) != len(wanted):
        yield Finding(f"{len(wanted)} programs run", f"{len(facts.seen.runs)} did")
    for run, status in zip(facts.seen.runs, wanted, strict=False):
        if run.returncode != status:
            said = (run.stderr.strip() or run.stdout.strip()).splitlines()[-3:]
            words = f", saying {'; '.join(said)}" if said else ""
            yield Finding(f"{run.argv[0]} exits {status}", f"it exits {run.returncode}{words}")


def _check_script_ran(facts: _Facts) -> Iterator[Finding]:
    if not facts.case.scenario.steps:
        return
    for error in facts.evidence.errors:
        yield Finding("every step can be played", error)
    if not facts.evidence.ended:
        yield Finding("the script runs to its end", "mm_play did not print 'done'")


def _check_returns(facts: _Facts) -> Iterator[Finding]:
    """Each system call of a script must return what its step says."""
    steps = [step for step in facts.case.scenario.steps if step.returns]
    seen = facts.evidence.returns
    if not steps:
        yield from _check_experiment_returns(facts)
        return
    if len(steps) != len(seen):
        yield Finding(f"{len(steps)} system calls", f"{len(seen)} were made")
    for step, got in zip(steps, seen, strict=False):
        want = step.returns
        assert want is not None
        right = got.errno == want.errno and got.ret < 0 if want.errno else got.ret == want.ret
        if not right:
            yield Finding(f"'{step.line}' returns {want}", f"{got}")


def _check_experiment_returns(facts: _Facts) -> Iterator[Finding]:
    """The experiments set a limit first, which must succeed."""
    if facts.case.expect.finish is not None and not facts.evidence.returns:
        yield Finding("a set_mm_limits line from the test program", "none")
    for got in facts.evidence.returns:
        if got.ret != 0:
            yield Finding("set_mm_limits returns 0", f"{got}")


def _check_finish(facts: _Facts) -> Iterator[Finding]:
    wanted = facts.case.expect.finish
    if wanted is None:
        return
    seen = sorted(one.size for one in facts.evidence.processes if one.ready and one.size)
    if tuple(seen) != wanted:
        yield Finding(f"finish from the children of {_sizes(wanted)} bytes", _sizes(seen))


def _sizes(sizes: Sequence[int]) -> str:
    return ", ".join(str(size) for size in sizes) or "none"


def _check_tap(facts: _Facts) -> Iterator[Finding]:
    """``ok N``/``not ok N`` lines, in each run as many as its plan ``1..N`` says."""
    if not facts.case.expect.tap:
        return
    for run in facts.seen.runs:
        lines = run.stdout.splitlines()
        name = " ".join(run.argv[:2])
        for line in lines:
            if line.startswith("not ok"):
                yield Finding("every check of the program is ok", f"{name}: {line}")
        checks = sum(1 for line in lines if re.match(r"(?:not )?ok \d+", line))
        plans = [match[1] for line in lines if (match := re.match(r"1\.\.(\d+)$", line))]
        if plans != [str(checks)] or checks == 0:
            seen = f"{name}: {checks} checks, plan {plans}"
            yield Finding("a plan 1..N that matches the checks", seen)


def _check_output(facts: _Facts) -> Iterator[Finding]:
    output = "\n".join(run.stdout for run in facts.seen.runs)
    for text in facts.case.expect.output:
        if text not in output:
            yield Finding(f"'{text}' in the output", output.strip()[-200:] or "no output")


# --- who was killed --------------------------------------------------------


def _check_kills(facts: _Facts) -> Iterator[Finding]:
    """As many kill lines as expected, each for a process that is expected."""
    named: list[tuple[str, KillEvent]] = []
    for kill in facts.kills:
        process = facts.evidence.by_pid(kill.pid)
        if process is None:
            yield Finding("only processes of the scenario are killed", f"a kill of pid {kill.pid}")
        else:
            named.append((facts.group(process.name)[0], kill))
    wanted = facts.case.expect.kills
    names = [name for name, _ in named]
    rest = [name for name in names if not any(fnmatch.fnmatchcase(name, one.of) for one in wanted)]
    wrong = [one for one in wanted if not one.min <= _matching(names, one) <= one.max]
    if rest or wrong:
        yield Finding(_who_must_die(wanted), _who_died(names, wrong))
    for count in wanted:
        for name, kill in named:
            right = count.mm_max in (None, kill.mm_max)
            if not right and fnmatch.fnmatchcase(name, count.of):
                seen = f"it was killed for {kill.mm_max}"
                yield Finding(f"{name} is killed for its limit of {count.mm_max}", seen)


def _matching(names: Sequence[str], count: KillCount) -> int:
    return len(fnmatch.filter(names, count.of))


def _who_must_die(wanted: Sequence[KillCount]) -> str:
    if not wanted:
        return "nobody is killed"
    who = " and ".join(str(count) for count in wanted)
    return f"{who} {'is' if len(wanted) == wanted[0].max == 1 else 'are'} killed, nobody else"


def _who_died(names: Sequence[str], wrong: Sequence[KillCount]) -> str:
    """``busy was killed, big was not``"""
    said = [f"{_some(names)} {'were' if len(names) > 1 else 'was'} killed"]
    for count in wrong if names else ():
        number = _matching(names, count)
        said.append(f"that is {number} of {count.of}" if number else f"{count.of} was not")
    return ", ".join(said)


def _check_some_kill(facts: _Facts) -> Iterator[Finding]:
    """A program with checks of its own says by them whether there must be kills."""
    if not facts.kills and not facts.case.expect.tap:
        yield Finding("kills for the program to judge", "none")


def _some(names: Sequence[str]) -> str:
    """The first names, so that 400 do not fill a screen."""
    shown = ", ".join(names[:NAMES_SHOWN]) or "nobody"
    more = len(names) - NAMES_SHOWN
    return f"{shown}, … {more} more" if more > 0 else shown


def _check_was_over(facts: _Facts) -> Iterator[Finding]:
    for kill in facts.kills:
        if kill.user_rss <= kill.mm_max:
            yield Finding(f"uRSS > mm_max for pid {kill.pid}", f"{kill.user_rss} <= {kill.mm_max}")


def _check_kill_lines(facts: _Facts) -> Iterator[Finding]:
    """Each kill line must be consistent in itself and with the limits set."""
    limits = {
        (got.uid, got.mm_max)
        for got in facts.evidence.returns
        if got.call == "limit" and got.ret >= 0
    }
    fields = {facts.case.policies[killer].field for killer in facts.case.killers}
    for kill in facts.kills:
        if not 0 < kill.process_rss <= kill.user_rss:
            yield Finding(f"0 < pRSS <= uRSS for pid {kill.pid}", f"pRSS={kill.process_rss}")
        if (kill.uid, kill.mm_max) not in limits:
            yield Finding("uid and mm_max of a limit that was set", _kill_text(kill))
        process = facts.evidence.by_pid(kill.pid)
        if process and process.uid is not None and process.uid != kill.uid:
            yield Finding(f"uid={process.uid} for {process}", f"uid={kill.uid}")
        if kill.field not in fields:
            wanted = " or ".join(sorted(str(field) for field in fields)) or "no killer"
            yield Finding(f"score field: {wanted}", f"{kill.field} for pid {kill.pid}")


def _kill_text(kill: KillEvent) -> str:
    return f"uid={kill.uid} mm_max={kill.mm_max} pid={kill.pid}"


def _check_overshoot(facts: _Facts) -> Iterator[Finding]:
    bound = facts.case.expect.overshoot
    if bound is None or not facts.kills:
        return
    worst = max(facts.kills, key=lambda kill: kill.user_rss - kill.mm_max)
    over = worst.user_rss - worst.mm_max
    if over > bound:
        yield Finding(f"never over the limit by more than {bound} bytes", f"{over} bytes over it")


def _check_within(facts: _Facts) -> Iterator[Finding]:
    """The first kill comes in time.

    Counted from the start marker, which is written before the user can be over
    its limit: stricter than counting from there, and needs no clock in the guest.
    """
    within = facts.case.expect.within_s
    if within is None or not facts.kills:
        return
    start, kill = facts.seen.log.start_time_s, facts.kills[0].time_s
    if start is None or kill is None:
        yield Finding("a kernel log with times", "no time (CONFIG_PRINTK_TIME is off)")
    elif kill - start > within:
        yield Finding(f"a kill within {within:g} s", f"after {kill - start:.2f} s")


def _check_deaths(facts: _Facts) -> Iterator[Finding]:
    """Whom the log says to be killed is dead by SIGKILL; all others live, with
    all the memory they asked for."""
    spawns = any(step.verb == "spawn" for step in facts.case.scenario.steps)
    if not facts.evidence.processes and (spawns or facts.case.expect.kills):
        yield Finding("processes started", "none")
    for one in facts.evidence.processes:
        if one.pid in facts.doomed:
            if (one.state, one.value) != ("signaled", SIGKILL):
                yield Finding(f"{one} dead by SIGKILL", _state_text(one))
        elif one.dead or not one.state:
            yield Finding(f"{one} alive", _state_text(one))
        elif not one.ready and not one.name.endswith(SHARER_SUFFIX):
            yield Finding(f"{one} touches all its memory", "it did not say so")


def _state_text(process: Process) -> str:
    if process.state == "signaled":
        return f"killed by signal {process.value}"
    if process.state == "exited":
        return f"exited {process.value}"
    return process.state or "no state reported"


def _check_growth(facts: _Facts) -> Iterator[Finding]:
    """A process that grows and survives has grown to the end."""
    for step in facts.case.scenario.steps:
        if step.verb != "grow":
            continue
        name = step.operands[0]
        killed = any(victim.name == name for victim in facts.victims)
        if not killed and name not in facts.evidence.grown:
            yield Finding(f"{name} grows by {step.options['bytes']} bytes", "it did not say so")


def _check_sharers(facts: _Facts) -> Iterator[Finding]:
    """One sharer line for each process that dies with a victim, and no other."""
    victims = {victim.pid for victim in facts.victims}
    wanted = sorted(facts.doomed - victims)
    seen = sorted(event.pid for event in of_kind(facts.events, SharerEvent))
    if wanted != seen:
        text = f"there are lines for pids {seen}" if seen else "there are none"
        yield Finding(f"'sharing same memory' lines for pids {wanted}", text)


def _check_highest(facts: _Facts) -> Iterator[Finding]:
    """Nobody that a walk left alone has more than somebody that it chose."""
    what = facts.case.expect.highest
    if what is None:
        return
    walks = rankings(facts.seen.candidates)
    chosen = {one.pid for walk in walks for one in walk.chosen}
    for kill in facts.kills:
        if kill.pid not in chosen:
            yield Finding(
                f"pid {kill.pid} among the traced candidates", "no event says it is chosen"
            )
    if not facts.kills:
        yield Finding("a kill, to see whom the policy chooses", "none")
    for walk in walks:
        least = min(walk.chosen, key=lambda one: _value(one, what))
        for other in walk.others:
            if _value(other, what) > _value(least, what):
                yield Finding(
                    f"who is killed has the highest {what}",
                    f"{least.comm} (pid {least.pid}) with {_value(least, what)} was chosen,"
                    f" {other.comm} (pid {other.pid}) has {_value(other, what)}",
                )


def _value(candidate: Candidate, what: str) -> int:
    return candidate.rss if what == "rss" else candidate.score


def _check_confirmed(facts: _Facts) -> Iterator[Finding]:
    """The kernel confirms no kill that our log line does not announce before it.

    They are matched by their order: the kernel's own line has the pid of the
    thread that it found, which is not the process's where the leader has exited.
    """
    announced = 0
    for event in facts.events:
        if isinstance(event, KillEvent):
            announced += 1
        elif isinstance(event, ConfirmEvent):
            announced -= 1
            if announced < 0:
                yield Finding("a log line of ours before each kill", f"none for pid {event.pid}")
                return


def _check_unkillable(facts: _Facts) -> Iterator[Finding]:
    wanted = facts.case.expect.unkillable
    seen = len(of_kind(facts.events, UnkillableEvent))
    if seen != wanted:
        yield Finding(f"{wanted} 'no killable process' lines", f"{seen} such lines")


def _check_other_killers(facts: _Facts) -> Iterator[Finding]:
    for event in of_kind(facts.events, OtherKillEvent):
        seen = f"{event.killer} killed {event.comm} (pid {event.pid})"
        yield Finding("no other killer acts", seen)


def _check_settled(facts: _Facts) -> Iterator[Finding]:
    """Between the reports nothing has changed: the user was within its limit."""
    if not facts.case.expect.settled:
        return
    reports = facts.evidence.reports
    if len(reports) < 2:
        yield Finding("at least two reports", f"there were {len(reports)}")
    for name in reports[0] if reports else ():
        states = [report.get(name, "gone") for report in reports]
        if len(set(states)) > 1:
            yield Finding(f"{name} unchanged between the reports", " → ".join(states))


# --- the table -------------------------------------------------------------


def _check_table(facts: _Facts) -> Iterator[Finding]:
    """The table that each successful call logs is the one a model predicts.

    This is also how a failed call is seen to leave the table as it was: the next
    successful call logs all of it.  What follows the script's last call is its
    clean-up, which may come in any order.
    """
    steps = [step for step in facts.case.scenario.steps if step.verb == "limit"]
    if not steps or facts.seen.table_length is None:
        return
    wanted, evicted = _model_table(steps, _uids(facts), facts.seen.table_length)
    seen = [(event.uid, event.mm_max) for event in of_kind(facts.events, TableEvent)]
    for number, entry in enumerate(wanted):
        got = seen[number] if number < len(seen) else None
        if got != entry:
            yield Finding(
                f"table line {number + 1}: uid={entry[0]},mm_max={entry[1]}",
                f"uid={got[0]},mm_max={got[1]}" if got else "no such line",
            )
            break
    gone = [(event.uid, event.mm_max) for event in of_kind(facts.events, EvictEvent)]
    if gone != evicted:
        yield Finding(f"evicted: {evicted or 'nobody'}", f"{gone or 'nobody'}")


def _uids(facts: _Facts) -> dict[str, int]:
    """User name to uid, from the limit lines, which are in the order of the steps."""
    steps = [step for step in facts.case.scenario.steps if step.returns]
    pairs = zip(steps, facts.evidence.returns, strict=False)
    return {step.operands[0]: got.uid for step, got in pairs if got.uid is not None}


def _model_table(
    steps: Sequence[Step], uids: dict[str, int], length: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The lines that the calls of ``steps`` log if each returns what it should, and
    the evicted entries; the table has room for ``length``.

    Root's call logs the table and makes the entry root's and the youngest.  An app's
    logs its own entry, which stays where it was; one that it has set first itself is
    given up before any of root's.
    """
    table: dict[int, int] = {}  # a dict keeps its order: least recently set first
    by_apps: set[int] = set()
    lines: list[tuple[int, int]] = []
    evicted: list[tuple[int, int]] = []
    for step in steps:
        if step.returns is None or step.returns.errno:
            continue
        uid = uids.get(step.operands[0], -1)
        by_root = step.options.get("as", "root") == "root"
        if by_root:
            table.pop(uid, None)
            by_apps.discard(uid)
        elif uid not in table:
            by_apps.add(uid)
        if "bytes" in step.options:
            if uid not in table and len(table) == length:
                oldest = next((one for one in table if one in by_apps), next(iter(table)))
                by_apps.discard(oldest)
                evicted.append((oldest, table.pop(oldest)))
            table[uid] = int(step.options["bytes"])
        lines.extend(table.items() if by_root else [(uid, table[uid])])
    return lines, evicted


def _check_after_kills(facts: _Facts) -> Iterator[Finding]:
    """Every kill was logged before the table that a later call logged.

    So the call that made the killer run had finished killing when it returned.
    """
    if facts.seen.table_length is None:
        return
    uids = _uids(facts)
    for step in facts.case.scenario.steps:
        if not step.after_kills:
            continue
        uid = uids.get(step.operands[0])
        fence = next(
            (event for event in of_kind(facts.events, TableEvent) if event.uid == uid), None
        )
        if fence is None:
            yield Finding(f"a table line for {step.operands[0]}", "none")
            continue
        late = [kill for kill in facts.kills if kill.line > fence.line]
        if late:
            yield Finding("all kills before the next call", f"{len(late)} after it")


# --- the guest -------------------------------------------------------------


def _check_guest(facts: _Facts) -> Iterator[Finding]:
    """The kernel is as healthy as before and nothing is left behind."""
    seen = facts.seen
    if seen.taint_before != seen.taint_after:
        yield Finding(f"taint flags {seen.taint_before}", f"{seen.taint_after}")
    for splat in seen.splats:
        yield Finding("no warning in the kernel log", splat)
    for leftover in seen.leftovers:
        yield Finding("nothing left behind", leftover)


_CHECKS: tuple[Check, ...] = (
    _check_exit_status,
    _check_script_ran,
    _check_returns,
    _check_kills,
    _check_was_over,
    _check_kill_lines,
    _check_highest,
    _check_within,
    _check_overshoot,
    _check_deaths,
    _check_growth,
    _check_finish,
    _check_sharers,
    _check_confirmed,
    _check_unkillable,
    _check_other_killers,
    _check_settled,
    _check_after_kills,
    _check_table,
    _check_tap,
    _check_output,
    _check_guest,
)

# For programs that judge each kill themselves.
_SELF_JUDGED: tuple[Check, ...] = (
    _check_exit_status,
    _check_some_kill,
    _check_was_over,
    _check_overshoot,
    _check_tap,
    _check_confirmed,
    _check_other_killers,
    _check_output,
    _check_guest,
)
