# SPDX-License-Identifier: GPL-2.0-only
"""The options about devices choose board, emulator and ramdisk, or are refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.command.selection import Selection
from harness.device.start import DeviceOptions, Emulator
from harness.errors import HarnessError
from harness.kernels import load_kernels
from harness.layout import Layout
from harness.source import sdk

KERNELS = load_kernels(Layout.default())


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """This checkout, with a cache that has no SDK."""
    for name in sdk.SDK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    ours = Layout.default()
    return Layout(root=ours.root, build=ours.build, cache=tmp_path / "cache")


def selection(kernel: str, **options: str) -> Selection:
    return Selection(kernel=kernel, on=DeviceOptions(**options))


@pytest.mark.parametrize(
    ("kernel", "options", "board"),
    [
        ("linux-6.1", {}, "arm-virt"),
        ("linux-6.1", {"device": "qemu"}, "arm-virt"),
        ("goldfish-3.4", {}, "vexpress"),
        ("goldfish-3.4", {"device": "avd"}, "goldfish"),
    ],
)
def test_the_device_chooses_the_board(kernel: str, options: dict[str, str], board: str) -> None:
    assert selection(kernel, **options).target(KERNELS).board.name == board


@pytest.mark.parametrize(
    ("kernel", "options", "complaint"),
    [
        ("linux-6.1", {"device": "avd"}, "linux-6.1 has no board for --device=avd"),
        ("goldfish-3.4", {"device": "phone"}, "unknown device: 'phone'"),
        ("goldfish-3.4", {"device": "avd", "ramdisk": "mine"}, "unknown ramdisk 'mine'"),
        ("goldfish-3.4", {"ramdisk": "ours"}, "--ramdisk is for the Android emulator"),
        ("linux-6.1", {"emulator": "/bin/sh"}, "--emulator is for the Android emulator"),
    ],
)
def test_what_does_not_go_together(kernel: str, options: dict[str, str], complaint: str) -> None:
    with pytest.raises(HarnessError, match=complaint):
        selection(kernel, **options).target(KERNELS)


def test_a_board_and_another_device() -> None:
    chosen = Selection(kernel="goldfish-3.4", board="vexpress", on=DeviceOptions(device="avd"))
    with pytest.raises(HarnessError, match="board vexpress is run by --device=qemu, not avd"):
        chosen.target(KERNELS)


def test_only_our_ramdisk_needs_an_initramfs() -> None:
    def made(kernel: str, **options: str) -> bool:
        return selection(kernel, **options).prepare_request(KERNELS, "rss").initramfs

    assert made("linux-6.1")
    assert made("goldfish-3.4", device="avd", ramdisk="ours")
    assert not made("goldfish-3.4", device="avd")


def test_a_wrong_ndk_is_found_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="it holds no ndk-build"):
        Selection(ndk=str(tmp_path)).prepare_request(KERNELS, "rss")


def test_an_emulator_that_was_given_is_not_looked_for(layout: Layout) -> None:
    chosen = selection("goldfish-3.4", device="avd", ramdisk="ours", emulator="/opt/emulator")
    found = chosen.find_emulator(layout=layout)
    assert found == Emulator(program=Path("/opt/emulator"), system_image=None)
    assert selection("linux-6.1").find_emulator(layout=layout) is None


def test_an_sdk_has_both(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    root = layout.cache / "sdk"
    image = root / "system-images" / "android-24" / "default" / "armeabi-v7a"
    (root / "emulator").mkdir(parents=True)
    monkeypatch.setenv("ANDROID_SDK_ROOT", str(root))
    chosen = selection("goldfish-3.4", device="avd")
    with pytest.raises(HarnessError, match="there is no system-images/android-24"):
        chosen.find_emulator(layout=layout)
    image.mkdir(parents=True)
    found = chosen.find_emulator(layout=layout)
    assert found == Emulator(program=root / "emulator" / "emulator", system_image=image)
