# SPDX-License-Identifier: GPL-2.0-only
"""Build, boot and judge Android-style kernels that limit memory per user.

A pipeline of rooms, each importing only from those before it: source → build → device →
case → show and bench → command.  The modules beside them are what all rooms share.
"""
