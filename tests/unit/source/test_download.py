# SPDX-License-Identifier: GPL-2.0-only
"""Downloads resume, are verified, and never count when they are not whole."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.source.download import Remote, download, progress_bar
from tests.unit.fake_tree import stage

CONTENT = bytes(range(256)) * 4096


@dataclass
class Behaviour:
    """How the server serves the one file; ``ranges`` notes what was asked for."""

    cut_after: list[int] = field(default_factory=list)  # bytes of each of the first answers
    honours_range: bool = True
    status: int = 200
    ranges: list[str | None] = field(default_factory=list)


@dataclass
class Server:
    url: str
    behaviour: Behaviour

    @property
    def remote(self) -> Remote:
        return Remote(url=self.url, sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))


@pytest.fixture
def server() -> Iterator[Server]:
    behaviour = Behaviour()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            behaviour.ranges.append(wanted)
            start = 0
            if wanted and behaviour.honours_range:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start else behaviour.status)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            end = start + behaviour.cut_after.pop(0) if behaviour.cut_after else None
            self.wfile.write(CONTENT[start:end])

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield Server(f"http://127.0.0.1:{http.server_address[1]}/file", behaviour)
    http.shutdown()
    thread.join()
    http.server_close()


def get(remote: Remote, dest: Path) -> Path:
    return download(remote, dest, stage=stage(), first_pause=0)


def test_whole_file(server: Server, tmp_path: Path) -> None:
    path = get(server.remote, tmp_path / "new" / "file")
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_part_of_an_earlier_run_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    assert get(server.remote, tmp_path / "file").read_bytes() == CONTENT
    assert server.behaviour.ranges == ["bytes=1000-"]


def test_cut_connection_is_continued(server: Server, tmp_path: Path) -> None:
    server.behaviour.cut_after = [300_000, 400_000]
    assert get(server.remote, tmp_path / "file").read_bytes() == CONTENT
    assert len(server.behaviour.ranges) == 3
    assert server.behaviour.ranges[0] is None
    assert server.behaviour.ranges[1] is not None


def test_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.behaviour.honours_range = False
    (tmp_path / "file.part").write_bytes(b"x" * 1000)
    assert get(server.remote, tmp_path / "file").read_bytes() == CONTENT


def test_corrupt_part_is_removed_and_both_sums_are_shown(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"x" * 1000)
    with pytest.raises(HarnessError, match="corrupt download") as error:
        get(server.remote, tmp_path / "file")
    expected, got = error.value.details
    assert str(server.remote.sha256) in expected
    assert "sha256" in got
    assert not (tmp_path / "file").exists()
    assert not (tmp_path / "file.part").exists()
    get(server.remote, tmp_path / "file")


def test_wrong_size_is_corrupt(server: Server, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="corrupt") as error:
        get(Remote(url=server.url, size=len(CONTENT) + 1), tmp_path / "file")
    assert error.value.details[1] == f"got      {len(CONTENT)} bytes"


def test_error_status_is_told(server: Server, tmp_path: Path) -> None:
    server.behaviour.status = 404
    with pytest.raises(HarnessError, match="404"):
        get(server.remote, tmp_path / "file")


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"cannot download .*Connection refused") as error:
        get(Remote(url="http://127.0.0.1:9/file"), tmp_path / "file")
    assert "goes on where it stopped" in error.value.hint


def test_disk_full(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").symlink_to("/dev/full")
    with pytest.raises(HarnessError, match="the disk is full") as error:
        get(server.remote, tmp_path / "file")
    assert "free some space" in error.value.hint


def test_unwritable_folder_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").mkdir()
    with pytest.raises(HarnessError, match=r"cannot write .*file\.part"):
        get(server.remote, tmp_path / "file")


def test_progress_bar() -> None:
    assert progress_bar(37, 100).startswith("━━━━━━━━───")
    assert progress_bar(5_000_000, None) == "5.0 MB"
