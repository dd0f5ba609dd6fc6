# SPDX-License-Identifier: GPL-2.0-only
"""The guest's adbd, compiled for this machine, as the real adb sees it.

ADBD_CFLAGS replaces the compiler's flags, e.g. with "-g -fsanitize=address,undefined".
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from adbutils import AdbClient

from harness.device.adb import AdbLink, AdbServer, free_port

SOURCES = sorted((Path(__file__).parents[2] / "guest" / "adbd").glob("*.c"))
WARNINGS = ("-Wall", "-Wextra", "-Werror")
SECONDS = 15.0

pytestmark = pytest.mark.skipif(
    not shutil.which("adb") or not shutil.which("gcc"), reason="needs adb and gcc"
)


@dataclass(frozen=True, kw_only=True)
class Guest:
    """An adbd and a server that is connected to it."""

    process: subprocess.Popen[bytes]
    port: int
    server: AdbServer
    tmp: Path

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def adb(self, *words: str | Path) -> list[str]:
        return ["adb", "-P", str(self.server.port), "-s", self.serial, *map(str, words)]

    def run(self, *words: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.adb(*words), input=data, capture_output=True, timeout=60, check=False
        )

    def start(self, *words: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.adb(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adbd") / "adbd"
    flags = shlex.split(os.environ.get("ADBD_CFLAGS", "-static -O2"))
    subprocess.run(["gcc", *flags, *WARNINGS, "-o", out, *SOURCES], check=True)
    return out


@pytest.fixture(scope="module")
def guest(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    tmp = tmp_path_factory.mktemp("guest")
    port = free_port()
    process = subprocess.Popen(
        [program, "-n", "-a", "127.0.0.1", "-p", str(port)], stdout=subprocess.PIPE
    )
    server = None
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"guest: ready\n"
        server = AdbServer(tmp / "server")
        AdbLink(server.port, f"127.0.0.1:{port}").connect()
        yield Guest(process=process, port=port, server=server, tmp=tmp)
    finally:
        if server:
            server.close()
        process.kill()
        process.wait()


def await_true(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie, which nobody may reap here, does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def children(pid: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in found]
    return []


def first_line(client: subprocess.Popen[bytes]) -> str:
    assert client.stdout is not None
    return client.stdout.readline().decode().strip()


def packet(command: bytes, arg0: int, arg1: int, data: bytes = b"", **wrong: int) -> bytes:
    """A packet, as the protocol has it or ``wrong`` in one of its numbers."""
    number = int.from_bytes(command, "little")
    header = {
        "command": number,
        "arg0": arg0,
        "arg1": arg1,
        "length": len(data),
        "checksum": sum(data),
        "magic": number ^ 0xFFFFFFFF,
    }
    return struct.pack("<6I", *(header | wrong).values()) + data


CONNECT = packet(b"CNXN", 0x01000001, 256 * 1024, b"host::")


@dataclass(frozen=True)
class Wire:
    """A connection that speaks the protocol itself."""

    socket: socket.socket

    def send(self, *packets: bytes) -> None:
        self.socket.sendall(b"".join(packets))

    def receive(self) -> tuple[bytes, int, int, bytes]:
        command, arg0, arg1, length, _, _ = struct.unpack("<4s5I", self.exactly(24))
        return command, arg0, arg1, self.exactly(length)

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            assert piece, "the connection has ended"
            data += piece
        return data

    def ended(self) -> bool:
        """Read up to the end of the connection."""
        with suppress(ConnectionResetError):
            while self.socket.recv(65536):
                pass
        return True


@pytest.fixture
def wire(guest: Guest) -> Iterator[Wire]:
    with socket.create_connection(("127.0.0.1", guest.port), timeout=SECONDS) as connection:
        yield Wire(connection)


# ── shell ────────────────────────────────────────────────────────────────


def test_exit_status_and_standard_error_come_apart(guest: Guest) -> None:
    done = guest.run("shell", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_status_of_a_killed_command_is_as_a_shell_says_it(guest: Guest) -> None:
    assert guest.run("shell", "kill -9 $$").returncode == 137


def test_standard_input_goes_through_a_command(guest: Guest) -> None:
    data = os.urandom(3_000_000)
    done = guest.run("shell", "cat", data=data)
    assert done.stdout == data
    assert done.returncode == 0


def test_a_command_need_not_read_its_input(guest: Guest) -> None:
    done = guest.run("shell", "exec <&-; echo done", data=bytes(1_000_000))
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_all_output_comes_before_the_status(guest: Guest) -> None:
    done = guest.run("shell", "head -c 5000000 /dev/zero; exit 4")
    assert (done.returncode, len(done.stdout)) == (4, 5_000_000)


def test_environment_of_a_command(guest: Guest) -> None:
    done = guest.run("shell", "echo $PATH $HOME; pwd; cat /proc/self/oom_score_adj")
    path, home, cwd, adj = done.stdout.decode().split()
    assert path.startswith("/data/local/tmp:/bin:/sbin")
    assert (home, cwd) == ("/data/local/tmp", "/")
    assert adj == "0" or Path("/proc/self/oom_score_adj").read_text().strip() == adj


def test_a_terminal_when_it_is_asked_for(guest: Guest) -> None:
    assert b"pts" in guest.run("shell", "-tt", "tty").stdout
    assert b"not a tty" in guest.run("shell", "-T", "tty").stdout


def test_an_interactive_shell_ends_with_its_status(guest: Guest) -> None:
    done = guest.run("shell", "-tt", data=b"echo $((40 + 2)); exit 5\n")
    assert b"42" in done.stdout
    assert done.returncode == 5


def test_a_terminal_takes_its_size_from_the_client(wire: Wire) -> None:
    wire.send(CONNECT, packet(b"OPEN", 1, 0, b"shell,v2,pty,TERM=vt100:read x; stty size\0"))
    assert wire.receive()[0] == b"CNXN"
    _, local, _, _ = wire.receive()
    size, line = b"24x80,0x0\0", b"\n"
    frames = struct.pack("<BI", 5, len(size)) + size + struct.pack("<BI", 0, len(line)) + line
    wire.send(packet(b"WRTE", 1, local, frames))
    output = b""
    while (got := wire.receive())[0] != b"CLSE":
        if got[0] == b"WRTE":
            output += got[3]
            wire.send(packet(b"OKAY", 1, local))
    assert b"24 80\r\n" in output
    assert output.endswith(struct.pack("<BIB", 3, 1, 0))


def test_the_first_version_of_the_shell_mixes_output(wire: Wire) -> None:
    wire.send(CONNECT, packet(b"OPEN", 7, 0, b"shell:echo out; echo err >&2\0"))
    assert wire.receive()[0] == b"CNXN"
    _, local, _, _ = wire.receive()
    output = b""
    while (got := wire.receive())[0] == b"WRTE":
        output += got[3]
        wire.send(packet(b"OKAY", 7, local))
    assert output == b"out\nerr\n"
    assert got[0] == b"CLSE"


def test_two_shells_at_once(guest: Guest) -> None:
    slow = guest.start("shell", "echo started; sleep 30")
    try:
        assert first_line(slow) == "started"
        assert guest.run("shell", "echo quick").stdout == b"quick\n"
        assert slow.poll() is None
    finally:
        slow.kill()
        slow.communicate()


def test_adbutils_speaks_with_it_too(guest: Guest) -> None:
    device = AdbClient(host="127.0.0.1", port=guest.server.port).device(serial=guest.serial)
    assert device.shell2("echo text; exit 3", v2=True).returncode == 3
    assert device.shell("echo text") == "text"


# ── what outlives what ───────────────────────────────────────────────────


@pytest.mark.parametrize("prefix", ["", "setsid "], ids=["child", "daemon"])
def test_a_client_that_is_killed_takes_its_commands_along(guest: Guest, prefix: str) -> None:
    client = guest.start("shell", f"{prefix}sleep 100 & echo $$ $!; wait; sleep 100")
    pids = [int(pid) for pid in first_line(client).split()]
    assert all(map(alive, pids))
    client.kill()
    client.communicate()
    await_true(lambda: not any(map(alive, pids)), "the commands still run")


def test_a_command_that_ignores_the_hang_up_is_killed(guest: Guest) -> None:
    client = guest.start("shell", "trap '' HUP; echo $$; while :; do sleep 1; done")
    pid = int(first_line(client))
    client.kill()
    client.communicate()
    await_true(lambda: not alive(pid), "the command still runs")


def test_a_connection_that_ends_takes_its_commands_along(wire: Wire) -> None:
    wire.send(CONNECT, packet(b"OPEN", 1, 0, b"shell:echo $$; exec sleep 100\0"))
    while (got := wire.receive())[0] != b"WRTE":
        pass
    pid = int(got[3])
    assert alive(pid)
    wire.socket.close()
    await_true(lambda: not alive(pid), "the command still runs")


def test_a_daemon_outlives_the_command_that_started_it(guest: Guest) -> None:
    done = guest.run("shell", "setsid sleep 100 >/dev/null 2>&1 </dev/null & echo $!")
    pid = int(done.stdout)
    time.sleep(0.3)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_background_program_does_not_hold_the_shell(guest: Guest) -> None:
    started = time.monotonic()
    done = guest.run("shell", "sleep 100 & echo $!; exit 3")
    assert time.monotonic() - started < 10
    assert done.returncode == 3
    os.kill(int(done.stdout), signal.SIGKILL)


def test_many_shells_leave_nothing_behind(guest: Guest) -> None:
    link = AdbLink(guest.server.port, guest.serial)

    def count() -> tuple[int, int]:
        connections = children(guest.process.pid)
        services = sum(len(children(pid)) for pid in connections)
        return services, sum(len(list(Path(f"/proc/{p}/fd").iterdir())) for p in connections)

    await_true(lambda: count()[0] == 0, "services of other tests still run")
    before = count()
    for number in range(200):
        assert link.shell(["sh", "-c", f"exit {number % 100}"], timeout=10).returncode == (
            number % 100
        )
    await_true(lambda: count() == before, f"{before} became {count()}")


# ── sync ─────────────────────────────────────────────────────────────────


def test_a_large_file_there_and_back(guest: Guest, tmp_path: Path) -> None:
    source, there, back = (tmp_path / name for name in ("source", "there", "back"))
    source.write_bytes(os.urandom(20_000_000))
    source.chmod(0o750)
    os.utime(source, (1_000_000_000, 1_000_000_000))
    assert guest.run("push", source, there).returncode == 0
    assert there.read_bytes() == source.read_bytes()
    assert there.stat().st_mode & 0o777 == 0o750
    assert there.stat().st_mtime == 1_000_000_000
    assert guest.run("pull", there, back).returncode == 0
    assert back.read_bytes() == source.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "source", "there"]


def test_a_folder_there_and_back(guest: Guest, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "empty").touch()
    (source / "text").write_text("text")
    assert guest.run("push", source, tmp_path / "there").returncode == 0
    assert guest.run("pull", tmp_path / "there", tmp_path / "back").returncode == 0
    assert (tmp_path / "back" / "text").read_text() == "text"
    assert (tmp_path / "back" / "deep" / "empty").read_bytes() == b""


def test_a_name_as_long_as_one_can_be(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("text")
    target = tmp_path / ("n" * 255)
    assert guest.run("push", tmp_path / "source", target).returncode == 0
    assert target.read_text() == "text"


def test_pulling_what_is_not_there_fails(guest: Guest, tmp_path: Path) -> None:
    done = guest.run("pull", tmp_path / "missing", tmp_path / "back")
    assert done.returncode != 0
    assert b"does not exist" in done.stdout + done.stderr
    assert not (tmp_path / "back").exists()


def test_a_target_that_cannot_be_written_is_left_alone(guest: Guest, tmp_path: Path) -> None:
    # Root may write anywhere, but not below what is no folder.
    (tmp_path / "source").write_text("new")
    (tmp_path / "file").write_text("old")
    done = guest.run("push", tmp_path / "source", tmp_path / "file" / "below")
    assert done.returncode != 0
    assert b"Not a directory" in done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "source"]
    assert (tmp_path / "file").read_text() == "old"


def sync_request(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data


@pytest.mark.parametrize("complete", [False, True])
def test_a_file_gets_its_name_when_it_is_complete(
    wire: Wire, tmp_path: Path, complete: bool
) -> None:
    target = tmp_path / "target"
    sent = sync_request(b"SEND", f"{target},{0o100600}".encode()) + sync_request(b"DATA", b"x")
    wire.send(CONNECT, packet(b"OPEN", 1, 0, b"sync:\0"))
    assert wire.receive()[0] == b"CNXN"
    _, local, _, _ = wire.receive()
    wire.send(packet(b"WRTE", 1, local, sent))
    assert wire.receive()[0] == b"OKAY"
    await_true(lambda: len(list(tmp_path.iterdir())) == 1, "no file is being written")
    assert not target.exists()
    if complete:
        wire.send(packet(b"WRTE", 1, local, b"DONE" + struct.pack("<I", 5)))
        await_true(target.exists, "the file has no name")
        assert target.read_bytes() == b"x"
    else:
        wire.socket.close()
        await_true(lambda: not list(tmp_path.iterdir()), "part of a file was left")


# ── packets ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "bad",
    [
        packet(b"OKAY", 1, 1, magic=0),
        packet(b"WRTE", 1, 1, length=256 * 1024 + 1),
        packet(b"WRTE", 1, 1, length=0xFFFFFFFF),
        os.urandom(4096),
    ],
    ids=["magic", "long", "longest", "noise"],
)
def test_a_malformed_packet_ends_its_connection_only(guest: Guest, wire: Wire, bad: bytes) -> None:
    wire.send(CONNECT)
    assert wire.receive()[0] == b"CNXN"
    wire.send(bad)
    assert wire.ended()
    assert guest.run("shell", "echo fine").stdout == b"fine\n"


def test_nothing_is_served_before_the_connection_is_made(wire: Wire) -> None:
    wire.send(packet(b"OPEN", 1, 0, b"shell:true\0"))
    assert wire.ended()


def test_the_banner_and_an_unknown_service(wire: Wire) -> None:
    wire.send(CONNECT)
    command, version, size, banner = wire.receive()
    assert (command, version, size) == (b"CNXN", 0x01000001, 256 * 1024)
    assert banner.startswith(b"device::") and banner.endswith(b"features=shell_v2")
    wire.send(packet(b"OPEN", 9, 0, b"jdwp:1\0"))
    assert wire.receive() == (b"CLSE", 0, 9, b"")


def test_packets_in_single_bytes(wire: Wire) -> None:
    for byte in CONNECT + packet(b"OPEN", 1, 0, b"shell:exit 0\0"):
        wire.send(bytes([byte]))
    assert [wire.receive()[0] for _ in range(3)] == [b"CNXN", b"OKAY", b"CLSE"]


def test_one_write_is_on_its_way_until_it_is_answered(wire: Wire) -> None:
    wire.send(CONNECT, packet(b"OPEN", 1, 0, b"shell:cat /dev/zero\0"))
    assert [wire.receive()[0] for _ in range(2)] == [b"CNXN", b"OKAY"]
    _, local, _, _ = wire.receive()
    wire.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        wire.receive()
    wire.socket.settimeout(SECONDS)
    wire.send(packet(b"OKAY", 1, local))
    assert wire.receive()[0] == b"WRTE"


def test_two_servers_at_once(guest: Guest) -> None:
    other = AdbServer(guest.tmp / "other")
    try:
        link = AdbLink(other.port, guest.serial)
        link.connect()
        assert link.shell(["echo", "other"], timeout=10).stdout == "other\n"
        assert guest.run("shell", "echo first").stdout == b"first\n"
    finally:
        other.close()


@pytest.mark.parametrize("words", [["-p", "0"], ["-p", "x"], ["-a", "nowhere"]])
def test_options_that_make_no_sense(program: Path, words: list[str]) -> None:
    done = subprocess.run([program, *words], capture_output=True, timeout=10, check=False)
    assert done.returncode == 1
    assert b"cannot listen at" in done.stderr
