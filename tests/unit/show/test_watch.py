# SPDX-License-Identifier: GPL-2.0-only
"""The live view, from what a guest prints to what a person reads."""

from __future__ import annotations

import pytest
from rich.console import Console

from harness.errors import HarnessError
from harness.show.watch import kill_line, parse, render

TABLE = (
    "uid\tlimit\tusage\tpolicy\tkills\tlast_pid\tlast_comm\n"
    "10070\t100000000\t99000000\trss\t1\t83\toom_test_kernel\n"
    "10071\t50000000\t1000000\trss\t0\t0\t-\n"
)
KILL = (
    "[    2.5] uid=10070,\tuRSS=100241408,\tmm_max=100000000,\tpid=83,\tpRSS=97394688,\tbadness=7\n"
)
OUTPUT = f"{TABLE}--\n{KILL}--\nMemAvailable:     412345 kB\n"


def shown(output: str) -> str:
    console = Console(width=100, record=True, file=None, no_color=True)
    with console.capture() as text:
        console.print(render(parse(output)))
    return text.get()


def test_users_their_share_and_kills() -> None:
    text = shown(OUTPUT)
    assert "policy rss; 412 MB available" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("u0_a7")}
    assert rows["u0_a70"].split()[-5:] == ["100.0", "MB", "1", "oom_test_kernel", "(83)"]
    assert rows["u0_a70"].count("━") == 29  # of 30, 99 %
    assert rows["u0_a71"].count("━") == 0
    assert "process 83 with 97.4 MB was killed, badness 7" in text


def test_no_limits_and_no_kills() -> None:
    text = shown("uid\tlimit\tusage\tpolicy\tkills\tlast_pid\tlast_comm\n--\n--\n")
    assert "no user has a limit" in text


def test_a_kill_in_a_line() -> None:
    (kill,) = parse(OUTPUT).kills
    time, text = kill_line(kill).split("  u0_a70 ")
    assert time.strip() == "2.5 s"
    assert text == "had 100.2 MB of 100.0 MB: process 83 with 97.4 MB was killed, badness 7"


@pytest.mark.parametrize("output", ["", "cat: can't open '/proc/mm_limits'\n--\n--\n"])
def test_a_kernel_without_limits(output: str) -> None:
    with pytest.raises(HarnessError, match="does not tell its limits"):
        parse(output)
