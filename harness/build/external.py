# SPDX-License-Identifier: GPL-2.0-only
"""A module for a kernel that was built before, which may have been a while ago.

Kernels of one board share an object folder, whatever their configs: what a module
would be compiled with there is the config of whichever was built last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from harness import process, stamp
from harness.build.build import KernelBuild, ccache_environment, failure_lines
from harness.errors import HarnessError
from harness.layout import Layout


def make_external(
    kernel: KernelBuild, folder: Path, *, log: Path, layout: Layout
) -> process.Completed:
    """Compile the module in ``folder``; it is for the caller to say what of it failed."""
    env = ccache_environment(layout)
    _restore_config(kernel, log.with_name(f"{log.stem}-prepare.log"), env=env)
    command = [*kernel.make, f"M={folder.resolve()}", "modules"]
    result = process.run(command, what="make", log=log, env=env, check=False)
    if result.returncode != 0 and any(process.NO_SPACE in line for line in result.output):
        raise process.disk_full("make")
    return result


def build_external(kernel: KernelBuild, sources: Path, *, layout: Layout) -> tuple[Path, ...]:
    """Build a module that is not ours, in a copy of its sources; returns the .ko files."""
    folder = kernel.image.parent.parent / "external" / sources.name
    for path in stamp.files_below(sources):
        stamp.write_atomic(folder / path.relative_to(sources), path.read_bytes())
    log = folder.with_suffix(".log")
    result = make_external(kernel, folder, log=log, layout=layout)
    if result.returncode != 0:
        raise HarnessError(
            f"{sources.name} does not build",
            details=failure_lines(result.output),
            hint=f"the whole output is in {log}",
        )
    return tuple(sorted(folder.rglob("*.ko")))


def _restore_config(kernel: KernelBuild, log: Path, *, env: Mapping[str, str]) -> None:
    """Have the object folder as that kernel was built, but for the policy it begins with.

    Looked at is what Kconfig wrote last of all, so that what was interrupted is done again.
    """
    objdir = Path(kernel.make[kernel.make.index("-C") + 1]) / next(
        word.removeprefix("O=") for word in kernel.make if word.startswith("O=")
    )
    own = (kernel.image.parent / ".config").read_bytes()
    used = objdir / "include" / "config" / "auto.conf"
    if used.exists() and _symbols(used.read_bytes().splitlines()) == _symbols(own.splitlines()):
        return
    stamp.write_atomic(objdir / ".config", own)
    process.run([*kernel.make, "modules_prepare"], what="make modules_prepare", log=log, env=env)


def _symbols(lines: Iterable[bytes]) -> set[bytes]:
    """What may lay out a struct; auto.conf has strings without their quotes (6.1)."""
    return {
        line.translate(None, b'"\\')
        for line in lines
        if line.startswith(b"CONFIG_") and not line.startswith(b"CONFIG_OOM_KILLER_")
    }
