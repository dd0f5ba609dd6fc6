# SPDX-License-Identifier: GPL-2.0-only
"""What the guest programs saw, read from what they print.

The kernel log says what the kernel claims; the programs' own output says who
really died and what each system call returned.  The judge compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

SHARER_SUFFIX = "+sharer"


@dataclass(frozen=True)
class Process:
    """A process that the case started.

    ``state`` is ``alive``, ``signaled`` or ``exited`` and ``value`` the signal or
    exit status; ``state`` is empty while nobody has said.  ``ready``: it had
    touched all its memory.
    """

    name: str
    pid: int
    uid: int | None = None
    size: int | None = None
    ready: bool = False
    state: str = ""
    value: int = 0

    @property
    def dead(self) -> bool:
        """Killed, or ended otherwise than by its own success."""
        return self.state == "signaled" or (self.state == "exited" and self.value != 0)

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


@dataclass(frozen=True)
class CallReturn:
    """What a system call returned to a guest program."""

    call: str
    ret: int
    errno: str
    uid: int | None = None
    mm_max: int | None = None

    def __str__(self) -> str:
        return self.errno if self.ret < 0 else f"{self.ret}"


@dataclass(frozen=True)
class Evidence:
    """Everything the programs of one case printed, as facts.

    ``reports`` are the states by process name that each report of a script
    found; ``grown`` names the processes that grew to the end; ``ended`` says that
    a script ran to its last line.
    """

    processes: tuple[Process, ...]
    returns: tuple[CallReturn, ...]
    reports: tuple[Mapping[str, str], ...] = ()
    grown: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    ended: bool = False

    def by_pid(self, pid: int) -> Process | None:
        return next((one for one in self.processes if one.pid == pid), None)


class _Processes:
    """Processes in order of their start, updated as lines come."""

    def __init__(self) -> None:
        self._by_pid: dict[int, Process] = {}

    def add(self, process: Process) -> None:
        self._by_pid.setdefault(process.pid, process)

    def ready(self, pid: int) -> None:
        if pid in self._by_pid:
            self._by_pid[pid] = replace(self._by_pid[pid], ready=True)

    def end(self, pid: int, state: str, value: int) -> None:
        if pid in self._by_pid:
            self._by_pid[pid] = replace(self._by_pid[pid], state=state, value=value)

    def all(self) -> tuple[Process, ...]:
        return tuple(self._by_pid.values())


def _fields(words: Iterable[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)


def read_script(stdout: str) -> Evidence:
    """The evidence in the output of mm_play."""
    processes = _Processes()
    returns: list[CallReturn] = []
    reports: list[dict[str, str]] = []
    grown: list[str] = []
    errors: list[str] = []
    last = ""
    for verb, fields, line in _script_lines(stdout):
        if verb == "spawn":
            processes.add(Process(fields["name"], int(fields["pid"]), uid=int(fields["uid"])))
        elif verb == "ready":
            processes.ready(int(fields["pid"]))
        elif verb == "grown":
            grown.append(fields["name"])
        elif verb in ("limit", "killer"):
            returns.append(_call_return(verb, fields))
        elif verb == "state":
            # A report lists each process once: a name that is there begins the next.
            if last != "state" or fields["name"] in reports[-1]:
                reports.append({})
            reports[-1][fields["name"]] = fields["state"]
            processes.end(int(fields["pid"]), fields["state"], int(fields.get("value", "0")))
        elif verb == "error":
            errors.append(line)
        last = verb
    return Evidence(
        processes=processes.all(),
        returns=tuple(returns),
        reports=tuple(reports),
        grown=tuple(grown),
        errors=tuple(errors),
        ended=last == "done",
    )


def _script_lines(stdout: str) -> Iterator[tuple[str, dict[str, str], str]]:
    for line in stdout.splitlines():
        words = line.split()
        if words:
            yield words[0], _fields(words[1:]), line


def _call_return(call: str, fields: Mapping[str, str]) -> CallReturn:
    size = fields.get("bytes", "")
    return CallReturn(
        call=call,
        ret=int(fields["ret"]),
        errno=fields["errno"],
        uid=int(fields["uid"]) if "uid" in fields else None,
        mm_max=int(size) if size.isdigit() else None,
    )


_CHILD = re.compile(
    r"child pid=(?P<pid>\d+) bytes=(?P<bytes>\d+) "
    r"(?P<what>start|finish|killed by signal (?P<signal>\d+)|exit (?P<exit>\d+))$"
)


def read_experiments(outputs: Sequence[str]) -> Evidence:
    """The evidence in the outputs of the original test programs.

    Their children have no names; each is called by its size in bytes.
    """
    processes = _Processes()
    returns: list[CallReturn] = []
    for line in (line for output in outputs for line in output.splitlines()):
        if match := _CHILD.match(line.strip()):
            pid, size = int(match["pid"]), int(match["bytes"])
            processes.add(Process(match["bytes"], pid, size=size))
            if match["what"] == "finish":
                processes.ready(pid)
            elif match["signal"]:
                processes.end(pid, "signaled", int(match["signal"]))
            elif match["exit"]:
                processes.end(pid, "exited", int(match["exit"]))
        elif line.startswith("set_mm_limits "):
            returns.append(_experiment_return(_fields(line.split()[1:])))
    uid = returns[0].uid if returns else None
    return Evidence(
        processes=tuple(replace(one, uid=uid) for one in processes.all()),
        returns=tuple(returns),
    )


def _experiment_return(fields: Mapping[str, str]) -> CallReturn:
    return CallReturn(
        call="limit",
        ret=int(fields["ret"]),
        errno=fields["errno"],
        uid=int(fields["uid"]),
        mm_max=int(fields["mm_max"]),
    )
