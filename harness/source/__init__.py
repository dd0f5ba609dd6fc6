# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel comes from: download → fetch → patch, and the parts of Google's SDK."""
