# SPDX-License-Identifier: GPL-2.0-only
"""The cache is shared by all checkouts of a user: one run at a time changes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness import process, ui
from harness.errors import HarnessError
from harness.layout import Layout

LOCK = ".lock"


@contextmanager
def changing(layout: Layout) -> Iterator[None]:
    """Hold the cache's lock.  Look again at what is there: another run may have brought it."""
    try:
        lock = process.lock(
            layout.cache / LOCK,
            on_wait=lambda: ui.say("another run changes the cache: waiting for it to finish"),
        )
    except OSError as error:
        raise HarnessError(
            f"cannot write to the cache {layout.cache}: {error.strerror}",
            hint="MMLIMITS_CACHE=FOLDER puts it elsewhere",
        ) from error
    with lock:
        yield
