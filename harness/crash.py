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
    r"(?:Read|Write) of size \d+ .*|(?:NMI |IPI )?[Bb]acktrace for cpu \d+"
)
# "a from b+0x10/0x20" (arm), "[<c0001234>] (a+0x0/0x8) from ..." (3.4), "a+0x10/0x20" (x86)
_FRAME = re.compile(
    r"\s*(?:[\w.$]+(?: \[\w+\])? from \S+|"
    r"(?:\[<[0-9a-f]+>\] )?\(?[\w.$]+\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\w+\]\))?\)?)"
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
# The CPUs as the kernel shows them when it is asked to (SysRq l), one after the other.
_ASKED = re.compile(r"(?:sysrq: |SysRq : )Show backtrace of all active CPUs")
_ONE_CPU = re.compile(r"(?:NMI |IPI )?[Bb]acktrace for cpu \d+|(?:sysrq: )?CPU\d+:")
_IDLE = re.compile(r"Comm: swapper|\b(?:do_idle|cpu_idle|cpu_startup_entry|rest_init)\b")

# From here on it is about others.
_OTHERS = re.compile(r"CPU\d+: stopping|(?:Allocated|Freed) by task|---\[ end |Rebooting in ")


def explain(lines: Sequence[str], headline: int) -> tuple[str, ...]:
    """The headline, its context and trace, from a console's ``lines``.

    Empty where there is neither a CPU nor a trace: then there is nothing to choose.
    """
    rest = lines[headline + 1 :]
    if _STUCK.search(lines[headline]):
        found = list(_stuck(rest))
    else:
        found = list(_explanation(rest, FRAMES))
    return (lines[headline].rstrip(), *found) if found else ()


def _stuck(lines: Sequence[str]) -> Iterator[str]:
    """What holds a CPU up: by the report itself, else by the CPUs that were asked for.

    A report's own trace is of use if an interrupt of that CPU made it.  Of a task that runs
    on another one there is none, or what it did when it last slept.
    """
    texts = [unstamped(line) for line in lines]
    asked = next((n for n, text in enumerate(texts) if _ASKED.match(text)), len(lines))
    own = list(_explanation(lines[:asked], MOST_FRAMES))
    if any(map(_ENTRY.match, texts[:asked])) or any(map(_ONE_CPU.match, texts[:asked])):
        yield from _from_entry(own)
        return
    shown = next(filter(None, map(_busy, _by_cpu(lines[asked:]))), [])
    yield from (line for line in own if not (shown and _FRAME.match(unstamped(line))))
    yield from _from_entry(shown)


def _busy(part: Sequence[str]) -> list[str]:
    """What a CPU that was asked for does, if it does anything."""
    found = [] if any(map(_IDLE.search, part)) else list(_explanation(part, MOST_FRAMES))
    return found if any(_FRAME.match(unstamped(line)) for line in found) else []


def _by_cpu(lines: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = []
    for line in lines:
        if _ONE_CPU.match(unstamped(line)):
            parts.append([])
        if parts:
            parts[-1].append(line)
    return parts


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
