# SPDX-License-Identifier: GPL-2.0-only
"""What people can see of limits and kills: the table, the trace event, waiting for a kill."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from harness.build import pipeline
from harness.build.pipeline import Prepared
from harness.command.booting import equip
from harness.device.accel import Accel
from harness.device.device import Device
from harness.kernels import KernelVariant, load_kernels
from harness.kmsg import KillEvent, of_kind, parse
from harness.layout import Layout
from tests.emulator.conftest import start
from tests.selected import selection

pytestmark = pytest.mark.emulator

USER, UID = "u0_a70", 10070
LIMIT = 30_000_000
# Two children, of which the larger takes the user over its limit.
BREACH = f"oom_test_kernelARM -t 1 {USER} {LIMIT} 10000000 25000000"
EVENTS = "/sys/kernel/debug/tracing/events/oom/user_oom_kill"
TRACE = "/sys/kernel/debug/tracing/trace"
FIRST, MANY = 20000, 300


@pytest.fixture(scope="module")
def guest(
    prepared: Mapping[str, Prepared], accel: Accel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Device]:
    """A kernel that kills by itself, with programs and modules."""
    with closing(start(prepared["rss"], accel, tmp_path_factory)) as device:
        equip(device, prepared["rss"])
        yield device


def run(guest: Device, script: str) -> str:
    path = "export PATH=/data/local/tmp:$PATH\n"
    result = guest.shell(["sh", "-c", path + script], timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def last_kill(guest: Device) -> KillEvent:
    return of_kind(parse(run(guest, "dmesg").splitlines()), KillEvent)[-1]


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines() if line[:1].isdigit()]


def test_the_table_counts_kills(guest: Device) -> None:
    run(guest, f"{BREACH} || true")
    kill = last_kill(guest)
    row = next(row for row in rows(run(guest, "cat /proc/mm_limits")) if row[0] == str(UID))
    assert row[1] == str(LIMIT)
    assert row[3:] == ["rss", "1", str(kill.pid), "oom_test_kernel"]
    run(guest, f"mmlimit clear {USER}")
    assert not rows(run(guest, "mmlimit list"))


def test_the_table_can_be_read_by_all_and_written_by_nobody(guest: Device) -> None:
    assert run(guest, "stat -c %a /proc/mm_limits") == "444\n"


def test_the_trace_event_is_the_log_line(guest: Device) -> None:
    script = f"echo 1 >{EVENTS}/enable; echo >{TRACE}; {BREACH}; mmlimit clear {USER};"
    trace = run(guest, f"{script} echo 0 >{EVENTS}/enable; cat {TRACE}")
    (line,) = (line for line in trace.splitlines() if " user_oom_kill: " in line)
    fields = dict(re.findall(r"(\w+)=(\w+)", line.split("user_oom_kill: ")[1]))
    kill = last_kill(guest)
    assert fields["uid"] == str(kill.uid)
    assert fields["uRSS"] == str(kill.user_rss)
    assert fields["mm_max"] == str(kill.mm_max)
    assert fields["pid"] == str(kill.pid)
    assert fields["pRSS"] == str(kill.process_rss)


def test_whoever_waits_is_woken_by_a_change_and_by_a_kill(guest: Device) -> None:
    # Shown at once, at the set, at the kill: the fourth would wait for ever.
    shown = run(
        guest,
        "mmlimit watch 2 >/tmp/watched & watcher=$!; sleep 0.5;"
        f" {BREACH} >/tmp/breach; wait $watcher; cat /tmp/watched; mmlimit clear {USER}",
    )
    kills = [row[4] for row in rows(shown) if row[0] == str(UID)]
    assert kills == ["0", "1"]


def test_a_long_table(accel: Accel, tmp_path_factory: pytest.TempPathFactory) -> None:
    layout = Layout.default()
    variant = KernelVariant(
        name="long-table", configs=(Path(__file__).with_name("long_table.config"),)
    )
    request = selection().prepare_request(load_kernels(layout), "rss")
    target = replace(request.target, variant=variant)
    ready = pipeline.prepare(replace(request, target=target), layout=layout)
    with closing(start(ready, accel, tmp_path_factory)) as device:
        equip(device, ready)
        # Each limit that is set logs all of them.
        run(device, "dmesg -n 1")
        users = f"$(seq {FIRST} {FIRST + MANY - 1})"
        run(device, f"for user in {users}; do mmlimit set $user 1G || exit; done")
        table = rows(run(device, "cat /proc/mm_limits"))
        assert sorted(int(row[0]) for row in table) == list(range(FIRST, FIRST + MANY))
        run(device, f"for user in {users}; do mmlimit clear $user || exit; done")
        assert not rows(run(device, "cat /proc/mm_limits"))


# All that a 32-bit program knows of the calls.
CALLS_OF_32_BITS = """
#include <sys/syscall.h>
#include <unistd.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
	unsigned long max = argc > 2 ? strtoul(argv[2], NULL, 10) : ~0UL;

	return syscall(500, atoi(argv[1]), max) < 0;
}
"""


def test_programs_of_32_bits_set_limits_and_remove_them(guest: Device, tmp_path: Path) -> None:
    if guest.shell(["uname", "-m"], timeout=10).stdout.strip() != "aarch64":
        pytest.skip("of the 64-bit kernels, arm64 alone has the calls for 32-bit programs")
    (tmp_path / "calls.c").write_text(CALLS_OF_32_BITS)
    command = ["arm-linux-gnueabihf-gcc", "-static", "-o", "calls", "calls.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    guest.push(tmp_path / "calls", "/data/local/tmp/calls32")
    run(guest, "calls32 10071 4000000000")
    table = {row[0]: row for row in rows(run(guest, "cat /proc/mm_limits"))}
    assert "4000000000" in table["10071"]
    # All ones of 32 bits is no limit of 4 GB.
    run(guest, "calls32 10071")
    assert "10071" not in [row[0] for row in rows(run(guest, "cat /proc/mm_limits"))]
