"""Looking through a scan: the catalogue agrees with the rows, text is searched in INPUT, documents are shown."""

import itertools
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import options, run_here, table, write_corpus

pytest.importorskip("duckdb", reason="duckdb is not installed")

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.finished.folder import Shard
from rtdscan.pipeline.finished.texts import Input
from rtdscan.pipeline.page import documents as documents_module
from rtdscan.pipeline.page import search as search_module
from rtdscan.pipeline.page.catalogue import CORPUS, FILE, MEASURES, PATH, Catalogue, Query, Row
from rtdscan.pipeline.page.documents import Documents
from rtdscan.pipeline.page.judging import Verdicts
from rtdscan.pipeline.page.looking import Looking, View, Wanted
from rtdscan.pipeline.page.search import Found, search
from rtdscan.transforms.errors import UserError


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> tuple[Path, Path]:
    """INPUT and OUTPUT; a file's name is a pattern. Read them, don't change them."""
    corpus = write_corpus(tmp_path_factory.mktemp("catalogue") / "corpus")
    (corpus / "x=1").mkdir()
    pq.write_table(table(82, 9), corpus / "x=1" / "w[1]*?.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
        sets = ["output.columns=[source]", "thresholds.flag=0.4"]
        assert main(["scan", str(corpus), str(corpus.parent / "out"), *options(tiny_bundle, *sets)]) == 0
    return corpus, corpus.parent / "out"


@pytest.fixture(scope="module")
def catalogue(scanned: tuple[Path, Path]) -> Catalogue:
    return Catalogue(str(scanned[1]))


@pytest.fixture(scope="module")
def everything(catalogue: Catalogue) -> list[dict[str, Any]]:
    """All rows, in the order of the corpus, without DuckDB."""
    rows = []
    for shard in catalogue.shards:
        found = pq.read_table(Path(catalogue.output) / shard.path, partitioning=None)
        of_file = {"file": shard.file, FILE: shard.file, PATH + "x": "1" if "x=1/" in shard.file else None}
        rows += [{**of_file, **row} for row in found.to_pylist()]
    assert len({row["file"] for row in rows}) == 4
    assert len(catalogue.shards) >= 8
    assert {row["status"] for row in rows} == {"ok", "null", "empty"}
    return rows


def fits(row: dict[str, Any], query: Query) -> bool:
    ranged = query.low > 0 or query.high < 1
    # As DuckDB compares: the score is float32.
    low, high = pa.array([query.low, query.high], pa.float32()).to_pylist()
    value = str(row[query.column]) if query.column else None
    return (
        (not ranged or (row["score"] is not None and low <= row["score"] <= high))
        and query.status in (None, row["status"])
        and query.decision in (None, row["decision"])
        and (query.value is None or query.column is None or value == query.value)
        and (query.among is None or (row["file"], row["row"]) in query.among)
        and (query.except_ is None or (row["file"], row["row"]) not in query.except_)
    )


def drawn(seed: int, everything: list[dict[str, Any]]) -> Query:
    """A random query; about half find something."""
    rng = random.Random(seed)
    keys = [(row["file"], row["row"]) for row in everything]
    column, value = rng.choice(
        [(None, None), ("source", "s1"), ("id", "44"), (FILE, rng.choice(everything)["file"]), (PATH + "x", "1")]
    )
    return Query(
        low=rng.choice([0.0, 0.0, 0.15]),
        high=rng.choice([1.0, 1.0, 0.3]),
        status=rng.choice([None, None, "ok", "null"]),
        decision=rng.choice([None, None, "keep", "drop"]),
        column=column,
        value=value,
        among=rng.choice([None, None, frozenset(rng.sample(keys, 30))]),
        except_=rng.choice([None, None, frozenset(rng.sample(keys, 30))]),
        order=rng.choice([CORPUS, *MEASURES, "source"]),
        descending=rng.random() < 0.5,
    )


def test_it_agrees_with_the_rows(catalogue: Catalogue, everything: list[dict[str, Any]]) -> None:
    """Its in-memory twin, on random queries and pages; orders by a column with ties are compared by the column."""
    found = 0
    for seed in range(30):
        query = drawn(seed, everything)
        expected = [row for row in everything if fits(row, query)]
        assert catalogue.count(query) == len(expected), query
        pages = [catalogue.page(query, offset=first, limit=7) for first in range(0, len(expected) + 7, 7)]
        rows = [row for page in pages for row in page]
        keys = [row.key for row in rows]
        assert sorted(keys) == sorted((row["file"], row["row"]) for row in expected), query
        if query.order == CORPUS:
            assert keys == [(row["file"], row["row"]) for row in expected], query
        elif query.order != "source":
            known = [row[query.order] for row in expected if row[query.order] is not None]
            ordered = sorted(known, reverse=query.descending)
            assert [getattr(row, query.order) for row in rows] == [*ordered, *[None] * (len(expected) - len(known))]
        found += bool(expected)
    assert found > 10


def test_the_order_of_the_corpus_outlives_a_join(catalogue: Catalogue, everything: list[dict[str, Any]]) -> None:
    """DuckDB hands out the rows of an anti join as its threads end; again and again, for that is a matter of luck."""
    left_out = frozenset((row["file"], row["row"]) for row in everything[::9])
    query = Query(except_=left_out, order=CORPUS)
    expected = [(row["file"], row["row"]) for row in everything if fits(row, query)]
    for _ in range(12):
        assert [row.key for row in catalogue.page(query, offset=0, limit=1000)] == expected
        assert [row.key for row in catalogue.inside(query, catalogue.shards)] == expected


def test_a_page_in_the_order_of_the_corpus_reads_its_shards_only(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    fetch = Catalogue._fetch

    def counting(self: Catalogue, what: str, query: Query, shards: list[Any], end: str) -> Any:
        asked.append(len(shards))
        return fetch(self, what, query, shards, end)

    monkeypatch.setattr(Catalogue, "_fetch", counting)
    first = catalogue.shards[0].rows
    assert len(catalogue.page(Query(order=CORPUS), offset=first - 1, limit=2)) == 2
    assert asked == [2]


def test_values_and_columns_are_offered(catalogue: Catalogue) -> None:
    assert catalogue.carried == ("id", "source")
    assert sorted(catalogue.values("source")) == ["s0", "s1", "s2"]
    assert "x=1/w[1]*?.parquet" in catalogue.values(FILE)
    assert ("x", PATH + "x") in catalogue.filters()
    assert catalogue.values(PATH + "x") == ["1"]
    with pytest.raises(UserError, match="no column"):
        catalogue.values('x" from nothing; --')
    with pytest.raises(UserError, match="no column"):
        catalogue.page(Query(order="score; drop"), offset=0, limit=1)
    odd = Query(column="source", value="' or 1=1 --")
    assert catalogue.count(odd) == 0


@pytest.mark.parametrize("whole", [b"", b"\xff"], ids=["UTF-8", "other bytes"])
def test_words_with_a_dotted_capital_i_were_not_found(whole: bytes) -> None:
    shard = Shard("attributes/a", "a.parquet", 0, 5, 2, 10, 0)
    rows = [Row(shard, 5 + at, None, "ok", "keep", 0.1, 0.1, 0, 3) for at in range(3)]
    stored = ["İİİ we saw İstanbul".encode(), b"we saw ISTANBUL", b"nothing" + whole]
    for words in ("İstanbul", "istanbul", "İSTANBUL", "SAW İ"):
        held = search_module._holding(rows, pa.array(stored, pa.large_binary()), words)
        assert [row.row for row in held] == [5, 6]
        assert [row.snippet for row in held] == [text.decode() for text in stored[:2]]
    assert search_module._snippet("İİİ we saw İstanbul" + "." * 99, "İstanbul").startswith("İİİ we saw İstanbul...")
    assert not search_module._holding(rows, pa.array(stored, pa.large_binary()), "saw \ud800")


@pytest.fixture(scope="module")
def namesakes(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Catalogue:
    """A scan whose carried columns are called like attributes, in capitals, and like what DuckDB adds."""
    folder = tmp_path_factory.mktemp("namesakes")
    (folder / "corpus").mkdir()
    for at, name in enumerate(("b.parquet", "a.parquet")):  # the order of files is not that of their numbers
        rows = table(at * 20, 20).append_column("file", pa.array([f"g{n % 2}" for n in range(20)]))
        for column in ("filename", "path", "Path_", "file_index", "Score", "STATUS", "score_1", "Row"):
            rows = rows.append_column(column, pa.array([f"{column} {n % 3}" for n in range(20)]))
        pq.write_table(rows, folder / "corpus" / name)
    carried = "[Score, file, filename, path, Path_, file_index, STATUS, score_1, Row, source]"
    sets = options(tiny_bundle, f"output.columns={carried}", "thresholds.flag=0.4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
        assert main(["scan", str(folder / "corpus"), str(folder / "out"), *sets]) == 0
    return Catalogue(str(folder / "out"))


def test_a_carried_column_called_filename_or_like_an_attribute_showed_other_values(namesakes: Catalogue) -> None:
    assert len({shard.file for shard in namesakes.shards}) == 2 < len(namesakes.shards)
    inside = {
        shard.path: pq.read_table(Path(namesakes.output) / shard.path, partitioning=None) for shard in namesakes.shards
    }
    expected = [(s.file, row) for s in namesakes.shards for row in inside[s.path].to_pylist()]
    for order in namesakes.orders():
        found = namesakes.page(Query(order=order, descending=False), offset=0, limit=100)
        place = [(row.shard.file, row.row) for row in found]
        if order == CORPUS:
            assert place == [(file, row["row"]) for file, row in expected]
        else:  # those with equal values in the order of the corpus
            known = sorted((one for one in expected if one[1][order] is not None), key=lambda one: one[1][order])
            assert place[: len(known)] == [(file, row["row"]) for file, row in known], order
        shown = {(row.shard.file, row.row): (row.status, row.score) for row in found}
        assert shown == {(file, row["row"]): (row["status"], row["score"]) for file, row in expected}
    for name in namesakes.carried:
        told = [str(row[name]) for _, row in expected]
        assert sorted(namesakes.values(name)) == sorted(set(told))
        assert namesakes.count(Query(column=name, value=told[0])) == told.count(told[0]), name
    assert namesakes.values(FILE) == ["a.parquet", "b.parquet"]
    assert [label for label, _ in namesakes.filters()][:2] == ["input file", "id"]
    keys = frozenset((file, row["row"]) for file, row in expected[::3])
    assert namesakes.count(Query(among=keys)) == len(keys)
    assert namesakes.count(Query(low=0.2)) == sum((row["score"] or 0) >= 0.2 for _, row in expected)
    assert namesakes.count(Query(status="empty")) == [row["status"] for _, row in expected].count("empty")


def test_what_is_no_finished_scan_is_refused(tmp_path: Path, scanned: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="not an rtdscan output"):
        Catalogue(str(tmp_path))
    with pytest.raises(UserError, match="local"):
        Catalogue("s3://bucket/out")
    shutil.copytree(scanned[1], tmp_path / "out")
    (tmp_path / "out" / "run.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        Catalogue(str(tmp_path / "out"))


# ---------------------------------------------------------------------------------------------------------------------
# Text


def test_text_is_found_in_any_case_and_a_bit_at_a_time(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, scanned: tuple[Path, Path]
) -> None:
    monkeypatch.setattr(search_module, "AT_ONCE", 1)
    source = Input(catalogue.finished)
    texts = {
        (shard.file, shard.first_row + at): text
        for shard in catalogue.shards
        for at, text in enumerate(source.texts(shard).to_pylist())
    }
    expected = {key for key, text in texts.items() if text and b"nobody had" in text.lower()}
    assert 5 < len(expected) < 60
    found, steps = Found(), 0
    while not found.ended:
        found = search(catalogue, source, Query(order=CORPUS), "NOBODY had", seconds=0, after=found)
        steps += 1
        assert found.shards == steps
    assert {row.key for row in found.rows} == expected
    assert found.documents == len(texts)
    assert all("Nobody had" in row.snippet for row in found.rows)
    whole = search(catalogue, source, Query(low=0.1, order="score"), "NOBODY had", seconds=60)
    scores = [row.score for row in whole.rows]
    assert scores == sorted(scores, reverse=True)
    assert {row.key for row in whole.rows} <= expected
    assert min(scores) >= 0.1
    assert not search(catalogue, source, Query(), "no text holds this", seconds=60).rows
    assert [row.snippet for row in search(catalogue, source, Query(), "学习", seconds=60).rows]
    monkeypatch.setattr(search_module, "MOST", 3)
    few = search(catalogue, source, Query(), "a", seconds=60)
    assert len(few.rows) == 3
    assert few.ended


@pytest.fixture
def copied(scanned: tuple[Path, Path], tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A scan of a corpus that the test may change: (INPUT, catalogue, verdicts, documents)."""
    monkeypatch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
    shutil.copytree(scanned[0], tmp_path / "corpus")
    output = str(tmp_path / "out")
    assert main(["scan", str(tmp_path / "corpus"), output, *options(tiny_bundle, "thresholds.flag=0.4")]) == 0
    catalogue, verdicts = Catalogue(output), Verdicts(output)
    return tmp_path / "corpus", catalogue, verdicts, Documents(catalogue, verdicts)


def test_a_document_has_its_text_marks_and_verdicts(copied: Any) -> None:
    corpus, catalogue, _, documents = copied
    row = catalogue.page(Query(order="n_flagged"), offset=0, limit=1)[0]
    shown = documents.show(*row.key)
    original = pq.read_table(corpus / row.shard.file)["text"][row.row].as_py()
    assert shown.text == original
    assert len(shown.marks) >= 1
    assert all(mark.flagged and original[mark.start : mark.end].strip() for mark in shown.marks)
    more = documents.show(*row.key, candidates=True)
    assert len(more.marks) > len(shown.marks)
    spans = [(mark.start, mark.end) for mark in more.marks]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    mark = shown.marks[0]
    stored = documents.judge(*row.key, mark.start, mark.end, verdict="right", reviewer="ana")
    assert stored.text == original
    assert stored.flagged
    assert documents.show(*row.key).said[mark.start, mark.end]["ana"].verdict == "right"
    other = Documents(catalogue, Verdicts(catalogue.output)).show(*row.key)
    assert other.said[mark.start, mark.end]["ana"].verdict == "right"
    for wrong in ((mark.start, mark.end + 1, "right"), (mark.start, mark.end, "maybe")):
        with pytest.raises(UserError, match="nothing to judge"):
            documents.judge(*row.key, *wrong[:2], verdict=wrong[2], reviewer="ana")
    with pytest.raises(UserError, match="no row"):
        documents.show("elsewhere.parquet", 0)
    assert len(list((Path(catalogue.output) / "verdicts").iterdir())) == 1


def test_a_long_document_is_stored_in_part(copied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, catalogue, _, documents = copied
    monkeypatch.setattr(documents_module, "STORED_WHOLE", 20)
    monkeypatch.setattr(documents_module, "AROUND", 15)
    row = catalogue.page(Query(order="n_flagged"), offset=0, limit=1)[0]
    shown = documents.show(*row.key)
    for mark in shown.marks:
        stored = documents.judge(*row.key, mark.start, mark.end, verdict="wrong", reviewer="ana")
        inside = stored.text[mark.start - stored.text_start : mark.end - stored.text_start]
        assert inside == shown.text[mark.start : mark.end]
        assert len(stored.text) <= mark.end - mark.start + 30


def test_a_part_begins_with_a_word_and_where_there_are_no_spaces_far_before_the_mark() -> None:
    """A text without spaces was stored from the mark on, so that it was scored as the beginning of a text."""
    assert documents_module._stored("中" * 200_000, 150_000, 150_001)[0] == 150_000 - documents_module.AROUND
    first, part = documents_module._stored("word " * 40_000, 150_000, 150_004)
    assert part.startswith("word ")
    assert 0 <= first - (150_000 - documents_module.AROUND) <= 5


def test_a_scan_that_could_not_be_opened_again_is_tried_again(copied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page stayed with the scan before, without a word, until the next one."""
    _, catalogue, *_ = copied
    run = Path(catalogue.output) / "run.json"
    before, text = catalogue.finished, run.read_text()
    run.write_text(text + " ")
    manifest = Path(catalogue.output) / "manifest.parquet"
    data = manifest.read_bytes()
    manifest.write_bytes(b"being written")
    for _ in range(2):
        with pytest.raises(Exception, match="manifest"):
            catalogue.renew()
    assert catalogue.finished is before
    manifest.write_bytes(data)
    catalogue.renew()
    assert catalogue.finished is not before


def test_an_input_that_has_gone_or_changed_is_done_without(copied: Any) -> None:
    corpus, catalogue, _, documents = copied
    row = catalogue.page(Query(low=0.01, column=FILE, value="a.parquet"), offset=0, limit=1)[0]
    attributes = documents.show(*row.key)
    changed = pq.read_table(corpus / "a.parquet")
    texts = [None if text is None else text.upper() for text in changed["text"].to_pylist()]
    pq.write_table(changed.set_column(2, "text", pa.array(texts)), corpus / "a.parquet", row_group_size=25)
    fresh = Documents(catalogue, Verdicts(catalogue.output))
    shown = fresh.show(*row.key)
    assert shown.text is None
    assert "changed" in shown.why
    assert shown.marks == attributes.marks
    shutil.rmtree(corpus)
    shown = fresh.show(*row.key)
    assert shown.text is None
    assert "a.parquet" in shown.why
    with pytest.raises(UserError, match="can't be read as it was scanned"):
        fresh.judge(*row.key, shown.marks[0].start, shown.marks[0].end, verdict="right", reviewer="ana")
    found = search(catalogue, Input(catalogue.finished), Query(), "house", seconds=60)
    assert not found.rows
    assert found.ended
    assert len(found.unread) == 4


# ---------------------------------------------------------------------------------------------------------------------
# Views


def test_a_view_is_turned_and_stepped_through(copied: Any) -> None:
    _, catalogue, verdicts, _ = copied
    looking = Looking(catalogue, verdicts, rows=10, seconds=5)
    view = looking.begin(Wanted(order=CORPUS))
    assert (view.total, len(view.rows), view.more) == (91, 10, False)
    assert looking.where(view) == "1–10 of 91 documents"
    keys, chosen = [], None
    while True:
        view, further = looking.step(view, chosen, 1)
        if further == chosen:
            break
        keys.append(chosen := further)
    assert len(keys) == len(set(keys)) == 91
    assert view.offset == 90
    for key in reversed(keys[:-1]):
        view, chosen = looking.step(view, chosen, -1)
        assert chosen == key
    assert looking.step(view, chosen, -1)[1] == keys[0]
    assert looking.turn(view, -5).offset == 0
    assert looking.turn(view, 500).offset == 90
    searched = looking.begin(Wanted(words=" nobody HAD ", order=CORPUS))
    assert "found; 91 texts looked through" in looking.where(searched)
    assert looking.begin(Wanted(words="no text holds this")).rows == ()


def test_documents_are_found_by_what_people_said(copied: Any) -> None:
    _, catalogue, verdicts, documents = copied
    looking = Looking(catalogue, verdicts, rows=100, seconds=5)
    rows = catalogue.page(Query(order="n_flagged"), offset=0, limit=2)
    for row, people in zip(rows, (("ana",), ("ana", "bo")), strict=True):
        mark = documents.show(*row.key).marks[0]
        for who in people:
            word = "right" if who == "ana" else "wrong"
            documents.judge(*row.key, mark.start, mark.end, verdict=word, reviewer=who)

    def keys(which: str) -> set[tuple[str, int]]:
        return {row.key for row in looking.begin(Wanted(verdicts=which)).rows}

    assert keys("some") == {row.key for row in rows}
    assert keys("disputed") == {rows[1].key}
    assert len(keys("none yet")) == 89
    assert len(keys("any")) == 91


def test_a_scan_that_has_finished_since_is_shown(copied: Any, tiny_bundle: Path) -> None:
    corpus, catalogue, verdicts, documents = copied
    looking = Looking(catalogue, verdicts, rows=10, seconds=5)
    assert looking.begin(Wanted()).total == 91
    row = catalogue.page(Query(order="n_flagged", column=FILE, value="news item/b.parquet"), offset=0, limit=1)[0]
    mark = documents.show(*row.key).marks[0]
    documents.judge(*row.key, mark.start, mark.end, verdict="right", reviewer="ana")
    (corpus / "a.parquet").unlink()
    assert main(["scan", str(corpus), catalogue.output, *options(tiny_bundle, "thresholds.flag=0.4")]) == 0
    view = looking.begin(Wanted())
    assert view.total == 51
    assert documents.show(*row.key).said[mark.start, mark.end]["ana"].verdict == "right"
    with pytest.raises(UserError, match="no row"):
        Documents(catalogue, verdicts).show("a.parquet", 0)
    assert looking.page(replace(view, query=Query(order=CORPUS)), offset=0).rows
    assert View().rows == ()
