# SPDX-License-Identifier: GPL-2.0-only
"""A contract is proposed from the sources, and each line says how sure it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.grade import submission
from harness.grade.contract import load_contract
from harness.grade.guess import FOUND, GUESSED, MISSING, Guess, guess
from harness.layout import Layout
from tests.unit.fake_tree import write

CONTRACTS = Layout.default().root / "configs" / "contracts"

KILLER = """
#ifdef MY_OOM_HIGHEST_RSS
static void kill(void)
{
	printk("Ann's killer: uid=%d, uRSS=%lu, mm_max=%lu, pid=%d, pRSS=%lu\\n", uid, a, b, pid, c);
	printk(KERN_ERR "%s: Killed process %d (%s) total-vm:%lukB, UID:%u", a, b, c, d, e);
}
#elif defined(MY_OOM_RUN_TIME)
#endif
"""
MODULE = """
#define SLOT 356
long sys_set_mm_limit(unsigned long max, uid_t uid)
{
	limits[i] = max << 10;
}
static int start(void)
{
	sys_call_table[SLOT] = (unsigned long)sys_set_mm_limit;
	sys_call_table[357] = (unsigned long)my_oom_killer;
}
"""


def guessed(folder: Path, files: dict[str, str]) -> Guess:
    """The guess for a folder; that it is a contract is seen on the way."""
    write(folder, files)
    made = guess(submission.find(str(folder), work=folder.parent / "work"))
    (folder.parent / "contract.toml").write_text(made.text)
    if made.findings["set-mm-limits.number"].how != MISSING:
        load_contract(folder.parent / "contract.toml")
    return made


def test_modules_that_take_slots_of_the_table(tmp_path: Path) -> None:
    made = guessed(
        tmp_path / "theirs",
        {
            "kernel.change": "page_alloc.c mm/page_alloc.c\n",
            "page_alloc.c": KILLER,
            "mods/killer/Makefile": "obj-m += my_killer.o\n",
            "mods/limits/Makefile": "obj-m := set_limits.o\n",
            "mods/limits/set_limits.c": MODULE,
        },
    )
    contract = load_contract(tmp_path / "contract.toml")
    assert contract.set_mm_limits.number == 356
    assert contract.set_mm_limits.arguments == ("mm_max", "uid")
    assert contract.set_mm_limits.unit == "kB"
    assert contract.my_oom_killer is not None
    assert contract.my_oom_killer.number == 357
    assert contract.modules is not None
    assert (contract.modules.folder, contract.modules.load) == (
        "mods",
        ("set_limits.ko", "my_killer.ko"),
    )
    assert {name: one.define for name, one in contract.policies.items()} == {
        "rss": "MY_OOM_HIGHEST_RSS",
        "runtime": "MY_OOM_RUN_TIME",
    }
    line = "Ann's killer: uid=10070, uRSS=1, mm_max=2, pid=3, pRSS=4"
    assert (match := re.search(contract.log.kill, line))
    assert match.groupdict() == {
        "uid": "10070", "uRSS": "1", "mm_max": "2", "pid": "3", "pRSS": "4",
    }  # fmt: skip
    assert {one.how for one in made.findings.values()} == {FOUND}


def test_a_patch_is_read_by_what_it_adds(tmp_path: Path) -> None:
    added = "+500 common set_mm_limits sys_set_mm_limits\n-400 common set_mm_limits sys_x\n"
    killer = '+	pr_info("KILL user %u has %lu of %lu: %d has %lu%s\\n", a);\n'
    made = guessed(tmp_path / "theirs", {"a.patch": added + killer})
    contract = load_contract(tmp_path / "contract.toml")
    assert contract.set_mm_limits.number == 500
    assert made.findings["log.kill"].how == GUESSED
    assert (match := re.search(contract.log.kill, "KILL user 10070 has 5 of 4: 77 has 3"))
    assert (match["uid"], match["uRSS"], match["mm_max"], match["pid"]) == ("10070", "5", "4", "77")
    assert list(contract.policies) == ["rss"]
    assert contract.modules is None


def test_what_is_not_found_is_said(tmp_path: Path) -> None:
    made = guessed(tmp_path / "theirs", {"a.patch": "+nothing\n"})
    assert made.findings["set-mm-limits.number"].how == MISSING
    assert "number = 0  # not found: neither a header" in made.text
    assert {one.how for one in made.findings.values()} == {MISSING, GUESSED}


def test_a_file_that_lies_elsewhere_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, {"secret.c": "#define __NR_set_mm_limits 77\n"})
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/a.c").symlink_to(tmp_path / "secret.c")
    assert "77" not in guessed(tmp_path / "theirs", {"a.patch": "+\n"}).text


@pytest.mark.parametrize("path", sorted(CONTRACTS.glob("*.toml")), ids=lambda path: path.stem)
def test_our_contracts_are_valid(path: Path) -> None:
    contract = load_contract(path)
    line = "uid=10070, uRSS=100000, mm_max=90000, pid=77, pRSS=50000"
    assert re.search(contract.log.kill, line)


def test_a_name_cannot_become_a_line_of_the_contract(tmp_path: Path) -> None:
    made = guessed(
        tmp_path / "theirs",
        {
            "a.patch": "+1 common set_mm_limits sys_set_mm_limits\n",
            "x\nnumber = 5\n#.c": "#define __NR_set_mm_limits 77\n",
            'mo"d/Makefile': "obj-m := m.o\n",
        },
    )
    contract = load_contract(tmp_path / "contract.toml")
    assert contract.set_mm_limits.number == 1
    assert contract.modules is not None
    assert contract.modules.folder == 'mo"d'
    assert "number = 5" not in made.text
