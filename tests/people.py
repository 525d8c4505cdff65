"""People who judge flags, as processes of their own: imported by them, so it imports little."""

from dataclasses import replace
from datetime import datetime, timezone

from rtdscan.pipeline.detection.verdicts import Verdict
from rtdscan.pipeline.page.judging import Verdicts

TEXT = "He goes too school at teh end."
START = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
BASE = Verdict("ana", START, "right", "a.parquet", 3, 8, 11, 0.75, True, "d1", "t1", 0, TEXT)


def judge(output: str, reviewer: str, count: int) -> None:
    """Store verdicts on the first stretches of a document, right and wrong in turn."""
    verdicts = Verdicts(output)
    for at in range(count):
        verdicts.store(replace(BASE, reviewer=reviewer, start=at, end=at + 1, verdict=("right", "wrong")[at % 2]))
