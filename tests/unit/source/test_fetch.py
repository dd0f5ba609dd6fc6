# SPDX-License-Identifier: GPL-2.0-only
"""Sources come from the cache, the network, or the user, whose tree is only read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.errors import HarnessError
from harness.kernels import KernelLine, SourceSpec
from harness.source import download, fetch
from harness.source.apt import AptIndex, DebianPackage, NoSuchPackage
from harness.source.download import Remote
from harness.source.fetch import FetchRequest, Source
from tests.unit.fake_tree import Checkout, make_checkout, stage, write


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setattr(AptIndex, "available", lambda: False)
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    return make_checkout(tmp_path, monkeypatch)


def fetched(checkout: Checkout, source: str | None = None) -> Source:
    return fetch.fetch(
        FetchRequest(line=checkout.line, source=source), layout=checkout.layout, stage=stage()
    )


def test_empty_cache_and_no_network(checkout: Checkout) -> None:
    with pytest.raises(HarnessError, match=r"cannot download http://127\.0\.0\.1:9/") as error:
        fetched(checkout)
    assert "check the network" in error.value.hint


def test_full_cache_needs_no_network(checkout: Checkout) -> None:
    folder = checkout.layout.cache / "fake"
    record = {"file": "k.tar.xz", "size": 4, "sha256": "aa", "version": "6.1.99", "url": "u"}
    write(folder, {"k.tar.xz": "tar\n", "source.json": json.dumps(record)})
    source = fetched(checkout)
    assert source == Source(
        kind="tarball", path=folder / "k.tar.xz", identity="aa", version="6.1.99", key="fake"
    )
    (folder / "k.tar.xz").write_text("cut")
    with pytest.raises(HarnessError, match="cannot download"):
        fetched(checkout)


def test_two_runs_that_start_at_once_download_once(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = []

    def slow(remote: Remote, dest: Path, **_: object) -> Path:
        downloads.append(remote.url)
        dest.parent.mkdir(parents=True, exist_ok=True)
        dest.write_text("half")
        time.sleep(0.3)
        dest.write_text("the whole tarball")
        return dest

    monkeypatch.setattr(fetch, "download", slow)
    with ThreadPoolExecutor() as threads:
        first, second = (threads.submit(fetched, checkout) for _ in range(2))
    assert first.result() == second.result()
    assert first.result().identity == hashlib.sha256(b"the whole tarball").hexdigest()
    assert len(downloads) == 1


def test_a_cache_that_cannot_be_written_is_said_with_what_helps(checkout: Checkout) -> None:
    checkout.layout.cache.parent.mkdir(parents=True, exist_ok=True)
    checkout.layout.cache.write_text("a file, not a folder")
    with pytest.raises(HarnessError, match="cannot write to the cache") as error:
        fetched(checkout)
    assert "MMLIMITS_CACHE=FOLDER" in error.value.hint


def test_an_update_fetches_a_tarball_from_an_address_again(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = iter(("old", "new"))

    def download(_remote: Remote, dest: Path, **_: object) -> Path:
        dest.parent.mkdir(parents=True, exist_ok=True)
        dest.write_text(next(contents))
        return dest

    monkeypatch.setattr(fetch, "download", download)
    request = FetchRequest(line=checkout.line, source="http://example.org/linux-6.1.tar.xz")
    before = fetch.fetch(request, layout=checkout.layout, stage=stage())
    assert fetch.fetch(request, layout=checkout.layout, stage=stage()) == before
    update = dataclasses.replace(request, update=True)
    assert fetch.fetch(update, layout=checkout.layout, stage=stage()).identity != before.identity


def test_a_release_without_the_package_takes_the_tarball_and_says_so(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(_index: AptIndex, package: str, **_: object) -> DebianPackage:
        raise NoSuchPackage(f"there is no package {package}")

    monkeypatch.setattr(AptIndex, "available", lambda: True)
    monkeypatch.setattr(AptIndex, "find", none)
    names = ("linux-source-6.12", "linux-source-6.12-rt")
    monkeypatch.setattr(AptIndex, "names", lambda _index, _prefix: names)
    spec = replace(
        checkout.line.source, debian_package="linux-source-6.1", tarball_in_package="usr/x.tar.xz"
    )
    line = replace(checkout.line, source=spec)
    # The pinned tarball is nowhere in a test, but it is what was tried.
    with pytest.raises(HarnessError, match=f"cannot download {spec.url}"):
        fetch.fetch(FetchRequest(line=line), layout=checkout.layout, stage=stage())
    said = capsys.readouterr().err
    assert "there is no package linux-source-6.1 (this release has linux-source-6.12)" in said
    assert f"taking {spec.url}" in said


def test_tree(checkout: Checkout) -> None:
    source = fetched(checkout, str(checkout.kernel))
    assert (source.kind, source.version) == ("tree", "6.1.99")
    assert source.key.startswith("fake@linux-6.1.99-")
    assert fetched(checkout, str(checkout.kernel)) == source
    (checkout.kernel / "mm/page_alloc.c").write_text("edited\n")
    assert fetched(checkout, str(checkout.kernel)).identity != source.identity


def test_build_products_of_a_tree_are_not_source(checkout: Checkout) -> None:
    before = fetch.tree_files(checkout.kernel)
    products = ("mm/a.o", "mm/.a.o.cmd", ".config", "include/config/auto.conf", ".git/HEAD")
    write(checkout.kernel, dict.fromkeys((*products, "out-arm/x"), ""))
    (checkout.kernel / ".git" / "HEAD").unlink()
    (checkout.kernel / ".git").rmdir()
    assert fetch.tree_files(checkout.kernel) == before


def test_tree_in_git_is_what_git_tracks(checkout: Checkout) -> None:
    write(checkout.kernel, {".gitignore": "*.o\n", "mm/new.c": "", "mm/new.o": ""})
    subprocess.run(["git", "init", "-q", checkout.kernel], check=True)
    names = fetch.tree_files(checkout.kernel)
    assert "mm/new.c" in names
    assert "mm/new.o" not in names


def test_tarball(checkout: Checkout) -> None:
    source = fetched(checkout, str(checkout.tarball()))
    assert (source.kind, source.version) == ("tarball", "6.1.99")


def test_git_address(checkout: Checkout) -> None:
    git = ["git", "-C", str(checkout.kernel), "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q", "-b", "topic"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    source = fetched(checkout, f"file://{checkout.kernel}#topic")
    assert source.kind == "tree"
    assert (source.path / "mm/page_alloc.c").exists()
    with pytest.raises(HarnessError, match="cloning"):
        fetched(checkout, f"file://{checkout.kernel}#nonsense")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nowhere", "there is no"),
        ("empty", "is not a kernel source tree"),
        ("file.txt", "neither a folder nor a tarball"),
    ],
)
def test_wrong_source(checkout: Checkout, tmp_path: Path, name: str, complaint: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(HarnessError, match=complaint):
        fetched(checkout, str(tmp_path / name))


def git_line(checkout: Checkout, commit: str | None = None) -> KernelLine:
    """The line, whose own source is a git repository."""
    git = f"file://{checkout.kernel}#topic"
    return replace(checkout.line, source=SourceSpec(git=git, commit=commit))


def test_a_line_with_a_repository_of_its_own(checkout: Checkout) -> None:
    line = git_line(checkout)
    with pytest.raises(HarnessError, match="cannot get the source of fake") as caught:
        fetch.fetch(FetchRequest(line=line), layout=checkout.layout, stage=stage())
    assert "--source PATH|URL" in caught.value.hint
    git = ["git", "-C", str(checkout.kernel), "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q", "-b", "topic"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    source = fetch.fetch(FetchRequest(line=line), layout=checkout.layout, stage=stage())
    assert (source.kind, source.key) == ("tree", "fake")
    other = git_line(checkout, commit="0" * 40)
    with pytest.raises(HarnessError, match="not at 000000000000"):
        fetch.fetch(FetchRequest(line=other), layout=checkout.layout, stage=stage())
