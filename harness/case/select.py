# SPDX-License-Identifier: GPL-2.0-only
"""Chooses cases: which scenarios, under which policies, and how long random ones go on."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence

from harness.case.scenario import POLICIES, Case, Scenario
from harness.errors import HarnessError

# A random case must fit into the kernel log (1 MB), start marker and all.
RANDOM_SECONDS = 30


def select_cases(
    scenarios: Sequence[Scenario],
    *,
    names: Iterable[str] = (),
    policies: Iterable[str] = (),
    seconds: int | None = None,
    seed: int = 1,
    debug: bool = False,
) -> tuple[Case, ...]:
    """The cases to run, grouped by policy so that a group can share one boot.

    ``names`` may hold shell patterns (``kernel-*``).  Empty means all.  Raises
    HarnessError that lists the valid names if one is unknown or none is left.

    Random scenarios go on for ``seconds``, each in cases that fit into the kernel
    log, with seeds from ``seed`` on.  Scenarios for debug kernels are left out
    unless this is one (``debug``).
    """
    named = _select_scenarios(scenarios, tuple(names))
    chosen = [one for one in named if debug or not one.debug_kernel]
    chosen.sort(key=lambda one: one.debug_kernel)
    if not chosen:
        raise HarnessError(
            f"scenario '{named[0].name}' needs a debug kernel", hint="add --debug-kernel"
        )
    wanted = _select_policies(tuple(policies))
    cases = tuple(
        case
        for policy in wanted
        for scenario in chosen
        if policy in scenario.policies
        for case in _random_cases(scenario, policy, seconds, seed)
    )
    if not cases:
        runs = "; ".join(f"{s.name} runs under {', '.join(s.policies)}" for s in chosen)
        raise HarnessError(f"no chosen scenario runs under policy {', '.join(wanted)}", hint=runs)
    return cases


def _random_cases(
    scenario: Scenario, policy: str, seconds: int | None, seed: int
) -> Iterator[Case]:
    """One case; as many as it takes for a random scenario that is to go on for long."""
    if not scenario.seconds:
        yield Case(scenario, policy)
        return
    left = scenario.seconds if seconds is None else seconds
    while left > 0:
        yield Case(scenario, policy, min(left, RANDOM_SECONDS), seed)
        left -= RANDOM_SECONDS
        seed += 1


def _select_scenarios(
    scenarios: Sequence[Scenario], names: tuple[str, ...]
) -> tuple[Scenario, ...]:
    for name in names:
        if not fnmatch.filter([scenario.name for scenario in scenarios], name):
            raise HarnessError(
                f"unknown scenario '{name}'",
                hint="valid: " + ", ".join(scenario.name for scenario in scenarios),
            )
    return tuple(
        scenario
        for scenario in scenarios
        if not names or any(fnmatch.fnmatchcase(scenario.name, name) for name in names)
    )


def _select_policies(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in POLICIES:
            raise HarnessError(f"unknown policy '{name}'", hint="valid: " + ", ".join(POLICIES))
    return tuple(policy for policy in POLICIES if not names or policy in names)
