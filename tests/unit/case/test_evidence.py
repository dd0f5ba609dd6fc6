# SPDX-License-Identifier: GPL-2.0-only
"""Reading what the guest programs print."""

from __future__ import annotations

from harness.case.evidence import CallReturn, read_experiments, read_script

SCRIPT = """\
spawn name=a pid=10 uid=10071
spawn name=b pid=11 uid=10071
ready name=a pid=10
limit user=u0_a71 uid=10071 bytes=4000000000 as=root ret=1 errno=0
limit user=u0_a71 uid=10071 bytes=remove as=u0_a71 ret=-1 errno=EPERM
killer type=rss as=root ret=0 errno=0
grown name=a pid=10
state name=a pid=10 state=alive value=0
state name=b pid=11 state=alive value=0
state name=a pid=10 state=alive value=0
state name=b pid=11 state=signaled value=9
done
"""


def test_script() -> None:
    seen = read_script(SCRIPT)
    assert [(one.name, one.pid, one.uid, one.ready) for one in seen.processes] == [
        ("a", 10, 10071, True),
        ("b", 11, 10071, False),
    ]
    assert [one.dead for one in seen.processes] == [False, True]
    assert seen.returns == (
        CallReturn("limit", 1, "0", 10071, 4000000000),
        CallReturn("limit", -1, "EPERM", 10071, None),
        CallReturn("killer", 0, "0"),
    )
    assert seen.reports == (
        {"a": "alive", "b": "alive"},
        {"a": "alive", "b": "signaled"},
    )
    assert seen.grown == ("a",)
    assert seen.ended
    assert seen.errors == ()


def test_script_that_stopped() -> None:
    seen = read_script("spawn name=a pid=1 uid=2\nerror what=fork errno=EAGAIN\n")
    assert seen.errors == ("error what=fork errno=EAGAIN",)
    assert not seen.ended
    assert read_script("").processes == ()


def test_experiments() -> None:
    seen = read_experiments(
        [
            "set_mm_limits uid=10070 mm_max=100 ret=0 errno=0\n"
            "child pid=5 bytes=200 start\nchild pid=6 bytes=20 start\n"
            "child pid=6 bytes=20 finish\nnoise child pid=7 bytes=1 start\n"
            "child pid=5 bytes=200 killed by signal 9\nchild pid=6 bytes=20 exit 0\n"
        ]
    )
    assert [(one.name, one.pid, one.uid, one.ready, one.state) for one in seen.processes] == [
        ("200", 5, 10070, False, "signaled"),
        ("20", 6, 10070, True, "exited"),
    ]
    assert seen.returns == (CallReturn("limit", 0, "0", 10070, 100),)


def test_a_process_that_ended_by_itself_is_not_dead_by_force() -> None:
    seen = read_experiments(["child pid=6 bytes=20 start\nchild pid=6 bytes=20 exit 0\n"])
    assert not seen.processes[0].dead
