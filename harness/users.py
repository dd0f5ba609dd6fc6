# SPDX-License-Identifier: GPL-2.0-only
"""The users of an Android system: an app is one, and u0_aN is uid 10000 + N by rule."""

from __future__ import annotations

import re

# Android's AID_ROOT, AID_SYSTEM, AID_SHELL.
SYSTEM_USERS = (("root", 0), ("system", 1000), ("shell", 2000))

# AID_APP_START to AID_ISOLATED_END.
APP_UIDS = range(10000, 100000)

_APP = re.compile(r"\bu0_a(\d+)\b")


def app_name(number: int) -> str:
    """The name of the app with this number (from 0)."""
    return f"u0_a{number}"


def app_uid(name: str) -> int | None:
    """The uid of the user u0_aN; None for any other name."""
    match = _APP.fullmatch(name)
    return APP_UIDS.start + int(match[1]) if match else None


def app_uids(text: str) -> frozenset[int]:
    """The uids of all users named u0_aN that are mentioned anywhere in the text."""
    return frozenset(APP_UIDS.start + int(number) for number in _APP.findall(text))


def user_name(uid: int) -> str:
    """What people call a user: u0_aN, a system user's name, or the uid itself."""
    if uid in APP_UIDS:
        return app_name(uid - APP_UIDS.start)
    return next((name for name, number in SYSTEM_USERS if number == uid), str(uid))
