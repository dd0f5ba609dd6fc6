# SPDX-License-Identifier: GPL-2.0-only
"""Guests for people, by the command line they type: one that stays, a folder that is shared."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.device import kept
from harness.kernels import load_kernels
from harness.layout import Layout
from tests.selected import scenarios, selection

LAYOUT = Layout.default()
FOLDER = LAYOUT.build / kept.FOLDER

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(bool(scenarios()), reason="this part of the tests runs some scenarios only"),
]


def run(task: str, *words: str) -> subprocess.CompletedProcess[str]:
    """As typed, for the kernel that is tested."""
    chosen = selection()
    options = {
        "kernel": chosen.kernel,
        "arch": chosen.arch,
        "board": chosen.board,
        "source": chosen.source,
        "config": chosen.config,
        "device": chosen.on.device,
        "emulator": chosen.on.emulator,
        "ramdisk": chosen.on.ramdisk,
    }
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    not_for_try = ("--device=", "--emulator=", "--ramdisk=")
    own = [word for word in given if task != "try" or not word.startswith(not_for_try)]
    return typed(task, *own, *words)


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(LAYOUT.root / ".venv/bin/invoke"), *words]
    return subprocess.run(command, cwd=LAYOUT.root, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A guest that is kept; the folder that it shares, where its board can."""
    share = tmp_path_factory.mktemp("share")
    (share / "from here").write_text("seen there\n")
    can_share = selection().target(load_kernels(LAYOUT)).board.share_args
    run("boot", "--stop")
    booted = run("boot", "--keep", *([f"--share={share}"] if can_share else []))
    assert booted.returncode == 0, booted.stderr
    yield share
    assert run("boot", "--stop").returncode == 0
    assert kept.read(FOLDER) is None


def in_guest(*argv: str) -> subprocess.CompletedProcess[str]:
    return run("exec", "--kept", "--", *argv)


def boots() -> int:
    there = kept.read(FOLDER)
    assert there is not None
    return there.boot


def test_what_one_command_does_the_next_one_finds(guest: Path) -> None:
    assert in_guest("touch", "/tmp/left").returncode == 0
    assert in_guest("ls", "/tmp/left").stdout == "/tmp/left\n"
    assert boots() == 1


def test_a_shared_folder_is_the_same_on_both_sides(guest: Path) -> None:
    if not selection().target(load_kernels(LAYOUT)).board.share_args:
        pytest.skip("this board has no device for it")
    assert in_guest("cat", "/mnt/share/from here").stdout == "seen there\n"
    assert in_guest("sh", "-c", "echo back > /mnt/share/there").returncode == 0
    assert (guest / "there").read_text() == "back\n"


def test_a_policy_is_tried_in_it_as_often_as_one_likes(guest: Path, tmp_path: Path) -> None:
    own = tmp_path / "again.c"
    before = boots()
    for score, victim in (("rss", "big"), ("-rss", "young")):
        own.write_text(
            "#include <linux/user_oom_policy.h>\n"
            f"static s64 score(struct task_struct *p, long rss) {{ return {score}; }}\n"
            'USER_OOM_POLICY("again", score, "again_score", 1);\n'
        )
        tried = run("try", str(own), "--scenario=choice")
        assert tried.returncode == 0, tried.stdout + tried.stderr
        first = tried.stdout.split("again_score")[1].split()[0]
        assert first == victim, tried.stdout
    assert boots() == before


def test_a_crash_is_told_and_the_next_finds_a_fresh_one(guest: Path) -> None:
    before = boots()
    crashed = in_guest("sh", "-c", "echo c > /proc/sysrq-trigger; sleep 20")
    assert crashed.returncode == 3
    assert "the guest kernel has crashed" in crashed.stderr
    tried = run("try", "policies/youngest.c", "--scenario=choice")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert boots() == before + 1


def test_build_is_not_removed_beneath_it(guest: Path) -> None:
    assert typed("clean").returncode == 2
    assert LAYOUT.build.is_dir()


def test_kills_are_seen_as_they_come(guest: Path) -> None:
    command = [str(LAYOUT.root / ".venv/bin/invoke"), "watch", "--seconds=6"]
    with subprocess.Popen(command, cwd=LAYOUT.root, stdout=subprocess.PIPE, text=True) as watch:
        greedy = "mmlimit set u0_a70 30M && exec tail -c 60000000 /dev/zero"
        killed = run("exec", "--kept", "--user=u0_a70", "--", "sh", "-c", greedy)
        output, _ = watch.communicate()
    assert killed.returncode == 137
    assert "killed by its user's limit" in killed.stderr
    assert watch.returncode == 0
    (line,) = [line for line in output.splitlines() if "of 31.5 MB: process" in line]
    assert "u0_a70 had" in line
