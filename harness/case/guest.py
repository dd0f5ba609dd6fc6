# SPDX-License-Identifier: GPL-2.0-only
"""A booted guest that is ready for cases: modules, policy, files, what is left behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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
SCRIPT_PLAYER = "mm_play"
SAMPLES = f"{GUEST_DIR}/samples"

# A short command of the harness itself; a loaded guest may be slow to answer.
COMMAND_TIMEOUT_S = 20.0

# Says that it was this step of a script that failed.
NOT_SELECTED = 33
TRACE_MARK = "-- trace"


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

    ``as_booted``: no policy has been selected yet but by the kernel itself.
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
        self.as_booted = device.fresh
        self._before: GuestState | None = None
        if device.fresh:
            self.load_modules()
        else:
            self._tidy(programs)

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

    @property
    def before(self) -> GuestState:
        """The state that a case finds, and must leave."""
        if self._before is None:
            self._before = self.state()
        return self._before

    def _tidy(self, programs: Mapping[str, Path]) -> None:
        """Make a guest that others have used as one that we have booted.

        Programs and our modules are there, of this very build; the module of a policy may
        be an older one.
        """
        self._pushed.update(programs, (f"{name}.ko" for name in self._modules))
        ours = "|".join(self._modules)
        script = f"while read -r name _; do case $name in {ours}) ;; *) rmmod $name ;; esac; done"
        self.command("sh", "-c", f"{script} < /proc/modules", what="removing modules")

    def load_modules(self) -> None:
        for name in self._modules:
            self.command("insmod", self.path(f"{name}.ko"), what=f"insmod {name}.ko")

    def begin(self, policy: str | None, marker: str, *, traced: bool) -> None:
        """Begin a case: have the kernel use the policy (None: that it has booted with),
        trace whom it looks at if that is wanted, and mark the place in its log.
        """
        script = f"echo '{marker}' > /dev/kmsg"
        if traced:
            script = f"cd {self._traces()} && echo > trace && echo 1 > {EVENT}/enable && {script}"
        if policy is not None:
            self._load_policy(policy)
            script = f"{_selecting(policy)} || exit {NOT_SELECTED}; {script}"
            self.as_booted = False
        self.before  # noqa: B018 - looked at now, if that has not been done
        done = self._script(script)
        if done.returncode == NOT_SELECTED and policy is not None:
            raise self._not_selected(policy, done.stderr.strip())
        if done.returncode != 0:
            raise HarnessError("the guest's log cannot be marked", hint=done.stderr.strip())

    def _load_policy(self, name: str) -> None:
        """Load a policy's module, if it has one that is not loaded."""
        module = self._policies.get(name)
        if module is None or name in self._loaded:
            return
        done = self._script(f"insmod {self.path(module.name)}")
        if done.returncode != 0:
            raise self._not_selected(name, done.stderr.strip())
        self._loaded.add(name)
        self._before = None

    def _script(self, script: str) -> ShellResult:
        return self.device.shell(["sh", "-c", script], timeout=COMMAND_TIMEOUT_S, urgent=True)

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

    def _traces(self) -> str:
        """The folder of the traces; HarnessError if the kernel has none of candidates."""
        if self._tracing is None:
            raise HarnessError(
                "this kernel does not trace whom it looks at before it kills",
                hint="its config needs CONFIG_ENABLE_DEFAULT_TRACERS and CONFIG_DEBUG_FS",
            )
        return self._tracing

    def end(
        self, marker: str, *, sweep: Sequence[str], traced: bool
    ) -> tuple[str, tuple[Candidate, ...]]:
        """End a case: play the lines of ``sweep``, mark the log.

        Returns the whole log and whom the kernel has looked at since begin().
        """
        played = f"{GUEST_DIR}/sweep.play"
        lines = " ".join(f"'{line}'" for line in sweep)
        script = f"printf '%s\\n' {lines} > {played} && {self.path(SCRIPT_PLAYER)} {played} >&2"
        script += f" && echo '{marker}' > /dev/kmsg && dmesg && echo {TRACE_MARK}"
        if traced:
            script += f" && cd {self._traces()} && echo 0 > {EVENT}/enable && cat trace"
        output = self.command("sh", "-c", script, what="reading the kernel log").stdout
        log, _, trace = output.partition(f"{TRACE_MARK}\n")
        return log, parse_trace(trace.splitlines())

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
        steps = [f"rmmod {name}" for name in reversed(self._modules)]
        steps += [f"insmod {self.path(f'{name}.ko')}" for name in self._modules]
        self.command("sh", "-c", " && ".join(steps), what="loading our modules again")

    def missing_modules(self, state: GuestState) -> tuple[str, ...]:
        return tuple(name for name in self._modules if name not in state.modules)

    def state(self) -> GuestState:
        script = (
            "cat /proc/sys/kernel/tainted; echo --; cat /proc/modules; echo --; "
            "cat /proc/[0-9]*/status 2>/dev/null; true"
        )
        output = self.command("sh", "-c", script, what="reading /proc").stdout
        return _parse_state(output)


def _selecting(policy: str) -> str:
    return f"echo {policy} > {POLICY_FILE}"


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
