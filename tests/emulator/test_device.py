# SPDX-License-Identifier: GPL-2.0-only
"""The guest answers the real adb client as Android does, and a crash is seen at once."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.device import Device
from harness.errors import GuestCrash, HarnessError

pytestmark = pytest.mark.emulator

FILE_BYTES = 20_000_000

# From the line on the console to the exception.
CRASH_NOTICED_S = 5.0


@dataclass(frozen=True)
class AdbClient:
    """Debian's adb, with a server of its own so as not to meet the user's."""

    serial: str
    environment: dict[str, str]

    def run(self, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["adb", *args],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["adb", "-s", self.serial, *args],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def on_device(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.run("-s", self.serial, *args)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def adb(device: Device) -> Iterator[AdbClient]:
    client = AdbClient(device.serial, {**os.environ, "ANDROID_ADB_SERVER_PORT": str(free_port())})
    try:
        connected = client.run("connect", device.serial)
        assert "connected to" in connected.stdout, connected.stdout + connected.stderr
        yield client
    finally:
        client.run("kill-server")


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(random.Random(1).randbytes(FILE_BYTES))
    return path


def test_adb_shell_gives_the_exit_status(adb: AdbClient) -> None:
    assert adb.on_device("shell", "exit 3").returncode == 3
    assert adb.on_device("shell", "true").returncode == 0


def test_adb_shell_keeps_stderr_apart(adb: AdbClient) -> None:
    done = adb.on_device("shell", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_adb_push_and_pull_change_nothing(adb: AdbClient, big_file: Path) -> None:
    back = big_file.with_name("back")
    pushed = adb.on_device("push", str(big_file), "/data/local/tmp/big")
    assert pushed.returncode == 0, pushed.stderr
    pulled = adb.on_device("pull", "/data/local/tmp/big", str(back))
    assert pulled.returncode == 0, pulled.stderr
    adb.on_device("shell", "rm /data/local/tmp/big")
    assert back.read_bytes() == big_file.read_bytes()


def test_two_shells_at_once(adb: AdbClient) -> None:
    slow = adb.start("shell", "sleep 2; echo slow")
    try:
        assert adb.on_device("shell", "echo quick").stdout == "quick\n"
        assert slow.poll() is None
        assert slow.communicate(timeout=30)[0] == "slow\n"
    finally:
        slow.kill()
        slow.wait()


def test_a_closed_connection_kills_what_ran_in_it(adb: AdbClient, device: Device) -> None:
    client = adb.start("shell", "echo $$; exec sleep 1000")
    assert client.stdout is not None
    pid = client.stdout.readline().strip()
    status = ["cat", f"/proc/{pid}/cmdline"]
    assert "sleep" in device.shell(status, timeout=10).stdout
    client.kill()
    client.wait()
    deadline = time.monotonic() + 5
    while "sleep" in device.shell(status, timeout=10).stdout:
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.1)


def test_device_shell(device: Device) -> None:
    done = device.shell(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=10)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_device_shell_needs_no_quoting(device: Device) -> None:
    words = ["a b", "c'd", 'e"f', "$HOME", "*", "", "ü", "back\\slash"]
    done = device.shell(["printf", "%s\\n", *words], timeout=10)
    assert done.stdout.splitlines() == words


def test_device_shell_as_another_user(device: Device) -> None:
    done = device.shell(["id", "-u"], timeout=10, user="u0_a70")
    assert done.stdout == "10070\n"
    done = device.shell(["sh", "-c", "exit 4"], timeout=10, user="u0_a70")
    assert done.returncode == 4


def test_device_shell_that_does_not_end(device: Device) -> None:
    begin = time.monotonic()
    with pytest.raises(HarnessError) as caught:
        device.shell(["sleep", "1000"], timeout=1)
    assert not isinstance(caught.value, GuestCrash)
    assert time.monotonic() - begin < 5
    assert device.shell(["echo", "alive"], timeout=10).stdout == "alive\n"


def test_device_push_and_pull(device: Device, big_file: Path) -> None:
    back = big_file.with_name("back")
    device.push(big_file, "/data/local/tmp/big", mode=0o640)
    device.pull("/data/local/tmp/big", back)
    mode = device.shell(["stat", "-c", "%a", "/data/local/tmp/big"], timeout=10).stdout
    device.shell(["rm", "/data/local/tmp/big"], timeout=10)
    assert back.read_bytes() == big_file.read_bytes()
    assert mode == "640\n"


def test_device_push_of_a_file_that_is_not_there(device: Device, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="nothing"):
        device.push(tmp_path / "nothing", "/data/local/tmp/nothing")


def test_a_panic_is_noticed_within_seconds(boot: Callable[[], Device]) -> None:
    device = boot()
    begin = time.monotonic()
    with pytest.raises(GuestCrash) as caught:
        device.shell(["sh", "-c", "echo c > /proc/sysrq-trigger; sleep 60"], timeout=60)
    assert time.monotonic() - begin < CRASH_NOTICED_S
    assert int(caught.value.exit_code) == 3
    # Linux 3.4 crashes by following a null pointer, and says only that.
    crash = re.compile(r"sysrq triggered crash|handle kernel NULL pointer")
    assert any(crash.search(line) for line in caught.value.details), caught.value.details
    with pytest.raises(GuestCrash):
        device.check()
    device.close()
    device.close()
