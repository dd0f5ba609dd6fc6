# SPDX-License-Identifier: GPL-2.0-only
"""The judge, on the project's own scenarios and recorded logs.

Each test of a failure changes one thing in an observation that passes: a check
that is not working must not look like a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.case.judge import Observation, Status, Verdict, judge
from harness.case.load import load_scenarios
from harness.case.scenario import Case, Returns, Step
from harness.device.device import ShellResult
from harness.kmsg import LogSlice, slice_log
from harness.layout import Layout

LOGS = Path(__file__).parents[2] / "data" / "logs"
TOKEN = "00aa11bb22cc33dd"
BY_NAME = {scenario.name: scenario for scenario in load_scenarios(Layout.default())}


def case(name: str, policy: str) -> Case:
    return Case(BY_NAME[name], policy)


def run_of(stdout: str, *, returncode: int = 0, stderr: str = "") -> ShellResult:
    return ShellResult(("prog",), returncode, stdout, stderr, 1.0)


def recorded(file: str, name: str) -> LogSlice:
    return slice_log((LOGS / file).read_text(encoding="utf-8"), name, TOKEN)


def observed(log: LogSlice | Sequence[str], *stdout: str) -> Observation:
    lines = log if isinstance(log, LogSlice) else LogSlice(tuple(log), 1.0)
    return Observation(runs=tuple(run_of(text) for text in stdout), log=lines, table_length=10)


SIZES = {90: 20000, 91: 40000, 92: 20000, 93: 30000, 95: 200000, 94: 100000000}


def experiment_output(*, big: int = 94, big_finishes: bool = False) -> str:
    """What the original test program prints; the pid of the big child is ``big``."""
    sizes = {(big if pid == 94 else pid): size for pid, size in SIZES.items()}
    lines = ["set_mm_limits uid=10070 mm_max=100000000 ret=0 errno=0"]
    lines += [f"child pid={pid} bytes={size} start" for pid, size in sizes.items()]
    for pid, size in sizes.items():
        if pid != big or big_finishes:
            lines.append(f"child pid={pid} bytes={size} finish")
        lines.append(
            f"child pid={pid} bytes={size} " + ("killed by signal 9" if pid == big else "exit 0")
        )
    return "\n".join(lines) + "\n"


KERNEL_RSS = observed(recorded("linux-6.1-kernel-rss.txt", "kernel-rss"), experiment_output())


def with_log(observation: Observation, edit: Callable[[list[str]], list[str]]) -> Observation:
    lines = tuple(edit(list(observation.log.lines)))
    return replace(observation, log=replace(observation.log, lines=lines))


def with_output(observation: Observation, old: str, new: str) -> Observation:
    (run,) = observation.runs
    assert old in run.stdout
    return replace(observation, runs=(replace(run, stdout=run.stdout.replace(old, new)),))


def failure(verdict: Verdict) -> str:
    """All findings of a failed verdict as one text."""
    assert verdict.status is Status.FAILED
    return "\n".join(f"{finding.expected} | {finding.seen}" for finding in verdict.findings)


def test_kernel_experiment_passes() -> None:
    verdict = judge(case("kernel-rss", "rss"), KERNEL_RSS)
    assert verdict.findings == ()
    assert verdict.status is Status.PASSED
    assert [kill.pid for kill in verdict.kills] == [94]
    assert verdict.log_lines == ()


def test_no_kill_at_all() -> None:
    verdict = judge(
        case("kernel-rss", "rss"),
        with_log(KERNEL_RSS, lambda lines: [line for line in lines if "94" not in line]),
    )
    text = failure(verdict)
    assert "100000000 is killed, nobody else | nobody was killed" in text
    assert "alive | killed by signal 9" in text


def test_a_second_kill() -> None:
    second = KERNEL_RSS.log.lines[1].replace("pid=94", "pid=95")
    verdict = judge(case("kernel-rss", "rss"), with_log(KERNEL_RSS, lambda lines: [*lines, second]))
    text = failure(verdict)
    assert "100000000 is killed, nobody else | 100000000, 200000 were killed" in text
    assert any("pid=95" in line for line in verdict.log_lines)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pid=94", "pid=1", "a kill of pid 1"),
        ("uRSS=100003840", "uRSS=100000000", "uRSS > mm_max"),
        ("uid=10070,\t", "uid=10071,\t", "uid of a limit|uid=10070 for"),
        ("mm_max=100000000,\tpid", "mm_max=99999999,\tpid", "mm_max of a limit that was set"),
        ("pRSS=97325056", "pRSS=97325056,\tbadness=5", "score field: None | badness"),
        ("pRSS=97325056", "pRSS=0", "pRSS"),
    ],
)
def test_a_wrong_kill_line(old: str, new: str, message: str) -> None:
    edited = with_log(KERNEL_RSS, lambda lines: [line.replace(old, new) for line in lines])
    text = failure(judge(case("kernel-rss", "rss"), edited))
    assert any(part in text for part in (message, *message.split("|")))


def test_the_policy_must_log_its_own_field() -> None:
    text = failure(judge(case("kernel-runtime", "runtime"), KERNEL_RSS))
    assert "score field: total_run_time" in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("child pid=95 bytes=200000 finish\n", "", "finish from the children"),
        ("pid=94 bytes=100000000 killed by signal 9", "pid=94 bytes=100000000 exit 0", "SIGKILL"),
        ("pid=91 bytes=40000 exit 0", "pid=91 bytes=40000 exit 1", "alive | exited 1"),
        ("child pid=91 bytes=40000 exit 0\n", "", "no state reported"),
        ("ret=0 errno=0", "ret=-1 errno=EPERM", "set_mm_limits returns 0 | EPERM"),
        ("set_mm_limits", "SET", "a set_mm_limits line"),
    ],
)
def test_wrong_program_output(old: str, new: str, message: str) -> None:
    edited = with_output(KERNEL_RSS, old, new)
    assert message in failure(judge(case("kernel-rss", "rss"), edited))


def test_a_failed_program_shows_what_it_said() -> None:
    run = replace(KERNEL_RSS.runs[0], returncode=2, stderr="usage: oom_test\n")
    text = failure(judge(case("kernel-rss", "rss"), replace(KERNEL_RSS, runs=(run,))))
    assert "prog exits 0 | it exits 2, saying usage: oom_test" in text


def test_an_empty_observation_never_passes() -> None:
    for scenario in BY_NAME.values():
        for policy in scenario.policies:
            empty = Observation(runs=(), log=LogSlice((), None), table_length=10)
            assert judge(Case(scenario, policy), empty).status is Status.FAILED


DAEMON = observed(
    recorded("linux-6.1-daemon-runtime.txt", "daemon-runtime"),
    experiment_output(big=131, big_finishes=True),
)


def test_daemon_experiment_passes() -> None:
    assert judge(case("daemon-runtime", "none"), DAEMON).findings == ()


def test_daemon_too_late() -> None:
    late = replace(DAEMON, log=replace(DAEMON.log, start_time_s=15.0))
    text = failure(judge(case("daemon-runtime", "none"), late))
    assert "a kill within 7 s | after 10.10 s" in text


def test_daemon_without_times_in_the_log() -> None:
    bare = with_log(DAEMON, lambda lines: [line.split("] ", 1)[1] for line in lines])
    assert "a kernel log with times" in failure(judge(case("daemon-runtime", "none"), bare))


MANY_OUTPUT = "\n".join(
    [
        *(f"spawn name=p.{n} pid={101 + n} uid=10072" for n in range(5)),
        *(f"ready name=p.{n} pid={101 + n}" for n in range(5)),
        "limit user=u0_a72 uid=10072 bytes=70000000 as=root ret=0 errno=0",
        "limit user=u0_a73 uid=10073 bytes=70000000 as=root ret=0 errno=0",
        *(f"state name=p.{n} pid={101 + n} state=alive value=0" for n in range(2)),
        *(f"state name=p.{n} pid={101 + n} state=signaled value=9" for n in range(2, 5)),
        "done",
    ]
)
MANY = observed(
    recorded("linux-6.1-many-must-die-badness.txt", "many-must-die"), MANY_OUTPUT + "\n"
)
MANY_CASE = case("many-must-die", "badness")


def test_many_must_die_passes() -> None:
    assert judge(MANY_CASE, MANY).findings == ()


def test_the_wrong_victim_is_told_in_one_sentence() -> None:
    other = with_log(
        KERNEL_RSS, lambda lines: [line.replace("pid=94,", "pid=95,") for line in lines]
    )
    text = failure(judge(case("kernel-rss", "rss"), other))
    told = "100000000 is killed, nobody else | 200000 was killed, 100000000 was not"
    assert text.splitlines()[0] == told
    assert text.count("was killed") == 1


def test_a_kill_too_few() -> None:
    fewer = with_log(MANY, lambda lines: lines[2:])
    assert "3 of p.* are killed, nobody else | p.3, p.2 were killed, that is 2 of p.*" in failure(
        judge(MANY_CASE, fewer)
    )


def test_a_kill_after_the_next_call() -> None:
    late = with_log(MANY, lambda lines: [*lines[2:], *lines[:2]])
    assert "all kills before the next call | 1 after it" in failure(judge(MANY_CASE, late))


def test_a_kill_without_our_line() -> None:
    silent = with_log(MANY, lambda lines: lines[1:])
    assert "a log line of ours before each kill | none for pid 105" in failure(
        judge(MANY_CASE, silent)
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\ndone", "", "the script runs to its end"),
        ("done", "error what=fork errno=EAGAIN\ndone", "every step can be played"),
        ("ready name=p.0 pid=101\n", "", "p.0 (pid 101) touches all its memory"),
        ("state name=p.0 pid=101 state=alive value=0", "", "p.0 (pid 101) alive | no state"),
        ("p.1 pid=102 state=alive value=0", "p.1 pid=102 state=exited value=3", "exited 3"),
        ("p.1 pid=102 state=alive value=0", "p.1 pid=102 state=signaled value=9", "signal 9"),
        ("ret=0 errno=0\nlimit", "ret=-1 errno=EINVAL\nlimit", "returns 0 | EINVAL"),
        ("limit user=u0_a73 uid=10073 bytes=70000000 as=root ret=0 errno=0\n", "", "system calls"),
        ("spawn name=p.0 pid=101", "spawn name=p.0 pid=x", "unreadable"),
        ("spawn name=p.0 pid=101", "spawn name=p.0", "unreadable"),
    ],
)
def test_wrong_script_output(old: str, new: str, message: str) -> None:
    assert message in failure(judge(MANY_CASE, with_output(MANY, old, new)))


def test_table_that_is_not_what_the_calls_made() -> None:
    wrong = with_log(
        MANY, lambda lines: [line.replace("uid=10073,mm_max", "uid=10074,mm_max") for line in lines]
    )
    text = failure(judge(MANY_CASE, wrong))
    assert "table line 3: uid=10073,mm_max=70000000 | uid=10074" in text


def test_an_eviction_that_should_not_be() -> None:
    line = "set_mm_limits: table full, evicted uid=10001,mm_max=5"
    text = failure(judge(MANY_CASE, with_log(MANY, lambda lines: [line, *lines])))
    assert "evicted: nobody | [(10001, 5)]" in text


def test_another_killer() -> None:
    stock = recorded("linux-6.1-stock-oom.txt", "isolation").lines
    text = failure(judge(MANY_CASE, with_log(MANY, lambda lines: [*lines, *stock])))
    assert "no other killer acts | oom-killer killed mm_play (pid 88)" in text


def test_taint_splats_and_leftovers_fail_a_case() -> None:
    text = failure(
        judge(
            MANY_CASE,
            replace(
                MANY,
                taint_before=4096,
                taint_after=4608,
                splats=("warning: WARNING: CPU: 0",),
                leftovers=("process x (pid 5, uid 10072)",),
            ),
        )
    )
    assert "taint flags 4096 | 4608" in text
    assert "no warning in the kernel log | warning: WARNING: CPU: 0" in text
    assert "nothing left behind | process x" in text


THREADS_OUTPUT = """\
spawn name=leaderless pid=70 uid=10084
spawn name=small pid=71 uid=10084
ready name=leaderless pid=70
ready name=small pid=71
limit user=u0_a84 uid=10084 bytes=30000000 as=root ret=0 errno=0
spawn name=pair pid=74 uid=10085
spawn name=pair+sharer pid=75 uid=10085
ready name=pair pid=74
limit user=u0_a85 uid=10085 bytes=45000000 as=root ret=0 errno=0
limit user=u0_a85 uid=10085 bytes=20000000 as=root ret=0 errno=0
state name=leaderless pid=70 state=signaled value=9
state name=small pid=71 state=alive value=0
state name=pair pid=74 state=signaled value=9
state name=pair+sharer pid=75 state=signaled value=9
done
"""
THREADS = observed(recorded("linux-6.1-threads.txt", "threads"), THREADS_OUTPUT)
THREADS_CASE = case("threads", "rss")


def test_sharers_die_with_the_victim() -> None:
    assert judge(THREADS_CASE, THREADS).findings == ()


def test_a_sharer_that_lives() -> None:
    alive = with_output(
        THREADS,
        "pid=75 state=signaled value=9",
        "pid=75 state=alive value=0",
    )
    assert "pair+sharer (pid 75) dead by SIGKILL | alive" in failure(judge(THREADS_CASE, alive))


def test_a_missing_sharer_line() -> None:
    bare = with_log(THREADS, lambda lines: [line for line in lines if "sharing" not in line])
    assert "'sharing same memory' lines for pids [74] | there are none" in failure(
        judge(THREADS_CASE, bare)
    )


def test_killed_for_the_wrong_limit() -> None:
    early = with_log(
        THREADS,
        lambda lines: [
            line.replace("uRSS=30478336,\tmm_max=20000000", "uRSS=60956672,\tmm_max=45000000")
            for line in lines
        ],
    )
    assert "pair is killed for its limit of 20000000 | it was killed for 45000000" in failure(
        judge(THREADS_CASE, early)
    )


PROTECTED_CASE = case("protected", "rss")


def test_unkillable_lines_are_counted() -> None:
    line = "uid=10080,\tuRSS=61231104,\tmm_max=40000000: no killable process"
    for count in (0, 2):
        text = failure(judge(PROTECTED_CASE, observed([line] * count, "done\n")))
        assert f"1 'no killable process' lines | {count}" in text
    text = failure(judge(PROTECTED_CASE, observed([line], "done\n")))
    assert "no killable process" not in text


def test_a_process_that_did_not_grow() -> None:
    text = failure(judge(PROTECTED_CASE, observed([], "grown name=one pid=5\ndone\n")))
    assert "two grows by 5000000 bytes" in text
    assert "one grows" not in text


def test_small_fry_overshoot_and_settling() -> None:
    small_fry = case("small-fry", "rss")
    kill = "uid=10077,\tuRSS=100000000,\tmm_max=64000000,\tpid=9,\tpRSS=700000"
    output = (
        "spawn name=fry.0 pid=8 uid=10077\nspawn name=fry.1 pid=9 uid=10077\n"
        "state name=fry.0 pid=8 state=alive value=0\n"
        "state name=fry.1 pid=9 state=signaled value=9\n"
        "state name=fry.0 pid=8 state=signaled value=9\n"
        "state name=fry.1 pid=9 state=signaled value=9\n"
        "done\n"
    )
    text = failure(judge(small_fry, observed([kill], output)))
    assert "never over the limit by more than 8000000 bytes | 36000000" in text
    assert "fry.0 unchanged between the reports | alive → signaled" in text
    assert "fry.1 unchanged" not in text


@pytest.mark.parametrize(
    ("stdout", "message"),
    [
        ("ok 1 - a\nok 2 - b\n1..2\n", ""),
        ("ok 1 - a\nnot ok 2 - b\n1..2\n", "check of the program is ok | prog: not ok 2 - b"),
        ("ok 1 - a\n1..2\n", "a plan 1..N that matches the checks | prog: 1 checks, plan ['2']"),
        ("ok 1 - a\n", "plan []"),
        ("1..0\n", "0 checks"),
    ],
)
def test_tap(stdout: str, message: str) -> None:
    verdict = judge(case("set-mm-limits-contract", "rss"), observed([], stdout))
    if message:
        assert message in failure(verdict)
    else:
        assert verdict.findings == ()


def test_each_program_has_a_plan() -> None:
    evict = case("hostile-evict", "rss")
    good = "ok 1 - a\n1..1\n"
    assert judge(evict, observed([], good, good, good)).findings == ()
    assert "prog: 1 checks, plan []" in failure(judge(evict, observed([], good, "ok 1\n", good)))
    kill = "uid=10073,\tuRSS=100000000,\tmm_max=64000000,\tpid=9,\tpRSS=700000"
    assert "a kill of pid 9" in failure(judge(evict, observed([kill], good, good, good)))


def test_a_program_that_judges_its_kills() -> None:
    spin = case("hostile-spin", "rss")
    good = ["ok 1 - a\n1..1\n"] * 3
    kill = "uid=10076,\tuRSS=20200000,\tmm_max=20000000,\tpid=9,\tpRSS=700000"
    assert judge(spin, observed([kill], *good)).findings == ()
    assert judge(spin, observed([], *good)).findings == ()
    text = failure(judge(spin, observed([kill.replace("20200000", "21000000")], *good)))
    assert "never over the limit by more than 262144 bytes | 1000000" in text
    text = failure(judge(spin, observed([kill.replace("20200000", "20000000")], *good)))
    assert "uRSS > mm_max for pid 9" in text
    text = failure(judge(spin, observed([kill], *good[1:], "not ok 1 - a\n1..1\n")))
    assert "prog: not ok 1 - a" in text
    assert "kills for the program" in failure(judge(case("referee", "rss"), observed([], "")))


def test_output_that_must_be_there() -> None:
    cycle = case("module-cycle", "none")
    good = "cycle rounds=200 calls=900 enosys=300 bad=0\n"
    assert judge(cycle, observed([], good)).findings == ()
    assert "'bad=0' in the output" in failure(
        judge(cycle, observed([], good.replace("bad=0", "bad=1")))
    )


def unprivileged_observation() -> Observation:
    """What a right kernel shows in the scenario unprivileged, by hand's rules."""
    table: list[tuple[int, int]] = []
    log, output = [], []
    for step in BY_NAME["unprivileged"].steps:
        want = step.returns
        assert want is not None
        ret, errno = (-1, want.errno) if want.errno else (want.ret, "0")
        if step.verb == "killer":
            output.append(f"killer type={step.operands[0]} as=u0_a90 ret={ret} errno={errno}")
            continue
        uid = 10000 + int(step.operands[0].removeprefix("u0_a"))
        size = step.options.get("bytes", "remove")
        output.append(
            f"limit user={step.operands[0]} uid={uid} bytes={size} as=x ret={ret} errno={errno}"
        )
        if ret < 0:
            continue
        own = step.options.get("as") is not None
        if own:  # stays where it is, and is all that is logged
            table = [(uid, int(size)) if entry[0] == uid else entry for entry in table]
            table += [] if any(entry[0] == uid for entry in table) else [(uid, int(size))]
            log.append(f"uid={uid},mm_max={size}")
            continue
        table = [entry for entry in table if entry[0] != uid]
        if ret == 1:
            log.append("set_mm_limits: table full, evicted uid={},mm_max={}".format(*table.pop(0)))
        table.append((uid, int(size)))
        log += [f"uid={entry[0]},mm_max={entry[1]}" for entry in table]
    return observed(log, "\n".join([*output, "done"]))


def test_unprivileged_passes() -> None:
    assert judge(case("unprivileged", "none"), unprivileged_observation()).findings == ()


def test_an_apps_entry_is_given_up_first() -> None:
    """Root sets 1 to 8, app 20 its own, root 9 and 10: the app's goes, not the oldest."""
    app = {"bytes": "7", "as": "u0_a20"}
    users = [*range(1, 9), 20, 20, 9, 10]
    steps = tuple(
        Step(
            "limit",
            (f"u0_a{user}",),
            app if user == 20 else {"bytes": "5"},
            Returns(1 if user == 10 else 0),
        )
        for user in users
    )
    table = [(10000 + user, 5) for user in range(1, 9)]
    log = [line for number in range(1, 9) for line in table[:number]]
    log += [(10020, 7), (10020, 7), *table, (10020, 7), (10009, 5)]
    evict = "set_mm_limits: table full, evicted uid=10020,mm_max=7"
    after = [*table, (10009, 5), (10010, 5)]
    text = [*(f"uid={uid},mm_max={size}" for uid, size in log), evict]
    text += [f"uid={uid},mm_max={size}" for uid, size in after]
    output = "".join(
        f"limit user=u0_a{user} uid={10000 + user} bytes={7 if user == 20 else 5} as=x"
        f" ret={1 if user == 10 else 0} errno=0\n"
        for user in users
    )
    scenario = replace(BY_NAME["unprivileged"], steps=steps)
    observation = observed(text, output + "done\n")
    assert judge(Case(scenario, "none"), observation).findings == ()
    wrong = with_log(observation, lambda lines: [line.replace("10020", "10001") for line in lines])
    assert judge(Case(scenario, "none"), wrong).status is Status.FAILED


def test_a_failed_call_that_changed_the_table() -> None:
    observation = unprivileged_observation()
    changed = with_log(
        observation,
        lambda lines: [
            line.replace("40000000", "60000000") if number == 3 else line
            for number, line in enumerate(lines)
        ],
    )
    text = failure(judge(case("unprivileged", "none"), changed))
    assert "mm_max=40000000 | uid=10090,mm_max=60000000" in text
