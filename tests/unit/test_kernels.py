# SPDX-License-Identifier: GPL-2.0-only
"""kernels.toml becomes checked values, and a wrong name is answered with the right ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.kernels import load_kernels
from harness.layout import Layout
from tests.unit.fake_tree import KERNELS_TOML, Checkout, make_checkout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    return make_checkout(tmp_path, monkeypatch)


def test_our_own_file_is_valid() -> None:
    kernels = load_kernels(Layout.default())
    target = kernels.target()
    assert target.line.name == kernels.default_line
    assert target.policy == kernels.policies[0]
    for line in kernels.lines.values():
        assert (line.patches / "series").exists()
        assert all(board.defconfig.exists() for board in line.boards.values())


def test_names_select_the_target(checkout: Checkout) -> None:
    target = checkout.kernels.target(line="fake", arch="arm", policy="none", debug=True)
    assert target.name == "fake/arm-virt-debug/none"
    assert target.board.compiler == "fake-arm-gcc"


@pytest.mark.parametrize(
    ("names", "what", "valid"),
    [
        ({"line": "linux-9"}, "unknown kernel: 'linux-9'", "--kernel takes one of: fake"),
        ({"policy": "rs"}, "unknown policy: 'rs'", "--policy takes one of: rss, none"),
        ({"board": "pi"}, "unknown board of fake: 'pi'", "--board takes one of: arm-virt"),
        ({"arch": "mips"}, "unknown arch of fake: 'mips'", "--arch takes one of: arm"),
    ],
)
def test_unknown_name_lists_the_valid_ones(
    checkout: Checkout, names: dict[str, str], what: str, valid: str
) -> None:
    with pytest.raises(HarnessError) as error:
        checkout.kernels.target(**names)  # type: ignore[arg-type]  # debug is a bool
    assert error.value.what == what
    assert error.value.hint == valid


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("default-board", "board-default", "default-board"),
        ('none = "KILL_NONE"', "", "policy-symbols.none"),
        ("default-line", "default line", "not valid TOML"),
        ('sha256 = "00"', 'sha512 = "00"', "sha512"),
        ('default-line = "fake"', 'default-line = "other"', "unknown kernel: 'other'"),
    ],
)
def test_wrong_file_is_named(checkout: Checkout, old: str, new: str, complaint: str) -> None:
    path = checkout.layout.root / "configs" / "kernels.toml"
    path.write_text(KERNELS_TOML.replace(old, new))
    with pytest.raises(HarnessError, match=complaint):
        load_kernels(checkout.layout)
