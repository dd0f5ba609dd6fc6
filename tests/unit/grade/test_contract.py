# SPDX-License-Identifier: GPL-2.0-only
"""Contracts and schemes: what is wrong is one line with the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.case.load import load_scenarios
from harness.errors import HarnessError
from harness.grade import exam
from harness.grade.contract import load_contract
from harness.grade.marks import load_scheme
from harness.layout import Layout

ROOT = Layout.default().root
OURS = (ROOT / "configs/contracts/ours.toml").read_text()


def test_ours_claims_all_six_experiments() -> None:
    contract = load_contract(ROOT / "configs/contracts/ours.toml")
    plan = exam.plan(contract, load_scenarios(Layout.default()))
    assert len(plan.cases) == 6
    assert plan.not_claimed == ()
    kernels = [exam.kernel_policy(case, contract) for case in plan.cases]
    assert kernels == ["rss", "none", "runtime", "none", "badness", "none"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("number = 500", "numbr = 500", "unknown key 'numbr'"),
        ('unit = "bytes"\nok', 'unit = "MB"\nok', "unknown value 'MB'"),
        ('["uid", "mm_max"]', '["uid", "uid"]', "arguments must be"),
        ("(?P<pid>", "(?P<process>", "kill has no group .*pid"),
        ("(?P<uRSS>", "(?P<rss>", "a group of kill"),
        ("kill = 'uid", "kill = '(uid", "no regular expression"),
        ("[policy.rss]", "[policy.fastest]", "fastest"),
        ("[my-oom-killer]\nnumber = 501", "", r"type goes with \[my-oom-killer\]"),
    ],
)
def test_a_wrong_contract(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert OURS.count(old) >= 1
    path = tmp_path / "contract.toml"
    path.write_text(OURS.replace(old, new, 1))
    with pytest.raises(HarnessError, match=complaint) as error:
        load_contract(path)
    assert "contract.toml" in str(error.value)


def test_a_contract_or_scheme_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="there is no contract"):
        load_contract(tmp_path / "none.toml")
    with pytest.raises(HarnessError, match="there is no scheme"):
        load_scheme(tmp_path / "none.toml")


def test_a_wrong_scheme(tmp_path: Path) -> None:
    path = tmp_path / "scheme.toml"
    path.write_text('name = "x"\nbuild = -1\n')
    with pytest.raises(HarnessError, match=r"scheme\.toml"):
        load_scheme(path)


def test_foreign_lines_are_told_in_our_words() -> None:
    contract = load_contract(ROOT / "configs/contracts/ours.toml")
    (case,) = [
        one
        for one in exam.plan(contract, load_scenarios(Layout.default())).cases
        if one.id == "kernel-badness-badness"
    ]
    log = contract.log.__class__(
        kill=r"KILL (?P<pid>\d+) of (?P<uid>\d+): (?P<uRSS>\d+)/(?P<mm_max>\d+)", unit="kB"
    )
    foreign = contract.__class__(
        name="x",
        set_mm_limits=contract.set_mm_limits.__class__(number=1, unit="kB"),
        log=log,
        policies=contract.policies,
        my_oom_killer=contract.my_oom_killer,
    )
    lines = ["[    1.5] hello", "[    2.5] KILL 7 of 10070: 100000/97656"]
    told = list(exam.translated(lines, foreign, case, limits={99_999_744: 100_000_000}))
    assert told[0] == lines[0]
    words = told[1].split(",\t")
    assert words[:3] == ["[    2.5] uid=10070", "uRSS=102400256", "mm_max=100000000"]
    assert words[3:] == ["pid=7", "pRSS=100000000", "badness=0"]


def test_a_victim_of_a_timer_may_have_finished() -> None:
    said = (
        "child pid=7 bytes=100 finish\nchild pid=8 bytes=200 finish\n"
        "child pid=8 bytes=200 killed by signal 9\n"
    )
    assert exam._without_victims_ends(said) == (
        "child pid=7 bytes=100 finish\nchild pid=8 bytes=200 killed by signal 9\n"
    )
