# SPDX-License-Identifier: GPL-2.0-only
"""Where code that nobody trusts is built: bubblewrap, with no network and little to see.

A submission's Makefiles, its Kconfig and its modules' builds are programs.  They see the
toolchain, their own tree, which they cannot change, and one folder, which they can; time,
memory, processes and the size of files are limited.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import process
from harness.errors import HarnessError
from harness.process import Completed

# Read-only, where they are there: the toolchain and what it needs.
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"),
    *("/etc/alternatives", "/etc/ld.so.cache"),
)

MEMORY_BYTES = 4 << 30  # of each process
FILE_BYTES = 1 << 30
PROCESSES = 400


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """``tree`` may be read, ``out``, a folder, also written; ``readable`` are more to read."""

    tree: Path
    out: Path
    seconds: int
    readable: Sequence[Path] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, argv: Sequence[str], *, what: str, log: Path) -> Completed:
        """Run a command to its end; its output goes to ``log``, its status is the caller's."""
        require()
        return process.run(self._command(argv), what=what, log=log, check=False)

    def _command(self, argv: Sequence[str]) -> list[str]:
        limits = (
            *("prlimit", f"--as={MEMORY_BYTES}", f"--fsize={FILE_BYTES}", "--core=0"),
            *(f"--nproc={PROCESSES}", f"--cpu={self.seconds * 4}", "--"),
        )
        limit = ("timeout", "--kill-after=5", str(self.seconds))
        return [*limit, "bwrap", *self._view(), *limits, *argv]

    def _view(self) -> list[str]:
        view = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        view += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox"]
        view += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        for name in SYSTEM:
            path = Path(name)
            if path.is_symlink():
                view += ["--symlink", str(path.readlink()), name]
            elif path.exists():
                view += ["--ro-bind", name, name]
        for path in (*self.readable, self.tree):
            view += ["--ro-bind", str(path), str(path)]
        view += ["--bind", str(self.out), str(self.out), "--chdir", str(self.tree)]
        view += ["--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp"]
        view += ["--setenv", "LC_ALL", process.LOCALE]
        for name, value in self.env.items():
            view += ["--setenv", name, value]
        return view


def require() -> None:
    """HarnessError if there is no sandbox on this machine: nothing is built without."""
    if shutil.which("bwrap") is None:
        raise HarnessError(
            "bubblewrap is missing: submissions are not built without a sandbox",
            hint="sudo apt-get install bubblewrap",
        )
    tried = process.run(
        ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], what="bwrap", check=False
    )
    if tried.returncode != 0:
        raise HarnessError(
            "bubblewrap does not work here: submissions are not built without a sandbox",
            hint="user namespaces must be allowed (sysctl kernel.unprivileged_userns_clone)",
            details=tried.output[-3:],
        )
