# SPDX-License-Identifier: GPL-2.0-only
"""How a submission speaks: a contract in TOML.  docs/grading.md explains each key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, field

from harness.datafile import Table, load, require_known
from harness.errors import HarnessError
from harness.policies import known

HINT = "docs/grading.md lists the keys"

Unit = Literal["bytes", "kB", "pages"]
UNIT_BYTES = {"bytes": 1, "kB": 1024, "pages": 4096}

# What a kill line must tell; the others are put in where it does not.
REQUIRED_GROUPS = ("uid", "pid")
GROUPS = ("uid", "uRSS", "mm_max", "pid", "pRSS", "score")


class SetCall(Table, frozen=True, kw_only=True):
    """The call that sets a limit: its number, arguments in order, and what is success."""

    number: Annotated[int, Meta(ge=0)]
    arguments: tuple[Literal["uid", "mm_max"], ...] = ("uid", "mm_max")
    unit: Unit = "bytes"
    ok: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        """ValueError if these are not its arguments."""
        if sorted(self.arguments) != ["mm_max", "uid"]:
            raise ValueError('arguments must be "uid" and "mm_max", in the order of the call')


class KillerCall(Table, frozen=True, kw_only=True):
    """The call that a daemon makes."""

    number: Annotated[int, Meta(ge=0)]


class Modules(Table, frozen=True, kw_only=True):
    """The folder of the submission whose modules are built, and the files to load in order."""

    folder: str
    load: tuple[str, ...]


class LogLine(Table, frozen=True, kw_only=True):
    """The line of a kill: a pattern with named groups, and the unit of its sizes."""

    kill: str
    unit: Unit = "bytes"

    def __post_init__(self) -> None:
        """ValueError if the pattern is none, or does not say who was killed."""
        try:
            groups = re.compile(self.kill).groupindex
        except re.error as error:
            raise ValueError(f"kill is no regular expression: {error}") from error
        lacking = [name for name in REQUIRED_GROUPS if name not in groups]
        if lacking:
            raise ValueError(f"kill has no group (?P<{lacking[0]}>...)")
        for name in groups:
            require_known("a group of kill", name, GROUPS)


class ClaimedPolicy(Table, frozen=True, kw_only=True):
    """A policy that a submission has, and how it is selected.

    ``config`` are Kconfig symbols; ``define`` is put as ``#define`` at the top of
    ``defined_in``.  ``kernel``: the kernel kills by it; ``type``: so does the daemon's call.
    """

    config: Mapping[str, str] = field(default_factory=dict)
    define: str | None = None
    defined_in: str = "mm/page_alloc.c"
    kernel: bool = True
    type: int | None = None


class Contract(Table, frozen=True, kw_only=True):
    """What a submission claims, and how it says it."""

    name: str
    summary: str = ""
    set_mm_limits: SetCall = field(name="set-mm-limits")
    my_oom_killer: KillerCall | None = field(default=None, name="my-oom-killer")
    modules: Modules | None = None
    log: LogLine
    policies: Mapping[str, ClaimedPolicy] = field(name="policy")
    period_ms: Annotated[int, Meta(ge=0)] = 0
    scenarios: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """ValueError if what belongs together does not."""
        if not self.policies:
            raise ValueError("there is no [policy.NAME]")
        for name, policy in self.policies.items():
            require_known("[policy.NAME]", name, known().built_in)
            if policy.type is not None and self.my_oom_killer is None:
                raise ValueError(f"policy.{name}: type goes with [my-oom-killer]")


def load_contract(path: Path) -> Contract:
    """Read a contract; HarnessError says what is wrong, where, and what is valid."""
    if not path.is_file():
        raise HarnessError(
            f"there is no contract {path}", hint="configs/contracts/ has some to start from"
        )
    return load(path, Contract, root=path.parent, hint=HINT)
