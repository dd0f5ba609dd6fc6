# SPDX-License-Identifier: GPL-2.0-only
"""Running cases on a device that answers like a guest, and can be made to fail."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from harness.case.guest import POLICY_FILE, GuestKernel
from harness.case.judge import Status
from harness.case.load import load_scenarios
from harness.case.run import CaseResult, Runner, exit_code, run_cases
from harness.case.scenario import Case
from harness.device.device import ShellResult
from harness.errors import ExitCode, GuestCrash, HarnessError
from harness.layout import Layout

BY_NAME = {scenario.name: scenario for scenario in load_scenarios(Layout.default())}
CONTRACT = Case(BY_NAME["set-mm-limits-contract"], "rss")
TAP = "ok 1 - a\n1..1\n"
SWEEP = "uid=10199,mm_max=4000000000"
INIT = "Name:\tinit\nState:\tS (sleeping)\nPid:\t1\nUid:\t0\t0\t0\t0\nThreads:\t1\n"

# What a program does in the guest: gets the device and its arguments.
Program = Callable[["FakeDevice", Sequence[str]], ShellResult]


def said(stdout: str = "", *, returncode: int = 0) -> ShellResult:
    return ShellResult((), returncode, stdout, "", 0.0)


@dataclass
class FakeDevice:
    """As much of a guest as the runner sees."""

    programs: dict[str, Program] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    pushed: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    processes: str = INIT
    taint: int = 4096
    swept: tuple[str, ...] = (SWEEP, SWEEP)
    calls: list[tuple[tuple[str, ...], str | None]] = field(default_factory=list)
    closed: bool = False
    abandoned: bool = False
    name: str = "fake"
    serial: str = "fake:1"
    accel: str = "none"
    console: str = "console.log"
    shared: bool = False
    fresh: bool = True

    def shell(
        self, argv: Sequence[str], *, timeout: float, user: str | None = None, urgent: bool = False
    ) -> ShellResult:
        assert timeout > 0
        assert not self.closed
        self.calls.append((tuple(argv), user))
        if argv[0] == "sh":
            return self._script(argv[2])
        if argv[0] in ("insmod", "rmmod"):
            return self._module(argv[0], Path(argv[1]).stem)
        program = self.programs.get(Path(argv[0]).name)
        return program(self, argv[1:]) if program else said()

    def _module(self, command: str, name: str) -> ShellResult:
        if command == "insmod":
            assert f"/data/local/tmp/{name}.ko" in self.pushed
            self.modules.append(name)
        else:
            self.modules.remove(name)
        return said()

    def _script(self, script: str) -> ShellResult:
        for command, name in re.findall(r"(insmod|rmmod) ([\w/]\S*)", script):
            if (done := self._module(command, Path(name).stem)).returncode != 0:
                return done
        if played := re.search(r"&& exec (\S+) (\S+)$", script):
            return self.programs[Path(played[1]).name](self, [played[2]])
        if "sweep.play" in script:
            self.log += self.swept
        if match := re.search(r"echo '([^']*)' > /dev/kmsg", script):
            self.log.append(match[1])
        if "/proc/modules" in script:
            modules = "".join(f"{name} 16384 0 - Live 0x0 (O)\n" for name in self.modules)
            return said(f"{self.taint}\n--\n{modules}--\n{self.processes}")
        return said("\n".join(self.log) + "\n" if "dmesg" in script else "")

    def push(self, local: Path, remote: str, *, mode: int = 0o755) -> None:
        assert mode in (0o755, 0o644)
        self.pushed.append(remote)

    def pull(self, remote: str, local: Path) -> None:
        raise NotImplementedError

    def check(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def abandon(self) -> None:
        self.abandoned = True
        self.close()


class Lab:
    """Boots fake devices and keeps them; ``programs`` is what they can run."""

    def __init__(self, **programs: Program) -> None:
        self.programs = {"test_set_mm_limitsARM": lambda device, args: said(TAP), **programs}
        self.devices: list[FakeDevice] = []
        self.fresh = True
        self.prepare: Callable[[FakeDevice], object] = lambda device: None

    def boot(self) -> FakeDevice:
        device = FakeDevice(programs=self.programs, fresh=self.fresh)
        self.prepare(device)
        self.devices.append(device)
        return device

    def runner(self) -> Runner:
        return Runner(self.builds("rss", "none"), programs=self.files())

    def builds(self, *policies: str) -> dict[str, GuestKernel]:
        modules = (Path("set_mm_limits.ko"), Path("my_oom_killer.ko"))
        return {policy: GuestKernel(self.boot, modules, 10) for policy in policies}

    def files(self) -> dict[str, Path]:
        names = [*self.programs, "mm_play", "oom_daemonARM", "oom_test_daemonARM", "module_cycle"]
        return {name: Path(name) for name in names}

    def run(self, *cases: Case) -> list[CaseResult]:
        with self.runner() as runner:
            return [runner.run_case(case) for case in cases]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not go away in a fake guest never will."""
    monkeypatch.setattr("harness.case.observe.SETTLE_S", 0.0)


def test_a_case_passes() -> None:
    lab = Lab()
    (result,) = lab.run(CONTRACT)
    assert (result.status, result.detail) == (Status.PASSED, ())
    (device,) = lab.devices
    assert device.closed
    assert device.modules == ["set_mm_limits", "my_oom_killer"]


def test_cases_share_a_boot_and_each_file_is_pushed_once() -> None:
    lab = Lab()
    results = lab.run(CONTRACT, CONTRACT)
    assert [result.status for result in results] == [Status.PASSED] * 2
    (device,) = lab.devices
    assert sorted(device.pushed) == [
        f"/data/local/tmp/{name}"
        for name in ("mm_play", "my_oom_killer.ko", "set_mm_limits.ko", "test_set_mm_limitsARM")
    ]


def test_a_change_of_kernel_is_a_change_of_device() -> None:
    lab = Lab()
    lab.run(CONTRACT, Case(CONTRACT.scenario, "none"))
    assert [device.closed for device in lab.devices] == [True, True]


def selected(device: FakeDevice) -> list[str]:
    """The policies that were selected, one after the other."""
    scripts = [argv[2] for argv, _ in device.calls if argv[0] == "sh"]
    pattern = re.compile(rf"echo (\w+) > {POLICY_FILE} \|\| exit")
    return [match[1] for script in scripts if (match := pattern.match(script))]


def test_a_kernel_serves_other_policies_and_loads_each_once() -> None:
    lab = Lab()
    module = {"youngest": Path("youngest.ko")}
    kernels = {"rss": replace(lab.builds("rss")["rss"], policies=module)}
    names = ("runtime", "youngest")
    fitting = replace(CONTRACT.scenario, expect=dict.fromkeys(names, CONTRACT.expect))
    other = [Case(fitting, name, built_with="rss") for name in names]
    with Runner(kernels, programs=lab.files()) as runner:
        for case in (*other, other[1]):
            runner.run_case(case)
    (device,) = lab.devices
    assert selected(device) == ["runtime", "youngest", "youngest"]
    assert device.modules.count("youngest") == 1


def test_a_guest_that_others_have_used_is_tidied_and_given_back() -> None:
    lab = Lab()
    names = ["my_oom_killer", "set_mm_limits"]
    there = [f"/data/local/tmp/{name}.ko" for name in names]

    def used(device: FakeDevice) -> None:
        device.modules += names
        device.pushed += there

    lab.prepare, lab.fresh = used, False
    (result,) = lab.run(CONTRACT)
    assert result.status is Status.PASSED
    device = lab.devices[-1]
    assert not [argv for argv, _ in device.calls if argv[0] == "insmod"]
    assert device.pushed == there


def test_a_failed_case_gives_its_guest_up() -> None:
    lab = Lab(test_set_mm_limitsARM=lambda device, args: said("not ok 1 - a\n1..1\n"))
    lab.run(CONTRACT)
    assert [device.abandoned for device in lab.devices] == [True]


def test_what_holds_from_boot_on_is_shown_before_a_policy_is_selected() -> None:
    at_boot = Case(replace(CONTRACT.scenario, compiled_in=True), "rss")
    lab = Lab()
    lab.run(at_boot, CONTRACT, at_boot)
    assert [len(selected(device)) for device in lab.devices] == [1, 0]


def test_a_failed_case_costs_the_boot_but_not_the_next_case() -> None:
    outputs = iter(["not ok 1 - a\n1..1\n", TAP])
    lab = Lab(test_set_mm_limitsARM=lambda device, args: said(next(outputs)))
    results = lab.run(CONTRACT, CONTRACT)
    assert [result.status for result in results] == [Status.FAILED, Status.PASSED]
    assert any(line.endswith("test_set_mm_limitsARM: not ok 1 - a") for line in results[0].detail)
    assert len(lab.devices) == 2


def crash(device: FakeDevice, args: Sequence[str]) -> ShellResult:
    raise GuestCrash("kernel panic", details=("Kernel panic - not syncing",))


def test_a_crash_is_a_result_and_the_policy_goes_on() -> None:
    crashes = iter([True, False])

    def program(device: FakeDevice, args: Sequence[str]) -> ShellResult:
        return crash(device, args) if next(crashes) else said(TAP)

    lab = Lab(test_set_mm_limitsARM=program)
    results = lab.run(CONTRACT, CONTRACT)
    assert [result.status for result in results] == [Status.CRASHED, Status.PASSED]
    assert results[0].log_lines == ("Kernel panic - not syncing",)
    assert exit_code(results) is ExitCode.GUEST_CRASHED


def test_a_kernel_that_crashes_at_boot_is_booted_once() -> None:
    boots = []

    def boot() -> FakeDevice:
        boots.append(1)
        raise GuestCrash("kernel panic")

    with Runner({"rss": GuestKernel(boot, (), 10)}, programs={}) as runner:
        results = [runner.run_case(CONTRACT), runner.run_case(CONTRACT)]
    assert [result.status for result in results] == [Status.CRASHED, Status.ERROR]
    assert results[1].detail == ("not run: the kernel with policy rss crashes at boot",)
    assert boots == [1]


def test_a_device_that_cannot_start_ends_the_run() -> None:
    def boot() -> FakeDevice:
        raise HarnessError("qemu-system-arm is missing")

    with (
        Runner({"rss": GuestKernel(boot, (), 10)}, programs={}) as runner,
        pytest.raises(HarnessError, match="is missing"),
    ):
        runner.run_case(CONTRACT)


def test_a_module_that_does_not_load_ends_the_run_and_the_device() -> None:
    lab = Lab()

    class Stubborn(FakeDevice):
        def _module(self, command: str, name: str) -> ShellResult:
            return said(returncode=1)

    device = Stubborn()
    builds = {"rss": GuestKernel(lambda: device, (Path("set_mm_limits.ko"),), 10)}
    with (
        Runner(builds, programs=lab.files()) as runner,
        pytest.raises(HarnessError, match=r"insmod set_mm_limits\.ko failed"),
    ):
        runner.run_case(CONTRACT)
    assert device.closed


def test_a_command_that_does_not_end_is_an_error_of_the_case() -> None:
    def hang(device: FakeDevice, args: Sequence[str]) -> ShellResult:
        raise HarnessError("no answer within 30 s")

    lab = Lab(test_set_mm_limitsARM=hang)
    (result,) = lab.run(CONTRACT)
    assert (result.status, result.detail) == (Status.ERROR, ("no answer within 30 s",))
    assert exit_code([result]) is ExitCode.HARNESS_ERROR


def test_a_missing_program_is_named() -> None:
    lab = Lab()
    with Runner(lab.builds("rss"), programs={}) as runner:
        result = runner.run_case(CONTRACT)
    assert result.status is Status.ERROR
    assert "no program 'test_set_mm_limitsARM'" in result.detail[0]


def test_an_overflowed_log_is_an_error() -> None:
    def flood(device: FakeDevice, args: Sequence[str]) -> ShellResult:
        device.log.clear()
        return said(TAP)

    (result,) = Lab(test_set_mm_limitsARM=flood).run(CONTRACT)
    assert result.status is Status.ERROR
    assert "start marker" in result.detail[0]


def leave_process(device: FakeDevice, args: Sequence[str]) -> ShellResult:
    device.processes += (
        "Name:\tzombie\nState:\tZ (zombie)\nPid:\t8\nUid:\t10070\t0\t0\t0\nThreads:\t1\n"
        "Name:\thidden\nState:\tZ (zombie)\nPid:\t9\nUid:\t10070\t0\t0\t0\nThreads:\t2\n"
        "Name:\troots\nState:\tS (sleeping)\nPid:\t10\nUid:\t0\t0\t0\t0\nThreads:\t1\n"
    )
    return said(TAP)


def taint(device: FakeDevice, args: Sequence[str]) -> ShellResult:
    device.taint |= 512
    return said(TAP)


def leave_limit(device: FakeDevice, args: Sequence[str]) -> ShellResult:
    device.swept = ("uid=10071,mm_max=5", SWEEP, "uid=10071,mm_max=5", SWEEP)
    return said(TAP)


def no_table(device: FakeDevice, args: Sequence[str]) -> ShellResult:
    device.swept = ()
    return said(TAP)


def lose_module(device: FakeDevice, args: Sequence[str]) -> ShellResult:
    device.modules.remove("my_oom_killer")
    return said(TAP)


def warn(device: FakeDevice, args: Sequence[str]) -> ShellResult:
    device.log.append("[    5.0] WARNING: CPU: 0 PID: 1 at mm/page_alloc.c:1 x+0x1/0x2")
    return said(TAP)


@pytest.mark.parametrize(
    ("program", "seen"),
    [
        (leave_process, ["process hidden (pid 9, uid 10070)"]),
        (taint, ["4608"]),
        (leave_limit, ["limit uid=10071,mm_max=5"]),
        (no_table, ["the table of limits could not be read"]),
        (lose_module, ["module my_oom_killer is not loaded"]),
    ],
)
def test_what_a_case_leaves_behind_fails_it(program: Program, seen: list[str]) -> None:
    (result,) = Lab(test_set_mm_limitsARM=program).run(CONTRACT)
    assert result.status is Status.FAILED
    assert [line.removeprefix("seen:     ") for line in result.detail[1::2]] == seen


def test_a_warning_in_the_log_fails_a_case() -> None:
    (result,) = Lab(test_set_mm_limitsARM=warn).run(CONTRACT)
    assert result.status is Status.FAILED
    assert any("WARNING: CPU: 0" in line for line in result.detail)


def test_processes_from_before_are_not_the_cases_own() -> None:
    lab = Lab()
    lab.prepare = lambda device: leave_process(device, ())
    lab.run(CONTRACT)
    assert [result.status for result in lab.run(CONTRACT)] == [Status.PASSED]


def test_steps_are_played_as_root() -> None:
    played: list[list[str]] = []

    def play(device: FakeDevice, args: Sequence[str]) -> ShellResult:
        played.append(list(args))
        return said("done\n")

    lab = Lab(mm_play=play)
    (result,) = lab.run(Case(BY_NAME["limit-below-usage"], "none"))
    assert played == [["/data/local/tmp/limit-below-usage.play"]]
    assert result.status is Status.FAILED  # that output proves nothing


def test_the_daemon_runs_as_root_and_is_stopped() -> None:
    def daemon(device: FakeDevice, args: Sequence[str]) -> ShellResult:
        assert list(args) == ["5", "0"]
        device.processes += INIT.replace("init", "daemon").replace("Pid:\t1", "Pid:\t55")
        return said("oom_daemon: pid=55 interval=5 type=0\n")

    lab = Lab(oom_daemonARM=daemon)
    (result,) = lab.run(Case(BY_NAME["daemon-rss"], "none"))
    (device,) = lab.devices
    programs = [(Path(argv[0]).name, user) for argv, user in device.calls]
    start = programs.index(("oom_daemonARM", None))
    assert programs[start : start + 3] == [
        ("oom_daemonARM", None),
        ("oom_test_daemonARM", "u0_a70"),
        ("kill", None),
    ]
    assert "seen:     process daemon (pid 55, uid 0)" in result.detail


def test_a_daemon_that_says_no_pid_is_an_error() -> None:
    (result,) = Lab().run(Case(BY_NAME["daemon-rss"], "none"))
    assert (result.status, result.detail) == (
        Status.ERROR,
        ("oom_daemonARM did not say its pid",),
    )


def test_modules_are_unloaded_where_the_scenario_wants_it() -> None:
    def cycle(device: FakeDevice, args: Sequence[str]) -> ShellResult:
        assert device.modules == []
        assert list(args[1:]) == [
            "/data/local/tmp/set_mm_limits.ko",
            "/data/local/tmp/my_oom_killer.ko",
        ]
        device.modules += ["set_mm_limits", "my_oom_killer"]
        return said("cycle rounds=200 calls=5 enosys=1 bad=0\n")

    (result,) = Lab(module_cycle=cycle).run(Case(BY_NAME["module-cycle"], "none"))
    assert (result.status, result.detail) == (Status.PASSED, ())


@pytest.mark.parametrize("jobs", [1, 2])
def test_run_cases_runs_all(jobs: int) -> None:
    lab = Lab()
    cases = [CONTRACT, CONTRACT, Case(CONTRACT.scenario, "none")]
    results = list(run_cases(cases, lab.builds("rss", "none"), programs=lab.files(), jobs=jobs))
    assert sorted(result.case.policy for result in results) == ["none", "rss", "rss"]
    assert exit_code(results) is ExitCode.PASSED
    assert len(lab.devices) == 2
    assert all(device.closed for device in lab.devices)


@pytest.mark.parametrize("jobs", [1, 2])
def test_stopping_early_closes_every_device(jobs: int) -> None:
    def slow(device: FakeDevice, args: Sequence[str]) -> ShellResult:
        time.sleep(0.02)
        return said(TAP)

    lab = Lab(test_set_mm_limitsARM=slow)
    cases = [CONTRACT] * 20 + [Case(CONTRACT.scenario, "none")] * 20
    results = run_cases(cases, lab.builds("rss", "none"), programs=lab.files(), jobs=jobs)
    next(results)
    results.close()  # as closing() does on Ctrl-C
    assert all(device.closed for device in lab.devices)


def test_a_harness_error_beside_others_ends_the_run() -> None:
    def boot() -> FakeDevice:
        raise HarnessError("port taken")

    lab = Lab()
    builds = {**lab.builds("rss"), "none": GuestKernel(boot, (), 10)}
    with pytest.raises(HarnessError, match="port taken"):
        list(
            run_cases(
                [CONTRACT, Case(CONTRACT.scenario, "none")], builds, programs=lab.files(), jobs=2
            )
        )
    assert all(device.closed for device in lab.devices)


def test_a_policy_that_was_not_built() -> None:
    with pytest.raises(HarnessError, match="no kernel was built with policy rss"):
        list(run_cases([CONTRACT], {}, programs={}))


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], ExitCode.HARNESS_ERROR),
        ([Status.PASSED], ExitCode.PASSED),
        ([Status.PASSED, Status.FAILED, Status.ERROR], ExitCode.SCENARIO_FAILED),
        ([Status.PASSED, Status.ERROR], ExitCode.HARNESS_ERROR),
        ([Status.FAILED, Status.CRASHED, Status.ERROR], ExitCode.GUEST_CRASHED),
    ],
)
def test_exit_codes(statuses: list[Status], code: ExitCode) -> None:
    assert exit_code([CaseResult(CONTRACT, status, 1.0) for status in statuses]) is code
