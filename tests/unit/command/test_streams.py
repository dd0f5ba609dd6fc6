# SPDX-License-Identifier: GPL-2.0-only
"""A standard stream that is closed, unread, full or ASCII is no error of a task's."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PRELUDE = """
import sys
sys.path.insert(0, sys.argv[1])
from harness import ui
from harness.command import streams
streams.prepare()
"""
ASCII = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": ""}


def run(
    script: str, redirections: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a script after the preparation, its streams as a shell leaves them."""
    shell = f'"$0" -c "$1" "$2" {redirections}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell, sys.executable, PRELUDE + script, str(ROOT)],
        capture_output=True,
        env={**os.environ, **(env or {})},
        check=False,
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_nobodys_files(tmp_path: Path, closed: str) -> None:
    script = (
        f"file = open('{tmp_path}/file', 'w')\n"
        "assert file.fileno() > 2\n"
        "assert sys.stdin.read() == ''\n"
        "print('out'); print('err', file=sys.stderr)\n"
        "ui.say('said'); ui.console.print('shown')\n"
        "file.write('written')\n"
    )
    done = run(script, f"{closed}" if "<" in closed else f"</dev/null {closed}")
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "written"


def test_a_reader_who_has_had_enough_changes_nothing(tmp_path: Path) -> None:
    script = (
        "for number in range(100_000): print(number)\n"
        f"open('{tmp_path}/end', 'w').close()\n"
        "sys.exit(5)\n"
    )
    done = run(script, "| head -n 2")
    assert (done.returncode, done.stdout, done.stderr) == (5, b"0\n1\n", b"")
    assert (tmp_path / "end").exists()


def test_a_full_disk_is_told_once() -> None:
    script = (
        "from harness.errors import HarnessError\n"
        "try:\n"
        "    print('x')\n"
        "except HarnessError as error:\n"
        "    print(error, file=sys.stderr)\n"
        "print('y')\n"
    )
    done = run(script, ">/dev/full")
    assert done.returncode == 0
    assert done.stderr == b"cannot write to standard output: No space left on device\n"


def test_what_ascii_has_not_is_replaced() -> None:
    text, mark = ascii("✓ a → b … ü \udcff ━│┌"), ascii("✗")
    script = f"print({text}); print({mark}, file=sys.stderr)"
    done = run(script, env=ASCII)
    assert (done.stdout, done.stderr) == (b"+ a -> b ... ? \\xff -|+\n", b"x\n")


def test_a_pipe_that_does_not_block_gets_all() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    script = "for number in range(50_000): print(number)"
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(ROOT)], stdout=writer
    ) as child:
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            assert stream.read().split() == [str(number).encode() for number in range(50_000)]
    assert child.returncode == 0
