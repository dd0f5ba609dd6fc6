# SPDX-License-Identifier: GPL-2.0-only
"""Parts of the SDK are shown first, downloaded on request, and found where they are."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.command import commands
from harness.errors import HarnessError
from harness.layout import Layout
from harness.source import sdk
from tests.unit.fake_tree import stage

CATALOGUE = """
base = "{url}/"
licence = "https://licence.example"

[package.emulator]
description = "an emulator"
file = "emulator.zip"
sha1 = "{sha1}"
folder = "emulator"
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    """A catalogue with one package, which a server of ours has."""
    for name in sdk.SDK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    archive = tmp_path / "served" / "emulator.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        entry = zipfile.ZipInfo("emulator/emulator")
        entry.external_attr = 0o100755 << 16
        file.writestr(entry, "#!/bin/sh\n")
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(archive.parent)))
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    root = tmp_path / "checkout"
    (root / "configs").mkdir(parents=True)
    text = CATALOGUE.format(
        url=f"http://127.0.0.1:{http.server_address[1]}",
        sha1=hashlib.sha1(archive.read_bytes()).hexdigest(),
    )
    (root / "configs" / "android-sdk.toml").write_text(text)
    yield Layout(root=root, build=root / "build", cache=tmp_path / "cache")
    http.shutdown()
    thread.join()
    http.server_close()


def edit(layout: Layout, old: str, new: str) -> None:
    path = layout.root / "configs" / "android-sdk.toml"
    path.write_text(path.read_text().replace(old, new))


def install(layout: Layout) -> Path:
    catalogue = sdk.load_catalogue(layout)
    return sdk.install(catalogue.package("emulator"), catalogue, layout=layout, stage=stage())


def test_our_own_catalogue_is_valid() -> None:
    catalogue = sdk.load_catalogue(Layout.default())
    assert set(catalogue.packages) == {"emulator", "system-image", "ndk-r10e", "ndk-r25c"}
    assert all(catalogue.remote(one).url for one in catalogue.packages.values())


def test_without_consent_nothing_is_downloaded(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(HarnessError, match="nothing was downloaded") as caught:
        commands.fetch_sdk(["emulator"], accept_licence=False, layout=layout)
    assert "--accept-licence" in caught.value.hint
    assert not layout.cache.exists()
    shown = capsys.readouterr().out
    assert "emulator: an emulator" in shown
    assert "0 MB, http://127.0.0.1" in shown
    assert "licence: https://licence.example" in shown


def test_with_consent_it_is_unpacked_once(layout: Layout) -> None:
    commands.fetch_sdk(["emulator"], accept_licence=True, layout=layout)
    program = layout.cache / "android-sdk" / "emulator" / "emulator"
    assert program.stat().st_mode & 0o777 == 0o755
    names = sorted(path.name for path in (layout.cache / "android-sdk").iterdir())
    assert names == ["emulator", "platform-tools", "platforms"]
    edit(layout, "sha1 =", 'sha256 = "never looked at"\nsha1 =')
    assert install(layout) == program.parent


def test_another_file_than_promised_is_refused(layout: Layout) -> None:
    edit(layout, 'sha1 = "', 'sha1 = "0')
    with pytest.raises(HarnessError, match="corrupt download"):
        install(layout)
    with pytest.raises(HarnessError, match="there is no emulator"):
        sdk.find(sdk.load_catalogue(layout).package("emulator"), layout=layout)


def test_what_is_missing_is_named_with_the_command(layout: Layout) -> None:
    with pytest.raises(HarnessError, match=r"there is no emulator \(an emulator\)") as caught:
        sdk.find(sdk.load_catalogue(layout).package("emulator"), layout=layout)
    assert "`./run fetch --sdk=emulator`" in caught.value.hint


def test_the_users_own_sdk_comes_first(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(layout)
    (tmp_path / "theirs" / "emulator").mkdir(parents=True)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "theirs"))
    package = sdk.load_catalogue(layout).package("emulator")
    assert sdk.find(package, layout=layout) == tmp_path / "theirs" / "emulator"


def test_an_unknown_package_lists_those_there_are(layout: Layout) -> None:
    with pytest.raises(HarnessError, match="unknown SDK package: 'ndk'") as caught:
        sdk.load_catalogue(layout).package("ndk")
    assert caught.value.hint == "--sdk takes some of: emulator"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("licence =", "license =", "unknown key 'license', valid: base, licence, package"),
        ("sha1 =", "sha512 =", "package.emulator: unknown key 'sha512'"),
        ("sha1 =", "#", "package.emulator: needs sha256"),
        ('folder = "emulator"', "folder = 1", "package.emulator.folder: must be a string, is 1"),
        ("licence =", "licence", "not valid TOML"),
    ],
)
def test_a_wrong_catalogue_is_named(layout: Layout, old: str, new: str, complaint: str) -> None:
    edit(layout, old, new)
    with pytest.raises(HarnessError, match=complaint):
        sdk.load_catalogue(layout)
