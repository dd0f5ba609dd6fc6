# SPDX-License-Identifier: GPL-2.0-only
"""kernels.toml becomes checked values, and a wrong name is answered with the right ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

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
    assert target.policy == kernels.default_policy
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


BOARD = "line.fake.board.arm-virt"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        # Unknown, missing and wrongly typed keys; values that there are not.
        ("default-board", "board-default", "line.fake: unknown key 'board-default', valid: desc"),
        ('description = "a fake"', "", "line.fake: the key 'description' is missing"),
        ("tcg-thread", "tcg-thred", f"{BOARD}: unknown key 'tcg-thred', valid: arch, machine"),
        ('"single"', '"one"', f"{BOARD}.tcg-thread: unknown value 'one', valid: multi, single"),
        ('["-M", "virt"]', '"-M virt"', f"{BOARD}.qemu-args: must be an array, is '-M virt'"),
        ('["-M", "virt"]', '["-M", 1]', rf"{BOARD}.qemu-args\[1\]: must be a string, is 1"),
        ("cpus = 1", "cpus = 0", f"{BOARD}.cpus: must be an integer >= 1, is 0"),
        ("cpus = 1", "cpus = true", f"{BOARD}.cpus: must be an integer, is true"),
        ("cpus = 1", 'cpus = 1\nname = "x"', f"{BOARD}: unknown key 'name', valid: arch"),
        ('"patches/fake"', "3", "line.fake.patches: must be a string, is 3"),
        ('sha256 = "00"', 'sha512 = "00"', "line.fake.source: unknown key 'sha512', valid: deb"),
        ('sha256 = "00"', "", "line.fake.source: url and sha256 go together"),
        # Names that nothing has.
        ('symbol = "KILL_NONE"', "", "policy.none: the key 'symbol' is missing"),
        ("type = 0", "typ = 0", "policy.rss: unknown key 'typ', valid: symbol, type, field"),
        ('board = "arm-virt"', 'board = "a"', "line.fake: default-board is 'a', valid: arm-virt"),
        ('default-line = "fake"', 'default-line = "o"', "default-line is 'o', valid: fake"),
        ("[test.emulator]", '[test.o]\nboard="b"', "test.o: unknown board of fake: 'b'"),
        ("[test.emulator]", '[test.o]\ntests="b"', "unknown value 'b', valid: debug, emulator"),
        ("default-line", "default line", "not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line(
    checkout: Checkout, old: str, new: str, complaint: str
) -> None:
    path = checkout.layout.root / "configs" / "kernels.toml"
    assert old in KERNELS_TOML
    path.write_text(KERNELS_TOML.replace(old, new, 1))
    with pytest.raises(HarnessError, match=complaint) as error:
        load_kernels(checkout.layout)
    assert error.value.what.startswith(str(path))
    assert len(error.value.what.splitlines()) == 1


def test_what_a_board_does_not_say_has_its_default(checkout: Checkout) -> None:
    board = checkout.line.boards["arm-virt"]
    assert (board.machine, board.user_compile) == (board.arch, board.cross_compile)
    assert replace(board, cross_compile="other-").user_compile == board.cross_compile
    assert board.debug.cpus is None


def test_the_parts_of_the_tests_name_files_that_are_there() -> None:
    layout = Layout.default()
    for name, part in load_kernels(layout).tests.items():
        folder = layout.root / "tests" / part.tests
        assert all((folder / file).is_file() for file in part.files), name
