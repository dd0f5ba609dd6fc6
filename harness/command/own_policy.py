# SPDX-License-Identifier: GPL-2.0-only
"""Policies of one's own: the file to start from, and from an edit to who died and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import ui
from harness.command.commands import Outputs, emulator_test
from harness.command.guests import identity, kept_or_new
from harness.command.selection import Selection
from harness.errors import HarnessError
from harness.layout import Layout
from harness.policies import FOLDER, check_name, load_policies
from harness.stamp import write_atomic

SOURCE = """\
// SPDX-License-Identifier: GPL-2.0-only
/*
 * The process with the highest score is killed first, of several with the same one the
 * youngest; USER_OOM_NEVER spares one.  docs/write-a-policy.md says what a score can use.
 */

#include <linux/user_oom_policy.h>

/* @rss is what the process has, in pages.  Called under RCU: it must not sleep. */
static s64 score(struct task_struct *p, long rss)
{{
	return rss;
}}

/* The name, which is that of the file; the score; what the log calls it; its unit. */
USER_OOM_POLICY("{name}", score, "{field}", 1);
"""

SCENARIO = """\
# SPDX-License-Identifier: GPL-2.0-only
# What {name} is for, said without its score: change who is killed as you change that.
# docs/scenarios.md lists the keys.
name = "{name}"
summary = "{name} kills the process with most memory"
trigger = "kernel"
policies = ["{name}"]
timeout = 30

[[steps]]
do = "spawn"
name = "small"
user = "u0_a70"
bytes = 5_000_000

[[steps]]
do = "spawn"
name = "large"
user = "u0_a70"
bytes = 15_000_000

[[steps]]
do = "wait-ready"

[[steps]]
do = "limit"
user = "u0_a70"
bytes = 25_000_000

[[steps]]
do = "grow"
name = "small"
bytes = 8_000_000

[[steps]]
do = "wait-ready"

[expect]
kills = ["large"]
highest = "score"
"""


def try_policy(
    selection: Selection,
    file: Path,
    *,
    scenarios: Sequence[str],
    outputs: Outputs,
    cpus: int | None,
    layout: Layout,
) -> int:
    """Build a policy's file, boot, run what fits it, and show whom it chose among whom."""
    if not file.is_file():
        names = ", ".join(load_policies(layout).built_in)
        raise HarnessError(
            f"there is no file {file}",
            hint=f"./run new-policy {file.stem} makes one; for {names}:"
            " ./run emulator-test --policy=NAME",
        )
    policy = load_policies(layout, extra=file).of_file(file)
    return emulator_test(
        selection,
        policies=[policy.name],
        scenarios=scenarios,
        outputs=outputs,
        jobs=1,
        layout=layout,
        cpus=cpus,
        extra_policy=file,
        explain=True,
        take_kept=lambda boot, prepared, accel: kept_or_new(
            boot, identity(prepared, accel, cpus=cpus), layout=layout
        ),
    )


def new_policy(name: str, *, layout: Layout) -> None:
    """Write a policy that compiles and a scenario that shows it choosing."""
    folder = layout.root / FOLDER
    source, scenario = folder / f"{name}.c", folder / f"{name}.toml"
    check_name(name)
    if name in set(load_policies(layout)) or scenario.exists():
        raise HarnessError(f"there is a policy {name!r} already", hint="choose another name")
    if (layout.root / "scenarios" / scenario.name).exists():
        raise HarnessError(f"there is a scenario {name!r} already", hint="choose another name")
    write_atomic(source, SOURCE.format(name=name, field=_field(name)).encode())
    write_atomic(scenario, SCENARIO.format(name=name).encode())
    ui.console.print(str(source), soft_wrap=True)
    ui.console.print(str(scenario), soft_wrap=True)
    ui.say(f"next: ./run try {FOLDER}/{name}.c, then change score() in it")


def _field(name: str) -> str:
    return name.replace("-", "_")[:24] + "_score"
