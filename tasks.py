# SPDX-License-Identifier: GPL-2.0-only
"""The tasks of ``./run`` (and of ``invoke`` in the activated environment).

Only arguments are read here; harness/command/commands.py does the work.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

# invoke switches this on, which would recompile the harness at every start.
sys.dont_write_bytecode = False

from harness.command import commands, own_policy, streams
from harness.command.cli import (
    caller_file,
    caller_path,
    finish,
    guarded,
    misuse_exits_2,
    words_after_dashes,
)
from harness.command.commands import Outputs, Selection
from harness.device.accel import checked
from harness.device.start import DeviceOptions
from harness.errors import HarnessError
from harness.layout import Layout

streams.prepare()
misuse_exits_2()

KERNEL = {
    "kernel": "kernel line (default: linux-6.1; see configs/kernels.toml)",
    "source": "kernel tree, tarball, or URL of a tarball or git repository, with #branch"
    " (default: the line's own source)",
}
TARGET = {
    **KERNEL,
    "arch": "architecture (default: that of the line's default board)",
    "board": "board (default: the line's default board, for linux-6.1 arm-virt)",
    "toolchain": "prefix of the kernel's compiler, its CROSS_COMPILE (default: the board's)",
    "ndk": "folder of an Android NDK whose ndk-build makes the programs (default: none, the"
    " board's compiler does)",
    "config": "a fragment to merge into the board's config (default: none)",
    "debug-kernel": "add configs/debug.config: lockdep and other checks (default: off)",
}
DEVICE = {
    "device": "qemu or avd, the Android emulator (default: that of the board)",
    "emulator": "program of the Android emulator (default: that of the SDK)",
    "ramdisk": "for avd: image, Android's, or ours, without Android (default: image)",
}
ACCEL = {"accel": "auto, kvm or tcg (default: auto, which is KVM where a boot proves it)"}
BUSYBOX = {"busybox": "static busybox for the guest (default: Debian's busybox-static)"}
POLICY = {"policy": "rss, runtime, badness or none (default: rss)"}


@task(
    help={
        **KERNEL,
        **BUSYBOX,
        "update": "look for newer versions (default: use the cache)",
        "sdk": "instead, parts of Google's Android SDK, with commas: emulator, system-image,"
        " ndk-r10e, ndk-r25c (default: none)",
        "accept-licence": "download them: you have read their licence (default: only show it)",
    }
)
@guarded
def fetch(
    _c: Context,
    kernel: str | None = None,
    source: str | None = None,
    busybox: str | None = None,
    update: bool = False,
    sdk: str | None = None,
    accept_licence: bool = False,
) -> None:
    """Download the kernel source and the guest's busybox into the cache."""
    if sdk is not None:
        commands.fetch_sdk(_names(sdk), accept_licence=accept_licence, layout=Layout.default())
        return
    selection = Selection(kernel=kernel, source=caller_path(source), busybox=caller_path(busybox))
    commands.fetch(selection, update=update, layout=Layout.default())


@task(
    help={
        **KERNEL,
        "check": "only check that the series applies, no fuzz, no offset (default: apply)",
        "force": "drop edits made by hand, after saving copies (default: keep them)",
    }
)
@guarded
def patch(
    _c: Context,
    kernel: str | None = None,
    source: str | None = None,
    check: bool = False,
    force: bool = False,
) -> None:
    """Apply the patch series to a copy of the source."""
    commands.apply_patches(
        kernel,
        source=caller_path(source),
        check=check,
        force=force,
        layout=Layout.default(),
    )


@task(
    help={
        **TARGET,
        "device": DEVICE["device"],
        "policy": "rss, runtime, badness, none, or several with commas (default: rss)",
        "all": "build every policy (default: off)",
    }
)
@guarded
def build(
    _c: Context,
    policy: str | None = None,
    kernel: str | None = None,
    arch: str | None = None,
    board: str | None = None,
    source: str | None = None,
    all: bool = False,
    debug_kernel: bool = False,
    config: str | None = None,
    toolchain: str | None = None,
    ndk: str | None = None,
    device: str | None = None,
) -> None:
    """Build the kernel, its modules and the guest's programs."""
    commands.build(
        _selection(
            kernel,
            arch,
            board,
            source,
            None,
            debug_kernel,
            toolchain=toolchain,
            config=config,
            ndk=ndk,
            on=_device(device, None, None),
        ),
        policies=_names(policy),
        every=all,
        layout=Layout.default(),
    )


@task(
    help={
        **TARGET,
        **DEVICE,
        **POLICY,
        **BUSYBOX,
        **ACCEL,
        "cpus": "CPUs of the guest (default: the board's)",
    }
)
@guarded
def boot(
    _c: Context,
    policy: str | None = None,
    kernel: str | None = None,
    arch: str | None = None,
    board: str | None = None,
    source: str | None = None,
    busybox: str | None = None,
    cpus: int = 0,
    debug_kernel: bool = False,
    config: str | None = None,
    accel: str = "auto",
    toolchain: str | None = None,
    ndk: str | None = None,
    device: str | None = None,
    emulator: str | None = None,
    ramdisk: str | None = None,
) -> None:
    """Boot the kernel and open a shell on its console."""
    selection = _selection(
        kernel,
        arch,
        board,
        source,
        busybox,
        debug_kernel,
        accel,
        toolchain=toolchain,
        config=config,
        ndk=ndk,
        on=_device(device, emulator, ramdisk),
    )
    layout = Layout.default()
    finish(commands.boot(selection, policy=policy, cpus=cpus or None, layout=layout))


@task(
    name="exec",
    iterable=["push"],
    help={
        **TARGET,
        **DEVICE,
        **POLICY,
        **BUSYBOX,
        **ACCEL,
        "user": "run as this user, for example u0_a70 (default: root)",
        "push": "file to push to /data/local/tmp first; may be repeated (default: none)",
        "timeout": "seconds the command may take (default: 600)",
    },
)
@guarded
def exec_(
    _c: Context,
    user: str | None = None,
    push: list[str] | None = None,
    timeout: int = 600,
    policy: str | None = None,
    kernel: str | None = None,
    arch: str | None = None,
    board: str | None = None,
    source: str | None = None,
    busybox: str | None = None,
    debug_kernel: bool = False,
    config: str | None = None,
    accel: str = "auto",
    toolchain: str | None = None,
    ndk: str | None = None,
    device: str | None = None,
    emulator: str | None = None,
    ramdisk: str | None = None,
) -> None:
    """Boot, run what follows `--` in the guest, and exit with its exit code."""
    code = commands.execute(
        _selection(
            kernel,
            arch,
            board,
            source,
            busybox,
            debug_kernel,
            accel,
            toolchain=toolchain,
            config=config,
            ndk=ndk,
            on=_device(device, emulator, ramdisk),
        ),
        words_after_dashes(),
        policy=policy,
        user=user,
        push=[caller_file(path) for path in push or []],
        timeout=float(timeout),
        layout=Layout.default(),
    )
    finish(code)


@task(name="adb-shell", help={**TARGET, **DEVICE, **POLICY, **BUSYBOX, **ACCEL})
@guarded
def adb_shell(
    _c: Context,
    policy: str | None = None,
    kernel: str | None = None,
    arch: str | None = None,
    board: str | None = None,
    source: str | None = None,
    busybox: str | None = None,
    debug_kernel: bool = False,
    config: str | None = None,
    accel: str = "auto",
    toolchain: str | None = None,
    ndk: str | None = None,
    device: str | None = None,
    emulator: str | None = None,
    ramdisk: str | None = None,
) -> None:
    """Boot and open adb's shell, or run what follows `--` in it."""
    selection = _selection(
        kernel,
        arch,
        board,
        source,
        busybox,
        debug_kernel,
        accel,
        toolchain=toolchain,
        config=config,
        ndk=ndk,
        on=_device(device, emulator, ramdisk),
    )
    layout = Layout.default()
    finish(commands.adb_shell(selection, words_after_dashes(), policy=policy, layout=layout))


@task(
    name="emulator-test",
    help={
        **TARGET,
        **DEVICE,
        **BUSYBOX,
        **ACCEL,
        "policy": "policies with commas (default: all)",
        "scenario": "scenarios with commas, shell patterns allowed (default: all)",
        "results": "write the results as JSON to this file (default: not written)",
        "junit": "write the results as JUnit XML to this file (default: not written)",
        "report": "write a page with pictures to this file, FILE.html (default: not written)",
        "jobs": "policies run side by side (default: 2)",
        "cpus": "CPUs of the guest (default: the board's)",
        "seconds": "how long random scenarios go on (default: what each says, 10 to 20)",
        "seed": "what random scenarios begin with (default: 1)",
    },
)
@guarded
def emulator_test(
    _c: Context,
    policy: str | None = None,
    scenario: str | None = None,
    kernel: str | None = None,
    arch: str | None = None,
    board: str | None = None,
    source: str | None = None,
    busybox: str | None = None,
    results: str | None = None,
    junit: str | None = None,
    report: str | None = None,
    jobs: int = 2,
    cpus: int = 0,
    seconds: int = 0,
    seed: int = 1,
    debug_kernel: bool = False,
    config: str | None = None,
    accel: str = "auto",
    toolchain: str | None = None,
    ndk: str | None = None,
    device: str | None = None,
    emulator: str | None = None,
    ramdisk: str | None = None,
) -> None:
    """Build, boot, run the scenarios and judge them."""
    code = commands.emulator_test(
        _selection(
            kernel,
            arch,
            board,
            source,
            busybox,
            debug_kernel,
            accel,
            toolchain=toolchain,
            config=config,
            ndk=ndk,
            on=_device(device, emulator, ramdisk),
        ),
        policies=_names(policy),
        scenarios=_names(scenario),
        outputs=Outputs(
            results=_path(results),
            junit=_path(junit),
            report=_path(report),
            reproduce=shlex.join(["./run", *sys.argv[1:]]),
            command=_without_choice(sys.argv[1:]),
        ),
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
        **TARGET,
        **BUSYBOX,
        **ACCEL,
        "file": "the policy, for example policies/youngest.c (default: none)",
        "scenario": "scenarios with commas (default: all that fit any policy, and its own)",
        "results": "write the results as JSON to this file (default: not written)",
        "report": "write a page with pictures to this file, FILE.html (default: not written)",
        "cpus": "CPUs of the guest (default: the board's)",
    },
)
@guarded
def try_(
    _c: Context,
    file: str,
    scenario: str | None = None,
    kernel: str | None = None,
    arch: str | None = None,
    board: str | None = None,
    source: str | None = None,
    busybox: str | None = None,
    results: str | None = None,
    report: str | None = None,
    cpus: int = 0,
    debug_kernel: bool = False,
    config: str | None = None,
    accel: str = "auto",
    toolchain: str | None = None,
    ndk: str | None = None,
) -> None:
    """Build a policy that is one C file, boot, and show whom it kills and why."""
    code = own_policy.try_policy(
        _selection(
            kernel,
            arch,
            board,
            source,
            busybox,
            debug_kernel,
            accel,
            toolchain=toolchain,
            ndk=ndk,
            config=config,
        ),
        caller_file(file),
        scenarios=_names(scenario),
        outputs=Outputs(
            results=_path(results),
            junit=None,
            report=_path(report),
            reproduce=shlex.join(["./run", *sys.argv[1:]]),
            command=_without_choice(["emulator-test", *sys.argv[3:]]),
        ),
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
    help={
        **TARGET,
        **BUSYBOX,
        **ACCEL,
        "minutes": "how long it goes on (default: 1)",
        "seed": "what it begins with (default: 1)",
    }
)
@guarded
def stress(
    _c: Context,
    minutes: int = 1,
    seed: int = 1,
    kernel: str | None = None,
    arch: str | None = None,
    board: str | None = None,
    source: str | None = None,
    busybox: str | None = None,
    debug_kernel: bool = False,
    config: str | None = None,
    accel: str = "auto",
    toolchain: str | None = None,
    ndk: str | None = None,
) -> None:
    """Breaches judged under fork bombs, setuid storms and little memory; then fuzz the calls."""
    code = commands.stress(
        _selection(
            kernel,
            arch,
            board,
            source,
            busybox,
            debug_kernel,
            accel,
            toolchain=toolchain,
            ndk=ndk,
            config=config,
        ),
        minutes=minutes,
        seed=seed,
        outputs=Outputs(
            results=None,
            junit=None,
            reproduce=shlex.join(["./run", *sys.argv[1:]]),
            command=_without_choice(
                ["emulator-test", f"--cpus={commands.STRESS_CPUS}", *sys.argv[2:]]
            ),
        ),
        layout=Layout.default(),
    )
    finish(code)


@task(
    help={
        **KERNEL,
        **BUSYBOX,
        "board": "board (default: the line's default board, for linux-6.1 arm-virt)",
        "quick": "only the main figures, in few rounds (default: all of bench/plan.toml)",
        "report_only": "a missed target does not fail the bench (default: it does)",
        "results": "also write the figures as JSON to this file (default: build/bench/bench.json)",
    }
)
@guarded
def bench(
    _c: Context,
    kernel: str | None = None,
    board: str | None = None,
    source: str | None = None,
    busybox: str | None = None,
    quick: bool = False,
    report_only: bool = False,
    results: str | None = None,
) -> None:
    """Measure what limits cost, in instructions, beside an unpatched kernel and memcg."""
    code = commands.bench(
        _selection(kernel, None, board, source, busybox, False),
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
    finish(commands.test(only=_names(only), layout=Layout.default()))


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


def _selection(
    kernel: str | None,
    arch: str | None,
    board: str | None,
    source: str | None,
    busybox: str | None,
    debug: bool,
    accel: str = "auto",
    *,
    toolchain: str | None = None,
    ndk: str | None = None,
    on: DeviceOptions | None = None,
    config: str | None = None,
) -> Selection:
    return Selection(
        kernel=kernel,
        arch=arch,
        board=board,
        source=caller_path(source),
        busybox=caller_path(busybox),
        debug=debug,
        accel=checked(accel),
        toolchain=caller_path(toolchain) if "/" in (toolchain or "") else toolchain,
        ndk=caller_path(ndk),
        on=on or DeviceOptions(),
        config=_config(config),
    )


def _config(path: str | None) -> str | None:
    """A fragment that is there."""
    if path is None:
        return None
    file = caller_file(path)
    if not file.is_file():
        raise HarnessError(
            f"--config: there is no file {file}", hint="for example configs/all.config"
        )
    return str(file)


def _device(device: str | None, emulator: str | None, ramdisk: str | None) -> DeviceOptions:
    return DeviceOptions(device=device, emulator=caller_path(emulator), ramdisk=ramdisk)


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
