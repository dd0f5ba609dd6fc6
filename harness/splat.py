# SPDX-License-Identifier: GPL-2.0-only
"""Finds the kernel's complaints about itself in a log or on the console.

A check that is not working must not look like a clean log, so every kind of
report that is recognised here has an example among the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Splat:
    """One report.  ``fatal``: the guest cannot be trusted to go on."""

    kind: str
    fatal: bool
    line_number: int  # from 0
    line: str

    @property
    def stall(self) -> bool:
        """Is it about a CPU or task that goes on, for too long?"""
        return self.kind == STALL


STALL = "RCU stall"

# How the names of the series' functions begin.
OURS = "mm_limits_|user_oom|mm_syscall_|oom_killer_"

# The first pattern that matches names the kind.  The texts are those of the
# kernel's own printk formats (6.1 and 3.4), without the time stamp.  Older
# kernels put "[ INFO: ... ]" or "[ BUG: ... ]" where newer ones say "WARNING:".
_KINDS: tuple[tuple[str, bool, str], ...] = (
    ("panic", True, r"Kernel panic - not syncing"),
    ("KASAN", True, r"BUG: KASAN: "),
    ("KFENCE", True, r"BUG: KFENCE: "),
    ("scheduling while atomic", True, r"BUG: scheduling while atomic"),
    ("oops", True, r"Unable to handle kernel "),
    ("oops", True, r"Internal error: "),
    ("oops", True, r"BUG: unable to handle "),
    ("oops", True, r"BUG: kernel NULL pointer dereference"),
    ("oops", True, r"general protection fault"),
    ("oops", True, r"kernel BUG at "),
    ("oops", True, r"Oops(?: -|:|\[)"),
    ("oops", True, r".+: [0-9a-f]{4,8} \[#\d+\]"),
    ("soft lockup", True, r"(?:watchdog: )?BUG: soft lockup"),
    ("hard lockup", True, r".*hard LOCKUP"),
    ("hung task", True, r"INFO: task .+:\d+ blocked for more than \d+ seconds"),
    (STALL, True, r"(?:rcu: )?INFO: rcu\w* (?:self-)?detected (?:expedited )?stall"),
    (STALL, True, r"(?:rcu: )?rcu\w* kthread starved for"),
    ("bad page", False, r"BUG: Bad (?:page|rss-counter)"),
    ("bad page", False, r"BUG: non-zero \w+ on freeing mm"),
    ("bad page", False, r"\S+:\d+: bad p\w+ [0-9a-f]+"),
    ("might sleep", False, r"BUG: sleeping function called from invalid context"),
    ("might sleep", False, r"BUG: scheduling in a non-blocking section"),
    ("might sleep", False, r"BUG: assuming "),
    ("preemption", False, r"BUG: using \S+ in preemptible"),
    # The kernel has races of its own, which is not ours to judge: those of the series.
    ("KCSAN", False, rf"BUG: KCSAN: .*\b_*(?:{OURS})"),
    ("lockdep", False, r"WARNING: possible (?:circular|recursive) locking"),
    ("lockdep", False, r"WARNING: possible irq lock inversion"),
    ("lockdep", False, r"WARNING: .*-safe -> .*-unsafe lock order detected"),
    ("lockdep", False, r"WARNING: inconsistent lock state"),
    ("lockdep", False, r"WARNING: bad (?:unlock balance|contention) detected"),
    ("lockdep", False, r"WARNING: held lock freed"),
    ("lockdep", False, r"WARNING: .+/\d+ still has locks held"),
    ("lockdep", False, r"WARNING: lock held when returning to user space"),
    ("lockdep", False, r"WARNING: Nested lock was not taken"),
    ("lockdep", False, r"\[ INFO: .*(?:lock|dependency).* \]"),
    ("lockdep", False, r"\[ BUG: .*(?:lock|contention|wait context).* \]"),
    ("lockdep", False, r"INFO: possible "),
    ("lockdep", False, r"INFO: trying to register non-static key"),
    ("lockdep", False, r"BUG: (?:MAX_\w+ too low|key .+ (?:not in|has not been)|looking up )"),
    ("lockdep", False, r"BUG: workqueue leaked lock or atomic"),
    ("RCU usage", False, r"WARNING: suspicious RCU usage"),
    ("RCU usage", False, r"(?:\[ )?INFO: suspicious RCU usage"),
    ("UBSAN", False, r"UBSAN: "),
    ("kmemleak", False, r"kmemleak: \d+ new suspected memory leaks"),
    ("debug objects", False, r"ODEBUG: (?!\d+ of \d+ active objects replaced|selftest passed)"),
    ("list corruption", False, r"list_(?:add|del) corruption"),
    ("slab corruption", False, r"BUG \S+ \(.*\): "),
    ("slab corruption", False, r"Slab corruption|slab error in "),
    ("BUG", True, r"BUG: (?!KCSAN: )"),
    ("warning", False, r"WARNING: (?:CPU: |at )"),
    ("refcount", False, r"refcount_t: "),
    # The stock killer, which no scenario may set off.
    ("out of memory", False, r"\S.* invoked oom-killer"),
)

# What a shell has on the console, its prompt say, may stand before the time stamp.
_STAMP = re.compile(r".*?\[\s*\d+\.\d+\](?:\[[^\]]*\])?\s?")
_LEVEL = re.compile(r"<\d+>")
_PATTERNS = tuple((kind, fatal, re.compile(text)) for kind, fatal, text in _KINDS)


def unstamped(line: str) -> str:
    """A line of the kernel's without what stands before its text."""
    stamp = _STAMP.match(line) or _LEVEL.match(line)
    return line[stamp.end() :] if stamp else line


class Scanner:
    """Takes a log line by line, as it comes."""

    def __init__(self) -> None:
        self._seen = 0

    def feed(self, line: str) -> Splat | None:
        """The report that begins on this line, if one does."""
        number = self._seen
        self._seen += 1
        text = unstamped(line)
        for kind, fatal, pattern in _PATTERNS:
            if pattern.match(text):
                return Splat(kind, fatal, number, line.rstrip())
        return None


def scan(lines: Iterable[str]) -> list[Splat]:
    """Every report in a log."""
    scanner = Scanner()
    return [splat for splat in map(scanner.feed, lines) if splat is not None]
