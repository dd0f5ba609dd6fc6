# SPDX-License-Identifier: GPL-2.0-only
"""What is made of a source: configure → build → programs → rootfs, and the pipeline of all."""
