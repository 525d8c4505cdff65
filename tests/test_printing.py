"""What a program prints at its end, where stdout takes all of it, a part of it, or nothing."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.printing import after_work, print_json
from rtdscan.transforms.errors import RtdscanError


def full_disk() -> TextIO:
    return open("/dev/full", "w", encoding="utf-8")


def reader_that_went_away() -> TextIO:
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w", encoding="utf-8")


def test_json_that_every_reader_takes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    nan, inf = float("nan"), float("inf")
    print_json({"a": nan, "b": [inf, -inf, 1.5, True, None], "c": ({"d": nan, "e": "NaN é"},)})
    expected = '{"a": null, "b": [null, null, 1.5, true, null], "c": [{"d": null, "e": "NaN é"}]}\n'
    assert capsys.readouterr().out == expected
    held = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(held, encoding="ascii", write_through=True))
    print_json(["é"])
    assert held.getvalue() == b'["\\u00e9"]\n'


@pytest.mark.parametrize("stdout", [full_disk, reader_that_went_away])
@pytest.mark.parametrize("kept", [True, False])
def test_what_is_not_kept_is_lost_on_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdout: Callable[[], TextIO], kept: bool
) -> None:
    lost = stdout is full_disk and not kept
    said = ""
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", stdout())
        try:
            with after_work(kept=kept):
                print("a table")
        except RtdscanError as error:
            said = str(error)
        sys.stdout.flush()  # Python does so at its exit, and a failure then is status 120
    assert said == ("what came of it can't be shown: No space left on device" if lost else "")
    warned = "No space left on device; the work is done" in capsys.readouterr().err
    assert warned == (stdout is full_disk and kept)


def test_a_plan_that_nobody_can_read_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended with a traceback on a full disk."""
    pq.write_table(pa.table({"text": ["A text."]}), tmp_path / "a.parquet")
    for stdout, status in ((full_disk, 1), (reader_that_went_away, 0)):
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", stdout())
            assert main(["plan", str(tmp_path), "--json"]) == status
    assert capsys.readouterr().err == "rtdscan: what came of it can't be shown: No space left on device\n"
    assert main(["plan", str(tmp_path), "--speed", "inf", "--json"]) == 2
    assert "--speed is inf; expected tokens a second" in capsys.readouterr().err
    assert main(["plan", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 1
