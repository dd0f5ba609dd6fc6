# SPDX-License-Identifier: GPL-2.0-only
"""Loads scenarios/*.toml: what each scenario does and what must come of it.

A scenario is data, so that adding one needs no Python and a reader sees on one
page who allocates what under which limits.  It takes one of two forms:

* ``[[experiment]]``: programs to run one after the other, optionally beside the
  daemon (``[daemon]``);
* ``steps``: a script for the guest program mm_play, which plays processes.

``[expect]`` says what must come of it; ``[expect.policy.NAME]`` overrides single
keys for kernels built with that policy.  scenarios/README.md lists every key.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import HarnessError
from harness.layout import Layout
from harness.users import app_uids

POLICIES = ("rss", "runtime", "badness", "none")

# A random case must fit into the kernel log (1 MB), start marker and all.
RANDOM_SECONDS = 30

# The types of my_oom_killer(), by number; the same words name the policies.
KILLER_TYPES = ("rss", "runtime", "badness")


class Trigger(Enum):
    """What makes a killer run."""

    KERNEL = "kernel"
    DAEMON = "daemon"
    SYSCALL = "syscall"


@dataclass(frozen=True)
class Command:
    """A program to run in the guest and the status it must exit with.

    ``user`` is None for root.  An argument ``@FILE`` stands for the path in the
    guest of a pushed program or module; ``{policy}``, ``{seconds}`` and ``{seed}``
    stand for those of the case.
    """

    program: str
    args: tuple[str, ...] = ()
    user: str | None = None
    exit: int = 0


@dataclass(frozen=True)
class Daemon:
    """oom_daemonARM beside the experiment: interval in s, killer type."""

    seconds: int
    type: int


@dataclass(frozen=True)
class Returns:
    """What a system call in a step must return; ``errno`` only if it must fail."""

    ret: int = 0
    errno: str | None = None

    def __str__(self) -> str:
        return self.errno if self.errno else f"{self.ret}"


@dataclass(frozen=True)
class Step:
    """One line of an mm_play script."""

    verb: str
    operands: tuple[str, ...]
    options: Mapping[str, str]
    returns: Returns | None = None
    after_kills: bool = False

    @property
    def line(self) -> str:
        """The step as mm_play reads it."""
        options = (f"{key}={value}" for key, value in self.options.items())
        return " ".join((self.verb, *self.operands, *options))


@dataclass(frozen=True)
class KillCount:
    """How many processes whose name matches the pattern ``of`` must be killed.

    ``mm_max`` is the limit, in bytes, that they must be killed for; None for any.
    """

    of: str
    min: int
    max: int
    mm_max: int | None = None

    def __str__(self) -> str:
        if self.min == self.max == 1:
            return self.of
        count = f"{self.min}" if self.min == self.max else f"{self.min} to {self.max}"
        return f"{count} of {self.of}"


@dataclass(frozen=True)
class Expect:
    """What must come of a scenario under one policy.

    ``kills``       who is killed; every other process must survive
    ``together``    groups of processes that share memory: a kill of one counts
                    as a kill of the first, and all die
    ``unkillable``  number of "no killable process" lines
    ``finish``      the sizes in bytes of the children that must print finish,
                    None if the programs have no such children
    ``within_s``    seconds after the start in which the first kill must come
    ``overshoot``   how far, in bytes, a user may be over its limit at a kill
    ``settled``     all reports of the script must agree
    ``tap``         each program prints ``ok``/``not ok`` lines and a plan
    ``output``      texts that must be in what the programs print
    ``self_judged`` the program itself judges the kills, whose number is random
    """

    kills: tuple[KillCount, ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    unkillable: int = 0
    finish: tuple[int, ...] | None = None
    within_s: float | None = None
    overshoot: int | None = None
    settled: bool = False
    tap: bool = False
    output: tuple[str, ...] = ()
    self_judged: bool = False


@dataclass(frozen=True)
class Scenario:
    """One file of scenarios/; ``timeout`` is in seconds, for each command.

    ``seconds`` is how long a scenario that does things at random goes on, unless
    told otherwise; 0 for one that does not.  ``debug_kernel``: it needs a debug
    kernel, and comes after all others.
    """

    name: str
    summary: str
    trigger: Trigger
    timeout: float
    commands: tuple[Command, ...]
    steps: tuple[Step, ...]
    daemon: Daemon | None
    modules_loaded: bool
    seconds: int
    debug_kernel: bool
    expect: Mapping[str, Expect] = field(repr=False)

    @property
    def policies(self) -> tuple[str, ...]:
        """The policies to build the kernel with, in the order of POLICIES."""
        return tuple(policy for policy in POLICIES if policy in self.expect)

    @property
    def script(self) -> str:
        """The steps as an mm_play script; the last thing it does is report."""
        lines = [f"# {self.name}: {self.summary}", *(step.line for step in self.steps), "report"]
        return "\n".join(lines) + "\n"

    @property
    def users(self) -> tuple[str, ...]:
        """The users who may have got a limit, in order of first mention."""
        users = [step.operands[0] for step in self.steps if step.verb == "limit"]
        users += [command.user for command in self.commands if command.user]
        return tuple(dict.fromkeys(users))

    @property
    def app_uids(self) -> frozenset[int]:
        """The uids of all users named u0_aN that are mentioned anywhere in it."""
        words = [step.line for step in self.steps]
        words += [" ".join((one.user or "", *one.args)) for one in self.commands]
        return app_uids(" ".join(words))


@dataclass(frozen=True)
class Case:
    """One scenario on a kernel built with one policy.

    ``seconds`` (None: as long as the scenario says) and ``seed`` are for scenarios
    that do things at random.
    """

    scenario: Scenario
    policy: str
    seconds: int | None = None
    seed: int = 1

    @property
    def lasts(self) -> int:
        """How long a random scenario goes on, in seconds."""
        return self.scenario.seconds if self.seconds is None else self.seconds

    @property
    def timeout(self) -> float:
        """Seconds each command may take."""
        return self.scenario.timeout + (self.lasts if self.scenario.seconds else 0)

    def arguments(self, command: Command) -> tuple[str, ...]:
        """The arguments with what stands for this case's own put in."""
        values = {"{policy}": self.policy, "{seconds}": str(self.lasts), "{seed}": str(self.seed)}
        return tuple(values.get(argument, argument) for argument in command.args)

    @property
    def id(self) -> str:
        """Name of the case, one of its own for each seed but the first."""
        name = f"{self.scenario.name}-{self.policy}"
        return name if self.seed == 1 else f"{name}-{self.seed}"

    @property
    def expect(self) -> Expect:
        return self.scenario.expect[self.policy]

    @property
    def killers(self) -> frozenset[str]:
        """The killers that may act: the kernel's own, the daemon's, the script's."""
        names = {self.policy} - {"none"}
        if self.scenario.daemon:
            names.add(KILLER_TYPES[self.scenario.daemon.type])
        types = {s.operands[0] for s in self.scenario.steps if s.verb == "killer"}
        return frozenset(names | (types & set(KILLER_TYPES)))


@dataclass(frozen=True)
class _Form:
    """The keys of a step in the file; operands come first and are required."""

    operands: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    is_syscall: bool = False


_FORMS: Mapping[str, _Form] = {
    "spawn": _Form(("name",), ("user", "bytes"), ("count", "burn_ms", "adj", "kind")),
    "wait-ready": _Form(optional=("timeout_ms",)),
    "grow": _Form(("name",), ("bytes",)),
    "limit": _Form(("user",), ("bytes",), ("as",), is_syscall=True),
    "remove": _Form(("user",), optional=("as",), is_syscall=True),
    "killer": _Form(("type",), optional=("as",), is_syscall=True),
    "sleep": _Form(required=("ms",)),
    "expect-dead": _Form(("name",), optional=("timeout_ms",)),
    "report": _Form(),
}
_SYSCALL_KEYS = ("ret", "errno", "after-kills")


class _Section:
    """A table of a scenario file whose every key must be used, and typed."""

    def __init__(self, path: Path, where: str, data: object) -> None:
        self._path = path
        self._where = where
        if not isinstance(data, dict):
            self.fail("must be a table")
        self._data: dict[str, Any] = dict(data)

    def fail(self, why: str) -> NoReturn:
        where = f" {self._where}" if self._where else ""
        raise HarnessError(
            f"{self._path}:{where} {why}",
            hint="scenarios/README.md lists the keys",
        )

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
        """Remove and return ``key``; without a default it must be there."""
        value = self._data.pop(key, default)
        if value is ...:
            self.fail(f"key '{key}' is missing")
        if value is default:
            return value
        kinds = kind if isinstance(kind, tuple) else (kind,)
        # bool is an int in Python, but not in a scenario.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(one.__name__ for one in kinds)
            self.fail(f"key '{key}' must be of type {wanted}, is {value!r}")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        values = self.take(key, list, [])
        if not all(isinstance(value, str) for value in values):
            self.fail(f"key '{key}' must be a list of strings")
        return tuple(values)

    def sections(self, key: str) -> list[_Section]:
        rows = self.take(key, list, [])
        return [_Section(self._path, f"{key}[{n}]:", row) for n, row in enumerate(rows)]

    def section(self, key: str) -> _Section | None:
        data = self.take(key, dict, None)
        return None if data is None else _Section(self._path, f"[{key}]", data)

    def rest(self) -> dict[str, Any]:
        """Remove and return all keys not yet taken."""
        data, self._data = self._data, {}
        return data

    def done(self) -> None:
        if self._data:
            self.fail(f"unknown key '{next(iter(self._data))}'")


def load_scenarios(layout: Layout) -> tuple[Scenario, ...]:
    """Every scenario of the checkout, sorted by name.

    Raises HarnessError naming the file and key that is wrong.
    """
    folder = layout.root / "scenarios"
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise HarnessError(f"no scenario in {folder}", hint="is the checkout complete?")
    return tuple(load_scenario(path) for path in paths)


def load_scenario(path: Path) -> Scenario:
    """One scenario file; its name must be the file's."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise HarnessError(f"cannot read scenario {path}: {error}") from error
    top = _Section(path, "", data)
    name = top.take("name", str)
    if name != path.stem:
        top.fail(f"name is '{name}', file says '{path.stem}'")
    scenario = Scenario(
        name=name,
        summary=top.take("summary", str),
        trigger=_trigger(top),
        timeout=float(top.take("timeout", (int, float))),
        commands=tuple(_command(row) for row in top.sections("experiment")),
        steps=tuple(_step(row) for row in top.sections("steps")),
        daemon=_daemon(top),
        modules_loaded=top.take("modules-loaded", bool, True),
        seconds=top.take("seconds", int, 0),
        debug_kernel=top.take("debug-kernel", bool, False),
        expect=_expect_by_policy(top),
    )
    if bool(scenario.commands) == bool(scenario.steps):
        top.fail("needs either [[experiment]] tables or steps")
    if scenario.daemon and not scenario.commands:
        top.fail("[daemon] goes with [[experiment]], not with steps")
    top.done()
    return scenario


def _trigger(top: _Section) -> Trigger:
    word = top.take("trigger", str)
    try:
        return Trigger(word)
    except ValueError:
        valid = ", ".join(trigger.value for trigger in Trigger)
        top.fail(f"unknown trigger '{word}' (valid: {valid})")


def _command(row: _Section) -> Command:
    command = Command(
        program=row.take("program", str),
        args=row.strings("args"),
        user=row.take("user", str, None),
        exit=row.take("exit", int, 0),
    )
    row.done()
    return command


def _daemon(top: _Section) -> Daemon | None:
    section = top.section("daemon")
    if section is None:
        return None
    daemon = Daemon(seconds=section.take("seconds", int), type=section.take("type", int))
    if not 0 <= daemon.type < len(KILLER_TYPES):
        section.fail(f"unknown type {daemon.type}")
    section.done()
    return daemon


def _step(row: _Section) -> Step:
    verb = row.take("do", str)
    form = _FORMS.get(verb)
    if form is None:
        row.fail(f"unknown step '{verb}' (valid: {', '.join(_FORMS)})")
    operands = tuple(str(row.take(key, (str, int))) for key in form.operands)
    options = {key: str(row.take(key, (str, int))) for key in form.required}
    for key in form.optional:
        value = row.take(key, (str, int), None)
        if value is not None:
            options[key] = str(value)
    returns, after_kills = _returns(row) if form.is_syscall else (None, False)
    row.done()
    if verb == "remove":  # mm_play's word for it is an operand of limit
        verb, operands = "limit", (*operands, "remove")
    return Step(verb, operands, options, returns, after_kills)


def _returns(row: _Section) -> tuple[Returns, bool]:
    errno = row.take("errno", str, None)
    ret = row.take("ret", int, -1 if errno else 0)
    return Returns(ret, errno), row.take("after-kills", bool, False)


def _expect_by_policy(top: _Section) -> dict[str, Expect]:
    policies = top.strings("policies")
    if not policies:
        top.fail("key 'policies' must name at least one policy")
    unknown = [policy for policy in policies if policy not in POLICIES]
    if unknown:
        top.fail(f"unknown policy '{unknown[0]}' (valid: {', '.join(POLICIES)})")
    base = top.section("expect")
    if base is None:
        top.fail("table [expect] is missing")
    overrides: dict[str, Any] = base.take("policy", dict, {})
    for policy in overrides:
        if policy not in policies:
            base.fail(f"[expect.policy.{policy}] is for a policy that is not in 'policies'")
    shared = base.rest()
    return {
        policy: _expect(
            _Section(top._path, f"[expect] for {policy}:", {**shared, **overrides.get(policy, {})})
        )
        for policy in policies
    }


def _expect(section: _Section) -> Expect:
    finish = section.take("finish", list, None)
    within = section.take("within-s", (int, float), None)
    expect = Expect(
        kills=tuple(_kill_count(section, row) for row in section.take("kills", list)),
        together=tuple(tuple(group) for group in section.take("together", list, [])),
        unkillable=section.take("unkillable", int, 0),
        finish=None if finish is None else tuple(sorted(finish)),
        within_s=None if within is None else float(within),
        overshoot=section.take("overshoot", int, None),
        settled=section.take("settled", bool, False),
        tap=section.take("tap", bool, False),
        output=section.strings("output"),
        self_judged=section.take("self-judged", bool, False),
    )
    section.done()
    return expect


def _kill_count(section: _Section, row: object) -> KillCount:
    if isinstance(row, str):
        return KillCount(row, 1, 1)
    table = _Section(section._path, "kills:", row)
    of = table.take("of", str)
    count = table.take("count", int, None)
    low = table.take("min", int, count)
    high = table.take("max", int, count)
    mm_max = table.take("mm-max", int, None)
    if low is None or high is None or low > high:
        table.fail("needs 'count', or 'min' and 'max'")
    table.done()
    return KillCount(of, low, high, mm_max)


def select_cases(
    scenarios: Sequence[Scenario],
    *,
    names: Iterable[str] = (),
    policies: Iterable[str] = (),
    seconds: int | None = None,
    seed: int = 1,
    debug: bool = False,
) -> tuple[Case, ...]:
    """The cases to run, grouped by policy so that a group can share one boot.

    ``names`` may hold shell patterns (``kernel-*``).  Empty means all.  Raises
    HarnessError that lists the valid names if one is unknown or none is left.

    Random scenarios go on for ``seconds``, each in cases that fit into the kernel
    log, with seeds from ``seed`` on.  Scenarios for debug kernels are left out
    unless this is one (``debug``).
    """
    named = _select_scenarios(scenarios, tuple(names))
    chosen = [one for one in named if debug or not one.debug_kernel]
    chosen.sort(key=lambda one: one.debug_kernel)
    if not chosen:
        raise HarnessError(
            f"scenario '{named[0].name}' needs a debug kernel", hint="add --debug-kernel"
        )
    wanted = _select_policies(tuple(policies))
    cases = tuple(
        case
        for policy in wanted
        for scenario in chosen
        if policy in scenario.policies
        for case in _random_cases(scenario, policy, seconds, seed)
    )
    if not cases:
        runs = "; ".join(f"{s.name} runs under {', '.join(s.policies)}" for s in chosen)
        raise HarnessError(f"no chosen scenario runs under policy {', '.join(wanted)}", hint=runs)
    return cases


def _random_cases(
    scenario: Scenario, policy: str, seconds: int | None, seed: int
) -> Iterator[Case]:
    """One case; as many as it takes for a random scenario that is to go on for long."""
    if not scenario.seconds:
        yield Case(scenario, policy)
        return
    left = scenario.seconds if seconds is None else seconds
    while left > 0:
        yield Case(scenario, policy, min(left, RANDOM_SECONDS), seed)
        left -= RANDOM_SECONDS
        seed += 1


def _select_scenarios(
    scenarios: Sequence[Scenario], names: tuple[str, ...]
) -> tuple[Scenario, ...]:
    for name in names:
        if not fnmatch.filter([scenario.name for scenario in scenarios], name):
            raise HarnessError(
                f"unknown scenario '{name}'",
                hint="valid: " + ", ".join(scenario.name for scenario in scenarios),
            )
    return tuple(
        scenario
        for scenario in scenarios
        if not names or any(fnmatch.fnmatchcase(scenario.name, name) for name in names)
    )


def _select_policies(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in POLICIES:
            raise HarnessError(f"unknown policy '{name}'", hint="valid: " + ", ".join(POLICIES))
    return tuple(policy for policy in POLICIES if not names or policy in names)
