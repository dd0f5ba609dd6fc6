# SPDX-License-Identifier: GPL-2.0-only
"""Tests of what the workflows promise beside what actionlint knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WORKFLOWS = sorted((Path(__file__).parents[2] / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def test_there_are_workflows() -> None:
    assert WORKFLOWS


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_commit_and_say_its_version(workflow: Path) -> None:
    """A tag can be moved to other code after it was looked at; a commit cannot."""
    used = re.findall(r"^\s*(?:- )?uses: (.*)$", workflow.read_text(), re.MULTILINE)
    assert used
    assert [action for action in used if not PINNED.fullmatch(action)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_no_stranger_runs_code_on_a_machine_that_is_kept(workflow: Path) -> None:
    jobs = re.split(r"^  (?=[\w-]+:$)", workflow.read_text(), flags=re.MULTILINE)
    kept = [job for job in jobs if "self-hosted" in job and "runs-on" in job]
    for job in kept:
        assert "github.event.pull_request.head.repo.full_name == github.repository" in job


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_the_token_reads_only(workflow: Path) -> None:
    assert re.search(r"^permissions:\n  contents: read\n", workflow.read_text(), re.MULTILINE)
