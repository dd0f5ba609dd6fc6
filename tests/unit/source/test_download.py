# SPDX-License-Identifier: GPL-2.0-only
"""Downloads resume, are verified, and never count when they are not whole."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.source import download as module
from harness.source.download import (
    AptIndex,
    NoSuchPackage,
    Remote,
    debian_sources,
    download,
    progress_bar,
)
from tests.unit.fake_tree import stage, write

CONTENT = bytes(range(256)) * 4096
SUM = hashlib.sha256(b"tool").hexdigest()


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


def test_sources_are_those_of_the_debian_release(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "os-release": 'ID=debian\nVERSION_CODENAME="bookworm"\n',
            "apt/sources.list": (
                "# deb http://commented/debian bookworm main\n"
                "deb [arch=amd64 signed-by=/k.gpg] http://mirror/debian bookworm main contrib\n"
                "deb-src http://mirror/debian bookworm main\n"
                "deb https://vendor.example/apt cloud-sdk-bookworm main\n"
            ),
            "apt/sources.list.d/debian.sources": (
                "Types: deb\n# a comment\nURIs: http://mirror.example.org/debian\n"
                "Suites: bookworm\n bookworm-updates\nComponents: main\n"
                "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
                "Types: deb\nURIs: http://mirror.example.org/debian-security\n"
                "Suites: bookworm-security\nComponents: main\n\n"
                "Types: deb\nURIs: https://node.example\nSuites: nodistro\nComponents: main\n\n"
                "Enabled: no\nTypes: deb\nURIs: http://off\nSuites: bookworm\nComponents: main\n"
            ),
            "apt/sources.list.d/old.list.save": "deb http://saved/debian bookworm main\n",
        },
    )
    signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert debian_sources(tmp_path) == [
        "deb [signed-by=/k.gpg] http://mirror/debian bookworm main",
        f"deb {signed} http://mirror.example.org/debian bookworm main",
        f"deb {signed} http://mirror.example.org/debian bookworm-updates main",
        "deb http://mirror.example.org/debian-security bookworm-security main",
    ]


@pytest.fixture
def fake_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-get that knows one package, and notes how it was called."""
    tools = tmp_path / "tools"
    script = f"""#!/bin/sh
echo "$*" >>{tmp_path}/calls
case "$*" in
*" update") [ -e {tmp_path}/offline ] && {{ echo "E: Failed to fetch x"; exit 100; }}; exit 0 ;;
*"--print-uris tool") echo "'http://m/tool_1%3a2_armhf.deb' tool_1%3a2_armhf.deb 5 SHA256:{SUM}" ;;
*"--print-uris linux-source-6.1") # not there: a pattern
	echo "'http://m/l.deb' linux-source-6.12_6.12.1-1_all.deb 5 SHA256:ab" ;;
*" download tool=1:2")
	echo "dlstatus:1:50.00:Retrieving file 1 of 1"
	[ ! -e {tmp_path}/broken ] || {{ echo "E: Failed to fetch x"; exit 100; }}
	printf tool >tool_1%3a2_armhf.deb ;;
*) exit 100 ;;
esac
"""
    cache = "#!/bin/sh\necho linux-source-6.12 linux-source-6.12-rt | tr ' ' '\\n'\n"
    write(tools, {"apt-get": script, "dpkg-deb": "#!/bin/sh\n", "apt-cache": cache})
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setattr(module, "debian_sources", lambda: ["deb http://m bookworm main"])
    return tmp_path


def test_apt_index_gives_address_version_and_sum(fake_apt: Path) -> None:
    index = AptIndex(fake_apt / "index", architecture="armhf")
    package = index.find("tool", stage=stage())
    assert package.version == "1:2"
    assert (package.url, package.sha256) == ("http://m/tool_1%3a2_armhf.deb", SUM)
    calls = (fake_apt / "calls").read_text()
    assert "APT::Architecture=armhf" in calls
    assert f"Dir::State::lists={fake_apt}/index/lists/" in calls


def test_package_that_is_not_there_shows_what_apt_said(fake_apt: Path) -> None:
    (fake_apt / "offline").touch()
    (fake_apt / "tools" / "apt-cache").write_text("#!/bin/sh\n")
    index = AptIndex(fake_apt / "index", architecture="armhf")
    with pytest.raises(HarnessError, match="no package other for armhf") as error:
        index.find("other", stage=stage())
    assert error.value.details == ("E: Failed to fetch x",)
    assert not isinstance(error.value, NoSuchPackage)


def test_another_package_that_matches_the_name_is_not_taken(fake_apt: Path) -> None:
    index = AptIndex(fake_apt / "index", architecture="armhf")
    with pytest.raises(NoSuchPackage, match=r"no package linux-source-6\.1 for armhf"):
        index.find("linux-source-6.1", stage=stage())
    # One list of three that cannot be read does not change that.
    (fake_apt / "offline").touch()
    with pytest.raises(NoSuchPackage):
        index.find("linux-source-6.1", stage=stage())


def test_apt_itself_downloads(fake_apt: Path) -> None:
    index = AptIndex(fake_apt / "index", architecture="armhf")
    package = index.find("tool", stage=stage())
    deb = index.download(package, fake_apt / "cache" / "tool.deb", stage=stage())
    assert deb.read_text() == "tool"
    assert list(deb.parent.iterdir()) == [deb]
    other = replace(package, sha256="ab")
    with pytest.raises(HarnessError, match="apt brought another tool than its lists promise"):
        index.download(other, fake_apt / "cache" / "tool.deb", stage=stage())
    (fake_apt / "broken").touch()
    with pytest.raises(HarnessError, match="downloading tool 1:2 failed") as error:
        index.download(package, fake_apt / "cache" / "tool.deb", stage=stage())
    assert error.value.details[-1] == "E: Failed to fetch x"
    assert list(deb.parent.iterdir()) == [deb]
