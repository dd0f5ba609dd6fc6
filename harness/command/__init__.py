# SPDX-License-Identifier: GPL-2.0-only
"""What ./run does: a task's words come in here, and its exit code goes out."""
