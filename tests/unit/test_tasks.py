# SPDX-License-Identifier: GPL-2.0-only
"""The command line: exit codes, one clear error, nothing left running after Ctrl-C."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import process
from tests.unit.fake_tree import Checkout, make_checkout, write
from tests.unit.test_process import read_pid, wait_until_dead

ROOT = Path(__file__).resolve().parents[2]
TASKS = (
    "adb-shell",
    "bench",
    "boot",
    "build",
    "clean",
    "compare",
    "doctor",
    "emulator-test",
    "exec",
    "fetch",
    "grade",
    "judge",
    "new-policy",
    "patch",
    "report",
    "stress",
    "test",
    "try",
    "watch",
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """The fake checkout, with our harness and tasks in it."""
    checkout = make_checkout(tmp_path, monkeypatch)
    root = checkout.layout.root
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "harness", root / "harness", ignore=ignore)
    shutil.copy(ROOT / "tasks.py", root)
    monkeypatch.setenv("MMLIMITS_CACHE", str(checkout.layout.cache))
    monkeypatch.setenv("MMLIMITS_CWD", str(tmp_path))
    return checkout


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "invoke", *words]


def invoke(checkout: Checkout, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=checkout.layout.root, capture_output=True, text=True, check=False
    )


def source(checkout: Checkout) -> str:
    """Relative to where the user is, not to the checkout."""
    return f"--source={checkout.kernel.name}"


def test_tasks_are_listed(checkout: Checkout) -> None:
    listing = invoke(checkout, "--list").stdout
    assert tuple(re.findall(r"^  (\S+)", listing, re.MULTILINE)) == TASKS


@pytest.mark.parametrize("task", [task for task in TASKS if task != "doctor"])
def test_help_states_every_default(checkout: Checkout, task: str) -> None:
    text = " ".join(invoke(checkout, "--help", task).stdout.split())
    options = text.split("Options:")[1].count(" --")
    assert options > 0
    assert text.count("(default:") >= options


def test_build_then_nothing_to_do(checkout: Checkout) -> None:
    first = invoke(checkout, "build", "--policy=rss", source(checkout))
    assert first.returncode == 0, first.stderr
    image = Path(first.stdout.strip())
    assert image.name == "zImage"
    assert image.exists()
    assert invoke(checkout, "build", "--policy", "rss", source(checkout)).stdout == first.stdout
    made = next(checkout.layout.build.glob("*/src/out-arm-virt/made")).read_text()
    assert made.split() == ["zImage", "M"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["build", "--policy=rs"], ["unknown policy: 'rs'", "rss, none"]),
        (["build", "--policy=rss,x"], ["unknown policy: 'x'", "rss, none"]),
        (["build", "--kernel=linux-9"], ["unknown kernel: 'linux-9'", "fake"]),
        (["build", "--arch=mips"], ["unknown arch", "arm"]),
        (["build", "--board=pi"], ["unknown board", "arm-virt"]),
        (["build", "--source=nowhere"], ["there is no", "nowhere"]),
        (["patch", "--kernel=x"], ["unknown kernel: 'x'"]),
        (["fetch", "--source=nowhere"], ["there is no"]),
        (["test", "--only=x"], ["unknown part 'x'", "lint, unit, emulator, other"]),
        (["boot", "--accel=xen"], ["unknown accelerator 'xen'", "auto, kvm, tcg"]),
        (["exec"], ["no command given"]),
        (["exec", "--push=nowhere", "--", "true"], ["nowhere is not there"]),
        (["exec", "--push=~nobody-like-this", "--", "true"], ["~nobody-like-this is not there"]),
        (["exec", "--push=.", "--", "true"], ["is a folder"]),
        (["exec", "--push=/dev/null", "--", "true"], ["/dev/null is not a regular file"]),
        (["--help", "nonsense"], ["nonsense", "--list"]),
        (["build", "--no-such-option"], ["--no-such-option", "--list"]),
        (["nonsense"], ["nonsense", "--list"]),
    ],
)
def test_wrong_words_exit_2_with_one_clear_error(
    checkout: Checkout, words: list[str], shown: list[str]
) -> None:
    result = invoke(checkout, *words)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    for text in shown:
        assert text in result.stderr


def test_files_that_would_hide_one_another_are_refused_before_anything_is_done(
    checkout: Checkout, tmp_path: Path
) -> None:
    write(tmp_path, {"a/same": "1", "b/same": "2", "play": "x"})
    write(checkout.layout.root, {"guest/init": "#!/bin/sh\n"})
    words = ["exec", source(checkout), "--push=a/same"]
    result = invoke(checkout, *words, "--push=b/same", "--", "true")
    assert result.returncode == 2
    assert "a/same and" in result.stderr and "would have the same name" in result.stderr
    assert not checkout.layout.build.exists()
    result = invoke(checkout, *words, f"--push={tmp_path}/a/same", "--push=play", "--", "true")
    assert result.returncode == 2
    assert "play has the name of a file of ours" in result.stderr
    assert not (checkout.layout.build / "runs").exists()


@pytest.mark.parametrize("task", [["--list"], ["--help", "exec"], ["doctor"], ["build"]])
@pytest.mark.parametrize("end", [">&-", "<&- >&- 2>&-", "| head -n 1", ">/dev/full"])
def test_no_task_minds_where_its_output_goes(checkout: Checkout, task: list[str], end: str) -> None:
    words = [*task, source(checkout)] if task == ["build"] else task
    plain = invoke(checkout, *words).returncode
    shell = ["bash", "-o", "pipefail", "-c", f'"$@" {end}', "bash", *command(*words)]
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    result = subprocess.run(
        shell,
        cwd=checkout.layout.root,
        capture_output=True,
        env={**os.environ, **ascii_only},
        check=False,
    )
    assert b"Traceback" not in result.stderr
    assert b"internal error" not in result.stderr
    assert result.returncode == (2 if end == ">/dev/full" else plain), result.stderr


def test_another_toolchain_builds_the_kernel(checkout: Checkout) -> None:
    (checkout.tools / "fake-arm-gcc").rename(checkout.tools / "own-arm-gcc")
    words = ["build", "--policy=rss", source(checkout), "--toolchain"]
    refused = invoke(checkout, *words, "fake-arm-")
    assert refused.returncode == 2
    assert "fake-arm-gcc" in refused.stderr
    built = invoke(checkout, *words, f"{checkout.tools}/own-arm-")
    # The programs are the board's compiler's, which is not there any more.
    assert "fake-arm-gcc" in built.stderr
    assert list(checkout.layout.build.glob("*/arm-virt/rss/zImage"))


def test_a_line_without_its_source_is_said_not_to_be_tested(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTHER_SRC", raising=False)
    monkeypatch.setenv("OTHER_EMULATOR", "emulator")
    result = invoke(checkout, "test", "--only=other")
    assert result.returncode == 2
    assert "not tested: other" in result.stdout
    assert "OTHER_SRC=PATH" in result.stdout
    # With one there is no way out: the fake checkout has no tests to pass.
    monkeypatch.setenv("OTHER_SRC", str(checkout.kernel))
    assert invoke(checkout, "test", "--only=other").returncode == 1


def test_a_bare_pytest_boots_nothing() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    folders = set(re.findall(r"^(tests/\w+)/", found.stdout, re.MULTILINE))
    assert folders == {"tests/unit"}, found.stderr


NONSENSE = {
    **dict.fromkeys(("ARCH", "CROSS_COMPILE", "CC", "HOSTCC", "LLVM", "O", "V"), "nonsense"),
    **dict.fromkeys(("KBUILD_OUTPUT", "KBUILD_SRC", "KCFLAGS", "KCONFIG_CONFIG"), "/nonsense"),
    **dict.fromkeys(("CFLAGS", "CPATH", "LIBRARY_PATH", "GCC_EXEC_PREFIX"), "/nonsense"),
    **dict.fromkeys(("MAKEFLAGS", "MFLAGS", "GNUMAKEFLAGS"), "--nonsense"),
    **dict.fromkeys(("CCACHE_DIR", "CCACHE_PREFIX", "CCACHE_DISABLE"), "nonsense"),
    **dict.fromkeys(("TAR_OPTIONS", "GREP_OPTIONS", "XZ_OPT", "GZIP", "UNZIP"), "--nonsense"),
    **dict.fromkeys(("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CONFIG"), "/nonsense"),
    **dict.fromkeys(("ADB_TRACE", "ADB_VENDOR_KEYS", "ADB_SERVER_SOCKET"), "nonsense"),
    **dict.fromkeys(("ANDROID_SERIAL", "ANDROID_ADB_SERVER_PORT", "ADBUTILS_ADB_PATH"), "9"),
    **dict.fromkeys(("LC_MESSAGES", "LANG", "LANGUAGE"), "nonsense"),
    **dict.fromkeys(("POSIXLY_CORRECT", "PATCH_GET", "BASH_ENV", "ENV", "PERL5OPT"), "1"),
}


@pytest.mark.parametrize("kind", ["tree", "tarball", "repository"])
def test_variables_of_the_user_change_nothing(checkout: Checkout, kind: str) -> None:
    given = source(checkout)
    if kind == "tarball":
        given = f"--source={checkout.tarball()}"
    if kind == "repository":
        git = ["git", "-C", str(checkout.kernel), "-c", "user.name=t", "-c", "user.email=t@t"]
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
            subprocess.run([*git, *words], check=True)
        given = f"--source=file://{checkout.kernel}"
    checkout.add_patch("0001.patch", {"mm/oom_kill.c": ("kill\n", "more\n")})

    def build(environment: dict[str, str]) -> str:
        done = subprocess.run(
            command("build", "--policy=rss", given),
            cwd=checkout.layout.root,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = build(NONSENSE)
    (made,) = checkout.layout.build.glob("*/src/out-arm-virt/made")
    before = made.read_text()
    assert build({}) == first
    assert build(NONSENSE) == first
    assert made.read_text() == before


def test_debug_shows_the_traceback(checkout: Checkout) -> None:
    assert "Traceback" in invoke(checkout, "--debug", "build", "--policy=x").stderr


def test_unexpected_error_is_one_line(checkout: Checkout) -> None:
    with (checkout.layout.root / "harness/kernels.py").open("a") as file:
        file.write("\ndef load_kernels(layout):\n    raise RuntimeError('bug')\n")
    result = invoke(checkout, "build")
    assert result.returncode == 2
    assert "internal error: RuntimeError: bug" in result.stderr
    assert "--debug" in result.stderr
    assert "Traceback" not in result.stderr


def test_clean_says_what_it_removed(checkout: Checkout) -> None:
    write(checkout.layout.build, {"file": "x"})
    write(checkout.layout.cache, {"file": "x"})
    result = invoke(checkout, "clean")
    assert f"removed {checkout.layout.build}" in result.stderr
    assert f"kept the downloads and compiled objects in {checkout.layout.cache}" in result.stderr
    assert not (checkout.layout.build / "file").exists()
    result = invoke(checkout, "clean", "--cache")
    assert f"nothing to remove in {checkout.layout.build}" in result.stderr
    assert f"removed {checkout.layout.cache}" in result.stderr
    # But for the locks, which others may wait for.
    assert [path.name for path in checkout.layout.cache.iterdir()] == [".lock"]
    assert sorted(path.name for path in checkout.layout.build.iterdir()) == [".use"]


def test_clean_waits_for_whoever_uses_what_it_removes(checkout: Checkout) -> None:
    write(checkout.layout.build, {"kernel": "x"})
    using = process.lock(checkout.layout.build / ".use", shared=True, on_wait=lambda: None)
    with (
        using,
        subprocess.Popen(
            command("clean"), cwd=checkout.layout.root, stderr=subprocess.PIPE, text=True
        ) as cleaner,
    ):
        assert cleaner.stderr is not None
        assert "another run uses build/: waiting" in cleaner.stderr.readline()
        assert (checkout.layout.build / "kernel").exists()
        using.close()
        assert cleaner.wait(timeout=10) == 0
    assert not (checkout.layout.build / "kernel").exists()


def test_patch_says_where_the_tree_is(checkout: Checkout) -> None:
    result = invoke(checkout, "patch", source(checkout))
    assert (Path(result.stdout.strip()) / "mm/page_alloc.c").exists()
    result = invoke(checkout, "patch", "--check", source(checkout))
    assert "no fuzz, no offset" in result.stderr


SLEEPER = """#!/bin/sh
case "$*" in *--version*) echo gcc; exit 0 ;; *olddefconfig*{pass_on}) exec /usr/bin/{tool} "$@" ;;
esac
sleep 60 &
echo $! >{pid}
wait
"""


@pytest.mark.parametrize(
    ("stage", "tool"),
    [
        ("fetch", "git"),
        ("patch", "patch"),
        ("configure", "make"),
        ("build", "make"),
        ("programs", "fake-arm-gcc"),
    ],
)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_runs_on_after_an_interruption(
    checkout: Checkout, tmp_path: Path, stage: str, tool: str, how: signal.Signals
) -> None:
    """The stage's tool hangs; the harness is interrupted, ended or killed."""
    pid = tmp_path / "pid"
    pass_on = "" if stage == "build" else "nothing"
    write(checkout.tools, {tool: SLEEPER.format(tool=tool, pid=pid, pass_on=pass_on)})
    (checkout.tools / tool).chmod(0o755)
    checkout.add_patch("0001.patch", {"mm/oom_kill.c": ("kill\n", "more\n")})
    given = f"--source=file://{checkout.kernel}" if stage == "fetch" else source(checkout)
    harness = subprocess.Popen(
        command("build", given),
        cwd=checkout.layout.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    sleeping = read_pid(pid)
    os.kill(harness.pid, how)
    _, stderr = harness.communicate(timeout=20)
    status = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
    assert harness.returncode == status[how], stderr
    assert "Traceback" not in stderr
    wait_until_dead(sleeping)
