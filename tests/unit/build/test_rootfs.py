# SPDX-License-Identifier: GPL-2.0-only
"""The initramfs holds what the guest needs and is the same for the same input."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.build.rootfs import RootfsRequest, make
from harness.errors import HarnessError


@dataclass(frozen=True)
class Entry:
    mode: int
    data: bytes
    device: tuple[int, int]


def unpack(archive: bytes) -> dict[str, Entry]:
    """Read a newc archive as the kernel does."""
    entries: dict[str, Entry] = {}
    at = 0
    while True:
        header = archive[at : at + 110]
        assert header[:6] == b"070701"
        fields = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        name_size, size = fields[11], fields[6]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        start = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return entries
        entries[name] = Entry(fields[1], archive[start : start + size], (fields[9], fields[10]))
        at = (start + size + 3) & ~3


@pytest.fixture
def request_(tmp_path: Path) -> RootfsRequest:
    guest = tmp_path / "guest"
    (guest / "etc").mkdir(parents=True)
    (guest / "init").write_text("#!/bin/sh\n")
    (guest / "etc" / "inittab").write_text("::respawn:/bin/start_adbd\n")
    (tmp_path / "busybox").write_bytes(b"busy")
    (tmp_path / "adbd").write_bytes(b"adbd!")
    (tmp_path / "loader").write_bytes(b"loader!")
    (tmp_path / "su").write_bytes(b"su!")
    (tmp_path / "sh").write_bytes(b"sh!")
    return RootfsRequest(
        busybox=tmp_path / "busybox",
        adbd={"bin/adbd": tmp_path / "adbd", "lib64/ld.so": tmp_path / "loader"},
        programs={"su": tmp_path / "su", "sh": tmp_path / "sh"},
        guest_dir=guest,
        out=tmp_path / "out" / "initramfs.cpio",
    )


def test_what_is_in_it(request_: RootfsRequest) -> None:
    entries = unpack(make(request_).path.read_bytes())
    assert entries["init"].data == b"#!/bin/sh\n"
    assert stat.S_IMODE(entries["init"].mode) == 0o755
    assert entries["bin/adbd"].data == b"adbd!"
    assert entries["lib64/ld.so"].data == b"loader!"
    assert entries["bin/su"].data == b"su!"
    assert entries["bin/sh"].data == b"sh!"
    assert entries["lib/busybox/sh"].data == b"/bin/busybox"
    assert entries["bin/ash"].data == b"busybox"
    assert stat.S_ISLNK(entries["bin/ash"].mode)
    assert stat.S_ISCHR(entries["dev/console"].mode)
    assert entries["dev/console"].device == (5, 1)
    assert stat.S_IMODE(entries["data/local/tmp"].mode) == 0o1777
    assert entries["etc/inittab"].data == b"::respawn:/bin/start_adbd\n"


def test_a_folder_comes_before_what_is_in_it(request_: RootfsRequest) -> None:
    """The kernel makes no folders on its own as it unpacks."""
    seen = {""}
    for name in unpack(make(request_).path.read_bytes()):
        assert name.rpartition("/")[0] in seen, name
        seen.add(name)


def test_the_users_are_those_of_android(request_: RootfsRequest) -> None:
    entries = unpack(make(request_).path.read_bytes())
    lines = entries["etc/passwd"].data.decode().splitlines()
    users = {line.split(":")[0]: int(line.split(":")[2]) for line in lines}
    assert users["root"] == 0
    assert users["system"] == 1000
    assert users["shell"] == 2000
    assert users["u0_a0"] == 10000
    assert users["u0_a70"] == 10070
    assert users["u0_a199"] == 10199
    assert len(users) == 203


def test_the_same_input_gives_the_same_bytes(request_: RootfsRequest) -> None:
    first = make(request_)
    before = first.path.stat().st_mtime_ns
    again = make(request_)
    assert again == first
    assert again.path.stat().st_mtime_ns == before
    again.path.unlink()
    for path in (request_.busybox, request_.programs["su"], request_.guest_dir / "init"):
        os.utime(path, (1, 1))
    assert make(request_) == first


def test_other_input_gives_another_identity(request_: RootfsRequest) -> None:
    first = make(request_)
    request_.adbd["bin/adbd"].write_bytes(b"adbd?")
    assert make(request_).identity != first.identity


def test_a_missing_program_is_named(request_: RootfsRequest) -> None:
    request_.adbd["bin/adbd"].unlink()
    with pytest.raises(HarnessError, match=str(request_.adbd["bin/adbd"])):
        make(request_)
