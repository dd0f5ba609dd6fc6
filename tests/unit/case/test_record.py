# SPDX-License-Identifier: GPL-2.0-only
"""What was recorded of a case is judged again, by what its scenario says now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.case import record
from harness.case.judge import Observation, Status
from harness.case.run import CaseResult, judged
from harness.case.scenario import Case, Scenario
from harness.errors import HarnessError
from harness.policies import known
from tests.unit.case.test_judge import case, observed

KILL = "uid=10070,\tuRSS=101000000,\tmm_max=100000000,\tpid=9,\tpRSS=700000"


def recorded(folder: Path, one: Case, observation: Observation) -> CaseResult:
    result = judged(one, observation)
    record.write(folder, result)
    return result


def again(folder: Path, *scenarios: Scenario) -> CaseResult:
    (result,) = record.judge_again(folder, scenarios, known())
    return result


def test_the_verdict_is_the_same(tmp_path: Path) -> None:
    one = case("set-mm-limits-contract", "rss")
    for output, status in (("ok 1 - a\n1..1\n", Status.PASSED), ("not ok 1\n", Status.FAILED)):
        before = recorded(tmp_path, one, observed([], output))
        after = again(tmp_path, one.scenario)
        assert (after.status, after.detail, after.kills) == (status, before.detail, before.kills)
        assert after.case.id == one.id


def test_it_is_the_scenario_of_now_that_judges(tmp_path: Path) -> None:
    one = case("set-mm-limits-contract", "rss")
    recorded(tmp_path, one, observed([], "no checks\n"))
    easier = replace(one.expect, tap=False)
    changed = replace(one.scenario, expect={"rss": easier})
    assert again(tmp_path, changed).status is Status.PASSED


def test_what_came_to_nothing_stays_so(tmp_path: Path) -> None:
    one = case("set-mm-limits-contract", "rss")
    record.write(tmp_path, CaseResult(one, Status.CRASHED, 1.0, detail=("panic",)))
    result = again(tmp_path, one.scenario)
    assert (result.status, result.detail) == (Status.CRASHED, ("panic",))


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no record of a case"):
        again(tmp_path)


def test_a_scenario_that_is_gone(tmp_path: Path) -> None:
    recorded(tmp_path, case("set-mm-limits-contract", "rss"), observed([KILL], ""))
    with pytest.raises(HarnessError, match="no scenario 'set-mm-limits-contract' any more"):
        again(tmp_path)


def test_a_file_that_is_no_record(tmp_path: Path) -> None:
    (tmp_path / f"x{record.SUFFIX}").write_text("{}")
    with pytest.raises(HarnessError, match="no record of this version"):
        again(tmp_path)
