# SPDX-License-Identifier: GPL-2.0-only
"""Where things are: the checkout, its build folder and the cache outside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The three folders everything else is relative to.

    ``root`` is the checkout, ``build`` holds what is made from it (ignored by
    git, removed by ``clean``), ``cache`` holds downloads and ccache objects and
    outlives the checkout.
    """

    root: Path
    build: Path
    cache: Path

    @classmethod
    def default(cls) -> Layout:
        """The layout of this checkout; ``MMLIMITS_CACHE`` moves the cache."""
        root = Path(__file__).resolve().parent.parent
        xdg = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        cache = Path(os.environ.get("MMLIMITS_CACHE") or Path(xdg) / "user-mm-limits")
        # Relative to where the user is: ./run has changed to the checkout.
        cache = Path(os.environ.get("MMLIMITS_CWD") or ".") / cache
        return cls(root=root, build=root / "build", cache=cache)
