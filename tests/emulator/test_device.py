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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.device.device import Device
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


def test_what_runs_on_elsewhere_is_left_behind(device: Device) -> None:
    begin = time.monotonic()
    script = "sleep 1000 < /dev/null > /dev/null 2>&1 & echo $!"
    pid = device.shell(["sh", "-c", script], timeout=60).stdout.strip()
    assert time.monotonic() - begin < 30
    assert "sleep" in device.shell(["cat", f"/proc/{pid}/cmdline"], timeout=10).stdout
    device.shell(["kill", pid], timeout=10)


def test_device_shell_needs_no_quoting(device: Device) -> None:
    words = ["a b", "c'd", 'e"f', "$HOME", "*", "", "ü", "back\\slash"]
    done = device.shell(["printf", "%s\\n", *words], timeout=10)
    assert done.stdout.splitlines() == words


def test_device_shell_as_another_user(device: Device) -> None:
    done = device.shell(["id", "-u"], timeout=10, user="u0_a70")
    assert done.stdout == "10070\n"
    done = device.shell(["sh", "-c", "exit 4"], timeout=10, user="u0_a70")
    assert done.returncode == 4


@pytest.mark.parametrize(
    ("words", "uid"),
    [
        (["su", "10070", "-c", "id -u"], 10070),
        (["su", "10070", "id", "-u"], 10070),
        (["su", "u0_a70", "-c", "id -u"], 10070),
        (["su", "-", "u0_a70", "-c", "id -u"], 10070),
        (["su", "12345", "-c", "id -u"], 12345),
        (["su", "u0_a5000", "id", "-u"], 15000),
        (["su", "u10_a1", "id", "-u"], 1010001),
        (["su", "4000000000", "id", "-u"], 4000000000),
        (["su", "-c", "id -u", "u0_a70"], 10070),
        (["su", "-c", "id -u"], 0),
        (["sh", "-c", "exec su 10070 sh -c 'exec id -u'"], 10070),
        (["sh", "-c", "echo id -u | su 10070"], 10070),
    ],
)
def test_su_takes_any_name_and_any_number(device: Device, words: list[str], uid: int) -> None:
    if device.name != "qemu":
        pytest.skip("this su is that of our guest")
    done = device.shell(words, timeout=10)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{uid}\n", "")


@pytest.mark.parametrize("user", ["nobody-like-this", "10070x", "4294967295", "-1", "u0_a", "u_a1"])
def test_su_says_whom_it_does_not_know(device: Device, user: str) -> None:
    done = device.shell(["su", user, "-c", "id"], timeout=10)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"su: unknown user {user}\n"


def test_su_is_for_root(device: Device) -> None:
    done = device.shell(["su", "0", "id"], timeout=10, user="u0_a70")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "su: cannot become root: Operation not permitted\n"


def test_no_other_applet_of_busybox_was_lost(device: Device) -> None:
    script = "for a in $(busybox --list); do type $a > /dev/null 2>&1 || echo $a; done"
    # The name that busybox's own su has got (harness/build/rootfs.py).
    assert device.shell(["sh", "-c", script], timeout=60).stdout in ("s-\n", "")


# 400 processes that wait until all are there, and then want all the CPU for 12 s.
SPINNERS = """
mkfifo /tmp/go
for i in $(seq 400); do { read x < /tmp/go; while :; do :; done; } & done
sleep 1
: > /tmp/go
sleep 12
rm /tmp/go
kill -9 -1
"""


def test_a_guest_whose_users_burn_all_cpus_is_looked_after(device: Device) -> None:
    processes = ["sh", "-c", "cat /proc/[0-9]*/status | grep -c ^Name"]
    most, longest = 0, 0.0
    with ThreadPoolExecutor() as threads:
        users = threads.submit(device.shell, ["su", "10070", "sh", "-c", SPINNERS], timeout=120)
        while not users.done():
            done = device.shell(processes, timeout=20, urgent=True)
            most, longest = max(most, int(done.stdout)), max(longest, done.seconds)
        assert users.result().returncode == 0
    assert most > 400
    assert longest < 10
    device.check()


@pytest.mark.parametrize("urgent", [False, True])
def test_commands_have_the_usual_priority_and_urgent_ones_that_of_adbd(
    device: Device, urgent: bool
) -> None:
    if device.name != "qemu":
        pytest.skip("this shell is that of our guest")
    script = "cat /proc/self/stat; cat /proc/self/oom_score_adj"
    stat, adjustment = device.shell(["sh", "-c", script], timeout=10, urgent=urgent).stdout.split(
        "\n"
    )[:2]
    policy = int(stat.rsplit(")")[1].split()[38])
    assert policy == (os.SCHED_RR if urgent else os.SCHED_OTHER)
    assert int(adjustment) < 0 if urgent else int(adjustment) == 0


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
    # Android's adbd gives all users the rights of the owner.
    assert mode == "666\n"


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
    # Who it was, and only the CPU where it happened.
    assert any(re.search(r"\bsh\b", line) for line in caught.value.details)
    assert not any("swapper" in line for line in caught.value.details)
    with pytest.raises(GuestCrash):
        device.check()
    device.close()
    device.close()
