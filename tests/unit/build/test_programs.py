# SPDX-License-Identifier: GPL-2.0-only
"""Programs are compiled statically, with the kernel's headers, and only when needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build import programs
from harness.build.programs import Programs, ProgramsRequest
from harness.errors import HarnessError
from tests.unit.fake_tree import Checkout, make_checkout, stage


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    return make_checkout(tmp_path, monkeypatch)


NDK_BUILD = """#!/bin/sh
for word in "$@"; do
	case $word in
	*=*) name=${word%%=*} value=${word#*=}; eval "$name=\\$value" ;;
	esac
done
echo "$KERNEL_HEADERS $APP_BUILD_SCRIPT $NDK_APPLICATION_MK" >>"$(dirname "$0")/built"
grep -rq BROKEN "$NDK_PROJECT_PATH" && { echo "error: BROKEN"; exit 2; }
mkdir -p "$NDK_LIBS_OUT/$APP_ABI"
echo "of the NDK" >"$NDK_LIBS_OUT/$APP_ABI/$(basename "$NDK_PROJECT_PATH")"
"""


@pytest.fixture
def ndk(tmp_path: Path) -> Path:
    """A stand-in for an Android NDK: it compiles nothing."""
    folder = tmp_path / "ndk"
    folder.mkdir()
    (folder / "ndk-build").write_text(NDK_BUILD)
    (folder / "ndk-build").chmod(0o755)
    (folder / "RELEASE.TXT").write_text("r10e (64-bit)\n")
    return folder


def build(checkout: Checkout, headers_identity: str = "1", ndk: Path | None = None) -> Programs:
    request = ProgramsRequest(
        board=checkout.kernels.target().board,
        headers=Path("/headers"),
        headers_identity=headers_identity,
        out=checkout.layout.build / "programs",
        ndk=ndk,
    )
    return programs.build(request, layout=checkout.layout, stage=stage())


def compiled(checkout: Checkout) -> list[str]:
    return (checkout.tools / "compiled").read_text().splitlines()


def test_each_folder_with_jni_is_a_program(checkout: Checkout) -> None:
    result = build(checkout)
    assert list(result.files) == ["play"]
    assert result.files["play"].exists()
    assert list(result.guest) == ["sh", "su"]
    assert all(path.exists() for path in result.guest.values())
    play, sh, su = compiled(checkout)
    assert "-static -O2 -Wall -Wextra -Werror -std=gnu11 -isystem /headers" in play
    assert play.endswith("/userspace/play/jni/play.c -pthread")
    assert "-isystem" not in sh + su


def test_nothing_changed_compiles_nothing(checkout: Checkout) -> None:
    assert build(checkout) == build(checkout)
    assert len(compiled(checkout)) == 3


@pytest.mark.parametrize(
    "file", ["userspace/play/jni/play.c", "userspace/include/shared.h", "userspace/common/log.c"]
)
def test_changed_source_compiles_what_uses_it(checkout: Checkout, file: str) -> None:
    before = build(checkout)
    path = checkout.layout.root / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("/* changed */\n")
    assert build(checkout).identity != before.identity
    assert len(compiled(checkout)) == 4
    assert "play.c" in compiled(checkout)[-1]


def test_changed_headers_compile_all_but_what_is_of_the_guest(checkout: Checkout) -> None:
    build(checkout)
    build(checkout, headers_identity="2")
    assert len(compiled(checkout)) == 4


def test_compile_error_is_shown(checkout: Checkout) -> None:
    (checkout.layout.root / "userspace/play/jni/play.c").write_text("BROKEN\n")
    for _ in range(2):
        with pytest.raises(HarnessError, match="play does not compile") as error:
            build(checkout)
    assert "error: BROKEN" in error.value.details[0]
    assert "to run it again: fake-arm-gcc -static" in error.value.hint


def test_missing_compiler_is_named(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(HarnessError, match="command not found: fake-arm-gcc"):
        build(checkout)


def test_an_ndk_makes_the_programs_but_not_those_of_the_guest(
    checkout: Checkout, ndk: Path
) -> None:
    result = build(checkout, ndk=ndk)
    assert result.files["play"].read_text() == "of the NDK\n"
    jni = checkout.layout.root / "userspace" / "play" / "jni"
    built = (ndk / "built").read_text()
    assert built == f"/headers {jni}/Android.mk {jni}/Application.mk\n"
    assert [line.split()[-2] for line in compiled(checkout)] == [
        str(checkout.layout.root / "guest" / name / f"{name}.c") for name in ("sh", "su")
    ]


def test_an_ndk_is_asked_again_only_if_it_is_another(checkout: Checkout, ndk: Path) -> None:
    for _ in range(2):
        build(checkout, ndk=ndk)
    assert len((ndk / "built").read_text().splitlines()) == 1
    (ndk / "RELEASE.TXT").write_text("r11\n")
    build(checkout, ndk=ndk)
    assert len((ndk / "built").read_text().splitlines()) == 2


def test_an_error_of_the_ndk_is_shown(checkout: Checkout, ndk: Path) -> None:
    (checkout.layout.root / "userspace/play/jni/play.c").write_text("BROKEN\n")
    with pytest.raises(HarnessError, match="play does not compile") as error:
        build(checkout, ndk=ndk)
    assert error.value.details == ("error: BROKEN",)


def test_a_folder_that_is_no_ndk(checkout: Checkout, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="it holds no ndk-build"):
        build(checkout, ndk=tmp_path)
