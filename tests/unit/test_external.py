# SPDX-License-Identifier: GPL-2.0-only
"""A module is built with its kernel's config, whoever used the object folder meanwhile."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.build.external import make_external
from harness.layout import Layout

OWN = '# CONFIG_KCSAN is not set\nCONFIG_SMP=y\nCONFIG_SALT="x"\nCONFIG_OOM_KILLER_HIGHEST_RSS=y\n'


@pytest.mark.parametrize(
    ("left", "restored"),
    [
        ("CONFIG_SALT=x\nCONFIG_SMP=y\nCONFIG_OOM_KILLER_NONE=y\n", False),
        ("CONFIG_SALT=x\nCONFIG_SMP=y\nCONFIG_KCSAN=y\n", True),
        (None, True),
    ],
)
def test_the_object_folder_gets_the_config_of_the_kernel(
    tmp_path: Path, left: str | None, restored: bool
) -> None:
    objdir, kept = tmp_path / "src" / "out", tmp_path / "rss"
    used = objdir / "include" / "config"
    used.mkdir(parents=True)
    kept.mkdir()
    # As after an interruption: what make goes by is what Kconfig has written.
    (objdir / ".config").write_text(OWN)
    if left is not None:
        (used / "auto.conf").write_text(left)
    (kept / ".config").write_text(OWN)
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\nfor goal; do :; done; echo "$goal" >> {tmp_path}/goals\n')
    make.chmod(0o755)
    kernel: Any = SimpleNamespace(
        image=kept / "zImage", make=(str(make), "-C", str(tmp_path / "src"), "O=out")
    )
    layout = Layout(root=tmp_path, build=tmp_path / "build", cache=tmp_path / "cache")
    make_external(kernel, tmp_path / "module", log=tmp_path / "make.log", layout=layout)
    goals = (tmp_path / "goals").read_text().split()
    assert goals == (["modules_prepare", "modules"] if restored else ["modules"])
    assert (objdir / ".config").read_text() == OWN
