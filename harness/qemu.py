# SPDX-License-Identifier: GPL-2.0-only
"""QEMU as a device: boots a kernel with our initramfs and answers adb."""

from __future__ import annotations

import atexit
import shlex
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness import process
from harness.adb import AdbLink, AdbServer, free_port
from harness.console import Console, on_a_terminal
from harness.device import ShellResult
from harness.errors import GuestCrash, HarnessError
from harness.kernels import Board, Target

GUEST_ADB_PORT = 5555
READY = "guest: ready"

# From the start of QEMU to adbd, under TCG on a busy machine; usually 2 to 4 s.
BOOT_SECONDS = 60.0
# A debug kernel takes half a minute, and on a busy machine more.
DEBUG_BOOT_SECONDS = 240.0
# A kernel that hangs says nothing; a slow one goes on talking.
SILENT_SECONDS = 20.0

# A guest that has work to do still answers within a second or two.
HEARTBEAT_SECONDS = 2.0
HEARTBEAT_PATIENCE_SECONDS = 10.0

# Somebody else may take a port between our look and QEMU's.
PORT_TRIES = 5
PORT_TAKEN = "Could not set up host forwarding rule"


@dataclass(frozen=True, kw_only=True)
class BootRequest:
    """What to boot, and how.

    ``run_dir`` receives the console's log; ``cpus`` None is the board's default;
    ``port`` None is any free port of 127.0.0.1; ``memory`` (MB) None is the board's
    default; ``patience`` is how many seconds the boot may take, None what is usual for
    the kernel.  Without ``heartbeat`` nobody asks the guest whether it lives, which a
    measurement needs; with ``icount`` its clock counts instructions, one a
    nanosecond, on one CPU.
    """

    target: Target
    image: Path
    initramfs: Path
    run_dir: Path
    cpus: int | None = None
    accel: str = "tcg"
    extra_append: str = ""
    port: int | None = None
    memory: int | None = None
    patience: float | None = None
    heartbeat: bool = True
    icount: bool = False


def boot(request: BootRequest) -> QemuDevice:
    """Start QEMU and wait until the guest has answered a first adb shell.

    Raises GuestCrash if the kernel crashes or says nothing, HarnessError if QEMU
    cannot be started or a port that was asked for is taken.
    """
    process.require(_program(request.target.board))
    for path in (request.image, request.initramfs):
        if not path.is_file():
            raise HarnessError(f"there is no {path}", hint="`./run build` makes it")
    if request.port is not None:
        _require_free(request.port)
    for attempt in range(PORT_TRIES):
        device = QemuDevice(request, port=request.port or free_port())
        try:
            device.start()
        except HarnessError as error:
            device.close()
            taken = any(PORT_TAKEN in line for line in error.details)
            if not taken or request.port is not None or attempt == PORT_TRIES - 1:
                raise
        except BaseException:
            device.close()
            raise
        else:
            return device
    raise AssertionError("unreachable")


def command_line(request: BootRequest, *, port: int) -> list[str]:
    """QEMU's arguments; the guest reaches nothing but what connects to it."""
    board = request.target.board
    forward = f"hostfwd=tcp:127.0.0.1:{port}-:{GUEST_ADB_PORT}"
    return [
        _program(board),
        *board.qemu_args,
        *_memory_arguments(request),
        *_cpu_arguments(request),
        *("-nographic", "-no-reboot"),
        *("-kernel", str(request.image)),
        *("-initrd", str(request.initramfs)),
        *("-append", f"{board.append} {request.extra_append}".strip()),
        *("-netdev", f"user,id=net0,restrict=on,{forward}"),
        *board.net_args,
    ]


def _program(board: Board) -> str:
    if board.qemu is None:
        raise HarnessError(
            f"QEMU has no board like {board.name}: kernels for it can only be built here",
            hint="boot its image by the means of that board, or choose another --board",
        )
    return board.qemu


def _memory_arguments(request: BootRequest) -> list[str]:
    target = request.target
    memory = request.memory or (target.board.debug.memory if target.debug else 0)
    return ["-m", str(memory)] if memory else []


def _cpu_arguments(request: BootRequest) -> list[str]:
    """Instructions can only be counted by TCG, on one CPU and in one thread."""
    if request.icount:
        return ["-smp", "1", "-accel", "tcg", "-icount", "shift=0"]
    board = request.target.board
    thread = f",thread={board.tcg_thread}" if request.accel == "tcg" else ""
    cpus = request.cpus or (board.debug.cpus if request.target.debug else board.cpus)
    return ["-smp", str(cpus), "-accel", request.accel + thread]


class QemuDevice:
    """A guest in QEMU (see harness.device.Device)."""

    name = "qemu"

    def __init__(self, request: BootRequest, *, port: int) -> None:
        self.accel = request.accel
        self.serial = f"127.0.0.1:{port}"
        self.boot_seconds = 0.0
        self._request = request
        self._argv = command_line(request, port=port)
        self._console: Console | None = None
        self._server: AdbServer | None = None
        self._link: AdbLink | None = None
        self._closing = threading.Event()
        self._heart: threading.Thread | None = None

    @property
    def adb_server_port(self) -> int:
        """The port of our adb server, for a client of the user's."""
        assert self._server is not None
        return self._server.port

    def start(self) -> None:
        """Boot; returns when the guest has answered."""
        atexit.register(self.close)
        run_dir = self._request.run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "command").write_text(shlex.join(self._argv) + "\n", encoding="utf-8")
        started = time.monotonic()
        self._console = Console(self._argv, log=run_dir / "console.log")
        self._server = AdbServer(run_dir / "adb")
        usual = DEBUG_BOOT_SECONDS if self._request.target.debug else BOOT_SECONDS
        patience = self._request.patience or usual
        self._console.wait_for(READY, timeout=patience, silence=SILENT_SECONDS)
        self._link = AdbLink(self._server, self.serial)
        try:
            self._link.connect(check=self._console.check)
            self._link.shell(["true"], timeout=20)
        except (HarnessError, OSError) as error:
            self._console.check()
            raise GuestCrash(
                f"the guest has booted but does not answer adb: {error}",
                details=self._console.tail(),
            ) from error
        self.boot_seconds = time.monotonic() - started
        if self._request.heartbeat:
            self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._heart.start()

    def shell(self, argv: Sequence[str], *, timeout: float, user: str | None = None) -> ShellResult:
        """See Device.shell()."""
        self.check()
        assert self._link is not None
        try:
            return self._link.shell(argv, timeout=timeout, user=user)
        except HarnessError:
            self.check()
            raise
        except OSError as error:
            raise self._broken(error) from error

    def push(self, local: Path, remote: str, *, mode: int = 0o755) -> None:
        """See Device.push()."""
        self.check()
        assert self._link is not None
        if not local.is_file():
            raise HarnessError(f"cannot push {local}: there is no such file")
        try:
            self._link.push(local, remote, mode=mode)
        except HarnessError:
            self.check()
            raise

    def pull(self, remote: str, local: Path) -> None:
        """See Device.pull()."""
        self.check()
        assert self._link is not None
        try:
            self._link.pull(remote, local)
        except HarnessError:
            self.check()
            raise

    def check(self) -> None:
        """See Device.check()."""
        if self._console is None:
            raise HarnessError("the device has been stopped")
        self._console.check()

    def interact(self) -> int:
        """Give the console to the user; returns an exit status.

        A guest that the user has powered off is no error, one that crashed is.
        """
        assert self._console is not None
        if not on_a_terminal():
            raise HarnessError(
                "the console needs a terminal", hint="`./run exec -- COMMAND` does not"
            )
        self._stop_heart()
        self._console.interact()
        self._console.raise_if_crashed()
        return 0

    def close(self) -> None:
        """See Device.close()."""
        # First QEMU: a heartbeat that waits for an answer then need not wait longer.
        self._closing.set()
        if self._console is not None:
            self._console.close()
        if self._server is not None:
            self._server.close()
        self._stop_heart()
        atexit.unregister(self.close)

    def __enter__(self) -> QemuDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _broken(self, error: OSError) -> HarnessError:
        """Why the connection broke: mostly because the guest is no more."""
        assert self._console is not None
        with suppress(GuestCrash):
            # The console may need a moment to say so.
            deadline = time.monotonic() + 1
            while self._console.alive and time.monotonic() < deadline:
                self._console.check()
                time.sleep(0.05)
        self.check()
        return HarnessError(
            f"adb lost the guest: {error}",
            hint=f"the console is in {self._console.log}",
            details=self._console.tail(),
        )

    def _stop_heart(self) -> None:
        self._closing.set()
        if self._heart is not None and self._heart is not threading.current_thread():
            self._heart.join(timeout=HEARTBEAT_PATIENCE_SECONDS)

    def _beat(self) -> None:
        """Ask the guest now and then whether it lives.

        A broken connection may be adbd's end alone, which init starts again, and a
        guest that is busy printing is not dead: only silence on both sides is.
        """
        assert self._console is not None
        assert self._link is not None
        patience = HEARTBEAT_PATIENCE_SECONDS
        answered = time.monotonic()
        while not self._closing.wait(HEARTBEAT_SECONDS):
            try:
                self._link.shell(["true"], timeout=patience)
                answered = time.monotonic()
            except (HarnessError, OSError):
                # The console knows better why, if the guest has crashed.
                if self._closing.is_set() or not self._console.alive:
                    return
                if min(time.monotonic() - answered, self._console.silent_for) >= patience:
                    self._console.condemn(f"the guest has not answered for {patience:.0f} s")
                    return


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        # As QEMU does: the remains of connections of an earlier run do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise HarnessError(
                f"port {port} of 127.0.0.1 is taken", hint="choose another, or none"
            ) from error
