"""Labelled text: what is read, what is refused, which words are wrong."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.pipeline.config import load_config
from rtdscan.pipeline.detection.evidence import Evidence
from rtdscan.pipeline.detection.labels import Labelled, Spans, corrupt_corpus, read_labelled, sample_texts, some_of
from rtdscan.pipeline.detection.tables import word_rows
from rtdscan.pipeline.detection.truth import ALL, UNNAMED, document_scores, label_documents, label_words
from rtdscan.pipeline.training.settings import PretrainConfig
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.settings import MixtureSettings

CONFIGS = Path(__file__).parent.parent / "configs"
SPAN = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("kind", pa.string())]))


def write(path: Path, rows: list[dict], *, spans: pa.DataType = SPAN) -> Path:
    fields = [("text", pa.string()), ("spans", spans), ("ignore_spans", spans)]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), path)
    return path


def spaced(texts: list[str]) -> Evidence:
    """Words between spaces, without a network."""
    rows = []
    for at, text in enumerate(texts):
        start = 0
        for word in text.split(" "):
            rows.append((at, start, start + len(word)))
            start += len(word) + 1
    document, start_W, end_W = (np.array(column) for column in zip(*rows, strict=True))
    seen = np.ones(len(rows), bool)
    return Evidence(("mark",), document, start_W, end_W, np.zeros((len(rows), 1), np.float32), seen, ~seen)


def test_labelled_parquet_is_read(tmp_path: Path) -> None:
    rows = [
        {"text": "He goes too school", "spans": [{"start": 8, "end": 11, "kind": "spelling"}], "ignore_spans": []},
        {"text": None, "spans": None, "ignore_spans": None},
        {
            "text": "Zürich iz 𝔘p",
            "spans": [{"start": 7, "end": 9, "kind": None}],
            "ignore_spans": [{"start": 10, "end": 12}],
        },
    ]
    found = read_labelled([str(write(tmp_path / "a.parquet", rows))])
    assert found.texts == ["He goes too school", "", "Zürich iz 𝔘p"]
    assert found.wrong.document_S.tolist() == [0, 2]
    assert found.wrong.kind_S.tolist() == ["spelling", ""]
    assert not found.synthetic
    assert found.source["documents"] == 3
    truth = label_words(found, spaced(found.texts))
    assert np.flatnonzero(truth.wrong_W).tolist() == [2, 6]
    assert np.flatnonzero(~truth.counted_W).tolist() == [7]
    assert truth.kinds["spelling"].nonzero()[0].tolist() == [2]
    assert truth.kinds[UNNAMED].nonzero()[0].tolist() == [6]


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (2, 1), (0, 100), (None, 3)])
def test_a_span_outside_its_text_is_refused(tmp_path: Path, start: int | None, end: int) -> None:
    rows = [{"text": "fine", "spans": []}, {"text": "four", "spans": [{"start": start, "end": end}]}]
    with pytest.raises(UserError, match=r"row 1: spans has .* the text has 4 characters"):
        read_labelled([str(write(tmp_path / "a.parquet", rows))])


def test_a_null_among_spans_is_refused(tmp_path: Path) -> None:
    """A traceback: NoneType is not subscriptable."""
    rows = [{"text": "fine", "spans": []}, {"text": "four", "spans": [{"start": 0, "end": 2}, None]}]
    with pytest.raises(UserError, match=r"row 1: spans holds null; expected list<struct<start"):
        read_labelled([str(write(tmp_path / "a.parquet", rows))])


@pytest.mark.parametrize("type_", [pa.float64(), pa.string(), pa.bool_()])
def test_offsets_that_are_no_integers_are_refused(tmp_path: Path, type_: pa.DataType) -> None:
    """Strings were compared with numbers, and halves of characters reached the network."""
    spans = pa.list_(pa.struct([("start", type_), ("end", type_)]))
    with pytest.raises(UserError, match=r"column 'spans' is list<.*expected list<struct<start: int, end: int"):
        read_labelled([str(write(tmp_path / "a.parquet", [{"text": "four", "spans": []}], spans=spans))])


def test_so_many_documents_of_labelled_ones(tmp_path: Path) -> None:
    """`input.documents` was passed over in silence without --corrupt."""
    rows = [
        {"text": f"a bad one {at}", "spans": [{"start": 2, "end": 5, "kind": str(at)}], "ignore_spans": []}
        for at in range(30)
    ]
    rows[7] = {"text": " ", "spans": [], "ignore_spans": []}
    every = read_labelled([str(write(tmp_path / "a.parquet", rows))])
    some = some_of(every, 12, seed=3)
    assert len(some.texts) == some.source["documents"] == 12
    assert [text.split()[-1] for text in some.texts] == some.wrong.kind_S.tolist()
    assert some.wrong.document_S.tolist() == list(range(12))
    assert some.texts != some_of(every, 12, seed=4).texts
    assert some.notes == ()
    whole = some_of(every, 30, seed=0)
    assert whole.texts == [text for text in every.texts if text.strip()]
    assert whole.notes == ("only 29 documents are not blank, of 30 that input.documents asks for",)


def test_files_without_spans_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "plain.parquet")
    with pytest.raises(UserError, match=r"no column 'spans'.*--corrupt"):
        read_labelled([str(tmp_path / "plain.parquet")])
    pq.write_table(pa.table({"text": ["a"], "spans": [[1, 2]]}), tmp_path / "ints.parquet")
    with pytest.raises(UserError, match="expected list<struct<start"):
        read_labelled([str(tmp_path / "ints.parquet")])


def test_spans_without_kind_and_without_ignore_spans(tmp_path: Path) -> None:
    table = pa.table({"text": ["a bad one"], "spans": [[{"start": 2, "end": 5}]]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = read_labelled([str(tmp_path / "a.parquet")])
    truth = label_words(found, spaced(found.texts))
    assert truth.kinds == {}
    assert truth.wrong_W.tolist() == [False, True, False]
    assert truth.counted_W.all()


@given(st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=4), min_size=1, max_size=4))
def test_a_word_is_wrong_when_it_shares_a_character_with_a_span(spans: list[list[tuple[int, int]]]) -> None:
    texts = ["ab cde f ghi jklm nop qrst"] * len(spans)
    flat = [(at, start, start + length, "k") for at, these in enumerate(spans) for start, length in these]
    evidence = spaced(texts)
    truth = label_words(Labelled(texts, Spans.of(flat), Spans.of([])), evidence)
    rows = zip(evidence.document_W, evidence.start_W, evidence.end_W, strict=True)
    brute = [any(d == at and max(s, a) < min(e, b) for at, a, b, _ in flat) for d, s, e in rows]
    # A span without characters lies inside a word or in none.
    empty = [
        any(d == at and a == b and s < a < e for at, a, b, _ in flat)
        for d, s, e in zip(evidence.document_W, evidence.start_W, evidence.end_W, strict=True)
    ]
    assert truth.wrong_W.tolist() == [x or y for x, y in zip(brute, empty, strict=True)]


def test_kinds_that_are_told_of_documents() -> None:
    texts = ["one two", "three four", "five six"]
    wrong = Spans.of([(0, 0, 3, "spelling"), (1, 0, 10, "shuffled")])
    labelled = Labelled(texts, wrong, Spans.of([]))
    evidence = spaced(texts)
    truth = label_words(labelled, evidence)
    right, rows = word_rows(truth)
    assert right.tolist() == [False, True, False, False, True, True]
    assert rows[ALL].nonzero()[0].tolist() == [0]
    assert rows["shuffled"].nonzero()[0].tolist() == [2, 3]
    clean, kinds = label_documents(labelled)
    assert clean.tolist() == [False, False, True]
    assert kinds["shuffled"].tolist() == [False, True, False]
    assert document_scores(np.arange(6.0), evidence.document_W, 4).tolist() == [0.5, 2.5, 4.5, 0.0]


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    texts = [
        f"This is the sentence number {at} that they should have received from the government." for at in range(60)
    ]
    pq.write_table(pa.table({"text": [*texts, "", None]}), tmp_path / "clean.parquet", row_group_size=10)
    return str(tmp_path / "clean.parquet")


def test_a_clean_corpus_is_corrupted_the_same_way_each_time(corpus: str) -> None:
    settings = MixtureSettings(kinds={"spelling": 1, "letters": 1}, clean=0.2, rate=(0.1, 0.2))
    one, two = (corrupt_corpus([corpus], settings, seed=3) for _ in range(2))
    assert one.texts == two.texts
    assert one.synthetic
    assert len(one.texts) == 60
    assert set(one.wrong.kind_S.tolist()) <= {"spelling", "letters"}
    assert len(one.wrong.kind_S) > 20
    assert corrupt_corpus([corpus], settings, seed=4).texts != one.texts
    assert one.source["seed"] == 3
    assert one.source["mixture"]["clean"] == 0.2
    truth = label_words(one, spaced(one.texts))
    assert 0.02 < truth.wrong_W.mean() < 0.3


def test_kinds_that_made_no_error_are_named(tmp_path: Path) -> None:
    """Kinds that were made for English were absent in Chinese without a word."""
    path = str(tmp_path / "chinese.parquet")
    pq.write_table(pa.table({"text": ["我们在中国的时候，看见了大河。"] * 40}), path)
    kinds = {"wrong_word": 1.0, "spelling": 1.0, "article": 1.0, "tense": 0.0}
    (note,) = corrupt_corpus([path], MixtureSettings(kinds=kinds, rate=(0.1, 0.2)), seed=1).notes
    assert note.startswith("no errors were made of the kinds spelling, article: ")
    chinese = load_config(MixtureSettings, files=[CONFIGS / "chinese-corruption.yaml"])
    trained = load_config(PretrainConfig, files=[CONFIGS / "pretrain-chinese.yaml"])
    assert chinese.kinds == trained.corruption.kinds


def test_documents_are_drawn_over_the_whole_corpus(corpus: str) -> None:
    everything = sample_texts([corpus], text=None, documents=None, seed=0)
    some = sample_texts([corpus], text=None, documents=12, seed=0)
    assert len(everything) == 60
    assert len(some) == len(set(some)) == 12
    assert set(some) < set(everything)
    numbers = sorted(int(text.split()[5]) for text in some)
    assert len({number // 10 for number in numbers}) > 2, "from several row groups"
    assert sample_texts([corpus], text=None, documents=12, seed=0) == some
    assert sample_texts([corpus], text=None, documents=12, seed=1) != some
    assert len(sample_texts([corpus], text=None, documents=999, seed=0)) == 60


def test_a_sample_is_as_large_and_as_even_as_asked_for(tmp_path: Path) -> None:
    """Of thirty files with one text and one with a thousand, 500 documents gave 63, and 20 were mostly small ones."""
    for at in range(10):
        pq.write_table(pa.table({"text": [f"small {at}"]}), tmp_path / f"s{at}.parquet")
    pq.write_table(pa.table({"text": [f"big {at}" for at in range(90)]}), tmp_path / "z.parquet", row_group_size=40)
    small = 0
    for seed in range(60):
        some = sample_texts([str(tmp_path)], text=None, documents=20, seed=seed)
        assert len(some) == len(set(some)) == 20
        small += sum(text.startswith("small") for text in some)
    # A tenth of 1,200; the standard deviation is sqrt(60 * 20 * .1 * .9 * 80 / 99) = 9.3.
    assert 80 < small < 160
    for documents in (1, 63, 99, 100, 500):
        assert len(sample_texts([str(tmp_path)], text=None, documents=documents, seed=0)) == min(documents, 100)


@pytest.mark.parametrize("blank", [None, "", " \n"])
def test_blank_rows_take_no_place_in_a_sample(tmp_path: Path, blank: str | None) -> None:
    """Row groups of blank rows took the places of texts: of a hundred none or a few were left."""
    path = tmp_path / "blanks.parquet"
    pq.write_table(
        pa.table({"text": [*(f"text {at}" for at in range(100)), *([blank] * 900)]}), path, row_group_size=100
    )
    for documents, expected in ((1, 1), (60, 60), (100, 100), (101, 100)):
        assert len(set(sample_texts([str(path)], text=None, documents=documents, seed=2))) == expected
    counts = np.zeros(100, int)
    for seed in range(5):
        numbers = [int(text.split()[1]) for text in sample_texts([str(path)], text=None, documents=50, seed=seed)]
        assert numbers == sorted(numbers)
        counts[numbers] += 1
    assert counts[:50].sum() == pytest.approx(125, abs=30), "rows are not taken by where they stand (sd 6)"
    letters = MixtureSettings(kinds={"letters": 1})
    few, all_ = (corrupt_corpus([str(path)], letters, seed=0, documents=n).notes for n in (101, 100))
    assert all_ == ()
    assert few == ("only 100 documents are not blank, of 101 that input.documents asks for",)
