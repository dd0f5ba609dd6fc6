# SPDX-License-Identifier: GPL-2.0-only
"""A command in the guest as a pipe: bytes both ways, as they come.

This is the shell protocol of adb, version 2, on a connection that is open.  Each
piece of a stream is a frame: a byte that says which, a length, the bytes.  One
loop serves all streams, so that whoever reads slowly, or not at all, holds up
nothing else, the deadline least of all.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from collections import defaultdict
from contextlib import suppress

from harness.errors import HarnessError

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
_HEADER = struct.Struct("<BI")

PIECE_BYTES = 32 * 1024
# While more than this waits to be passed on, nothing more is taken.
WAITING_BYTES = 256 * 1024
# What has come before the end, whatever that is, still goes to whoever reads it.
LAST_SECONDS = 1.0
# A terminal becomes ours when the user says fg, which poll() does not tell.
TERMINAL_SECONDS = 0.5
POLL_SECONDS = 60.0

READER_GONE = 128 + signal.SIGPIPE


class Outlet:
    """Where one stream of the command goes: to a file descriptor, or kept."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = fd
        self.data = bytearray()

    @property
    def kept(self) -> str:
        """What has come, where nobody else gets it."""
        return "" if self.fd is not None else self.data.decode("utf-8", errors="replace")

    @property
    def due(self) -> bool:
        """Is there something to pass on?"""
        return self.fd is not None and bool(self.data)

    @property
    def full(self) -> bool:
        return self.fd is not None and len(self.data) > WAITING_BYTES

    def pass_on(self) -> None:
        """Write what can be written at once, poll() having said that some can.

        Raises BrokenPipeError where nobody reads any more.
        """
        assert self.fd is not None
        try:
            # A pipe that is ready takes this much without making us wait.
            written = os.write(self.fd, self.data[: select.PIPE_BUF])
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.data.clear()
            raise
        except OSError as error:
            self.data.clear()
            name = "standard error" if self.fd == 2 else "standard output"
            raise HarnessError(f"cannot write to {name}: {error.strerror}") from error
        del self.data[:written]


class Pipe:
    """One command, from the start of its connection to its exit status."""

    def __init__(
        self, connection: socket.socket, *, stdin: int | None, stdout: Outlet, stderr: Outlet
    ) -> None:
        """``stdin`` is a file descriptor, None an input that is at its end."""
        self._socket = connection
        self._stdin = stdin
        self._outlets = {STDOUT: stdout, STDERR: stderr}
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._status: int | None = None
        self._broken = False
        connection.setblocking(False)
        if stdin is None:
            self._outbox += _HEADER.pack(CLOSE_STDIN, 0)

    def run(self, *, deadline: float) -> int:
        """Serve the streams until the command has ended; returns its exit status.

        When nobody reads what it prints, the command is given up and has the status
        that SIGPIPE would have given it.  Raises TimeoutError at the ``deadline``,
        and ConnectionError when the device goes away; what had come by then is
        passed on in any case.
        """
        try:
            while self._status is None:
                if self._broken:
                    raise ConnectionError("the device closed the connection")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._serve(left)
        except BrokenPipeError:
            return READER_GONE
        finally:
            if self._status is None:
                with suppress(BrokenPipeError):
                    self._pass_on_the_rest(deadline=time.monotonic() + LAST_SECONDS)
        try:
            self._pass_on_the_rest(deadline=None)
        except BrokenPipeError:
            return READER_GONE
        return self._status

    def _serve(self, timeout: float) -> None:
        wanted: defaultdict[int, int] = defaultdict(int)
        if not any(outlet.full for outlet in self._outlets.values()):
            wanted[self._socket.fileno()] |= select.POLLIN
        if self._outbox:
            wanted[self._socket.fileno()] |= select.POLLOUT
        elif self._stdin is not None:
            if _in_the_background(self._stdin):
                timeout = min(timeout, TERMINAL_SECONDS)
            else:
                wanted[self._stdin] |= select.POLLIN
        for outlet in self._outlets.values():
            if outlet.fd is not None and outlet.due:
                wanted[outlet.fd] |= select.POLLOUT
        happened = _poll(wanted, timeout)
        # First what has come: it may have been the last.
        for outlet in self._outlets.values():
            if outlet.fd is not None and outlet.due and happened.get(outlet.fd):
                outlet.pass_on()
        if happened.get(self._socket.fileno(), 0) & ~select.POLLOUT:
            self._receive()
        if happened.get(self._socket.fileno(), 0) & select.POLLOUT:
            self._send()
        if self._stdin is not None and not self._outbox and happened.get(self._stdin):
            self._read_stdin(self._stdin)

    def _receive(self) -> None:
        try:
            piece = self._socket.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._broken = not piece
        self._inbox += piece
        while self._status is None and len(self._inbox) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._inbox)
            end = _HEADER.size + length
            if len(self._inbox) < end:
                return
            data = self._inbox[_HEADER.size : end]
            del self._inbox[:end]
            if kind in self._outlets:
                self._outlets[kind].data += data
            elif kind == EXIT and data:
                self._status = data[0]

    def _send(self) -> None:
        try:
            del self._outbox[: self._socket.send(self._outbox)]
        except BlockingIOError:
            return
        except OSError:
            # The command needs no more input; how it ended is still to be read.
            self._outbox.clear()
            self._stdin = None

    def _read_stdin(self, fd: int) -> None:
        try:
            data = os.read(fd, PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # a folder, or a terminal that is gone
            data = b""
        if data:
            self._outbox += _HEADER.pack(STDIN, len(data)) + data
        else:
            self._outbox += _HEADER.pack(CLOSE_STDIN, 0)
            self._stdin = None

    def _pass_on_the_rest(self, *, deadline: float | None) -> None:
        """Give the readers what has come for them, and time to take it (None: any)."""
        while due := [outlet for outlet in self._outlets.values() if outlet.due]:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            happened = _poll({outlet.fd or 0: select.POLLOUT for outlet in due}, left)
            for outlet in due:
                if happened.get(outlet.fd or 0):
                    outlet.pass_on()


def _poll(wanted: dict[int, int], timeout: float | None) -> dict[int, int]:
    poll = select.poll()
    for fd, events in wanted.items():
        poll.register(fd, events)
    # The caller looks at its deadline again; milliseconds have to fit into an int.
    seconds = POLL_SECONDS if timeout is None else min(timeout, POLL_SECONDS)
    return dict(poll.poll(max(1, int(seconds * 1000))))


def _in_the_background(fd: int) -> bool:
    """Is it a terminal that others read now?  To read it would stop us (SIGTTIN)."""
    with suppress(OSError):
        return os.isatty(fd) and os.tcgetpgrp(fd) != os.getpgrp()
    return False
