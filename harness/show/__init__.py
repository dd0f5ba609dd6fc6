# SPDX-License-Identifier: GPL-2.0-only
"""What came of it, for people and for programs."""
