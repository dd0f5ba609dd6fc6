# SPDX-License-Identifier: GPL-2.0-only
"""What policies there are, and what is wrong with a file that is to be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.kernels import load_kernels
from harness.layout import Layout
from harness.policies import Policies, known, load_policies, read_source

GOOD = """\
/* USER_OOM_POLICY() is the last line;
 * "USER_OOM_POLICY(" in a comment is none. */
#include <linux/user_oom_policy.h>
static s64 score(struct task_struct *p, long rss) { return -rss; } // USER_OOM_POLICY
USER_OOM_POLICY("mine", score,
                "my_score", 1 << 10);
"""


def write(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.c"
    path.write_text(text)
    return path


def test_the_macro_line_says_all_about_a_module(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    policy = read_source(path)
    assert (policy.name, policy.field, policy.type) == ("mine", "my_score", None)
    assert policy.kills
    assert read_source(write(tmp_path, GOOD.replace('"my_score"', "NULL"))).field is None


def test_the_kernels_own_come_first() -> None:
    table = known()
    assert list(table)[:4] == ["rss", "runtime", "badness", "none"]
    assert table.of_type(1) == "runtime"
    assert table.of_type(99) is None
    assert not table["none"].kills
    for name in set(table) - set(table.built_in):
        assert table[name].source is not None


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (GOOD, "int x;\n", r"mine.c: there is no USER_OOM_POLICY\(\) line"),
        (GOOD, GOOD + 'USER_OOM_POLICY("b", score, "c", 1);\n', r"mine.c:7: a second .* line 5"),
        ('"mine"', '"other"', r"mine.c:5: the name is 'other', the file's is 'mine'"),
        ('"mine"', '"1mine"', r"mine.c:5: the name '1mine' is not a letter and up to 30"),
        ('"mine"', '"' + "m" * 32 + '"', r"mine.c:5: the name 'm+' is not a letter"),
        ('"mine"', '""', r"mine.c:5: the name '' is not a letter"),
        ('"mine"', "mine", r"mine.c:5: USER_OOM_POLICY\(\) takes a name, a function"),
        ('"my_score"', '"my score"', r"mine.c:5: the log field 'my score' is not a letter"),
        ('"my_score"', '"pid"', r"mine.c:5: the log field 'pid' is one that every kill line has"),
        ('"my_score"', '"badness"', r"mine.c: the log field 'badness' is that of badness"),
        ('"my_score"', '"others"', r"mine.c: the log field 'others' is that of second"),
        (", 1 << 10", "", r"mine.c:5: USER_OOM_POLICY\(\) takes a name"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_files_own_number(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    second = write(tmp_path, GOOD.replace("mine", "second").replace("my_score", "others"), "second")
    broken = write(tmp_path, "nothing\n", "broken")
    table = Policies(load_kernels(Layout.default()), [broken, path, second])
    with pytest.raises(HarnessError, match=complaint) as caught:
        table.named("mine")
    assert "\n" not in caught.value.what


def test_a_file_that_is_wrong_is_nobody_elses_fault(tmp_path: Path) -> None:
    files = [write(tmp_path, "nothing\n", "broken"), write(tmp_path, GOOD)]
    assert Policies(load_kernels(Layout.default()), files).named("mine").field == "my_score"


def test_a_name_that_the_kernel_has_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace('"mine"', '"rss"'), "rss")
    table = load_policies(Layout.default(), extra=path)
    assert table.named("rss").source is None
    with pytest.raises(HarnessError, match="the kernel has a policy 'rss' already"):
        table.of_file(path)


def test_an_unknown_policy_lists_those_there_are() -> None:
    with pytest.raises(HarnessError, match="unknown policy 'oldest'") as caught:
        known().named("oldest")
    assert "rss, runtime, badness, none" in caught.value.hint
    assert "./run new-policy oldest" in caught.value.hint


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.c"
    with pytest.raises(HarnessError, match=r"cannot read .*mine.c: No such file"):
        read_source(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(HarnessError, match=r"mine.c is no C source"):
        read_source(path)
