# SPDX-License-Identifier: GPL-2.0-only
"""adb: a server of our own, and what the harness does on a device through it.

The server listens on a port of its own and keeps its files in the run's folder,
so that it never meets the user's: nothing of theirs is listed, stopped or asked.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness import process
from harness.device import ShellResult
from harness.errors import HarnessError
from harness.rootfs import FIRST_APP_UID

if TYPE_CHECKING:  # importing it takes longer than starting a task may
    from adbutils import AdbClient, AdbDevice
    from adbutils._adb import AdbConnection

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

# Frames of the shell protocol, version 2: what they hold.
STDOUT, STDERR, EXIT = 1, 2, 3
FRAME_HEADER_BYTES = 5

# What the sync protocol allows for one piece of a file.
PIECE_BYTES = 64 * 1024


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


# Makes a shell command of one user's: (user, command) to command.
Su = Callable[[str, str], str]


def su_busybox(user: str, command: str) -> str:
    """As another user by busybox's su, which knows users by name."""
    return shlex.join(["su", user, "-c", f"exec {command}"])


def su_android(user: str, command: str) -> str:
    """As another user by Android's su, which wants a uid: that of u0_aN is 10000 + N."""
    match = re.fullmatch(r"u0_a(\d+)", user)
    uid = FIRST_APP_UID + int(match[1]) if match else user
    return shlex.join(["su", str(uid), "sh", "-c", f"exec {command}"])


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

    def client(self) -> AdbClient:
        """A client of adbutils for this server."""
        # adbutils starts a server at the default port where it finds none.
        os.environ.setdefault("ADBUTILS_ADB_PATH", "false")
        from adbutils import AdbClient

        return AdbClient(host="127.0.0.1", port=self.port, socket_timeout=STALL_SECONDS)

    def close(self) -> None:
        """Stop the server.  May be called twice."""
        process.kill_group(self._process)
        self._log.close()

    def _spawn(self) -> subprocess.Popen[str]:
        folder = str(self._folder)
        return subprocess.Popen(
            process.with_parent(["adb", "-P", str(self.port), "nodaemon", "server"]),
            env={**os.environ, **NOTHING_BY_ITSELF, "HOME": folder, "ANDROID_USER_HOME": folder},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )

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
    """One device, reached through a server."""

    def __init__(self, server: AdbServer, serial: str, *, su: Su = su_busybox) -> None:
        self.serial = serial
        self._su = su
        self._client = server.client()

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

    def shell(self, argv: Sequence[str], *, timeout: float, user: str | None = None) -> ShellResult:
        """Run ``argv`` and wait for its end; seconds.

        Raises HarnessError when it takes longer, and OSError when the connection
        breaks.
        """
        command = shlex.join(argv)
        if user is not None:
            command = self._su(user, command)
        started = time.monotonic()
        output: dict[int, bytearray] = {STDOUT: bytearray(), STDERR: bytearray()}
        try:
            status = self._run(command, output, deadline=started + timeout)
        except TimeoutError as error:
            seen = _text(output[STDOUT]) + _text(output[STDERR])
            raise HarnessError(
                f"'{command}' did not end within {timeout:.0f} s in the guest",
                details=seen.splitlines()[-10:],
            ) from error
        return ShellResult(
            argv=tuple(argv),
            returncode=status,
            stdout=_text(output[STDOUT]),
            stderr=_text(output[STDERR]),
            seconds=time.monotonic() - started,
        )

    def push(self, local: Path, remote: str, *, mode: int) -> None:
        """Copy a file to the device and see that all of it is there."""
        from adbutils import AdbError

        try:
            with local.open("rb") as file:
                self._send(file, remote, mode=mode)
            size = self._device().sync.stat(remote).size
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
            target = f"{remote},{stat.S_IFREG | mode}".encode()
            connection.conn.sendall(_sync_header(b"SEND", len(target)) + target)
            while piece := file.read(PIECE_BYTES):
                connection.conn.sendall(_sync_header(b"DATA", len(piece)) + piece)
            written = int(os.fstat(file.fileno()).st_mtime)
            connection.conn.sendall(_sync_header(b"DONE", written))
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

    def _run(self, command: str, output: dict[int, bytearray], *, deadline: float) -> int:
        from adbutils import AdbError, AdbTimeout

        try:
            left = max(deadline - time.monotonic(), RETRY_SECONDS)
            with self._device().open_transport(timeout=left) as connection:
                connection.send_command(f"shell,v2,raw:{command}")
                connection.check_okay()
                return _read_frames(connection, output, deadline=deadline)
        except AdbTimeout as error:
            raise TimeoutError from error
        except AdbError as error:
            raise ConnectionError(str(error)) from error


def _read_frames(
    connection: AdbConnection, output: dict[int, bytearray], *, deadline: float
) -> int:
    """Collect the output of a shell until its exit status; returns that."""
    while True:
        kind, *length = _exactly(connection, FRAME_HEADER_BYTES, deadline=deadline)
        data = _exactly(connection, int.from_bytes(bytes(length), "little"), deadline=deadline)
        if kind == EXIT:
            return data[0]
        if kind in output:
            output[kind] += data


def _exactly(connection: AdbConnection, count: int, *, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.conn.settimeout(left)
        piece = connection.conn.recv(count - len(data))
        if not piece:
            raise ConnectionError("the device closed the connection")
        data += piece
    return bytes(data)


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
