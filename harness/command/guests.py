# SPDX-License-Identifier: GPL-2.0-only
"""Guests for people: a console, adb's shell, one command; one that stays, one for gdb."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness import kmsg, process, stamp, ui
from harness.build.pipeline import Prepared
from harness.case.guest import COMMAND_TIMEOUT_S, GUEST_DIR
from harness.command.booting import accelerate, equip, prepare_one, start_guest
from harness.command.selection import Selection
from harness.device import kept
from harness.device.accel import Accel
from harness.device.device import Device
from harness.device.emulated import EmulatedDevice
from harness.device.kept import KeptDevice
from harness.errors import ExitCode, HarnessError
from harness.kernels import KernelVariant, load_kernels
from harness.layout import Layout

KILLED = 128 + signal.SIGKILL

# Says to a process that it is the keeper; its parent waits until it has booted.
KEEPER = "MMLIMITS_KEEPER"

SHARE = "/mnt/share"


@dataclass(frozen=True, kw_only=True)
class How:
    """How to boot a guest for a person; None is the default.

    ``share`` is a folder of this machine to be seen in the guest; with ``gdb`` the guest
    waits for that.
    """

    policy: str | None = None
    cpus: int | None = None
    share: Path | None = None
    gdb: bool = False


def boot(selection: Selection, how: How, *, layout: Layout) -> int:
    """Boot and hand the console to the user until they leave or the guest ends."""
    selection = _for_gdb(selection, layout=layout) if how.gdb else selection
    arguments = _share_arguments(selection, how, layout=layout)
    emulator = selection.find_emulator(layout=layout)
    prepared, module = prepare_one(selection, how.policy, layout=layout)
    accel = accelerate(selection, prepared, layout=layout)
    start = partial(
        start_guest, prepared, accel, emulator, cpus=how.cpus, arguments=arguments, layout=layout
    )
    if how.gdb:
        return _debug(start, prepared, module)
    with closing(start()) as device:
        equip(device, prepared, policy=module)
        _mount(device, how)
        ui.say(f"from another terminal: adb connect {device.serial}")
        if emulator is not None:
            ui.say("this emulator's console takes no input: here is adb's shell")
            return _adb_shell(device, ())
        return device.interact()


def keep(selection: Selection, how: How, *, layout: Layout) -> int:
    """Boot a guest that stays when this has ended."""
    if how.gdb:
        raise HarnessError("--keep and --gdb do not go together", hint="leave one of them out")
    folder = layout.build / kept.FOLDER
    if KEEPER not in os.environ and kept.read(folder) is not None:
        raise HarnessError(
            "a guest is kept in this checkout already", hint="`./run boot --stop` ends it"
        )
    arguments = _share_arguments(selection, how, layout=layout)
    emulator = selection.find_emulator(layout=layout)
    prepared, module = prepare_one(selection, how.policy, layout=layout)
    accel = accelerate(selection, prepared, layout=layout)
    if KEEPER not in os.environ:
        return _await_keeper(folder)

    def start() -> EmulatedDevice:
        device = start_guest(
            prepared, accel, emulator, cpus=how.cpus, arguments=arguments, layout=layout
        )
        try:
            equip(device, prepared, policy=module)
            _mount(device, how)
        except BaseException:
            device.close()
            raise
        return device

    name = prepared.kernel.target.name
    keeper = kept.Keeper(folder, identity=identity(prepared, accel, cpus=how.cpus), target=name)
    keeper.keep(start)
    return int(ExitCode.PASSED)


def stop(*, layout: Layout) -> None:
    """End the guest that is kept."""
    there = kept.stop(layout.build / kept.FOLDER)
    ui.say("the guest has ended" if there else "no guest is kept in this checkout")


def identity(prepared: Prepared, accel: Accel, *, cpus: int | None) -> str:
    """What makes one guest as good as another."""
    files = [*prepared.programs.files.values()]
    if prepared.initramfs is not None:
        files.append(prepared.initramfs.path)
    hashes = (stamp.hash_file(path) for path in files)
    return stamp.digest(prepared.kernel.identity, accel.name, str(cpus), *hashes)


def kept_or_new(
    boot_one: Callable[[], Device], wanted: str, *, layout: Layout
) -> Callable[[], Device]:
    """Boots a guest, unless one of this identity is kept that nobody uses."""
    before = 0

    def start() -> Device:
        nonlocal before
        folder = layout.build / kept.FOLDER
        device = kept.take(folder, identity=wanted, after=before)
        if device is not None:
            before = device.boot
            return device
        if kept.read(folder) is not None:
            ui.say("the guest that is kept has another kernel, or is in use: booting one")
        return boot_one()

    return start


def _await_keeper(folder: Path) -> int:
    """Start this very command as the keeper, and wait until it has booted or failed."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / kept.LOG
    with ui.stage("boot") as stage, log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "invoke", *sys.argv[1:]],
            env={**os.environ, KEEPER: "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while (guest := kept.read(folder)) is None and keeper.poll() is None:
                stage.update("waiting for the guest")
                time.sleep(kept.POLL_SECONDS)
        except BaseException:
            keeper.terminate()
            raise
        if guest is None:
            stage.fail("the guest did not come up")
        else:
            stage.note(f"{guest.target}, {guest.accel}")
    if guest is None:
        ui.verbatim(log.read_text(encoding="utf-8", errors="replace").rstrip())
        return keeper.returncode or int(ExitCode.HARNESS_ERROR)
    ui.say(f"the guest stays: adb connect {guest.serial}; ./run boot --stop ends it")
    return int(ExitCode.PASSED)


def _for_gdb(selection: Selection, *, layout: Layout) -> Selection:
    """The same kernel with what gdb needs, built apart."""
    if selection.config is not None:
        raise HarnessError("--gdb and --config do not go together", hint="leave one of them out")
    line = load_kernels(layout).line(selection.kernel)
    variant = KernelVariant(name="gdb", configs=(line.gdb_config,), apart=True)
    return replace(selection, variant=variant)


def _debug(start: Callable[..., EmulatedDevice], prepared: Prepared, module: Path | None) -> int:
    """The console of a guest that waits for gdb before its first instruction."""
    with closing(start(gdb=True)) as device:
        vmlinux = prepared.kernel.image.with_name("vmlinux")
        scripts = prepared.kernel.scripts
        words = [shutil.which("gdb-multiarch") or "gdb-multiarch", str(vmlinux)]
        if scripts is not None:
            words[1:1] = ["-iex", f"add-auto-load-safe-path {scripts.parent}"]
            words += ["-ex", f"source {scripts}"]
        words += ["-ex", f"target remote 127.0.0.1:{device.gdb_port}"]
        ui.say("from another terminal (apt-get install gdb-multiarch), then `continue` there:")
        ui.verbatim(f"  {shlex.join(words)}")
        ui.say("for example `break __user_oom_pass`; `lx-dmesg` and `lx-ps` are the kernel's own")
        device.when_up(lambda: equip(device, prepared, policy=module))
        return device.interact()


def _share_arguments(selection: Selection, how: How, *, layout: Layout) -> tuple[str, ...]:
    """QEMU's arguments for a folder to be shared; HarnessError if that cannot be."""
    if how.share is None:
        return ()
    board = selection.target(load_kernels(layout), None).board
    if not how.share.is_dir():
        raise HarnessError(f"--share: there is no folder {how.share}")
    if not board.share_args:
        raise HarnessError(
            f"--share: the board {board.name} has no device for it",
            hint="choose a board of linux-6.1 or linux-6.12, or push files: exec --push FILE",
        )
    if "," in str(how.share):
        raise HarnessError(f"--share: {how.share} has a comma in its name", hint="rename it")
    fsdev = f"local,id=share,path={how.share.resolve()},security_model=none"
    return ("-fsdev", fsdev, *board.share_args)


def _mount(device: Device, how: How) -> None:
    if how.share is None:
        return
    options = "trans=virtio,version=9p2000.L"
    script = f"mkdir -p {SHARE} && mount -t 9p -o {options} share {SHARE}"
    done = device.shell(["sh", "-c", script], timeout=COMMAND_TIMEOUT_S)
    if done.returncode != 0:
        raise HarnessError(f"--share: cannot mount it in the guest: {done.stderr.strip()}")
    ui.say(f"{how.share} is {SHARE} in the guest")


def adb_shell(
    selection: Selection, argv: Sequence[str], *, policy: str | None, layout: Layout
) -> int:
    """Boot, then the real adb client's shell on our terminal, or one command in it."""
    emulator = selection.find_emulator(layout=layout)
    prepared, module = prepare_one(selection, policy, layout=layout)
    accel = accelerate(selection, prepared, layout=layout)
    with closing(start_guest(prepared, accel, emulator, layout=layout)) as device:
        equip(device, prepared, policy=module)
        return _adb_shell(device, argv)


def _adb_shell(device: EmulatedDevice, argv: Sequence[str]) -> int:
    client = ["adb", "-P", str(device.adb_server_port), "-s", device.serial, "shell", *argv]
    return process.passthrough(client)


def execute(
    selection: Selection,
    argv: Sequence[str],
    *,
    policy: str | None,
    user: str | None,
    push: Sequence[Path],
    timeout: float,
    layout: Layout,
    in_kept: bool = False,
) -> int:
    """Boot, push, run one command; its output is passed on and its exit code returned."""
    if not argv:
        raise HarnessError("exec: no command given", hint="./run exec -- COMMAND ARGUMENT…")
    _check_push(push)
    if in_kept:
        return _execute_kept(argv, user=user, push=push, timeout=timeout, layout=layout)
    emulator = selection.find_emulator(layout=layout)
    prepared, module = prepare_one(selection, policy, layout=layout)
    _check_push(push, taken=prepared)
    accel = accelerate(selection, prepared, layout=layout)
    with closing(start_guest(prepared, accel, emulator, layout=layout)) as device:
        equip(device, prepared, extra=push, policy=module)
        status = device.pipe(argv, timeout=timeout, user=user)
        if status == KILLED:
            _say_who_killed(device)
    return status


def _execute_kept(
    argv: Sequence[str],
    *,
    user: str | None,
    push: Sequence[Path],
    timeout: float,
    layout: Layout,
) -> int:
    """One command in the guest that is kept, whoever else uses it."""
    guest = kept.read(layout.build / kept.FOLDER)
    if guest is None:
        raise HarnessError("no guest is kept in this checkout", hint="`./run boot --keep`")
    device = KeptDevice(layout.build / kept.FOLDER, guest)
    for path in push:
        device.push(path, f"{GUEST_DIR}/{path.name}")
    status = device.pipe(argv, timeout=timeout, user=user)
    if status == KILLED:
        _say_who_killed(device)
    return status


def _check_push(push: Sequence[Path], *, taken: Prepared | None = None) -> None:
    """Raise HarnessError on a file that cannot be pushed, or that would hide another."""
    ours: set[str] = set()
    if taken is not None:
        ours = {*taken.programs.files, *(module.name for module in taken.kernel.modules)}
    named: dict[str, Path] = {}
    for path in push:
        if path.is_dir():
            raise HarnessError(f"--push: {path} is a folder", hint="push its files, or an archive")
        if not path.is_file():
            kind = "is not a regular file" if path.exists() else "is not there"
            raise HarnessError(f"--push: the file {path} {kind}")
        if not os.access(path, os.R_OK):
            raise HarnessError(f"--push: the file {path} may not be read")
        other = named.setdefault(path.name, path)
        if not other.samefile(path):
            raise HarnessError(
                f"--push: {other} and {path} would have the same name in the guest",
                hint=f"all files go to {GUEST_DIR}: rename one of them",
            )
        if path.name in ours:
            raise HarnessError(
                f"--push: {path} has the name of a file of ours in {GUEST_DIR}",
                hint="rename it",
            )


def _say_who_killed(device: Device) -> None:
    """One line for a command that was killed by a limit, or by another killer of the kernel.

    The guest has just been booted: what its log tells is about this command.
    """
    lines = device.shell(["dmesg"], timeout=COMMAND_TIMEOUT_S, urgent=True).stdout.splitlines()
    for event in reversed(kmsg.parse(lines)):
        if isinstance(event, kmsg.KillEvent):
            ui.verbatim(f"killed by its user's limit: {kmsg.text(lines[event.line])}")
            return
        if isinstance(event, kmsg.OtherKillEvent):
            ui.verbatim(f"killed by the {event.killer}: {kmsg.text(lines[event.line])}")
            return
