# SPDX-License-Identifier: GPL-2.0-only
"""The guest's console: read from the first byte, logged, and watched.

A thread reads all the time, whatever the rest of the harness waits for.  When
the kernel says that something is badly wrong, the emulator is ended within
moments, so that whoever waits for an answer of the guest gets an error at once
and need not run into a timeout.
"""

from __future__ import annotations

import codecs
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pexpect

from harness.crash import explain
from harness.errors import GuestCrash, HarnessError
from harness.process import environment, forget, watch, with_parent
from harness.splat import Scanner, Splat

TAIL_LINES = 20

# After the first line of a report: what it still has to say, and no longer.
REPORT_SECONDS = 1.5
QUIET_SECONDS = 0.3
# The same when the kernel was asked for more: its answer comes from a work queue.
ASKED_REPORT_SECONDS = 5.0
ASKED_QUIET_SECONDS = 1.5

ESCAPE = "\x1d"  # Ctrl-]

# What the guest's shell says to a terminal (ECMA-48).  Shown to a person later, it
# would do there what it was meant to do here: ask where the cursor is, for one.
_TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_]|[\x00-\x08\x0b-\x1f\x7f]")


class Console:
    """A running emulator, seen through its console.  Use ``close()`` to end it."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        halted: str | None = None,
        show_cpus: bytes | None = None,
    ) -> None:
        """Start ``argv``; its output goes to the file ``log`` and to the scanner.

        ``env`` is added to the usual environment.  A line that matches ``halted`` says that
        the guest has switched itself off; the emulator, which may stay, is then ended.
        ``show_cpus`` is what to type so that the kernel shows what each CPU does.
        """
        words = with_parent(argv)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self._argv = tuple(argv)
        self._halted = re.compile(halted) if halted is not None else None
        self._has_halted = False
        self._show_cpus = show_cpus
        self._asked = False
        self._stream = log.open("wb")
        self._scanner = Scanner()
        self._lines: list[str] = []
        self._partial = ""
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._changed = threading.Condition()
        self._last_byte = time.monotonic()
        self._fatal: Splat | None = None
        self._fatal_at = 0.0
        self._verdict = ""
        self._ended = False
        self._closing = False
        self._hands_off = threading.Event()  # set while a person has the console
        try:
            # Any: the stubs know only of text, but this console gives bytes.
            self._child: Any = pexpect.spawn(
                words[0],
                list(words[1:]),
                timeout=None,
                echo=False,
                env=environment(env),
            )
        except pexpect.ExceptionPexpect as error:
            self._stream.close()
            raise HarnessError(
                f"cannot start {argv[0]}: {error}", hint="`./run doctor` says what is missing"
            ) from error
        watch(self.pid)
        self._child.delaybeforesend = None
        self._reader = threading.Thread(target=self._read, name="console", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The emulator's process."""
        return int(self._child.pid)

    @property
    def alive(self) -> bool:
        return not self._ended

    @property
    def silent_for(self) -> float:
        """Seconds since the console's last byte."""
        return time.monotonic() - self._last_byte

    def tail(self, count: int = TAIL_LINES) -> tuple[str, ...]:
        """The last lines of the console."""
        with self._changed:
            partial = _plain(self._partial)
            lines = [*self._lines[-count:], *([partial] if partial else [])]
        return tuple(lines[-count:])

    def has_said(self, text: str) -> bool:
        """Has any line so far held the text?"""
        with self._changed:
            return any(text in line for line in self._lines)

    def wait_for(self, pattern: str, *, timeout: float, silence: float | None = None) -> None:
        """Wait until a line matches.

        Raises GuestCrash on a crash, after ``silence`` seconds without a byte and
        after ``timeout`` seconds; HarnessError if the emulator ends before the
        guest has said anything.
        """
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout
        seen = 0
        while True:
            with self._changed:
                fresh = self._lines[seen:]
                seen = len(self._lines)
                if any(wanted.search(line) for line in fresh):
                    return
                self._changed.wait(0.1)
            self.check()
            if silence is not None and self.silent_for > silence:
                self.give_up(f"the guest has been silent for {silence:.0f} s")
            elif time.monotonic() > deadline:
                self.give_up(f"the guest did not come up within {timeout:.0f} s")

    def raise_if_crashed(self) -> None:
        """Raise GuestCrash if the kernel has said so, or the guest was given up."""
        if self._fatal is not None or self._verdict:
            self._await_end_of_report()
            raise GuestCrash(self._reason(), hint=f"the console is in {self.log}",
                             details=self.report())  # fmt: skip

    def check(self) -> None:
        """Raise if the guest has crashed, or the emulator has ended or was stopped."""
        self.raise_if_crashed()
        if self._closing:
            raise HarnessError("the emulator has been stopped")
        if self._ended:
            self._raise_ended()

    def give_up(self, verdict: str) -> None:
        """End the emulator because the guest is of no use any more, and raise."""
        self.condemn(verdict)
        self.check()

    def condemn(self, verdict: str) -> None:
        """As give_up(), but leave it to the others to find out."""
        if not self._closing:
            self._verdict = self._verdict or verdict
            self._kill()

    def report(self) -> tuple[str, ...]:
        """What explains the crash, else the last lines, the headline among them."""
        if self._fatal is not None:
            with self._changed:
                lines = explain(self._lines, self._fatal.line_number)
            if lines:
                return lines
        lines = self.tail()
        if self._fatal is not None and self._fatal.line not in (line.rstrip() for line in lines):
            lines = (self._fatal.line, "...", *lines[-(TAIL_LINES - 2) :])
        return lines

    def interact(self) -> None:
        """Give the console to the person at the terminal until Ctrl-] or its end."""
        self.check()
        self._hands_off.set()
        self._reader.join()
        try:
            self._child.interact(escape_character=ESCAPE, output_filter=self._filter)
        finally:
            self._hands_off.clear()
            if self._child.isalive():
                self._reader = threading.Thread(target=self._read, name="console", daemon=True)
                self._reader.start()
            else:
                self._end()

    def close(self) -> None:
        """End the emulator.  May be called twice and from any thread."""
        self._closing = True
        self._kill()
        if self._reader is not threading.current_thread():
            self._reader.join(timeout=5)
        with suppress(pexpect.ExceptionPexpect, OSError):
            self._child.close(force=True)
        self._stream.close()

    def _read(self) -> None:
        while not self._hands_off.is_set():
            try:
                self._feed(self._child.read_nonblocking(size=65536, timeout=0.1))
            except pexpect.TIMEOUT:
                pass
            except (pexpect.EOF, OSError, ValueError):
                self._reap()
                self._end()
                return
            fatal = self._fatal
            if fatal is not None and self._report_is_over() and not self._asks_for_cpus(fatal):
                self._kill()

    def _asks_for_cpus(self, fatal: Splat) -> bool:
        """Have a stall explained, once: True if there is an answer to wait for.

        RCU names the task that holds it up, but cannot show one that runs on another CPU.
        """
        if self._show_cpus is None or not fatal.stall or self._asked:
            return False
        self._asked = True
        self._fatal_at = self._last_byte = time.monotonic()
        with suppress(pexpect.ExceptionPexpect, OSError):
            self._child.send(self._show_cpus)
        return True

    def _kill(self) -> None:
        """End the emulator at once; any thread, any number of times.

        Only the thread that reads also reaps: pexpect cannot have two.
        """
        if not self._child.terminated:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Learn how it ended; whoever has left the console has nothing more to say."""
        self._kill()
        forget(self.pid)
        with suppress(pexpect.ExceptionPexpect):
            self._child.wait()

    def _feed(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()
        with self._changed:
            self._last_byte = time.monotonic()
            *complete, self._partial = (self._partial + self._decode(data)).split("\n")
            for line in map(_plain, complete):
                self._lines.append(line)
                if self._halted is not None and self._halted.search(line):
                    self._has_halted = True
                    self._kill()
                splat = self._scanner.feed(line)
                if splat is not None and splat.fatal and self._fatal is None:
                    self._fatal = splat
                    self._fatal_at = time.monotonic()
            self._changed.notify_all()

    def _filter(self, data: bytes) -> bytes:
        self._feed(data)
        return data

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _report_is_over(self) -> bool:
        quiet, most = (
            (ASKED_QUIET_SECONDS, ASKED_REPORT_SECONDS)
            if self._asked
            else (QUIET_SECONDS, REPORT_SECONDS)
        )
        return self.silent_for > quiet or time.monotonic() - self._fatal_at > most

    def _await_end_of_report(self) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended, timeout=REPORT_SECONDS + ASKED_REPORT_SECONDS + 1
            )

    def _reason(self) -> str:
        if self._fatal is not None:
            return f"the guest kernel has crashed ({self._fatal.kind}): {self._fatal.line}"
        return self._verdict

    def _raise_ended(self) -> None:
        """The emulator is gone and nobody asked for it."""
        status = self._child.exitstatus
        spoke = any(re.search(r"Booting Linux|Linux version", line) for line in self._lines)
        spoke = spoke or self._has_halted
        # An emulator that is content has run a guest, one without a console perhaps.
        if spoke or status == 0:
            raise GuestCrash("the guest ended by itself", hint=f"the console is in {self.log}",
                             details=self.tail())  # fmt: skip
        how = (
            f"exit status {status}" if status is not None else f"signal {self._child.signalstatus}"
        )
        raise HarnessError(
            f"{self._argv[0]} ended at start ({how})",
            hint="its message is above; `./run doctor` says what is missing",
            details=self.tail(),
        )


def _plain(line: str) -> str:
    """The line without what is not text."""
    return _TERMINAL.sub("", line)


def on_a_terminal() -> bool:
    """Is there a person who could have the console?"""
    return sys.stdin.isatty() and sys.stdout.isatty()
