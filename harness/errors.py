# SPDX-License-Identifier: GPL-2.0-only
"""The errors a user of the harness can meet, each with its exit code.

Every error answers three questions in one line: what failed, on which file or
command, and what to do next.  Code that detects a problem raises one of these;
only the task layer prints them and turns them into an exit code.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Process exit codes of every task (DESIGN: harness)."""

    PASSED = 0
    SCENARIO_FAILED = 1
    HARNESS_ERROR = 2
    GUEST_CRASHED = 3


class HarnessError(Exception):
    """The harness could not do its work.

    ``what`` says what is wrong and where; ``hint`` what to do next; ``details``
    holds the few lines of output (compiler, patch, console) that show it.
    """

    exit_code = ExitCode.HARNESS_ERROR

    def __init__(self, what: str, *, hint: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.details = tuple(details)

    def __str__(self) -> str:
        return f"{self.what}: {self.hint}" if self.hint else self.what


class GuestCrash(HarnessError):
    """The guest kernel panicked, oopsed, stalled, hung or went silent.

    ``details`` holds the last console lines, the reason line among them.
    """

    exit_code = ExitCode.GUEST_CRASHED
