# SPDX-License-Identifier: GPL-2.0-only
"""Makes the initramfs: busybox, Android's adbd, our init and programs, and the users.

The archive is written here rather than by cpio because its device nodes need
root otherwise, and because the same input must give the same bytes.  It is not
compressed: what unpacks it is the slowest machine of all.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from harness import stamp
from harness.errors import HarnessError
from harness.users import APP_UIDS, SYSTEM_USERS, app_name

# What the guest's init, the harness and a person at the shell use; all of it is in
# Debian's busybox-static.
_APPLETS = (
    "[ ash awk basename cat chgrp chmod chown clear cmp cp cttyhack cut date dd df diff dirname "
    "dmesg du echo env expr false find free getty grep gunzip gzip halt head hexdump hostname id "
    "ifconfig init insmod ip kill killall ln ls lsmod md5sum mkdir mkfifo mknod mktemp mount mv "
    "nc netstat od pidof ping poweroff printf ps pwd readlink reboot renice rm rmdir rmmod route "
    "sed seq setsid sh sha256sum sleep sort stat stty sync sysctl tail tar tee test time "
    "timeout top touch tr true tty umount uname uniq uptime usleep vi watch wc which whoami xargs "
    "yes"
)
# guest/sh is /bin/sh, and starts this one.
SHELL = "lib/busybox/sh"
APPLETS = [name for name in _APPLETS.split() if name != "sh"]

FOLDERS = (
    *("bin", "sbin", "lib", "lib/busybox", "dev", "dev/pts", "proc", "sys", "etc"),
    *("data", "data/local"),
)
STICKY_FOLDERS = ("tmp", "data/local/tmp")

# name, type, mode, major, minor: the kernel opens the console before devtmpfs is there.
NODES = (("dev/console", 0o600, 5, 1), ("dev/null", 0o666, 1, 3))

APP_USERS = 200
HOME = "/data/local/tmp"


# The shell of Debian's busybox-static (1.35) runs its own applets whatever PATH says
# (FEATURE_SH_STANDALONE).  For our su to be found, its own needs a name of the same
# length that nobody types.  In the table, which is sorted and searched from below, "s-"
# is passed over like any name that comes before the one that is wanted.
_OWN_SU = re.compile(rb"(?<=\0stty\0)su(?=\0)")
_NO_NAME = b"s-"


@dataclass(frozen=True, kw_only=True)
class RootfsRequest:
    """What goes in, and the file to write.

    ``adbd`` is by the places in the guest (harness.source.userland), ``programs`` are ours.
    """

    busybox: Path
    adbd: Mapping[str, Path]
    programs: Mapping[str, Path]
    guest_dir: Path
    out: Path


@dataclass(frozen=True)
class Initramfs:
    """A cpio archive; ``identity`` is that of its content."""

    path: Path
    identity: str


@dataclass(frozen=True)
class _Entry:
    name: str
    mode: int  # with the file type
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def make(request: RootfsRequest) -> Initramfs:
    """Write the initramfs, unless the one that is there is the same."""
    archive = _archive(_entries(request))
    identity = stamp.digest(archive)
    if not request.out.exists() or request.out.read_bytes() != archive:
        request.out.parent.mkdir(parents=True, exist_ok=True)
        partial = request.out.with_name(request.out.name + ".part")
        partial.write_bytes(archive)
        partial.replace(request.out)
    return Initramfs(path=request.out, identity=identity)


def _entries(request: RootfsRequest) -> Iterator[_Entry]:
    for name in FOLDERS:
        yield _Entry(name, stat.S_IFDIR | 0o755)
    for name in STICKY_FOLDERS:
        yield _Entry(name, stat.S_IFDIR | 0o1777)
    for name, mode, major, minor in NODES:
        yield _Entry(name, stat.S_IFCHR | mode, device=(major, minor))
    busybox = _OWN_SU.sub(_NO_NAME, _read(request.busybox))
    yield _Entry("bin/busybox", stat.S_IFREG | 0o755, busybox)
    for applet in APPLETS:
        yield _Entry(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    yield _Entry(SHELL, stat.S_IFLNK | 0o777, b"/bin/busybox")
    for name, path in sorted(request.programs.items()):
        yield _program(f"bin/{name}", path)
    yield _Entry("bin/urgent", stat.S_IFLNK | 0o777, b"sh")
    folders = {str(place) for name in request.adbd for place in PurePath(name).parents}
    for folder in sorted(folders - {".", *FOLDERS}):
        yield _Entry(folder, stat.S_IFDIR | 0o755)
    for name, path in sorted(request.adbd.items()):
        yield _program(name, path)
    yield _program("init", request.guest_dir / "init")
    for path in sorted((request.guest_dir / "etc").glob("*")):
        yield _Entry(f"etc/{path.name}", stat.S_IFREG | 0o644, _read(path))
    yield _Entry("etc/passwd", stat.S_IFREG | 0o644, _passwd().encode())
    yield _Entry("etc/group", stat.S_IFREG | 0o644, _group().encode())


def _users() -> Iterator[tuple[str, int]]:
    yield from SYSTEM_USERS
    for number in range(APP_USERS):
        yield app_name(number), APP_UIDS.start + number


def _passwd() -> str:
    return "".join(f"{name}:x:{uid}:{uid}::{HOME}:/bin/sh\n" for name, uid in _users())


def _group() -> str:
    return "".join(f"{name}:x:{uid}:\n" for name, uid in _users())


def _program(name: str, path: Path) -> _Entry:
    return _Entry(name, stat.S_IFREG | 0o755, _read(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HarnessError(f"cannot read {path} for the initramfs: {error.strerror}") from error


def _archive(entries: Iterator[_Entry]) -> bytes:
    """A cpio archive of the kind that the kernel unpacks (SVR4, newc)."""
    parts = [_record(number, entry) for number, entry in enumerate(entries, start=1)]
    return b"".join(parts) + _record(0, _Entry("TRAILER!!!", 0))


def _record(inode: int, entry: _Entry) -> bytes:
    """See Documentation/driver-api/early-userspace/buffer-format.rst."""
    name = entry.name.encode() + b"\0"
    fields = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        1,  # links
        0,  # mtime
        len(entry.data),
        0,  # device of the archive
        0,
        *entry.device,
        len(name),
        0,  # checksum, unused
    )
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
