# SPDX-License-Identifier: GPL-2.0-only
"""A booted guest that is ready for cases: modules, policy, files, what is left behind."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from harness.case.candidates import EVENT, Candidate, parse_trace
from harness.case.samples import Samples, parse_samples
from harness.device.device import Device, ShellResult
from harness.errors import HarnessError
from harness.kmsg import text as log_text
from harness.users import APP_UIDS

GUEST_DIR = "/data/local/tmp"
POLICY_FILE = "/proc/sys/vm/user_oom_policy"
# Before Linux 4.1 it was a part of debugfs.
TRACING = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
SAMPLER = "mm_sample"
SAMPLES = f"{GUEST_DIR}/samples"

# A short command of the harness itself; a loaded guest may be slow to answer.
COMMAND_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class GuestKernel:
    """A kernel to run cases on.

    How to boot it, our modules, and for how many limits it has room.  ``policies`` are
    the modules of policies that it was not built with, by name, to be loaded when a case
    asks for one.  With ``evidence`` it is written down all the time who has how much.
    """

    boot: Callable[[], Device]
    modules: tuple[Path, ...]
    table_length: int
    policies: Mapping[str, Path] = field(default_factory=dict)
    evidence: bool = False


@dataclass(frozen=True)
class GuestProcess:
    name: str
    pid: int
    uid: int


@dataclass(frozen=True)
class GuestState:
    """Taint flags, loaded modules and live processes of the guest."""

    taint: int
    modules: frozenset[str]
    processes: tuple[GuestProcess, ...]

    def app_pids(self) -> frozenset[int]:
        return frozenset(one.pid for one in self.processes if one.uid in APP_UIDS)


class Guest:
    """A booted device with both modules loaded, ready for cases.

    ``before`` is the state that a case finds, and must leave.  ``as_booted``: no policy
    has been selected yet but by the kernel itself.
    """

    def __init__(self, device: Device, kernel: GuestKernel, programs: Mapping[str, Path]) -> None:
        self.device = device
        self.table_length = kernel.table_length
        self.evidence = kernel.evidence
        self._policies = kernel.policies
        ours = [*kernel.modules, *kernel.policies.values()]
        self._files = {**programs, **{module.name: module for module in ours}}
        self._modules = tuple(module.stem for module in kernel.modules)
        self._pushed: set[str] = set()
        self._loaded: set[str] = set()
        self.as_booted = True
        self.load_modules()
        self.before = self.state()

    def path(self, name: str) -> str:
        """The path in the guest of a program or module, pushed on first use."""
        remote = f"{GUEST_DIR}/{name}"
        if name not in self._pushed:
            local = self._files.get(name)
            if local is None:
                raise HarnessError(
                    f"no program '{name}' to push",
                    hint="built programs: " + ", ".join(sorted(self._files)),
                )
            self.device.push(local, remote)
            self._pushed.add(name)
        return remote

    def push_text(self, name: str, text: str) -> str:
        """Write ``text`` to a file in the guest and return its path."""
        remote = f"{GUEST_DIR}/{name}"
        with tempfile.TemporaryDirectory(prefix="mm-harness-") as folder:
            local = Path(folder) / name
            local.write_text(text, encoding="utf-8")
            self.device.push(local, remote, mode=0o644)
        return remote

    def command(self, *argv: str, what: str, urgent: bool = True) -> ShellResult:
        """Run a command of the harness's own as root; it must succeed.

        It is ``urgent`` but where it leaves something behind that should not be.
        """
        result = self.device.shell(argv, timeout=COMMAND_TIMEOUT_S, urgent=urgent)
        if result.returncode != 0:
            raise HarnessError(
                f"{what} failed in the guest: exit status {result.returncode}",
                hint=result.stderr.strip() or "see the console log",
                details=result.stdout.splitlines()[-5:],
            )
        return result

    def load_modules(self) -> None:
        for name in self._modules:
            self.command("insmod", self.path(f"{name}.ko"), what=f"insmod {name}.ko")

    def select_policy(self, name: str) -> None:
        """Have the kernel use a policy from now on, loading its module if it has one.

        Asked for before each case: a case may have chosen another.
        """
        self.as_booted = False
        script = f"echo {name} > {POLICY_FILE}"
        if (module := self._policies.get(name)) is not None and name not in self._loaded:
            script = f"insmod {self.path(module.name)} && {script}"
        done = self.device.shell(["sh", "-c", script], timeout=COMMAND_TIMEOUT_S, urgent=True)
        if done.returncode != 0:
            raise self._not_selected(name, done.stderr.strip())
        if module is not None and name not in self._loaded:
            self._loaded.add(name)
            self.before = self.state()

    def _not_selected(self, name: str, said: str) -> HarnessError:
        """The error for a policy that the kernel dislikes; its log says what."""
        log = self.device.shell(["dmesg"], timeout=COMMAND_TIMEOUT_S, urgent=True).stdout
        lines = [log_text(line) for line in log.splitlines()[-20:] if name in line]
        return HarnessError(
            f"the policy {name} cannot be selected", hint="; ".join(lines[-3:]) or said
        )

    @cached_property
    def _tracing(self) -> str | None:
        """The folder of a kernel that traces candidates."""
        script = f"for one in {' '.join(TRACING)}; do [ ! -e $one/{EVENT} ] || echo $one; done"
        found = self.command("sh", "-c", script, what="looking for tracefs").stdout.split()
        return found[0] if found else None

    @property
    def has_trace(self) -> bool:
        """Does this kernel trace candidates?"""
        return self._tracing is not None

    def start_trace(self) -> None:
        """From here on the kernel notes whom it looks at before it kills."""
        if self._tracing is None:
            raise HarnessError(
                "this kernel does not trace whom it looks at before it kills",
                hint="its config needs CONFIG_ENABLE_DEFAULT_TRACERS and CONFIG_DEBUG_FS",
            )
        script = f"cd {self._tracing} && echo > trace && echo 1 > {EVENT}/enable"
        self.command("sh", "-c", script, what="tracing the candidates")

    def stop_trace(self) -> tuple[Candidate, ...]:
        """What was noted since then."""
        script = f"cd {self._tracing} && echo 0 > {EVENT}/enable && cat trace"
        output = self.command("sh", "-c", script, what="reading the trace").stdout
        return parse_trace(output.splitlines())

    def start_samples(self) -> int:
        """From here on it is written down who has how much; returns the writer's pid."""
        started = self.command(
            self.path(SAMPLER), SAMPLES, what=f"starting {SAMPLER}", urgent=False
        )
        return int(started.stdout.strip().removeprefix("pid="))

    def stop_samples(self, pid: int) -> Samples:
        """What was written down."""
        script = f"kill {pid}; cat {SAMPLES}; rm {SAMPLES}"
        return parse_samples(
            self.command("sh", "-c", script, what="reading the samples").stdout.splitlines()
        )

    def unload_modules(self) -> None:
        for name in reversed(self._modules):
            self.command("rmmod", name, what=f"rmmod {name}")

    def reload_modules(self) -> None:
        """Load fresh modules after a scenario that used them without end.

        set_mm_limits logs the table only so many times in 5 s, and starts to
        count when it is loaded; the table must be logged once more.
        """
        self.unload_modules()
        self.load_modules()

    def missing_modules(self, state: GuestState) -> tuple[str, ...]:
        return tuple(name for name in self._modules if name not in state.modules)

    def mark(self, text: str) -> None:
        """Write a line into the kernel log."""
        self.command("sh", "-c", f"echo '{text}' > /dev/kmsg", what="writing to /dev/kmsg")

    def marked_log(self, text: str) -> str:
        """Write a line into the kernel log and return the whole log."""
        script = f"echo '{text}' > /dev/kmsg && dmesg"
        return self.command("sh", "-c", script, what="reading the kernel log").stdout

    def state(self) -> GuestState:
        script = (
            "cat /proc/sys/kernel/tainted; echo --; cat /proc/modules; echo --; "
            "cat /proc/[0-9]*/status 2>/dev/null; true"
        )
        output = self.command("sh", "-c", script, what="reading /proc").stdout
        return _parse_state(output)


def _parse_state(output: str) -> GuestState:
    parts = output.replace("\r", "").split("--\n", 2)
    if len(parts) != 3 or not parts[0].strip().isdigit():
        raise HarnessError("cannot read the guest's /proc", details=output.splitlines()[:5])
    return GuestState(
        taint=int(parts[0]),
        modules=frozenset(line.split()[0] for line in parts[1].splitlines() if line.strip()),
        processes=tuple(_live_processes(parts[2])),
    )


def _live_processes(statuses: str) -> Iterator[GuestProcess]:
    """The processes in concatenated /proc/PID/status files.

    A zombie holds nothing and only waits for its parent, unless it is a leader
    that exited before its other threads.
    """
    for text in re.split(r"^(?=Name:)", statuses, flags=re.MULTILINE):
        fields = dict(re.findall(r"^(\w+):\s*(\S+)", text, flags=re.MULTILINE))
        if not {"Name", "State", "Pid", "Uid"} <= fields.keys():
            continue  # went away while it was read
        if fields["State"] in "ZX" and fields.get("Threads") in ("0", "1"):
            continue
        yield GuestProcess(fields["Name"], int(fields["Pid"]), int(fields["Uid"]))
