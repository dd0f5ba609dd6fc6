# SPDX-License-Identifier: GPL-2.0-only
"""What people see while the stages work: one line a stage, with its elapsed time.

Progress goes to stderr, results to stdout, so that ``exec`` and ``--results``
can be piped.  On a terminal a stage is a spinner until it ends; in a log it is
a line at its end and a sign of life twice a minute before that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from harness.errors import HarnessError

SIGN_OF_LIFE_SECONDS = 30.0

console = Console(highlight=False)
progress = Console(stderr=True, highlight=False)


class Stage:
    """The running stage: ``update`` shows what it is at, ``note`` what came of it."""

    def __init__(self, name: str, status: Status | None) -> None:
        self.name = name
        self.result = ""
        self.failed = False
        self._status = status
        self._started = time.monotonic()
        self._shown = self._started

    @property
    def seconds(self) -> float:
        """Elapsed time."""
        return time.monotonic() - self._started

    def update(self, text: str) -> None:
        """Show what the stage is doing now; cheap enough to call for every line."""
        now = time.monotonic()
        if self._status is not None:
            if now - self._shown >= 0.1:
                self._shown = now
                self._status.update(self._line(text))
        elif now - self._shown >= SIGN_OF_LIFE_SECONDS:
            self._shown = now
            progress.print(f"  {self._line(text)}", soft_wrap=True)

    def note(self, text: str) -> None:
        """What the stage's last line says, for example a release or a file count."""
        self.result = text

    def fail(self, text: str) -> None:
        """End as failed although no exception says so."""
        self.failed = True
        self.result = text

    def _line(self, text: str) -> str:
        return f"{self.name:<10} {self.seconds:6.1f} s  {escape(text)}"


@contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Show that the stage ``name`` runs, how long, and how it ended."""
    with _spinner(name) as status:
        current = Stage(name, status)
        try:
            yield current
        except BaseException:
            progress.print(f"[red]✗[/] {name:<10} {current.seconds:6.1f} s")
            raise
        mark = "[red]✗[/]" if current.failed else "[green]✓[/]"
        progress.print(
            f"{mark} {name:<10} {current.seconds:6.1f} s  {escape(current.result)}",
            soft_wrap=True,
        )


@contextmanager
def _spinner(name: str) -> Iterator[Status | None]:
    if not progress.is_terminal:
        yield None
        return
    with progress.status(name) as status:
        yield status


def say(text: str) -> None:
    """One line of plain progress."""
    progress.print(escape(text), soft_wrap=True)


def verbatim(text: str) -> None:
    """One line of progress as it is, tabs too, which rich would make blanks of."""
    progress.file.write(f"{text}\n")


def show_error(error: HarnessError) -> None:
    """One red line that says what is wrong, then what shows it, then what to do."""
    progress.print(f"[bold red]error:[/] [red]{escape(error.what)}[/]", soft_wrap=True)
    for line in error.details:
        progress.print(f"  {escape(line)}", soft_wrap=True)
    if error.hint:
        progress.print(f"[bold]next:[/] {escape(error.hint)}", soft_wrap=True)
