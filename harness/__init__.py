# SPDX-License-Identifier: GPL-2.0-only
"""Build, boot and judge Android-style kernels that limit memory per user."""
