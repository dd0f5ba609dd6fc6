# SPDX-License-Identifier: GPL-2.0-only
"""The forms in which people hand in, and the kernel tree that each of them makes.

* a folder with a list ``kernel.change``: lines ``FILE PLACE``, files of the submission and
  where they go in the kernel;
* a patch or a folder of patches (``series``, or in the order of their names);
* a kernel tree;
* any of these in a git repository, PATH or URL, with ``#BRANCH``.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import process, stamp
from harness.errors import HarnessError

CHANGES = "kernel.change"
FORMS = f"a folder with {CHANGES}, patches, a kernel tree, or a git repository"

# git runs no program of the repository's, and fetches nothing from elsewhere.
GIT = (
    *("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"),
    *("-c", "submodule.recurse=false", "-c", "protocol.ext.allow=never"),
)
GIT_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_ATTR_NOSYSTEM": "1",
}


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A submission that is there: ``path`` is its folder or patch, ``form`` one of four."""

    name: str
    path: Path
    form: str


def find(given: str, *, work: Path) -> Submission:
    """The submission that a path or an address names; HarnessError if it is none."""
    place, _, branch = given.partition("#")
    path = Path(place)
    remote = "://" in place or (":" in place and not path.exists())
    if remote or (path / ".git").exists():
        return _cloned(place if remote else str(path.resolve()), branch, work=work)
    if branch:
        raise HarnessError(f"{place} is no git repository, so it has no branch {branch}")
    if not path.exists():
        raise HarnessError(f"there is no submission {given}", hint=f"give {FORMS}")
    return _recognized(path.stem if path.is_file() else path.resolve().name, path.resolve())


def _cloned(place: str, branch: str, *, work: Path) -> Submission:
    name = Path(place.rstrip("/")).name.removesuffix(".git")
    folder = work / "clone"
    shutil.rmtree(folder, ignore_errors=True)
    chosen = ("--branch", branch) if branch else ()
    process.run(
        [*GIT, "clone", "-q", "--no-local", "--depth=1", "--no-recurse-submodules", *chosen, "--",
         place, folder],
        what=f"cloning {place}",
        env=GIT_ENV,
    )  # fmt: skip
    return _recognized(name, folder)


def _recognized(name: str, path: Path) -> Submission:
    if path.is_file():
        if path.suffix not in (".patch", ".diff"):
            raise HarnessError(f"{path} is no submission", hint=f"give {FORMS}")
        return Submission(name=name, path=path, form="patches")
    if (path / CHANGES).is_file():
        return Submission(name=name, path=path, form="files")
    if (path / "mm/page_alloc.c").is_file() and (path / "Kbuild").is_file():
        return Submission(name=name, path=path, form="tree")
    if _patches(path):
        return Submission(name=name, path=path, form="patches")
    raise HarnessError(f"{path} is no submission", hint=f"give {FORMS}")


def identity(one: Submission) -> str:
    """Of what was handed in: names and contents, of a whole kernel names, sizes and times."""
    digests = []
    paths = [one.path] if one.path.is_file() else sorted(one.path.rglob("*"))
    for path in paths:
        name = str(path.relative_to(one.path))
        status = path.lstat()
        if name.split("/")[0] == ".git" or stat.S_ISDIR(status.st_mode):
            continue
        if one.form == "tree":
            digests.append(f"{name}\0{status.st_size} {status.st_mtime_ns}")
        elif stat.S_ISREG(status.st_mode):
            digests.append(f"{name}\0{stamp.hash_file(path)}")
        else:
            digests.append(f"{name}\0{status.st_mode}")
    return stamp.digest(one.form, *digests)


def make_tree(one: Submission, base: Path, tree: Path) -> None:
    """Make the kernel tree of a submission: the base, which stays as it is, and its changes.

    Files that nobody changes are links to those of the base.  HarnessError if a change
    does not fit, or would be outside the tree.
    """
    shutil.rmtree(tree, ignore_errors=True)
    if one.form == "tree":
        # Links, wherever they lead, stay links: nothing outside is copied.
        shutil.copytree(one.path, tree, symlinks=True, ignore=shutil.ignore_patterns(".git", "out"))
        return
    process.run(["cp", "-al", base, tree], what="copying the kernel")
    if one.form == "files":
        for source, place in _changes(one.path):
            place = tree / place
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)  # a link to the base's
            shutil.copyfile(source, place)
        return
    for path in _patches(one.path) if one.path.is_dir() else [one.path]:
        _apply(path, tree)


# What is read of one file at most, to see how a submission speaks.
_MOST_BYTES = 1 << 20
_SOURCES = (".c", ".h", ".S", ".tbl", ".patch", ".diff")
_KERNEL_FILES = (
    *("mm/page_alloc.c", "mm/oom_kill.c", "mm/Kconfig", "arch/arm/kernel/calls.S"),
    *("arch/arm/tools/syscall.tbl", "arch/arm/include/asm/unistd.h"),
    "arch/arm/include/uapi/asm/unistd.h",
)


def changed_texts(one: Submission) -> dict[str, str]:
    """The texts of a submission by name: of patches, only what they add.

    Of a kernel tree, only the files where a limit is usually put.
    """
    if one.path.is_file():
        return {one.path.name: _added(_text(one.path))}
    if one.form == "tree":
        names = [name for name in _KERNEL_FILES if (one.path / name).is_file()]
        return {name: _text(_inside(one.path, name)) for name in names}
    texts, root = {}, one.path.resolve()
    for path in sorted(one.path.rglob("*")):
        name = str(path.relative_to(one.path))
        known = path.suffix in _SOURCES or path.name in ("Makefile", "Kbuild", "Kconfig")
        # What cannot be printed would be lines of its own where the name is told.
        if known and name.isprintable() and path.is_file() and path.resolve().is_relative_to(root):
            text = _text(path)
            texts[name] = _added(text) if path.suffix in (".patch", ".diff") else text
    return texts


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES).decode("utf-8", errors="replace")


def _added(text: str) -> str:
    return "\n".join(
        line[1:] for line in text.splitlines() if line[:1] == "+" and line[:4] != "+++ "
    )


def _apply(path: Path, tree: Path) -> None:
    done = process.run(
        ["patch", "-p1", "--batch", "--forward", "--no-backup-if-mismatch", "-d", tree, "-i", path],
        what=f"applying {path.name}",
        check=False,
    )
    if done.returncode != 0:
        raise HarnessError(f"{path.name} does not apply", details=done.output[-12:])


def _patches(folder: Path) -> list[Path]:
    """In the order of the series, or of their names."""
    series = folder / "series"
    if series.is_file():
        lines = _inside(folder, "series").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.split("#")[0].strip() for line in lines]
        return [_inside(folder, name) for name in names if name]
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".patch", ".diff"))
    return [_inside(folder, name) for name in names]


def _changes(folder: Path) -> Iterator[tuple[Path, Path]]:
    """(file of the submission, its place in the kernel)."""
    text = _inside(folder, CHANGES).read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        where = f"{folder / CHANGES}:{number}"
        if len(words) != 2:
            raise HarnessError(f"{where}: a line is FILE PLACE", hint="kernel/fork.c kernel/fork.c")
        place = Path(os.path.normpath(words[1]))
        if place.is_absolute() or ".." in place.parts:
            raise HarnessError(f"{where}: {words[1]} is outside the kernel tree")
        yield _inside(folder, words[0], where=where), place


def _inside(folder: Path, name: str, *, where: str = "") -> Path:
    """A file of the submission; HarnessError if it is elsewhere, or not there."""
    path = (folder / name).resolve()
    prefix = f"{where}: " if where else ""
    if not path.is_relative_to(folder.resolve()):
        raise HarnessError(f"{prefix}{name} is outside the submission")
    if not path.is_file():
        raise HarnessError(f"{prefix}{name} is not in the submission")
    return path
