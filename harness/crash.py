# SPDX-License-Identifier: GPL-2.0-only
"""The part of a crash on the console that explains it.

A kernel that dies prints registers, hex dumps and, last, the traces of the CPUs
that had nothing to do with it.  What explains the crash is its headline, who ran
on which CPU, and the first frames of that CPU's trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.splat import unstamped

FRAMES = 10
CONTEXT_LINES = 8

# Who and where, as Linux 3.4 and 6.1 print it on arm, arm64 and x86.
_CONTEXT = re.compile(
    r"CPU: \d+ .*|Pid: \d+, comm: .*|Internal error: .*|Oops: .*|Kernel panic .*|"
    r"(?:PC|LR) is at .*|(?:pc|lr) : \w+\+0x.*|RIP: .*|"
    r"BUG: .*|INFO: .*|Workqueue: .*|Process .*\(pid: \d+.*|task:.* state:.*|rcu: .*|"
    r"(?:Read|Write) of size \d+ .*|(?:NMI )?[Bb]acktrace for cpu \d+"
)
# "a from b+0x10/0x20" (arm), "[<c0001234>] (a+0x0/0x8) from ..." (3.4), "a+0x10/0x20" (x86)
_FRAME = re.compile(
    r"\s*(?:[\w.$]+(?: \[\w+\])? from \S+|"
    r"(?:\[<[0-9a-f]+>\] )?\(?[\w.$]+\+0x[0-9a-f]+/0x[0-9a-f]+\)?)"
    r"(?: \[\w+\])?(?: from .*)?\s*$"
)
_CPU = re.compile(r"CPU: (\d+) ")
# A CPU that is found stuck is found by an interrupt: what it was stuck in comes after that
# one's own frames, from which the entry leads back.
_STUCK = re.compile(r"stall|lockup", re.IGNORECASE)
_ENTRY = re.compile(
    r"\s*(?:\[<[0-9a-f]+>\] )?\(?(?:__irq_svc|el1h?_\w*(?:irq|interrupt)|asm_sysvec_\w+|"
    r"asm_common_interrupt|apic_timer_interrupt)\b"
)
MOST_FRAMES = 60

# From here on it is about others.
_OTHERS = re.compile(r"CPU\d+: stopping|(?:Allocated|Freed) by task|---\[ end |Rebooting in ")


def explain(lines: Sequence[str], headline: int) -> tuple[str, ...]:
    """The headline, its context and trace, from a console's ``lines``.

    Empty where there is neither a CPU nor a trace: then there is nothing to choose.
    """
    stuck = _STUCK.search(lines[headline]) is not None
    found = list(_explanation(lines[headline + 1 :], MOST_FRAMES if stuck else FRAMES))
    if not found:
        return ()
    return (lines[headline].rstrip(), *(_from_entry(found) if stuck else found))


def _from_entry(found: Sequence[str]) -> Iterator[str]:
    """The context, and the frames from the interrupt's entry on, if there is one."""
    entries = [number for number, line in enumerate(found) if _ENTRY.match(unstamped(line))]
    first, frames = (entries[0] if entries else 0), 0
    for number, line in enumerate(found):
        is_frame = _FRAME.match(unstamped(line)) is not None
        frames += is_frame and number >= first
        if not is_frame or (number >= first and frames <= FRAMES):
            yield line


def _explanation(lines: Sequence[str], most: int) -> Iterator[str]:
    cpu = None
    context = frames = 0
    for line in lines:
        text = unstamped(line)
        if _OTHERS.match(text):
            return
        if match := _CPU.match(text):
            if cpu not in (None, match[1]):
                return
            cpu = match[1]
        if _FRAME.match(text):
            frames += 1
            yield line.rstrip()
            if frames == most:
                return
        elif _CONTEXT.match(text) and context < CONTEXT_LINES:
            context += 1
            yield line.rstrip()
