# SPDX-License-Identifier: GPL-2.0-only
"""What a scenario is: what is done, and what must come of it.

It takes one of two forms: programs to run one after the other, optionally beside the
daemon, or a script for the guest program mm_play, which plays processes.  Under
several policies it becomes several cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Literal

from msgspec import Meta

from harness.datafile import Table
from harness.policies import Policies, Policy, known
from harness.users import app_uids

# In a file, each policy that is a module: what it chooses is judged by a rule.
ANY_POLICY = "any"


class Trigger(Enum):
    """What makes a killer run."""

    KERNEL = "kernel"
    DAEMON = "daemon"
    SYSCALL = "syscall"


class Command(Table, frozen=True):
    """A program to run in the guest and the status it must exit with.

    ``user`` is None for root.  An argument ``@FILE`` stands for the path in the
    guest of a pushed program or module; ``{policy}``, ``{seconds}`` and ``{seed}``
    stand for those of the case.
    """

    program: str
    args: tuple[str, ...] = ()
    user: str | None = None
    exit: int = 0


class Daemon(Table, frozen=True):
    """oom_daemonARM beside the experiment: interval in s, type of my_oom_killer()."""

    seconds: Annotated[int, Meta(ge=1)]
    type: Annotated[int, Meta(ge=0)]


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
    ``highest``     who is killed has the highest value of this among the candidates,
                    by what the kernel traced: ``score``, the policy's, or ``rss``
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
    highest: Literal["score", "rss"] | None = None


@dataclass(frozen=True)
class Scenario:
    """One file of scenarios/; ``timeout`` is in seconds, for each command.

    ``seconds`` is how long a scenario that does things at random goes on, unless
    told otherwise; 0 for one that does not.  ``debug_kernel``: it needs a debug
    kernel, and comes after all others.  ``config``: it needs a kernel built with the
    fragment configs/NAME.config.  ``compiled_in``: it shows that the policy which was
    selected at compile time holds from boot on, and needs that very kernel.
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
    config: str | None
    compiled_in: bool
    expect: Mapping[str, Expect] = field(repr=False)

    @property
    def policies(self) -> tuple[str, ...]:
        """The policies that it names."""
        return tuple(self.expect)

    def expected(self, policy: Policy) -> Expect | None:
        """What must come of it under a policy; None if it is not for that."""
        if policy.name in self.expect or policy.source is None:
            return self.expect.get(policy.name)
        return self.expect.get(ANY_POLICY)

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
    """One scenario under one policy.

    ``built_with`` is the policy of the kernel it runs on (empty: the same), on which its
    own is selected at run time.  ``seconds`` (None: as long as the scenario says) and
    ``seed`` are for scenarios that do things at random.
    """

    scenario: Scenario
    policy: str
    seconds: int | None = None
    seed: int = 1
    policies: Policies = field(default_factory=known, repr=False, compare=False)
    built_with: str = ""

    @property
    def kernel(self) -> str:
        """The policy that the kernel is built with."""
        return self.built_with or self.policy

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
        expected = self.scenario.expected(self.policies[self.policy])
        if expected is None:
            raise KeyError(f"{self.scenario.name} is not for the policy {self.policy}")
        return expected

    @property
    def killers(self) -> frozenset[str]:
        """The policies that may act: the kernel's own, the daemon's, the script's."""
        names = {step.operands[0] for step in self.scenario.steps if step.verb == "killer"}
        names.add(self.policy)
        if self.scenario.daemon:
            names.add(self.policies.of_type(self.scenario.daemon.type) or "")
        built_in = (*self.policies.built_in, self.policy)
        return frozenset(one for one in names if one in built_in and self.policies[one].kills)
