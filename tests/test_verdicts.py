"""Verdicts: nothing is lost, the last counts, disagreement counts for nothing; evaluate and calibrate read them."""

import json
import multiprocessing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from people import BASE, START, TEXT, judge

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.detection.labels import read_labelled
from rtdscan.pipeline.detection.verdicts import SCHEMA, Verdict, labels_of, last_said, read_verdicts, write_verdict
from rtdscan.pipeline.page.judging import Verdicts
from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import OutputSettings, ScoreSettings


def said(*verdicts: tuple[str, str, int, int], base: Verdict = BASE) -> list[Verdict]:
    """(reviewer, verdict, start, end), a second apart."""
    return [
        replace(base, reviewer=who, verdict=what, start=start, end=end, at=START + timedelta(seconds=at))
        for at, (who, what, start, end) in enumerate(verdicts)
    ]


def test_a_verdict_is_a_file_of_its_own_that_says_it_all(tmp_path: Path) -> None:
    names = [write_verdict(str(tmp_path), BASE), write_verdict(str(tmp_path), BASE)]
    assert len(set(names)) == 2
    path = tmp_path / "verdicts" / names[0]
    assert pq.read_schema(path).equals(SCHEMA)
    assert read_verdicts([str(path)]) == [BASE]
    assert read_verdicts([str(path)], text=False) == [replace(BASE, text="")]
    with pytest.raises(ValueError, match="maybe"):
        write_verdict(str(tmp_path), replace(BASE, verdict="maybe"))  # type: ignore[arg-type]
    assert len(list((tmp_path / "verdicts").iterdir())) == 2
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RtdscanError, match=names[0]):
        read_verdicts([str(path)])


def test_what_a_person_said_last_counts() -> None:
    found = last_said(
        said(("ana", "right", 8, 11), ("bo", "wrong", 8, 11), ("ana", "unsure", 8, 11), ("bo", "withdrawn", 8, 11))
    )
    assert {who: v.verdict for who, v in found[8, 11].items()} == {"ana": "unsure"}
    assert last_said(said(("ana", "right", 8, 11), ("ana", "withdrawn", 8, 11))) == {}


def test_labels_are_what_people_agree_on() -> None:
    """In TEXT: 8-11 `too` right, 0-2 `He` wrong, 22-25 `teh` disputed, 3-7 `goes` unsure; the rest nobody looked at."""
    about = said(
        ("ana", "right", 8, 11), ("ana", "wrong", 0, 2), ("ana", "right", 22, 25), ("bo", "wrong", 22, 25),
        ("bo", "unsure", 3, 7), ("bo", "unsure", 8, 11), ("bo", "wrong", 12, 18), ("bo", "withdrawn", 12, 18),
    )  # fmt: skip
    found = labels_of(about)
    assert (found.right, found.wrong, found.unsure, found.disputed) == (1, 1, 1, 1)
    assert found.reviewers == ("ana", "bo")
    (label,) = found.labels
    assert label.text == TEXT
    assert label.spans == ((8, 11),)
    assert label.ignored == ((2, 8), (11, 30))
    assert labels_of(said(("ana", "unsure", 0, 2))).labels == ()


def test_flags_that_overlap_count_where_they_agree() -> None:
    """At another threshold `He goes` was one flag and right; now `He` alone was judged wrong."""
    (label,) = labels_of(said(("ana", "right", 0, 7), ("ana", "wrong", 0, 2))).labels
    assert label.spans == ((2, 7),)
    assert label.ignored == ((0, 2), (7, 30))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ana", "bo"]),
            st.sampled_from(["right", "wrong", "unsure", "withdrawn"]),
            st.integers(0, 29),
            st.integers(1, 8),
        )
    )
)
def test_every_character_is_right_wrong_or_ignored(given_: list[tuple[str, str, int, int]]) -> None:
    verdicts = said(*((who, what, start, min(30, start + length)) for who, what, start, length in given_))
    for label in labels_of(verdicts).labels:
        covered = np.zeros(len(label.text), int)
        for start, end in (*label.spans, *label.ignored):
            assert start < end
            covered[start:end] += 1
        assert covered.max() <= 1
        assert covered.min() == 0 or any(v.verdict == "right" for v in verdicts)
        assert not covered.all() or label.spans


def test_an_excerpt_of_a_long_document_keeps_its_place(tmp_path: Path) -> None:
    """The stretch is at 1,008 of the document, and at 8 of what was stored."""
    verdict = replace(BASE, start=1008, end=1011, text_start=1000)
    (label,) = labels_of([verdict]).labels
    assert label.spans == ((8, 11),)
    assert label.text[8:11] == "too"


def test_labelled_text_is_read_from_verdicts_beside_other_labels(tmp_path: Path) -> None:
    for verdict in said(("ana", "right", 8, 11), ("ana", "wrong", 0, 2)):
        write_verdict(str(tmp_path), verdict)
    found = read_labelled([str(tmp_path / "verdicts")])
    assert found.texts == [TEXT]
    assert (found.wrong.start_S.tolist(), found.wrong.end_S.tolist()) == ([8], [11])
    assert found.ignored.start_S.tolist() == [2, 11]
    assert found.source["verdicts"]["right"] == 1
    both = read_labelled([str(tmp_path / "verdicts"), str(_labelled(tmp_path))])
    assert sorted(both.texts) == sorted([TEXT, "Thiss is"])
    for_text = {
        both.texts[d]: (s, e)
        for d, s, e in zip(both.wrong.document_S, both.wrong.start_S, both.wrong.end_S, strict=True)
    }
    assert for_text == {TEXT: (8, 11), "Thiss is": (0, 5)}


def _labelled(folder: Path) -> Path:
    span = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))
    table = pa.table({"text": ["Thiss is"], "spans": pa.array([[{"start": 0, "end": 5}]], span)})
    (folder / "labelled").mkdir()
    pq.write_table(table, folder / "labelled" / "a.parquet")
    return folder / "labelled"


def test_verdicts_none_of_which_counts_are_refused(tmp_path: Path) -> None:
    write_verdict(str(tmp_path), replace(BASE, verdict="unsure"))
    with pytest.raises(UserError, match="unsure, disputed or withdrawn"):
        read_labelled([str(tmp_path / "verdicts")])


@pytest.mark.slow
def test_several_people_at_once_lose_nothing(tmp_path: Path) -> None:
    """Three processes, thirty verdicts each, on the same stretches of one document."""
    context = multiprocessing.get_context("spawn")
    people = [context.Process(target=judge, args=(str(tmp_path), f"person {n}", 30)) for n in range(3)]
    watching = Verdicts(str(tmp_path))
    for person in people:
        person.start()
    while any(person.is_alive() for person in people):
        watching.renew()
    for person in people:
        person.join()
        assert person.exitcode == 0
    watching.renew()
    paths = [str(path) for path in (tmp_path / "verdicts").iterdir()]
    assert all(path.endswith(".parquet") for path in paths)
    assert len(read_verdicts(paths)) == 90
    said_ = watching.said("a.parquet", 3, "t1")
    assert len(said_) == 30
    for (start, _), by in said_.items():
        assert {who: v.verdict for who, v in by.items()} == {
            f"person {n}": ("right", "wrong")[start % 2] for n in range(3)
        }


def test_threads_of_one_page_lose_nothing_and_keep_their_order(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    verdicts = Verdicts(str(tmp_path))
    with ThreadPoolExecutor(8) as threads:
        stored = list(
            threads.map(lambda at: verdicts.store(replace(BASE, reviewer=f"p{at % 4}", start=at % 5)), range(80))
        )
    assert len({verdict.at for verdict in stored}) == 80
    found = read_verdicts([str(path) for path in (tmp_path / "verdicts").iterdir()])
    assert sorted((v.at, v.reviewer, v.start) for v in stored) == [(v.at, v.reviewer, v.start) for v in found]


def test_what_is_said_last_counts_whatever_the_clock_says(tmp_path: Path) -> None:
    later = datetime.now(timezone.utc) + timedelta(hours=2)
    write_verdict(str(tmp_path), replace(BASE, at=later))
    verdicts = Verdicts(str(tmp_path))
    verdicts.store(replace(BASE, verdict="wrong"))
    assert verdicts.said("a.parquet", 3, "t1")[8, 11]["ana"].verdict == "wrong"
    assert Verdicts(str(tmp_path)).said("a.parquet", 3, "t1")[8, 11]["ana"].verdict == "wrong"
    assert verdicts.said("a.parquet", 3, "another text") == {}
    assert verdicts.by_document() == {("a.parquet", 3): {"wrong": 1}}
    verdicts.store(replace(BASE, reviewer="bo", verdict="right"))
    assert verdicts.by_document() == {("a.parquet", 3): {"disputed": 1}}


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """Verdicts on every word of twelve sentences: those with `teh` are wrong."""
    for at in range(12):
        text = f"We saw teh house number {at} near the old river and went home again"
        start = 0
        for word in text.split():
            start = text.index(word, start)
            verdict = replace(BASE, row=at, digest=f"t{at}", text=text, start=start, end=start + len(word))
            write_verdict(str(tmp_path), replace(verdict, verdict="right" if word in ("teh", "near") else "wrong"))
            start += len(word)
    return tmp_path


def test_evaluate_and_calibrate_read_them(judged: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast = ["--set", "engine=torch", "--set", "precision=float32", "--model", str(tiny_bundle), "--json"]
    verdicts = str(judged / "verdicts")
    assert main(["evaluate", verdicts, *fast, "--set", "draws=0"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["data"]["documents"] == 12
    assert told["data"]["verdicts"]["right"] == 24
    assert main(["calibrate", verdicts, *fast, "--output", str(judged / "bundle"), "--set", "folds=2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert any("verdicts" in note for note in told["notes"])
    before = load_bundle(str(tiny_bundle)).card.thresholds
    after = load_bundle(str(judged / "bundle")).card.thresholds
    assert (after.review, after.drop) == (before.review, before.drop)
    assert after.flag != before.flag


def test_verdicts_that_contradict_the_model_change_nothing(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every word that it finds unlikely is judged an error, every other one fine."""
    settings = ScoreSettings(engine="torch", precision="float32", output=OutputSettings(words=True))
    text = "The old house stood near the river and nobody had lived there for many years"
    words = Scorer.load(str(tiny_bundle), settings=settings).score(pa.table({"text": [text]}))["words"][0].as_py()
    middle = sorted(word["score"] for word in words)[len(words) // 2]
    for word in words:
        about = replace(BASE, text=text, start=word["start"], end=word["end"])
        write_verdict(str(tmp_path), replace(about, verdict="right" if word["score"] < middle else "wrong"))
    fast = ["--set", "engine=torch", "--set", "precision=float32", "--model", str(tiny_bundle), "--keep-readout"]
    assert main(["calibrate", str(tmp_path / "verdicts"), *fast, "--output", str(tmp_path / "bundle")]) == 2
    assert "contradict the model" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
