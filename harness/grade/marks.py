# SPDX-License-Identifier: GPL-2.0-only
"""Points for what was seen, by a scheme in TOML that course staff edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta, field

from harness.case.judge import Status
from harness.case.run import CaseResult
from harness.datafile import Table, load
from harness.errors import HarnessError

Points = Annotated[float, Meta(ge=0)]


class Scheme(Table, frozen=True, kw_only=True):
    """``build`` for a kernel that builds; for each case its own points, or ``otherwise``.

    ``warning`` is taken off for each warning of the compiler that the plain kernel does
    not have, down to 0.
    """

    name: str
    build: Points
    warning: Points = 0.0
    cases: Mapping[str, Points] = field(default_factory=dict, name="case")
    otherwise: Points = 0.0

    def of(self, name: str) -> float:
        """The points of a scenario."""
        return self.cases.get(name, self.otherwise)


@dataclass(frozen=True)
class Mark:
    """What was to be had for something, what was given, and why not more."""

    what: str
    status: str
    points: float
    of: float
    why: str = ""


def load_scheme(path: Path) -> Scheme:
    """Read a scheme; HarnessError says what is wrong with it and where."""
    if not path.is_file():
        raise HarnessError(f"there is no scheme {path}", hint="configs/grading.toml is one")
    return load(path, Scheme, root=path.parent, hint="docs/grading.md lists the keys")


def marks(
    scheme: Scheme,
    *,
    build_error: str,
    warnings: int,
    results: Sequence[CaseResult],
    not_claimed: Sequence[str],
    unreached: Sequence[str],
) -> tuple[Mark, ...]:
    """The marks of a submission; ``unreached`` are claims that nothing could be seen of."""
    given = [_build(scheme, build_error, warnings)]
    for result in results:
        name = result.case.scenario.name
        of = scheme.of(name)
        passed = result.status is Status.PASSED
        why = "" if passed else "; ".join(result.detail[:2])
        given.append(Mark(result.case.id, result.status.value, of if passed else 0.0, of, why))
    given += [Mark(name, "not built", 0.0, scheme.of(name), "see build") for name in unreached]
    given += [Mark(name, "not claimed", 0.0, scheme.of(name)) for name in not_claimed]
    return tuple(given)


def _build(scheme: Scheme, error: str, warnings: int) -> Mark:
    if error:
        return Mark("build", "failed", 0.0, scheme.build, error)
    off = min(scheme.build, warnings * scheme.warning)
    why = f"{warnings} warning(s)" if warnings else ""
    return Mark("build", "passed", scheme.build - off, scheme.build, why)
