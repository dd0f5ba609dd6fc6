# SPDX-License-Identifier: GPL-2.0-only
"""The packages that we tell people to install are there: apt is asked for each."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.command import doctor
from harness.debian import package_of
from harness.kernels import load_kernels
from harness.layout import Layout

ROOT = Path(__file__).parents[2]
ADVICE = re.compile(r"apt(?:-get)? install (?:-\S+ )*((?:[a-z0-9][a-z0-9+.-]+ ?)+)")


def advised() -> Iterator[tuple[str, str]]:
    """Each package that is named to a user, and where."""
    packages = ROOT / "configs" / "debian-packages.txt"
    for line in packages.read_text().splitlines():
        if name := line.split("#")[0].strip():
            yield name, packages.name
    texts = [ROOT / "run", ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for text in (*texts, *(ROOT / "harness").rglob("*.py")):
        for names in ADVICE.findall(text.read_text()):
            for name in names.split():
                yield name, str(text.relative_to(ROOT))
    kernels = load_kernels(Layout.at(ROOT))
    for tool in doctor.tools(kernels):
        yield tool.package, f"doctor, for {tool.command}"


def test_every_package_that_is_advised_exists() -> None:
    if shutil.which("apt-cache") is None:
        pytest.skip("apt is not here, so nobody can be asked")
    where = dict(advised())
    assert {"unzip", "qemu-system-x86", "python3-venv"} <= set(where)
    known = subprocess.run(
        ["apt-cache", "--no-all-versions", "show", *where], capture_output=True, text=True
    ).stdout
    there = set(re.findall(r"^Package: (.+)$", known, re.MULTILINE))
    assert {name: where[name] for name in where if name not in there} == {}


@pytest.mark.parametrize(
    ("command", "package"),
    [
        ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"),
        ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("qemu-system-aarch64", "qemu-system-arm"),
        ("qemu-system-arm", "qemu-system-arm"),
        ("xz", "xz-utils"),
        ("make", "make"),
    ],
)
def test_names_of_commands_and_packages(
    monkeypatch: pytest.MonkeyPatch, command: str, package: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert package_of(command) == package


def test_the_compiler_of_this_machine_is_in_no_package_of_a_cross_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert package_of("x86_64-linux-gnu-gcc") == "gcc"
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert package_of("x86_64-linux-gnu-gcc") == "gcc-x86-64-linux-gnu"
