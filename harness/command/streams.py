# SPDX-License-Identifier: GPL-2.0-only
"""The standard streams, such that no task need think of how it was started.

Any of the three may be closed, whoever reads the output may have had enough
(``| head -1``), and its encoding may be ASCII.  None of that is an error of ours,
and none of it changes what a task does.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any, TextIO

from harness.errors import HarnessError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NAMES = {1: "standard output", 2: "standard error"}

# What we print and ASCII has not.
_PLAIN = {"✓": "+", "✗": "x", "→": "->", "…": "...", "≤": "<=", "━": "-", "─": "-", "│": "|"}
_BOX_DRAWING = range(0x2500, 0x2580)


def prepare() -> None:
    """Make the standard streams usable, however they were left to us."""
    codecs.register_error("plain", _plain)
    for fd in (0, 1, 2):
        if not _is_open(fd):
            # The lowest number is taken: without this the next file opened would be it.
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  (as long as the program)
    sys.stdout = _writer(1, sys.stdout)
    sys.stderr = _writer(2, sys.stderr)


class _Output(io.FileIO):
    """A stream that may lose its reader: what nobody reads need not be written."""

    _lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        length = memoryview(data).nbytes
        while not self._lost:
            try:
                written: int | None = super().write(data)
            except BrokenPipeError:
                self._lost = True
            except OSError as error:
                self._lost = True
                if self.fileno() == 1:  # of standard error, there is nobody to tell
                    raise HarnessError(f"cannot write to {_NAMES[1]}: {error.strerror}") from error
            else:
                if written is not None:
                    return written
                # Somebody who shares the stream has made it non-blocking.
                select.select([], [self], [])
        return length


def _writer(fd: int, old: TextIO | None) -> TextIO:
    encoding = old.encoding if old is not None else "utf-8"
    raw: Any = _Output(fd, "w", closefd=False)
    # By lines: then nothing is left to be written when Python ends.
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="plain", line_buffering=True
    )


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that the encoding has not."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_plain_character, text)), error.end


def _plain_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that was no text (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return _PLAIN.get(character) or ("+" if code in _BOX_DRAWING else "?")
