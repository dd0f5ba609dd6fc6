# SPDX-License-Identifier: GPL-2.0-only
"""What strangers have built is looked at with care."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.grade.kernel import BuildError, own_file, remove


def test_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "image").write_text("image")
    os.symlink("image", tmp_path / "link")
    assert own_file(tmp_path / "image", tmp_path) == tmp_path / "image"
    assert own_file(tmp_path / "link", tmp_path) == tmp_path / "image"


@pytest.mark.parametrize("target", ["/etc/passwd", "/dev/zero", "..", "link", "missing"])
def test_what_is_none(tmp_path: Path, target: str) -> None:
    os.symlink(target, tmp_path / "link")
    with pytest.raises((BuildError, OSError, RuntimeError)):
        own_file(tmp_path / "link", tmp_path)


def test_a_folder_that_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/zImage").write_text("secret")
    (tmp_path / "out").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "out/boot")
    with pytest.raises(BuildError, match="boot/zImage is not a file of its own"):
        own_file(tmp_path / "out/boot/zImage", tmp_path / "out")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="zImage is not there"):
        own_file(tmp_path / "zImage", tmp_path)


def test_removing_a_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("kept")
    os.symlink(tmp_path / "kept", tmp_path / "link")
    remove(tmp_path / "link")
    assert not (tmp_path / "link").exists()
    assert (tmp_path / "kept/file").read_text() == "kept"
    remove(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    remove(tmp_path / "kept")
