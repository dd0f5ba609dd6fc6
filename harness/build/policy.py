# SPDX-License-Identifier: GPL-2.0-only
"""A policy's one C file becomes a module for a kernel that was built."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness import stamp
from harness.build.build import KernelBuild
from harness.build.external import make_external
from harness.errors import HarnessError
from harness.layout import Layout
from harness.policies import Policy
from harness.ui import Stage

# Linux 3.4 only warns, and refuses the module when it is loaded.
_UNDEFINED = re.compile(r'(?:ERROR: modpost|WARNING): "(?P<symbol>[^"]+)" \[.*\] undefined')


def build_policy(kernel: KernelBuild, policy: Policy, *, layout: Layout, stage: Stage) -> Path:
    """The .ko of a policy's file; HarnessError says what is wrong with the file, and where."""
    source = policy.source
    assert source is not None
    folder = kernel.image.parent.parent / "policies" / policy.name
    stage.update(source.name)
    module, record = folder / f"{policy.name}.ko", stamp.Stamp(folder / "build.json")
    wanted = stamp.digest("of its config", kernel.identity, source.read_text(encoding="utf-8"))
    if record.matches(wanted, [module]):
        return module
    record.clear()
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_atomic(folder / source.name, source.read_bytes())
    stamp.write_atomic(folder / "Kbuild", f"obj-m := {policy.name}.o\n".encode())
    _make(kernel, folder, source, layout=layout)
    record.write(identity=wanted)
    return module


def _make(kernel: KernelBuild, folder: Path, source: Path, *, layout: Layout) -> None:
    log = folder / "make.log"
    result = make_external(kernel, folder, log=log, layout=layout)
    if result.returncode == 0 and not any(map(_UNDEFINED.match, result.output)):
        return
    where, why = _first_error(result.output, source)
    raise HarnessError(f"{where}: {why}", hint=f"the whole output is in {log}")


def _first_error(output: Sequence[str], source: Path) -> tuple[str, str]:
    """Where, in the file as the user knows it, and what."""
    error = re.compile(rf"(?:\S*/)?{re.escape(source.name)}:(\d+):(?:\d+:)? (?:fatal )?error: (.*)")
    for line in output:
        if match := error.match(line):
            return f"{source}:{match[1]}", match[2]
        if match := _UNDEFINED.match(line):
            return str(source), f"the kernel exports no symbol {match['symbol']!r} to modules"
    said = next((line for line in output if "error" in line.lower()), "make failed")
    return str(source), said
