# SPDX-License-Identifier: GPL-2.0-only
"""QEMU as a device: boots a kernel with our initramfs and answers adb."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from harness import process
from harness.device.adb import free_port
from harness.device.emulated import EmulatedDevice, Guest, start_with_free_ports
from harness.errors import HarnessError
from harness.kernels import Board, Target

GUEST_ADB_PORT = 5555

# From the start of QEMU to adbd, under TCG on a busy machine; usually 2 to 4 s.
BOOT_SECONDS = 60.0
# A debug kernel takes half a minute, and on a busy machine more.
DEBUG_BOOT_SECONDS = 240.0
# Ctrl-A b at QEMU's console is a break on the guest's line, which makes the next key
# the kernel's own (SysRq).
SHOW_CPUS = b"\x01bl"
PORT_TAKEN = "Could not set up host forwarding rule"


@dataclass(frozen=True, kw_only=True)
class BootRequest:
    """What to boot, and how.

    ``run_dir`` receives the console's log; ``cpus`` None is the board's default;
    ``port`` None is any free port of 127.0.0.1; ``memory`` (MB) None is the board's
    default; ``patience`` is how many seconds the boot may take, None what is usual for
    the kernel.  Without ``heartbeat`` nobody asks the guest whether it lives, which a
    measurement needs; with ``icount`` its clock counts instructions, one a
    nanosecond, on one CPU.  With ``gdb`` it waits for that at a free port.
    ``arguments`` are more for QEMU.
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
    gdb: bool = False
    arguments: tuple[str, ...] = ()


def boot(request: BootRequest) -> EmulatedDevice:
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
    return start_with_free_ports(
        lambda: EmulatedDevice(_guest(request, port=request.port or free_port())),
        port_taken=lambda error: (
            request.port is None and any(PORT_TAKEN in line for line in error.details)
        ),
    )


def _guest(request: BootRequest, *, port: int) -> Guest:
    usual = DEBUG_BOOT_SECONDS if request.target.debug else BOOT_SECONDS
    gdb_port = free_port() if request.gdb else None
    return Guest(
        name="qemu",
        accel=request.accel,
        argv=command_line(request, port=port, gdb_port=gdb_port),
        serial=f"127.0.0.1:{port}",
        run_dir=request.run_dir,
        patience=request.patience or usual,
        heartbeat=request.heartbeat,
        gdb_port=gdb_port,
        show_cpus=SHOW_CPUS,
    )


def command_line(request: BootRequest, *, port: int, gdb_port: int | None = None) -> list[str]:
    """QEMU's arguments; the guest reaches nothing but what connects to it."""
    board = request.target.board
    forward = f"hostfwd=tcp:127.0.0.1:{port}-:{GUEST_ADB_PORT}"
    # gdb knows the symbols where they were linked to be.
    append = (board.append, request.extra_append, "nokaslr" if request.gdb else "")
    return [
        _program(board),
        *board.qemu_args,
        *_memory_arguments(request),
        *_cpu_arguments(request),
        *("-nographic", "-no-reboot"),
        *("-kernel", str(request.image)),
        *("-initrd", str(request.initramfs)),
        *("-append", " ".join(filter(None, append))),
        *("-netdev", f"user,id=net0,restrict=on,{forward}"),
        *board.net_args,
        *request.arguments,
        *(("-S", "-gdb", f"tcp:127.0.0.1:{gdb_port}") if gdb_port is not None else ()),
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
    memory = request.memory or (target.board.debug.memory if target.debug else None)
    return ["-m", str(memory)] if memory else []


def _cpu_arguments(request: BootRequest) -> list[str]:
    """Instructions can only be counted by TCG, on one CPU and in one thread."""
    if request.icount:
        return ["-smp", "1", "-accel", "tcg", "-icount", "shift=0"]
    board = request.target.board
    thread = f",thread={board.tcg_thread}" if request.accel == "tcg" else ""
    usual = board.debug.cpus if request.target.debug else None
    cpus = request.cpus or usual or board.cpus
    return ["-smp", str(cpus), "-accel", request.accel + thread]


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
