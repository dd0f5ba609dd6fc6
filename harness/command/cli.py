# SPDX-License-Identifier: GPL-2.0-only
"""What every task shares: how errors and Ctrl-C end it, and how arguments are read.

invoke would print a traceback for our errors and exit 1 for wrong usage, which
here means "a scenario failed".
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, ParamSpec, TypeVar

from invoke.exceptions import Exit, ParseError
from invoke.main import program

from harness import process, ui
from harness.errors import ExitCode, HarnessError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
TERMINATED = 143

P = ParamSpec("P")
T = TypeVar("T")


def guarded(task: Callable[P, T]) -> Callable[P, T]:
    """Wrap a task: a HarnessError is shown and gives its exit code, never a traceback."""

    @functools.wraps(task)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        signal.signal(signal.SIGTERM, _terminated)
        try:
            return task(*args, **kwargs)
        except HarnessError as error:
            _traceback_if_asked(error)
            ui.show_error(error)
            raise Exit(code=int(error.exit_code)) from error
        except KeyboardInterrupt as error:
            ui.say("interrupted")
            raise Exit(code=INTERRUPTED) from error
        except OSError as error:
            _traceback_if_asked(error)
            ui.show_error(_system_error(error))
            raise Exit(code=int(ExitCode.HARNESS_ERROR)) from error
        except Exit:
            raise
        except Exception as error:
            _traceback_if_asked(error)
            ui.show_error(
                HarnessError(
                    f"internal error: {type(error).__name__}: {error}",
                    hint="run the same again with --debug and report what it shows",
                )
            )
            raise Exit(code=int(ExitCode.HARNESS_ERROR)) from error

    return wrapper


def take_several(task: str, option: str) -> None:
    """Let a task have any number of arguments: those after the first become an option.

    invoke (3.0) has a place for each argument, and no more.
    """
    parse = program.parse_tasks

    def parse_tasks() -> None:
        words = program.core.unparsed
        if words[:1] == [task]:
            program.core.unparsed = [task, *_as_options(words[1:], option, task)]
        parse()

    # Setting an attribute that is a method is a type error.
    setattr(program, "parse_tasks", parse_tasks)  # noqa: B010


def _as_options(words: list[str], option: str, task: str) -> list[str]:
    """``A --x V B C`` as ``A --x V --option=B --option=C``."""
    contexts = program.collection.to_contexts()
    flags = next(one.flags for one in contexts if one.name == task)
    changed: list[str] = []
    first, left = True, iter(words)
    for word in left:
        if word == "--":
            return [*changed, word, *left]
        if word.startswith("-"):
            changed.append(word)
            if word in flags and flags[word].takes_value:
                changed += [value for value in (next(left, None),) if value is not None]
        else:
            changed.append(word if first else f"--{option}={word}")
            first = False
    return changed


def misuse_exits_2() -> None:
    """Wrong options exit 2, not invoke's 1: here 1 says that a scenario failed.

    invoke (3.0) has no setting for it, so the steps of its one program object that
    come after tasks.py is loaded, which calls this, are wrapped.
    """
    for name in ("parse_tasks", "parse_cleanup"):
        # Setting an attribute that is a method is a type error.
        setattr(program, name, _parsing(getattr(program, name)))


def _parsing(step: Callable[[], None]) -> Callable[[], None]:
    def parse() -> None:
        try:
            step()
        except ParseError as error:
            raise Exit(
                f"{error}\n`./run --list` lists the tasks, `./run --help TASK` its options.",
                code=int(ExitCode.HARNESS_ERROR),
            ) from error
        except HarnessError as error:  # what is listed cannot be written
            raise Exit(f"error: {error}", code=int(error.exit_code)) from error

    return parse


def finish(code: int) -> None:
    """End the task with this exit code."""
    if code != 0:
        raise Exit(code=code)


def caller_path(path: str | None) -> str | None:
    """A path as the user meant it: ./run changes to the checkout, the user did not."""
    if path is None or "://" in path:
        return path
    absolute = caller_file(path)
    # A git address such as host:path names no local file and stays as it is.
    return path if ":" in path and not absolute.exists() else str(absolute)


def caller_file(path: str) -> Path:
    """A file as the user meant it, whatever its name looks like."""
    folder = Path(os.environ.get("MMLIMITS_CWD") or Path.cwd())
    if not (folder / path).exists():
        with suppress(RuntimeError):  # there is no such user
            return folder / Path(path).expanduser()
    return folder / path


def words_after_dashes() -> list[str]:
    """The words after ``--``: invoke joins them with spaces, which loses their bounds."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def _traceback_if_asked(error: BaseException) -> None:
    """With invoke's ``--debug``, let the error through as it is."""
    if getattr(program, "core", None) and program.args.debug.value:
        raise error


def _system_error(error: OSError) -> HarnessError:
    path = Path(error.filename) if isinstance(error.filename, str) else None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return process.disk_full("writing", path=path)
    where = f"{path}: " if path else ""
    return HarnessError(
        f"{where}{error.strerror or error}", hint="run the same again with --debug to see where"
    )


def _terminated(_signum: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM unwinds like Ctrl-C, so that every child is ended."""
    raise SystemExit(TERMINATED)
