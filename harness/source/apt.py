# SPDX-License-Identifier: GPL-2.0-only
"""Debian's packages, for any architecture and without root.

The guest's programs are of another architecture than this machine: instead of
`dpkg --add-architecture`, which needs root and changes the system, apt is pointed at
lists of our own in the cache folder.  It also downloads the packages: mirrors, proxies
and what else it is configured with are its business.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness import process, stamp
from harness.errors import HarnessError
from harness.source.download import CHUNK_BYTES, disk_error
from harness.ui import Stage


class NoSuchPackage(HarnessError):
    """The lists are there, and the package is not in them."""


@dataclass(frozen=True, kw_only=True)
class DebianPackage:
    """A package as the index describes it."""

    name: str
    version: str
    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        """With the version, so that nothing is taken for what another version left."""
        return f"{self.name}_{self.version.replace(':', '%3a')}.deb"


class AptIndex:
    """Lists of the system's Debian sources for one architecture, in ``folder``.

    With ``backports``, those of the release's backports, too, whose packages then come
    first.  Works as any user.  Nothing is installed; the system's own lists, cache and
    architectures stay as they are.
    """

    def __init__(self, folder: Path, *, architecture: str, backports: bool = False) -> None:
        self.folder = folder.absolute()
        self._architecture = architecture
        self._backports = backports

    @classmethod
    def of(cls, cache: Path, architecture: str, *, backports: bool = False) -> AptIndex:
        """The index whose lists are in our cache."""
        name = f"apt-{architecture}{'-backports' if backports else ''}"
        return cls(cache / name, architecture=architecture, backports=backports)

    @staticmethod
    def available() -> bool:
        """Whether this system has apt."""
        return shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None

    @staticmethod
    def native_architecture() -> str:
        """The architecture whose index also has what is for ``all``."""
        result = process.run(["dpkg", "--print-architecture"], what="asking dpkg")
        return result.output[0].strip()

    def find(self, package: str, *, stage: Stage) -> DebianPackage:
        """Where the newest ``package`` is; reads the lists from the network first.

        Callers ask only when their cache is empty, and lists of yesterday name
        packages that a security update has since removed.
        """
        problems = self._update(stage)
        # A name that apt does not have, it takes for a pattern: in linux-source-6.1 the
        # dot stands for any character, and linux-source-6.12 has it.
        for found in self._describe(package):
            if found.name == package:
                return found
        # With others like it there, it is not the lists that are missing.
        there = not problems or self.names(package.rpartition("-")[0])
        error = NoSuchPackage if there else HarnessError
        raise error(
            f"the Debian sources of this system have no package {package} for {self._architecture}",
            details=problems,
            hint="check the network and /etc/apt/sources.list, then run the same again",
        )

    def names(self, prefix: str) -> tuple[str, ...]:
        """The packages in the lists whose names begin so."""
        return tuple(sorted(self._apt("apt-cache", "pkgnames", prefix).split()))

    def with_dependencies(self, package: str, *, stage: Stage) -> tuple[DebianPackage, ...]:
        """The package and all that it depends on, as find() finds it."""
        self.find(package, stage=stage)
        words = ("--no-install-recommends", "--print-uris", "install", package)
        # That prints weak checksums, or none; the exact names lead to the others.
        lines = re.findall(_URI, self._apt("apt-get", "-q", "-y", *words), re.MULTILINE)
        exact = [f"{name}={_version(version)}" for _, name, version in lines]
        found = self._describe(*exact) if exact else ()
        if package not in (one.name for one in found):
            raise HarnessError(
                f"apt finds not all that {package} depends on for {self._architecture}",
                hint="run `apt-get update` to see whether a mirror is incomplete, then try again",
            )
        return found

    def download(self, package: DebianPackage, dest: Path, *, stage: Stage) -> Path:
        """Have apt bring the package to ``dest``; HarnessError says why it did not."""
        dest.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".apt-", dir=dest.parent) as folder:
            (deb,) = self.download_all([package], Path(folder), stage=stage)
            deb.replace(dest)
        return dest

    def download_all(
        self, packages: Sequence[DebianPackage], folder: Path, *, stage: Stage
    ) -> tuple[Path, ...]:
        """Have apt bring the packages to a folder where nothing else is."""
        names = " ".join(f"{one.name} {one.version}" for one in packages[:1])
        more = f" and {len(packages) - 1} more" if len(packages) > 1 else ""

        def show(line: str) -> None:
            if line.startswith("dlstatus:"):
                stage.update(f"{packages[0].name}{more} {float(line.split(':')[2]):.0f} %")

        exact = [f"{one.name}={one.version}" for one in packages]
        process.run(
            self._command("apt-get", "-q", "-o", "APT::Status-Fd=1", "download", *exact),
            what=f"downloading {names}{more}",
            cwd=folder,
            on_line=show,
        )
        brought = {stamp.hash_file(deb): deb for deb in folder.glob("*.deb")}
        for package in packages:
            if package.sha256 not in brought:
                raise HarnessError(
                    f"apt brought another {package.name} than its lists promise",
                    hint="run the same again; if that does not help, check the mirror",
                )
        return tuple(brought[package.sha256] for package in packages)

    def _update(self, stage: Stage) -> tuple[str, ...]:
        """Read the lists; what went wrong is returned: one list of three may do."""
        stage.update("reading the Debian package index")
        for name in ("lists/partial", "archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        sources = debian_sources(backports=self._backports)
        if not sources:
            raise NoSuchPackage(
                "no Debian source found in /etc/apt", hint="give the kernel with --source PATH"
            )
        stamp.write_atomic(self.folder / "sources.list", "\n".join(sources).encode() + b"\n")
        result = process.run(
            self._command("apt-get", "-q", "-y", "update"),
            what="reading the Debian package index",
            env={"LC_ALL": "C"},
            check=False,
        )
        return tuple(line for line in result.output if line.startswith(("E:", "W:", "Err:")))[:5]

    def _describe(self, *packages: str) -> tuple[DebianPackage, ...]:
        """Where apt would take these from."""
        output = self._apt("apt-get", "-q", "download", "--print-uris", *packages)
        return tuple(
            DebianPackage(name=name, version=_version(version), url=url, sha256=sha256)
            for url, name, version, sha256 in re.findall(
                _URI + r" \d+ SHA256:(\w+)", output, re.MULTILINE
            )
        )

    def _apt(self, *words: str) -> str:
        """Output of a quick apt command; empty when it fails."""
        result = process.run(
            self._command(*words), what=shlex.join(words), env={"LC_ALL": "C"}, check=False
        )
        return "\n".join(result.output) if result.returncode == 0 else ""

    def _command(self, program: str, *words: str) -> list[str]:
        settings = {
            "Dir::State": f"{self.folder}/",
            "Dir::State::lists": f"{self.folder}/lists/",
            "Dir::State::status": f"{self.folder}/status",
            "Dir::Cache": f"{self.folder}/",
            "Dir::Etc::sourcelist": f"{self.folder}/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "APT::Architecture": self._architecture,
            "APT::Architectures::": self._architecture,
            "APT::Get::List-Cleanup": "false",
            "Acquire::Languages": "none",
            # As root, apt would drop to _apt, which cannot write to our cache folder.
            "APT::Sandbox::User": "",
        }
        if self._backports:
            settings["APT::Default-Release"] = f"{_codename(Path('/etc/os-release'))}-backports"
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        return [program, *options, *words]


# URL, name and version, as ``--print-uris`` has them.
_URI = r"^'([^']+)' (\S+?)_(\S+)_\w+\.deb"


def _version(in_file_name: str) -> str:
    return in_file_name.replace("%3a", ":")


def debian_sources(etc: Path = Path("/etc"), *, backports: bool = False) -> list[str]:
    """The system's sources of its own Debian release, one ``deb`` line each.

    With ``backports``, those are added, from where the release itself comes from.

    Third-party sources are left out: they have no kernel and may not have the
    guest's architecture at all.
    """
    codename = _codename(etc / "os-release")
    files = [etc / "apt/sources.list", *sorted((etc / "apt/sources.list.d").glob("*"))]
    lines: list[str] = []
    for path in files:
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".sources":
            lines += _deb822_lines(text, codename)
        elif path.suffix == ".list":
            lines += _one_line_sources(text, codename)
    if backports:
        release = [line for line in lines if line.split()[-2] == codename]
        lines += [line.replace(f" {codename} ", f" {codename}-backports ") for line in release]
    return list(dict.fromkeys(lines))


def _codename(os_release: Path) -> str:
    match = re.search(r"^VERSION_CODENAME=\"?(\w+)", os_release.read_text(), re.MULTILINE)
    return match.group(1) if match else "stable"


def _is_release_suite(suite: str, codename: str) -> bool:
    return suite in {name + tail for name in (codename, "stable") for tail in _SUITE_TAILS}


_SUITE_TAILS = ("", "-updates", "-security", "/updates")


def _one_line_sources(text: str, codename: str) -> list[str]:
    pattern = re.compile(r"^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)$")
    lines = []
    for line in text.splitlines():
        match = pattern.match(line.split("#")[0].strip())
        if match and _is_release_suite(match.group(3), codename) and "main" in match.group(4):
            signed = re.search(r"signed-by=\S+", match.group(1) or "")
            lines.append(_deb_line(match.group(2), match.group(3), signed and signed.group()))
    return lines


def _deb822_lines(text: str, codename: str) -> list[str]:
    lines = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = _deb822_fields(stanza)
        wanted = "deb" in fields.get("types", "").split() and "main" in fields.get("components", "")
        if not wanted or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        signed_by = fields.get("signed-by", "")
        signed = f"signed-by={signed_by}" if signed_by.startswith("/") else None
        lines += [
            _deb_line(uri, suite, signed)
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
            if _is_release_suite(suite, codename)
        ]
    return lines


def _deb822_fields(stanza: str) -> dict[str, str]:
    unfolded = re.sub(r"\n[ \t]+", " ", re.sub(r"^#.*\n?", "", stanza, flags=re.MULTILINE))
    pairs = (line.split(":", 1) for line in unfolded.splitlines() if ":" in line)
    return {key.strip().lower(): value.strip() for key, value in pairs}


def _deb_line(uri: str, suite: str, signed: str | None) -> str:
    return f"deb {f'[{signed}] ' if signed else ''}{uri} {suite} main"


def extract_from_deb(deb: Path, member: str, dest: Path) -> Path:
    """Write one member of a .deb (``usr/src/x.tar.xz``) to ``dest``, nothing else."""
    part = dest.with_name(dest.name + ".part")
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    try:
        with subprocess.Popen(
            command, env=process.environment(), stdout=subprocess.PIPE
        ) as unpacker:
            try:
                found = _copy_member(unpacker.stdout, member, part)
            finally:
                unpacker.kill()
        if not found:
            raise HarnessError(f"{deb} holds no {member}")
        part.replace(dest)
    except OSError as error:
        raise disk_error(error, part) from error
    except tarfile.TarError as error:
        raise HarnessError(f"{deb} cannot be unpacked: {error}") from error
    return dest


def _copy_member(stream: IO[bytes] | None, member: str, part: Path) -> bool:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.name == f"./{member}" else None
            if content is not None:
                with part.open("wb") as out:
                    shutil.copyfileobj(content, out, CHUNK_BYTES)
                return True
    return False
