# SPDX-License-Identifier: GPL-2.0-only
"""Loading scenario files, and choosing cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.case.load import load_scenario, load_scenarios
from harness.case.scenario import Case, KillCount, Scenario
from harness.case.select import select_cases
from harness.errors import HarnessError
from harness.layout import Layout
from harness.policies import known

SCENARIOS = load_scenarios(Layout.default())
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

EXPERIMENTS = [f"{how}-{what}" for how in ("kernel", "daemon") for what in known().built_in[:3]]
PLAYED = [
    "policies-differ",
    "many-must-die",
    "isolation",
    "small-fry",
    "protected",
    "limit-below-usage",
    "threads",
    "unprivileged",
]

MINIMAL = """
name = "x"
summary = "s"
trigger = "kernel"
policies = ["rss", "badness"]
timeout = 5
steps = [
    { do = "spawn", name = "a", user = "u0_a1", bytes = 1_000 },
    { do = "limit", user = "u0_a1", bytes = 500 },
]
[expect]
kills = ["a"]
"""


def load_text(tmp_path: Path, text: str) -> Scenario:
    path = tmp_path / "x.toml"
    path.write_text(text, encoding="utf-8")
    return load_scenario(path)


def test_every_scenario_of_the_issue_is_there() -> None:
    assert {*EXPERIMENTS, *PLAYED, "module-cycle", "set-mm-limits-contract"} <= BY_NAME.keys()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_those_of_the_original_report(name: str) -> None:
    scenario = BY_NAME[name]
    (command,) = scenario.commands
    assert command.user == "u0_a70"
    assert " ".join(command.args).endswith(
        "u0_a70 100000000 20000 40000 20000 30000 200000 100000000"
    )
    by_daemon = scenario.daemon is not None
    assert scenario.policies == (("none",) if by_daemon else (name.removeprefix("kernel-"),))
    for expect in scenario.expect.values():
        assert expect.kills == (KillCount("100000000", 1, 1),)
        assert expect.finish is not None
        assert len(expect.finish) == (6 if by_daemon else 5)
        assert expect.within_s == (7 if by_daemon else None)


def test_overrides_change_single_keys() -> None:
    kills = {
        policy: [count.of for count in expect.kills]
        for policy, expect in BY_NAME["policies-differ"].expect.items()
    }
    assert kills == {"rss": ["big"], "runtime": ["busy"], "badness": ["worst"]}


def test_script_is_what_mm_play_reads(tmp_path: Path) -> None:
    assert load_text(tmp_path, MINIMAL).script == (
        "# x: s\nspawn a user=u0_a1 bytes=1000\nlimit u0_a1 bytes=500\nreport\n"
    )


def test_remove_is_a_form_of_limit(tmp_path: Path) -> None:
    text = MINIMAL.replace(
        '"limit", user = "u0_a1", bytes = 500', '"remove", user = "u0_a1", as = "u0_a1"'
    )
    assert "limit u0_a1 remove as=u0_a1" in load_text(tmp_path, text).script.splitlines()


def test_no_scenario_uses_the_harness_own_user() -> None:
    for scenario in SCENARIOS:
        assert "u0_a199" not in scenario.script
        assert "u0_a199" not in scenario.users


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('summary = "s"', "", "the key 'summary' is missing"),
        ('"x"', '"y"', "file says 'x'"),
        ("timeout = 5", 'timeout = "5"', "timeout: must be a number, is '5'"),
        ("timeout = 5", "timeout = 0", "timeout: must be a number > 0"),
        ("timeout = 5", "timeout = 5\nspeed = 1", "unknown key 'speed', valid: name, summary"),
        ('"kernel"', '"magic"', "trigger: unknown value 'magic', valid: kernel, daemon, syscall"),
        ('"badness"', '"worst"', "'worst', valid: rss, runtime, badness, none"),
        ('["rss", "badness"]', '"rss"', "policies: must be an array, is 'rss'"),
        ('["rss", "badness"]', "[]", "policies: must be an array of length >= 1"),
        ('do = "spawn"', 'do = "fork"', r"steps\[0\].do: unknown value 'fork', valid: .*spawn"),
        ("bytes = 1_000", "bytes = true", r"steps\[0\].bytes: must be an integer, is true"),
        ("bytes = 1_000", 'bytes = "1K"', r"steps\[0\].bytes: must be an integer, is '1K'"),
        (
            "bytes = 1_000",
            "bytes = 1, kind = 'odd'",
            r"steps\[0\].kind: unknown value 'odd', valid",
        ),
        ("bytes = 1_000", "size = 1", r"steps\[0\]: unknown key 'size', valid: do, name, user"),
        ("bytes = 500", "ret = 1", r"steps\[1\]: the key 'bytes' is missing"),
        ("bytes = 500", "bytes = 1, ret = 'x'", r"steps\[1\].ret: must be an integer, is 'x'"),
        ('kills = ["a"]', "", "'kills' is missing"),
        ('kills = ["a"]', 'kills = [{ of = "a" }]', r"expect.kills\[0\]: needs 'count'"),
        ('kills = ["a"]', 'kills = [{ of = "a", min = 3, max = 2 }]', "needs 'count'"),
        ('kills = ["a"]', 'kills = ["a"]\nbonus = 1', "expect: unknown key 'bonus', valid: kills"),
        (
            'kills = ["a"]',
            "kills = []\n[expect.policy.rss]\ntap = 1",
            "expect.policy.rss.tap: must",
        ),
        ("[expect]", "[daemon]\nseconds = 1\ntype = 0\n[expect]", "goes with"),
        ("[expect]", "[daemon]\nseconds = 1\ntype = 3\n[expect]", "no policy has the type 3"),
        (
            'kills = ["a"]',
            "kills = []\n[expect.policy.none]\nkills = []",
            "'none', valid: rss, bad",
        ),
        ("[expect]", '[[experiment]]\nprogram = "p"\n[expect]', "either"),
        ("timeout = 5", "timeout =", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_it(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in MINIMAL
    with pytest.raises(HarnessError, match=message) as caught:
        load_text(tmp_path, MINIMAL.replace(old, new, 1))
    # The hint may hold what is matched; the file must be in what is wrong.
    assert "x.toml" in caught.value.what


def test_no_scenarios(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no scenario in"):
        load_scenarios(Layout(root=tmp_path, build=tmp_path, cache=tmp_path))


def ids(cases: tuple[Case, ...]) -> list[str]:
    return [case.id for case in cases]


def test_one_kernel_runs_all_but_what_shows_what_holds_from_boot_on() -> None:
    cases = select_cases(SCENARIOS)
    kernels = [case.kernel for case in cases]
    assert kernels == sorted(kernels, key=known().built_in.index)
    assert {case.scenario.name for case in cases if case.kernel == "runtime"} == {"kernel-runtime"}
    assert {case.policy for case in cases if case.kernel == "rss"} == set(known().built_in)
    first = [case for case in cases if case.scenario.compiled_in and case.kernel == "rss"]
    assert list(cases[: len(first)]) == first


def test_no_kernel_is_built_for_what_another_can_run() -> None:
    assert {case.kernel for case in select_cases(SCENARIOS, policies=["runtime"])} == {"runtime"}
    assert {case.kernel for case in select_cases(SCENARIOS, policies=["youngest"])} == {"rss"}


def test_select_by_name_pattern_and_policy() -> None:
    chosen = select_cases(SCENARIOS, names=["policies-differ"], policies=["rss", "badness"])
    assert ids(chosen) == ["policies-differ-rss", "policies-differ-badness"]
    assert len(select_cases(SCENARIOS, names=["kernel-*", "daemon-*"])) == len(EXPERIMENTS)


def test_unknown_scenario_lists_the_valid_ones() -> None:
    with pytest.raises(HarnessError, match="unknown scenario 'nope'") as caught:
        select_cases(SCENARIOS, names=["nope"])
    assert all(name in caught.value.hint for name in BY_NAME)


def test_unknown_policy_lists_the_valid_ones() -> None:
    with pytest.raises(HarnessError, match="unknown policy 'lru'") as caught:
        select_cases(SCENARIOS, policies=["lru"])
    assert all(policy in caught.value.hint for policy in known().built_in)


def test_a_choice_that_leaves_nothing_says_what_would_run() -> None:
    with pytest.raises(HarnessError, match="no chosen scenario") as caught:
        select_cases(SCENARIOS, names=["kernel-rss"], policies=["badness"])
    assert caught.value.hint == "kernel-rss runs under rss"


def test_killers_that_may_act() -> None:
    assert Case(BY_NAME["daemon-badness"], "none").killers == {"badness"}
    assert Case(BY_NAME["isolation"], "runtime").killers == {"runtime"}
    assert Case(BY_NAME["limit-below-usage"], "none").killers == set()
