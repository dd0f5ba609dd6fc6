# SPDX-License-Identifier: GPL-2.0-only
"""What all tests need, wherever they are started."""

import signal


def pytest_configure() -> None:
    """Let Ctrl-C and hang-ups arrive, whatever this was started with.

    A shell that starts a job in the background has SIGINT ignored, nohup SIGHUP.
    Children inherit that, and what the tests interrupt would go on for ever.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
