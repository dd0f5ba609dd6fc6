# SPDX-License-Identifier: GPL-2.0-only
"""A command in the guest is a pipe: the real adb server and our adbd stand between."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from harness.device.adb import MAX_SERVICE_BYTES, AdbLink, AdbServer, free_port
from harness.device.pipe import READER_GONE, WAITING_BYTES
from harness.errors import HarnessError

ADBD = Path(__file__).parent / "adbd"
ALL_BYTES = bytes(range(256))


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbLink]:
    folder = tmp_path_factory.mktemp("adbd")
    sources = sorted(str(path) for path in ADBD.glob("*.c"))
    subprocess.run(["cc", "-O1", "-o", str(folder / "adbd"), *sources], check=True)
    port = free_port()
    with ExitStack() as stack:
        daemon = subprocess.Popen(
            [str(folder / "adbd"), "-p", str(port), "-a", "127.0.0.1", "-n"],
            stdout=subprocess.PIPE,
        )
        stack.callback(daemon.wait)
        stack.callback(daemon.kill)
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"guest: ready\n"
        server = stack.enter_context(closing(AdbServer(folder / "server")))
        connected = AdbLink(server.port, f"127.0.0.1:{port}")
        connected.connect()
        yield connected


class Ends:
    """Three descriptors for a command, and what came out of two of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.stdin = os.open(os.devnull, os.O_RDONLY)
        self.stdout = os.open(folder / "out", os.O_RDWR | os.O_CREAT)
        self.stderr = os.open(folder / "err", os.O_RDWR | os.O_CREAT)

    def give(self, data: bytes) -> None:
        (self._folder / "in").write_bytes(data)
        self.stdin = os.open(self._folder / "in", os.O_RDONLY)

    def run(self, link: AdbLink, *argv: str | bytes, timeout: float = 20) -> int:
        words = [word if isinstance(word, str) else os.fsdecode(word) for word in argv]
        return link.pipe(
            words, timeout=timeout, stdin=self.stdin, stdout=self.stdout, stderr=self.stderr
        )

    @property
    def out(self) -> bytes:
        return (self._folder / "out").read_bytes()

    @property
    def err(self) -> bytes:
        return (self._folder / "err").read_bytes()


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path)


def test_bytes_go_both_ways_unchanged(link: AdbLink, ends: Ends) -> None:
    data = ALL_BYTES + random.Random(1).randbytes(3_000_000)
    ends.give(data)
    assert ends.run(link, "cat") == 0
    assert ends.out == data
    assert ends.err == b""


def test_the_streams_stay_apart_and_the_status_comes_back(link: AdbLink, ends: Ends) -> None:
    assert ends.run(link, "sh", "-c", "echo out; echo err >&2; exit 7") == 7
    assert ends.out == b"out\n"
    assert ends.err.endswith(b"err\n")


@pytest.mark.parametrize("nothing", [os.devnull, "/"])
def test_an_input_with_nothing_in_it_is_at_its_end(link: AdbLink, ends: Ends, nothing: str) -> None:
    ends.stdin = os.open(nothing, os.O_RDONLY)
    assert ends.run(link, "sh", "-c", "cat; echo end") == 0
    assert ends.out == b"end\n"


def test_a_command_whose_output_is_kept_has_no_input(link: AdbLink) -> None:
    assert link.shell(["sh", "-c", "cat; echo end"], timeout=10).stdout == "end\n"


def test_input_and_output_go_on_side_by_side(link: AdbLink, ends: Ends) -> None:
    theirs, ours = os.pipe()
    back, ends.stdout = os.pipe()
    ends.stdin = theirs
    runner = threading.Thread(target=ends.run, args=(link, "cat"))
    runner.start()
    for word in (b"one\n", b"two\n", b"three\n"):
        os.write(ours, word)
        assert os.read(back, 100) == word
    os.close(ours)
    runner.join(timeout=10)
    assert not runner.is_alive()


def test_a_command_need_not_read_its_input(link: AdbLink, ends: Ends) -> None:
    ends.give(b"x" * 2_000_000)
    assert ends.run(link, "sh", "-c", "echo done; exit 3") == 3
    assert ends.out == b"done\n"


def test_what_was_printed_before_the_time_is_up_has_come(link: AdbLink, ends: Ends) -> None:
    with pytest.raises(HarnessError, match="did not end within 1 s") as caught:
        ends.run(link, "sh", "-c", "seq 100; sleep 60", timeout=1)
    assert ends.out.split() == [str(number).encode() for number in range(1, 101)]
    assert caught.value.details == ()


def test_what_was_printed_before_an_interruption_has_come(link: AdbLink, ends: Ends) -> None:
    interrupt = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ends.run(link, "sh", "-c", "echo printed; sleep 60")
    assert time.monotonic() - started < 3
    assert ends.out == b"printed\n"


def test_a_reader_who_has_gone_ends_the_command_as_sigpipe_does(link: AdbLink, ends: Ends) -> None:
    reader, ends.stdout = os.pipe()
    os.close(reader)
    started = time.monotonic()
    assert ends.run(link, "yes") == READER_GONE
    assert time.monotonic() - started < 5


def test_a_reader_who_does_not_read_holds_up_no_deadline(link: AdbLink, ends: Ends) -> None:
    reader, ends.stdout = os.pipe()
    started = time.monotonic()
    with pytest.raises(HarnessError, match="did not end within 1 s"):
        ends.run(link, "yes", timeout=1)
    assert time.monotonic() - started < 5
    os.close(reader)


def test_a_slow_reader_gets_all(link: AdbLink, ends: Ends) -> None:
    reader, ends.stdout = os.pipe()
    size = 3 * WAITING_BYTES
    runner = threading.Thread(target=ends.run, args=(link, "head", "-c", str(size), "/dev/zero"))
    runner.start()
    time.sleep(0.5)
    got = 0
    while got < size:
        got += len(os.read(reader, 65536))
    runner.join(timeout=10)
    assert not runner.is_alive()


def test_output_that_cannot_be_written_is_an_error(link: AdbLink, ends: Ends) -> None:
    ends.stdout = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(HarnessError, match="cannot write to standard output: No space left"):
        ends.run(link, "echo", "x")


def test_words_need_not_be_text(link: AdbLink, ends: Ends) -> None:
    assert ends.run(link, "printf", "%s", b"a\xff b") == 0
    assert ends.out == b"a\xff b"


def test_a_command_may_be_as_long_as_adb_allows(link: AdbLink, ends: Ends) -> None:
    word = "x" * (MAX_SERVICE_BYTES - 100)
    assert ends.run(link, "printf", "%s", word) == 0
    assert ends.out == word.encode()
    with pytest.raises(HarnessError, match="the command is too long"):
        ends.run(link, "printf", "%s", word + "x" * 100)


@pytest.mark.parametrize("name", [b"a b", b"\xff\xfe", b"-n", "ü".encode(), b"a,b\nc", b"n" * 255])
def test_a_file_of_any_name_can_be_pushed(link: AdbLink, tmp_path: Path, name: bytes) -> None:
    local, there = tmp_path / os.fsdecode(name), tmp_path / "there"
    there.mkdir()
    local.write_text("content")
    link.push(local, f"{there}/{local.name}", mode=0o644)
    assert (there / local.name).read_text() == "content"


@pytest.mark.parametrize(
    ("mtime", "arrives"),
    [(-1_293_840_000, 0), (4_417_977_600, 2**32 - 1), (2**33, 2**32 - 1), (1_700_000_000,) * 2],
)
def test_a_file_of_any_time_can_be_pushed(
    link: AdbLink, tmp_path: Path, mtime: int, arrives: int
) -> None:
    (tmp_path / "file").touch()
    os.utime(tmp_path / "file", (mtime, mtime))
    link.push(tmp_path / "file", str(tmp_path / "there"), mode=0o644)
    assert (tmp_path / "there").stat().st_mtime == arrives
