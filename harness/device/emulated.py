# SPDX-License-Identifier: GPL-2.0-only
"""A guest in an emulator: its console is watched, and it answers adb.

What QEMU and the Android emulator have in common once their command line is
known.  See harness/device/qemu.py and harness/device/avd.py for those.
"""

from __future__ import annotations

import atexit
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.device.adb import CONNECT_SECONDS, OURS, AdbLink, AdbServer, UserSpace
from harness.device.console import Console, on_a_terminal
from harness.device.device import ShellResult
from harness.errors import GuestCrash, HarnessError

READY = "guest: ready"

# A kernel that hangs says nothing; a slow one goes on talking.
SILENT_SECONDS = 20.0

# Somebody else may take a port between our look and the emulator's.
PORT_TRIES = 5

# What hangs is mostly found by the kernel itself, which says so within 10 to 20 s (RCU
# stall, soft lockup).  The heartbeat is for the kernel that cannot even say that, and
# this machine may be busy: it gives up late.
HEARTBEAT_SECONDS = 2.0
HEARTBEAT_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Guest:
    """How an emulator is started, and when the guest in it is up.

    ``name`` and ``accel`` are Device's; ``argv`` and ``env`` (added to ours) start the
    emulator, ``serial`` is where adb finds the guest.  The guest is up when its console
    has shown ``ready`` (None: adb alone tells) within ``patience`` seconds.  ``halted``
    is what the console shows when the guest has switched itself off, for an emulator
    that then stays.  ``show_cpus`` typed on the console makes the kernel show what each CPU
    does.  ``user_space`` says how commands are given to it.  Without ``heartbeat``
    nobody asks the guest whether it lives.  At ``gdb_port`` it waits for gdb, and is up
    when that lets it.
    """

    name: str
    accel: str
    argv: Sequence[str]
    serial: str
    run_dir: Path
    patience: float
    gdb_port: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    ready: str | None = READY
    halted: str | None = None
    show_cpus: bytes | None = None
    user_space: UserSpace = OURS
    heartbeat: bool = True


class EmulatedDevice:
    """A guest in an emulator (see harness.device.device.Device)."""

    shared = False
    fresh = True

    def __init__(self, guest: Guest) -> None:
        self.name = guest.name
        self.accel = guest.accel
        self.serial = guest.serial
        self.boot_seconds = 0.0
        self._guest = guest
        self._console: Console | None = None
        self._server: AdbServer | None = None
        self._link: AdbLink | None = None
        self._closing = threading.Event()
        self._close_lock = threading.Lock()
        self._heart: threading.Thread | None = None

    @property
    def console(self) -> str:
        """See Device.console."""
        return str(self._guest.run_dir / "console.log")

    @property
    def gdb_port(self) -> int | None:
        """The port of 127.0.0.1 at which the guest waits for gdb, if it does."""
        return self._guest.gdb_port

    @property
    def adb_server_port(self) -> int:
        """The port of our adb server, for a client of the user's."""
        assert self._server is not None
        return self._server.port

    def start(self) -> None:
        """Boot; returns when the guest has answered."""
        atexit.register(self.close)
        guest = self._guest
        guest.run_dir.mkdir(parents=True, exist_ok=True)
        (guest.run_dir / "command").write_text(shlex.join(guest.argv) + "\n", encoding="utf-8")
        started = time.monotonic()
        self._console = Console(
            guest.argv,
            log=guest.run_dir / "console.log",
            env=guest.env,
            halted=guest.halted,
            show_cpus=guest.show_cpus,
        )
        self._server = AdbServer(guest.run_dir / "adb")
        self._link = AdbLink(self._server.port, self.serial, user_space=guest.user_space)
        if guest.gdb_port is not None:
            return
        self._await_guest(self._console, self._link)
        self.boot_seconds = time.monotonic() - started
        if guest.heartbeat:
            self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._heart.start()

    def when_up(self, then: Callable[[], None]) -> None:
        """Do something, in a thread of its own, once a guest that waits for gdb is up."""

        def wait() -> None:
            assert self._console is not None
            assert self._link is not None
            with suppress(HarnessError, OSError):  # the person at the console sees why
                while not self._console.has_said(READY):
                    self._console.check()
                    time.sleep(0.2)
                self._link.connect(check=self._console.check)
                then()

        threading.Thread(target=wait, name="when up", daemon=True).start()

    def _await_guest(self, console: Console, link: AdbLink) -> None:
        """Return when the guest can be used; raises GuestCrash if that will not be."""
        guest = self._guest
        if guest.ready is not None:
            console.wait_for(guest.ready, timeout=guest.patience, silence=SILENT_SECONDS)
        timeout = CONNECT_SECONDS if guest.ready is not None else guest.patience
        try:
            link.connect(timeout=timeout, check=console.check)
            link.shell(["true"], timeout=20)
        except (HarnessError, OSError) as error:
            console.check()
            raise GuestCrash(
                f"the guest has booted but does not answer adb: {error}",
                details=console.tail(),
            ) from error

    def shell(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        user: str | None = None,
        urgent: bool = False,
    ) -> ShellResult:
        """See Device.shell()."""
        with self._asked() as link:
            return link.shell(argv, timeout=timeout, user=user, urgent=urgent)

    def pipe(self, argv: Sequence[str], *, timeout: float, user: str | None = None) -> int:
        """Run ``argv`` on our own standard streams; returns its exit status.

        Raises as shell() does; what came before that has been passed on.
        """
        with self._asked() as link:
            return link.pipe(argv, timeout=timeout, user=user, stdin=0, stdout=1, stderr=2)

    def push(self, local: Path, remote: str, *, mode: int = 0o755) -> None:
        """See Device.push()."""
        if not local.is_file():
            raise HarnessError(f"cannot push {local}: there is no such file")
        with self._asked() as link:
            link.push(local, remote, mode=mode)

    def pull(self, remote: str, local: Path) -> None:
        """See Device.pull()."""
        with self._asked() as link:
            link.pull(remote, local)

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
        with self._close_lock:  # two threads cannot both reap a child
            if self._console is not None:
                self._console.close()
            if self._server is not None:
                self._server.close()
            self._stop_heart()
        atexit.unregister(self.close)

    def abandon(self) -> None:
        """See Device.abandon()."""
        self.close()

    def __enter__(self) -> EmulatedDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _asked(self) -> Iterator[AdbLink]:
        """The link, for one question; if that fails because the guest has crashed, say so."""
        self.check()
        assert self._link is not None
        try:
            yield self._link
        except HarnessError:
            self.check()
            raise
        except OSError as error:
            raise self._broken(error) from error

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

        It is adbd that answers, which no other process keeps from the CPU.  A broken
        connection may be adbd's end alone, which init starts again, and a guest that is
        busy printing is not dead: only silence on both sides is.
        """
        assert self._console is not None
        assert self._link is not None
        patience = HEARTBEAT_PATIENCE_SECONDS
        answered = time.monotonic()
        while not self._closing.wait(HEARTBEAT_SECONDS):
            try:
                self._link.answers(timeout=patience)
                answered = time.monotonic()
            except (HarnessError, OSError):
                # The console knows better why, if the guest has crashed.
                if self._closing.is_set() or not self._console.alive:
                    return
                if min(time.monotonic() - answered, self._console.silent_for) >= patience:
                    self._console.condemn(f"the guest has not answered for {patience:.0f} s")
                    return


def start_with_free_ports(
    make: Callable[[], EmulatedDevice], *, port_taken: Callable[[HarnessError], bool]
) -> EmulatedDevice:
    """Start what ``make`` makes, with other ports if somebody took one meanwhile."""
    for attempt in range(PORT_TRIES):
        device = make()
        try:
            device.start()
        except HarnessError as error:
            device.close()
            if not port_taken(error) or attempt == PORT_TRIES - 1:
                raise
        except BaseException:
            device.close()
            raise
        else:
            return device
    raise AssertionError("unreachable")
