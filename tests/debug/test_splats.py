# SPDX-License-Identifier: GPL-2.0-only
"""Real reports of a live debug kernel are found, each as what it is.

The golden logs of the unit tests show that the scanner knows the formats; only a
kernel that complains shows that what it says arrives, and that the check which
says it is switched on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness import ui
from harness.build.configure import parse_config
from harness.build.external import build_external
from harness.build.pipeline import Prepared
from harness.device.device import Device
from harness.errors import GuestCrash
from harness.layout import Layout
from harness.splat import scan

pytestmark = pytest.mark.debug

SOURCES = Path(__file__).parent / "provoke"
MODULE = "/data/local/tmp/provoke.ko"
# A task must be stuck for 15 s, on 3.4 for 70; who looks for it does so twice in that time.
CRASH_SECONDS = 200.0

# Kinds for which a kernel may be too old: the check is not in its config then.
NEWER = {"ubsan": "CONFIG_UBSAN", "kasan": "CONFIG_KASAN"}

REPORTS = (
    ("warning", "warning"),
    ("might-sleep", "might sleep"),
    ("rcu", "RCU usage"),
    ("ubsan", "UBSAN"),
    ("objects", "debug objects"),
    ("list", "list corruption"),
    # The last: lockdep looks no further after its first report.
    ("lockdep", "lockdep"),
)
CRASHES = (
    ("atomic", "scheduling while atomic"),
    ("kasan", "KASAN"),
    ("hung", "blocked for more than"),
    ("lockup", "soft lockup|detected stall|detected expedited stall"),
    ("oops", "Internal error|Unable to handle"),
)


@pytest.fixture(scope="module")
def module(prepared: Prepared) -> Path:
    with ui.stage("provoke"):
        return build_external(prepared.kernel, SOURCES, layout=Layout.default())[0]


@pytest.fixture(scope="module")
def device(start: Callable[[], Device]) -> Iterator[Device]:
    with closing(start()) as one:
        yield one


def require(prepared: Prepared, kind: str) -> None:
    """Skip what this line's debug config cannot ask for; that of linux-6.1 asks for all."""
    config = parse_config((prepared.kernel.image.parent / ".config").read_text())
    symbol = NEWER.get(kind)
    if symbol is not None and symbol not in config:
        pytest.skip(f"{prepared.kernel.target.line.name} is older than {symbol}")


def provoke(device: Device, module: Path, kind: str) -> None:
    device.push(module, MODULE)
    device.shell(["insmod", MODULE, f"kind={kind}"], timeout=60)


def kinds_in_log(device: Device) -> set[str]:
    log = device.shell(["dmesg"], timeout=60).stdout
    return {splat.kind for splat in scan(log.splitlines())}


def test_a_healthy_boot_has_no_report(device: Device) -> None:
    assert kinds_in_log(device) == set()


@pytest.mark.parametrize(("kind", "found"), REPORTS, ids=[kind for kind, _ in REPORTS])
def test_a_report_is_found(
    device: Device, module: Path, prepared: Prepared, kind: str, found: str
) -> None:
    require(prepared, kind)
    before = kinds_in_log(device)
    assert found not in before
    provoke(device, module, kind)
    device.shell(["rmmod", "provoke"], timeout=60)
    assert found in kinds_in_log(device)


def test_a_leak_is_found(start: Callable[[], Device], module: Path, prepared: Prepared) -> None:
    program = prepared.programs.files["mm_leaks"]
    with closing(start()) as device:
        device.push(program, "/data/local/tmp/mm_leaks")
        provoke(device, module, "leak")
        result = device.shell(["/data/local/tmp/mm_leaks"], timeout=300)
        assert result.returncode == 1
        assert "provoke_leak" in result.stdout
        assert "kmemleak" in kinds_in_log(device)


@pytest.mark.parametrize(("kind", "text"), CRASHES, ids=[kind for kind, _ in CRASHES])
def test_a_crash_ends_the_run(
    start: Callable[[], Device], module: Path, prepared: Prepared, kind: str, text: str
) -> None:
    require(prepared, kind)
    with closing(start()) as device, pytest.raises(GuestCrash) as caught:
        provoke(device, module, kind)
        deadline = time.monotonic() + CRASH_SECONDS
        while time.monotonic() < deadline:
            device.check()
            time.sleep(0.2)
    assert any(re.search(text, line) for line in (str(caught.value), *caught.value.details))
