# SPDX-License-Identifier: GPL-2.0-only
"""The doctor names each thing that is missing and the command that fixes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from harness.command import doctor
from harness.command.doctor import Check, State
from tests.unit.fake_tree import Checkout, make_checkout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    return make_checkout(tmp_path, monkeypatch)


def examine(checkout: Checkout) -> dict[str, Check]:
    checks = doctor.examine(checkout.kernels, layout=checkout.layout)
    return {check.what: check for check in checks}


def test_what_is_there_is_ok(checkout: Checkout) -> None:
    checks = examine(checkout)
    assert checks["fake-arm-gcc"].state is State.OK
    assert checks["python3"].state is State.OK


def test_missing_command_has_its_package(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shutil.which
    lacking = ("fake-arm-gcc", "flex", "ccache")
    monkeypatch.setattr(
        shutil, "which", lambda name: None if name in lacking else found(name) or "/bin/x"
    )
    checks = examine(checkout)
    assert checks["fake-arm-gcc"].state is State.MISSING
    assert checks["fake-arm-gcc"].fix.endswith("install gcc-fake-arm")
    assert checks["flex"].fix == "sudo apt-get install flex"
    assert checks["ccache"].state is State.NOTE
    assert {check.what for check in doctor.missing(checks.values())} >= {"fake-arm-gcc", "flex"}


def test_full_disk_is_missing_space(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    check = examine(checkout)["disk space for build/"]
    assert check.state is State.MISSING
    assert "clean" in check.fix


def test_kvm_is_told_in_words(tmp_path: Path) -> None:
    assert "emulated" in doctor._kvm(tmp_path / "kvm").found
    (tmp_path / "kvm").touch()
    assert "proven only by a boot" in doctor._kvm(tmp_path / "kvm").found


def test_table_is_printed(checkout: Checkout) -> None:
    console = Console(width=120, record=True)
    console.print(doctor.table(list(examine(checkout).values())))
    assert "fake-arm-gcc" in console.export_text()


def test_every_package_is_in_the_list_of_run() -> None:
    """What the doctor would install, ./run installs."""
    root = Path(__file__).resolve().parents[3]
    text = (root / "configs/debian-packages.txt").read_text()
    packages = {line.split("#")[0].strip() for line in text.splitlines()}
    assert {tool.package for tool in doctor.TOOLS} - {"tar"} <= packages
