# SPDX-License-Identifier: GPL-2.0-only
"""Verified, resuming downloads, and a private apt index that needs no root.

A download counts only once its sha256 is right and it has been renamed into
place; until then it is a ``.part`` file, which the next run continues.

The apt index exists because the guest's programs are of another architecture
than this machine: instead of `dpkg --add-architecture`, which needs root and
changes the system, apt is pointed at lists of our own in the cache folder.  It also
downloads the packages: mirrors, proxies and what else it is configured with are its
business.
"""

from __future__ import annotations

import errno
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness import process, stamp
from harness.errors import HarnessError
from harness.ui import Stage

if TYPE_CHECKING:
    import requests

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = (10.0, 60.0)  # to connect, between two reads
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file to download; without a checksum nothing but its size is verified.

    ``sha1`` is for what is published with nothing better.
    """

    url: str
    sha256: str | None = None
    sha1: str | None = None
    size: int | None = None


class _Interrupted(Exception):
    """The transfer stopped early; trying again may help."""


def download(
    remote: Remote,
    dest: Path,
    *,
    stage: Stage,
    first_pause: float = FIRST_PAUSE_SECONDS,
) -> Path:
    """Bring ``remote`` to ``dest``, continuing a ``.part`` of an earlier run.

    Nobody else may do that meanwhile: ``dest`` is in the cache, whose lock is held.
    Raises HarnessError when the network, the disk or the checksum is to blame.
    """
    part = dest.with_name(dest.name + ".part")
    dest.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch_part(remote, part, stage=stage, first_pause=first_pause)
        _verify(remote, part)
        part.replace(dest)
    except OSError as error:
        raise _disk_error(error, part) from error
    return dest


def remote_size(url: str) -> int | None:
    """Bytes, as the server tells; None if it does not or cannot be asked."""
    import requests

    try:
        response = requests.head(url, allow_redirects=True, timeout=TIMEOUT_SECONDS)
        response.raise_for_status()
        return int(response.headers["Content-Length"])
    except (requests.RequestException, KeyError, ValueError):
        return None


def _fetch_part(
    remote: Remote,
    part: Path,
    *,
    stage: Stage,
    first_pause: float,
) -> None:
    """Append to ``part`` until it is complete, with a few attempts."""
    # Imported here: it takes 0.1 s, and most runs download nothing.
    import requests

    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(remote, part, stage=stage)
            return
        except (requests.RequestException, _Interrupted) as error:
            if attempt == ATTEMPTS:
                raise HarnessError(
                    f"cannot download {remote.url}: {_reason(error)}",
                    hint="check the network (http_proxy/https_proxy are honoured) and run the same"
                    " again: it goes on where it stopped",
                ) from error
            time.sleep(first_pause * 2 ** (attempt - 1))


def _transfer(remote: Remote, part: Path, *, stage: Stage) -> None:
    import requests

    have = part.stat().st_size if part.exists() else 0
    if remote.size is not None and have >= remote.size:
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(
        remote.url,
        headers={"Accept-Encoding": "identity", **headers},
        stream=True,
        timeout=TIMEOUT_SECONDS,
    ) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # already whole, or not what it was: the checksum decides
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        _write(response, part, have=have if resumed else 0, stage=stage)


def _write(response: requests.Response, part: Path, *, have: int, stage: Stage) -> None:
    """Stream the body into ``part`` from byte ``have`` on."""
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    done = have
    with part.open("ab" if have else "wb") as stream:
        for chunk in response.iter_content(CHUNK_BYTES):
            stream.write(chunk)
            done += len(chunk)
            stage.update(progress_bar(done, total))
    if total is not None and done < total:
        raise _Interrupted(f"connection closed after {done} of {total} bytes")


def progress_bar(done: int, total: int | None) -> str:
    """``━━━━━━──────────  37 %  51.2/138.0 MB``; bytes in, MB out."""
    if not total:
        return f"{done / 1e6:.1f} MB"
    filled = min(24, 24 * done // total)
    bar = "━" * filled + "─" * (24 - filled)
    return f"{bar} {100 * done // total:3d} %  {done / 1e6:.1f}/{total / 1e6:.1f} MB"


def _verify(remote: Remote, part: Path) -> None:
    """Refuse and remove a file that is not what was promised."""
    size = part.stat().st_size
    if remote.size is not None and size != remote.size:
        found, wanted = f"{size} bytes", f"{remote.size} bytes"
    elif remote.sha256 is not None and (got := stamp.hash_file(part)) != remote.sha256:
        found, wanted = f"sha256 {got}", f"sha256 {remote.sha256}"
    elif remote.sha1 is not None and (got := stamp.hash_file(part, "sha1")) != remote.sha1:
        found, wanted = f"sha1 {got}", f"sha1 {remote.sha1}"
    else:
        return
    part.unlink()
    raise HarnessError(
        f"corrupt download of {remote.url}",
        details=(f"expected {wanted}", f"got      {found}"),
        hint="the file was removed; run the same again, or check the mirror or proxy in between",
    )


def _reason(error: Exception) -> str:
    """The innermost readable reason of a requests error: not its 300-character repr."""
    text = str(error)
    inner = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text)
    return inner.group(1) if inner else text.splitlines()[0] if text else type(error).__name__


def _disk_error(error: OSError, path: Path) -> HarnessError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return process.disk_full("download", path=path)
    return HarnessError(f"cannot write {path}: {error.strerror or error}")


class NoSuchPackage(HarnessError):
    """The lists are there, and the package is not in them."""


@dataclass(frozen=True, kw_only=True)
class DebianPackage:
    """A package as the index describes it."""

    name: str
    version: str
    url: str
    sha256: str


class AptIndex:
    """Lists of the system's Debian sources for one architecture, in ``folder``.

    Works as any user.  Nothing is installed; the system's own lists, cache and
    architectures stay as they are.
    """

    def __init__(self, folder: Path, *, architecture: str) -> None:
        self._folder = folder.absolute()
        self._architecture = architecture

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
        found = self._describe(package)
        if found is not None:
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

    def download(self, package: DebianPackage, dest: Path, *, stage: Stage) -> Path:
        """Have apt bring the package to ``dest``; HarnessError says why it did not."""

        def show(line: str) -> None:
            if line.startswith("dlstatus:"):
                stage.update(f"{package.name} {float(line.split(':')[2]):.0f} %")

        dest.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".apt-", dir=dest.parent) as folder:
            exact = f"{package.name}={package.version}"
            process.run(
                self._command("apt-get", "-q", "-o", "APT::Status-Fd=1", "download", exact),
                what=f"downloading {package.name} {package.version}",
                cwd=Path(folder),
                on_line=show,
            )
            (deb,) = Path(folder).glob("*.deb")
            if stamp.hash_file(deb) != package.sha256:
                raise HarnessError(
                    f"apt brought another {package.name} than its lists promise",
                    hint="run the same again; if that does not help, check the mirror",
                )
            deb.replace(dest)
        return dest

    def _update(self, stage: Stage) -> tuple[str, ...]:
        """Read the lists; what went wrong is returned: one list of three may do."""
        stage.update("reading the Debian package index")
        for name in ("lists/partial", "archives/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        sources = debian_sources()
        if not sources:
            raise NoSuchPackage(
                "no Debian source found in /etc/apt", hint="give the kernel with --source PATH"
            )
        stamp.write_atomic(self._folder / "sources.list", "\n".join(sources).encode() + b"\n")
        result = process.run(
            self._command("apt-get", "-q", "-y", "update"),
            what="reading the Debian package index",
            env={"LC_ALL": "C"},
            check=False,
        )
        return tuple(line for line in result.output if line.startswith(("E:", "W:", "Err:")))[:5]

    def _describe(self, package: str) -> DebianPackage | None:
        """The package of exactly this name.

        A name that apt does not have, it takes for a pattern: in linux-source-6.1 the
        dot stands for any character, and linux-source-6.12 has it.
        """
        output = self._apt("apt-get", "-q", "download", "--print-uris", package)
        pattern = r"^'([^']+)' (\S+?)_(\S+)_\w+\.deb \d+ SHA256:(\w+)"
        for url, name, version, sha256 in re.findall(pattern, output, re.MULTILINE):
            if name == package:
                plain = version.replace("%3a", ":")
                return DebianPackage(name=name, version=plain, url=url, sha256=sha256)
        return None

    def _apt(self, *words: str) -> str:
        """Output of a quick apt command; empty when it fails."""
        result = process.run(
            self._command(*words), what=shlex.join(words), env={"LC_ALL": "C"}, check=False
        )
        return "\n".join(result.output) if result.returncode == 0 else ""

    def _command(self, program: str, *words: str) -> list[str]:
        settings = {
            "Dir::State": f"{self._folder}/",
            "Dir::State::lists": f"{self._folder}/lists/",
            "Dir::State::status": f"{self._folder}/status",
            "Dir::Cache": f"{self._folder}/",
            "Dir::Etc::sourcelist": f"{self._folder}/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "APT::Architecture": self._architecture,
            "APT::Architectures::": self._architecture,
            "APT::Get::List-Cleanup": "false",
            "Acquire::Languages": "none",
            # As root, apt would drop to _apt, which cannot write to our cache folder.
            "APT::Sandbox::User": "",
        }
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        return [program, *options, *words]


def debian_sources(etc: Path = Path("/etc")) -> list[str]:
    """The system's sources of its own Debian release, one ``deb`` line each.

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
        raise _disk_error(error, part) from error
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
