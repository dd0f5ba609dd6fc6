# SPDX-License-Identifier: GPL-2.0-only
"""ndk-build of an Android NDK, as a compiler for the programs of userspace/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import stamp
from harness.errors import HarnessError
from harness.kernels import Board

# Says which release it is: the first until r10, the second from r11 on.
RELEASE_FILES = ("RELEASE.TXT", "source.properties")


def abi_of(board: Board) -> str:
    """The NDK's name of a board's architecture; HarnessError if nobody has said it."""
    if board.abi is None:
        raise HarnessError(
            f"--ndk: the board {board.name} has no abi in configs/kernels.toml",
            hint="add that key, the NDK's name of its architecture, or leave out --ndk",
        )
    return board.abi


@dataclass(frozen=True)
class Ndk:
    """An NDK; ``identity`` is that of its release."""

    folder: Path
    identity: str

    @classmethod
    def at(cls, folder: Path) -> Ndk:
        """The NDK in a folder; HarnessError if there is none."""
        if not (folder / "ndk-build").is_file():
            raise HarnessError(
                f"--ndk: {folder} is no NDK: it holds no ndk-build",
                hint="give the folder of an unpacked NDK, or leave out --ndk",
            )
        releases = [folder / name for name in RELEASE_FILES if (folder / name).is_file()]
        text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in releases)
        return cls(folder, stamp.digest(str(folder), text))

    def command(self, jni: Path, *, abi: str, headers: Path, out: Path) -> list[str]:
        """The call that builds the program of a jni folder below ``out``."""
        return [
            str(self.folder / "ndk-build"),
            f"NDK_PROJECT_PATH={jni.parent}",
            f"APP_BUILD_SCRIPT={jni / 'Android.mk'}",
            f"NDK_APPLICATION_MK={jni / 'Application.mk'}",
            f"APP_ABI={abi}",
            f"NDK_OUT={out / 'obj'}",
            f"NDK_LIBS_OUT={out / 'libs'}",
            f"KERNEL_HEADERS={headers}",
        ]

    def binary(self, name: str, *, abi: str, out: Path) -> Path:
        """Where that call leaves it."""
        return out / "libs" / abi / name
