"""Which settings make stored scores, and what was made of them, out of date."""

from pathlib import Path
from typing import Any

from workers import make_job

from rtdscan.transforms.settings import Limits, OutputSettings, ScoreSettings, SuggestSettings, Thresholds

NEUTRAL = {"model", "device", "batch_tokens", "threads"}  # the bundle's digest stands for the model
SCORING: dict[str, Any] = {
    "engine": "torch",
    "precision": "float32",
    "window": 24,
    "limits": Limits(document_tokens=9),
    "output": OutputSettings(words=True),
}
PRESENTATION: dict[str, Any] = {
    "ignore": ("url",),
    "allow": ("x",),
    "suggest": SuggestSettings(top_k=1),
    "thresholds": Thresholds(not_ok="drop"),
}


def test_every_setting_has_its_place_in_a_fingerprint(tmp_path: Path) -> None:
    assert set(ScoreSettings.model_fields) == NEUTRAL | set(SCORING) | set(PRESENTATION)
    plain = make_job(tmp_path)
    changes: list[tuple[dict[str, Any], bool]] = [
        *(({name: value}, True) for name, value in SCORING.items()),
        *(({"output": OutputSettings(**one)}, True) for one in ({"tokens": True}, {"embedding": "none"})),
        *(({name: value}, False) for name, value in PRESENTATION.items()),
        ({"output": OutputSettings(columns=("a",))}, False),
        *(({"thresholds": Thresholds(**{name: 0.3})}, False) for name in ("flag", "review", "drop")),
    ]
    for change, scores in changes:
        job = make_job(tmp_path, settings=ScoreSettings(**change))
        assert (job.scoring != plain.scoring) == scores, change
        assert (job.presentation != plain.presentation) != scores, change
