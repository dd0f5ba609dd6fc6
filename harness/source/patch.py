# SPDX-License-Identifier: GPL-2.0-only
"""Stage 2: the line's patch series on a copy of the source, without losing anybody's work.

Below the work folder build/<line>/ are ``src``, the patched tree that is built,
and ``orig``, the pristine copies of the few files the series touches.  The
series is applied to those copies in a scratch folder, and only results that
differ are written to ``src``: times of all other files stay, so make rebuilds
little.

People edit ``src`` too.  Their edits are part of the tree's identity, so they
are built; and a file they changed is never overwritten: that is an error until
they say ``--force``, which keeps a copy.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import process, stamp, ui
from harness.errors import HarnessError
from harness.kernels import KernelLine
from harness.layout import Layout
from harness.source.fetch import Source, kernel_version, tree_listing
from harness.ui import Stage

DETAIL_LINES = 30
# What editors and taggers leave behind is not source.
NOT_SOURCE = re.compile(r"(~|\.orig|\.rej|\.swp|\.pyc|\.o)$|^(tags|TAGS|GTAGS|cscope\..*|\..*)$")

GNU_PATCH = ("patch", "-p1", "--fuzz=0", "--batch", "--forward", "--no-backup-if-mismatch")
TAR_SOME = (
    *("tar", "--strip-components=1", "--no-same-owner"),
    *("--wildcards", "--no-wildcards-match-slash"),
)
PRUNE_OBJECTS = ("-path", "./out-*", "-prune", "-o", "-name", ".git", "-prune")


# A file before and after; None where there is none.
Contents = tuple[bytes | None, bytes | None]


@dataclass(frozen=True, kw_only=True)
class PatchRequest:
    """The source and the line whose series goes on it; ``force`` drops edits, saving them.

    ``compat`` is whether the compiler needs the line's compatibility patches, which
    then come first.  With ``until`` the series is applied up to the patch that has
    that in its name (empty: not at all), to a tree of its own.
    """

    line: KernelLine
    source: Source
    force: bool = False
    compat: bool = False
    until: str | None = None

    @property
    def series(self) -> tuple[Patch, ...]:
        """The patches to apply, in order."""
        compat = read_series(self.line.compat.patches) if self.line.compat and self.compat else ()
        return (*compat, *_until(read_series(self.line.patches), self.until))

    def work(self, layout: Layout) -> Path:
        """The work folder of the tree."""
        suffix = "" if self.until is None else f"-{self.until or 'unpatched'}"
        return layout.build / f"{self.source.key}{suffix}"


@dataclass(frozen=True, kw_only=True)
class PatchedTree:
    """``path`` is the tree to build.

    ``release`` is the version its Makefile gives; ``patched`` are the files the
    series touches, ``offsets`` the hunks that were not where the patch said, and
    ``edits`` maps the files changed by hand to their digest.
    """

    path: Path
    work: Path
    release: str
    patched: tuple[str, ...]
    offsets: tuple[str, ...]
    edits: Mapping[str, str]
    identity: str


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One file of the series and the source files it touches."""

    path: Path
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What applying a series gave: content per file (None: deleted), offsets met."""

    files: Mapping[str, bytes | None]
    offsets: tuple[str, ...]


def apply(request: PatchRequest, *, layout: Layout, stage: Stage) -> PatchedTree:
    """Unpack the source if needed and bring ``src`` to pristine + series + the user's edits."""
    work, series = request.work(layout), request.series
    _unpack(request, work, stage=stage)
    if request.force:
        _drop_edits(request, work)
    record = stamp.Stamp(work / "patched.json")
    wanted = stamp.digest(request.source.identity, series_identity(series))
    if request.force or not record.matches(wanted):
        stage.update("applying the series")
        result = _apply_series(series, request.source, work, strict=False)
        _write_results(result, request, work, record)
        record.write(identity=wanted, files=_hashes(result.files), offsets=list(result.offsets))
    return _patched_tree(request, work, record)


def check(request: PatchRequest, *, layout: Layout, stage: Stage) -> tuple[Patch, ...]:
    """Apply the series with neither fuzz nor offset, writing nowhere; HarnessError if it fails."""
    work, series = request.work(layout), request.series
    _unpack(request, work, stage=stage)
    _apply_series(series, request.source, work, strict=True)
    return series


def edited(request: PatchRequest, *, layout: Layout, stage: Stage) -> dict[str, Contents]:
    """The files that were edited by hand: what the series gives, and what is there."""
    tree = apply(request, layout=layout, stage=stage)
    stage.update("comparing with the series")
    result = _apply_series(request.series, request.source, tree.work, strict=False)
    _keep_pristine(tree.edits, request.source, tree.work)
    return {
        name: (
            result.files.get(name, _content(tree.work / "orig" / name)),
            _content(tree.path / name),
        )
        for name in tree.edits
    }


def unpack(source: Source, folder: Path, *, stage: Stage) -> None:
    """Put the source as it came into an empty folder."""
    if source.kind == "tree":
        _copy_all(source.path, folder, _tree_states(source.path), stage=stage)
    else:
        _extract(source, folder, stage=stage)


def read_series(folder: Path) -> tuple[Patch, ...]:
    """The patches ``folder/series`` names, in order, with the files each touches."""
    try:
        lines = (folder / "series").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise HarnessError(
            f"cannot read {folder / 'series'}: {error.strerror}",
            hint="a kernel line has a folder with its patches and a file `series` naming them",
        ) from error
    names = [line.split("#")[0].strip() for line in lines]
    return tuple(_read_patch(folder / name) for name in names if name)


def _until(series: tuple[Patch, ...], part: str | None) -> tuple[Patch, ...]:
    """The series up to the one patch that has ``part`` in its name."""
    if not part:
        return series if part is None else ()
    places = [place for place, patch in enumerate(series) if part in patch.path.name]
    if len(places) != 1:
        raise HarnessError(
            f"{len(places)} patches have {part!r} in their name, not one",
            details=[patch.path.name for patch in series],
        )
    return series[: places[0] + 1]


def _read_patch(path: Path) -> Patch:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise HarnessError(
            f"cannot read {path}: {error.strerror}", hint=f"it is named in {path.parent / 'series'}"
        ) from error
    pattern = r"^--- (?:a/)?(\S+).*\n\+\+\+ (?:b/)?(\S+).*\n@@"
    pairs = re.findall(pattern, text, re.MULTILINE)
    names = {name for pair in pairs for name in pair if name != "/dev/null"}
    if not names:
        raise HarnessError(f"{path} changes no file", hint="is it a git-format-patch file?")
    escaping = [name for name in names if name.startswith("/") or ".." in Path(name).parts]
    if escaping:
        raise HarnessError(f"{path} would change {escaping[0]}, outside the kernel tree")
    return Patch(path=path, files=tuple(sorted(names)))


def series_identity(series: Sequence[Patch]) -> str:
    """Digest of what the patches are."""
    return stamp.digest(*(patch.path.read_bytes() for patch in series))


def _touched(series: Sequence[Patch]) -> list[str]:
    return sorted({name for patch in series for name in patch.files})


# --- the unpacked tree -----------------------------------------------------------------


def _unpack(request: PatchRequest, work: Path, *, stage: Stage) -> None:
    """Have the source of this very identity in ``src``, patched or not."""
    source, tree = request.source, work / "src"
    record = stamp.Stamp(work / "unpacked.json")
    if record.matches(source.identity, [tree / "Makefile"]):
        return
    known: dict[str, str] = record.read().get("files", {})
    if known and tree.exists():
        _follow_tree(request, work, record, known, stage=stage)
        return
    _refuse_or_save(request, work, _edited_files(work), why="the kernel source has changed")
    fresh = work / "src.part"
    for path in (record.path, work / "patched.json"):
        path.unlink(missing_ok=True)
    stage.update(f"removing the old {tree}")
    for folder in (fresh, tree, work / "orig"):
        shutil.rmtree(folder, ignore_errors=True)
    fresh.mkdir(parents=True)
    if source.kind == "tree":
        listing = _tree_states(source.path)
        _copy_all(source.path, fresh, listing, stage=stage)
    else:
        listing = {}
        _extract(source, fresh, stage=stage)
    kernel_version(fresh)
    fresh.rename(tree)
    record.write(identity=source.identity, version=source.version, files=listing)


def _extract(source: Source, fresh: Path, *, stage: Stage) -> None:
    stage.update(f"unpacking {source.path.name}")
    # --no-same-owner: as root, tar would give the files to the packager's uid.
    process.run(
        ["tar", "-xf", source.path, "-C", fresh, "--strip-components=1", "--no-same-owner"],
        what=f"unpacking {source.path}",
    )


def _tree_states(root: Path) -> dict[str, str]:
    """What tells that a file of the user's tree has changed: its size and time."""
    return dict(line.split("\0") for line in tree_listing(root))


def _copy_all(root: Path, fresh: Path, names: Collection[str], *, stage: Stage) -> None:
    for count, name in enumerate(names):
        stage.update(f"copying {root}: {count} of {len(names)} files")
        _copy_file(root / name, fresh / name)


def _follow_tree(
    request: PatchRequest,
    work: Path,
    record: stamp.Stamp,
    known: Mapping[str, str],
    *,
    stage: Stage,
) -> None:
    """Bring over what the user changed in their tree since the last run, and only that.

    Files the series touches go to ``orig``; applying the series then decides
    whether they change in ``src``.
    """
    root = request.source.path
    stage.update(f"comparing with {root}")
    states = _tree_states(root)
    changed = {name for name in states.keys() | known.keys() if states.get(name) != known.get(name)}
    conflicts = [
        name
        for name in _edited_files(work, names=changed)
        if _content(work / "src" / name) != _content(root / name)
    ]
    _refuse_or_save(request, work, conflicts, why=f"{root} has changed")
    pristine = stamp.Stamp(work / "orig" / ".pristine.json")
    touched = pristine.read()
    for name in changed:
        dest = work / ("orig" if name in touched else "src") / name
        dest.unlink(missing_ok=True)
        if name in states:
            _copy_file(root / name, dest)
            # Its own time may be older than the object made from the previous content.
            os.utime(dest, follow_symlinks=False)
    if touched:
        pristine.write(**{name: (work / "orig" / name).exists() for name in touched})
    record.write(identity=request.source.identity, version=request.source.version, files=states)


def _copy_file(source: Path, dest: Path) -> None:
    """Copy with the times, which tell edits from copies; never write through a link."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    dest.unlink(missing_ok=True)
    shutil.copy2(source, dest, follow_symlinks=False)


# --- applying --------------------------------------------------------------------------


def _apply_series(series: Sequence[Patch], source: Source, work: Path, *, strict: bool) -> Applied:
    """Apply the series to pristine copies in a scratch folder."""
    touched = _touched(series)
    _keep_pristine(touched, source, work)
    offsets: list[str] = []
    with tempfile.TemporaryDirectory(prefix="patch-", dir=work) as name:
        scratch = Path(name)
        for file in touched:
            if (work / "orig" / file).exists():
                _copy_file(work / "orig" / file, scratch / file)
        for patch in series:
            offsets += _apply_patch(patch, scratch, strict=strict)
        files = {file: _content(scratch / file) for file in touched}
    return Applied(files=files, offsets=tuple(offsets))


def _apply_patch(patch: Patch, scratch: Path, *, strict: bool) -> list[str]:
    """Apply one patch; returns a line for each hunk that was found at an offset."""
    process.require("patch", hint="install GNU patch")
    for reject in scratch.rglob("*.rej"):
        reject.unlink()
    result = process.run(
        [*GNU_PATCH, "--input", patch.path.resolve()],
        what=f"applying {patch.path.name}",
        cwd=scratch,
        env={"LC_ALL": "C"},
        check=False,
    )
    placed = _by_file(result.output)
    if result.returncode != 0:
        raise _rejected(patch, placed, result.output, scratch)
    offsets = [f"{patch.path.name}: {file}: {line}" for file, line in placed if "(offset" in line]
    if strict and offsets:
        raise HarnessError(
            f"{patch.path.name} applies only with an offset",
            details=offsets,
            hint="refresh the patch against this source (git format-patch)",
        )
    return offsets


def _by_file(output: Iterable[str]) -> list[tuple[str, str]]:
    """(file, line) for each line that GNU patch says about a hunk or a file."""
    file, lines = "?", []
    for line in output:
        match = re.match(r"(?:patching|checking) file '?([^']+?)'?(?: \(.*\))?$", line)
        if match:
            file = match.group(1)
        else:
            lines.append((file, line))
    return lines


def _rejected(
    patch: Patch, placed: Sequence[tuple[str, str]], output: Sequence[str], scratch: Path
) -> HarnessError:
    """The error for a patch that does not apply: patch, file, hunk, and the hunk's lines."""
    for file, line in placed:
        match = re.match(r"Hunk #(\d+) FAILED at (\d+)", line)
        if match:
            reject = scratch / f"{file}.rej"
            text = reject.read_text(errors="replace") if reject.exists() else ""
            return HarnessError(
                f"{patch.path.name} does not apply: {file}, hunk #{match.group(1)}"
                f" (line {match.group(2)})",
                details=text.splitlines()[:DETAIL_LINES],
                hint=f"compare that hunk of {patch.path} with the file in your source",
            )
    lost = any("can't find file to patch" in line for line in output)
    missing = [name for name in patch.files if lost and not (scratch / name).exists()]
    where = f": {missing[0]} is not in this source" if missing else ""
    return HarnessError(
        f"{patch.path.name} does not apply{where}",
        details=output[-DETAIL_LINES:],
        hint=f"compare {patch.path} with your source",
    )


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _keep_pristine(names: Iterable[str], source: Source, work: Path) -> None:
    """Have pristine copies of these files in ``orig``; a file the source lacks has none."""
    record = stamp.Stamp(work / "orig" / ".pristine.json")
    known: dict[str, bool] = record.read()
    missing = [name for name in names if name not in known]
    if not missing:
        return
    # A file of ``src`` is pristine unless someone - the series or a person - wrote it.
    written = {*_last_written(work), *_newer_than_unpacking(work)}
    ours = [name for name in missing if name not in written]
    for name in ours:
        if (work / "src" / name).exists():
            _copy_file(work / "src" / name, work / "orig" / name)
    _take_from_source([name for name in missing if name in written], source, work)
    record.write(**known, **{name: (work / "orig" / name).exists() for name in missing})


def _take_from_source(names: Sequence[str], source: Source, work: Path) -> None:
    if not names:
        return
    if source.kind == "tree":
        for name in names:
            if (source.path / name).exists():
                _copy_file(source.path / name, work / "orig" / name)
        return
    (work / "orig").mkdir(parents=True, exist_ok=True)
    process.run(
        [*TAR_SOME, "-xf", source.path, "-C", work / "orig", *(f"*/{name}" for name in names)],
        what=f"taking {', '.join(names)} from {source.path}",
        check=False,  # a file that the source does not have is not an error here
    )


# --- what is written, and what people wrote ---------------------------------------------


def _write_results(result: Applied, request: PatchRequest, work: Path, record: stamp.Stamp) -> None:
    """Bring ``src`` to the results, touching only files that differ, sparing edits."""
    before = record.read().get("files", {})
    dropped = [name for name in _last_written(work) if name not in result.files]
    wanted = {**result.files, **{name: _content(work / "orig" / name) for name in dropped}}
    pending = {name: new for name, new in wanted.items() if _content(work / "src" / name) != new}
    edited = _edited_files(work, names=pending)
    _refuse_or_save(request, work, edited, why="the patch series has changed")
    # Both hashes are ours until the record is complete: an interruption leaves no "edit".
    record.write(files=before, pending=_hashes(pending))
    for name, new in pending.items():
        _write(work / "src" / name, new)


def _write(path: Path, content: bytes | None) -> None:
    """Give a source file its content, with the time of now; None removes it."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    stamp.write_atomic(path, content, mode=mode)


def _drop_edits(request: PatchRequest, work: Path) -> None:
    """Put every edited file back as the source has it, keeping a copy of the edit."""
    edited = _edited_files(work)
    _refuse_or_save(request, work, edited, why="--force")
    _keep_pristine(edited, request.source, work)
    for name in edited:
        _write(work / "src" / name, _content(work / "orig" / name))


def _patched_tree(request: PatchRequest, work: Path, record: stamp.Stamp) -> PatchedTree:
    files = record.read()["files"]
    edits = {name: _hash(_content(work / "src" / name)) for name in _edited_files(work)}
    return PatchedTree(
        path=work / "src",
        work=work,
        release=kernel_version(work / "src"),
        patched=tuple(sorted(files)),
        offsets=tuple(record.read()["offsets"]),
        edits=edits,
        identity=stamp.digest(
            request.source.identity,
            *(f"{name} {sha256}" for name, sha256 in sorted(files.items())),
            *(f"{name} {sha256}" for name, sha256 in sorted(edits.items())),
        ),
    )


def _last_written(work: Path) -> dict[str, set[str]]:
    """Hashes of what we wrote, or were about to write, to each patched file."""
    record = stamp.Stamp(work / "patched.json").read()
    hashes: dict[str, set[str]] = {}
    for key in ("files", "pending"):
        for name, sha256 in record.get(key, {}).items():
            hashes.setdefault(name, set()).add(sha256)
    return hashes


def _edited_files(work: Path, *, names: Collection[str] | None = None) -> list[str]:
    """Files of ``src`` that a person changed or added (of ``names``, if given).

    A file counts when it is newer than the unpacking and is not, byte by byte,
    what we wrote there or the pristine file.
    """
    written = _last_written(work)
    candidates = {*_newer_than_unpacking(work), *written}
    if names is not None:
        candidates &= set(names)
    edited = []
    for name in sorted(candidates):
        actual = _hash(_content(work / "src" / name))
        pristine = {_hash(_content(work / "orig" / name))} if _has_pristine(work, name) else set()
        if actual not in written.get(name, set()) | pristine:
            edited.append(name)
    return edited


def _has_pristine(work: Path, name: str) -> bool:
    return name in stamp.Stamp(work / "orig" / ".pristine.json").read()


def _newer_than_unpacking(work: Path) -> list[str]:
    """Source files below ``src`` written since it was unpacked, object folders left out."""
    tree, mark = work / "src", work / "unpacked.json"
    if not mark.exists() or not tree.exists():
        return []
    listing = process.run(
        ["find", ".", *PRUNE_OBJECTS, "-o", "-type", "f", "-newer", mark.resolve(), "-print"],
        what=f"looking for edited files in {tree}",
        cwd=tree,
    )
    names = (line.removeprefix("./") for line in listing.output)
    return [name for name in names if not NOT_SOURCE.search(name.rsplit("/", 1)[-1])]


def _refuse_or_save(request: PatchRequest, work: Path, edited: Sequence[str], *, why: str) -> None:
    """Stop rather than overwrite edits; with ``force`` put copies of them aside first."""
    if not edited:
        return
    if not request.force:
        raise HarnessError(
            f"{why}, and {len(edited)} file(s) in {work / 'src'} were edited by hand",
            details=list(edited[:DETAIL_LINES]),
            hint="make a patch of your edits, or `./run patch --force` drops them after saving"
            f" copies below {work / 'saved'}",
        )
    saved = work / "saved" / time.strftime("%Y%m%d-%H%M%S")
    for name in edited:
        if (work / "src" / name).exists():
            _copy_file(work / "src" / name, saved / name)
    ui.say(f"copies of {len(edited)} edited file(s) are in {saved}")


def _hashes(files: Mapping[str, bytes | None]) -> dict[str, str]:
    return {name: _hash(content) for name, content in files.items()}


def _hash(content: bytes | None) -> str:
    return "absent" if content is None else stamp.digest(content)
