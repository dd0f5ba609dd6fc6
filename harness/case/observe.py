# SPDX-License-Identifier: GPL-2.0-only
"""Plays a case in a guest and collects what the judge looks at.

A case must leave the guest as it found it: no process of an app user, no daemon, no
limit, both modules loaded.
"""

from __future__ import annotations

import re
import secrets
import shlex
import time
from dataclasses import replace

from harness.case.guest import (
    COMMAND_TIMEOUT_S,
    GUEST_DIR,
    SCRIPT_PLAYER,
    Guest,
    GuestState,
)
from harness.case.judge import Observation
from harness.case.samples import Samples
from harness.case.scenario import Case, Command, Scenario
from harness.errors import HarnessError
from harness.kmsg import LogSlice, TableEvent, marker, of_kind, slice_log
from harness.splat import scan
from harness.users import APP_UIDS

DAEMON = "oom_daemonARM"

# No scenario uses this user; its limit, set twice, shows what else is in the table.
SWEEP_USER = "u0_a199"
SWEEP_UID = 10199
SWEEP_BYTES = 4_000_000_000

# What a killed process may take to go, its memory being freed page by page.
SETTLE_S = 2.0


def observe(guest: Guest, case: Case) -> Observation:
    """Play one case and collect everything the judge looks at."""
    scenario = case.scenario
    commands = [_argv(guest, case, command) for command in _commands(scenario)]
    for program in (SCRIPT_PLAYER, *([DAEMON] if scenario.daemon else [])):
        guest.path(program)  # pushed now, so as not to lie between the markers
    token = secrets.token_hex(8)

    traced = bool(case.expect.highest) or (guest.evidence and guest.has_trace)
    sampler = guest.start_samples() if guest.evidence else None
    policy = None if scenario.compiled_in else case.policy
    guest.begin(policy, marker("start", scenario.name, token), traced=traced)
    if not scenario.modules_loaded:
        guest.unload_modules()
    daemon_pid = _start_daemon(guest, scenario) if scenario.daemon else None
    runs = [
        replace(guest.device.shell(argv, timeout=case.timeout, user=user), argv=shown)
        for user, argv, shown in commands
    ]
    if daemon_pid is not None:
        guest.device.shell(
            ["kill", "-TERM", str(daemon_pid)], timeout=COMMAND_TIMEOUT_S, urgent=True
        )
    after, leftovers = _settle(guest, scenario, daemon_pid)
    if not guest.missing_modules(after):
        guest.reload_modules()  # so that the sweep is logged
    whole, candidates = guest.end(
        marker("end", scenario.name, token), sweep=_sweep(scenario), traced=traced
    )
    samples = guest.stop_samples(sampler) if sampler is not None else Samples()

    guest.device.check()
    log = slice_log(whole, scenario.name, token)
    return Observation(
        runs=tuple(runs),
        log=log,
        table_length=guest.table_length,
        candidates=candidates,
        samples=samples,
        taint_before=guest.before.taint,
        taint_after=after.taint,
        splats=tuple(f"{one.kind}: {one.line}" for one in scan(log.lines)),
        leftovers=(*leftovers, *_leftover_limits(log)),
    )


def _commands(scenario: Scenario) -> tuple[Command, ...]:
    """What to run: the experiments, or mm_play with the script."""
    return scenario.commands or (Command(SCRIPT_PLAYER),)


def _argv(
    guest: Guest, case: Case, command: Command
) -> tuple[str | None, list[str], tuple[str, ...]]:
    """The user, what to say to the guest, and what people are told that this was.

    A script comes with the command that plays it.
    """
    args = (guest.path(arg[1:]) if arg.startswith("@") else arg for arg in case.arguments(command))
    program = guest.path(command.program)
    if not case.scenario.steps:
        argv = [program, *args]
        return command.user, argv, tuple(argv)
    script = f"{GUEST_DIR}/{case.scenario.name}.play"
    lines = shlex.quote(case.scenario.script)
    play = f"printf %s {lines} > {script} && exec {program} {script}"
    return command.user, ["sh", "-c", play], (program, script)


def _start_daemon(guest: Guest, scenario: Scenario) -> int:
    daemon = scenario.daemon
    assert daemon is not None
    result = guest.command(
        guest.path(DAEMON),
        str(daemon.seconds),
        str(daemon.type),
        what=f"starting {DAEMON}",
        urgent=False,
    )
    match = re.search(r"pid=(\d+)", result.stdout)
    if match is None:
        raise HarnessError(f"{DAEMON} did not say its pid", details=result.stdout.splitlines())
    return int(match[1])


def _sweep(scenario: Scenario) -> list[str]:
    """A script that removes the limits of the case's users, then logs what the table holds.

    The kernel logs the table only when a limit is set.  SWEEP_USER's is set
    twice, so that the lines between are exactly what was left (_leftover_limits).
    """
    lines = [f"limit {user} remove" for user in scenario.users]
    return lines + [f"limit {SWEEP_USER} bytes={SWEEP_BYTES}"] * 2


def _leftover_limits(log: LogSlice) -> tuple[str, ...]:
    table = of_kind(log.events, TableEvent)
    sweeps = [number for number, event in enumerate(table) if event.uid == SWEEP_UID]
    if len(sweeps) < 2:
        return ("the table of limits could not be read",)
    left = table[sweeps[-2] + 1 : sweeps[-1]]
    return tuple(f"limit uid={event.uid},mm_max={event.mm_max}" for event in left)


def _settle(
    guest: Guest, scenario: Scenario, daemon_pid: int | None
) -> tuple[GuestState, tuple[str, ...]]:
    """Wait for the dying to go; the state then, and what is not as it was.

    Where other apps come and go, only the scenario's users are looked at.
    """
    deadline = time.monotonic() + SETTLE_S
    uids = scenario.app_uids if guest.device.shared else APP_UIDS
    while True:
        state = guest.state()
        new_apps = state.app_pids() - guest.before.app_pids()
        left = [
            f"process {one.name} (pid {one.pid}, uid {one.uid})"
            for one in state.processes
            if (one.pid in new_apps and one.uid in uids) or one.pid == daemon_pid
        ]
        left += [f"module {name} is not loaded" for name in guest.missing_modules(state)]
        if not left or time.monotonic() > deadline:
            return state, tuple(left)
        time.sleep(0.1)
