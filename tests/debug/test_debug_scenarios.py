# SPDX-License-Identifier: GPL-2.0-only
"""The scenarios, and the search for leaks after them, on the debug kernel: no report."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harness.build.pipeline import Prepared
from harness.case.guest import GuestKernel
from harness.case.judge import Status
from harness.case.load import load_scenarios
from harness.case.run import Runner
from harness.case.scenario import Case
from harness.case.select import select_cases
from harness.device.device import Device
from harness.layout import Layout
from harness.show.report import failure_lines
from tests.debug.conftest import POLICY
from tests.selected import scenarios

pytestmark = pytest.mark.debug

CASES = select_cases(
    load_scenarios(Layout.default()), names=scenarios(), policies=[POLICY], debug=True
)
COMMAND = "./run emulator-test --debug-kernel"


@pytest.fixture(scope="module")
def runner(prepared: Prepared, start: Callable[[], Device]) -> Iterator[Runner]:
    kernel = GuestKernel(
        boot=start, modules=prepared.kernel.modules, table_length=prepared.kernel.table_length
    )
    with Runner({POLICY: kernel}, programs=prepared.programs.files) as cases:
        yield cases


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_scenario(case: Case, runner: Runner) -> None:
    result = runner.run_case(case)
    if result.status is not Status.PASSED:
        pytest.fail("\n".join(failure_lines(result, command=COMMAND)), pytrace=False)
