# SPDX-License-Identifier: GPL-2.0-only
"""The page of results: all there, of one piece, and nothing wider than the screen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.case.samples import parse_samples
from harness.errors import HarnessError
from harness.show.page import write_page
from harness.show.results import read_results

LOG = [
    "[    2.400000] uid=10070,mm_max=32000000",
    "[    2.800000] uid=10070,\tuRSS=32100000,\tmm_max=32000000,\tpid=91,\tpRSS=2300000,"
    "\tstart_time=2714",
    "[    2.800100] Per-user memory limit: Killed process 91 (young) total-vm:1kB",
    "[    2.900000] <b>not markup & not an event",
]


def candidate(pid: int, score: int, fate: str, comm: str) -> dict[str, Any]:
    return {"pid": pid, "comm": comm, "uid": 10070, "rss": 2_300_000, "score": score, "fate": fate}


def results(**case: Any) -> dict[str, Any]:
    processes = [
        [2.0 + step / 20, 10070, pid, 1_000_000 * step, f"process-{pid}"]
        for step in range(20)
        for pid in range(80, 96)
    ]
    return {
        "schema": 2,
        "kernel": "linux-6.1",
        "release": "6.1.192-mmlimits",
        "board": "arm-virt",
        "arch": "arm",
        "device": "qemu",
        "accel": "tcg",
        "accel_why": "as asked",
        "reproduce": "./run emulator-test --policy=youngest",
        "sha256": {},
        "cases": [
            {
                "id": "choice-youngest",
                "name": "choice",
                "summary": "who is killed has the highest score",
                "policy": "youngest",
                "kernel": "rss",
                "seed": 1,
                "console": "",
                "trigger": "kernel",
                "status": "failed",
                "seconds": 2.5,
                "kills": [
                    {
                        "uid": 10070,
                        "user_rss": 33_000_000,
                        "mm_max": 32_000_000,
                        "pid": 91,
                        "process_rss": 2_300_000,
                        "score": 2714,
                    }
                ],
                "detail": "expected: nobody is killed\nseen:     young was killed",
                "field": "start_time",
                "reproduce": "./run emulator-test --policy=youngest --scenario=choice",
                "rankings": [
                    [
                        candidate(91, 2714, "chosen", "young<script>"),
                        candidate(90, 2671, "candidate", "old"),
                        candidate(1, 0, "protected", "init"),
                    ]
                ],
                "log": LOG,
                "samples": {
                    "limits": [[2.4, 10070, 32_000_000, 31_000_000]],
                    "processes": processes,
                },
                **case,
            }
        ],
    }


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    write_page(path, results())
    return path


def test_all_of_a_case_is_there(page: Path) -> None:
    text = page.read_text()
    assert "young&lt;script&gt;" in text
    assert "spared: protected" in text
    assert "&lt;b&gt;not markup &amp; not an event" in text
    assert text.count("<mark>") == 3  # the table, the kill, the kernel's own line
    assert "start_time" in text
    assert "--scenario=choice" in text
    assert "seen:     young was killed" in text


def test_the_picture_has_bands_a_limit_and_the_kill(page: Path) -> None:
    svg = page.read_text().split("<svg", 1)[1].split("</svg>")[0]
    assert 'role="img"' in svg
    assert "currentColor" in svg
    assert "#010203" not in svg
    # Ten processes and the others, in the legend; then the limit.
    assert svg.count("PolyCollection") + svg.count("FillBetween") >= 11


def test_nothing_is_loaded_from_elsewhere(page: Path) -> None:
    text = page.read_text()
    assert "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!#)', text.replace("xlink:", ""))
    assert "url(http" not in text


def test_a_case_without_evidence_has_no_picture(tmp_path: Path) -> None:
    data = results(samples=None, rankings=[], log=[])
    write_page(tmp_path / "page.html", data)
    assert "<svg" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["0", "1"])  # dark, light
def test_nothing_is_wider_than_the_screen(page: Path, width: int, scheme: str) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not here, so no browser can be asked")
    measure = (
        "<script>document.title = JSON.stringify([innerWidth, document.body.scrollWidth,"
        " document.querySelectorAll('svg path').length,"
        " getComputedStyle(document.body).fontSize])</script></body>"
    )
    page.write_text(page.read_text().replace("</body>", measure))
    seen = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            f"--window-size={width},900",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--user-data-dir={page.parent / 'profile'}",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    title = re.search(r"<title>(\[.*\])</title>", seen)
    assert title is not None
    inner, body, paths, _ = json.loads(title[1])
    assert body <= inner
    assert paths > 20


def test_a_file_that_holds_no_results(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(HarnessError, match="cannot read"):
        read_results(path)
    path.write_text("{")
    with pytest.raises(HarnessError, match="is no JSON"):
        read_results(path)
    path.write_text("{}")
    with pytest.raises(HarnessError, match="holds no results"):
        read_results(path)


def test_samples_are_read_but_for_what_was_cut_off() -> None:
    samples = parse_samples(
        ["L 2400 10070 32000000 31000000", "P 2400 10070 91 4096 a name", "P 2400 10070 9", ""]
    )
    assert [(one.time_s, one.limit) for one in samples.limits] == [(2.4, 32_000_000)]
    assert [(one.pid, one.rss, one.comm) for one in samples.processes] == [(91, 4096, "a name")]
