# SPDX-License-Identifier: GPL-2.0-only
"""A crash on the console ends the wait at once; nothing is left running.

Programs of this machine stand in for the emulator: what is tested is the
reading, not the kernel.
"""

from __future__ import annotations

import os
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from harness.device.console import Console
from harness.errors import GuestCrash, HarnessError

ROOT = Path(__file__).parents[3]

Start = Callable[[str], Console]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a shell script as the emulator."""
    consoles: list[Console] = []

    def start_script(script: str) -> Console:
        console = Console(["sh", "-c", script], log=tmp_path / "run" / "console.log")
        consoles.append(console)
        return console

    yield start_script
    for console in consoles:
        console.close()


def test_a_line_that_is_waited_for(start: Start) -> None:
    console = start("echo one; sleep 0.2; echo guest: ready; sleep 60")
    console.wait_for("guest: ready", timeout=10)
    assert console.tail() == ("one", "guest: ready")
    assert "one\r\nguest: ready" in console.log.read_bytes().decode()


@pytest.mark.parametrize(
    "line", ["Kernel panic - not syncing: x", "rcu: INFO: rcu_preempt self-detected stall on CPU"]
)
def test_a_crash_ends_the_wait_with_the_reason(start: Start, line: str) -> None:
    console = start(f"echo before; echo '[    1.0] {line}'; echo after; sleep 60")
    started = time.monotonic()
    with pytest.raises(GuestCrash, match=line) as caught:
        console.wait_for("guest: ready", timeout=60)
    assert time.monotonic() - started < 5
    assert caught.value.details[-2:] == (f"[    1.0] {line}", "after")
    assert not console.alive


def test_a_stall_is_asked_about(tmp_path: Path) -> None:
    script = (
        "stty raw -echo; echo 'INFO: rcu_preempt detected stalls on CPUs/tasks:'; "
        "read -r key; echo; echo 'sysrq: Show backtrace of all active CPUs'; "
        "echo 'NMI backtrace for cpu 1'; echo \"$key from entry+0x1/0x2\"; sleep 60"
    )
    console = Console(["bash", "-c", script], log=tmp_path / "console.log", show_cpus=b"score\n")
    try:
        with pytest.raises(GuestCrash) as caught:
            console.wait_for("guest: ready", timeout=60)
    finally:
        console.close()
    assert caught.value.details[-1] == "score from entry+0x1/0x2"


def test_a_crash_is_seen_by_whoever_looks_later(start: Start) -> None:
    console = start("echo guest: ready; sleep 0.3; echo 'Internal error: Oops: 5 [#1]'; sleep 60")
    console.wait_for("guest: ready", timeout=10)
    console.check()
    time.sleep(1.5)
    with pytest.raises(GuestCrash, match="Oops"):
        console.check()


def test_a_crash_amid_many_lines_is_still_shown(start: Start) -> None:
    console = start("echo 'Kernel panic - not syncing: x'; seq 100; sleep 60")
    with pytest.raises(GuestCrash) as caught:
        console.wait_for("guest: ready", timeout=60)
    assert caught.value.details[0] == "Kernel panic - not syncing: x"
    assert caught.value.details[-1] == "100"
    assert len(caught.value.details) == 20


def test_what_is_for_a_terminal_is_left_out(start: Start) -> None:
    """Shown to a person, it would make their terminal answer for them."""
    console = start(r"printf '# \033[6n\033[1;31mred\033[m\tend\r\n# \033[6n'; sleep 60")
    console.wait_for("^# red\tend$", timeout=10)
    deadline = time.monotonic() + 5
    while len(console.tail()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert console.tail() == ("# red\tend", "# ")
    assert b"\033[6n" in console.log.read_bytes()


def test_a_character_may_come_in_pieces(start: Start) -> None:
    console = start(r"printf '\303'; sleep 0.4; printf '\274\n'; sleep 60")
    console.wait_for("^ü$", timeout=10)


def test_silence_ends_the_wait(start: Start) -> None:
    console = start("echo Booting Linux; sleep 60")
    started = time.monotonic()
    with pytest.raises(GuestCrash, match="silent"):
        console.wait_for("guest: ready", timeout=60, silence=0.5)
    assert time.monotonic() - started < 5


def test_a_guest_that_talks_but_never_comes_up(start: Start) -> None:
    console = start("while :; do echo Booting Linux; sleep 0.1; done")
    with pytest.raises(GuestCrash, match="did not come up"):
        console.wait_for("guest: ready", timeout=1, silence=5)


def test_an_emulator_that_dies_at_start_is_no_crash(start: Start) -> None:
    console = start("echo 'qemu: cannot open image' >&2; exit 1")
    with pytest.raises(HarnessError, match="ended at start") as caught:
        console.wait_for("guest: ready", timeout=10)
    assert not isinstance(caught.value, GuestCrash)
    assert caught.value.details == ("qemu: cannot open image",)


def test_an_emulator_that_ends_content_has_run_a_guest(start: Start) -> None:
    with pytest.raises(GuestCrash, match="ended by itself"):
        start("exit 0").wait_for("guest: ready", timeout=10)


def test_an_emulator_that_is_killed_says_by_what(start: Start) -> None:
    with pytest.raises(HarnessError, match=r"ended at start \(signal 9\)"):
        start("kill -9 $$").wait_for("guest: ready", timeout=10)


def test_a_guest_that_ends_by_itself_is_a_crash(start: Start) -> None:
    console = start("echo 'Booting Linux on physical CPU 0x0'; exit 0")
    with pytest.raises(GuestCrash, match="ended by itself"):
        console.wait_for("guest: ready", timeout=10)


def test_close_ends_the_emulator_and_can_be_repeated(start: Start) -> None:
    console = start("trap '' HUP INT TERM; echo up; while :; do sleep 1; done")
    console.wait_for("up", timeout=10)
    console.close()
    console.close()
    with pytest.raises(ProcessLookupError):
        os.kill(console.pid, 0)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no-such-emulator"):
        Console(["no-such-emulator"], log=tmp_path / "log").wait_for("guest: ready", timeout=5)


def test_whoever_waits_is_told_of_the_close(start: Start) -> None:
    console = start("sleep 60")
    closer = threading.Timer(0.3, console.close)
    closer.start()
    with pytest.raises(HarnessError, match="has been stopped"):
        console.wait_for("guest: ready", timeout=30)
    closer.join()


def test_many_threads_may_end_it_at_once(start: Start) -> None:
    console = start("trap '' HUP INT TERM; echo up; while :; do sleep 1; done")
    console.wait_for("up", timeout=10)
    threads = [threading.Thread(target=console.condemn, args=("no use",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(GuestCrash, match="no use"):
        console.check()
    assert not console.alive


PERSON = """
import sys
from pathlib import Path
from harness.device.console import Console

console = Console(["sh", "-c", "stty raw -echo; echo prompt; cat"], log=Path(sys.argv[1]))
console.wait_for("prompt", timeout=10)
print("yours", flush=True)
console.interact()
console.check()
print("back", flush=True)
console.close()
"""


CRASH = """
import sys
from pathlib import Path
from harness.device.console import Console
from harness.errors import GuestCrash

guest = "echo prompt; sleep 1; echo Kernel panic - not syncing: x; sleep 0.2"
console = Console(["sh", "-c", guest], log=Path(sys.argv[1]))
console.wait_for("prompt", timeout=10)
console.interact()
try:
    console.raise_if_crashed()
except GuestCrash as crash:
    print("told:", crash.details[-1])
console.close()
"""


def test_a_crash_before_the_eyes_of_a_person_is_still_a_crash(tmp_path: Path) -> None:
    person = pexpect.spawn(
        sys.executable, ["-c", CRASH, str(tmp_path / "log")], cwd=str(ROOT), timeout=10
    )
    try:
        person.expect_exact("told: Kernel panic - not syncing: x")
        person.expect(pexpect.EOF)
    finally:
        person.close(force=True)


def test_a_person_has_the_console_until_they_leave(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    person = pexpect.spawn(
        sys.executable, ["-c", PERSON, str(log)], cwd=str(ROOT), timeout=10, echo=True
    )
    try:
        person.expect_exact("yours")
        deadline = time.monotonic() + 10
        while termios.tcgetattr(person.child_fd)[3] & termios.ICANON:
            assert time.monotonic() < deadline, "the terminal was not made raw"
            time.sleep(0.05)
        person.send("typed")
        person.expect_exact("typed")
        person.send("\x1d")
        person.expect_exact("back")
        assert termios.tcgetattr(person.child_fd)[3] & termios.ICANON, "the terminal stays raw"
        person.expect(pexpect.EOF)
    finally:
        person.close(force=True)
    assert b"typed" in log.read_bytes()
