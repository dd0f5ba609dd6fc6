# SPDX-License-Identifier: GPL-2.0-only
"""`watch`: looks at a guest that runs, again and again, over adb."""

from __future__ import annotations

import time

from rich.live import Live

from harness import ui
from harness.device import kept
from harness.device.kept import KeptDevice
from harness.errors import ExitCode, HarnessError
from harness.layout import Layout
from harness.show import watch
from harness.show.watch import View

INTERVAL_SECONDS = 0.5
ANSWER_SECONDS = 20.0


def watch_kept(*, seconds: float | None, layout: Layout) -> int:
    """Show the guest that is kept, until Ctrl-C or for some seconds.

    On a terminal in place; elsewhere what there is at first, and then a line for each kill.
    """
    folder = layout.build / kept.FOLDER
    guest = kept.read(folder)
    if guest is None:
        raise HarnessError(
            "no guest is kept in this checkout",
            hint="`./run boot --keep`, then for example `./run exec --kept -- mmlimit set u0_a70"
            " 100M`",
        )
    device = KeptDevice(folder, guest)
    deadline = time.monotonic() + seconds if seconds is not None else None
    view = _look(device)
    with _Live(view) if ui.console.is_terminal else _Lines(view) as shown:
        while deadline is None or time.monotonic() < deadline:
            time.sleep(INTERVAL_SECONDS)
            shown.update(_look(device))
    return int(ExitCode.PASSED)


class _Live:
    """For a person: all of it, in place."""

    def __init__(self, view: View) -> None:
        self._live = Live(watch.render(view), console=ui.console, auto_refresh=False)

    def __enter__(self) -> _Live:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, view: View) -> None:
        self._live.update(watch.render(view), refresh=True)


class _Lines:
    """For a log: what there is at first, then each kill once."""

    def __init__(self, view: View) -> None:
        ui.console.print(watch.render(view))
        self._seen = {(kill.time_s, kill.pid) for kill in view.kills}

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, view: View) -> None:
        for kill in view.kills:
            if (kill.time_s, kill.pid) not in self._seen:
                self._seen.add((kill.time_s, kill.pid))
                ui.console.print(watch.kill_line(kill), soft_wrap=True, highlight=False)


def _look(device: KeptDevice) -> View:
    done = device.shell(["sh", "-c", watch.SCRIPT], timeout=ANSWER_SECONDS, urgent=True)
    return watch.parse(done.stdout)
