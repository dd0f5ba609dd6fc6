# SPDX-License-Identifier: GPL-2.0-only
"""Stage 3: the kernel's .config from the board's defconfig, the policy and the debug fragment.

Kconfig drops what it does not know or what lacks a dependency, and says nothing.
A kernel that silently lacks the policy it was asked for would make every
scenario lie, so each symbol asked for is looked up in the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness import process, stamp
from harness.errors import HarnessError
from harness.kernels import Board, Target
from harness.source.patch import PatchedTree
from harness.ui import Stage

NOT_SET = "n"


@dataclass(frozen=True, kw_only=True)
class ConfigureRequest:
    """The tree to configure and what for."""

    tree: PatchedTree
    target: Target


@dataclass(frozen=True, kw_only=True)
class ConfiguredTree:
    """A tree whose object folder has the .config of ``target``.

    The object folder is a child of the tree: kbuild then calls the source
    ``..``, and ccache finds the objects again wherever the checkout is.
    """

    tree: PatchedTree
    objdir: Path
    target: Target
    identity: str

    @property
    def artefacts(self) -> Path:
        """Where what is built for this target is kept."""
        return self.tree.work / self.target.flavour / self.target.policy


def object_folder(tree: PatchedTree, target: Target) -> Path:
    """Shared by policies, and by variants with the whole series: a switch rebuilds little."""
    variant = target.variant
    apart = variant is not None and (variant.apart or variant.until is not None)
    flavour = target.flavour if apart else replace(target, variant=None).flavour
    return tree.path / f"out-{flavour}"


def requested_config(request: ConfigureRequest) -> dict[str, str]:
    """The symbols asked for and their values; later layers win over earlier ones."""
    target = request.target
    config: dict[str, str] = {}
    base = target.board.base_defconfig
    if base is not None:
        config |= parse_config(_read(request.tree.path / base))
    config |= parse_config(_read(target.board.defconfig))
    for fragment in target.variant.configs if target.variant else ():
        config |= parse_config(_read(fragment))
    if target.debug:
        config |= parse_config(_read(target.line.debug_config))
    if not target.patched:
        return config
    chosen = target.symbols[target.policy]
    return config | {
        f"CONFIG_{symbol}": "y" if symbol == chosen else NOT_SET
        for symbol in target.symbols.values()
    }


def identity(request: ConfigureRequest) -> str:
    """What the configuration depends on: known without running anything."""
    wanted = requested_config(request)
    return stamp.digest(
        request.tree.identity,
        request.target.board.arch,
        *(f"{symbol}={value}" for symbol, value in sorted(wanted.items())),
    )


def configure(
    request: ConfigureRequest,
    *,
    make: list[str],
    env: Mapping[str, str],
    stage: Stage,
) -> ConfiguredTree:
    """Bring the object folder's .config to what is asked; it is written only if it differs.

    ``make`` and ``env`` are the make command of the build and its environment, so
    that Kconfig sees the compiler that will be used.
    """
    wanted = requested_config(request)
    objdir = object_folder(request.tree, request.target)
    objdir.mkdir(parents=True, exist_ok=True)
    candidate = objdir / ".config.candidate"
    candidate.write_text(format_config(wanted), encoding="utf-8")
    goal = request.target.line.goals.configure
    stage.update(f"make {goal}")
    process.run(
        [*make, f"KCONFIG_CONFIG={candidate.resolve()}", goal],
        what=f"make {goal}",
        env=env,
        log=request.tree.work / f"configure-{request.target.flavour}.log",
    )
    _verify(wanted, parse_config(_read(candidate)), board=request.target.board)
    _install(candidate, objdir / ".config")
    return ConfiguredTree(
        tree=request.tree,
        objdir=objdir,
        target=request.target,
        identity=identity(request),
    )


def parse_config(text: str) -> dict[str, str]:
    """``CONFIG_X`` to its value; ``# CONFIG_X is not set`` is the value n."""
    values = {}
    for line in text.splitlines():
        if match := re.match(r"(CONFIG_\w+)=(.*)", line):
            values[match.group(1)] = match.group(2)
        elif match := re.match(r"# (CONFIG_\w+) is not set", line):
            values[match.group(1)] = NOT_SET
    return values


def format_config(values: Mapping[str, str]) -> str:
    """The inverse of ``parse_config``."""
    lines = (
        f"# {symbol} is not set" if value == NOT_SET else f"{symbol}={value}"
        for symbol, value in values.items()
    )
    return "\n".join(lines) + "\n"


def _verify(wanted: Mapping[str, str], got: Mapping[str, str], *, board: Board) -> None:
    """Each symbol asked for must have survived; n and absent are the same."""
    dropped = [
        f"{symbol}: asked for {value}, got {got.get(symbol, 'nothing')}"
        for symbol, value in wanted.items()
        if got.get(symbol, NOT_SET) != value
    ]
    if dropped:
        raise HarnessError(
            f"Kconfig dropped {len(dropped)} symbol(s) of {board.defconfig.name} or the policy",
            details=dropped[:30],
            hint="a dependency is missing or the symbol does not exist in this source:"
            " `make menuconfig` in the tree shows which ('/' searches)",
        )


def _install(candidate: Path, config: Path) -> None:
    """Replace .config only when its content differs: its time makes make work."""
    if config.exists() and config.read_bytes() == candidate.read_bytes():
        candidate.unlink()
    else:
        candidate.replace(config)
    candidate.with_name(candidate.name + ".old").unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot read the config {path}: {error.strerror}") from error
