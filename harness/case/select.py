# SPDX-License-Identifier: GPL-2.0-only
"""Chooses cases: which scenarios, under which policies, and how long random ones go on."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from harness.case.scenario import Case, Scenario
from harness.errors import HarnessError
from harness.policies import Policies, Policy, known

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
    config: str | None = None,
    table: Policies | None = None,
) -> tuple[Case, ...]:
    """The cases to run, grouped by kernel so that a group can share one boot.

    ``names`` may hold shell patterns (``kernel-*``).  Empty means all; of the policies
    (``table``, or those of the checkout) all that are part of the kernel.  Raises
    HarnessError that lists the valid names if one is unknown or none is left.

    Random scenarios go on for ``seconds``, each in cases that fit into the kernel
    log, with seeds from ``seed`` on.  Scenarios for debug kernels are left out
    unless this is one (``debug``), and those for another ``config``.
    """
    named = _select_scenarios(scenarios, tuple(names))
    chosen = [
        one for one in named if (debug or not one.debug_kernel) and one.config in (None, config)
    ]
    chosen.sort(key=lambda one: one.debug_kernel)
    if not chosen and (needed := named[0].config) not in (None, config):
        raise HarnessError(
            f"scenario '{named[0].name}' needs a kernel with configs/{needed}.config",
            hint=f"add --config=configs/{needed}.config",
        )
    if not chosen:
        raise HarnessError(
            f"scenario '{named[0].name}' needs a debug kernel", hint="add --debug-kernel"
        )
    known_policies = table or known()
    wanted = _select_policies(tuple(policies), known_policies)
    cases = tuple(
        replace(case, policies=known_policies)
        for policy in wanted
        for scenario in chosen
        if scenario.expected(policy) is not None
        for case in _random_cases(scenario, policy.name, seconds, seed)
    )
    if not cases:
        runs = "; ".join(f"{s.name} runs under {', '.join(s.policies)}" for s in chosen)
        under = ", ".join(policy.name for policy in wanted)
        raise HarnessError(f"no chosen scenario runs under policy {under}", hint=runs)
    return _on_few_kernels(cases, known_policies)


def _on_few_kernels(cases: tuple[Case, ...], table: Policies) -> tuple[Case, ...]:
    """The same cases on as few kernels as can be, those of one kernel together.

    What any kernel can run goes to one that is needed anyway.
    """
    needed = [case.policy for case in cases if case.scenario.compiled_in]
    shared = next(iter(needed), table.built_in[0])
    on = [
        replace(case, built_with=case.policy if case.scenario.compiled_in else shared)
        for case in cases
    ]
    order = [shared, *(name for name in dict.fromkeys(needed) if name != shared)]
    # What needs a kernel as it has booted comes before a policy is selected.
    return tuple(
        sorted(on, key=lambda case: (order.index(case.kernel), not case.scenario.compiled_in))
    )


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


def _select_policies(names: tuple[str, ...], table: Policies) -> tuple[Policy, ...]:
    wanted = {name: table.named(name) for name in names or table.built_in}
    return tuple(wanted[name] for name in table if name in wanted)
