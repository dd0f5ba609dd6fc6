# SPDX-License-Identifier: GPL-2.0-only
"""The format of results: the schema of the project is that of the structs, files are checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.show.results import read_results, schema
from tests.unit.show.test_page import results

SCHEMA = Path(__file__).resolve().parents[3] / "docs/results.schema.json"


def test_the_schema_is_that_of_the_structs() -> None:
    """To write it anew: python -m tests.unit.show.test_results"""
    assert json.loads(SCHEMA.read_text()) == schema()


def written(folder: Path, text: str) -> Path:
    path = folder / "results.json"
    path.write_text(text)
    return path


def test_results_are_read_as_they_are(tmp_path: Path) -> None:
    data = results()
    assert read_results(written(tmp_path, json.dumps(data))) == data


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no results"),
        (json.dumps({"cases": [], "schema": 1}), "has schema 1, not 2"),
        (json.dumps(results(seed="one")), r"at `\$\.cases\[0\]\.seed`"),
        (json.dumps(results(colour="red")), "unknown field `colour`"),
        (json.dumps(results(status="fine")), "Invalid enum value 'fine'"),
    ],
)
def test_what_is_no_results(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(HarnessError, match=complaint):
        read_results(written(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="cannot read"):
        read_results(tmp_path / "none.json")


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(), indent=1) + "\n")
