# SPDX-License-Identifier: GPL-2.0-only
"""Loads scenarios/*.toml: what each scenario does and what must come of it.

A scenario is data, so that adding one needs no Python and a reader sees on one
page who allocates what under which limits.  It takes one of two forms:

* ``[[experiment]]``: programs to run one after the other, optionally beside the
  daemon (``[daemon]``);
* ``steps``: a script for the guest program mm_play, which plays processes.

``[expect]`` says what must come of it; ``[expect.policy.NAME]`` overrides single
keys for kernels built with that policy.  docs/scenarios.md lists every key, and the
structs here are what a file may hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, UnsetType, field
from msgspec.structs import fields

from harness import policies
from harness.case.scenario import (
    ANY_POLICY,
    Command,
    Daemon,
    Expect,
    KillCount,
    Returns,
    Scenario,
    Step,
    Trigger,
)
from harness.datafile import Table, load, require_known
from harness.errors import HarnessError
from harness.layout import Layout
from harness.policies import known

HINT = "docs/scenarios.md lists the keys"

Number = Annotated[int, Meta(ge=0)]


class _Step(Table, frozen=True, kw_only=True, tag_field="do"):
    """A line of the script: its operands, which come first, and its options."""

    operands: ClassVar[tuple[str, ...]] = ()

    def step(self) -> Step:
        """As mm_play reads it."""
        return Step(self._verb, self._operands, self._options)

    @property
    def _verb(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def _operands(self) -> tuple[str, ...]:
        return tuple(str(getattr(self, name)) for name in self.operands)

    @property
    def _options(self) -> dict[str, str]:
        values = {
            one.encode_name: getattr(self, one.name)
            for one in fields(self)
            if one.name not in (*self.operands, *_Call.__struct_fields__)
        }
        return {name: str(value) for name, value in values.items() if value is not None}


class _Call(_Step, frozen=True, kw_only=True):
    """A system call, by root or ``as`` another user, and what it must return."""

    as_user: str | None = field(default=None, name="as")
    ret: int | None = None
    errno: str | None = None
    after_kills: bool = False

    def step(self) -> Step:
        """As mm_play reads it, and what the judge has to see."""
        options = self._options | ({} if self.as_user is None else {"as": self.as_user})
        usual = -1 if self.errno else 0
        returns = Returns(usual if self.ret is None else self.ret, self.errno)
        return Step(self._verb, self._operands, options, returns, self.after_kills)


class _Spawn(_Step, frozen=True, kw_only=True, tag="spawn"):
    operands = ("name",)
    name: str
    user: str
    bytes: Number
    count: Annotated[int, Meta(ge=1)] | None = None
    child: Annotated[int, Meta(ge=1)] | None = None
    burn_ms: Number | None = field(default=None, name="burn_ms")
    adj: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    kind: Literal["plain", "leader-exit", "shared-vm"] | None = None


class _WaitReady(_Step, frozen=True, kw_only=True, tag="wait-ready"):
    timeout_ms: Number | None = field(default=None, name="timeout_ms")


class _Grow(_Step, frozen=True, kw_only=True, tag="grow"):
    operands = ("name",)
    name: str
    bytes: Number


class _Limit(_Call, frozen=True, kw_only=True, tag="limit"):
    operands = ("user",)
    user: str
    bytes: Number


class _Remove(_Call, frozen=True, kw_only=True, tag="remove"):
    user: str

    @property
    def _verb(self) -> str:
        return "limit"  # mm_play's word for it is an operand of limit

    @property
    def _operands(self) -> tuple[str, ...]:
        return (self.user, "remove")

    @property
    def _options(self) -> dict[str, str]:
        return {}


class _Killer(_Call, frozen=True, kw_only=True, tag="killer"):
    operands = ("type",)
    type: int | str  # one that there is not is an experiment, too


class _Sleep(_Step, frozen=True, kw_only=True, tag="sleep"):
    ms: Number


class _ExpectDead(_Step, frozen=True, kw_only=True, tag="expect-dead"):
    operands = ("name",)
    name: str
    timeout_ms: Number | None = field(default=None, name="timeout_ms")


class _Report(_Step, frozen=True, kw_only=True, tag="report"):
    pass


_AnyStep = _Spawn | _WaitReady | _Grow | _Limit | _Remove | _Killer | _Sleep | _ExpectDead | _Report


class _Kills(Table, frozen=True, kw_only=True):
    """How many must be killed: ``count``, or between ``min`` and ``max``."""

    of: str
    count: Number | None = None
    min: Number | None = None
    max: Number | None = None
    mm_max: Number | None = None

    def __post_init__(self) -> None:
        """ValueError if that is no number of processes."""
        both = self.min is not None and self.max is not None and self.min <= self.max
        if (self.count is None) != both or (self.count is not None and self.min != self.max):
            raise ValueError("needs 'count', or 'min' and a 'max' that is not less")

    @property
    def kill_count(self) -> KillCount:
        low = self.count if self.min is None else self.min
        high = self.count if self.max is None else self.max
        assert low is not None and high is not None
        return KillCount(self.of, low, high, self.mm_max)


class _Expect(Table, frozen=True, kw_only=True):
    """What may be said for all policies, and again for one."""

    kills: tuple[str | _Kills, ...] | UnsetType = UNSET
    together: tuple[tuple[str, ...], ...] | UnsetType = UNSET
    unkillable: Number | UnsetType = UNSET
    finish: tuple[Number, ...] | UnsetType = UNSET
    within_s: float | UnsetType = UNSET
    overshoot: Number | UnsetType = UNSET
    settled: bool | UnsetType = UNSET
    tap: bool | UnsetType = UNSET
    output: tuple[str, ...] | UnsetType = UNSET
    self_judged: bool | UnsetType = UNSET
    highest: Literal["score", "rss"] | UnsetType = UNSET

    @property
    def given(self) -> dict[str, Any]:
        """The values of the keys that are there, as Expect has them."""
        values = {
            name: getattr(self, name)
            for name in _Expect.__struct_fields__
            if getattr(self, name) is not UNSET
        }
        if "kills" in values:
            values["kills"] = tuple(map(_kill_count, values["kills"]))
        if "finish" in values:
            values["finish"] = tuple(sorted(values["finish"]))
        return values


class _ExpectOfAll(_Expect, frozen=True, kw_only=True):
    policy: Mapping[str, _Expect] = field(default_factory=dict)


def _kill_count(row: str | _Kills) -> KillCount:
    return KillCount(row, 1, 1) if isinstance(row, str) else row.kill_count


class _File(Table, frozen=True, kw_only=True):
    """A scenario file."""

    name: str
    summary: str
    trigger: Trigger
    policies: Annotated[tuple[str, ...], Meta(min_length=1)]
    timeout: Annotated[float, Meta(gt=0)]
    experiments: tuple[Command, ...] = field(default=(), name="experiment")
    steps: tuple[_AnyStep, ...] = ()
    daemon: Daemon | None = None
    modules_loaded: bool = True
    seconds: Number = 0
    debug_kernel: bool = False
    config: str | None = None
    compiled_in: bool = False
    expect: _ExpectOfAll

    def __post_init__(self) -> None:
        """ValueError if what belongs together does not."""
        for policy in self.policies:
            require_known("a policy", policy, (*known(), ANY_POLICY))
        if self.daemon and known().of_type(self.daemon.type) is None:
            raise ValueError(f"daemon.type: no policy has the type {self.daemon.type}")
        if bool(self.experiments) == bool(self.steps):
            raise ValueError("needs either [[experiment]] tables or steps")
        if self.daemon and not self.experiments:
            raise ValueError("[daemon] goes with [[experiment]], not with steps")
        for policy in self.expect.policy:
            require_known("[expect.policy.NAME]", policy, self.policies)
        for policy, values in self.by_policy.items():
            if "kills" not in values:
                raise ValueError(f"expect: the key 'kills' is missing for {policy}")

    @property
    def by_policy(self) -> dict[str, dict[str, Any]]:
        """What must come of it under each policy, as Expect has it."""
        own = {name: one.given for name, one in self.expect.policy.items()}
        order = [*known(), ANY_POLICY]
        named = sorted(self.policies, key=order.index)
        return {policy: self.expect.given | own.get(policy, {}) for policy in named}

    @property
    def scenario(self) -> Scenario:
        return Scenario(
            name=self.name,
            summary=self.summary,
            trigger=self.trigger,
            timeout=self.timeout,
            commands=self.experiments,
            steps=tuple(one.step() for one in self.steps),
            daemon=self.daemon,
            modules_loaded=self.modules_loaded,
            seconds=self.seconds,
            debug_kernel=self.debug_kernel,
            config=self.config,
            compiled_in=self.compiled_in,
            expect={policy: Expect(**values) for policy, values in self.by_policy.items()},
        )


def load_scenarios(layout: Layout) -> tuple[Scenario, ...]:
    """Every scenario of the checkout, those of policies too, sorted by name.

    Raises HarnessError naming the file and key that is wrong.
    """
    folder = layout.root / "scenarios"
    paths = [*folder.glob("*.toml"), *(layout.root / policies.FOLDER).glob("*.toml")]
    if not paths:
        raise HarnessError(f"no scenario in {folder}", hint="is the checkout complete?")
    files: dict[str, Path] = {}
    for path in paths:
        if (other := files.setdefault(path.name, path)) is not path:
            raise HarnessError(f"{path}: {other} has this name", hint="rename one of them")
    return tuple(load_scenario(files[name]) for name in sorted(files))


def load_scenario(path: Path) -> Scenario:
    """One scenario file; its name must be the file's."""
    file = load(path, _File, root=path.parent, hint=HINT)
    if file.name != path.stem:
        raise HarnessError(f"{path}: name is {file.name!r}, file says {path.stem!r}", hint=HINT)
    return file.scenario
