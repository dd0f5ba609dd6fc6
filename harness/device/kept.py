# SPDX-License-Identifier: GPL-2.0-only
"""A guest that stays when the command that booted it has ended.

A keeper, which is a process of its own, boots it, watches its console, and says in a file
how it is reached and how it is.  Who uses it needs no boot; who has spoiled it has the
keeper boot it again.  One at a time.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

from harness import process, stamp
from harness.device.adb import AdbLink
from harness.device.device import ShellResult
from harness.device.emulated import EmulatedDevice
from harness.errors import GuestCrash, HarnessError

FOLDER = "kept"
LOG = "keeper.log"

# What nobody uses for so long is ended.
IDLE_SECONDS = 4 * 3600.0
# Booting again, on a busy machine.
REBOOT_SECONDS = 90.0
# The keeper sees a crash in the console sooner or later than adb notices.
REPORT_SECONDS = 5.0
POLL_SECONDS = 0.05


class KeptGuest(msgspec.Struct, frozen=True, kw_only=True):
    """What the keeper says of its guest.

    ``identity`` is that of kernel, programs, CPUs and accelerator; ``boot`` counts how
    often it was booted.  A guest that has crashed says why, and shows it.
    """

    keeper: int
    identity: str
    target: str
    device: str
    serial: str
    adb_server: int
    accel: str
    console: str
    boot: int
    crash: str = ""
    details: tuple[str, ...] = ()


def read(folder: Path) -> KeptGuest | None:
    """The guest that is kept; None if there is none, or its keeper is gone."""
    try:
        guest = msgspec.json.decode((folder / "guest.json").read_bytes(), type=KeptGuest)
    except (OSError, msgspec.MsgspecError):
        return None
    return guest if _is_held(folder / "keeper.lock") else None


class Keeper:
    """Boots a guest and looks after it until it is told to end."""

    def __init__(self, folder: Path, *, identity: str, target: str) -> None:
        self._folder = folder
        self._identity = identity
        self._target = target
        self._again = threading.Event()

    def keep(self, boot: Callable[[], EmulatedDevice]) -> None:
        """Returns when nobody has used the guest for long; SIGTERM ends it as any task."""
        lock = _lock(self._folder / "keeper.lock")
        if lock is None:
            raise HarnessError(
                "a guest is kept in this checkout already", hint="`./run boot --stop` ends it"
            )
        with lock:
            signal.signal(signal.SIGUSR1, lambda *_: self._again.set())
            try:
                for count in range(1, 1 << 30):
                    with closing(boot()) as device:
                        if not self._look_after(device, count):
                            return
            finally:
                (self._folder / "guest.json").unlink(missing_ok=True)

    def _look_after(self, device: EmulatedDevice, count: int) -> bool:
        """Until it is to be booted again; False: until nobody wants it any more."""
        self._again.clear()
        guest = KeptGuest(
            keeper=os.getpid(),
            identity=self._identity,
            target=self._target,
            device=device.name,
            serial=device.serial,
            adb_server=device.adb_server_port,
            accel=device.accel,
            console=device.console,
            boot=count,
        )
        self._say(guest)
        used = self._folder / "use.lock"
        used.touch()
        while not self._again.wait(POLL_SECONDS * 2):
            try:
                if not guest.crash:
                    device.check()
            except HarnessError as crash:
                guest = msgspec.structs.replace(guest, crash=crash.what, details=crash.details)
                self._say(guest)
            if time.time() - used.stat().st_mtime > IDLE_SECONDS and not _is_held(used):
                return False
        return True

    def _say(self, guest: KeptGuest) -> None:
        stamp.write_atomic(self._folder / "guest.json", msgspec.json.encode(guest))


class KeptDevice:
    """The guest that is kept, in use by us (see harness.device.device.Device)."""

    shared = False
    fresh = False

    def __init__(self, folder: Path, guest: KeptGuest, use: IO[str] | None = None) -> None:
        """``use`` is the lock of who has it for itself; without, others may use it too."""
        self.name = guest.device
        self.serial = guest.serial
        self.accel = guest.accel
        self.console = guest.console
        self.boot = guest.boot
        self.adb_server_port = guest.adb_server
        self._folder = folder
        self._guest = guest
        self._use = use
        self._link = AdbLink(guest.adb_server, guest.serial)

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
        """See EmulatedDevice.pipe()."""
        with self._asked() as link:
            return link.pipe(argv, timeout=timeout, user=user, stdin=0, stdout=1, stderr=2)

    def push(self, local: Path, remote: str, *, mode: int = 0o755) -> None:
        """See Device.push()."""
        with self._asked() as link:
            link.push(local, remote, mode=mode)

    def pull(self, remote: str, local: Path) -> None:
        """See Device.pull()."""
        with self._asked() as link:
            link.pull(remote, local)

    def check(self) -> None:
        """See Device.check()."""
        guest = read(self._folder)
        if guest is None or guest.boot != self._guest.boot:
            raise HarnessError("the guest that was kept is gone", hint="`./run boot --keep`")
        if guest.crash:
            raise GuestCrash(guest.crash, details=guest.details)

    def close(self) -> None:
        """Leave it to others.  May be called twice."""
        use, self._use = self._use, None
        if use is not None:
            os.utime(use.fileno())
            use.close()

    def abandon(self) -> None:
        """Have it booted again."""
        if self._use is not None:
            with suppress(ProcessLookupError):
                os.kill(self._guest.keeper, signal.SIGUSR1)
            self.close()

    @contextmanager
    def _asked(self) -> Iterator[AdbLink]:
        """The link, for one question; if that fails because the guest has crashed, say so."""
        self.check()
        try:
            yield self._link
        except (HarnessError, OSError) as error:
            deadline = time.monotonic() + REPORT_SECONDS
            while isinstance(error, OSError) and time.monotonic() < deadline:
                self.check()
                time.sleep(POLL_SECONDS)
            self.check()
            if isinstance(error, OSError):
                raise HarnessError(f"adb lost the guest: {error}") from error
            raise


def take(folder: Path, *, identity: str, after: int = 0) -> KeptDevice | None:
    """The guest that is kept, if it is of this identity and nobody uses it.

    With ``after``, one that has been booted since: it is waited for.
    """
    deadline = time.monotonic() + REBOOT_SECONDS
    while (guest := read(folder)) is not None and time.monotonic() < deadline:
        if guest.identity != identity:
            return None
        if guest.boot > after and not guest.crash:
            use = _lock(folder / "use.lock")
            return KeptDevice(folder, guest, use) if use is not None else None
        if guest.crash and guest.boot > after:
            os.kill(guest.keeper, signal.SIGUSR1)
            after = guest.boot
        time.sleep(POLL_SECONDS)
    return None


def stop(folder: Path) -> bool:
    """End the guest that is kept; returns whether there was one."""
    guest = read(folder)
    if guest is None:
        return False
    os.kill(guest.keeper, signal.SIGTERM)
    with process.exclusive(folder / "keeper.lock", on_wait=lambda: None):
        return True


def _lock(path: Path) -> IO[str] | None:
    """A lock file, held until the stream is closed; None if somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("a")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    stream = _lock(path)
    if stream is None:
        return True
    stream.close()
    return False
