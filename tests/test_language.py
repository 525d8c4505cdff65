"""Text in another language than its model's is doubted: by tokens outside the vocabulary, words outside the lexicon."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import options, shards
from tiny import ENGLISH, make_tiny_bundle

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.language import LEAST_WORDS, doubt
from rtdscan.transforms.lexicon import LEXICON_FILE
from rtdscan.transforms.lexicon_file import write_lexicon
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import ScoreSettings
from rtdscan.transforms.shards import KEY, read_stamp

# Fifteen words of letters; one of them is English, too.
GERMAN = "Der Hund lief am Abend durch den dunklen Wald und suchte 2 Stunden nach seinem Ball. "


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a lexicon, in a readout that has no use for one, and flags that are meant to be right."""
    card = {"flag_precision": {"precision": 0.8, "held_out": 0.744, "on": "made-up errors"}}
    path = make_tiny_bundle(tmp_path_factory.mktemp("language") / "model", card=card)
    words = sorted(set(ENGLISH.split()))
    write_lexicon(words, [2] * len(words), total=9, sink=path / LEXICON_FILE)
    return path


def test_who_is_doubted() -> None:
    plain = {"tokens": 1000, "unknown": 0, "spelled": LEAST_WORDS, "listed": 180}
    assert doubt(**plain) is None
    assert doubt(tokens=0, unknown=0, spelled=0, listed=0) is None
    assert "only 46% of words are in the model's lexicon" in str(doubt(**plain | {"listed": 92}))
    assert doubt(**plain | {"spelled": LEAST_WORDS - 1, "listed": 0}) is None, "too few words to tell"
    assert str(doubt(**plain | {"unknown": 660})).startswith("66% of tokens are outside the model's vocabulary: is the")
    assert "vocabulary, and only 1% of words" in str(doubt(**plain | {"unknown": 660, "listed": 2}))


def test_words_are_counted_row_for_row(model: Path, tiny_bundle: Path) -> None:
    told: list[tuple[int, int]] = []
    texts = [b"The water, 42 x2 zzyzx!", None, "我们".encode(), b"The water, 42 x2 zzyzx!", b"one \xff"]
    for path in (model, tiny_bundle):
        scorer = Scorer.load(str(path), settings=ScoreSettings(engine="torch", precision="float32"))
        rows = pa.table({"text": pa.array(texts, pa.large_binary())})
        scorer.score_rows(rows, on_listed=lambda *counts: told.append(counts))
    # "The water zzyzx" twice, two Chinese words; of invalid text nothing is scored.
    assert told == [(8, 4), (0, 0)]


def test_a_scan_doubts_what_is_spelled_in_known_letters(
    model: Path, tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """German passed as clean English: the letters are in the vocabulary, so no token was unknown."""
    corpus, output = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    pq.write_table(pa.table({"text": [GERMAN * 7, *[GERMAN] * 13]}), corpus / "a.parquet")

    def scan(*sets: str) -> dict[str, Any]:
        command = ["scan", str(corpus), str(output), *options(model, "input.id=null", *sets)]
        assert main([*command, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    first = scan()
    assert first["metrics"]["unknown_share"] == 0
    assert first["flag_precision"] is None
    (warning,) = first["warnings"]
    assert warning.startswith("only 7% of words are in the model's lexicon: is the text in the model's language?")
    written = shards(output)
    run = json.loads((output / "run.json").read_text())
    assert (run["tally"]["spelled"], run["summary"]["warnings"]) == (20 * 15, [warning])
    # Spans made again, files touched, and nothing to do: the same counts.
    assert scan("thresholds.flag=0.9")["warnings"] == [warning]
    assert scan()["warnings"] == [warning]
    assert shards(output) == written
    assert scan()["units"] == {"current": len(written)}

    for path in map(output.joinpath, written):  # of before these words were counted
        table = pq.read_table(path, partitioning=None)
        stamp = json.loads(table.schema.metadata[KEY])
        tally = json.loads(stamp["tally"])
        del tally["spelled"], tally["listed"]
        metadata = json.dumps(stamp | {"tally": json.dumps(tally)}).encode()
        pq.write_table(table.replace_schema_metadata({KEY: metadata}), path)
        stamp_read = read_stamp(str(path))
        assert stamp_read is not None
        assert stamp_read.tally.spelled == 0
    again = scan()
    assert again["units"] == {"current": len(written)}
    told = "meant to be right 80% of the time, 74% in documents that the threshold was not chosen on (made-up errors)"
    assert (again["warnings"], again["flag_precision"]) == ([], told)


def test_a_scan_does_not_doubt_its_own_language(
    model: Path, tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"text": [ENGLISH] * 20}), tmp_path / "a.parquet")
    command = ["scan", str(tmp_path / "a.parquet"), str(tmp_path / "out"), *options(model, "input.id=null")]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "warning" not in told
    assert "meant to be right 80%" in told
