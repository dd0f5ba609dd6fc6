# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios: what is run on a device, what is read from its log, and how that is judged."""
