# SPDX-License-Identifier: GPL-2.0-only
"""The guest programs, built for this machine: what they do without a patched kernel."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.case.evidence import read_script

USERSPACE = Path(__file__).parents[2] / "userspace"
PROGRAMS = sorted(path.parent.name for path in USERSPACE.glob("*/jni"))
ME = str(os.getuid())

# Numbers that this machine's kernel does not know: its answer is ENOSYS.
UNISTD = """
#include_next <asm/unistd.h>
#define __NR_set_mm_limits 100000
#define __NR_my_oom_killer 100001
"""
MM_LIMITS = """
#define MM_LIMIT_REMOVE (~0UL)
enum my_oom_killer_type {
	MY_OOM_KILLER_HIGHEST_RSS, MY_OOM_KILLER_LONGEST_RUN_TIME, MY_OOM_KILLER_WORST
};
"""


@dataclass(frozen=True)
class Done:
    status: int
    out: list[str]
    err: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All programs, by the rule that the harness uses for the guest."""
    folder = tmp_path_factory.mktemp("userspace")
    headers = folder / "headers"
    (headers / "asm").mkdir(parents=True)
    (headers / "linux").mkdir()
    (headers / "asm" / "unistd.h").write_text(UNISTD)
    (headers / "linux" / "mm_limits.h").write_text(MM_LIMITS)
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-isystem", str(headers)]
    common = sorted(str(path) for path in (USERSPACE / "common").glob("*.c"))
    for name in PROGRAMS:
        own = sorted(str(path) for path in (USERSPACE / name / "jni").glob("*.c"))
        command = ["cc", *flags, f"-I{USERSPACE / 'include'}", "-o", str(folder / name)]
        subprocess.run([*command, *own, *common, "-pthread"], check=True)
    return folder


def run(program: Path, *args: str, timeout: float = 30) -> Done:
    done = subprocess.run(
        [str(program), *args], capture_output=True, text=True, timeout=timeout, check=False
    )
    return Done(done.returncode, done.stdout.splitlines(), done.stderr)


def play(built: Path, *lines: str) -> Done:
    script = built / "script"
    script.write_text("".join(f"{line}\n" for line in lines))
    return run(built / "mm_play", str(script))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_programs_are_those_of_the_design() -> None:
    assert {
        "test_set_mm_limitsARM",
        "oom_test_kernelARM",
        "oom_daemonARM",
        "oom_test_daemonARM",
        "mmlimit",
    } <= set(PROGRAMS)
    for name in PROGRAMS:
        assert f"LOCAL_MODULE := {name}\n" in (USERSPACE / name / "jni/Android.mk").read_text()


@pytest.mark.parametrize(
    ("program", "args"),
    [
        ("oom_test_kernelARM", []),
        ("oom_test_kernelARM", ["u0_a70", "100000000"]),
        ("oom_test_kernelARM", ["nobody-here", "100000000", "20000"]),
        ("oom_test_kernelARM", ["u0_a70", "-1", "20000"]),
        ("oom_test_kernelARM", ["u0_a70", "99999999999999999999999", "20000"]),
        ("oom_test_kernelARM", ["u0_a70", "1000", "0"]),
        ("oom_test_daemonARM", ["-t", "x", "u0_a70", "1000", "1000"]),
        ("oom_daemonARM", ["5"]),
        ("oom_daemonARM", ["0", "0"]),
        ("oom_daemonARM", ["5", "3"]),
        ("oom_daemonARM", ["5", "-1"]),
        ("mmlimit", []),
        ("mmlimit", ["set", "u0_a70"]),
        ("mmlimit", ["set", "u0_a70", "100X"]),
        ("mmlimit", ["set", "u0_a90000", "100M"]),
        ("mmlimit", ["run-killer", "biggest"]),
        ("mm_play", []),
        ("mm_play", ["/no/such/script"]),
        ("module_cycle", ["0", "a", "b"]),
        ("module_cycle", ["1", "/no/a.ko", "/no/b.ko"]),
        ("test_set_mm_limitsARM", ["0"]),
        ("mm_stress", ["-t", "0", "a", "b", "c", "rss"]),
        ("mm_stress", ["/no/referee", "/no/a.ko", "/no/b.ko", "rss"]),
        ("mm_fuzz", ["-n", "0"]),
        ("mm_hostile", []),
        ("mm_hostile", ["no-such-kind", "u0_a70"]),
        ("mm_hostile", ["evict-own", "root"]),
    ],
)
def test_bad_arguments_exit_2_with_a_line(built: Path, program: str, args: list[str]) -> None:
    done = run(built / program, *args)
    assert done.status == 2
    assert done.out == []
    assert done.err.strip()


def test_a_kernel_without_the_calls_is_told_by_name(built: Path) -> None:
    done = run(built / "oom_test_kernelARM", ME, "100M", "20000")
    assert done.status == 1
    assert done.out == [f"set_mm_limits uid={ME} mm_max=104857600 ret=-1 errno=ENOSYS"]
    assert "set_mm_limits loaded?" in done.err
    assert run(built / "mmlimit", "set", "u0_a70", "1G").status == 1
    assert run(built / "mmlimit", "clear", "u0_a70").status == 1
    assert "ko loaded?" in run(built / "mmlimit", "run-killer", "rss").err
    assert "USER_MM_LIMITS" in run(built / "mmlimit", "list").err
    assert run(built / "test_set_mm_limitsARM").status == 2


def test_processes_start_report_and_are_gone(built: Path) -> None:
    done = play(
        built,
        "# a comment",
        f"spawn one user={ME} bytes=100000",
        f"spawn many user={ME} bytes=50000 count=3",
        "wait-ready",
        "report",
        "grow one bytes=1000000",
        "report",
    )
    assert (done.status, done.err) == (0, "")
    evidence = read_script("\n".join(done.out))
    assert evidence.ended
    assert [one.name for one in evidence.processes] == ["one", "many.0", "many.1", "many.2"]
    assert all(one.ready and one.state == "alive" for one in evidence.processes)
    assert evidence.grown == ("one",)
    assert len(evidence.reports) == 2
    assert not any(is_alive(one.pid) for one in evidence.processes)


def test_memory_is_resident_and_grows(built: Path) -> None:
    """What a process says it has touched is in its RSS."""
    script = built / "resident"
    script.write_text(
        f"spawn one user={ME} bytes=30000000\nwait-ready\nsleep ms=300\n"
        "grow one bytes=20000000\nsleep ms=60000\n"
    )
    with subprocess.Popen(
        [str(built / "mm_play"), str(script)], stdout=subprocess.PIPE, text=True
    ) as player:
        assert player.stdout is not None
        pid = int(re.search(r"pid=(\d+)", player.stdout.readline())[1])  # type: ignore[index]
        assert player.stdout.readline().startswith("ready ")
        assert 30_000_000 <= rss(pid) < 36_000_000
        assert player.stdout.readline().startswith("grown ")
        assert 50_000_000 <= rss(pid) < 56_000_000
        player.kill()
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid), "a process outlived its player"


def rss(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+)", status)[1]) * 1024  # type: ignore[index]


def test_a_leader_can_exit_and_leave_a_thread(built: Path) -> None:
    script = built / "leaderless"
    script.write_text(
        f"spawn it user={ME} bytes=1000000 kind=leader-exit\nwait-ready\nreport\nsleep ms=60000\n"
    )
    with subprocess.Popen(
        [str(built / "mm_play"), str(script)], stdout=subprocess.PIPE, text=True
    ) as player:
        assert player.stdout is not None
        pid = int(re.search(r"pid=(\d+)", player.stdout.readline())[1])  # type: ignore[index]
        assert player.stdout.readline().startswith("ready ")
        started = time.monotonic()
        assert "state=alive" in player.stdout.readline()
        # It lives: nobody waits for its end.
        assert time.monotonic() - started < 5
        assert Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 2
        player.kill()


def test_two_processes_can_share_their_memory(built: Path) -> None:
    done = play(built, f"spawn it user={ME} bytes=1000000 kind=shared-vm", "wait-ready", "report")
    evidence = read_script("\n".join(done.out))
    assert [one.name for one in evidence.processes] == ["it", "it+sharer"]
    assert all(one.state == "alive" for one in evidence.processes)
    assert not any(is_alive(one.pid) for one in evidence.processes)


def test_cpu_time_is_used_up_before_ready(built: Path) -> None:
    started = time.monotonic()
    done = play(built, f"spawn it user={ME} bytes=1000 burn_ms=300", "wait-ready")
    assert time.monotonic() - started >= 0.3
    assert any(line.startswith("ready name=it ") for line in done.out)


def test_a_call_that_fails_is_reported_and_the_script_goes_on(built: Path) -> None:
    done = play(built, "limit u0_a70 bytes=1M", "limit u0_a70 remove", "killer rss", "killer 7")
    assert done.status == 0
    assert done.out == [
        "limit user=u0_a70 uid=10070 bytes=1048576 as=root ret=-1 errno=ENOSYS",
        "limit user=u0_a70 uid=10070 bytes=remove as=root ret=-1 errno=ENOSYS",
        "killer type=rss as=root ret=-1 errno=ENOSYS",
        "killer type=7 as=root ret=-1 errno=ENOSYS",
        "done",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "dance",
        "spawn",
        f"spawn x user={ME}",
        f"spawn x user={ME} bytes=many",
        "spawn x user=nobody-here bytes=1",
        f"spawn x user={ME} bytes=1 kind=odd",
        f"spawn x user={ME} bytes=1 colour=red",
        f"spawn x user={ME} bytes=1 adj=2000",
        "limit u0_a70",
        "limit u0_a70 restore",
        "grow nobody bytes=1",
        "killer fastest",
        "sleep 5",
        "report now",
    ],
)
def test_a_bad_line_is_named(built: Path, line: str) -> None:
    done = play(built, "sleep ms=1", line)
    assert done.status == 2
    assert "line 2" in done.err


def test_the_daemon_detaches_and_ends_cleanly(built: Path) -> None:
    done = run(built / "oom_daemonARM", "1", "2")
    match = re.fullmatch(r"oom_daemon: pid=(\d+) interval=1 type=2", done.out[0])
    assert match is not None
    assert done.status == 0
    pid = int(match[1])
    assert is_alive(pid)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 1
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)
