# SPDX-License-Identifier: GPL-2.0-only
"""A task may take any number of arguments, which invoke does not know."""

from __future__ import annotations

import pytest
from invoke.collection import Collection
from invoke.main import program

import tasks
from harness.command import cli


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([], []),
        (["a"], ["a"]),
        (["a", "b", "c"], ["a", "--also=b", "--also=c"]),
        (["--scheme", "s", "a", "b"], ["--scheme", "s", "a", "--also=b"]),
        (["a", "--scheme=s", "b"], ["a", "--scheme=s", "--also=b"]),
        (["a", "--guess", "b=c"], ["a", "--guess", "--also=b=c"]),
        (["a", "--also", "b", "c"], ["a", "--also", "b", "--also=c"]),
        (["a", "--scheme"], ["a", "--scheme"]),
        (["a", "--", "b"], ["a", "--", "b"]),
    ],
)
def test_arguments_after_the_first_are_an_option(
    monkeypatch: pytest.MonkeyPatch, words: list[str], changed: list[str]
) -> None:
    monkeypatch.setattr(program, "collection", Collection.from_module(tasks), raising=False)
    assert cli._as_options(words, "also", "grade") == changed
