# SPDX-License-Identifier: GPL-2.0-only
"""What the guest runs of other people's: Debian's busybox, and Android's adbd as Debian builds it.

Both come from Debian's packages for the guest's architecture, through apt.  adbd is not
static: the libraries that it loads come with it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import cache, process, stamp
from harness.errors import HarnessError
from harness.kernels import Board
from harness.layout import Layout
from harness.source.apt import AptIndex, DebianPackage, NoSuchPackage, extract_from_deb
from harness.ui import Stage

ADBD = "bin/adbd"

# Where the loader looks, after the folders of its architecture.
LIBRARIES = "lib"


@dataclass(frozen=True, kw_only=True)
class Adbd:
    """The program and what it loads: ``files`` by where they belong in the guest."""

    files: Mapping[str, Path]
    version: str


def busybox(
    board: Board, *, given: str | None, layout: Layout, stage: Stage, update: bool = False
) -> Path:
    """The static busybox for the guest: the user's own, or Debian's for its architecture."""
    if given is not None:
        if not Path(given).is_file():
            raise HarnessError(f"--busybox: there is no file {given}")
        return Path(given)
    folder = layout.cache / f"busybox-{board.userland}"
    program, record = folder / "busybox", stamp.Stamp(folder / "busybox.json")

    def known() -> bool:
        there = not update and program.exists()
        return there and record.read().get("program") == program.stat().st_size

    if known():
        return program
    with cache.changing(layout):
        if not known():
            _debian_busybox(board, program, record, layout=layout, stage=stage)
    return program


def adbd(
    board: Board, *, given: str | None, layout: Layout, stage: Stage, update: bool = False
) -> Adbd:
    """Android's adbd for the guest: from the user's folder, or Debian's."""
    if given is not None:
        if not Path(given).is_dir():
            raise HarnessError(
                f"--adbd: there is no folder {given}",
                hint="unpack Debian's package adbd, and those that it depends on, into one folder",
            )
        return Adbd(files=dict(_needed(Path(given))), version="as given")
    folder = layout.cache / f"adbd-{board.userland}"
    record = stamp.Stamp(folder / "adbd.json")
    if not update and (known := _known(folder, record)):
        return known
    with cache.changing(layout):
        known = None if update else _known(folder, record)
        return known or _debian_adbd(board, folder, record, layout=layout, stage=stage)


def _debian_busybox(
    board: Board, program: Path, record: stamp.Stamp, *, layout: Layout, stage: Stage
) -> None:
    folder = program.parent
    _require_apt("a static busybox", board, option="--busybox PATH")
    index = AptIndex.of(layout.cache, board.userland)
    package = index.find("busybox-static", stage=stage)
    deb = index.download(package, folder / package.file_name, stage=stage)
    record.clear()
    extract_from_deb(deb, "bin/busybox", program).chmod(0o755)
    deb.unlink()
    record.write(
        program=program.stat().st_size,
        url=package.url,
        sha256=package.sha256,
        version=package.version,
    )


def _require_apt(what: str, board: Board, *, option: str) -> None:
    if not AptIndex.available():
        raise HarnessError(
            f"the guest needs {what}, and this system has no apt to get one",
            hint=f"give one built for {board.userland} with {option}",
        )


def _known(folder: Path, record: stamp.Stamp) -> Adbd | None:
    """What an earlier run brought, if it is whole."""
    noted = record.read()
    try:
        files = {name: folder / "root" / name for name in noted["files"]}
        if any(files[name].stat().st_size != size for name, size in noted["files"].items()):
            return None
        return Adbd(files=files, version=noted["version"])
    except (KeyError, OSError):
        return None


def _debian_adbd(
    board: Board, folder: Path, record: stamp.Stamp, *, layout: Layout, stage: Stage
) -> Adbd:
    """Download adbd and what it depends on; only what it loads is kept."""
    _require_apt("Android's adbd", board, option="--adbd FOLDER")
    index, packages = _adbd_packages(board, layout=layout, stage=stage)
    folder.mkdir(parents=True, exist_ok=True)
    record.clear()
    with tempfile.TemporaryDirectory(prefix=".adbd-", dir=folder) as name:
        debs, unpacked, root = (Path(name) / one for one in ("debs", "unpacked", "root"))
        debs.mkdir()
        for deb in index.download_all(packages, debs, stage=stage):
            process.run(["dpkg-deb", "-x", deb, unpacked], what=f"unpacking {deb.name}")
        files = dict(_needed(unpacked))
        for place, file in files.items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, root / place)
        shutil.rmtree(folder / "root", ignore_errors=True)
        root.rename(folder / "root")
    version = next(one.version for one in packages if one.name == "adbd")
    record.write(
        version=version,
        files={place: (folder / "root" / place).stat().st_size for place in files},
        packages={one.name: one.version for one in packages},
    )
    return Adbd(files={place: folder / "root" / place for place in files}, version=version)


def _adbd_packages(
    board: Board, *, layout: Layout, stage: Stage
) -> tuple[AptIndex, tuple[DebianPackage, ...]]:
    """From the release itself, or from its backports: bookworm's own has no adbd."""
    for backports in (False, True):
        index = AptIndex.of(layout.cache, board.userland, backports=backports)
        try:
            return index, index.with_dependencies("adbd", stage=stage)
        except NoSuchPackage as error:
            missing = error
    raise HarnessError(
        f"neither this release nor its backports have Android's adbd for {board.userland}",
        details=missing.details,
        hint="unpack the package adbd of another release, and what it depends on, and give the"
        " folder with --adbd",
    )


def _needed(root: Path) -> Iterator[tuple[str, Path]]:
    """adbd, its loader and all libraries it loads, found anywhere below ``root``."""
    process.require("readelf", hint="sudo apt-get install binutils")
    there: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            there.setdefault(path.name, path)
    if "adbd" not in there:
        raise HarnessError(f"{root} holds no adbd")
    loader, wanted = _dynamic(there["adbd"])
    yield ADBD, there["adbd"]
    if loader is None:
        return
    places = {Path(loader).name: loader.lstrip("/")}
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in there:
            raise HarnessError(f"{root} holds no {name}, which adbd loads")
        yield places.get(name, f"{LIBRARIES}/{name}"), there[name]
        wanted += _dynamic(there[name])[1]
    if Path(loader).name not in seen:
        yield places[Path(loader).name], there[Path(loader).name]


def _dynamic(binary: Path) -> tuple[str | None, list[str]]:
    """The loader that a program names, and the libraries that it or a library needs."""
    lines = process.run(
        ["readelf", "-W", "-l", "-d", binary], what=f"reading {binary}", env={"LC_ALL": "C"}
    ).output
    text = "\n".join(lines)
    loader = re.search(r"program interpreter: (\S+)\]", text)
    return loader and loader[1], re.findall(r"\(NEEDED\).*\[(.+)\]", text)
