# SPDX-License-Identifier: GPL-2.0-only
"""A policy's module is built with its kernel's config, whoever used the tree meanwhile."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.build.policy import _restore_config

OWN = "CONFIG_SMP=y\nCONFIG_OOM_KILLER_HIGHEST_RSS=y\n"


@pytest.mark.parametrize(
    ("left", "restored"),
    [
        ("CONFIG_SMP=y\nCONFIG_OOM_KILLER_NONE=y\n", False),
        ("CONFIG_SMP=y\nCONFIG_KCSAN=y\nCONFIG_OOM_KILLER_HIGHEST_RSS=y\n", True),
    ],
)
def test_the_tree_gets_the_config_of_the_kernel(tmp_path: Path, left: str, restored: bool) -> None:
    objdir, kept = tmp_path / "src" / "out", tmp_path / "rss"
    objdir.mkdir(parents=True)
    kept.mkdir()
    (objdir / ".config").write_text(left)
    (kept / ".config").write_text(OWN)
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\nfor goal; do :; done; echo "$goal" > {tmp_path}/goal\n')
    make.chmod(0o755)
    kernel: Any = SimpleNamespace(
        image=kept / "zImage", make=(str(make), "-C", str(tmp_path / "src"), "O=out")
    )
    _restore_config(kernel, tmp_path / "log", env={})
    assert (objdir / ".config").read_text() == (OWN if restored else left)
    assert (tmp_path / "goal").exists() == restored
    if restored:
        assert (tmp_path / "goal").read_text() == "modules_prepare\n"
