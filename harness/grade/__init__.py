# SPDX-License-Identifier: GPL-2.0-only
"""Other people's implementations: what they claim, built apart, booted, judged, marked."""
