# SPDX-License-Identifier: GPL-2.0-only
"""Verified, resuming downloads.

A download counts only once its sha256 is right and it has been renamed into
place; until then it is a ``.part`` file, which the next run continues.
"""

from __future__ import annotations

import errno
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
        raise disk_error(error, part) from error
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


def disk_error(error: OSError, path: Path) -> HarnessError:
    """What to tell of a file that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return process.disk_full("download", path=path)
    return HarnessError(f"cannot write {path}: {error.strerror or error}")
