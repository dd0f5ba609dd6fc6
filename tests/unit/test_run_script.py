# SPDX-License-Identifier: GPL-2.0-only
"""./run makes its Python environment when it has to, whatever it is started from."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Makes an environment whose invoke shows how it was started.
PYTHON = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exit 0
echo made >>"$(dirname "$0")/made"
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho "$@" >>"%s"\\n' "$(dirname "$0")/python" >"$3/bin/python"
printf '#!/bin/sh\\necho "$@"; env; ls -l /proc/self/fd >&2\\n' >"$3/bin/invoke"
chmod +x "$3/bin/python" "$3/bin/invoke"
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ./run, and a python3 that is a link to python3.11."""
    folder, tools = tmp_path / "a checkout", tmp_path / "tools"
    folder.mkdir()
    tools.mkdir()
    shutil.copy(ROOT / "run", folder)
    for lock in ("requirements", "requirements-figures", "requirements-dev"):
        (folder / f"{lock}.lock").write_text(f"{lock}\n")
    for name in ("python3.11", "python3.12"):
        (tools / name).write_text(PYTHON)
        (tools / name).chmod(0o755)
    (tools / "python3").symlink_to("python3.11")
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    return folder


def run(
    checkout: Path, redirections: str = "", task: str = "doctor", **env: str
) -> subprocess.CompletedProcess[str]:
    # doctor is the task for which no package has to be there.
    return subprocess.run(
        ["bash", "-c", f'"$0" {task} {redirections}', str(checkout / "run")],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def made(checkout: Path) -> int:
    """How often the environment was made."""
    return len((checkout.parent / "tools" / "made").read_text().splitlines())


def test_the_environment_is_made_once_for_a_lock_and_a_python(checkout: Path) -> None:
    assert run(checkout).stdout.startswith("doctor\n")
    assert run(checkout).returncode == 0
    assert made(checkout) == 1
    (checkout / "requirements.lock").write_text("something\n")
    run(checkout)
    assert made(checkout) == 2
    python = checkout.parent / "tools" / "python3"
    python.unlink()
    python.symlink_to("python3.12")
    run(checkout)
    assert made(checkout) == 3
    (checkout / ".venv" / "bin" / "python").unlink()
    run(checkout)
    assert made(checkout) == 4


def installed(checkout: Path) -> list[str]:
    """The locks that were given to pip, in order."""
    told = (checkout.parent / "tools" / "python").read_text().splitlines()
    return [line.split()[-1] for line in told if " pip install " in line]


def test_who_boots_a_kernel_gets_no_linters(checkout: Path) -> None:
    small, figures, dev = (
        "requirements.lock",
        "requirements-figures.lock",
        "requirements-dev.lock",
    )
    run(checkout, task="doctor")
    assert installed(checkout) == [small]
    run(checkout, task="doctor --report=x.html")
    assert installed(checkout) == [small, figures]
    run(checkout, task="doctor test")
    assert installed(checkout) == [small, figures, dev]
    run(checkout, task="doctor")
    (checkout / dev).write_text("newer\n")
    run(checkout, task="doctor")
    run(checkout, task="doctor test")
    assert installed(checkout) == [small, figures, dev, dev]
    assert made(checkout) == 1


def test_another_processor_has_no_wheel_of_adbutils(checkout: Path) -> None:
    uname = checkout.parent / "tools" / "uname"
    uname.write_text("#!/bin/sh\necho aarch64\n")
    uname.chmod(0o755)
    run(checkout)
    told = (checkout.parent / "tools" / "python").read_text()
    assert "--only-binary :all: --no-binary adbutils --requirement requirements.lock" in told


def test_variables_of_python_and_invoke_are_not_for_us(checkout: Path) -> None:
    nonsense = dict.fromkeys(
        ("PYTHONHOME", "PYTHONPATH", "PYTHONOPTIMIZE", "INVOKE_DEBUG", "PIP_USER", "CDPATH"), "no"
    )
    shown = run(checkout, PIP_INDEX_URL="https://pypi.example.org", **nonsense).stdout.splitlines()
    assert not [name for name in nonsense if f"{name}=no" in shown]
    assert "PIP_INDEX_URL=https://pypi.example.org" in shown


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_open_for_what_is_started(checkout: Path, closed: str) -> None:
    done = run(checkout, closed)
    assert done.returncode == 0
    if "2>" not in closed:
        for fd in range(3):
            assert f" {fd} -> " in done.stderr


def apt_get(checkout: Path, script: str) -> None:
    """A system where one package is missing, and this apt-get would install it."""
    (checkout / "configs").mkdir()
    (checkout / "configs" / "debian-packages.txt").write_text("ccache # for all\n")
    commands = {
        "dpkg-query": "exit 1",
        "id": "echo 0",
        "sleep": "echo waited >>../waited",
        "apt-get": f'echo "$*" >>../asked\n{script}',
    }
    for name, body in commands.items():
        tool = checkout.parent / "tools" / name
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(0o755)


def test_another_apt_is_waited_for(checkout: Path) -> None:
    apt_get(
        checkout,
        "[ $(wc -l <../asked) -gt 2 ] || "
        '{ echo "E: Could not get lock /var/lib/apt/lists/lock." >&2; exit 100; }',
    )
    done = run(checkout, task="build")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "build")
    assert (checkout.parent / "waited").read_text().count("waited") == 2
    asked = (checkout.parent / "asked").read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["update", "update", "update", "install"]


def test_what_apt_says_is_shown_where_waiting_does_not_help(checkout: Path) -> None:
    apt_get(checkout, 'echo "E: The repository is not signed." >&2; exit 100')
    done = run(checkout, task="build")
    assert done.returncode == 2
    assert "not signed" in done.stderr
    assert "next: " in done.stderr
    assert not (checkout.parent / "waited").exists()
