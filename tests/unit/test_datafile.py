# SPDX-License-Identifier: GPL-2.0-only
"""What is wrong in a data file is one line: the file, the key, and what is valid there."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import pytest
from msgspec import field

from harness.datafile import NO_KEY, Table, load, name_entries
from harness.errors import HarnessError


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Stay(Table, frozen=True, kw_only=True, tag_field="do", tag="stay"):
    for_ms: int


class Leave(Table, frozen=True, kw_only=True, tag_field="do", tag="leave"):
    pass


class Of(Table, frozen=True, kw_only=True):
    of: str


class Thing(Table, frozen=True, kw_only=True):
    name: str = field(default="", name=NO_KEY)
    colour: Colour = Colour.RED
    place: Path | None = None
    size: int | str = 0
    factor: float = 1.0
    steps: tuple[Stay | Leave, ...] = ()
    kills: tuple[str | Of, ...] = ()


class File(Table, frozen=True, kw_only=True):
    things: Mapping[str, Thing] = field(name="thing")

    def __post_init__(self) -> None:
        name_entries(self.things)


def read(folder: Path, text: str) -> File:
    path = folder / "file.toml"
    path.write_text(f"[thing.good]\n[thing.'bad.1']\n{text}\n[thing.last]\n")
    return load(path, File, root=folder, hint="see the other things")


def test_values_are_typed_and_entries_have_their_names(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        "colour = 'green'\nplace = 'a/b'\nsize = '1G'\nfactor = 2\nkills = ['a', {of = 'b'}]\n"
        "steps = [{do = 'stay', for-ms = 3}, {do = 'leave'}]",
    )
    assert list(file.things) == ["good", "bad.1", "last"]
    thing = file.things["bad.1"]
    assert thing.name == "bad.1"
    assert thing.colour is Colour.GREEN
    assert thing.place == tmp_path / "a/b"
    assert (thing.size, thing.factor) == ("1G", 2.0)
    assert thing.steps == (Stay(for_ms=3), Leave())
    assert thing.kills == ("a", Of(of="b"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "color = 'red'",
            ": unknown key 'color', valid: colour, place, size, factor, steps, kills",
        ),
        ("colour = 'blue'", ".colour: unknown value 'blue', valid: red, green"),
        ("colour = 1", ".colour: must be a string, is 1, valid: red, green"),
        ("place = ['a']", ".place: must be a string, is ['a']"),
        ("size = 1.5", ".size: must be an integer or a string, is 1.5"),
        ("size = false", ".size: must be an integer or a string, is false"),
        ("factor = '1'", ".factor: must be a number, is '1'"),
        ("steps = 1", ".steps: must be an array, is 1"),
        ("steps = [{do = 'leave'}, {}]", ".steps[1]: the key 'do' is missing"),
        ("steps = [{do = 'leaf'}]", ".steps[0].do: unknown value 'leaf', valid: stay, leave"),
        ("steps = [{do = 'stay'}]", ".steps[0]: the key 'for-ms' is missing"),
        ("steps = [{do = 'leave', x = 1}]", ".steps[0]: unknown key 'x', valid: do"),
        ("steps = [{do = 'stay', for-ms = 'x'}]", ".steps[0].for-ms: must be an integer, is 'x'"),
        ("kills = ['a', 1]", ".kills[1]: must be a string or a table, is 1"),
        ("kills = [{off = 'a'}]", ".kills[0]: unknown key 'off', valid: of"),
    ],
)
def test_what_is_wrong_is_said_where(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(HarnessError) as error:
        read(tmp_path, text)
    assert error.value.what == f'{tmp_path}/file.toml: thing."bad.1"{complaint}'
    assert error.value.hint == "see the other things"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"thing = 1", "thing: must be a table, is 1"),
        (b"", "the key 'thing' is missing"),
        (b"[thing.a]\n[other]", "unknown key 'other', valid: thing"),
        (b"[thing.a]\n[thing.a]", "is not valid TOML"),
        (b"\xff", "is not valid TOML"),
    ],
)
def test_what_is_wrong_at_the_top(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "file.toml").write_bytes(content)
    with pytest.raises(HarnessError, match=complaint):
        load(tmp_path / "file.toml", File, root=tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"cannot read .*file\.toml: No such file"):
        load(tmp_path / "file.toml", File, root=tmp_path)
