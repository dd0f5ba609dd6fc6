# SPDX-License-Identifier: GPL-2.0-only
"""Every scenario on a real patched kernel, under each policy it is for."""

from __future__ import annotations

import pytest

from harness.case.judge import Status
from harness.case.load import load_scenarios
from harness.case.run import Runner
from harness.case.scenario import Case
from harness.case.select import select_cases
from harness.layout import Layout
from harness.show.report import failure_lines
from tests.selected import policies, scenarios, selection

pytestmark = pytest.mark.emulator

# Grouped by kernel, so that each kernel boots once.
CASES = select_cases(
    load_scenarios(Layout.default()),
    names=scenarios(),
    config=selection().config_name,
    policies=[policy.name for policy in policies()],
)


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_scenario(case: Case, runner: Runner) -> None:
    result = runner.run_case(case)
    if result.status is not Status.PASSED:
        pytest.fail("\n".join(failure_lines(result)), pytrace=False)
