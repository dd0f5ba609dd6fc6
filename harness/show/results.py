# SPDX-License-Identifier: GPL-2.0-only
"""The results as a file: what it may hold, written, read and checked.

These structs are the format; docs/results.schema.json is made of them (a test compares)
and docs/results.md explains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from harness.errors import HarnessError

SCHEMA: Final = 2

Bytes = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Kill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The numbers of a kill line; ``score`` is the policy's, null where the line has none."""

    uid: int
    user_rss: Bytes
    mm_max: Bytes
    pid: int
    process_rss: Bytes
    score: int | None = None


class Ranked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process that the kernel looked at before a kill, and what it made of it."""

    pid: int
    comm: str
    uid: int
    rss: Bytes
    score: int
    fate: str


class Sampled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who had how much: (s since boot, uid, limit, usage), (s, uid, pid, size, name)."""

    limits: tuple[tuple[float, int, int, int], ...]
    processes: tuple[tuple[float, int, int, int, str], ...]


class CaseRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case: a scenario under a policy, with a seed."""

    id: str
    name: str
    summary: str
    policy: str
    kernel: str
    trigger: Literal["kernel", "daemon", "syscall"]
    seed: int
    status: Literal["passed", "failed", "error", "crashed"]
    seconds: Seconds
    kills: tuple[Kill, ...]
    field: str | None
    rankings: tuple[tuple[Ranked, ...], ...]
    detail: str
    log: tuple[str, ...]
    console: str
    reproduce: str
    samples: Sampled | None = None


class Results(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run: on which kernel and device, of which files, and each case."""

    schema: Literal[2]
    kernel: str
    release: str
    arch: str
    board: str
    device: str
    accel: str
    accel_why: str
    reproduce: str
    sha256: Mapping[str, Sha256]
    cases: tuple[CaseRecord, ...]


def schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Results of user-mm-limits",
        **msgspec.json.schema(Results),
    }


def read_results(path: Path) -> dict[str, Any]:
    """A file that --results has written, as it is; HarnessError says what is wrong with it."""
    try:
        data = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise HarnessError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("cases"), list):
        raise HarnessError(
            f"{path} holds no results", hint="give a file that --results has written"
        )
    if data.get("schema") != SCHEMA:
        raise HarnessError(
            f"{path} has schema {data.get('schema')}, not {SCHEMA}",
            hint="run the tests again: the command is in the file",
        )
    try:
        msgspec.convert(data, Results)
    except msgspec.ValidationError as error:
        raise HarnessError(
            f"{path}: {error}", hint="docs/results.schema.json says what it may hold"
        ) from error
    return data
