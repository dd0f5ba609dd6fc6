# SPDX-License-Identifier: GPL-2.0-only
"""The Android emulator is started and ended as it should be: a stand-in is.

A script stands in for Google's emulator, which cannot be had everywhere.  It checks
nothing of Android and runs no kernel: it says what a guest says, and runs our adbd,
built for this machine, at the port where the emulator would have the guest's.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.device import avd
from harness.device.avd import AvdRequest
from harness.device.emulated import EmulatedDevice
from harness.errors import GuestCrash, HarnessError
from harness.kernels import Target, load_kernels
from harness.layout import Layout

ROOT = Path(__file__).parents[3]

OPTIONS = ("-avd", "-kernel", "-ramdisk", "-show-kernel", "-engine", "-ports")

EMULATOR = """#!/bin/sh
if [ "$1" = -help ]; then
	printf '    %s  an option\\n' {options}
	exit 0
fi
echo "$@" >"{folder}/arguments"
cp -r "$ANDROID_AVD_HOME" "{folder}/avd-seen"
env >"{folder}/environment"
case "$*" in
*-redir*) port=$(echo "$*" | sed 's/.*tcp:\\([0-9]*\\)::5555.*/\\1/') ;;
*) port=$(echo "$*" | sed 's/.*-ports [0-9]*,\\([0-9]*\\).*/\\1/') ;;
esac
echo "Booting Linux on physical CPU 0"
{before}
exec "{folder}/adbd" -a 127.0.0.1 -p "$port" -n
"""


@pytest.fixture(scope="module")
def adbd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """adbd, whose shells look for programs in bin/ beside it first."""
    folder = tmp_path_factory.mktemp("build")
    (folder / "bin").mkdir()
    path = f'-DSHELL_PATH="{folder}/bin:/usr/bin:/bin"'
    sources = sorted(str(path) for path in (Path(__file__).parent / "adbd").glob("*.c"))
    subprocess.run(["cc", "-O1", path, "-o", str(folder / "adbd"), *sources], check=True)
    return folder / "adbd"


@pytest.fixture
def machine(tmp_path: Path, adbd: Path) -> Iterator[Path]:
    """A folder with the stand-in, and programs that an Android would have in bin/."""
    (tmp_path / "adbd").symlink_to(adbd)
    for name in ("zImage", "initramfs"):
        (tmp_path / name).touch()
    (tmp_path / "image").mkdir()
    (tmp_path / "bin").symlink_to(adbd.parent / "bin")
    stand_in(tmp_path)
    program(tmp_path / "bin" / "id", "echo 0")
    program(tmp_path / "bin" / "getprop", 'test "$1" = sys.boot_completed && echo 1')
    program(tmp_path / "bin" / "su", 'echo "su $*"')
    yield tmp_path
    assert not (tmp_path / "run" / "avd").exists()


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def stand_in(folder: Path, *, before: str = "", options: tuple[str, ...] = OPTIONS) -> None:
    script = EMULATOR.format(folder=folder, before=before, options=" ".join(options))
    (folder / "emulator").write_text(script)
    (folder / "emulator").chmod(0o755)


def target() -> Target:
    kernels = load_kernels(Layout(root=ROOT, build=ROOT / "build", cache=ROOT))
    return kernels.target(line="goldfish-3.4", device="avd", policy="rss")


def with_initramfs(folder: Path) -> AvdRequest:
    return AvdRequest(
        target=target(),
        image=folder / "zImage",
        emulator=folder / "emulator",
        run_dir=folder / "run",
        initramfs=folder / "initramfs",
        patience=20,
    )


def with_android(folder: Path) -> AvdRequest:
    return replace(with_initramfs(folder), initramfs=None, system_image=folder / "image")


def arguments(folder: Path) -> str:
    return (folder / "arguments").read_text()


def shell_as(device: EmulatedDevice, user: str) -> str:
    return device.shell(["id", "-u"], timeout=10, user=user).stdout.strip()


def test_our_initramfs(machine: Path) -> None:
    with avd.boot(with_initramfs(machine)) as device:
        assert device.shell(["echo", "a  b"], timeout=10).stdout == "a  b\n"
        assert (device.name, device.accel, device.shared) == ("avd", "tcg", False)
        assert shell_as(device, "u0_a70") == "su u0_a70 -c exec id -u"
    line = arguments(machine)
    assert f"-kernel {machine}/zImage -ramdisk {machine}/initramfs -memory 512 " in line
    assert "-append panic=-1 oops=panic -redir tcp:" in line
    config = (machine / "avd-seen" / "mmlimits.avd" / "config.ini").read_text()
    assert "hw.cpu.model=cortex-a8\n" in config
    seen = set((machine / "avd-seen" / "image").iterdir())
    assert {path.name for path in seen} == {"system.img", "userdata.img", "ramdisk.img"}


def test_android(machine: Path) -> None:
    with avd.boot(with_android(machine)) as device:
        assert (device.name, device.shared) == ("avd", True)
        assert shell_as(device, "u0_a70") == "su 10070 sh -c exec id -u"
        assert shell_as(device, "system") == "su system sh -c exec id -u"
    line = arguments(machine)
    assert "-ramdisk" not in line
    assert "-avd mmlimits -engine classic -kernel" in line
    assert "-no-window -no-audio -no-boot-anim -no-snapshot" in line
    config = (machine / "avd-seen" / "mmlimits.avd" / "config.ini").read_text()
    assert f"image.sysdir.1={machine}/image/\n" in config


def test_nothing_of_the_user_is_touched(machine: Path) -> None:
    avd.boot(with_initramfs(machine)).close()
    lines = (machine / "environment").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    for name in ("HOME", "ANDROID_AVD_HOME", "ANDROID_SDK_HOME", "ANDROID_EMULATOR_HOME"):
        assert values[name] == str(machine / "run" / "avd")
    assert values["ANDROID_ADB_SERVER_PORT"] == "1"


def test_an_old_emulator_has_one_engine(machine: Path) -> None:
    stand_in(machine, options=tuple(one for one in OPTIONS if one != "-engine"))
    avd.boot(with_initramfs(machine)).close()
    assert "-engine" not in arguments(machine)


def test_the_emulator_is_ended_when_the_guest_has_halted(machine: Path) -> None:
    stand_in(machine, before="echo 'System halted.'; sleep 60")
    with pytest.raises(GuestCrash, match="the guest ended by itself"):
        avd.boot(with_initramfs(machine))


def test_an_adbd_that_may_not_be_root(machine: Path) -> None:
    program(machine / "bin" / "id", "echo 2000")
    with pytest.raises(HarnessError, match="adb root: "):
        avd.boot(with_android(machine))


def test_an_android_that_does_not_come_up(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avd, "POLL_SECONDS", 0.05)
    program(machine / "bin" / "getprop", "echo 0")
    with pytest.raises(GuestCrash, match=r"has not booted \(sys.boot_completed is not 1\)"):
        avd.boot(replace(with_android(machine), patience=3))


def test_a_port_that_somebody_took_meanwhile(machine: Path) -> None:
    """The emulator goes on without, and the one that answers is another guest."""
    first = f'[ -e "{machine}/tried" ] || echo "bind: Address already in use"'
    stand_in(machine, before=f'{first}; touch "{machine}/tried"; rm -rf "{machine}/avd-seen"')
    avd.boot(with_initramfs(machine)).close()
    assert (machine / "tried").exists()


def test_an_emulator_that_is_none(machine: Path) -> None:
    program(machine / "emulator", "echo usage: something else")
    with pytest.raises(HarnessError, match="is no Android emulator") as caught:
        avd.boot(with_initramfs(machine))
    assert caught.value.details == ("usage: something else",)


def test_an_emulator_that_cannot_be_started(machine: Path) -> None:
    os.chmod(machine / "emulator", 0o644)
    with pytest.raises(HarnessError, match="--emulator: "):
        avd.boot(with_initramfs(machine))
    (machine / "emulator").unlink()
    with pytest.raises(HarnessError, match="--emulator: there is no file"):
        avd.boot(with_initramfs(machine))


def test_an_emulator_that_dies_at_start_shows_its_message(machine: Path) -> None:
    text = EMULATOR.format(folder=machine, before="", options=" ".join(OPTIONS))
    head = text[: text.index("echo")]
    (machine / "emulator").write_text(head + "echo 'emulator: ERROR: no AVD'; exit 1\n")
    with pytest.raises(HarnessError, match="ended at start") as caught:
        avd.boot(with_initramfs(machine))
    assert caught.value.details == ("emulator: ERROR: no AVD",)
