# SPDX-License-Identifier: GPL-2.0-only
"""No child outlives us, whatever ends the wait; a failure shows what the command said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness import process
from harness.errors import HarnessError


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that its new parent has not reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < deadline, f"{pid} still runs"
        time.sleep(0.01)


def read_pid(path: Path) -> int:
    deadline = time.monotonic() + 5
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(path.read_text())


def test_output_goes_to_the_log_and_the_callback(tmp_path: Path) -> None:
    lines: list[str] = []
    result = process.run(
        ["sh", "-c", "echo out; echo err >&2"],
        what="test",
        log=tmp_path / "logs" / "log",
        on_line=lines.append,
    )
    assert result.returncode == 0
    assert sorted(lines) == sorted(result.output) == ["err", "out"]
    assert (tmp_path / "logs" / "log").read_text().splitlines() == lines


def test_failure_shows_the_tail_and_the_command() -> None:
    with pytest.raises(HarnessError) as error:
        process.run(["sh", "-c", "seq 100; exit 7"], what="counting")
    assert error.value.what == "counting failed (exit status 7): sh -c 'seq 100; exit 7'"
    assert error.value.details[-1] == "100"
    assert len(error.value.details) == process.TAIL_LINES


def test_signal_is_named() -> None:
    with pytest.raises(HarnessError, match="SIGKILL"):
        process.run(["sh", "-c", "kill -9 $$"], what="test")


def test_disk_full_is_recognised() -> None:
    with pytest.raises(HarnessError, match="the disk is full"):
        process.run(["sh", "-c", "echo 'tar: x: No space left on device'; exit 2"], what="tar")


def test_missing_command_is_named() -> None:
    with pytest.raises(HarnessError, match="command not found: no-such-command"):
        process.run(["no-such-command"], what="test")


def test_exception_in_the_callback_ends_the_whole_group(tmp_path: Path) -> None:
    def stop(_line: str) -> None:
        raise KeyboardInterrupt

    script = f"(trap '' TERM; echo $BASHPID >{tmp_path}/pid; echo x; while :; do sleep 1; done)"
    with pytest.raises(KeyboardInterrupt):
        process.run(["bash", "-c", script], what="test", on_line=stop)
    wait_until_dead(read_pid(tmp_path / "pid"))


def test_ctrl_c_ends_the_child(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def interrupt() -> None:
        read_pid(pid_file)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", f"echo $$ >{pid_file}; sleep 60"], what="test")
    thread.join()
    assert not alive(read_pid(pid_file))


def test_background_children_of_a_finished_command_are_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    process.run(
        ["sh", "-c", f"sh -c 'echo $$ >{pid_file}; exec sleep 60' >/dev/null 2>&1 & sleep 0.2"],
        what="test",
    )
    wait_until_dead(read_pid(pid_file))


def test_child_of_a_killed_harness_is_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "from harness import process;"
        f"process.run(['sh', '-c', 'echo $$ >{pid_file}; exec sleep 60'], what='test')"
    )
    harness = subprocess.Popen([sys.executable, "-c", code])
    pid = read_pid(pid_file)
    harness.kill()
    harness.wait()
    wait_until_dead(pid)


def test_what_a_child_of_a_killed_harness_has_started_is_ended_too(tmp_path: Path) -> None:
    """A grandchild that ignores all but SIGKILL, and whose parent is gone."""
    pid_file = tmp_path / "pid"
    script = f"trap '' TERM HUP; sh -c 'echo $$ >{pid_file}; exec sleep 60' & exec sleep 61"
    code = f"from harness import process; process.run(['sh', '-c', {script!r}], what='test')"
    harness = subprocess.Popen([sys.executable, "-c", code])
    pid = read_pid(pid_file)
    harness.kill()
    harness.wait()
    wait_until_dead(pid)


def test_the_guard_ends_with_us(tmp_path: Path) -> None:
    code = (
        "from harness import process\n"
        "process.run(['true'], what='test')\n"
        "print(process._guard._process.pid)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    wait_until_dead(int(done.stdout))


def test_children_get_only_what_is_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ARCH", "GIT_DIR", "LC_TIME", "LANGUAGE", "WHATEVER"):
        monkeypatch.setenv(name, "nonsense")
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    seen = process.run(["env"], what="test", env={"ARCH": "arm"}).output
    assert "ARCH=arm" in seen
    assert "https_proxy=http://proxy.example.org:3128" in seen
    assert f"PATH={os.environ['PATH']}" in seen
    assert "LC_ALL=C.UTF-8" in seen
    assert not any("nonsense" in line for line in seen)


def test_second_holder_of_a_lock_waits_and_says_so(tmp_path: Path) -> None:
    waited = threading.Event()
    order: list[str] = []

    def second() -> None:
        with process.exclusive(tmp_path / "lock", on_wait=waited.set):
            order.append("second")

    with process.exclusive(tmp_path / "lock", on_wait=lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(5)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_that_somebody_has_removed_is_taken_anew(tmp_path: Path) -> None:
    """Who waits for the old file and who makes a new one must not both have the lock."""
    path = tmp_path / "lock"
    waits = threading.Event()
    second: list[bool] = []

    def wait() -> None:
        with process.exclusive(path, on_wait=waits.set):
            second.append(path.exists())

    with process.exclusive(path, on_wait=lambda: None):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waits.wait(5)
        path.unlink()
    thread.join()
    assert second == [True]
