# SPDX-License-Identifier: GPL-2.0-only
"""apt is asked in lists of our own, for any architecture, and downloads what it names."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.source import apt as module
from harness.source.apt import AptIndex, NoSuchPackage, debian_sources
from tests.unit.fake_tree import stage, write

SUM = hashlib.sha256(b"tool").hexdigest()


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


def test_backports_come_from_where_the_release_does(tmp_path: Path) -> None:
    sources = "deb http://m/debian bookworm main\ndeb http://s/debian bookworm-security main\n"
    write(tmp_path, {"os-release": "VERSION_CODENAME=bookworm\n", "apt/sources.list": sources})
    assert debian_sources(tmp_path, backports=True) == [
        "deb http://m/debian bookworm main",
        "deb http://s/debian bookworm-security main",
        "deb http://m/debian bookworm-backports main",
    ]


@pytest.fixture
def fake_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-get that knows one package, and notes how it was called."""
    tools = tmp_path / "tools"
    script = f"""#!/bin/sh
echo "$*" >>{tmp_path}/calls
case "$*" in
*" update") [ -e {tmp_path}/offline ] && {{ echo "E: Failed to fetch x"; exit 100; }}; exit 0 ;;
*"--print-uris install tool") # no good sums
	echo "'http://m/tool_1%3a2_armhf.deb' tool_1%3a2_armhf.deb 5"
	echo "'http://m/lib_3_armhf.deb' lib_3_armhf.deb 5 MD5Sum:1" ;;
*"--print-uris tool=1:2 lib=3")
	echo "'http://m/tool_1%3a2_armhf.deb' tool_1%3a2_armhf.deb 5 SHA256:{SUM}"
	echo "'http://m/lib_3_armhf.deb' lib_3_armhf.deb 5 SHA256:{SUM}" ;;
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
    monkeypatch.setattr(module, "debian_sources", lambda **_: ["deb http://m bookworm main"])
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


def test_what_a_package_depends_on_comes_with_good_sums(fake_apt: Path) -> None:
    index = AptIndex(fake_apt / "index", architecture="armhf", backports=True)
    found = index.with_dependencies("tool", stage=stage())
    assert [(one.name, one.version, one.sha256) for one in found] == [
        ("tool", "1:2", SUM),
        ("lib", "3", SUM),
    ]
    assert "APT::Default-Release=" in (fake_apt / "calls").read_text()
    with pytest.raises(NoSuchPackage):
        index.with_dependencies("linux-source-6.1", stage=stage())
