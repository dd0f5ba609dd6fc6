# SPDX-License-Identifier: GPL-2.0-only
"""Stamps compare content, survive being interrupted, and never half exist."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import stamp
from harness.stamp import Stamp


def test_digest_knows_where_parts_end() -> None:
    assert stamp.digest("ab", "c") != stamp.digest("a", "bc")
    assert stamp.digest("ab") == stamp.digest(b"ab")


def test_files_are_compared_by_name_and_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("x")
    two.write_text("y")
    first = stamp.hash_files(tmp_path, [one, two])
    os.utime(one, (1, 1))
    assert stamp.hash_files(tmp_path, [two, one]) == first
    one.write_text("z")
    assert stamp.hash_files(tmp_path, [one, two]) != first


def test_editors_droppings_are_not_files(tmp_path: Path) -> None:
    for name in ("a.c", "a.c~", ".a.c.swp"):
        (tmp_path / name).touch()
    assert [path.name for path in stamp.files_below(tmp_path)] == ["a.c"]


def test_stamp_matches_only_with_its_outputs(tmp_path: Path) -> None:
    record, output = Stamp(tmp_path / "stamp.json"), tmp_path / "out"
    assert not record.matches("1")
    record.write(identity="1")
    assert record.matches("1")
    assert not record.matches("2")
    assert not record.matches("1", [output])
    record.clear()
    assert not record.matches("1")


@pytest.mark.parametrize("content", ["", "{", "[1]", "\0"])
def test_damaged_stamp_is_no_stamp(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stamp.json"
    path.write_text(content)
    assert Stamp(path).read() == {}


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    stamp.write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        stamp.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_large_file_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    path, memo = tmp_path / "archive", Stamp(tmp_path / "memo.json")
    path.write_text("one")
    first = stamp.hash_large_file(path, memo=memo)
    assert first == stamp.hash_file(path)
    assert stamp.hash_large_file(path, memo=memo) == first
    path.write_text("other")
    assert stamp.hash_large_file(path, memo=memo) == stamp.hash_file(path) != first
