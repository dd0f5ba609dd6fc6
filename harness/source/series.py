# SPDX-License-Identifier: GPL-2.0-only
"""The series as git has it: edits as a patch, the patches as commits, and back.

Who works on the kernel does so with git; what is kept and applied are the files that
git format-patch makes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import process, stamp
from harness.errors import HarnessError
from harness.layout import Layout
from harness.source import patch
from harness.source.patch import Patch, PatchRequest
from harness.ui import Stage

# Tags in a repository of ours: where the series begins.
BASE = "series-base"

# In a tree's own repository: the series that its commits are.
TRACKED = "user-mm-limits-series"

# The same bytes from every machine, but for what was changed.
FORMAT = ("--zero-commit", "--no-signature", "--no-renames", "--no-attach", "--no-thread")
PLAIN = (
    *("-c", "core.abbrev=7", "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false"),
    *("-c", "core.autocrlf=false", "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false"),
    *("-c", "format.signOff=false", "-c", "diff.external=", "-c", "core.excludesFile=/dev/null"),
)
# For commits that nobody is the author of.
NOBODY = ("-c", "user.name=user-mm-limits", "-c", "user.email=user-mm-limits@localhost")


@dataclass(frozen=True)
class Edit:
    """A file of the kernel that was edited by hand; None where there is none."""

    name: str
    before: bytes | None
    after: bytes | None


def export_edits(edits: Sequence[Edit], out: Path, *, subject: str) -> None:
    """Write the edits as one git-format patch against the series.

    Raises HarnessError if there is none, or git does not know who the author is.
    """
    if not edits:
        raise HarnessError(
            "no file of the kernel was edited by hand", hint="edit build/LINE/src, then again"
        )
    with tempfile.TemporaryDirectory(prefix="edits-") as name:
        folder = Path(name)
        _git(folder, "init", "-q")
        _write(folder, {edit.name: edit.before for edit in edits})
        _git(folder, *NOBODY, "commit", "-q", "--allow-empty", "-m", "the series", add=True)
        _write(folder, {edit.name: edit.after for edit in edits})
        _require_author(folder)
        _git(folder, "commit", "-q", "-s", "-m", subject, add=True)
        text = _git(folder, "format-patch", *FORMAT, "--stdout", "-1")
    stamp.write_atomic(out, ("\n".join(text) + "\n").encode("utf-8", "surrogateescape"))


def to_git(request: PatchRequest, folder: Path, *, layout: Layout, stage: Stage) -> int:
    """Make a repository: the source, then a commit for each patch; returns their number."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HarnessError(f"{folder} is there already", hint="name a folder that is not")
    series = request.series
    compat = len(series) - len(patch.read_series(request.line.patches))
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        patch.unpack(request.source, folder, stage=stage)
        stage.update("the source as a commit")
        _git(folder, "init", "-q", "-b", "series")
        subject = f"{request.line.name} {request.source.version}"
        _git(folder, *NOBODY, "commit", "-q", "-m", subject, add=True)
        for number, one in enumerate(series):
            if number == compat:
                _git(folder, "tag", BASE)
            stage.update(one.path.name)
            _git(folder, *NOBODY, "am", "-q", "--keep-cr", "--committer-date-is-author-date",
                 str(one.path.resolve()))  # fmt: skip
    except BaseException:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return len(series) - compat


def track(request: PatchRequest, tree: Path, *, layout: Layout, stage: Stage) -> None:
    """Make the patched tree itself a repository of that kind: `git diff` shows the edits."""
    with tempfile.TemporaryDirectory(prefix="track-", dir=tree.parent) as name:
        made = Path(name) / "repository"
        to_git(request, made, layout=layout, stage=stage)
        shutil.rmtree(tree / ".git", ignore_errors=True)
        (made / ".git").rename(tree / ".git")
    # What is built there is nobody's work.
    (tree / ".git" / "info" / "exclude").write_text("/out-*/\n*.o\n*.cmd\n", encoding="utf-8")
    stage.update("looking at all files")
    _git(tree, "reset", "-q")
    (tree / ".git" / TRACKED).write_text(patch.series_identity(request.series), encoding="utf-8")


def is_outdated(request: PatchRequest, tree: Path) -> bool:
    """Is the tree a repository of another series?"""
    mark = tree / ".git" / TRACKED
    return mark.exists() and mark.read_text(encoding="utf-8") != patch.series_identity(
        request.series
    )


def from_git(folder: Path, out: Path) -> tuple[Patch, ...]:
    """Write the commits of such a repository to ``out`` as a series.

    Raises HarnessError if it is none, or holds what is not in a commit.
    """
    if not (folder / ".git").exists():
        raise HarnessError(
            f"{folder} is no git repository", hint="`./run patch --git DIR` makes one"
        )
    if not _git(folder, "tag", "--list", BASE):
        raise HarnessError(
            f"{folder} has no tag {BASE}, where the series begins",
            hint=f"git tag {BASE} COMMIT; `./run patch --git DIR` makes a repository with it",
        )
    if changed := _git(folder, "status", "--porcelain", "--untracked-files=no"):
        raise HarnessError(
            f"{folder} has changes that are in no commit", details=changed[:10], hint="git commit"
        )
    if merges := _git(folder, "rev-list", "--merges", f"{BASE}..HEAD"):
        raise HarnessError(f"{folder}: commit {merges[0][:12]} is a merge", hint="git rebase")
    out.mkdir(parents=True, exist_ok=True)
    _git(folder, "format-patch", "-q", *FORMAT, "-o", str(out.resolve()), f"{BASE}..HEAD")
    names = sorted(path.name for path in out.glob("*.patch"))
    if not names:
        raise HarnessError(f"{folder} has no commit after {BASE}")
    (out / "series").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return patch.read_series(out)


def replace_series(folder: Path, new: Path) -> None:
    """Put a series in the place of another, whose comment stays."""
    listing = folder / "series"
    old = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    comment = [line for line in old if line.startswith("#")]
    series = patch.read_series(new)
    kept = {one.path.name for one in series}
    for one in series:
        stamp.write_atomic(folder / one.path.name, one.path.read_bytes())
    lines = [*comment, *(one.path.name for one in series)]
    stamp.write_atomic(listing, "".join(f"{line}\n" for line in lines).encode())
    for path in folder.glob("*.patch"):
        if path.name not in kept:
            path.unlink()


def _write(folder: Path, files: Mapping[str, bytes | None]) -> None:
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _require_author(folder: Path) -> None:
    for key in ("user.name", "user.email"):
        known = process.run(
            ["git", "-C", folder, "config", key], what=f"asking git for {key}", check=False
        )
        if known.returncode != 0 or not known.output:
            raise HarnessError(
                f"git does not know your {key}, which a patch begins with",
                hint=f"git config --global {key} '...'",
            )


def _git(folder: Path, *words: str, add: bool = False) -> tuple[str, ...]:
    """Run git in a repository as nobody has configured it; returns what it prints."""
    process.require("git")
    if add:
        _git(folder, "add", "--all", "--force", ".")
    what = next((word for word in words if word.isalpha()), "")
    return process.run(["git", "-C", folder, *PLAIN, *words], what=f"git {what}").output
