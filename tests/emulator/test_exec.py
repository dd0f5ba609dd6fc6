# SPDX-License-Identifier: GPL-2.0-only
"""`exec` is a pipe, tells who killed a command, and loses nothing when the guest crashes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.command import guests
from harness.errors import GuestCrash
from harness.layout import Layout
from tests.selected import selection

pytestmark = pytest.mark.emulator


def execute(*argv: str, user: str | None = None, push: list[Path] | None = None) -> int:
    return guests.execute(
        selection(),
        argv,
        policy="rss",
        user=user,
        push=push or [],
        timeout=60,
        layout=Layout.default(),
    )


def test_what_is_pushed_and_printed_arrives_as_it_is(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Variables of the user's are for the user's adb.
    for name in ("ADB_TRACE", "ANDROID_SERIAL", "ANDROID_ADB_SERVER_PORT", "ADB_SERVER_SOCKET"):
        monkeypatch.setenv(name, "nonsense")
    data = bytes(range(256)) * 1000
    (tmp_path / "some data").write_bytes(data)
    assert execute("cat", "/data/local/tmp/some data", push=[tmp_path / "some data"]) == 0
    assert capfdbinary.readouterr().out == data


def test_a_command_that_its_users_limit_kills_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    greedy = "mmlimit set u0_a70 30M && exec tail -c 60000000 /dev/zero"
    assert execute("sh", "-c", greedy, user="u0_a70") == 137
    told = [line for line in capfd.readouterr().err.splitlines() if "killed by" in line]
    assert len(told) == 1
    assert re.fullmatch(
        r"killed by its user's limit: uid=10070,\tuRSS=\d+,\tmm_max=31457280,\tpid=\d+,\tpRSS=\d+",
        told[0],
    )


def test_a_crash_takes_nothing_away_that_was_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GuestCrash):
        execute("sh", "-c", "echo printed; sleep 1; echo c > /proc/sysrq-trigger; sleep 60")
    assert capfd.readouterr().out == "printed\n"
