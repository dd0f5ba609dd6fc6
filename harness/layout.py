# SPDX-License-Identifier: GPL-2.0-only
"""Where things are: the checkout, its build folder and the cache outside it."""

from __future__ import annotations

import hashlib
import os
import re
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
        return cls.at(Path(__file__).resolve().parent.parent)

    @classmethod
    def at(cls, root: Path) -> Layout:
        """The layout of a checkout.

        The kernel's Makefile takes no blanks or colons in paths, and make no more of
        what means something to it or to a shell: then build/ is beside the cache.
        """
        # Relative to where the user is: ./run has changed to the checkout.
        here = Path(os.environ.get("MMLIMITS_CWD") or Path.cwd())
        cache = here / (os.environ.get("MMLIMITS_CACHE") or _user_caches() / "user-mm-limits")
        build = root / "build"
        if not is_fit_for_make(build):
            name = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
            places = (cache.with_name(f"{cache.name}-build"), _of_user(Path("/var/tmp")))
            build = next(filter(is_fit_for_make, places)) / name
        return cls(root=root, build=build, cache=cache)

    @property
    def is_elsewhere(self) -> bool:
        """Is build/ not in the checkout?"""
        return self.build.parent != self.root


def is_fit_for_make(path: Path) -> bool:
    return re.search(r"[\s:#$%&;'\"`\\(){}\[\]*?<>|!~=]", str(path)) is None


def _user_caches() -> Path:
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # no HOME, and no entry in /etc/passwd
        return _of_user(Path("/var/tmp"))


def _of_user(folder: Path) -> Path:
    return folder / f"user-mm-limits-{os.getuid()}"
