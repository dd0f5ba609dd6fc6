# SPDX-License-Identifier: GPL-2.0-only
"""QEMU is started and ended as it should be; no kernel is involved.

A script stands in for QEMU: it runs our adbd, built for this machine, at the
port that it is told to forward.  What a kernel does is shown by tests/emulator.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from harness.device import emulated, qemu
from harness.device.qemu import BootRequest
from harness.errors import GuestCrash, HarnessError
from harness.kernels import Target, load_kernels
from harness.layout import Layout

ROOT = Path(__file__).parents[3]

GUEST = """#!/bin/sh
# Says what a guest says, then is one.
echo $$ >"{folder}/pid"
port=$(echo "$*" | sed 's/.*127.0.0.1:\\([0-9]*\\)-.*/\\1/')
echo "Booting Linux on physical CPU 0x0"
{before}
exec "{folder}/adbd" -a 127.0.0.1 -p "$port" -n
"""


@pytest.fixture(scope="module")
def adbd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("build") / "adbd"
    sources = sorted(str(path) for path in (Path(__file__).parent / "adbd").glob("*.c"))
    subprocess.run(["cc", "-O1", "-o", str(binary), *sources], check=True)
    return binary


@pytest.fixture
def machine(tmp_path: Path, adbd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is first in PATH, with adbd and a place for the fake QEMU."""
    (tmp_path / "adbd").symlink_to(adbd)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "zImage").touch()
    (tmp_path / "initramfs").touch()
    fake_qemu(tmp_path)
    yield tmp_path
    assert eventually_gone(tmp_path)


def fake_qemu(folder: Path, *, before: str = "", script: str = GUEST) -> None:
    path = folder / "qemu-system-arm"
    path.write_text(script.format(folder=folder, before=before))
    path.chmod(0o755)


def target() -> Target:
    kernels = load_kernels(Layout(root=ROOT, build=ROOT / "build", cache=ROOT))
    return kernels.target(policy="rss")


def request(folder: Path, **changes: object) -> BootRequest:
    values: dict[str, object] = {
        "target": target(),
        "image": folder / "zImage",
        "initramfs": folder / "initramfs",
        "run_dir": folder / "run",
    }
    return BootRequest(**{**values, **changes})  # type: ignore[arg-type]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually_gone(folder: Path, *, seconds: float = 5) -> bool:
    """No process has the folder in its command line or its environment any more."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not processes_of(folder):
            return True
        time.sleep(0.05)
    return False


def processes_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        ours = any(f"{folder}/{name}".encode() in text for name in ("run", "adbd"))
        if ours and is_alive(int(entry.name)):
            found.append(int(entry.name))
    return found


def adbds(folder: Path) -> list[int]:
    """The listener, the processes that serve connections, and what they started."""
    found = []
    for pid in processes_of(folder):
        with suppress(OSError):
            if "adbd" in Path(f"/proc/{pid}/comm").read_text():
                found.append(pid)
    return found


def test_a_device_answers_and_leaves_nothing(machine: Path) -> None:
    with qemu.boot(request(machine)) as device:
        assert device.shell(["echo", "a  b"], timeout=10).stdout == "a  b\n"
        assert device.boot_seconds < 10
        device.push(machine / "qemu-system-arm", str(machine / "pushed"), mode=0o700)
        device.pull(str(machine / "pushed"), machine / "pulled")
        assert (machine / "pulled").read_bytes() == (machine / "qemu-system-arm").read_bytes()
        assert device.name == "qemu"
        assert device.accel == "tcg"
    device.close()
    with pytest.raises(HarnessError, match="has been stopped"):
        device.shell(["true"], timeout=5)


def test_two_threads_may_stop_a_device_at_once(machine: Path) -> None:
    device = qemu.boot(request(machine))
    with ThreadPoolExecutor() as threads:
        for done in [threads.submit(device.close) for _ in range(8)]:
            done.result()


def test_the_command_line_listens_on_loopback_only() -> None:
    line = qemu.command_line(request(Path("/x")), port=4711)
    network = next(word for word in line if word.startswith("user,"))
    assert network == "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:4711-:5555"
    assert line[line.index("-smp") :][:2] == ["-smp", "2"]


def test_a_guest_for_gdb_waits_on_loopback_where_the_symbols_are() -> None:
    line = qemu.command_line(request(Path("/x"), gdb=True), port=4711, gdb_port=4712)
    assert line[line.index("-S") :] == ["-S", "-gdb", "tcp:127.0.0.1:4712"]
    assert "nokaslr" in line[line.index("-append") + 1].split()


def test_a_guest_that_dies_later_is_a_crash_at_once(machine: Path) -> None:
    with qemu.boot(request(machine)) as device:
        started = time.monotonic()
        pid = (machine / "pid").read_text().strip()
        with pytest.raises(GuestCrash, match="ended by itself"):
            device.shell(["sh", "-c", f"kill -9 {pid}; sleep 60"], timeout=60)
        assert time.monotonic() - started < 5


def test_a_crash_before_the_first_answer_ends_the_wait(machine: Path) -> None:
    crash = "echo 'guest: ready'; sleep 0.5; echo 'Kernel panic - not syncing: x'; sleep 60"
    fake_qemu(machine, before=crash)
    started = time.monotonic()
    with pytest.raises(GuestCrash, match="Kernel panic"):
        qemu.boot(request(machine))
    assert time.monotonic() - started < 5


def test_a_broken_connection_is_no_dead_guest(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated, "HEARTBEAT_SECONDS", 0.05)
    with qemu.boot(request(machine)) as device:
        for pid in adbds(machine):
            if pid != int((machine / "pid").read_text()):  # the listener lives
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while True:
            try:
                assert device.shell(["echo", "back"], timeout=5).stdout == "back\n"
                break
            except HarnessError as error:
                assert not isinstance(error, GuestCrash)
                assert time.monotonic() < deadline
                time.sleep(0.1)


def test_a_guest_whose_programs_do_not_get_on_is_not_dead(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its users may have all the CPU: it is adbd that is asked whether it lives."""
    monkeypatch.setattr(emulated, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(emulated, "HEARTBEAT_PATIENCE_SECONDS", 1.0)
    shell = machine / "shell"
    shell.write_text(f'#!/bin/sh\n[ ! -e "{machine}/busy" ] || exec sleep 20\nexec sh "$@"\n')
    shell.chmod(0o755)
    fake_qemu(machine, script=GUEST.replace('" -n\n', '" -n -r "{folder}/shell"\n'))
    with qemu.boot(request(machine)) as device:
        (machine / "busy").touch()
        with pytest.raises(HarnessError, match="did not end within 1 s"):
            device.shell(["true"], timeout=1)
        time.sleep(2.5)
        device.check()


def test_a_guest_that_stops_answering(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(emulated, "HEARTBEAT_PATIENCE_SECONDS", 1.0)
    stopped = []
    with qemu.boot(request(machine)) as device:
        # All of it: the listener, the connections and their services.
        for pid in adbds(machine):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        try:
            # Ended with QEMU if it were one; these processes keep the connection.
            with pytest.raises(GuestCrash, match="has not answered"):
                device.shell(["true"], timeout=4)
        finally:
            for pid in filter(is_alive, stopped):
                os.kill(pid, signal.SIGKILL)


def test_a_guest_that_hangs_does_not_hold_up_the_end(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated, "HEARTBEAT_SECONDS", 0.1)
    device = qemu.boot(request(machine))
    stopped = adbds(machine)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(0.5)  # by now a heartbeat waits for its answer
    started = time.monotonic()
    try:
        device.close()
        assert time.monotonic() - started < emulated.HEARTBEAT_PATIENCE_SECONDS / 2
    finally:
        for pid in filter(is_alive, stopped):
            os.kill(pid, signal.SIGKILL)


def test_a_guest_that_never_answers(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated, "SILENT_SECONDS", 1.0)
    fake_qemu(machine, before="sleep 60")
    with pytest.raises(GuestCrash, match="silent for 1 s") as caught:
        qemu.boot(request(machine))
    assert caught.value.details == ("Booting Linux on physical CPU 0x0",)


def test_qemu_that_dies_at_start_shows_its_message(machine: Path) -> None:
    fake_qemu(machine, script="#!/bin/sh\necho 'qemu: unknown machine' >&2\nexit 1\n")
    with pytest.raises(HarnessError, match="qemu-system-arm ended at start") as caught:
        qemu.boot(request(machine))
    assert caught.value.details == ("qemu: unknown machine",)


def test_qemu_that_is_missing(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine / "empty"))
    with pytest.raises(HarnessError, match="command not found: qemu-system-arm"):
        qemu.boot(request(machine))


def test_a_kernel_that_is_missing(machine: Path) -> None:
    with pytest.raises(HarnessError, match=r"there is no .*none"):
        qemu.boot(request(machine, image=machine / "none"))


def test_a_port_that_is_taken(machine: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(HarnessError, match=f"port {port} of 127.0.0.1 is taken"):
            qemu.boot(request(machine, port=port))


def test_a_port_may_be_asked_for_again_at_once(machine: Path) -> None:
    """The connections of the run before linger in TIME_WAIT for a minute."""
    for _ in range(2):
        with qemu.boot(request(machine)) as device:
            port = int(device.serial.rpartition(":")[2])
    for _ in range(2):
        with qemu.boot(request(machine, port=port)) as device:
            assert device.shell(["true"], timeout=10).returncode == 0


def test_a_port_that_was_just_taken_is_replaced(machine: Path) -> None:
    refuse = (
        f'if [ ! -e "{machine}/refused" ]; then touch "{machine}/refused"; '
        'echo "qemu: -netdev user: Could not set up host forwarding rule"; exit 1; fi'
    )
    fake_qemu(
        machine,
        script=GUEST.replace(
            'echo "Booting', refuse.replace("{", "{{").replace("}", "}}") + '\necho "Booting'
        ),
    )
    with qemu.boot(request(machine)) as device:
        assert device.shell(["true"], timeout=10).returncode == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_harness_that_is_killed_leaves_nothing(machine: Path, how: signal.Signals) -> None:
    script = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[1] + '/tests/unit/device']\n"
        "from pathlib import Path\n"
        "import time, test_qemu\n"
        "from harness.device import qemu\n"
        "device = qemu.boot(test_qemu.request(Path(sys.argv[2])))\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(ROOT), str(machine)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == "up\n"
        assert len(processes_of(machine)) >= 2
        harness.send_signal(how)
        harness.wait(timeout=10)
    assert eventually_gone(machine)
