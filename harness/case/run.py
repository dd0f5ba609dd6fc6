# SPDX-License-Identifier: GPL-2.0-only
"""Runs cases on a booted device and brings home what was seen.

All cases of one policy share a boot, because booting costs more than most
cases.  That is only fair if a case cannot see the one before it, so each must
leave the guest as it found it: no process of an app user, no daemon, no limit,
both modules loaded.  A case that fails or crashes taints the boot, and the next
one gets a fresh guest.
"""

from __future__ import annotations

import queue
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType

from harness.case.candidates import EVENT, Candidate, parse_trace
from harness.case.judge import Observation, Status, judge
from harness.case.samples import Samples, parse_samples
from harness.case.scenario import Case, Command, Scenario
from harness.device.device import Device, ShellResult
from harness.errors import ExitCode, GuestCrash, HarnessError
from harness.kmsg import KillEvent, LogSlice, TableEvent, marker, of_kind, slice_log
from harness.kmsg import text as log_text
from harness.splat import scan
from harness.users import APP_UIDS

GUEST_DIR = "/data/local/tmp"
POLICY_FILE = "/proc/sys/vm/user_oom_policy"
TRACING = "/sys/kernel/tracing"
SAMPLER = "mm_sample"
SAMPLES = f"{GUEST_DIR}/samples"
SCRIPT_PLAYER = "mm_play"
DAEMON = "oom_daemonARM"

# No scenario uses this user; its limit, set twice, shows what else is in the table.
SWEEP_USER = "u0_a199"
SWEEP_UID = 10199
SWEEP_BYTES = 4_000_000_000

# A short command of the harness itself; a loaded guest may be slow to answer.
COMMAND_TIMEOUT_S = 20.0

# What a killed process may take to go, its memory being freed page by page.
SETTLE_S = 2.0


@dataclass(frozen=True)
class PolicyBuild:
    """A kernel to run the cases of one policy on.

    How to boot it, our modules, and for how many limits it has room.  ``policy`` is the
    module of a policy that the kernel was not built with, to be loaded and selected.
    With ``evidence`` it is written down all the time who has how much.
    """

    boot: Callable[[], Device]
    modules: tuple[Path, ...]
    table_length: int
    policy: Path | None = None
    evidence: bool = False


@dataclass(frozen=True)
class CaseResult:
    """What became of one case; ``detail`` and ``log_lines`` explain a failure.

    ``candidates``, ``samples`` and ``log``, all of the kernel's, are what a report shows.
    """

    case: Case
    status: Status
    seconds: float
    kills: tuple[KillEvent, ...] = ()
    detail: tuple[str, ...] = ()
    log_lines: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    samples: Samples = field(default_factory=Samples)
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class _GuestProcess:
    name: str
    pid: int
    uid: int


@dataclass(frozen=True)
class _GuestState:
    """Taint flags, loaded modules and live processes of the guest."""

    taint: int
    modules: frozenset[str]
    processes: tuple[_GuestProcess, ...]

    def app_pids(self) -> frozenset[int]:
        return frozenset(one.pid for one in self.processes if one.uid in APP_UIDS)


class _Guest:
    """A booted device with both modules loaded, ready for cases.

    ``before`` is the state that a case finds, and must leave.
    """

    def __init__(self, device: Device, build: PolicyBuild, programs: Mapping[str, Path]) -> None:
        self.device = device
        self.table_length = build.table_length
        self.evidence = build.evidence
        ours = [*build.modules, *([build.policy] if build.policy else [])]
        self._files = {**programs, **{module.name: module for module in ours}}
        self._modules = tuple(module.stem for module in build.modules)
        self._pushed: set[str] = set()
        self.load_modules()
        if build.policy is not None:
            self._select_policy(build.policy)
        self.before = self.state()

    def path(self, name: str) -> str:
        """The path in the guest of a program or module, pushed on first use."""
        remote = f"{GUEST_DIR}/{name}"
        if name not in self._pushed:
            local = self._files.get(name)
            if local is None:
                raise HarnessError(
                    f"no program '{name}' to push",
                    hint="built programs: " + ", ".join(sorted(self._files)),
                )
            self.device.push(local, remote)
            self._pushed.add(name)
        return remote

    def push_text(self, name: str, text: str) -> str:
        """Write ``text`` to a file in the guest and return its path."""
        remote = f"{GUEST_DIR}/{name}"
        with tempfile.TemporaryDirectory(prefix="mm-harness-") as folder:
            local = Path(folder) / name
            local.write_text(text, encoding="utf-8")
            self.device.push(local, remote, mode=0o644)
        return remote

    def command(self, *argv: str, what: str, urgent: bool = True) -> ShellResult:
        """Run a command of the harness's own as root; it must succeed.

        It is ``urgent`` but where it leaves something behind that should not be.
        """
        result = self.device.shell(argv, timeout=COMMAND_TIMEOUT_S, urgent=urgent)
        if result.returncode != 0:
            raise HarnessError(
                f"{what} failed in the guest: exit status {result.returncode}",
                hint=result.stderr.strip() or "see the console log",
                details=result.stdout.splitlines()[-5:],
            )
        return result

    def load_modules(self) -> None:
        for name in self._modules:
            self.command("insmod", self.path(f"{name}.ko"), what=f"insmod {name}.ko")

    def _select_policy(self, module: Path) -> None:
        """Load a policy's module and have the kernel use it; its log says what it dislikes."""
        script = f"insmod {self.path(module.name)} && echo {module.stem} > {POLICY_FILE}"
        done = self.device.shell(["sh", "-c", script], timeout=COMMAND_TIMEOUT_S, urgent=True)
        if done.returncode == 0:
            return
        log = self.device.shell(["dmesg"], timeout=COMMAND_TIMEOUT_S, urgent=True).stdout
        said = [log_text(line) for line in log.splitlines()[-20:] if module.stem in line]
        raise HarnessError(
            f"the policy {module.stem} cannot be loaded",
            hint="; ".join(said[-3:]) or done.stderr.strip(),
        )

    @cached_property
    def has_trace(self) -> bool:
        """Does this kernel trace candidates?"""
        there = ["test", "-e", f"{TRACING}/{EVENT}"]
        return self.device.shell(there, timeout=COMMAND_TIMEOUT_S, urgent=True).returncode == 0

    def start_trace(self) -> None:
        """From here on the kernel notes whom it looks at before it kills."""
        script = f"cd {TRACING} && echo > trace && echo 1 > {EVENT}/enable"
        self.command("sh", "-c", script, what="tracing the candidates")

    def stop_trace(self) -> tuple[Candidate, ...]:
        """What was noted since then."""
        script = f"cd {TRACING} && echo 0 > {EVENT}/enable && cat trace"
        output = self.command("sh", "-c", script, what="reading the trace").stdout
        return parse_trace(output.splitlines())

    def start_samples(self) -> int:
        """From here on it is written down who has how much; returns the writer's pid."""
        started = self.command(
            self.path(SAMPLER), SAMPLES, what=f"starting {SAMPLER}", urgent=False
        )
        return int(started.stdout.strip().removeprefix("pid="))

    def stop_samples(self, pid: int) -> Samples:
        """What was written down."""
        script = f"kill {pid}; cat {SAMPLES}; rm {SAMPLES}"
        return parse_samples(
            self.command("sh", "-c", script, what="reading the samples").stdout.splitlines()
        )

    def unload_modules(self) -> None:
        for name in reversed(self._modules):
            self.command("rmmod", name, what=f"rmmod {name}")

    def reload_modules(self) -> None:
        """Load fresh modules after a scenario that used them without end.

        set_mm_limits logs the table only so many times in 5 s, and starts to
        count when it is loaded; the table must be logged once more.
        """
        self.unload_modules()
        self.load_modules()

    def missing_modules(self, state: _GuestState) -> tuple[str, ...]:
        return tuple(name for name in self._modules if name not in state.modules)

    def mark(self, text: str) -> None:
        """Write a line into the kernel log."""
        self.command("sh", "-c", f"echo '{text}' > /dev/kmsg", what="writing to /dev/kmsg")

    def marked_log(self, text: str) -> str:
        """Write a line into the kernel log and return the whole log."""
        script = f"echo '{text}' > /dev/kmsg && dmesg"
        return self.command("sh", "-c", script, what="reading the kernel log").stdout

    def state(self) -> _GuestState:
        script = (
            "cat /proc/sys/kernel/tainted; echo --; cat /proc/modules; echo --; "
            "cat /proc/[0-9]*/status 2>/dev/null; true"
        )
        output = self.command("sh", "-c", script, what="reading /proc").stdout
        return _parse_state(output)


def _parse_state(output: str) -> _GuestState:
    parts = output.replace("\r", "").split("--\n", 2)
    if len(parts) != 3 or not parts[0].strip().isdigit():
        raise HarnessError("cannot read the guest's /proc", details=output.splitlines()[:5])
    return _GuestState(
        taint=int(parts[0]),
        modules=frozenset(line.split()[0] for line in parts[1].splitlines() if line.strip()),
        processes=tuple(_live_processes(parts[2])),
    )


def _live_processes(statuses: str) -> Iterator[_GuestProcess]:
    """The processes in concatenated /proc/PID/status files.

    A zombie holds nothing and only waits for its parent, unless it is a leader
    that exited before its other threads.
    """
    for text in re.split(r"^(?=Name:)", statuses, flags=re.MULTILINE):
        fields = dict(re.findall(r"^(\w+):\s*(\S+)", text, flags=re.MULTILINE))
        if not {"Name", "State", "Pid", "Uid"} <= fields.keys():
            continue  # went away while it was read
        if fields["State"] in "ZX" and fields.get("Threads") in ("0", "1"):
            continue
        yield _GuestProcess(fields["Name"], int(fields["Pid"]), int(fields["Uid"]))


def _observe(guest: _Guest, case: Case) -> Observation:
    """Play one case and collect everything the judge looks at."""
    scenario = case.scenario
    argvs = [_argv(guest, case, command) for command in _commands(guest, scenario)]
    for program in (SCRIPT_PLAYER, *([DAEMON] if scenario.daemon else [])):
        guest.path(program)  # pushed now, so as not to lie between the markers
    token = secrets.token_hex(8)

    traced = bool(case.expect.highest) or (guest.evidence and guest.has_trace)
    sampler = guest.start_samples() if guest.evidence else None
    if traced:
        guest.start_trace()
    guest.mark(marker("start", scenario.name, token))
    if not scenario.modules_loaded:
        guest.unload_modules()
    daemon_pid = _start_daemon(guest, scenario) if scenario.daemon else None
    runs = [
        guest.device.shell(argv, timeout=case.timeout, user=command.user) for command, argv in argvs
    ]
    if daemon_pid is not None:
        guest.device.shell(
            ["kill", "-TERM", str(daemon_pid)], timeout=COMMAND_TIMEOUT_S, urgent=True
        )
    after, leftovers = _settle(guest, scenario, daemon_pid)
    if not guest.missing_modules(after):
        guest.reload_modules()  # so that the sweep is logged
    _sweep_limits(guest, scenario)
    whole = guest.marked_log(marker("end", scenario.name, token))
    candidates = guest.stop_trace() if traced else ()
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


def _commands(guest: _Guest, scenario: Scenario) -> tuple[Command, ...]:
    """What to run: the experiments, or mm_play with the script."""
    if not scenario.steps:
        return scenario.commands
    script = guest.push_text(f"{scenario.name}.play", scenario.script)
    return (Command(SCRIPT_PLAYER, (script,)),)


def _argv(guest: _Guest, case: Case, command: Command) -> tuple[Command, list[str]]:
    args = (guest.path(arg[1:]) if arg.startswith("@") else arg for arg in case.arguments(command))
    return command, [guest.path(command.program), *args]


def _start_daemon(guest: _Guest, scenario: Scenario) -> int:
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


def _sweep_limits(guest: _Guest, scenario: Scenario) -> None:
    """Remove the limits of the case's users, then log what the table still holds.

    The kernel logs the table only when a limit is set.  SWEEP_USER's is set
    twice, so that the lines between are exactly what was left (_leftover_limits).
    """
    lines = [f"limit {user} remove" for user in scenario.users]
    lines += [f"limit {SWEEP_USER} bytes={SWEEP_BYTES}"] * 2
    script = f"{GUEST_DIR}/sweep.play"
    quoted = " ".join(f"'{line}'" for line in lines)
    guest.command(
        "sh",
        "-c",
        f"printf '%s\\n' {quoted} > {script} && {guest.path(SCRIPT_PLAYER)} {script}",
        what="removing the limits of a scenario",
    )


def _leftover_limits(log: LogSlice) -> tuple[str, ...]:
    table = of_kind(log.events, TableEvent)
    sweeps = [number for number, event in enumerate(table) if event.uid == SWEEP_UID]
    if len(sweeps) < 2:
        return ("the table of limits could not be read",)
    left = table[sweeps[-2] + 1 : sweeps[-1]]
    return tuple(f"limit uid={event.uid},mm_max={event.mm_max}" for event in left)


def _settle(
    guest: _Guest, scenario: Scenario, daemon_pid: int | None
) -> tuple[_GuestState, tuple[str, ...]]:
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


class PolicyRunner:
    """Runs the cases of one policy, on one boot as long as all goes well."""

    def __init__(self, build: PolicyBuild, *, programs: Mapping[str, Path]) -> None:
        self._build = build
        self._programs = programs
        self._guest: _Guest | None = None
        self._broken = ""
        self._closed = threading.Event()

    def run_case(self, case: Case) -> CaseResult:
        """Run and judge one case.  A crash or failure is a result, not an exception.

        Raises HarnessError if the device cannot be started at all.
        """
        begin = time.monotonic()
        if self._broken:
            return CaseResult(case, Status.ERROR, 0.0, detail=(self._broken,))
        try:
            guest = self._booted(case)
            begin = time.monotonic()  # booting is not the case's own time
            observation = _observe(guest, case)
        except GuestCrash as crash:
            result = _crashed(case, crash)
        except HarnessError as error:
            if self._guest is None:
                raise
            result = _error(case, error)
        else:
            result = _judged(case, observation)
        if result.status is not Status.PASSED:
            self._drop_guest()
        return CaseResult(
            case,
            result.status,
            time.monotonic() - begin,
            result.kills,
            result.detail,
            result.log_lines,
            result.candidates,
            result.samples,
            result.log,
        )

    def _booted(self, case: Case) -> _Guest:
        if self._guest is None:
            device = self._boot(case)
            try:
                self._guest = _Guest(device, self._build, self._programs)
            except BaseException:
                device.close()
                raise
        return self._guest

    def _boot(self, case: Case) -> Device:
        """Boot; a kernel that crashes as it boots will do so again, so try it once."""
        try:
            device = self._build.boot()
        except GuestCrash:
            self._broken = f"not run: the kernel with policy {case.policy} crashes at boot"
            raise
        if self._closed.is_set():  # closed by another thread meanwhile
            device.close()
            raise HarnessError("the run was stopped")
        return device

    def _drop_guest(self) -> None:
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.device.close()

    def close(self) -> None:
        """Stop the device.  May be called twice, and from another thread."""
        self._closed.set()
        self._drop_guest()


def _crashed(case: Case, crash: GuestCrash) -> CaseResult:
    return CaseResult(case, Status.CRASHED, 0.0, detail=(str(crash),), log_lines=crash.details)


def _error(case: Case, error: HarnessError) -> CaseResult:
    return CaseResult(case, Status.ERROR, 0.0, detail=(str(error),), log_lines=error.details)


def _judged(case: Case, observation: Observation) -> CaseResult:
    verdict = judge(case, observation)
    detail = [
        line
        for finding in verdict.findings
        for line in (f"expected: {finding.expected}", f"seen:     {finding.seen}")
    ]
    return CaseResult(
        case,
        verdict.status,
        0.0,
        verdict.kills,
        tuple(detail),
        verdict.log_lines,
        observation.candidates,
        observation.samples,
        observation.log.lines,
    )


class Runner:
    """Runs cases of any policy; keeps one device, that of the policy last used.

    Use as a context manager: leaving it stops the device.
    """

    def __init__(self, builds: Mapping[str, PolicyBuild], *, programs: Mapping[str, Path]) -> None:
        self._builds = builds
        self._programs = programs
        self._policy = ""
        self._current: PolicyRunner | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def run_case(self, case: Case) -> CaseResult:
        """As PolicyRunner.run_case(); changes the device if the policy changes."""
        if self._current is None or self._policy != case.policy:
            self.close()
            self._current = PolicyRunner(
                _build_for(case.policy, self._builds), programs=self._programs
            )
            self._policy = case.policy
        return self._current.run_case(case)

    def close(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None


def _build_for(policy: str, builds: Mapping[str, PolicyBuild]) -> PolicyBuild:
    build = builds.get(policy)
    if build is None:
        raise HarnessError(f"no kernel was built with policy {policy}")
    return build


def run_cases(
    cases: Sequence[Case],
    builds: Mapping[str, PolicyBuild],
    *,
    programs: Mapping[str, Path],
    jobs: int = 1,
) -> Generator[CaseResult, None, None]:
    """Run all ``cases``, yielding each result as it comes.

    With ``jobs`` > 1 as many policies run side by side, each on a device of its
    own.  Closing the generator, Ctrl-C included, stops all devices.
    """
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.policy, []).append(case)
    if jobs > 1 and len(groups) > 1:
        yield from _run_side_by_side(groups, builds, programs, jobs)
        return
    with Runner(builds, programs=programs) as runner:
        for group in groups.values():
            for case in group:
                yield runner.run_case(case)


def _run_side_by_side(
    groups: Mapping[str, Sequence[Case]],
    builds: Mapping[str, PolicyBuild],
    programs: Mapping[str, Path],
    jobs: int,
) -> Generator[CaseResult, None, None]:
    runners = {
        policy: PolicyRunner(_build_for(policy, builds), programs=programs) for policy in groups
    }
    results: queue.SimpleQueue[CaseResult | Exception | None] = queue.SimpleQueue()
    stop = threading.Event()

    def work(policy: str) -> None:
        runner = runners[policy]
        try:
            for case in groups[policy]:
                if stop.is_set():
                    break
                results.put(runner.run_case(case))
        except Exception as error:  # handed over: the main thread raises it
            results.put(error)
        finally:
            runner.close()
            results.put(None)

    # The group that may take longest first, so that it does not run on alone.
    order = sorted(groups, key=lambda policy: -sum(c.timeout for c in groups[policy]))
    executor = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="policy")
    try:
        for policy in order:
            executor.submit(work, policy)
        running = len(order)
        while running:
            result = results.get()
            if result is None:
                running -= 1
            elif isinstance(result, Exception):
                raise result
            else:
                yield result
    finally:
        stop.set()
        for runner in runners.values():
            with suppress(HarnessError):
                runner.close()
        executor.shutdown(wait=True, cancel_futures=True)


def exit_code(results: Sequence[CaseResult]) -> ExitCode:
    """The exit code of a run: the worst that happened decides."""
    seen = {result.status for result in results}
    if Status.CRASHED in seen:
        return ExitCode.GUEST_CRASHED
    if Status.FAILED in seen:
        return ExitCode.SCENARIO_FAILED
    if Status.ERROR in seen or not results:
        return ExitCode.HARNESS_ERROR
    return ExitCode.PASSED
