# SPDX-License-Identifier: GPL-2.0-only
"""Edits as a patch, the series as a git repository and back, by the real git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.source import patch, series
from harness.source.patch import PatchRequest
from harness.source.series import Edit
from tests.unit.fake_tree import PAGE_ALLOC, Checkout, make_checkout, stage

PATCHED = PAGE_ALLOC.replace("line 20\n", "line 20\nhook\n")
IDENTITY = ("-c", "user.name=Somebody", "-c", "user.email=some@example.org")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *IDENTITY, *words], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """Its one patch is what git itself makes."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\nname = Somebody\nemail = some@example.org\n")
    monkeypatch.setenv("HOME", str(home))
    checkout = make_checkout(tmp_path, monkeypatch)
    edits = [Edit("mm/page_alloc.c", PAGE_ALLOC.encode(), PATCHED.encode())]
    folder = checkout.line.patches
    folder.mkdir(parents=True, exist_ok=True)
    series.export_edits(edits, folder / "0001-mm-hook.patch", subject="mm: hook")
    (folder / "series").write_text("# In this order.\n0001-mm-hook.patch\n")
    return checkout


def request(checkout: Checkout) -> PatchRequest:
    return PatchRequest(line=checkout.line, source=checkout.fetched(checkout.tarball()))


def as_git(checkout: Checkout, folder: Path) -> Path:
    assert series.to_git(request(checkout), folder, layout=checkout.layout, stage=stage()) == 1
    return folder


def test_edits_are_a_patch_against_the_series(checkout: Checkout, tmp_path: Path) -> None:
    tree = patch.apply(request(checkout), layout=checkout.layout, stage=stage())
    (tree.path / "mm/page_alloc.c").write_text(PATCHED.replace("line 30\n", "mine\n"))
    (tree.path / "mm/mine.c").write_text("int mine;\n")
    found = patch.edited(request(checkout), layout=checkout.layout, stage=stage())
    edits = [Edit(name, before, after) for name, (before, after) in found.items()]
    out = tmp_path / "my.patch"
    series.export_edits(edits, out, subject="mm: mine")
    text = out.read_text()
    assert "Subject: [PATCH] mm: mine\n" in text
    assert "Signed-off-by: Somebody <some@example.org>\n" in text
    assert "\n-line 30\n+mine\n" in text
    assert "\n+int mine;\n" in text
    assert "hook" not in [line[1:] for line in text.splitlines() if line[:1] in "+-"]


def test_what_nobody_edited_is_no_patch(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no file of the kernel was edited"):
        series.export_edits([], tmp_path / "out", subject="nothing")


def test_a_patch_needs_an_author(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "home/.gitconfig").unlink()
    with pytest.raises(HarnessError, match=r"your user\.name"):
        series.export_edits([Edit("a", b"", b"b\n")], tmp_path / "out", subject="nobody")


def test_there_and_back_is_the_same_series(checkout: Checkout, tmp_path: Path) -> None:
    before = (checkout.line.patches / "0001-mm-hook.patch").read_bytes()
    repository = as_git(checkout, tmp_path / "repository")
    assert git(repository, "log", "--format=%s").splitlines() == ["mm: hook", "fake 6.1.99"]
    series.from_git(repository, tmp_path / "new")
    series.replace_series(checkout.line.patches, tmp_path / "new")
    assert (checkout.line.patches / "0001-mm-hook.patch").read_bytes() == before
    assert (checkout.line.patches / "series").read_text().startswith("# In this order.\n")


def test_commits_become_patches_and_old_ones_go(checkout: Checkout, tmp_path: Path) -> None:
    repository = as_git(checkout, tmp_path / "repository")
    (repository / "mm/more.c").write_text("int more;\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "--amend", "-m", "mm: more")
    names = [one.path.name for one in series.from_git(repository, tmp_path / "new")]
    series.replace_series(checkout.line.patches, tmp_path / "new")
    there = sorted(path.name for path in checkout.line.patches.glob("*.patch"))
    assert names == there == ["0001-mm-more.patch"]


def test_a_folder_that_is_there_stays_as_it_is(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    with pytest.raises(HarnessError, match="is there already"):
        as_git(checkout, tmp_path / "mine")
    assert (tmp_path / "mine/file").read_text() == "mine"


def test_a_patch_that_does_not_apply_leaves_no_repository(
    checkout: Checkout, tmp_path: Path
) -> None:
    path = checkout.line.patches / "0001-mm-hook.patch"
    path.write_text(path.read_text().replace(" line 19\n", " line nineteen\n"))
    with pytest.raises(HarnessError, match="git am"):
        as_git(checkout, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def dirty(repository: Path) -> None:
    (repository / "mm/page_alloc.c").write_text("edited\n")


def merged(repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "side", series.BASE)
    (repository / "side").write_text("side\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "side")
    git(repository, "merge", "-q", "--no-ff", "-m", "merge", "series")


def untagged(repository: Path) -> None:
    git(repository, "tag", "-d", series.BASE)


def empty(repository: Path) -> None:
    git(repository, "reset", "-q", "--hard", series.BASE)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (dirty, "changes that are in no commit"),
        (merged, "is a merge"),
        (untagged, "has no tag series-base"),
        (empty, "has no commit after series-base"),
    ],
)
def test_a_repository_that_is_no_series(
    checkout: Checkout, tmp_path: Path, spoil: object, complaint: str
) -> None:
    repository = as_git(checkout, tmp_path / "repository")
    assert callable(spoil)
    spoil(repository)
    with pytest.raises(HarnessError, match=complaint):
        series.from_git(repository, tmp_path / "new")


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="is no git repository"):
        series.from_git(tmp_path, tmp_path / "new")


def test_the_tree_that_is_built_can_be_a_repository(checkout: Checkout) -> None:
    one = request(checkout)
    tree = patch.apply(one, layout=checkout.layout, stage=stage())
    (tree.path / "out-arm-virt").mkdir()
    (tree.path / "out-arm-virt/vmlinux").write_text("built")
    (tree.path / "mm/page_alloc.c").write_text(PATCHED.replace("line 30\n", "mine\n"))
    series.track(one, tree.path, layout=checkout.layout, stage=stage())
    assert git(tree.path, "status", "--porcelain").splitlines() == [" M mm/page_alloc.c"]
    assert "+mine\n" in git(tree.path, "diff")
    assert git(tree.path, "log", "-1", "--format=%s") == "mm: hook\n"
    again = patch.apply(one, layout=checkout.layout, stage=stage())
    assert list(again.edits) == ["mm/page_alloc.c"]
    assert not series.is_outdated(one, tree.path)
    path = checkout.line.patches / "0001-mm-hook.patch"
    path.write_text(path.read_text().replace("+hook", "+another hook"))
    assert series.is_outdated(one, tree.path)
