# SPDX-License-Identifier: GPL-2.0-only
"""Each way out of the sandbox, tried in the real one."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.grade import sandbox
from harness.grade.sandbox import Sandbox


def works() -> bool:
    try:
        sandbox.require()
    except HarnessError:
        return False
    return True


needs_namespaces = pytest.mark.skipif(
    not works(), reason="this machine allows no user namespaces, so grade refuses to build here"
)


@pytest.fixture
def inside(tmp_path: Path) -> Sandbox:
    tree = tmp_path / "tree"
    (tree / "out").mkdir(parents=True)
    (tree / "file").write_text("source\n")
    (tmp_path / "secret").write_text("secret\n")
    return Sandbox(tree=tree, out=tree / "out", seconds=20)


def run(inside: Sandbox, script: str) -> tuple[int, str]:
    done = inside.run(["sh", "-c", script], what="test", log=inside.tree.parent / "log")
    return done.returncode, "\n".join(done.output)


@needs_namespaces
def test_it_reads_its_tree_and_writes_its_folder(inside: Sandbox) -> None:
    assert run(inside, "cat file && echo made > out/made && gcc --version > /dev/null")[0] == 0
    assert (inside.out / "made").read_text() == "made\n"


@pytest.mark.parametrize(
    "script",
    [
        "echo x > file",
        "rm file",
        "echo x > new",
        "cat ../secret",
        "cat /etc/passwd",
        "cat /etc/shadow",
        "ls /root /home",
        "echo x > /usr/bin/x",
        "mount -t tmpfs none /mnt",
        "chroot / true && false",
    ],
)
@needs_namespaces
def test_what_it_must_not(inside: Sandbox, script: str) -> None:
    assert run(inside, script)[0] != 0
    assert (inside.tree / "file").read_text() == "source\n"


@needs_namespaces
def test_it_has_no_network(inside: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        call = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=3)"
        assert run(inside, f'python3 -c "{call}"')[0] != 0
    assert run(inside, "cat /proc/net/dev")[1].count(":") == 1  # its own loopback


@needs_namespaces
def test_it_sees_no_process_of_others(inside: Sandbox) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            assert run(inside, f"kill {other.pid}")[0] != 0
            assert other.poll() is None
        finally:
            other.kill()


@needs_namespaces
def test_it_has_nothing_of_our_environment(
    inside: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "secret")
    names = {line.split("=")[0] for line in run(inside, "env")[1].splitlines()}
    assert names <= {"PATH", "HOME", "LC_ALL", "PWD", "SHLVL", "_"}


@needs_namespaces
def test_a_file_has_an_end(inside: Sandbox) -> None:
    status, _ = run(inside, "truncate --size=2G out/large")
    assert status != 0


@needs_namespaces
def test_its_time_ends_and_nothing_runs_on(inside: Sandbox, tmp_path: Path) -> None:
    short = Sandbox(tree=inside.tree, out=inside.out, seconds=1)
    status, _ = run(short, "(while :; do echo x >> out/alive; sleep 0.1; done) & sleep 60")
    assert status in (124, 137)
    size = (inside.out / "alive").stat().st_size
    assert subprocess.run(["sleep", "0.5"], check=True)
    assert (inside.out / "alive").stat().st_size == size


def test_without_it_nothing_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HarnessError, match="bubblewrap is missing"):
        sandbox.require()
