# SPDX-License-Identifier: GPL-2.0-only
"""busybox and adbd of the user's or of Debian; what adbd loads comes with it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.source import userland
from harness.source.apt import AptIndex, DebianPackage, NoSuchPackage
from harness.source.userland import Adbd
from tests.unit.fake_tree import Checkout, make_checkout, stage


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setattr(AptIndex, "available", lambda: False)
    return make_checkout(tmp_path, monkeypatch)


def test_busybox_of_the_user(checkout: Checkout, tmp_path: Path) -> None:
    board = checkout.kernels.target().board
    (tmp_path / "busybox").touch()

    def busybox(given: str | None) -> Path:
        return userland.busybox(board, given=given, layout=checkout.layout, stage=stage())

    assert busybox(str(tmp_path / "busybox")) == tmp_path / "busybox"
    with pytest.raises(HarnessError, match="--busybox: there is no file"):
        busybox(str(tmp_path / "other"))
    with pytest.raises(HarnessError, match="no apt") as error:
        busybox(None)
    assert "--busybox PATH" in error.value.hint


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program "adbd" that loads liba, which loads libb; liba is reached by a link."""
    root = tmp_path_factory.mktemp("root")
    for folder in ("usr/bin", "usr/lib/android", "lib"):
        (root / folder).mkdir(parents=True)
    (root / "a.c").write_text("int b(void);\nint a(void) { return b(); }\n")
    (root / "b.c").write_text("int b(void) { return 0; }\n")
    (root / "adbd.c").write_text("int a(void);\nint main(void) { return a(); }\n")

    def compile_(*words: str) -> None:
        subprocess.run(["cc", "-nostdlib", *words], check=True, cwd=root)

    compile_("-shared", "-Wl,-soname,libb.so.2", "-o", "lib/libb.so.2", "b.c")
    soname = "-Wl,-soname,liba.so.1"
    compile_("-shared", soname, "-o", "usr/lib/android/liba.so.1.0", "a.c", "lib/libb.so.2")
    (root / "usr/lib/android/liba.so.1").symlink_to("liba.so.1.0")
    loader = "-Wl,-dynamic-linker,/lib64/ld-test.so"
    libraries = ("usr/lib/android/liba.so.1", "lib/libb.so.2")
    compile_("-Wl,--as-needed", loader, "-o", "usr/bin/adbd", "adbd.c", "-e", "main", *libraries)
    (root / "lib/ld-test.so").write_text("the loader")
    (root / "lib/libunused.so.1").write_text("unused")
    return root


def adbd(checkout: Checkout, given: Path | None = None, *, update: bool = False) -> Adbd:
    board = checkout.kernels.target().board
    folder = None if given is None else str(given)
    return userland.adbd(board, given=folder, layout=checkout.layout, stage=stage(), update=update)


def test_adbd_of_the_user_with_all_that_it_loads(checkout: Checkout, unpacked: Path) -> None:
    files = adbd(checkout, unpacked).files
    assert set(files) == {"bin/adbd", "lib64/ld-test.so", "lib/liba.so.1", "lib/libb.so.2"}
    assert files["lib64/ld-test.so"].read_text() == "the loader"


def test_what_is_not_there_is_named(checkout: Checkout, unpacked: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=f"--adbd: there is no folder {tmp_path}/none"):
        adbd(checkout, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HarnessError, match="holds no adbd"):
        adbd(checkout, tmp_path / "empty")
    shutil.copytree(unpacked, tmp_path / "part", symlinks=True)
    (tmp_path / "part/lib/libb.so.2").unlink()
    with pytest.raises(HarnessError, match=r"holds no libb\.so\.2, which adbd loads"):
        adbd(checkout, tmp_path / "part")
    with pytest.raises(HarnessError, match="no apt") as error:
        adbd(checkout)
    assert "--adbd FOLDER" in error.value.hint


def test_adbd_of_debian_is_kept(
    checkout: Checkout, unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    package = DebianPackage(name="adbd", version="34", url="u", sha256="s")

    def with_dependencies(index: AptIndex, _name: str, **_: object) -> tuple[DebianPackage, ...]:
        asked.append("backports" in str(index.folder))
        if not asked[-1]:
            raise NoSuchPackage("the release itself has none")
        return (package,)

    def download_all(_index: AptIndex, _what: object, folder: Path, **_: object) -> list[Path]:
        tree = folder.parent / "tree"
        shutil.copytree(unpacked, tree, symlinks=True)
        (tree / "DEBIAN").mkdir()
        control = "Package: adbd\nVersion: 34\nArchitecture: all\nMaintainer: a <a@b.c>\n"
        (tree / "DEBIAN/control").write_text(control + "Description: d\n")
        subprocess.run(["dpkg-deb", "--build", tree, folder / "adbd.deb"], check=True)
        return [folder / "adbd.deb"]

    monkeypatch.setattr(AptIndex, "available", lambda: True)
    monkeypatch.setattr(AptIndex, "with_dependencies", with_dependencies)
    monkeypatch.setattr(AptIndex, "download_all", download_all)
    first = adbd(checkout)
    assert asked == [False, True]
    assert (first.version, len(first.files)) == ("34", 4)
    assert adbd(checkout) == first
    assert len(asked) == 2
    next(iter(first.files.values())).write_text("cut")
    assert adbd(checkout).files["bin/adbd"].read_bytes() != b"cut"
    assert len(asked) == 4
    adbd(checkout, update=True)
    assert len(asked) == 6
