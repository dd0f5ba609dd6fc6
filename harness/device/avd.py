# SPDX-License-Identifier: GPL-2.0-only
"""The Android emulator as a device: our kernel on the goldfish board.

The emulator's classic engine is the only one that has an ARM goldfish board.  In it
runs either Android, from a system image, or our initramfs for those who have no
image.  The virtual device (AVD) is made anew for each boot, in a folder of its own
that goes with it: nothing of the user's is read or changed.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import process
from harness.device.adb import ANDROID, AdbLink, free_port
from harness.device.console import Console
from harness.device.emulated import EmulatedDevice, Guest, start_with_free_ports
from harness.errors import GuestCrash, HarnessError
from harness.kernels import EmulatorSettings, Target

AVD = "mmlimits"

# Our initramfs is up in seconds; Android, with its compiler for apps, in minutes.
BOOT_SECONDS = 120.0
ANDROID_BOOT_SECONDS = 900.0
ADB_ROOT_SECONDS = 30.0
POLL_SECONDS = 1.0

GUEST_ADB_PORT = 5555

# What a guest says that has switched itself off, or was to reboot: the classic engine
# stays all the same.
HALTED = r"System halted"

PORT_TAKEN = "Address already in use"

# Newer emulators have more than one engine, older ones do not know the option.
ENGINE = "-engine"


@dataclass(frozen=True, kw_only=True)
class AvdRequest:
    """What to boot, and with which emulator.

    ``system_image`` is the folder of an Android system image, ``initramfs`` ours;
    exactly one of them is given.  ``patience`` is how many seconds the boot may take,
    None what is usual.
    """

    target: Target
    image: Path
    emulator: Path
    run_dir: Path
    system_image: Path | None = None
    initramfs: Path | None = None
    patience: float | None = None


def boot(request: AvdRequest) -> EmulatedDevice:
    """Make the AVD, start the emulator and wait until what is in it can be used.

    Raises GuestCrash if the guest crashes or does not come up, HarnessError if the
    emulator cannot be started.
    """
    options = supported_options(request.emulator)
    if not request.image.is_file():
        raise HarnessError(f"there is no {request.image}", hint="`./run build` makes it")
    make = _initramfs_device if request.system_image is None else _android_device
    return start_with_free_ports(
        lambda: make(request, make_avd(request), options),
        port_taken=lambda error: isinstance(error, PortTaken),
    )


def _initramfs_device(request: AvdRequest, folder: Path, options: frozenset[str]) -> AvdDevice:
    """The guest's port is forwarded by QEMU itself: its adbd knows of no emulator."""
    console, unused, port = free_port(), free_port(), free_port()
    return AvdDevice(
        Guest(
            name="avd",
            accel="tcg",
            argv=[
                *command_line(request, options, ports=(console, unused)),
                *("-redir", f"tcp:{port}::{GUEST_ADB_PORT}"),
            ],
            env=environment(folder),
            serial=f"127.0.0.1:{port}",
            run_dir=request.run_dir,
            patience=request.patience or BOOT_SECONDS,
            halted=HALTED,
        ),
        folder,
    )


def _android_device(request: AvdRequest, folder: Path, options: frozenset[str]) -> AvdDevice:
    console, port = free_port(), free_port()
    return AndroidDevice(
        Guest(
            name="avd",
            accel="tcg",
            argv=command_line(request, options, ports=(console, port)),
            env=environment(folder),
            serial=f"127.0.0.1:{port}",
            run_dir=request.run_dir,
            patience=request.patience or ANDROID_BOOT_SECONDS,
            ready=None,
            halted=HALTED,
            user_space=ANDROID,
        ),
        folder,
    )


def command_line(
    request: AvdRequest, options: frozenset[str], *, ports: tuple[int, int]
) -> list[str]:
    """The emulator's arguments; ``ports`` are those of its console and of adb."""
    engine = [ENGINE, "classic"] if ENGINE in options else []
    ramdisk = ["-ramdisk", str(request.initramfs)] if request.initramfs is not None else []
    return [
        str(request.emulator),
        *("-avd", AVD),
        *engine,
        *("-kernel", str(request.image)),
        *ramdisk,
        *("-memory", str(_settings(request.target).memory)),
        *("-no-window", "-no-audio", "-no-boot-anim", "-no-snapshot", "-noskin"),
        "-show-kernel",
        *("-ports", f"{ports[0]},{ports[1]}"),
        # What follows is for the engine.
        *("-qemu", "-append", request.target.board.append),
    ]


def supported_options(emulator: Path) -> frozenset[str]:
    """The options that the emulator's help lists; HarnessError if it is no emulator."""
    if not emulator.is_file():
        raise HarnessError(
            f"--emulator: there is no file {emulator}",
            hint="it wants the program `emulator` of an SDK, or an engine like emulator64-arm",
        )
    if not os.access(emulator, os.X_OK):
        raise HarnessError(f"--emulator: {emulator} is not executable")
    result = process.run([emulator, "-help"], what=f"{emulator} -help", check=False)
    options = re.findall(r"^ *(-[\w-]+)", "\n".join(result.output), re.MULTILINE)
    if "-show-kernel" not in options:
        raise HarnessError(
            f"--emulator: {emulator} is no Android emulator: its -help lists no -show-kernel",
            details=result.output[-5:],
        )
    return frozenset(options)


def environment(folder: Path) -> dict[str, str]:
    """Where the emulator finds the AVD, and where it leaves its own files."""
    home = str(folder)
    return {
        "HOME": home,
        "ANDROID_AVD_HOME": home,
        "ANDROID_EMULATOR_HOME": home,
        "ANDROID_SDK_HOME": home,
        "ANDROID_SDK_ROOT": str(folder / "sdk"),
        "ANDROID_HOME": str(folder / "sdk"),
        # It tells an adb server that it is there; nobody listens at this port.
        "ANDROID_ADB_SERVER_PORT": "1",
    }


def make_avd(request: AvdRequest) -> Path:
    """Write an AVD into a new folder of the run's; returns that."""
    settings = _settings(request.target)
    folder = request.run_dir / "avd"
    data = folder / f"{AVD}.avd"
    data.mkdir(parents=True)
    # Without these, the emulator does not take the folder for an SDK.
    for name in ("platforms", "platform-tools"):
        (folder / "sdk" / name).mkdir(parents=True)
    system = request.system_image or _empty_image(folder)
    _write_ini(
        folder / f"{AVD}.ini",
        {"avd.ini.encoding": "UTF-8", "path": str(data), "target": settings.target},
    )
    _write_ini(
        data / "config.ini",
        {
            "avd.ini.encoding": "UTF-8",
            "tag.id": "default",
            **settings.config,
            "hw.ramSize": str(settings.memory),
            "disk.dataPartition.size": "800M" if request.system_image else "64M",
            "image.sysdir.1": f"{system}/",
        },
    )
    return folder


def _empty_image(folder: Path) -> Path:
    """Files that the emulator wants to see, though an initramfs needs none of them."""
    image = folder / "image"
    image.mkdir()
    for name in ("system.img", "userdata.img", "ramdisk.img"):
        (image / name).touch()
    return image


def _write_ini(path: Path, values: Mapping[str, str]) -> None:
    text = "".join(f"{key}={value}\n" for key, value in values.items())
    path.write_text(text, encoding="utf-8")


def _settings(target: Target) -> EmulatorSettings:
    if target.board.emulator is None:
        raise HarnessError(f"the Android emulator has no board like {target.board.name}")
    return target.board.emulator


class PortTaken(HarnessError):
    """Somebody else took a port between our look and the emulator's."""


class AvdDevice(EmulatedDevice):
    """A guest in the Android emulator; ``close()`` removes its AVD."""

    def __init__(self, guest: Guest, folder: Path) -> None:
        super().__init__(guest)
        self._folder = folder

    def _await_guest(self, console: Console, link: AdbLink) -> None:
        super()._await_guest(console, link)
        self._require_own_ports(console)

    def _require_own_ports(self, console: Console) -> None:
        """The emulator goes on without its ports: another guest may have answered."""
        if console.has_said(PORT_TAKEN):
            raise PortTaken("the Android emulator did not get its ports", details=console.tail())

    def close(self) -> None:
        """See Device.close()."""
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)


class AndroidDevice(AvdDevice):
    """Android in the emulator: up when it says so, and used as root."""

    shared = True

    def _await_guest(self, console: Console, link: AdbLink) -> None:
        """Wait for adb, become root, and wait until Android has booted."""
        deadline = time.monotonic() + self._guest.patience
        link.connect(timeout=self._guest.patience, check=console.check)
        self._require_own_ports(console)
        self._wait("adb does not answer", deadline, lambda: _answers(link, "true") == "")
        if _answers(link, "id -u") != "0":
            link.restart_as_root()
        rooted = time.monotonic() + ADB_ROOT_SECONDS
        self._wait("adbd does not run as root", rooted, lambda: _answers(link, "id -u") == "0")
        self._wait(
            "Android has not booted (sys.boot_completed is not 1)",
            deadline,
            lambda: _answers(link, "getprop sys.boot_completed") == "1",
        )

    def _wait(self, complaint: str, deadline: float, done: Callable[[], object]) -> None:
        assert self._console is not None
        while not done():
            self._console.check()
            if time.monotonic() > deadline:
                raise GuestCrash(f"the guest: {complaint}", details=self._console.tail())
            time.sleep(POLL_SECONDS)


def _answers(link: AdbLink, command: str) -> str | None:
    """What the command prints, or None where the guest does not answer."""
    try:
        link.connect(timeout=0)
        result = link.shell(command.split(), timeout=10)
    except (HarnessError, OSError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
