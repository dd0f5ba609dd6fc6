# SPDX-License-Identifier: GPL-2.0-only
"""Parts of the Android SDK: downloaded on request only, or found where the user has them.

configs/android-sdk.toml says which there are.  They come under Google's licence, so
nothing is downloaded before the user has said that they accept it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import field

from harness import cache, process, stamp
from harness.datafile import NO_KEY, Table, load, name_entries
from harness.errors import HarnessError
from harness.layout import Layout
from harness.source.download import Remote, download, remote_size
from harness.ui import Stage

# Where the SDK's own tools look, the first one that is set.
SDK_VARIABLES = ("ANDROID_SDK_ROOT", "ANDROID_HOME")

COMPLETE = ".complete.json"


class SdkPackage(Table, frozen=True, kw_only=True):
    """One archive below the catalogue's ``base``, and its place below the root of an SDK."""

    name: str = field(default="", name=NO_KEY)
    description: str
    file: str
    sha1: str | None = None
    sha256: str | None = None
    folder: str

    def __post_init__(self) -> None:
        """ValueError if nothing verifies it."""
        if self.sha1 is None and self.sha256 is None:
            raise ValueError("needs sha256, or sha1 where nothing better is published")


class Catalogue(Table, frozen=True, kw_only=True):
    """All packages, where they are, and the address of the licence that they come under."""

    base: str
    licence: str
    packages: Mapping[str, SdkPackage] = field(name="package")

    def __post_init__(self) -> None:
        """Give the packages their names."""
        name_entries(self.packages)

    def package(self, name: str) -> SdkPackage:
        """The package of that name; HarnessError lists the names there are."""
        if name not in self.packages:
            raise HarnessError(
                f"unknown SDK package: {name!r}",
                hint=f"--sdk takes some of: {', '.join(self.packages)}",
            )
        return self.packages[name]

    def remote(self, package: SdkPackage) -> Remote:
        """What is to be downloaded."""
        return Remote(url=self.base + package.file, sha1=package.sha1, sha256=package.sha256)


def load_catalogue(layout: Layout) -> Catalogue:
    """Read configs/android-sdk.toml; HarnessError says what is wrong in it, and where."""
    return load(layout.root / "configs" / "android-sdk.toml", Catalogue, root=layout.root)


def our_root(layout: Layout) -> Path:
    """The SDK that downloads go to."""
    return layout.cache / "android-sdk"


def notice(packages: Sequence[SdkPackage], catalogue: Catalogue) -> tuple[str, ...]:
    """What would be downloaded, how large it is, from where, and under which licence."""
    lines = []
    for package in packages:
        url = catalogue.remote(package).url
        size = remote_size(url)
        megabytes = f"{size / 1e6:.0f} MB" if size else "unknown size"
        lines += [f"{package.name}: {package.description}", f"  {megabytes}, {url}"]
    return (*lines, f"licence: {catalogue.licence}")


def install(package: SdkPackage, catalogue: Catalogue, *, layout: Layout, stage: Stage) -> Path:
    """Download and unpack one package unless it is there; returns its folder."""
    root, remote = our_root(layout), catalogue.remote(package)
    folder = root / package.folder
    record = stamp.Stamp(folder / COMPLETE)
    if not record.matches(remote.url):
        with cache.changing(layout):
            if not record.matches(remote.url):
                _install(package, remote, root, record, stage=stage)
    return folder


def _install(
    package: SdkPackage, remote: Remote, root: Path, record: stamp.Stamp, *, stage: Stage
) -> None:
    folder = root / package.folder
    process.require("unzip", hint="sudo apt-get install unzip")
    archive = download(remote, root / Path(remote.url).name, stage=stage)
    stage.update(f"unpacking {archive.name}")
    unpacked = root / f"{package.name}.part"
    shutil.rmtree(unpacked, ignore_errors=True)
    process.run(["unzip", "-q", archive, "-d", unpacked], what=f"unpacking {archive.name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _only_folder(unpacked, archive).rename(folder)
    shutil.rmtree(unpacked)
    # Without these, the emulator does not take the folder for an SDK.
    for name in ("platforms", "platform-tools"):
        (root / name).mkdir(exist_ok=True)
    record.write(identity=remote.url)
    archive.unlink()


def _only_folder(unpacked: Path, archive: Path) -> Path:
    entries = list(unpacked.iterdir())
    if len(entries) != 1 or not entries[0].is_dir():
        raise HarnessError(f"{archive} holds {len(entries)} entries, not one folder")
    return entries[0]


def find(package: SdkPackage, *, layout: Layout) -> Path:
    """The folder of a package, in the user's SDK or in ours; HarnessError says how to get it."""
    roots = [Path(os.environ[name]) for name in SDK_VARIABLES if os.environ.get(name)]
    for root in (*roots, our_root(layout)):
        folder = root / package.folder
        if folder.is_dir():
            return folder
    looked = ", ".join(str(root) for root in (*roots, our_root(layout)))
    raise HarnessError(
        f"there is no {package.folder} ({package.description}) in {looked}",
        hint=f"`./run fetch --sdk={package.name}` gets it, or set ANDROID_SDK_ROOT to your SDK",
    )
