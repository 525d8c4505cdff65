"""What is told while a scan runs, on a terminal and where there is none."""

import io
import threading
import time
from dataclasses import replace

import pytest
from rich.console import Console

from rtdscan.pipeline import progress
from rtdscan.transforms.tally import Tally


def test_lines_come_while_a_unit_takes_long_and_stop_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.01)
    lines: list[str] = []
    with progress.metering(2, 100) as meter:
        meter.add(Tally.zero(), text_bytes=50)
        while len(lines) < 2:  # pytest's time-out ends it where none come
            time.sleep(0.01)
            lines += capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("rtdscan: 50% done, 1/2 units, 0 documents, ")
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_units_under_way_count_by_their_tokens() -> None:
    meter = progress.Meter(units=2, text_bytes=1000, started=time.monotonic() - 10)
    meter.read(50)
    assert meter.share == pytest.approx(50 * progress.BYTES_PER_TOKEN / 1000)
    assert meter.state().startswith("0/2 units, 0 documents, 5 tokens/s")
    meter.read(0)
    meter.add(replace(Tally.zero(), tokens=100), text_bytes=200)
    assert meter.share == pytest.approx(0.2)
    meter.read(100)
    assert meter.share == pytest.approx(0.4), "two bytes a token, as in what is done"
    meter.read(10_000)
    assert 0.99 < meter.share < 1, "not done yet"
    assert progress.Meter(units=0, text_bytes=0).share == 0


def test_the_bar_fits_into_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.StringIO()
    console = Console(file=sink, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda **rest: console)
    with progress.metering(12_000, 10**10) as meter:
        meter.started -= 1e5
        meter.add(replace(Tally.zero(), rows=37_876_123, tokens=10**9), text_bytes=5 * 10**9)
        meter._bar.refresh()
    lines = [line.rsplit("\x1b", 1)[-1] for line in sink.getvalue().splitlines()]
    assert any("50%" in line and "left" in line and "…" not in line for line in lines)
    assert any("1/12,000 units, 37,876,123 documents, " in line and "flagged" in line for line in lines)
