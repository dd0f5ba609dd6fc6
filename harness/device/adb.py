# SPDX-License-Identifier: GPL-2.0-only
"""adb: a server of our own, and what the harness does on a device through it.

The server listens on a port of its own and keeps its files in the run's folder,
so that it never meets the user's: nothing of theirs is listed, stopped or asked.
"""

from __future__ import annotations

import os
import shlex
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness import process
from harness.device.device import ShellResult
from harness.device.pipe import Outlet, Pipe
from harness.errors import HarnessError
from harness.users import app_uid

if TYPE_CHECKING:  # importing it takes longer than starting a task may
    from adbutils import AdbDevice

START_SECONDS = 10.0
# Somebody else may take a port between our look and adb's.
PORT_TRIES = 5
CONNECT_SECONDS = 20.0
RETRY_SECONDS = 0.1
# How long a file transfer may stand still.
STALL_SECONDS = 30.0

# Left to itself, a server takes every emulator and USB device that it finds.
NOTHING_BY_ITSELF = {"ADB_EMU": "0", "ADB_USB": "0", "ADB_MDNS": "0"}

# What adbutils' sync raises, besides its own AdbError, where the device goes away
# in the middle of a file: it unpacks and asserts what it has not received.
BROKEN_SYNC = (OSError, EOFError, AssertionError, struct.error)

# What the sync protocol allows for one piece of a file.
PIECE_BYTES = 64 * 1024

# The name of a service has its length before it, in four hexadecimal digits.
MAX_SERVICE_BYTES = 0xFFFF

# What STAT of the sync protocol answers: its name, mode, size and time.
STAT_ANSWER = struct.Struct("<4sIII")

# The sync protocol has seconds since 1970 in 32 bits: until 2106.
MAX_MTIME = 0xFFFFFFFF


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(pid: int, port: int) -> bool:
    """Is it this process that listens at this port of 127.0.0.1 (proc_pid_net(5))?"""
    address = f"0100007F:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1] == address and row[3] == "0A"}
    with suppress(OSError):
        return any(os.readlink(link) in inodes for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _su_guest(user: str, command: str) -> str:
    """Our guest's su knows names and numbers."""
    return shlex.join(["su", user, "-c", f"exec {command}"])


def _su_android(user: str, command: str) -> str:
    """Android's su wants a uid: that of u0_aN is 10000 + N."""
    uid = app_uid(user)
    return shlex.join(["su", user if uid is None else str(uid), "sh", "-c", f"exec {command}"])


@dataclass(frozen=True)
class UserSpace:
    """How commands are given to what runs on the kernel.

    ``su`` makes a command of another user's: (user, command) to command.  What is
    before a command that is ``urgent`` lets it run before all others, if there is such.
    """

    su: Callable[[str, str], str]
    urgent: str = ""


OURS = UserSpace(su=_su_guest, urgent="urgent ")  # guest/sh
ANDROID = UserSpace(su=_su_android)


class AdbServer:
    """A private adb server; a child of ours, gone when we are."""

    def __init__(self, folder: Path) -> None:
        process.require("adb")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._log = (folder / "adb.log").open("ab")
        for _ in range(PORT_TRIES):
            self.port = free_port()
            self._process = self._spawn()
            try:
                if self._started():
                    return
            except BaseException:
                self.close()
                raise
            process.kill_group(self._process)
        self.close()
        raise HarnessError(
            "adb did not start its server", hint=f"its output is in {self._log.name}"
        )

    def close(self) -> None:
        """Stop the server.  May be called twice."""
        process.kill_group(self._process)
        self._log.close()

    def _spawn(self) -> subprocess.Popen[str]:
        folder = str(self._folder)
        server = subprocess.Popen(
            process.with_parent(["adb", "-P", str(self.port), "nodaemon", "server"]),
            env=process.environment(
                {**NOTHING_BY_ITSELF, "HOME": folder, "ANDROID_USER_HOME": folder}
            ),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        process.watch(server.pid)
        return server

    def _started(self) -> bool:
        """Wait until it listens; False if it ended, its port having been taken say."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                # Somebody else may be the one who answers.
                return _listens(self._process.pid, self.port)
            if self._process.poll() is not None:
                return False
            time.sleep(RETRY_SECONDS / 5)
        return False


class AdbLink:
    """One device, reached through the server at a port of 127.0.0.1."""

    def __init__(self, port: int, serial: str, *, user_space: UserSpace = OURS) -> None:
        # adbutils starts a server at the default port where it finds none.
        os.environ["ADBUTILS_ADB_PATH"] = "false"
        from adbutils import AdbClient

        self.serial = serial
        self._user_space = user_space
        self._client = AdbClient(host="127.0.0.1", port=port, socket_timeout=STALL_SECONDS)

    def connect(
        self, *, timeout: float = CONNECT_SECONDS, check: Callable[[], None] = lambda: None
    ) -> None:
        """Connect to a device at HOST:PORT; it may still be about to listen.

        ``check`` raises if there is no use in trying on.
        """
        deadline = time.monotonic() + timeout
        while True:
            answer = self._ask_to_connect()
            if answer.startswith(("connected to", "already connected")):
                return
            check()
            if time.monotonic() > deadline:
                raise HarnessError(f"adb cannot connect to {self.serial}: {answer}")
            time.sleep(RETRY_SECONDS)

    def restart_as_root(self) -> None:
        """Have Android's adbd run as root, which ends the connection.

        Raises HarnessError where the image does not allow it.
        """
        from adbutils import AdbError

        try:
            with self._device().open_transport(timeout=STALL_SECONDS) as connection:
                connection.send_command("root:")
                connection.check_okay()
                answer = connection.read_until_close()
        except (AdbError, OSError) as error:
            raise HarnessError(f"adb root: {error}") from error
        if "root" not in answer or "cannot" in answer:
            raise HarnessError(
                f"adb root: {answer.strip()}", hint="take a system image without Google APIs"
            )

    def answers(self, *, timeout: float) -> None:
        """Ask the device's adbd itself for an answer; no program has to run for it.

        Raises HarnessError or OSError if none comes within ``timeout`` seconds.
        """
        from adbutils import AdbError

        try:
            self._size("/", timeout=timeout)
        except (AdbError, EOFError) as error:
            raise ConnectionError(str(error)) from error

    def shell(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        user: str | None = None,
        urgent: bool = False,
    ) -> ShellResult:
        """Run ``argv``, its input empty, and wait for its end; seconds.

        With ``urgent``, our guest runs it before all usual processes.

        Raises HarnessError when it takes longer, and OSError when the connection
        breaks.
        """
        stdout, stderr = Outlet(), Outlet()
        started = time.monotonic()
        status = self._run(
            (self._user_space.urgent if urgent else "") + self._command(argv, user),
            stdin=None,
            stdout=stdout,
            stderr=stderr,
            timeout=timeout,
        )
        return ShellResult(
            argv=tuple(argv),
            returncode=status,
            stdout=stdout.kept,
            stderr=stderr.kept,
            seconds=time.monotonic() - started,
        )

    def pipe(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        user: str | None = None,
        stdin: int,
        stdout: int,
        stderr: int,
    ) -> int:
        """Run ``argv`` between three file descriptors; returns its exit status.

        Raises as shell() does; what the command had printed by then has been passed
        on.  Where nobody reads that any more, the status is that of SIGPIPE.
        """
        return self._run(
            self._command(argv, user),
            stdin=stdin,
            stdout=Outlet(stdout),
            stderr=Outlet(stderr),
            timeout=timeout,
        )

    def push(self, local: Path, remote: str, *, mode: int) -> None:
        """Copy a file to the device and see that all of it is there."""
        from adbutils import AdbError

        try:
            with local.open("rb") as file:
                self._send(file, remote, mode=mode)
            size = self._size(remote)
        except (AdbError, *BROKEN_SYNC) as error:
            reason = _reason(error).removeprefix(f"{remote}: ")
            full = "the board's memory is -m in configs/kernels.toml"
            raise HarnessError(
                f"cannot push {local} to {remote}: {reason}",
                hint=full if process.NO_SPACE in reason else "",
            ) from error
        if size != local.stat().st_size:
            raise HarnessError(
                f"cannot push {local} to {remote}: {size} of {local.stat().st_size} bytes came"
            )

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from the device; it gets its name when it is complete."""
        from adbutils import AdbError

        partial = local.with_name(local.name + ".part")
        try:
            if self._device().sync.stat(remote).mode == 0:
                raise HarnessError(f"cannot pull {remote}: there is no such file in the guest")
            self._device().sync.pull(remote, partial)
            partial.replace(local)
        except (AdbError, *BROKEN_SYNC) as error:
            raise HarnessError(f"cannot pull {remote} to {local}: {_reason(error)}") from error
        finally:
            partial.unlink(missing_ok=True)

    def _device(self) -> AdbDevice:
        return self._client.device(serial=self.serial)

    def _send(self, file: IO[bytes], remote: str, *, mode: int) -> None:
        """Send a file; AdbError holds the device's reason if it would not have it.

        adbutils' own push (2.12) does not read the reason.
        """
        from adbutils import AdbError

        with self._device().open_transport(timeout=STALL_SECONDS) as connection:
            connection.send_command("sync:")
            connection.check_okay()
            target = os.fsencode(f"{remote},{stat.S_IFREG | mode}")
            connection.conn.sendall(_sync_header(b"SEND", len(target)) + target)
            while piece := file.read(PIECE_BYTES):
                connection.conn.sendall(_sync_header(b"DATA", len(piece)) + piece)
            written = int(os.fstat(file.fileno()).st_mtime)
            mtime = min(max(written, 0), MAX_MTIME)
            connection.conn.sendall(_sync_header(b"DONE", mtime))
            answer = connection.read_exact(4)
            length = int.from_bytes(connection.read_exact(4), "little")
            if answer != b"OKAY":
                raise AdbError(_text(connection.read_exact(length)))

    def _ask_to_connect(self) -> str:
        from adbutils import AdbError

        try:
            return str(self._client.connect(self.serial, timeout=5))
        except (AdbError, OSError) as error:
            return str(error)

    def _size(self, remote: str, *, timeout: float | None = None) -> int:
        """Bytes of a file on the device.

        adbutils' stat (2.12) has no names that are not UTF-8.
        """
        with self._device().open_transport(timeout=timeout or STALL_SECONDS) as connection:
            connection.send_command("sync:")
            connection.check_okay()
            name = os.fsencode(remote)
            connection.conn.sendall(_sync_header(b"STAT", len(name)) + name)
            answer = STAT_ANSWER.unpack(connection.read_exact(STAT_ANSWER.size))
            return int(answer[2])

    def _command(self, argv: Sequence[str], user: str | None) -> str:
        command = shlex.join(argv)
        return command if user is None else self._user_space.su(user, command)

    def _run(
        self,
        command: str,
        *,
        stdin: int | None,
        stdout: Outlet,
        stderr: Outlet,
        timeout: float,
    ) -> int:
        from adbutils import AdbError, AdbTimeout

        service = os.fsencode(f"shell,v2,raw:{command}")
        if len(service) > MAX_SERVICE_BYTES:
            raise HarnessError(
                f"the command is too long: {len(service)} bytes, and adb takes {MAX_SERVICE_BYTES}",
                hint="put it into a file and push that",
            )
        deadline = time.monotonic() + timeout
        patience = min(max(timeout, RETRY_SECONDS), STALL_SECONDS)
        try:
            with self._device().open_transport(timeout=patience) as connection:
                connection.conn.sendall(b"%04x" % len(service) + service)
                connection.check_okay()
                pipe = Pipe(connection.conn, stdin=stdin, stdout=stdout, stderr=stderr)
                return pipe.run(deadline=deadline)
        except (AdbTimeout, TimeoutError) as error:
            raise HarnessError(
                f"'{command}' did not end within {timeout:.0f} s in the guest",
                details=(stdout.kept + stderr.kept).splitlines()[-10:],
            ) from error
        except AdbError as error:
            raise ConnectionError(str(error)) from error


def _reason(error: Exception) -> str:
    """Why a transfer failed; an error of adbutils may say nothing."""
    from adbutils import AdbTimeout

    if isinstance(error, AdbTimeout | TimeoutError):
        return f"nothing has moved for {STALL_SECONDS:.0f} s"
    return str(error) or "the device closed the connection"


def _sync_header(name: bytes, number: int) -> bytes:
    return name + number.to_bytes(4, "little")


def _text(data: bytes | bytearray) -> str:
    return bytes(data).decode("utf-8", errors="replace")
