# SPDX-License-Identifier: GPL-2.0-only
"""Running other programs so that none of them outlives us.

Each child gets a process group of its own.  Whatever ends the wait - Ctrl-C, an
exception, the child itself - the whole group is gone afterwards.  If we are killed
outright, the kernel sends the child a signal, and a guard ends the whole group.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.errors import HarnessError

TERM_GRACE_SECONDS = 2.0
TAIL_LINES = 20
NO_SPACE = os.strerror(errno.ENOSPC)


# What a child gets of our environment: where things are, who the user is, how the
# network is reached.  All else may change what a tool does: ARCH, CC and MAKEFLAGS,
# TAR_OPTIONS, GIT_DIR, ADB_*, CCACHE_*, LC_* and others that nobody can list.
_KEPT = (
    "PATH HOME USER LOGNAME SHELL TMPDIR TERM COLORTERM NO_COLOR DISPLAY XAUTHORITY "
    "WAYLAND_DISPLAY LD_LIBRARY_PATH SSH_AUTH_SOCK SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE "
    "CURL_CA_BUNDLE XDG_CACHE_HOME XDG_RUNTIME_DIR http_proxy https_proxy ftp_proxy all_proxy "
    "no_proxy HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY"
)
KEPT = frozenset(_KEPT.split())
LOCALE = "C.UTF-8"


def environment(added: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every child of ours: what is KEPT, one locale, and ``added``."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    return {**kept, "LC_ALL": LOCALE, **(added or {})}


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What a command did: its exit status (negative: signal) and merged output."""

    argv: tuple[str, ...]
    returncode: int
    output: tuple[str, ...]
    seconds: float


def run(
    argv: Sequence[str | Path],
    *,
    what: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    check: bool = True,
) -> Completed:
    """Run a command to its end, stdout and stderr merged and read line by line.

    ``env`` is added to the usual (environment()); ``log`` receives the output as it comes; ``what``
    names the job in errors.  With ``check`` a failure is a HarnessError that
    shows the last lines; without, the caller judges ``returncode``.
    """
    words = [str(word) for word in argv]
    started = time.monotonic()
    with _log_file(log) as stream, child(words, cwd=cwd, env=env) as process:
        output: list[str] = []
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.rstrip("\n")
            output.append(line)
            if stream is not None:
                stream.write(raw)
            if on_line is not None:
                on_line(line)
        _exited(process, timeout=None)
    returncode = process.returncode
    result = Completed(
        argv=tuple(words),
        returncode=returncode,
        output=tuple(output),
        seconds=time.monotonic() - started,
    )
    if check and returncode != 0:
        raise failure(result, what=what, log=log)
    return result


def passthrough(
    argv: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> int:
    """Run a command on our own terminal and streams; returns its exit status.

    ``env`` is added to the usual.  It stays in our process group, so that Ctrl-C reaches
    it as it reaches us.
    """
    words = [str(word) for word in argv]
    require(words[0])
    with subprocess.Popen(with_parent(words), cwd=cwd, env=environment(env)) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise


def failure(result: Completed, *, what: str, log: Path | None = None) -> HarnessError:
    """The error for a command that failed, with the last lines it printed."""
    if any(NO_SPACE in line for line in result.output[-TAIL_LINES:]):
        return disk_full(what)
    status = (
        f"signal {signal.Signals(-result.returncode).name}"
        if result.returncode < 0
        else f"exit status {result.returncode}"
    )
    return HarnessError(
        f"{what} failed ({status}): {shlex.join(result.argv)}",
        hint=f"the whole output is in {log}" if log else "",
        details=result.output[-TAIL_LINES:],
    )


def disk_full(what: str, *, path: Path | None = None) -> HarnessError:
    """The error for ENOSPC, which every stage can meet."""
    where = f" writing {path}" if path else ""
    return HarnessError(
        f"{what}: the disk is full{where}",
        hint="free some space (`./run clean` removes what was built), then run the same again",
    )


# Reads which groups begin (+) and end (-), and when we are gone ends what is left: first
# politely, since make and gcc then remove what they have half written.
_GUARD = """
trap '' HUP INT TERM
groups=
while read -r sign group; do
	left=
	for one in $groups; do
		[ "$one" = "$group" ] || left="$left $one"
	done
	groups=$left
	[ "$sign" = - ] || groups="$groups $group"
done
for group in $groups; do kill -s TERM -- "-$group"; done
[ -z "$groups" ] || sleep {grace}
for group in $groups; do kill -s KILL -- "-$group"; done
"""


class _Guard:
    """A process that outlives us by moments; one for all children, started with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ear(self) -> int:
        """The descriptor of the pipe that it listens to."""
        with self._lock:
            if self._process is None:
                self._process = self._start()
            assert self._process.stdin is not None
            return self._process.stdin.fileno()

    def tell(self, sign: str, group: int) -> None:
        # Without a guard, killed by somebody, there is still the kernel's signal.
        with suppress(BrokenPipeError):
            os.write(self.ear(), f"{sign} {group}\n".encode())

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sh", "-c", _GUARD.format(grace=TERM_GRACE_SECONDS)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


_guard = _Guard()

# A child tells the guard of itself before it is what it is to be: were that for us to do,
# we might be killed in between.  Its input is the guard's pipe until then.
_ANNOUNCED = '(echo "+ $$" >&0) 2>/dev/null; exec "$@" </dev/null'


def watch(group: int) -> None:
    """Have a child's process group ended if we are killed outright."""
    _guard.tell("+", group)


def forget(group: int) -> None:
    """The group is gone; its number may be given to others."""
    _guard.tell("-", group)


@contextmanager
def child(
    argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process group of its own, gone when the block is left, however it is left."""
    require(argv[0])
    with _signals_held() as held:
        process = subprocess.Popen(
            with_parent(["sh", "-c", _ANNOUNCED, "sh", *argv]),
            cwd=cwd,
            env=environment(env),
            stdin=_guard.ear(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    try:
        watch(process.pid)
        for number in held:
            signal.raise_signal(number)
        yield process
    finally:
        kill_group(process)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def _signals_held() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM instead of acting on them; the list is what came.

    An exception out of Popen() would leave a child that runs and that nobody knows.
    """
    held: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield held
        return
    before = {
        number: signal.signal(number, lambda came, _: held.append(came))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield held
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def kill_group(process: subprocess.Popen[str]) -> None:
    """End the child's process group: SIGTERM, two seconds later SIGKILL; reap the child.

    The child is reaped last: until then its pid, and so the group's id, cannot be
    given to somebody else.
    """
    if process.returncode is not None:
        return
    if not _exited(process, timeout=0):
        os.killpg(process.pid, signal.SIGTERM)
        _exited(process, timeout=TERM_GRACE_SECONDS)
    os.killpg(process.pid, signal.SIGKILL)
    forget(process.pid)
    process.wait()


def _exited(process: subprocess.Popen[str], *, timeout: float | None) -> bool:
    """Wait for the child's end without reaping it; seconds, None for ever."""
    if timeout is None:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return True
    deadline = time.monotonic() + timeout
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def with_parent(argv: Sequence[str]) -> list[str]:
    """``argv`` such that the kernel sends it SIGTERM when we die, even by SIGKILL.

    setpriv (util-linux) does this after the fork; Python's own preexec_fn is not
    safe once rich's refresh thread runs.
    """
    if shutil.which("setpriv") is None:
        return list(argv)
    return ["setpriv", "--pdeathsig", "TERM", "--", *argv]


def require(command: str, *, hint: str = "") -> str:
    """The path of a command that must be there; HarnessError naming it if it is not."""
    path = shutil.which(command)
    if path is None:
        raise HarnessError(
            f"command not found: {command}",
            hint=hint or "`./run doctor` says what is missing and how to install it",
        )
    return path


@contextmanager
def exclusive(path: Path, *, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file; a second run of ours waits here and ``on_wait`` says so."""
    with lock(path, on_wait=on_wait):
        yield


def lock(path: Path, *, shared: bool = False, on_wait: Callable[[], None]) -> IO[str]:
    """Take a lock file, alone or with others; it is held until the stream is closed.

    Nobody of us removes a lock file: another run may wait for it while a third makes
    a new one, and both would have it.  Should a user have removed it, we take the new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        stream = path.open("a")
        try:
            try:
                fcntl.flock(stream, how | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(stream, how)
            if _is_at(stream, path):
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()


def _is_at(stream: IO[str], path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False


@contextmanager
def _log_file(path: Path | None) -> Iterator[IO[str] | None]:
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", errors="replace") as stream:
        yield stream
