# SPDX-License-Identifier: GPL-2.0-only
"""The tasks of ``./run`` (and of ``invoke`` in the activated environment).

Only arguments are read here; harness/command/ does the work.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

# invoke switches this on, which would recompile the harness at every start.
sys.dont_write_bytecode = False

from harness.command import (
    benching,
    commands,
    grading,
    guests,
    own_policy,
    patching,
    streams,
    testing,
    watching,
)
from harness.command.cli import (
    caller_file,
    caller_path,
    finish,
    guarded,
    misuse_exits_2,
    take_several,
    words_after_dashes,
)
from harness.command.commands import Outputs
from harness.command.options import (
    ACCEL,
    BOARD,
    DEVICE,
    KERNEL,
    TARGET,
    USERLAND,
    WHICH_DEVICE,
    helps,
    selecting,
)
from harness.command.selection import Selection
from harness.errors import HarnessError
from harness.layout import Layout

streams.prepare()
take_several("grade", "also")
misuse_exits_2()

POLICY = {"policy": "rss, runtime, badness, none or a file in policies/ (default: rss)"}
CPUS = {"cpus": "CPUs of the guest (default: the board's)"}
RESULTS = {"results": "write the results as JSON to this file (default: not written)"}
REPORT = {"report": "write a page with pictures to this file, FILE.html (default: not written)"}


@task(
    help={
        **helps(KERNEL, USERLAND),
        "update": "look for newer versions (default: use the cache)",
        "sdk": "instead, parts of Google's Android SDK, with commas: emulator, system-image,"
        " ndk-r10e, ndk-r25c (default: none)",
        "accept_licence": "download them: you have read their licence (default: only show it)",
    }
)
@guarded
@selecting(KERNEL, USERLAND)
def fetch(
    _c: Context,
    selection: Selection,
    update: bool = False,
    sdk: str | None = None,
    accept_licence: bool = False,
) -> None:
    """Download the kernel source, the guest's busybox and adbd into the cache."""
    layout = Layout.default()
    if sdk is not None:
        commands.fetch_sdk(_names(sdk), accept_licence=accept_licence, layout=layout)
    else:
        commands.fetch(selection, update=update, layout=layout)


@task(
    help={
        **helps(KERNEL),
        "check": "only check that the series applies, no fuzz, no offset (default: apply)",
        "force": "drop edits made by hand, after saving copies (default: keep them)",
        "export": "write the edits made by hand as a patch to this file (default: do not)",
        "subject": "the first line of that patch (default: mm: change the killers)",
        "git": "make a git repository of the source and the series here (default: do not)",
        "track": "make the tree that is built a git repository, for git diff (default: do not)",
        "from_git": "write the commits of such a repository back to patches/ (default: do not)",
    }
)
@guarded
@selecting(KERNEL)
def patch(
    _c: Context,
    selection: Selection,
    check: bool = False,
    force: bool = False,
    export: str | None = None,
    subject: str = "mm: change the killers",
    track: bool = False,
    git: str | None = None,
    from_git: str | None = None,
) -> None:
    """Apply the patch series to a copy of the source; or make patches, or a git repository."""
    layout = Layout.default()
    if sum(map(bool, (check, force, export, track, git, from_git))) > 1:
        raise HarnessError(
            "patch does one thing at a time",
            hint="give one of --check, --force, --export, --track, --git, --from-git",
        )
    if export is not None:
        patching.export(selection, caller_file(export), subject=subject, layout=layout)
    elif track:
        patching.track(selection, layout=layout)
    elif git is not None:
        patching.to_git(selection, caller_file(git), layout=layout)
    elif from_git is not None:
        patching.from_git(selection, caller_file(from_git), layout=layout)
    elif check:
        patching.check(selection, layout=layout)
    else:
        patching.apply_patches(selection, force=force, layout=layout)


@task(
    help={
        **helps(TARGET, WHICH_DEVICE),
        "policy": "rss, runtime, badness, none, or several with commas (default: rss)",
        "all": "build every policy (default: off)",
    }
)
@guarded
@selecting(TARGET, WHICH_DEVICE)
def build(_c: Context, selection: Selection, policy: str | None = None, all: bool = False) -> None:
    """Build the kernel, its modules and the guest's programs."""
    commands.build(selection, policies=_names(policy), every=all, layout=Layout.default())


@task(
    help={
        **helps(TARGET, DEVICE, USERLAND, ACCEL),
        **POLICY,
        **CPUS,
        "keep": "leave the guest running, for try, exec and watch (default: off)",
        "stop": "end the guest that was left running (default: off)",
        "gdb": "wait for gdb, and say what to type there (default: off)",
        "share": "a folder of this machine, to be seen in the guest as /mnt/share (default: none)",
    }
)
@guarded
@selecting(TARGET, DEVICE, USERLAND, ACCEL)
def boot(
    _c: Context,
    selection: Selection,
    policy: str | None = None,
    cpus: int = 0,
    keep: bool = False,
    stop: bool = False,
    gdb: bool = False,
    share: str | None = None,
) -> None:
    """Boot the kernel and open a shell on its console."""
    layout = Layout.default()
    if stop:
        guests.stop(layout=layout)
        return
    how = guests.How(policy=policy, cpus=cpus or None, share=_path(share), gdb=gdb)
    finish((guests.keep if keep else guests.boot)(selection, how, layout=layout))


@task(
    name="exec",
    iterable=["push"],
    help={
        **helps(TARGET, DEVICE, USERLAND, ACCEL),
        **POLICY,
        "user": "run as this user, for example u0_a70 (default: root)",
        "push": "file to push to /data/local/tmp first; may be repeated (default: none)",
        "timeout": "seconds the command may take (default: 600)",
        "kept": "in the guest that boot has left running (default: boot one)",
    },
)
@guarded
@selecting(TARGET, DEVICE, USERLAND, ACCEL)
def exec_(
    _c: Context,
    selection: Selection,
    user: str | None = None,
    push: list[str] | None = None,
    timeout: int = 600,
    policy: str | None = None,
    kept: bool = False,
) -> None:
    """Boot, run what follows `--` in the guest, and exit with its exit code."""
    code = guests.execute(
        selection,
        words_after_dashes(),
        policy=policy,
        user=user,
        push=[caller_file(path) for path in push or []],
        timeout=float(timeout),
        in_kept=kept,
        layout=Layout.default(),
    )
    finish(code)


@task(name="adb-shell", help={**helps(TARGET, DEVICE, USERLAND, ACCEL), **POLICY})
@guarded
@selecting(TARGET, DEVICE, USERLAND, ACCEL)
def adb_shell(_c: Context, selection: Selection, policy: str | None = None) -> None:
    """Boot and open adb's shell, or run what follows `--` in it."""
    layout = Layout.default()
    finish(guests.adb_shell(selection, words_after_dashes(), policy=policy, layout=layout))


@task(
    name="emulator-test",
    help={
        **helps(TARGET, DEVICE, USERLAND, ACCEL),
        **CPUS,
        **RESULTS,
        **REPORT,
        "policy": "policies with commas (default: all)",
        "scenario": "scenarios with commas, shell patterns allowed (default: all)",
        "junit": "write the results as JUnit XML to this file (default: not written)",
        "record": "write what was seen of each case to this folder, for judge (default: not"
        " written)",
        "jobs": "guests side by side (default: 2)",
        "seconds": "how long random scenarios go on (default: what each says, 10 to 20)",
        "seed": "what random scenarios begin with (default: 1)",
    },
)
@guarded
@selecting(TARGET, DEVICE, USERLAND, ACCEL)
def emulator_test(
    _c: Context,
    selection: Selection,
    policy: str | None = None,
    scenario: str | None = None,
    results: str | None = None,
    junit: str | None = None,
    report: str | None = None,
    record: str | None = None,
    jobs: int = 2,
    cpus: int = 0,
    seconds: int = 0,
    seed: int = 1,
) -> None:
    """Build, boot, run the scenarios and judge them."""
    code = commands.emulator_test(
        selection,
        policies=_names(policy),
        scenarios=_names(scenario),
        outputs=_outputs(results, junit, report, record, without_choice=sys.argv[1:]),
        jobs=jobs,
        cpus=cpus or None,
        layout=Layout.default(),
        seconds=seconds or None,
        seed=seed,
    )
    finish(code)


@task(
    name="try",
    positional=["file"],
    help={
        **helps(TARGET, USERLAND, ACCEL),
        **CPUS,
        **RESULTS,
        **REPORT,
        "file": "the policy, for example policies/youngest.c (default: none)",
        "scenario": "scenarios with commas (default: all that fit any policy, and its own)",
    },
)
@guarded
@selecting(TARGET, USERLAND, ACCEL)
def try_(
    _c: Context,
    selection: Selection,
    file: str,
    scenario: str | None = None,
    results: str | None = None,
    report: str | None = None,
    cpus: int = 0,
) -> None:
    """Build a policy that is one C file, boot, and show whom it kills and why."""
    code = own_policy.try_policy(
        selection,
        caller_file(file),
        scenarios=_names(scenario),
        outputs=_outputs(results, None, report, without_choice=sys.argv[1:]),
        cpus=cpus or None,
        layout=Layout.default(),
    )
    finish(code)


@task(
    positional=["file"],
    help={
        "file": "results that emulator-test has written as JSON (default: none)",
        "output": "the page to write (default: FILE as .html)",
    },
)
@guarded
def report(_c: Context, file: str, output: str | None = None) -> None:
    """Make the page of results that were written before."""
    commands.make_page(caller_file(file), _path(output))


@task(help={"seconds": "how long (default: until Ctrl-C)"})
@guarded
def watch(_c: Context, seconds: int = 0) -> None:
    """Show who has how much of its limit, and kills as they come, in the guest that is kept."""
    finish(watching.watch_kept(seconds=seconds or None, layout=Layout.default()))


@task(
    positional=["folder"],
    help={"folder": "what emulator-test has recorded (default: none)"},
)
@guarded
def judge(_c: Context, folder: str) -> None:
    """Judge again what was recorded, by the scenarios as they are now; boots nothing."""
    finish(
        commands.judge(caller_file(folder), command="./run emulator-test", layout=Layout.default())
    )


@task(
    positional=["before", "after"],
    help={
        "before": "results, or the bench.json of a bench (default: none)",
        "after": "another such file (default: none)",
    },
)
@guarded
def compare(_c: Context, before: str, after: str) -> None:
    """Show what differs between two results, or between two benches."""
    finish(commands.compare(caller_file(before), caller_file(after)))


@task(
    name="new-policy",
    positional=["name"],
    help={"name": "what it is called (default: none)"},
)
@guarded
def new_policy(_c: Context, name: str) -> None:
    """Write policies/NAME.c and a scenario for it, to start from."""
    own_policy.new_policy(name, layout=Layout.default())


@task(
    iterable=["also"],
    positional=["submission"],
    help={
        **helps(KERNEL, USERLAND, BOARD),
        **RESULTS,
        **REPORT,
        "submission": "what was handed in: a folder, patch, kernel tree or git repository, with"
        " #branch (default: none)",
        "also": "another submission, which may also be given as more arguments (default: none)",
        "contract": "how it speaks (default: configs/contracts/ours.toml)",
        "scheme": "the points (default: configs/grading.toml)",
        "guess": "propose a contract from the sources, and build nothing (default: no)",
        "resume": "keep the verdicts on what has not changed since (default: no)",
        "jobs": "submissions at a time (default: one for each two CPUs)",
    },
)
@guarded
@selecting(KERNEL, USERLAND, BOARD)
def grade(
    _c: Context,
    selection: Selection,
    submission: str,
    also: list[str] | None = None,
    contract: str | None = None,
    scheme: str | None = None,
    guess: bool = False,
    resume: bool = False,
    jobs: int = 0,
    results: str | None = None,
    report: str | None = None,
) -> None:
    """Build other people's implementation in a sandbox, boot it, judge it, give it points."""
    layout = Layout.default()
    if guess:
        grading.propose(caller_path(submission) or submission, layout=layout)
        return
    configs = layout.root / "configs"
    request = grading.Request(
        submissions=[caller_path(one) or one for one in (submission, *(also or []))],
        contract=_path(contract) or configs / "contracts" / "ours.toml",
        scheme=_path(scheme) or configs / "grading.toml",
        results=_path(results),
        report=_path(report),
        command="./run grade",
        resume=resume,
        jobs=jobs,
    )
    finish(grading.grade(selection, request, layout=layout))


@task(
    help={
        **helps(TARGET, USERLAND, ACCEL),
        "minutes": "how long it goes on (default: 1)",
        "seed": "what it begins with (default: 1)",
    }
)
@guarded
@selecting(TARGET, USERLAND, ACCEL)
def stress(_c: Context, selection: Selection, minutes: int = 1, seed: int = 1) -> None:
    """Breaches judged under fork bombs, setuid storms and little memory; then fuzz the calls."""
    again = ["emulator-test", f"--cpus={commands.STRESS_CPUS}", *sys.argv[2:]]
    code = commands.stress(
        selection,
        minutes=minutes,
        seed=seed,
        outputs=_outputs(without_choice=again),
        layout=Layout.default(),
    )
    finish(code)


@task(
    help={
        **helps(KERNEL, USERLAND, BOARD),
        "quick": "only the main figures, in few rounds (default: all of bench/plan.toml)",
        "report_only": "a missed target does not fail the bench (default: it does)",
        "results": "also write the figures as JSON to this file (default: build/bench/bench.json)",
    }
)
@guarded
@selecting(KERNEL, USERLAND, BOARD)
def bench(
    _c: Context,
    selection: Selection,
    quick: bool = False,
    report_only: bool = False,
    results: str | None = None,
) -> None:
    """Measure what limits cost, in instructions, beside an unpatched kernel and memcg."""
    code = benching.bench(
        selection,
        quick=quick,
        report_only=report_only,
        results=_path(results),
        reproduce=shlex.join(["./run", *sys.argv[1:]]),
        layout=Layout.default(),
    )
    finish(code)


@task(
    help={
        "only": "lint, unit, or kernels that configs/kernels.toml has for it ([test.NAME]:"
        " emulator, x86_64, debug ...), with commas (default: all but the debug kernels, and those"
        " that need a PATH in a variable only where that is set)"
    }
)
@guarded
def test(_c: Context, only: str | None = None) -> None:
    """Run the linters, the unit tests and the emulator tests."""
    finish(testing.test(only=_names(only), layout=Layout.default()))


@task
@guarded
def doctor(_c: Context) -> None:
    """Say what this machine lacks, with the command that fixes it."""
    finish(commands.doctor(layout=Layout.default()))


@task(help={"cache": "also remove downloads and compiled objects (default: keep them)"})
@guarded
def clean(_c: Context, cache: bool = False) -> None:
    """Remove what was built."""
    commands.clean(cache=cache, layout=Layout.default())


def _outputs(
    results: str | None = None,
    junit: str | None = None,
    report: str | None = None,
    record: str | None = None,
    *,
    without_choice: list[str],
) -> Outputs:
    return Outputs(
        results=_path(results),
        junit=_path(junit),
        report=_path(report),
        record=_path(record),
        reproduce=shlex.join(["./run", *sys.argv[1:]]),
        command=_without_choice(without_choice),
    )


def _names(text: str | None) -> tuple[str, ...]:
    """``a,b`` as names."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _path(text: str | None) -> Path | None:
    path = caller_path(text)
    return Path(path) if path is not None else None


def _without_choice(argv: list[str]) -> str:
    """The command line without the options that choose cases or say where results go."""
    dropped = (
        "--policy",
        "--scenario",
        "--results",
        "--junit",
        "--report",
        "--record",
        "--seconds",
        "--seed",
        "--minutes",
    )
    kept = []
    words = iter(argv)
    for word in words:
        if word in dropped:
            next(words, None)
        elif not word.startswith(tuple(f"{option}=" for option in dropped)):
            kept.append(word)
    return shlex.join(["./run", *kept])
