# SPDX-License-Identifier: GPL-2.0-only
"""The cases of a submission: which it claims, each on a guest of its own, and the verdicts.

Its log is read by the contract's pattern and told to the judge in our words, so that the
same scenarios and the same judge decide.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from harness import kmsg
from harness.case.guest import COMMAND_TIMEOUT_S, GUEST_DIR
from harness.case.judge import Observation, Status
from harness.case.observe import DAEMON
from harness.case.run import CaseResult, judged
from harness.case.scenario import Case, Command, Scenario
from harness.case.select import select_cases
from harness.device.device import Device, ShellResult
from harness.errors import GuestCrash, HarnessError
from harness.grade.contract import UNIT_BYTES, Contract
from harness.grade.kernel import Built
from harness.kmsg import LogSlice, marker, slice_log
from harness.splat import scan

EXPERIMENTS = ("kernel", "daemon")
SET_CALL, KILLER_CALL = "MM_SET_MM_LIMITS", "MM_MY_OOM_KILLER"
DYING_SECONDS = 2.0
SIZES = ("uRSS", "mm_max", "pRSS")


@dataclass(frozen=True)
class Plan:
    """What is to be run, and what the contract does not claim."""

    cases: tuple[Case, ...]
    not_claimed: tuple[str, ...]


def plan(contract: Contract, scenarios: Sequence[Scenario]) -> Plan:
    """The six experiments as far as they are claimed, and the scenarios that are."""
    wanted: list[tuple[str, str]] = []
    missing: list[str] = []
    for policy in ("rss", "runtime", "badness"):
        claimed = contract.policies.get(policy)
        for kind, has in zip(
            EXPERIMENTS,
            (
                claimed is not None and claimed.kernel,
                claimed is not None and claimed.type is not None,
            ),
            strict=True,
        ):
            name = f"{kind}-{policy}"
            (wanted.append((name, policy)) if has else missing.append(name))
    cases = [case for name, _ in wanted for case in select_cases(scenarios, names=[name])]
    killing = [name for name, one in contract.policies.items() if one.kernel]
    for name in contract.scenarios:
        chosen = select_cases(scenarios, names=[name], policies=killing)
        cases += [case for case in chosen if case.scenario.steps]
    return Plan(cases=tuple(cases), not_claimed=tuple(missing))


def kernel_policy(case: Case, contract: Contract) -> str:
    """The policy that the kernel of a case is built with."""
    if case.scenario.daemon is None:
        return case.policy
    quiet = [name for name, one in contract.policies.items() if not one.kernel]
    return quiet[0] if quiet else case.scenario.name.removeprefix("daemon-")


def run_case(
    case: Case,
    contract: Contract,
    built: Built,
    *,
    boot: Callable[[], Device],
    programs: Mapping[str, Path],
) -> CaseResult:
    """Boot, load, run and judge one case; whatever the submission does is a verdict."""
    begin = time.monotonic()
    try:
        with closing(boot()) as device:
            result = _examine(case, contract, built, device, programs)
            result = replace(result, console=device.console)
    except GuestCrash as crash:
        result = CaseResult(
            case, Status.CRASHED, 0.0, detail=(crash.what,), log_lines=crash.details
        )
    except HarnessError as error:
        result = CaseResult(case, Status.ERROR, 0.0, detail=(str(error),), log_lines=error.details)
    return replace(result, seconds=time.monotonic() - begin)


def _examine(
    case: Case, contract: Contract, built: Built, device: Device, programs: Mapping[str, Path]
) -> CaseResult:
    guest = _Guest(device, contract, programs)
    for module in built.modules:
        guest.load(module)
    token = secrets.token_hex(8)
    name = case.scenario.name
    guest.say(marker("start", name, token))
    daemon = guest.start_daemon(case) if case.scenario.daemon else None
    runs = tuple(guest.run(case, command) for command in _commands(case, contract))
    if daemon is not None:
        guest.shell("kill", "-TERM", str(daemon))
    time.sleep(min(DYING_SECONDS, 0.2 + contract.period_ms / 1000))
    guest.say(marker("end", name, token))
    whole = guest.shell("dmesg").stdout
    device.check()
    log = slice_log(whole, name, token)
    lines = tuple(translated(log.lines, contract, case, limits=_limits(runs, contract)))
    return judged(
        case,
        Observation(
            runs=runs,
            log=LogSlice(lines, log.start_time_s),
            table_length=None,
            splats=tuple(f"{one.kind}: {one.line}" for one in scan(log.lines)),
        ),
    )


def _commands(case: Case, contract: Contract) -> Iterator[Command]:
    """The programs; a killer with a period needs its time."""
    hold = str(max(2, 3 * contract.period_ms // 1000))
    for command in case.scenario.commands or (Command("mm_play"),):
        args = [
            hold if before == "-t" and case.scenario.daemon is None else word
            for before, word in zip(("", *command.args), command.args, strict=False)
        ]
        yield Command(command.program, tuple(args), command.user, command.exit)


class _Guest:
    """A guest with a stranger's kernel: little is taken for granted."""

    def __init__(self, device: Device, contract: Contract, programs: Mapping[str, Path]) -> None:
        self._device = device
        self._contract = contract
        self._programs = programs
        call = contract.set_mm_limits
        swapped = int(call.arguments[0] == "mm_max")
        self._env = ["env", f"{SET_CALL}={call.number},{swapped},{UNIT_BYTES[call.unit]}"]
        if contract.my_oom_killer is not None:
            self._env.append(f"{KILLER_CALL}={contract.my_oom_killer.number}")

    def shell(self, *argv: str) -> ShellResult:
        return self._device.shell(argv, timeout=COMMAND_TIMEOUT_S, urgent=True)

    def say(self, text: str) -> None:
        self.shell("sh", "-c", f"echo '{text}' > /dev/kmsg")

    def load(self, module: Path) -> None:
        """insmod; if the kernel refuses, its own reason."""
        remote = f"{GUEST_DIR}/{module.name}"
        self._device.push(module, remote)
        done = self.shell("insmod", remote)
        if done.returncode != 0:
            said = self.shell("dmesg").stdout.splitlines()[-6:]
            raise HarnessError(
                f"{module.name} cannot be loaded: {done.stderr.strip()}",
                details=[kmsg.text(line) for line in said],
            )

    def run(self, case: Case, command: Command) -> ShellResult:
        """A program with the contract's calls; what it says is told in our words."""
        argv = [*self._env, self._pushed(command.program), *case.arguments(command)]
        if case.scenario.steps:
            script = f"{GUEST_DIR}/{case.scenario.name}.play"
            quoted = case.scenario.script.replace("'", "'\\''")
            self.shell("sh", "-c", f"printf %s '{quoted}' > {script}")
            argv.append(script)
        done = self._device.shell(argv, timeout=case.timeout, user=command.user)
        shown = (command.program, *argv[len(self._env) + 1 :])
        stdout = _returns(done.stdout, self._contract)
        if case.scenario.daemon is None and self._contract.period_ms:
            stdout = _without_victims_ends(stdout)
        return replace(done, argv=shown, stdout=stdout)

    def start_daemon(self, case: Case) -> int:
        daemon = case.scenario.daemon
        assert daemon is not None
        kind = self._contract.policies[case.scenario.name.removeprefix("daemon-")].type
        argv = [*self._env, self._pushed(DAEMON), str(daemon.seconds), str(kind)]
        said = self._device.shell(argv, timeout=COMMAND_TIMEOUT_S).stdout
        match = re.search(r"pid=(\d+)", said)
        if match is None:
            raise HarnessError(f"{DAEMON} did not start", details=said.splitlines()[-3:])
        return int(match[1])

    def _pushed(self, name: str) -> str:
        remote = f"{GUEST_DIR}/{name}"
        self._device.push(self._programs[name], remote)
        return remote


def _returns(stdout: str, contract: Contract) -> str:
    """What the contract calls success is our 0."""

    def ours(match: re.Match[str]) -> str:
        good = int(match[2]) in contract.set_mm_limits.ok
        return f"{match[1]}{0 if good else match[2]}"

    return re.sub(r"(^set_mm_limits .*?\bret=)(-?\d+)", ours, stdout, flags=re.MULTILINE)


def _without_victims_ends(stdout: str) -> str:
    """A killer that looks from time to time lets its victims finish what they do."""
    victims = set(re.findall(r"^child (pid=\d+) .* killed by signal 9$", stdout, re.MULTILINE))
    return "".join(
        line
        for line in stdout.splitlines(keepends=True)
        if not ((ended := re.match(r"child (pid=\d+) .* finish$", line)) and ended[1] in victims)
    )


def _limits(runs: Sequence[ShellResult], contract: Contract) -> dict[int, int]:
    """The limits that were set, by what is left of them in the contract's unit."""
    unit = UNIT_BYTES[contract.set_mm_limits.unit]
    set_ones = re.findall(r"\b(?:mm_max|bytes)=(\d+)", "\n".join(run.stdout for run in runs))
    return {int(one) // unit * unit: int(one) for one in set_ones}


def translated(
    lines: Sequence[str], contract: Contract, case: Case, *, limits: Mapping[int, int]
) -> Iterator[str]:
    """The lines with kills in the words of our log.

    What the contract's line does not tell is put in such that it is not held against it,
    and so is what its unit has cut off of ``limits``.
    """
    pattern = re.compile(contract.log.kill)
    unit = UNIT_BYTES[contract.log.unit]
    field = case.policies[_killer(case)].field
    for line in lines:
        match = pattern.search(line)
        if match is None:
            yield line
            continue
        told = match.groupdict()
        sizes = {name: int(told[name]) * unit for name in SIZES if told.get(name)}
        told_limit = sizes.get("mm_max", 100_000_000)
        limit = limits.get(told_limit, told_limit)
        has = sizes.get("uRSS", told_limit + 1) + limit - told_limit
        own = sizes.get("pRSS", min(has, limit))
        score = f",\t{field}={told.get('score') or 0}" if field else ""
        prefix = line[: len(line) - len(kmsg.text(line))]
        yield (
            f"{prefix}uid={told['uid']},\tuRSS={has},\tmm_max={limit},"
            f"\tpid={told['pid']},\tpRSS={own}{score}"
        )


def _killer(case: Case) -> str:
    if case.scenario.daemon is not None:
        return case.scenario.name.removeprefix("daemon-")
    return case.policy
