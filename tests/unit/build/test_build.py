# SPDX-License-Identifier: GPL-2.0-only
"""Builds happen when something changed, and a failure shows the error itself."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from harness.build import build as module
from harness.build.build import BuildRequest, KernelBuild, blamed_file, failure_lines
from harness.errors import HarnessError
from harness.source import patch
from harness.source.patch import PatchRequest
from tests.unit.fake_tree import PAGE_ALLOC, Checkout, make_checkout, stage
from tests.unit.test_process import read_pid, wait_until_dead


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    checkout = make_checkout(tmp_path, monkeypatch)
    hooked = PAGE_ALLOC.replace("line 20\n", "hook\n")
    checkout.add_patch("0001-hook.patch", {"mm/page_alloc.c": (PAGE_ALLOC, hooked)})
    return checkout


def build(checkout: Checkout, policy: str = "rss") -> KernelBuild:
    """All stages up to the kernel, as the tasks run them."""
    tree = patch.apply(
        PatchRequest(line=checkout.line, source=checkout.fetched()),
        layout=checkout.layout,
        stage=stage(),
    )
    request = BuildRequest(tree=tree, target=checkout.kernels.target(policy=policy))
    return module.build(request, layout=checkout.layout, stage=stage())


def made(checkout: Checkout) -> list[str]:
    """What make made so far: zImage or M (external modules), in order."""
    return (checkout.objdir / "made").read_text().split()


def edit(checkout: Checkout, text: str) -> None:
    with (checkout.source_tree / "mm/page_alloc.c").open("a") as file:
        file.write(text)


def test_build_gives_image_modules_and_headers(checkout: Checkout) -> None:
    kernel = build(checkout)
    assert kernel.image.read_text().startswith(PAGE_ALLOC[:100])
    assert [path.name for path in kernel.modules] == ["limits.ko"]
    assert (kernel.headers / "linux/mm_limits.h").read_text() == "limits\n"
    assert kernel.release == "6.1.99-fake"
    assert kernel.reproduce.startswith("make -C ")
    assert (kernel.image.parent / ".config").exists()


def test_nothing_to_do_starts_no_make(checkout: Checkout) -> None:
    kernel = build(checkout)
    assert build(checkout) == kernel
    assert made(checkout) == ["zImage", "M"]


def test_switching_back_to_a_policy_costs_nothing(checkout: Checkout) -> None:
    rss, none = build(checkout), build(checkout, "none")
    assert rss.image.read_bytes() != none.image.read_bytes()
    assert rss.headers_identity == none.headers_identity
    assert build(checkout) == rss
    assert made(checkout) == ["zImage", "M"] * 2


def test_edit_in_the_tree_is_built(checkout: Checkout) -> None:
    first = build(checkout)
    edit(checkout, "mine\n")
    second = build(checkout)
    assert second.identity != first.identity
    assert "mine" in second.image.read_text()


def test_file_put_back_with_its_old_time_is_noticed(checkout: Checkout) -> None:
    path = checkout.layout.root / "saved.c"
    build(checkout)
    source = checkout.source_tree / "mm/page_alloc.c"
    shutil.copy2(source, path)
    edit(checkout, "mine\n")
    build(checkout)
    last_make = (checkout.objdir / ".harness-edits.json").stat().st_mtime
    shutil.copy2(path, source)
    assert source.stat().st_mtime < last_make
    shutil.rmtree(next(checkout.layout.build.glob("*/arm-virt/rss")))
    build(checkout)
    assert source.stat().st_mtime > last_make


def test_changed_module_is_built(checkout: Checkout) -> None:
    build(checkout)
    (checkout.layout.root / "modules/limits/limits.c").write_text("other module\n")
    assert build(checkout).modules[0].read_text() == "other module\n"
    shutil.rmtree(checkout.layout.root / "modules/limits")
    assert build(checkout).modules == ()


def test_lost_artefact_is_made_again(checkout: Checkout) -> None:
    build(checkout).image.unlink()
    assert build(checkout).image.exists()


def test_compile_error_is_shown_not_the_last_lines(checkout: Checkout) -> None:
    build(checkout)
    edit(checkout, "BROKEN\n")
    with pytest.raises(HarnessError, match="the kernel does not build") as error:
        build(checkout)
    assert error.value.details == (
        "In file included from ../include/linux/mm.h:7,",
        "../mm/page_alloc.c: In function 'rmqueue':",
        "../mm/page_alloc.c:12:3: error: expected ';' before 'return'",
        "   12 |   BROKEN",
    )
    assert "to run it again: make -C" in error.value.hint
    log = next(checkout.layout.build.glob("*/arm-virt/build.log"))
    assert len(log.read_text().splitlines()) > 2000


def test_failed_build_does_not_count(checkout: Checkout) -> None:
    build(checkout)
    edit(checkout, "BROKEN\n")
    for _ in range(2):
        with pytest.raises(HarnessError, match="does not build"):
            build(checkout)


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (
            [
                "  CC      a.o",
                "ld: mm/a.o: in function `f':",
                "a.c:(.text+0x4): undefined reference to `g'",
                "make: *** [x] Error 1",
            ],
            ["a.c:(.text+0x4): undefined reference to `g'"],
        ),
        (
            ["  MODPOST x", 'ERROR: modpost: "f" [x.ko] undefined!', "make[1]: *** [y] Error 1"],
            ['ERROR: modpost: "f" [x.ko] undefined!'],
        ),
        (
            ["  CC      a.o", "make: *** No rule to make target 'b'."],
            ["make: *** No rule to make target 'b'."],
        ),
        (["odd"], ["odd"]),
    ],
)
def test_first_telling_line_is_found(output: list[str], shown: list[str]) -> None:
    assert failure_lines(output) == shown


def test_who_uses_a_macro_wrongly_is_blamed() -> None:
    output = [
        "arch/arm/include/asm/uaccess.h:140:19: warning: assignment discards 'const'",
        "  140 |                 x = (typeof(*(p))) __r2;",
        "      |                   ^",
        "drivers/misc/trace.c:146:21: note: in expansion of macro 'get_user'",
        "  146 |                 if (get_user(str, argv ++))",
        "mm/mm_limits.c:163:1: warning: the frame size is larger than 1024 bytes",
        "mm/mm_limits.c:163:1: note: in expansion of macro 'other'",
    ]
    assert blamed_file(output) == "drivers/misc/trace.c"
    assert blamed_file(output[5:]) == "mm/mm_limits.c"
    assert blamed_file(output[:3]) == "arch/arm/include/asm/uaccess.h"


def test_missing_cross_compiler_is_named(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"].split(":", 1)[1])
    with pytest.raises(HarnessError, match="command not found: fake-arm-gcc") as error:
        build(checkout)
    assert "apt-get install gcc-fake-arm" in error.value.hint


def test_ctrl_c_leaves_no_make_and_no_half_result(checkout: Checkout) -> None:
    build(checkout)
    edit(checkout, "SLEEP\n")

    def interrupt() -> None:
        read_pid(checkout.objdir / "sleeping")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        build(checkout)
    thread.join()
    wait_until_dead(read_pid(checkout.objdir / "sleeping"))
    assert not list(checkout.layout.build.glob("*/arm-virt/rss/build.json"))
