# SPDX-License-Identifier: GPL-2.0-only
"""Our adbd, built for this machine, against the real adb client and adbutils."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from adbutils import AdbClient

from harness.device.adb import AdbLink, AdbServer, free_port
from harness.errors import HarnessError

ADBD = Path(__file__).parent / "adbd"
FILE_BYTES = 20_000_000


@dataclass(frozen=True)
class Setup:
    """A running adbd, a private server, and a link through it."""

    daemon: subprocess.Popen[bytes]
    port: int
    server: AdbServer
    link: AdbLink

    def adb(self, *args: str, timeout: float = 20, **options: object) -> list[str]:
        return ["adb", "-P", str(self.server.port), "-s", self.link.serial, *args]

    def run(self, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.adb(*args), input=stdin, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    folder = tmp_path_factory.mktemp("adbd")
    binary = folder / "adbd"
    flags = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    sources = sorted(str(path) for path in ADBD.glob("*.c"))
    subprocess.run(["cc", *flags, "-o", str(binary), *sources], check=True)
    port = free_port()
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [str(binary), "-p", str(port), "-a", "127.0.0.1", "-n"],
            stdout=subprocess.PIPE,
            stderr=log,
        )
        cleanup = ExitStack()
        cleanup.callback(daemon.wait)
        cleanup.callback(daemon.kill)
        with cleanup:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == b"guest: ready\n"
            server = AdbServer(folder / "server")
            cleanup.callback(server.close)
            link = AdbLink(server.port, f"127.0.0.1:{port}")
            link.connect()
            yield Setup(daemon, port, server, link)
    report = (folder / "log").read_text()
    assert "Sanitizer" not in report and "runtime error" not in report, report


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(random.Random(1).randbytes(FILE_BYTES))
    path.chmod(0o750)
    return path


def eventually(happened: Callable[[], bool], *, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_exit_status_comes_back(setup: Setup) -> None:
    assert setup.run("shell", "exit 3").returncode == 3
    assert setup.run("shell", "kill -9 $$").returncode == 128 + signal.SIGKILL


def test_stderr_stays_apart(setup: Setup) -> None:
    done = setup.run("shell", "echo out; echo err >&2")
    assert (done.stdout, done.stderr.splitlines()[-1]) == ("out\n", "err")


def test_version_1_mixes_both(setup: Setup) -> None:
    done = setup.run("shell", "-x", "echo out; echo err >&2")
    assert {"out", "err"} <= set(done.stdout.splitlines())


def test_standard_input_and_its_end_arrive(setup: Setup) -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    assert setup.run("shell", "cat; echo end", stdin=text).stdout == text + "end\n"


def test_a_command_need_not_read_its_input(setup: Setup) -> None:
    assert setup.run("shell", "true", stdin="x" * 500_000).returncode == 0


def test_output_of_any_size(setup: Setup) -> None:
    done = setup.run("shell", "seq 200000")
    assert done.stdout.splitlines() == [str(number) for number in range(1, 200_001)]


def test_push_and_pull_change_nothing(setup: Setup, big_file: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "deep" / "there", tmp_path / "back"
    assert setup.run("push", str(big_file), str(there)).returncode == 0
    assert there.stat().st_mode & 0o777 == 0o750
    assert abs(there.stat().st_mtime - big_file.stat().st_mtime) <= 1
    assert setup.run("pull", str(there), str(back)).returncode == 0
    assert back.read_bytes() == big_file.read_bytes()


def test_push_of_a_folder(setup: Setup, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "empty").touch()
    (source / "file").write_text("text")
    assert setup.run("push", str(source), str(tmp_path / "target")).returncode == 0
    assert (tmp_path / "target" / "file").read_text() == "text"
    assert (tmp_path / "target" / "sub" / "empty").exists()


def test_pull_of_nothing(setup: Setup, tmp_path: Path) -> None:
    done = setup.run("pull", "/no/such/file", str(tmp_path / "x"))
    assert done.returncode != 0
    assert "does not exist" in done.stdout + done.stderr


def test_a_push_that_fails_says_why_and_leaves_nothing(setup: Setup, big_file: Path) -> None:
    done = setup.run("push", str(big_file), "/proc/nothing")
    assert done.returncode != 0
    assert "/proc/nothing" in done.stdout + done.stderr


def test_a_push_that_is_cut_off_leaves_nothing(setup: Setup, tmp_path: Path) -> None:
    target = tmp_path / "cut"
    with setup.link._device().open_transport() as connection:
        connection.send_command("sync:")
        connection.check_okay()
        path = f"{target},33188".encode()
        connection.send(b"SEND" + len(path).to_bytes(4, "little") + path)
        connection.send(b"DATA" + (1000).to_bytes(4, "little") + b"x" * 1000)
        assert eventually(lambda: any(tmp_path.iterdir()))
    assert eventually(lambda: not any(tmp_path.iterdir()))


def test_two_shells_at_once(setup: Setup) -> None:
    with subprocess.Popen(setup.adb("shell", "sleep 1; echo slow"), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True) as slow:  # fmt: skip
        assert setup.run("shell", "echo quick").stdout == "quick\n"
        assert slow.poll() is None
        assert slow.communicate(timeout=20)[0] == "slow\n"


def test_a_killed_client_kills_what_ran_in_it(setup: Setup) -> None:
    script = "trap '' HUP TERM; setsid sleep 1000 & echo $! $$; wait"
    with subprocess.Popen(setup.adb("shell", script), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True) as client:  # fmt: skip
        assert client.stdout is not None
        pids = [int(word) for word in client.stdout.readline().split()]
        assert len(pids) == 2 and all(is_alive(pid) for pid in pids)
        client.kill()
    assert eventually(lambda: not any(is_alive(pid) for pid in pids))


def test_a_daemon_outlives_the_shell_that_started_it(setup: Setup) -> None:
    done = setup.run("shell", "setsid sleep 1000 > /dev/null 2>&1 & echo $!")
    pid = int(done.stdout)
    time.sleep(0.3)
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_what_holds_stdout_in_the_background_holds_up_nobody(setup: Setup) -> None:
    started = time.monotonic()
    done = setup.run("shell", "sleep 30 & echo $!")
    assert time.monotonic() - started < 10
    os.kill(int(done.stdout), signal.SIGKILL)


def test_many_shells_leave_nothing(setup: Setup) -> None:
    before = descendants(setup.daemon.pid)
    for _ in range(100):
        assert setup.link.shell(["true"], timeout=10).returncode == 0
    assert eventually(lambda: descendants(setup.daemon.pid) <= before)


def descendants(pid: int) -> int:
    """How many processes there are below ``pid``, itself included."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    family = {pid}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    return len(family)


def test_nonsense_ends_only_the_connection_it_came_on(setup: Setup) -> None:
    with socket.create_connection(("127.0.0.1", setup.port)) as nonsense:
        nonsense.settimeout(10)
        nonsense.sendall(b"GET / HTTP/1.1\r\nHost: guest\r\n\r\n")
        assert nonsense.recv(100) == b""
    with socket.create_connection(("127.0.0.1", setup.port)) as early:
        early.settimeout(10)
        opened = 0x4E45504F  # A_OPEN before A_CNXN
        early.sendall(
            b"".join(n.to_bytes(4, "little") for n in (opened, 1, 0, 0, 0, opened ^ 0xFFFFFFFF))
        )
        assert early.recv(100) == b""
    assert setup.run("shell", "echo alive").stdout == "alive\n"


def test_the_link_quotes_and_splits(setup: Setup) -> None:
    result = setup.link.shell(["printf", "%s|", "a b", "$HOME", "'"], timeout=10)
    assert (result.returncode, result.stdout, result.stderr) == (0, "a b|$HOME|'|", "")
    result = setup.link.shell(["sh", "-c", "echo err >&2; exit 7"], timeout=10)
    assert (result.returncode, result.stdout) == (7, "")
    assert result.stderr.endswith("err\n")


def test_the_link_gives_up_in_time_and_shows_what_came(setup: Setup) -> None:
    with pytest.raises(HarnessError, match="did not end within 1 s") as caught:
        setup.link.shell(["sh", "-c", "echo so far; sleep 60"], timeout=1)
    assert caught.value.details[0] == "so far"


def test_the_link_pushes_and_pulls(setup: Setup, big_file: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    setup.link.push(big_file, str(there), mode=0o700)
    assert there.read_bytes() == big_file.read_bytes()
    setup.link.pull(str(there), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big_file.read_bytes()


def test_the_link_names_what_it_cannot_move(setup: Setup, big_file: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"cannot push .*big to /proc/x: No such file or dir"):
        setup.link.push(big_file, "/proc/x", mode=0o644)
    with pytest.raises(HarnessError, match=f"cannot push .*big to {tmp_path}: Is a directory"):
        setup.link.push(big_file, str(tmp_path), mode=0o644)
    with pytest.raises(HarnessError, match="cannot pull /no/file"):
        setup.link.pull("/no/file", tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big"]


def test_a_device_that_is_not_there(setup: Setup) -> None:
    with pytest.raises(HarnessError, match=r"cannot connect to 127\.0\.0\.1"):
        AdbLink(setup.server.port, f"127.0.0.1:{free_port()}").connect(timeout=1)


def test_the_link_stops_trying_where_there_is_no_use(setup: Setup) -> None:
    def check() -> None:
        raise HarnessError("the guest has crashed")

    started = time.monotonic()
    with pytest.raises(HarnessError, match="has crashed"):
        AdbLink(setup.server.port, f"127.0.0.1:{free_port()}").connect(timeout=60, check=check)
    assert time.monotonic() - started < 5


@contextmanager
def hanging(setup: Setup) -> Iterator[None]:
    """The device keeps its connections and answers nothing; it must give up in time."""
    setup.link.shell(["true"], timeout=10)
    family = [setup.daemon.pid, *children(setup.daemon.pid)]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    try:
        yield
        assert time.monotonic() - started < 5
    finally:
        for pid in family:
            os.kill(pid, signal.SIGCONT)
    assert setup.link.shell(["echo", "alive"], timeout=10).stdout == "alive\n"


def test_the_link_gives_up_in_time_on_a_device_that_hangs(setup: Setup) -> None:
    with hanging(setup), pytest.raises(HarnessError, match="did not end within 1 s"):
        setup.link.shell(["true"], timeout=1)


def test_a_transfer_that_stands_still_is_given_up(
    setup: Setup, big_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.device.adb.STALL_SECONDS", 1.0)
    link = AdbLink(setup.server.port, setup.link.serial)
    with hanging(setup):
        with pytest.raises(HarnessError, match=r"cannot push .*: nothing has moved for 1 s"):
            link.push(big_file, str(tmp_path / "there"), mode=0o644)
        with pytest.raises(HarnessError, match=r"cannot pull .*: nothing has moved for 1 s"):
            link.pull("/etc/passwd", tmp_path / "back")


def test_the_server_takes_nothing_by_itself(setup: Setup, tmp_path: Path) -> None:
    """Left to itself, it would connect to the user's emulators (ports 5555 to 5585)."""
    binary = os.readlink(f"/proc/{setup.daemon.pid}/exe")
    with emulator(binary), closing(AdbServer(tmp_path)) as server:
        time.sleep(1)
        assert AdbClient(host="127.0.0.1", port=server.port).list() == []


@contextmanager
def emulator(binary: str) -> Iterator[None]:
    """An adbd at a port where a server looks for emulators."""
    for port in range(5555, 5586, 2):
        with subprocess.Popen(
            [binary, "-p", str(port), "-a", "127.0.0.1", "-n"], stdout=subprocess.PIPE
        ) as daemon:
            assert daemon.stdout is not None
            if daemon.stdout.readline() != b"guest: ready\n":
                continue  # somebody has it
            try:
                yield
            finally:
                daemon.kill()
            return
    pytest.skip("no port for an emulator is free")


def test_a_port_that_was_just_taken_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = [other.getsockname()[1], free_port()]
        monkeypatch.setattr("harness.device.adb.free_port", lambda: ports.pop(0))
        server = AdbServer(tmp_path)
        try:
            assert not ports
            assert AdbClient(host="127.0.0.1", port=server.port).device_list() == []
        finally:
            server.close()


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]
