# SPDX-License-Identifier: GPL-2.0-only
"""The series lands exactly, rebuilds little, and nobody's edits are lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import stamp
from harness.errors import HarnessError
from harness.source import patch
from harness.source.fetch import Source
from harness.source.patch import PatchedTree, PatchRequest
from tests.unit.fake_tree import PAGE_ALLOC, Checkout, diff, make_checkout, stage, write

PATCHED = PAGE_ALLOC.replace("line 20\n", "line 20\nhook\n")
CHANGE: dict[str, tuple[str | None, str | None]] = {
    "mm/page_alloc.c": (PAGE_ALLOC, PATCHED),
    "mm/limits.c": (None, "new\n"),
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    checkout = make_checkout(tmp_path, monkeypatch)
    checkout.add_patch("0001-hook.patch", CHANGE)
    return checkout


@pytest.fixture(params=["tree", "tarball"])
def source(checkout: Checkout, request: pytest.FixtureRequest) -> Source:
    return checkout.fetched(checkout.tarball() if request.param == "tarball" else None)


def apply(checkout: Checkout, source: Source, *, force: bool = False) -> PatchedTree:
    request = PatchRequest(line=checkout.line, source=source, force=force)
    return patch.apply(request, layout=checkout.layout, stage=stage())


def check(checkout: Checkout, source: Source) -> None:
    patch.check(
        PatchRequest(line=checkout.line, source=source), layout=checkout.layout, stage=stage()
    )


def times(tree: PatchedTree) -> dict[str, int]:
    return {
        str(path.relative_to(tree.path)): path.stat().st_mtime_ns
        for path in tree.path.rglob("*")
        if path.is_file()
    }


def test_series_is_applied_to_a_copy(checkout: Checkout, source: Source) -> None:
    tree = apply(checkout, source)
    assert (tree.path / "mm/page_alloc.c").read_text() == PATCHED
    assert (tree.path / "mm/limits.c").read_text() == "new\n"
    assert (checkout.kernel / "mm/page_alloc.c").read_text() == PAGE_ALLOC
    assert tree.release == "6.1.99"
    assert tree.patched == ("mm/limits.c", "mm/page_alloc.c")
    assert tree.edits == {}


def test_second_run_changes_nothing(checkout: Checkout, source: Source) -> None:
    tree = apply(checkout, source)
    before = times(tree)
    assert apply(checkout, source) == tree
    assert times(tree) == before


def test_new_patch_touches_only_its_files(checkout: Checkout, source: Source) -> None:
    tree = apply(checkout, source)
    before = times(tree)
    checkout.add_patch("0002.patch", {"mm/oom_kill.c": ("kill\n", "kill\nmore\n")})
    again = apply(checkout, source)
    assert again.identity != tree.identity
    after = times(again)
    assert {name for name in after if after[name] != before[name]} == {"mm/oom_kill.c"}


def test_dropped_patch_is_undone(checkout: Checkout, source: Source) -> None:
    apply(checkout, source)
    checkout.drop_patches()
    tree = apply(checkout, source)
    assert (tree.path / "mm/page_alloc.c").read_text() == PAGE_ALLOC
    assert not (tree.path / "mm/limits.c").exists()
    assert tree.edits == {}
    checkout.add_patch("0001-hook.patch", CHANGE)
    assert (apply(checkout, source).path / "mm/page_alloc.c").read_text() == PATCHED


def test_offset_is_reported_and_refused_by_check(checkout: Checkout) -> None:
    (checkout.kernel / "mm/page_alloc.c").write_text("first\n" + PAGE_ALLOC)
    tree = apply(checkout, checkout.fetched())
    assert tree.offsets == (
        "0001-hook.patch: mm/page_alloc.c: Hunk #1 succeeded at 19 (offset 1 line).",
    )
    with pytest.raises(HarnessError, match="only with an offset") as error:
        check(checkout, checkout.fetched())
    assert error.value.details == tree.offsets


def test_check_accepts_what_is_exact_and_builds_nothing(checkout: Checkout, source: Source) -> None:
    check(checkout, source)
    assert (checkout.source_tree / "mm/page_alloc.c").read_text() == PAGE_ALLOC
    apply(checkout, source)
    check(checkout, source)


def test_fuzz_is_refused(checkout: Checkout) -> None:
    other = PAGE_ALLOC.replace("line 18\n", "line eighteen\n")
    (checkout.kernel / "mm/page_alloc.c").write_text(other)
    with pytest.raises(HarnessError) as error:
        apply(checkout, checkout.fetched())
    assert error.value.what == (
        "0001-hook.patch does not apply: mm/page_alloc.c, hunk #1 (line 18)"
    )
    assert "+hook" in error.value.details
    assert (checkout.source_tree / "mm/page_alloc.c").read_text() == other


def test_missing_file_is_named(checkout: Checkout) -> None:
    (checkout.kernel / "mm/page_alloc.c").unlink()
    with pytest.raises(HarnessError, match=r"mm/page_alloc\.c is not in this source"):
        apply(checkout, checkout.fetched())


@pytest.mark.parametrize(
    ("series", "text", "complaint"),
    [
        ("0009.patch", None, r"cannot read .*0009\.patch"),
        ("0009.patch", "no diff\n", "changes no file"),
        ("0009.patch", "--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-a\n+b\n", "outside the kernel"),
    ],
)
def test_broken_series(checkout: Checkout, series: str, text: str | None, complaint: str) -> None:
    folder = checkout.line.patches
    (folder / "series").write_text(f"{series}  # a comment\n")
    if text is not None:
        (folder / series).write_text(text)
    with pytest.raises(HarnessError, match=complaint):
        apply(checkout, checkout.fetched())


def test_edits_are_kept_and_change_the_identity(checkout: Checkout, source: Source) -> None:
    tree = apply(checkout, source)
    (tree.path / "mm/page_alloc.c").write_text(PATCHED + "mine\n")
    (tree.path / "mm/mine.c").write_text("mine\n")
    (tree.path / "mm/mine.c~").write_text("an editor's\n")
    (tree.path / "out-arm-virt").mkdir()
    (tree.path / "out-arm-virt/built.c").write_text("a build's\n")
    edited = apply(checkout, source)
    assert set(edited.edits) == {"mm/page_alloc.c", "mm/mine.c"}
    assert edited.identity != tree.identity
    assert (tree.path / "mm/page_alloc.c").read_text() == PATCHED + "mine\n"


def test_edited_file_is_never_overwritten(checkout: Checkout, source: Source) -> None:
    tree = apply(checkout, source)
    mine = PATCHED + "mine\n"
    (tree.path / "mm/page_alloc.c").write_text(mine)
    checkout.add_patch("0002.patch", {"mm/page_alloc.c": (PATCHED, "top\n" + PATCHED)})
    with pytest.raises(HarnessError, match="edited by hand") as error:
        apply(checkout, source)
    assert error.value.details == ("mm/page_alloc.c",)
    assert "./run patch --force" in error.value.hint
    assert (tree.path / "mm/page_alloc.c").read_text() == mine

    forced = apply(checkout, source, force=True)
    assert (forced.path / "mm/page_alloc.c").read_text() == "top\n" + PATCHED
    (saved,) = (forced.work / "saved").rglob("page_alloc.c")
    assert saved.read_text() == mine


def test_force_puts_back_what_the_series_does_not_touch(checkout: Checkout, source: Source) -> None:
    tree = apply(checkout, source)
    (tree.path / "mm/oom_kill.c").write_text("mine\n")
    (tree.path / "mm/mine.c").write_text("mine\n")
    forced = apply(checkout, source, force=True)
    assert (forced.path / "mm/oom_kill.c").read_text() == "kill\n"
    assert not (forced.path / "mm/mine.c").exists()
    assert forced.edits == {}
    assert len(list((forced.work / "saved").rglob("*.c"))) == 2


def test_patch_to_a_file_edited_before(checkout: Checkout, source: Source) -> None:
    tree = apply(checkout, source)
    (tree.path / "mm/oom_kill.c").write_text("kill\nmine\n")
    checkout.add_patch("0002.patch", {"mm/oom_kill.c": ("kill\n", "more\nkill\n")})
    with pytest.raises(HarnessError, match="edited by hand"):
        apply(checkout, source)
    forced = apply(checkout, source, force=True)
    assert (forced.path / "mm/oom_kill.c").read_text() == "more\nkill\n"


def test_interrupted_writing_leaves_no_edit(
    checkout: Checkout, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def interrupted(path: Path, content: bytes, **_: int) -> None:
        path.write_bytes(content)
        written.append(path)
        raise KeyboardInterrupt

    apply(checkout, source)
    changed = PATCHED + "end\n"
    checkout.add_patch("0002.patch", {"mm/page_alloc.c": (PATCHED, changed)})
    real = stamp.write_atomic

    def write_atomic(path: Path, content: bytes, *, mode: int = 0o644) -> None:
        (interrupted if path.suffix == ".c" else real)(path, content, mode=mode)

    monkeypatch.setattr(stamp, "write_atomic", write_atomic)
    with pytest.raises(KeyboardInterrupt):
        apply(checkout, source)
    monkeypatch.undo()
    assert written
    tree = apply(checkout, source)
    assert (tree.path / "mm/page_alloc.c").read_text() == changed
    assert tree.edits == {}


def test_tarball_that_is_no_kernel(checkout: Checkout) -> None:
    (checkout.kernel / "Makefile").write_text("all:\n")
    with pytest.raises(HarnessError, match="not a kernel source tree"):
        apply(checkout, checkout.fetched(checkout.tarball()))
    assert list(checkout.layout.build.glob("*/src")) == []


def test_changed_user_tree_is_followed_file_by_file(checkout: Checkout) -> None:
    tree = apply(checkout, checkout.fetched())
    before = times(tree)
    (checkout.kernel / "mm/oom_kill.c").write_text("kill better\n")
    os.utime(checkout.kernel / "mm/oom_kill.c", (1, 1))
    (checkout.kernel / "mm/page_alloc.c").write_text(PAGE_ALLOC + "end\n")
    again = apply(checkout, checkout.fetched())
    assert (again.path / "mm/oom_kill.c").read_text() == "kill better\n"
    assert (again.path / "mm/page_alloc.c").read_text() == PATCHED + "end\n"
    assert again.edits == {}
    after = times(again)
    assert {name for name in after if after[name] > before[name]} == {
        "mm/oom_kill.c",
        "mm/page_alloc.c",
    }


def test_user_tree_and_edit_in_conflict(checkout: Checkout) -> None:
    tree = apply(checkout, checkout.fetched())
    (tree.path / "mm/oom_kill.c").write_text("mine\n")
    (checkout.kernel / "mm/oom_kill.c").write_text("theirs\n")
    with pytest.raises(HarnessError, match="has changed, and 1 file"):
        apply(checkout, checkout.fetched())
    assert (tree.path / "mm/oom_kill.c").read_text() == "mine\n"


def test_new_tarball_replaces_the_tree(checkout: Checkout) -> None:
    tree = apply(checkout, checkout.fetched(checkout.tarball()))
    (checkout.kernel / "mm/oom_kill.c").write_text("newer\n")
    source = checkout.fetched(checkout.tarball())
    assert (apply(checkout, source).path / "mm/oom_kill.c").read_text() == "newer\n"
    (tree.path / "mm/oom_kill.c").write_text("mine\n")
    (checkout.kernel / "mm/oom_kill.c").write_text("newest\n")
    with pytest.raises(HarnessError, match="the kernel source has changed"):
        apply(checkout, checkout.fetched(checkout.tarball()))


def test_series_up_to_a_patch_has_a_tree_of_its_own(checkout: Checkout, source: Source) -> None:
    checkout.add_patch("0002-more.patch", {"mm/more.c": (None, "more\n")})
    whole = apply(checkout, source)
    for until, files in (("hook", {"mm/limits.c"}), ("", set())):
        request = PatchRequest(line=checkout.line, source=source, until=until)
        tree = patch.apply(request, layout=checkout.layout, stage=stage())
        assert tree.path != whole.path
        there = {name for name in ("mm/limits.c", "mm/more.c") if (tree.path / name).exists()}
        assert there == files


@pytest.mark.parametrize("until", ["nonsense", "000"])
def test_a_patch_to_stop_at_must_be_one(checkout: Checkout, until: str) -> None:
    checkout.add_patch("0002-more.patch", {"mm/more.c": (None, "more\n")})
    request = PatchRequest(line=checkout.line, source=checkout.fetched(), until=until)
    with pytest.raises(HarnessError, match="patches have"):
        patch.apply(request, layout=checkout.layout, stage=stage())


def test_compat_patches_come_first_and_only_when_needed(checkout: Checkout) -> None:
    folder = checkout.layout.root / "patches" / "fake" / "compat"
    write(
        folder,
        {
            "series": "0001-old.patch\n",
            "0001-old.patch": "Subject: x\n---\n" + diff({"mm/oom_kill.c": ("kill\n", "new\n")}),
        },
    )
    with (checkout.layout.root / "configs" / "kernels.toml").open("a") as toml:
        toml.write('\n[line.fake.compat]\npatches = "patches/fake/compat"\nsince-gcc = 5\n')
    request = PatchRequest(line=checkout.line, source=checkout.fetched(), compat=True)
    assert [one.path.name for one in request.series] == ["0001-old.patch", "0001-hook.patch"]
    tree = patch.apply(request, layout=checkout.layout, stage=stage())
    assert (tree.path / "mm/oom_kill.c").read_text() == "new\n"
    again = apply(checkout, checkout.fetched())
    assert (again.path / "mm/oom_kill.c").read_text() == "kill\n"
