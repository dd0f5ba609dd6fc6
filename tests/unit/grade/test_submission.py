# SPDX-License-Identifier: GPL-2.0-only
"""The forms of submissions, and those that try to reach beyond themselves."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.grade import submission
from harness.grade.submission import Submission
from tests.unit.fake_tree import write

PATCH = """\
--- a/mm/page_alloc.c
+++ b/mm/page_alloc.c
@@ -1 +1 @@
-old
+new
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A kernel, as much of one as is looked at."""
    base = tmp_path / "base"
    (base / "mm").mkdir(parents=True)
    (base / "mm/page_alloc.c").write_text("old\n")
    (base / "Kbuild").write_text("# kbuild\n")
    return base


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    return theirs


def made(given: str | Path, base: Path, tmp_path: Path) -> tuple[Submission, Path]:
    one = submission.find(str(given), work=tmp_path / "work")
    submission.make_tree(one, base, tmp_path / "tree")
    return one, tmp_path / "tree"


def check(base: Path, tree: Path) -> None:
    assert (tree / "mm/page_alloc.c").read_text() == "new\n"
    assert (tree / "Kbuild").read_text() == "# kbuild\n"
    assert (base / "mm/page_alloc.c").read_text() == "old\n"


def test_files_to_be_replaced(base: Path, theirs: Path, tmp_path: Path) -> None:
    (theirs / "new.c").write_text("new\n")
    (theirs / "kernel.change").write_text(
        "# FILE PLACE\nnew.c mm/page_alloc.c\n\nnew.c mm/own/a.c\n"
    )
    one, tree = made(theirs, base, tmp_path)
    assert (one.name, one.form) == ("theirs", "files")
    check(base, tree)
    assert (tree / "mm/own/a.c").read_text() == "new\n"


def test_one_diff(base: Path, theirs: Path, tmp_path: Path) -> None:
    (theirs / "my.diff").write_text(PATCH)
    one, tree = made(theirs / "my.diff", base, tmp_path)
    assert (one.name, one.form) == ("my", "patches")
    check(base, tree)


def test_patches_in_the_order_of_their_series(base: Path, theirs: Path, tmp_path: Path) -> None:
    (theirs / "b.patch").write_text(PATCH.replace("-old\n+new", "-old\n+half"))
    (theirs / "a.patch").write_text(PATCH.replace("-old\n+new", "-half\n+new"))
    (theirs / "series").write_text("b.patch\na.patch # last\n")
    check(base, made(theirs, base, tmp_path)[1])


def test_a_kernel_tree(base: Path, tmp_path: Path) -> None:
    one, tree = made(base, tmp_path / "nowhere", tmp_path)
    assert one.form == "tree"
    assert (tree / "mm/page_alloc.c").read_text() == "old\n"


def test_a_branch_of_a_repository(base: Path, theirs: Path, tmp_path: Path) -> None:
    (theirs / "my.patch").write_text(PATCH)
    hooks = tmp_path / "ran"
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    for words in (
        ["init", "-q", "-b", "main"],
        ["commit", "-q", "--allow-empty", "-m", "nothing"],
        ["checkout", "-q", "-b", "work"],
        ["add", "."],
        ["commit", "-q", "-m", "mine"],
    ):
        subprocess.run(["git", "-C", theirs, *identity, *words], check=True)
    hook = theirs / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {hooks}\n")
    hook.chmod(0o755)
    one, tree = made(f"{theirs}#work", base, tmp_path)
    assert (one.name, one.form) == ("theirs", "patches")
    check(base, tree)
    assert not hooks.exists()
    with pytest.raises(HarnessError, match="is no submission"):
        submission.find(f"{theirs}#main", work=tmp_path / "work")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("new.c ../../outside", "outside the kernel tree"),
        ("new.c /etc/passwd", "outside the kernel tree"),
        ("../secret mm/a.c", "outside the submission"),
        ("/etc/passwd mm/a.c", "outside the submission"),
        ("link mm/a.c", "outside the submission"),
        ("missing.c mm/a.c", "is not in the submission"),
        ("new.c", "a line is FILE PLACE"),
    ],
)
def test_files_that_lead_elsewhere(
    base: Path, theirs: Path, tmp_path: Path, line: str, complaint: str
) -> None:
    (tmp_path / "secret").write_text("secret\n")
    (theirs / "new.c").write_text("new\n")
    os.symlink("/etc/passwd", theirs / "link")
    (theirs / "kernel.change").write_text(f"{line}\n")
    with pytest.raises(HarnessError, match=rf"kernel\.change:1: .*{complaint}"):
        made(theirs, base, tmp_path)


def test_a_patch_that_does_not_apply(base: Path, theirs: Path, tmp_path: Path) -> None:
    (theirs / "a.patch").write_text(PATCH.replace("-old", "-other"))
    with pytest.raises(HarnessError, match=r"a\.patch does not apply"):
        made(theirs, base, tmp_path)


def test_a_patch_that_leads_out_of_the_tree(base: Path, theirs: Path, tmp_path: Path) -> None:
    out = "--- /dev/null\n+++ b/../escaped\n@@ -0,0 +1 @@\n+new\n"
    (theirs / "a.patch").write_text(out)
    with pytest.raises(HarnessError, match="does not apply"):
        made(theirs, base, tmp_path)
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("none", "there is no submission"),
        ("empty", "is no submission"),
        ("a.txt", "is no submission"),
        ("empty#branch", "no git repository"),
    ],
)
def test_what_is_no_submission(tmp_path: Path, given: str, complaint: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(HarnessError, match=complaint):
        submission.find(str(tmp_path / given), work=tmp_path / "work")


def test_another_content_is_another_submission(tmp_path: Path) -> None:
    write(tmp_path / "theirs", {"a.patch": "+1\n", ".git/HEAD": "1"})
    one = submission.Submission(name="theirs", path=tmp_path / "theirs", form="patches")
    before = submission.identity(one)
    (tmp_path / "theirs/.git/HEAD").write_text("2")
    os.utime(tmp_path / "theirs/a.patch", (1, 1))
    assert submission.identity(one) == before
    (tmp_path / "theirs/loop").symlink_to("loop")
    linked = submission.identity(one)
    assert linked != before
    (tmp_path / "theirs/a.patch").write_text("+2\n")
    assert submission.identity(one) not in (before, linked)
