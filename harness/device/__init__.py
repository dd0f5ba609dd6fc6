# SPDX-License-Identifier: GPL-2.0-only
"""What kernels boot on, all behind one interface that speaks adb."""
