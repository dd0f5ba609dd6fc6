# SPDX-License-Identifier: GPL-2.0-only
"""Policies that harm the kernel: what is said of them, by the command that people type."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.emulator.test_guests import run
from tests.selected import scenarios

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(bool(scenarios()), reason="this part of the tests runs some scenarios only"),
]


def tried(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    own = folder / "bad.c"
    own.write_text(
        "#include <linux/delay.h>\n"
        "#include <linux/user_oom_policy.h>\n"
        f"static noinline s64 score(struct task_struct *p, long rss)\n{{\n{body}}}\n"
        'USER_OOM_POLICY("bad", score, "bad_score", 1);\n'
    )
    return run("try", str(own), "--scenario=choice")


def test_a_score_that_crashes_is_in_the_report(tmp_path: Path) -> None:
    done = tried(tmp_path, "\treturn *(volatile int *)(8 + (rss == -5));\n")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "choice (bad): crashed" in done.stdout
    assert "score" in done.stdout, done.stdout  # its frame
    assert "[bad]" in done.stdout


def test_a_score_that_never_returns_is_found_by_the_kernel(tmp_path: Path) -> None:
    done = tried(
        tmp_path, "\twhile (*(volatile pid_t *)&p->pid >= 0)\n\t\tcpu_relax();\n\treturn rss;\n"
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "[bad]" in done.stdout, done.stdout
