"""What is told while a scan runs, where there is no terminal."""

import threading
import time

import pytest

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
    assert lines[-1].startswith("rtdscan: 1/2 units, 0 documents, ")
    assert "progress" not in {thread.name for thread in threading.enumerate()}
