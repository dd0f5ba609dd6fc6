# SPDX-License-Identifier: GPL-2.0-only
"""What was seen of a case, as a file, to be judged again without a guest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from harness import stamp
from harness.case.judge import Observation, Status
from harness.case.run import CaseResult, judged
from harness.case.scenario import Case, Scenario
from harness.errors import HarnessError
from harness.policies import Policies

SUFFIX = ".case.json"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A case and what was seen; without ``observation`` it had come to nothing."""

    scenario: str
    policy: str
    kernel: str
    lasts: int
    seed: int
    seconds: float
    status: Status
    detail: tuple[str, ...]
    log_lines: tuple[str, ...]
    console: str
    observation: Observation | None


def write(folder: Path, result: CaseResult) -> None:
    """Write the record of a case to the folder; its name is that of the case."""
    case = result.case
    record = Record(
        scenario=case.scenario.name,
        policy=case.policy,
        kernel=case.kernel,
        lasts=case.lasts,
        seed=case.seed,
        seconds=result.seconds,
        status=result.status,
        detail=result.detail,
        log_lines=result.log_lines,
        console=result.console,
        observation=result.observation,
    )
    try:
        stamp.write_atomic(folder / f"{case.id}{SUFFIX}", msgspec.json.encode(record))
    except OSError as error:
        raise HarnessError(f"cannot write to {folder}: {error.strerror}") from error


def judge_again(
    folder: Path, scenarios: tuple[Scenario, ...], policies: Policies
) -> tuple[CaseResult, ...]:
    """Judge all records of a folder by what the scenarios say now."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise HarnessError(
            f"there is no record of a case in {folder}",
            hint="`./run emulator-test --record FOLDER` writes them",
        )
    by_name = {one.name: one for one in scenarios}
    return tuple(_judge(path, by_name, policies) for path in paths)


def _judge(path: Path, scenarios: dict[str, Scenario], policies: Policies) -> CaseResult:
    record = _read(path)
    scenario = scenarios.get(record.scenario)
    if scenario is None:
        raise HarnessError(f"{path}: there is no scenario {record.scenario!r} any more")
    policy = policies.named(record.policy)
    if scenario.expected(policy) is None:
        raise HarnessError(f"{path}: {scenario.name} is not for the policy {policy.name} any more")
    case = Case(
        scenario, policy.name, record.lasts, record.seed, policies, built_with=record.kernel
    )
    if record.observation is None:
        result = CaseResult(
            case, record.status, 0.0, detail=record.detail, log_lines=record.log_lines
        )
    else:
        result = judged(case, record.observation)
    return replace(result, seconds=record.seconds, console=record.console)


def _read(path: Path) -> Record:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise HarnessError(
            f"{path} is no record of this version: {error}", hint="run the tests again"
        ) from error
