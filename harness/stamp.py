# SPDX-License-Identifier: GPL-2.0-only
"""Content stamps: what makes a repeated command do nothing.

A stage is done when its stamp file says it was done with these very inputs and
its outputs are there.  Inputs are compared by content, never by time, and a
stamp is written last and atomically, so an interrupted stage never counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def digest(*parts: str | bytes) -> str:
    """sha256 over the parts; ("ab", "c") and ("a", "bc") differ."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode())
        total.update(data)
    return total.hexdigest()


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Hash of the file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def hash_files(root: Path, paths: Iterable[Path]) -> str:
    """One digest over names (relative to ``root``) and contents, order-independent."""
    names = sorted(str(path.relative_to(root)) for path in paths)
    return digest(*(part for name in names for part in (name, (root / name).read_bytes())))


def files_below(folder: Path) -> list[Path]:
    """Every regular file below ``folder``, sorted, editors' droppings left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and not path.name.endswith("~")
    )


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write the file such that a reader sees the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@dataclass(frozen=True)
class Stamp:
    """A JSON file that says what a stage was last done with."""

    path: Path

    def read(self) -> dict[str, Any]:
        """The record; empty when there is none or it cannot be read as one."""
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def write(self, **record: Any) -> None:
        """Replace the record."""
        write_atomic(self.path, json.dumps(record, indent=1, sort_keys=True).encode() + b"\n")

    def matches(self, identity: str, outputs: Iterable[Path] = ()) -> bool:
        """Whether the stage was done with ``identity`` and its outputs are still there."""
        return self.read().get("identity") == identity and all(path.exists() for path in outputs)

    def clear(self) -> None:
        """Forget: to be called before the outputs are touched."""
        self.path.unlink(missing_ok=True)


def hash_large_file(path: Path, *, memo: Stamp) -> str:
    """``hash_file``, remembered in ``memo`` by path, size and mtime.

    For archives only, where reading 140 MB would be most of a no-op build.
    """
    status = path.stat()
    key = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    known = memo.read()
    if key not in known:
        known[key] = hash_file(path)
        memo.write(**known)
    return str(known[key])
