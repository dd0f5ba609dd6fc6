# SPDX-License-Identifier: GPL-2.0-only
"""What was measured, before anything is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Key:
    """What a number belongs to: ``part`` is a workload or a part of one."""

    variant: str
    processes: int
    part: str


@dataclass(frozen=True)
class Breach:
    """One kill: what the page took that paid for it, and which page beyond the limit it was."""

    instructions: int
    pages: int


@dataclass
class Measurements:
    """What was measured.

    ``values`` are instructions per unit of the workload, one for each boot;
    ``breaches`` are by the owner of the crowd (``own``: the limited user itself)
    and the number of processes; ``overshoot`` is in bytes, by what its figure is
    called; ``hostile`` is how many checks failed, by program and what was to hold it.
    """

    values: dict[Key, list[float]] = field(default_factory=dict)
    breaches: dict[tuple[str, int], list[Breach]] = field(default_factory=dict)
    overshoot: dict[str, list[int]] = field(default_factory=dict)
    hostile: dict[tuple[str, str], int] = field(default_factory=dict)
    release: str = ""

    def add(self, key: Key, value: float) -> None:
        """Note one boot's number."""
        self.values.setdefault(key, []).append(value)

    def merge(self, other: Measurements) -> None:
        """Add what another boot gave."""
        for key, values in other.values.items():
            self.values.setdefault(key, []).extend(values)
        self.breaches |= other.breaches
        for name, sizes in other.overshoot.items():
            self.overshoot.setdefault(name, []).extend(sizes)
        self.hostile |= other.hostile
        self.release = self.release or other.release
