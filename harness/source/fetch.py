# SPDX-License-Identifier: GPL-2.0-only
"""Stage 1: where the kernel source of a line comes from.

The default is Debian's source package through apt, elsewhere a pinned tarball;
``--source`` gives any tree, tarball or git repository instead.  What has been
fetched once is used from the cache without a look at the network, until
``fetch --update`` asks for what is current.

A tree of the user's is only ever read: the next stage copies it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness import cache, process, stamp, ui
from harness.errors import HarnessError
from harness.kernels import KernelLine
from harness.layout import Layout
from harness.source.apt import AptIndex, NoSuchPackage, extract_from_deb
from harness.source.download import Remote, download
from harness.ui import Stage

TARBALL_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True, kw_only=True)
class FetchRequest:
    """Which line, from where (None: as kernels.toml says); ``update`` asks the network."""

    line: KernelLine
    source: str | None = None
    update: bool = False


@dataclass(frozen=True, kw_only=True)
class Source:
    """A kernel source that is there, unpatched.

    ``key`` names the work folder below build/, one for each source of a line.
    """

    kind: Literal["tarball", "tree"]
    path: Path
    identity: str
    version: str
    key: str


def fetch(request: FetchRequest, *, layout: Layout, stage: Stage) -> Source:
    """Make the source available; raises HarnessError saying how to go on if it is not."""
    source = request.source
    if source is None:
        return _default_source(request, layout=layout, stage=stage)
    key = f"{request.line.name}@{_slug(source)}"
    if _is_url(source):
        if _url_path(source).endswith(TARBALL_SUFFIXES):
            return _tarball_url(source, key=key, update=request.update, layout=layout, stage=stage)
        return _git_url(source, key=key, update=request.update, layout=layout, stage=stage)
    path = Path(source)
    if path.is_dir():
        return _tree(path, key=key)
    if path.is_file():
        return _tarball(path, key=key, layout=layout)
    raise HarnessError(
        f"--source: there is no {path}",
        hint="--source takes a kernel tree, a tarball, or the URL of a tarball or git repository",
    )


def tree_files(root: Path) -> list[str]:
    """Names of the source files of a kernel tree, without .git and build products.

    In a git repository: what git tracks or would track.  Elsewhere: everything
    but objects and generated files, which would make an out-of-tree build refuse.
    """
    if (root / ".git").exists():
        listing = process.run(
            ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            what=f"listing the files of {root}",
        )
        names = "\n".join(listing.output).split("\0")
        return sorted(name for name in names if name and os.path.lexists(root / name))
    return sorted(_walk(root))


def _default_source(request: FetchRequest, *, layout: Layout, stage: Stage) -> Source:
    """From the cache; else Debian's package, installed or from the index; else the tarball."""
    line = request.line
    if line.source.git is not None:
        return _line_repository(line, update=request.update, layout=layout, stage=stage)
    folder = layout.cache / line.name
    record = stamp.Stamp(folder / "source.json")

    def known() -> Source | None:
        return None if request.update else _cached(record, folder, key=line.name)

    if source := known():
        return source
    with cache.changing(layout):
        return known() or _fresh_source(request, record, layout=layout, stage=stage)


def _fresh_source(
    request: FetchRequest, record: stamp.Stamp, *, layout: Layout, stage: Stage
) -> Source:
    line, folder = request.line, record.path.parent
    if line.source.debian_package is not None and AptIndex.available():
        try:
            return _debian_source(request, folder=folder, layout=layout, stage=stage)
        except NoSuchPackage as error:
            if line.source.url is None:
                raise
            ui.say(f"{error.what}{_instead(layout)}: taking {line.source.url}")
    if line.source.url is None:
        raise HarnessError(
            f"kernels.toml names no tarball for {line.name}", hint="give one with --source"
        )
    stage.update(f"downloading {line.source.url}")
    remote = Remote(url=line.source.url, sha256=line.source.sha256)
    name = _url_path(remote.url).rsplit("/", 1)[-1]
    tarball = download(remote, folder / name, stage=stage)
    return _record(record, tarball, version=_version_in(name), url=remote.url, key=line.name)


def _line_repository(line: KernelLine, *, update: bool, layout: Layout, stage: Stage) -> Source:
    """The line's own git repository; a commit that is not the expected one is an error."""
    spec = line.source
    assert spec.git is not None
    try:
        source = _git_url(spec.git, key=line.name, update=update, layout=layout, stage=stage)
    except HarnessError as error:
        raise HarnessError(
            f"cannot get the source of {line.name} from {spec.git}",
            details=error.details,
            hint="this needs access to that address; without it, give a tree, a tarball or"
            " another repository: --source PATH|URL",
        ) from error
    if spec.commit is not None:
        head = process.run(["git", "-C", source.path, "rev-parse", "HEAD"], what="git rev-parse")
        if head.output[0].strip() != spec.commit:
            raise HarnessError(
                f"{spec.git} is at {head.output[0].strip()[:12]}, not at {spec.commit[:12]}",
                hint=f"change `commit` of {line.name} in configs/kernels.toml if that is right",
            )
    return source


def _debian_source(request: FetchRequest, *, folder: Path, layout: Layout, stage: Stage) -> Source:
    """Debian's source package: only the tarball in it is kept."""
    spec = request.line.source
    assert spec.debian_package is not None and spec.tarball_in_package is not None
    record = stamp.Stamp(folder / "source.json")
    index = AptIndex.of(layout.cache, AptIndex.native_architecture())
    package = index.find(spec.debian_package, stage=stage)
    if record.read().get("url") == package.url:
        cached = _cached(record, folder, key=request.line.name)
        if cached is not None:
            return cached
    stage.update(f"downloading {package.name} {package.version}")
    deb = index.download(package, folder / package.file_name, stage=stage)
    stage.update(f"unpacking {package.name} {package.version}")
    record.clear()
    tarball = folder / Path(spec.tarball_in_package).name
    extract_from_deb(deb, spec.tarball_in_package, tarball)
    deb.unlink()
    return _record(record, tarball, version=package.version, url=package.url, key=request.line.name)


def _instead(layout: Layout) -> str:
    """The kernel sources that this system's release does have."""
    names = AptIndex.of(layout.cache, AptIndex.native_architecture()).names("linux-source-")
    kernels = [name for name in names if re.fullmatch(r"linux-source-\d+\.\d+", name)]
    return f" (this release has {', '.join(kernels)})" if kernels else ""


def _record(record: stamp.Stamp, tarball: Path, *, version: str, url: str, key: str) -> Source:
    sha256 = stamp.hash_file(tarball)
    record.write(file=tarball.name, size=_size(tarball), sha256=sha256, version=version, url=url)
    return Source(kind="tarball", path=tarball, identity=sha256, version=version, key=key)


def _cached(record: stamp.Stamp, folder: Path, *, key: str) -> Source | None:
    """What an earlier run brought, if it is whole; its checksum was verified then."""
    known = record.read()
    try:
        path = folder / known["file"]
        if path.stat().st_size != known["size"]:
            return None
        return Source(
            kind="tarball", path=path, identity=known["sha256"], version=known["version"], key=key
        )
    except (KeyError, OSError):
        return None


def _tarball(path: Path, *, key: str, layout: Layout) -> Source:
    if not path.name.endswith(TARBALL_SUFFIXES):
        raise HarnessError(
            f"--source: {path} is neither a folder nor a tarball",
            hint=f"tarballs end in one of: {' '.join(TARBALL_SUFFIXES)}",
        )
    sha256 = stamp.hash_large_file(path, memo=stamp.Stamp(layout.cache / "hashes.json"))
    return Source(
        kind="tarball", path=path, identity=sha256, version=_version_in(path.name), key=key
    )


def _tarball_url(source: str, *, key: str, update: bool, layout: Layout, stage: Stage) -> Source:
    """A tarball from anywhere; ``#sha256=HEX`` at the end of the URL pins it."""
    url, _, fragment = source.partition("#")
    pinned = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
    folder = layout.cache / key
    record = stamp.Stamp(folder / "source.json")

    def known() -> Source | None:
        cached = None if update else _cached(record, folder, key=key)
        return cached if cached and pinned in (None, cached.identity) else None

    if cached := known():
        return cached
    with cache.changing(layout):
        if cached := known():
            return cached
        name = _url_path(url).rsplit("/", 1)[-1]
        stage.update(f"downloading {url}")
        tarball = download(Remote(url=url, sha256=pinned), folder / name, stage=stage)
        return _record(record, tarball, version=_version_in(name), url=url, key=key)


def _git_url(source: str, *, key: str, update: bool, layout: Layout, stage: Stage) -> Source:
    """A shallow clone in the cache; ``#branch`` at the end of the URL names branch or tag."""
    process.require("git", hint="install git, or give a tree or tarball with --source")
    url, _, branch = source.partition("#")
    clone = layout.cache / key / "clone"
    if update or not clone.exists():
        with cache.changing(layout):
            if update or not clone.exists():
                _clone(url, branch, clone, stage=stage)
    return _tree(clone, key=key)


def _clone(url: str, branch: str, clone: Path, *, stage: Stage) -> None:
    stage.update(f"cloning {url}")
    fresh = clone.with_name("clone.part")
    process.run(["rm", "-rf", fresh], what="removing an interrupted clone")
    selector = ["--branch", branch] if branch else []
    process.run(
        ["git", "clone", "--progress", "--depth=1", *selector, "--", url, fresh],
        what=f"cloning {url}",
        env={"GIT_TERMINAL_PROMPT": "0"},
        on_line=stage.update,
    )
    process.run(["rm", "-rf", clone], what="removing the old clone")
    fresh.rename(clone)


def _tree(path: Path, *, key: str) -> Source:
    """A kernel tree, compared by names, sizes and times: it is the user's and large."""
    root = path.resolve()
    version = kernel_version(root)
    return Source(
        kind="tree", path=root, identity=stamp.digest(*tree_listing(root)), version=version, key=key
    )


def tree_listing(root: Path) -> Iterator[str]:
    """``name size mtime`` of each source file."""
    for name in tree_files(root):
        status = os.lstat(root / name)
        yield f"{name}\0{status.st_size} {status.st_mtime_ns}"


def kernel_version(root: Path) -> str:
    """``6.1.192`` from the tree's Makefile; HarnessError if it is no kernel tree."""
    try:
        head = (root / "Makefile").read_text(encoding="utf-8", errors="replace")[:2000]
    except OSError:
        head = ""
    pattern = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)", re.MULTILINE)
    found: dict[str, str] = dict(pattern.findall(head))
    if "VERSION" not in found or "PATCHLEVEL" not in found:
        raise HarnessError(
            f"{root} is not a kernel source tree: its Makefile names no VERSION",
            hint="--source wants the folder that holds Kbuild, Makefile, mm/ and so on",
        )
    numbers = [found["VERSION"], found["PATCHLEVEL"], found.get("SUBLEVEL") or "0"]
    return ".".join(numbers) + found.get("EXTRAVERSION", "")


def _walk(root: Path) -> Iterator[str]:
    generated = {"include/config", "include/generated"}
    for folder, folders, files in os.walk(root):
        below = os.path.relpath(folder, root)
        prefix = "" if below == "." else f"{below}/"
        folders[:] = [
            name
            for name in folders
            if name != ".git"
            and prefix + name not in generated
            and not (prefix + name).endswith("/include/generated")
            and not (prefix + name).startswith("out-")
        ]
        for name in files:
            if name.endswith((".o", ".ko", ".cmd", ".a")) or name.startswith(".config"):
                continue
            yield prefix + name


def _slug(source: str) -> str:
    """A short folder name that is different for each source."""
    absolute = source if _is_url(source) else str(Path(source).resolve())
    base = re.sub(r"[^\w.-]+", "-", absolute.rstrip("/").rsplit("/", 1)[-1])[:24].strip("-.")
    return f"{base}-{stamp.digest(absolute)[:8]}"


def _is_url(source: str) -> bool:
    return re.match(r"^(\w[\w+.-]*://|[\w.-]+@[\w.-]+:)", source) is not None


def _url_path(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0]


def _version_in(name: str) -> str:
    match = re.search(r"\d+\.\d+(\.\d+)?(-rc\d+)?", name)
    return match.group() if match else "unknown"


def _size(path: Path) -> int:
    return path.stat().st_size
