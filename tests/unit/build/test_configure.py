# SPDX-License-Identifier: GPL-2.0-only
"""A symbol that was asked for is there, or its name is in the error."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build import configure
from harness.build.build import BuildRequest, make_command
from harness.build.configure import ConfiguredTree, ConfigureRequest, format_config, parse_config
from harness.errors import HarnessError
from harness.source import patch
from harness.source.patch import PatchRequest
from tests.unit.fake_tree import Checkout, make_checkout, stage, write


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    return make_checkout(tmp_path, monkeypatch)


def configured(checkout: Checkout, policy: str = "rss", *, debug: bool = False) -> ConfiguredTree:
    tree = patch.apply(
        PatchRequest(line=checkout.line, source=checkout.fetched()),
        layout=checkout.layout,
        stage=stage(),
    )
    target = checkout.kernels.target(policy=policy, debug=debug)
    request = BuildRequest(tree=tree, target=target)
    return configure.configure(
        ConfigureRequest(tree=tree, target=target),
        make=make_command(request, layout=checkout.layout),
        env={},
        stage=stage(),
    )


def test_the_trees_own_defconfig_comes_first(checkout: Checkout) -> None:
    write(checkout.kernel, {"arch/arm/configs/own_defconfig": "CONFIG_A=m\nCONFIG_C=y\n"})
    toml = checkout.layout.root / "configs" / "kernels.toml"
    board = "[line.fake.board.arm-virt]\n"
    own = f'{board}base-defconfig = "arch/arm/configs/own_defconfig"\n'
    toml.write_text(toml.read_text().replace(board, own))
    config = parse_config((configured(checkout).objdir / ".config").read_text())
    assert (config["CONFIG_A"], config["CONFIG_B"], config["CONFIG_C"]) == ("y", "n", "y")


def test_config_is_parsed_and_formatted() -> None:
    text = 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x y"\n'
    assert parse_config("# a comment\n\n" + text) == {
        "CONFIG_A": "y",
        "CONFIG_B": "n",
        "CONFIG_C": '"x y"',
    }
    assert format_config(parse_config(text)) == text


def test_policy_is_chosen_and_the_others_are_off(checkout: Checkout) -> None:
    tree = configured(checkout, "none")
    assert tree.objdir == tree.tree.path / "out-arm-virt"
    assert (tree.objdir / ".config").read_text() == (
        "CONFIG_A=y\n# CONFIG_B is not set\n# CONFIG_KILL_RSS is not set\nCONFIG_KILL_NONE=y\n"
    )
    assert tree.artefacts == tree.tree.work / "arm-virt" / "none"


def test_same_config_is_not_written_again(checkout: Checkout) -> None:
    config = configured(checkout).objdir / ".config"
    before = config.stat().st_mtime_ns
    assert configured(checkout).objdir / ".config" == config
    assert config.stat().st_mtime_ns == before
    configured(checkout, "none")
    assert config.stat().st_mtime_ns > before


def test_debug_fragment_wins_and_has_its_own_folder(checkout: Checkout) -> None:
    fragment = checkout.layout.root / "configs/debug.config"
    with pytest.raises(HarnessError, match=r"cannot read the config .*debug\.config"):
        configured(checkout, debug=True)
    fragment.write_text("CONFIG_B=y\n")
    tree = configured(checkout, debug=True)
    assert tree.objdir.name == "out-arm-virt-debug"
    assert "CONFIG_B=y" in (tree.objdir / ".config").read_text()
    assert tree.identity != configured(checkout).identity


def test_dropped_symbol_is_named(checkout: Checkout) -> None:
    with (checkout.layout.root / "configs/fake_defconfig").open("a") as config:
        config.write("CONFIG_UNKNOWN_THING=y\n# CONFIG_UNKNOWN_OFF is not set\n")
    with pytest.raises(HarnessError, match="Kconfig dropped 1 symbol") as error:
        configured(checkout)
    assert error.value.details == ("CONFIG_UNKNOWN_THING: asked for y, got nothing",)
    assert not (checkout.objdir / ".config").exists()


def test_missing_defconfig_is_named(checkout: Checkout) -> None:
    (checkout.layout.root / "configs/fake_defconfig").unlink()
    with pytest.raises(HarnessError, match="fake_defconfig"):
        configured(checkout)
