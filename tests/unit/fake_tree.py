# SPDX-License-Identifier: GPL-2.0-only
"""A kernel tree, a compiler and a checkout small enough for tests that take milliseconds.

The fakes stand for what is outside: the kernel's Makefile, the cross compiler.
make, patch, tar and the file system are the real ones.
"""

from __future__ import annotations

import difflib
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.kernels import KernelLine, Kernels, load_kernels
from harness.layout import Layout
from harness.source.fetch import FetchRequest, Source, fetch
from harness.ui import Stage

KERNELS_TOML = """
default-line = "fake"

[policy.rss]
symbol = "KILL_RSS"
type = 0

[policy.none]
symbol = "KILL_NONE"

[line.fake]
description = "a fake"
patches = "patches/fake"
bench = "bench/plan.toml"
debug-config = "configs/debug.config"
gdb-config = "configs/gdb.config"
default-board = "arm-virt"

[line.fake.source]
url = "http://127.0.0.1:9/linux-6.1.99.tar.gz"
sha256 = "00"

[line.fake.board.arm-virt]
arch = "arm"
defconfig = "configs/fake_defconfig"
cross-compile = "fake-arm-"
kernel-target = "zImage"
kernel-image = "arch/arm/boot/zImage"
userland = "armhf"
qemu = "qemu-system-arm"
qemu-args = ["-M", "virt"]
net-args = ["-device", "virtio-net-device,netdev=net0"]
abi = "armeabi-v7a"
tcg-thread = "single"
cpus = 1
console = "ttyAMA0"
append = "console=ttyAMA0"

[test.emulator]

[test.other]
board = "arm-virt"
source-from = "OTHER_SRC"
emulator-from = "OTHER_EMULATOR"
"""

# Stands for kbuild: O= and M=, olddefconfig that drops what it does not know, a
# log of what was made, and a compile error among many lines when a file says so.
KERNEL_MAKEFILE = r"""
VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 99
EXTRAVERSION =

olddefconfig:
	@sed -i '/UNKNOWN/d' $(KCONFIG_CONFIG)

zImage:
	@mkdir -p $(O)/arch/arm/boot $(O)/include/config $(O)/usr/include/linux
	@echo zImage >>$(O)/made
	@if grep -q SLEEP mm/page_alloc.c; then echo $$$$ >$(O)/sleeping; sleep 60; fi
	@if grep -q BROKEN mm/page_alloc.c; then \
		for i in $$(seq 1000); do echo "  CC      fs/file$$i.o"; done; \
		echo "In file included from ../include/linux/mm.h:7,"; \
		echo "../mm/page_alloc.c: In function 'rmqueue':"; \
		echo "../mm/page_alloc.c:12:3: error: expected ';' before 'return'"; \
		echo "   12 |   BROKEN"; \
		for i in $$(seq 1000); do echo "  CC      net/file$$i.o"; done; \
		echo "make[1]: *** [../Makefile:99: zImage] Error 2"; exit 2; fi
	@echo "  CC      mm/page_alloc.o"
	@cat mm/page_alloc.c $(O)/.config >$(O)/arch/arm/boot/zImage
	@echo 6.1.99-fake >$(O)/include/config/kernel.release

modules:
	@if test -n "$(M)"; then \
		for c in $(M)/*/*.c; do cp $$c $${c%.c}.ko; done; echo M >>$(O)/made; fi

headers: zImage
	@cp include/linux/mm_limits.h $(O)/usr/include/linux/ 2>/dev/null || true
"""

COMPILER = """#!/bin/sh
case "$*" in
*--version*) echo "fake-gcc 1.0"; exit 0 ;;
esac
echo "$*" >>"$(dirname "$0")/compiled"
out=
for word in "$@"; do
	case $word in
	*.c) if grep -q BROKEN "$word"; then echo "$word:1:1: error: BROKEN"; exit 1; fi ;;
	esac
	[ "$out" = next ] && { echo binary >"$word"; out=; }
	[ "$word" = -o ] && out=next
done
exit 0
"""

PAGE_ALLOC = "".join(f"line {number}\n" for number in range(1, 41))


@dataclass(frozen=True)
class Checkout:
    """A checkout with a fake kernel line, and a kernel tree for it at ``kernel``."""

    layout: Layout
    kernel: Path
    tools: Path

    @property
    def kernels(self) -> Kernels:
        return load_kernels(self.layout)

    @property
    def line(self) -> KernelLine:
        return self.kernels.line()

    @property
    def source_tree(self) -> Path:
        """The tree that is built."""
        (tree,) = self.layout.build.glob("*/src")
        return tree

    @property
    def objdir(self) -> Path:
        return self.source_tree / "out-arm-virt"

    def fetched(self, source: Path | None = None) -> Source:
        """The kernel tree, or another ``source``, as the fetch stage gives it."""
        request = FetchRequest(line=self.line, source=str(source or self.kernel))
        return fetch(request, layout=self.layout, stage=stage())

    def tarball(self) -> Path:
        """The kernel tree as a release tarball."""
        path = self.layout.root / "linux-6.1.99.tar.gz"
        command: list[str | Path] = ["tar", "-czf", path, "-C", self.kernel.parent]
        subprocess.run([*command, self.kernel.name], check=True)
        return path

    def add_patch(self, name: str, changes: dict[str, tuple[str | None, str | None]]) -> None:
        """Append a patch to the series: file to (old, new) content, None for absent."""
        folder = self.layout.root / "patches" / "fake"
        (folder / name).write_text("Subject: a change\n---\n" + diff(changes))
        with (folder / "series").open("a") as series:
            series.write(f"{name}\n")

    def drop_patches(self) -> None:
        """Empty the series."""
        (self.layout.root / "patches" / "fake" / "series").write_text("")


def diff(changes: dict[str, tuple[str | None, str | None]]) -> str:
    """A unified diff as git writes it."""
    text: list[str] = []
    for name, (old, new) in changes.items():
        text += difflib.unified_diff(
            (old or "").splitlines(keepends=True),
            (new or "").splitlines(keepends=True),
            "/dev/null" if old is None else f"a/{name}",
            "/dev/null" if new is None else f"b/{name}",
        )
    return "".join(text)


def stage() -> Stage:
    """A stage that shows nothing."""
    return Stage("test", None)


def write(root: Path, files: dict[str, str]) -> None:
    """Write files below ``root``."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def make_checkout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A fresh checkout below ``folder``; its tools come first in PATH."""
    root = folder / "checkout"
    layout = Layout(root=root, build=root / "build", cache=folder / "cache")
    kernel = folder / "linux-6.1.99"
    write(
        kernel,
        {
            "Makefile": KERNEL_MAKEFILE,
            "mm/page_alloc.c": PAGE_ALLOC,
            "mm/oom_kill.c": "kill\n",
            "include/linux/mm_limits.h": "limits\n",
        },
    )
    write(
        root,
        {
            "configs/kernels.toml": KERNELS_TOML,
            "configs/fake_defconfig": "CONFIG_A=y\n# CONFIG_B is not set\n",
            "patches/fake/series": "# none yet\n",
            "modules/limits/limits.c": "module\n",
            "modules/limits/Kbuild": "obj-m := limits.o\n",
            "userspace/play/jni/play.c": "int main(void) { return 0; }\n",
            "userspace/include/shared.h": "\n",
            "guest/sh/sh.c": "int main(void) { return 0; }\n",
            "guest/su/su.c": "int main(void) { return 0; }\n",
        },
    )
    tools = folder / "tools"
    write(tools, {"fake-arm-gcc": COMPILER})
    (tools / "fake-arm-gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    return Checkout(layout=layout, kernel=kernel, tools=tools)
