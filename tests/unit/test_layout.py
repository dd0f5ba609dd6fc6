# SPDX-License-Identifier: GPL-2.0-only
"""The three folders are where they can be used, whatever the checkout and HOME are like."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.layout import Layout, is_fit_for_make


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MMLIMITS_CACHE", "XDG_CACHE_HOME", "MMLIMITS_CWD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    return Path("/home/somebody")


def test_usually(home: Path) -> None:
    layout = Layout.at(Path("/src/mmü"))
    assert layout == Layout(
        root=Path("/src/mmü"),
        build=Path("/src/mmü/build"),
        cache=home / ".cache" / "user-mm-limits",
    )
    assert not layout.is_elsewhere


@pytest.mark.parametrize("root", ["/src/a b", "/src/a:b", "/src/it's", "/src/$x", "/src/a\tb"])
def test_where_make_cannot_work_build_is_elsewhere(root: str, home: Path) -> None:
    layout = Layout.at(Path(root))
    assert layout.is_elsewhere
    assert layout.build.parent == home / ".cache" / "user-mm-limits-build"
    assert layout.build != Layout.at(Path(f"{root}x")).build


def test_where_the_cache_is_no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/some body")
    build = Layout.at(Path("/src/a b")).build
    assert build.parent == Path(f"/var/tmp/user-mm-limits-{os.getuid()}")
    assert is_fit_for_make(build)


def test_the_cache_is_relative_to_where_the_user_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMLIMITS_CWD", "/where")
    monkeypatch.setenv("MMLIMITS_CACHE", "cache")
    assert Layout.at(Path("/src")).cache == Path("/where/cache")


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    assert Layout.at(Path("/src")).cache.parent == Path(f"/var/tmp/user-mm-limits-{os.getuid()}")
