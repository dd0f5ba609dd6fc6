# SPDX-License-Identifier: GPL-2.0-only
"""What per-user limits cost, measured in instructions: plan → measure → figures → show."""
