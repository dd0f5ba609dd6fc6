# SPDX-License-Identifier: GPL-2.0-only
"""Policies that modules bring: built from one file, selected and gone again; and what is wrong
with a file, as the real compiler and kernel say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from harness.build import pipeline
from harness.build.pipeline import Prepared
from harness.case.guest import GUEST_DIR
from harness.command.booting import equip
from harness.device.accel import Accel
from harness.device.device import Device
from harness.errors import HarnessError
from harness.layout import Layout
from harness.policies import known, load_policies
from tests.emulator.conftest import start

LAYOUT = Layout.default()

pytestmark = pytest.mark.emulator

SOURCE = """\
#include <linux/user_oom_policy.h>
static s64 score(struct task_struct *p, long rss)
{
	return rss;
}
USER_OOM_POLICY("mine", score, "mine_score", 1);
"""


@pytest.fixture(scope="module")
def guest(
    prepared: Mapping[str, Prepared], accel: Accel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Device]:
    """A kernel whose own policy is rss, with youngest loaded and selected."""
    module = pipeline.build_policy(prepared["rss"].kernel, known()["youngest"], layout=LAYOUT)
    with closing(start(prepared["rss"], accel, tmp_path_factory)) as device:
        equip(device, prepared["rss"], policy=module)
        yield device


def run(guest: Device, script: str) -> tuple[int, str]:
    result = guest.shell(["sh", "-c", f"export PATH={GUEST_DIR}:$PATH\n{script}"], timeout=60)
    return result.returncode, result.stdout + result.stderr


def test_a_policy_is_selected_by_name(guest: Device) -> None:
    assert run(guest, "cat /proc/sys/vm/user_oom_policy") == (0, "youngest\n")
    for name in ("runtime", "none", "youngest"):
        assert run(guest, f"mmlimit policy {name}")[0] == 0
        assert run(guest, "cat /proc/sys/vm/user_oom_policy") == (0, f"{name}\n")
    status, said = run(guest, "mmlimit policy oldest")
    assert (status, "no policy 'oldest'" in said) == (1, True)
    listing = run(guest, "mmlimit policy")[1]
    assert [line.split()[1] for line in listing.splitlines()[1:]] == [
        "rss",
        "runtime",
        "badness",
        "youngest",
    ]


def test_a_loaded_policy_can_be_run_by_its_type(guest: Device) -> None:
    assert run(guest, "mmlimit run-killer youngest") == (0, "")
    assert run(guest, "mmlimit run-killer oldest")[0] == 2


def test_when_its_module_goes_the_compiled_in_one_is_back(guest: Device) -> None:
    assert run(guest, "mmlimit policy youngest && rmmod youngest")[0] == 0
    assert run(guest, "cat /proc/sys/vm/user_oom_policy") == (0, "rss\n")
    assert "policy youngest is gone, back to rss" in run(guest, "dmesg")[1]
    load = f"insmod {GUEST_DIR}/youngest.ko && mmlimit policy youngest"
    assert run(guest, load)[0] == 0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("return rss;", "return rss", r"mine\.c:4: expected ';' before"),
        ("return rss;", "return r;", r"mine\.c:4: .r. undeclared"),
        ("<linux/user_oom_policy.h>", "<linux/no_such.h>", r"mine\.c:1: linux/no_such\.h: No such"),
        ("return rss;", "si_meminfo(NULL); extern int nope(void); return nope();", "symbol 'nope'"),
    ],
)
def test_what_the_compiler_says_is_one_line_with_the_files_own_number(
    prepared: Mapping[str, Prepared], tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    path = tmp_path / "mine.c"
    path.write_text(SOURCE.replace(old, new))
    policy = load_policies(LAYOUT, extra=path).named("mine")
    with pytest.raises(HarnessError, match=complaint):
        pipeline.build_policy(prepared["rss"].kernel, policy, layout=LAYOUT)
    path.write_text(SOURCE)
    assert pipeline.build_policy(prepared["rss"].kernel, policy, layout=LAYOUT).name == "mine.ko"
