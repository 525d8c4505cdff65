"""The report: says what the scan found, quotes what may be quoted, is bounded, and is written when there is news."""

import json
import os
import re
import shutil
import unicodedata
from collections import Counter
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import attributes, options, table, write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.finished import texts
from rtdscan.pipeline.finished.excerpts import make_excerpts
from rtdscan.pipeline.finished.folder import Shard, read_finished
from rtdscan.pipeline.finished.texts import LongText
from rtdscan.pipeline.finished.visible import SIGNS, pieces
from rtdscan.pipeline.report import rows, words
from rtdscan.pipeline.report.page import _duration, visible
from rtdscan.pipeline.report.writing import check_by
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.tally import NULL

pytestmark = pytest.mark.usefixtures("in_process")

DANGEROUS = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> tuple[Path, Path]:
    """INPUT and OUTPUT of a scan with its report. Read them, don't change them."""
    with pytest.MonkeyPatch.context() as patch:
        from corpora import run_here

        patch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
        corpus = write_corpus(tmp_path_factory.mktemp("report") / "corpus")
        output = corpus.parent / "out"
        assert scan(corpus, output, tiny_bundle) == 0
    return corpus, output


def scan(corpus: Path, output: Path, bundle: Path, *more: str) -> int:
    return main(["scan", str(corpus), str(output), *options(bundle, "report.enabled=true", *more)])


def report(output: Path, to: Path, *sets: str) -> str:
    """The report of an OUTPUT, written to a file of its own."""
    given_ = [part for option in sets for part in ("--set", option)]
    assert main(["report", str(output), "--to", str(to), *given_]) == 0
    return to.read_text(encoding="utf-8")


class Seen(HTMLParser):
    """Elements with their attributes, and the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._styles = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._styles += tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._styles -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._styles:
            self.text.append(data)


# ---------------------------------------------------------------------------------------------------------------------
# Text that shows what it holds


@given(st.text(st.characters(), max_size=200))
@settings(max_examples=300, deadline=None)
def test_nothing_invisible_stays(text: str) -> None:
    found = pieces(text)
    shown = "".join(piece.text for piece in found)
    left = [c for c in shown if unicodedata.category(c) in DANGEROUS and c not in "\t\u200c\u200d"]
    assert left == []
    assert sum(bool(piece.title) for piece in found) <= SIGNS


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=100))
def test_what_can_be_seen_is_not_changed(text: str) -> None:
    kept = "".join(c for c in text if c not in "\u115f\u1160\u3164\uffa0")
    assert "".join(piece.text for piece in pieces(kept)) == kept


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb\u202c", "aRLObPDF"),
        ("a\u200b\u200b\u200bb", "aZWSP×3b"),
        ("\x1b[31m", "ESC[31m"),
        ("a\r\nb\n\nc\u2028d", "a↵b↵cLSd"),
        ("e\u0301" + "o" + "\u0301" * 30, "e\u0301o+30 marks"),
        ("نمی\u200cخواهم", "نمی\u200cخواهم"),  # belongs to the spelling
        ("ad\u200cmin", "adZWNJmin"),
        ("👩\u200d🔬", "👩\u200d🔬"),
    ],
)
def test_signs(text: str, shown: str) -> None:
    assert "".join(piece.text for piece in pieces(text)) == shown


def test_markup_is_escaped() -> None:
    assert visible("<b>&amp;\u202e'\"") == (
        '&lt;b&gt;&amp;amp;<i class="sign" title="U+202E RIGHT-TO-LEFT OVERRIDE">RLO</i>&#39;&#34;'
    )
    assert len(visible("\u200b\u200c" * 100_000)) < 10_000


# ---------------------------------------------------------------------------------------------------------------------
# Excerpts


@given(st.text(max_size=300), st.lists(st.tuples(st.integers(0, 320), st.integers(0, 320))), st.integers(1, 9))
def test_a_long_text_is_sliced_by_characters(text: str, spans: list[tuple[int, int]], size: int) -> None:
    data = memoryview(text.encode("utf-8", "replace"))
    sliced = LongText(data, slice_bytes=size)
    for start, end in spans:
        assert sliced(start, end) == str(data, "utf-8")[start:end]


def test_the_spans_of_a_long_text_are_read_in_one_pass() -> None:
    """A document of 200 MB may have half a million."""
    data = memoryview(("Ünruh " * 1000).encode())
    sliced, decoded = LongText(data, slice_bytes=700), []
    sliced._data = type("Counted", (), {"__getitem__": lambda self, part: decoded.append(part) or data[part]})()
    assert {sliced(at, at + 5) for at in range(0, 6000, 6)} == {"Ünruh"}
    assert len(decoded) <= 2 * len(data) / 700 + 1  # a word may lie in two slices


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 12), st.floats(0, 1)), min_size=1, max_size=30),
    st.integers(1, 6),
)
def test_excerpts_mark_the_words_they_should(spaces: list[tuple[int, int, float]], n: int) -> None:
    text, spans = "", []
    for number, (before, length, score) in enumerate(spaces):
        text += ("lorem ipsum " * 20)[:before]
        spans.append({"start": len(text), "end": len(text) + length, "score": score, "suggestions": None})
        text += chr(0x4E00 + number) * length
    found = make_excerpts(lambda start, end: text[start:end], spans, n_chars=len(text), n=n)
    marked = [s.text for excerpt in found for s in excerpt.stretches if s.score is not None]
    quoted = {text[span["start"] : span["end"]]: span["score"] for span in spans}
    assert set(marked) <= set(quoted)
    assert len(marked) == len(set(marked)) <= 12 * len(found)
    if len(spans) <= 12:  # more marks in one excerpt are left out
        best = sorted(quoted.values(), reverse=True)[:n]
        assert Counter(best) - Counter(quoted[word] for word in marked) == Counter()
    for excerpt in found:
        assert "".join(s.text for s in excerpt.stretches) in text


def test_an_excerpt_of_a_huge_word_is_short() -> None:
    text = "a " + "x" * 10_000 + " b"
    spans = [{"start": 2, "end": 10_002, "score": 0.9, "suggestions": ["y" * 5000] * 50, "probabilities": [0.02] * 50}]
    (excerpt,) = make_excerpts(lambda start, end: text[start:end], spans, n_chars=len(text), n=5)
    assert [s.text[:1] for s in excerpt.stretches] == ["a", "x", " "]
    assert "[… 9," in excerpt.stretches[1].text
    assert sum(len(s.text) + sum(map(len, s.suggestions)) for s in excerpt.stretches) < 500
    assert len(excerpt.stretches[1].sure) == len(excerpt.stretches[1].suggestions)


def test_a_space_that_is_suggested_is_seen() -> None:
    spans = [{"start": 4, "end": 10, "score": 0.99, "suggestions": [" "], "probabilities": [0.99]}]
    text = "time&nbsp;to eat"
    (excerpt,) = make_excerpts(lambda start, end: text[start:end], spans, n_chars=len(text), n=1)
    assert excerpt.stretches[1].suggestions == ("␣",)


# ---------------------------------------------------------------------------------------------------------------------
# What it says


def test_the_page_stands_alone(scanned: tuple[Path, Path]) -> None:
    page = (scanned[1] / "report.html").read_text(encoding="utf-8")
    seen = Seen(page)
    tags = Counter(tag for tag, _ in seen.elements)
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(tags)
    assert tags["svg"] == 2
    for _, attributes_ in seen.elements:
        assert not [name for name in attributes_ if name.startswith("on") or name in ("src", "srcset", "action")]
        assert (attributes_.get("href") or "#").startswith("#")
    for reference in re.findall(r"url\(([^)]*)\)|@import[^;]*", page):
        assert reference.startswith("#")
    ids = [attributes_["id"] for _, attributes_ in seen.elements if "id" in attributes_]
    assert len(ids) == len(set(ids))
    assert {attributes_["href"] for tag, attributes_ in seen.elements if tag == "a"} <= {f"#{id_}" for id_ in ids}
    (policy,) = [a["content"] for tag, a in seen.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert "#0" not in "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL)), "a colour that no style sheet changes"


def test_numbers_are_those_of_the_scan(scanned: tuple[Path, Path]) -> None:
    output = scanned[1]
    run = json.loads((output / "run.json").read_text())
    page = (output / "report.html").read_text(encoding="utf-8")
    told = re.sub(r"[ \n]+", " ", "".join(Seen(page).text))
    metrics = run["summary"]["metrics"]
    assert f"{metrics['words']:,} words in {metrics['documents']} documents" in told
    assert f"{metrics['flagged']} of them, {100 * metrics['flagged_share']:.1f}\u202f%" in told
    for status, count in run["summary"]["statuses"].items():
        assert f"{count} {status}" in told
    assert run["model"]["digest"] in told
    assert run["scoring"] in told
    worst = run["tally"]["worst"][0]
    assert f"{worst['score']:.3f}" in told
    assert f"{worst['file']} row {worst['row']}" in told


def test_flagged_words_are_counted(scanned: tuple[Path, Path]) -> None:
    corpus, output = scanned
    finished = read_finished(str(output))
    found = words.flagged_words(finished, texts.Input(finished))
    expected: Counter[str] = Counter()
    documents = 0
    for path in sorted(corpus.rglob("*.parquet")):
        given_ = pq.read_table(path)["text"].to_pylist()
        shards = sorted((output / "attributes" / path.relative_to(corpus)).glob("*.parquet"))
        for row in pa.concat_tables(map(pq.read_table, shards)).to_pylist():
            spans = row["spans"] or []
            documents += bool(spans)
            expected.update(given_[row["row"]][s["start"] : s["end"]].casefold() for s in spans)
    assert found.whole
    assert (found.spans, found.documents) == (sum(expected.values()), documents)
    assert {word.word.casefold(): word.times for word in found.words}.items() <= expected.items()
    assert found.words[0].times == max(expected.values()) > 1
    for word in found.words:
        assert all(context.words.casefold() == word.word.casefold() for context in word.contexts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "LONG_BYTES", 0)
        assert words.flagged_words(finished, texts.Input(finished)) == found
        patch.setattr(words, "SPANS_READ", found.spans - 1)
        fewer = words.flagged_words(finished, texts.Input(finished))
        assert (fewer.spans, fewer.whole) == (found.spans - 1, False)


@pytest.mark.parametrize("carried", [True, False])
def test_groups_by_a_column(scanned: tuple[Path, Path], tmp_path: Path, tiny_bundle: Path, carried: bool) -> None:
    """The same whether the column was carried along or is read from INPUT by position."""
    corpus, output = scanned
    if carried:
        output = tmp_path / "out"
        assert scan(corpus, output, tiny_bundle, "output.columns=[source]", "report.enabled=false") == 0
        assert not (output / "report.html").exists()
    finished = read_finished(str(output))
    found = rows.read_rows(finished, texts.Input(finished), by=["source"]).groups["source"]
    every = attributes(output).to_pylist()
    source = {f"s{n}": [row for row in every if row["id"] % 3 == n] for n in range(3)}
    assert sorted(found) == sorted(source)
    for value, expected in source.items():
        scored = [row for row in expected if row["score"] is not None]
        assert found[value].rows == len(expected)
        assert found[value].documents == len(scored)
        assert found[value].words == sum(row["n_words"] for row in expected)
        assert found[value].flagged == sum(row["n_flagged"] or 0 for row in expected)
        assert found[value].score == pytest.approx(sum(row["score"] for row in scored))
        assert found[value].drop == sum(row["decision"] == "drop" for row in expected)
    page = report(output, tmp_path / "page.html", "report.by=[source]")
    assert "Share flagged, by <bdi>source</bdi>" in page


def test_a_sample_is_the_same_each_time(
    scanned: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = scanned[1]
    finished = read_finished(str(output))
    whole = rows.read_rows(finished, texts.Input(finished), by=[])
    monkeypatch.setattr(rows, "SHARDS", 3)
    monkeypatch.setattr(rows, "SAMPLE", 5)
    monkeypatch.setattr(words, "TOKENS_READ", 1)
    first, second = (rows.read_rows(finished, texts.Input(finished), by=[]) for _ in range(2))
    assert first.shards == 3 < first.of == whole.shards
    assert first.score_S.tolist() == second.score_S.tolist()
    assert len(first.score_S) == 5 < len(whole.score_S)
    assert set(first.lot_S) <= set(whole.lot_S)
    page = report(output, tmp_path / "page.html")
    assert re.search(rf"3 of\s+{whole.of} shards, chosen by a hash", page)
    assert "a sample of work units chosen by a hash" in page


def test_gates_and_drift_are_shown(tmp_path: Path, tiny_bundle: Path) -> None:
    corpus, output = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    gates = "gates={flagged_share: {max: 0.001}, rows: {min: 10}, by_source: {metric: drop_share, max: 1, by: source}}"
    assert scan(corpus, output, tiny_bundle, gates) == 3
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Gates: no" in page
    assert "&lt;= 0.001" in page
    assert "Share flagged, by <bdi>source</bdi>" in page  # counted for the gate, so shown
    assert 'id="drift"' not in page
    assert main(["accept", str(output), "--force"]) == 0
    page = report(output, tmp_path / "page.html")
    assert 'id="drift"' in page
    assert "no change to speak of" in page
    assert len(re.findall("<svg", page)) == 4


# ---------------------------------------------------------------------------------------------------------------------
# What it leaves out


def test_no_word_of_the_corpus_without_text(tmp_path: Path, tiny_bundle: Path) -> None:
    markers = [f"marker{chr(97 + n)}{chr(107 + n % 9)}" for n in range(24)]
    given_ = [f"The old house {marker} stood {marker} at the end, {marker}." for marker in markers]
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"key": range(24), "text": given_}), tmp_path / "corpus" / "a.parquet")
    output = tmp_path / "out"
    assert scan(tmp_path / "corpus", output, tiny_bundle, f"allow=[{markers[0]}]", "log.text=true") == 0
    page = (output / "report.html").read_text(encoding="utf-8")
    assert sum(marker in page for marker in markers) > 10
    page = report(output, tmp_path / "page.html", "report.text=false")
    assert [marker for marker in markers if marker in page] == []
    assert "house" not in page
    assert "a.parquet" in page
    assert "report.text: false" in page


def test_a_config_file_that_says_nothing_of_the_report_does_not_make_it_quote(
    scanned: tuple[Path, Path], tmp_path: Path
) -> None:
    """`report OUTPUT --config x.yaml` quoted a corpus that was scanned with `report.text: false`."""
    output, config = tmp_path / "out", tmp_path / "c.yaml"
    shutil.copytree(scanned[1], output)
    run = json.loads((output / "run.json").read_text())
    run["config"]["report"] |= {"text": False}
    (output / "run.json").write_text(json.dumps(run))
    command = ["report", str(output), "--config", str(config)]
    for said, quoted in {"threads: 2": False, "report: {by: [source]}": False, "report: {text: true}": True}.items():
        config.write_text(f"{said}\n", encoding="utf-8")
        assert main(command) == 0
        page = (output / "report.html").read_text(encoding="utf-8")
        assert ('class="quote' in page, ", by <bdi>source" in page) == (quoted, "source" in said)


@pytest.mark.parametrize("how", ["gone", "changed", "shorter", "touched"])
def test_input_that_is_not_what_it_was(tmp_path: Path, tiny_bundle: Path, how: str) -> None:
    corpus, output = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    assert scan(corpus, output, tiny_bundle) == 0
    for path in corpus.rglob("*.parquet"):
        if how == "touched":
            os.utime(path, ns=(1, 1))
            continue
        found = pq.read_table(path)
        path.unlink()
        if how == "changed":
            texts_ = [f"Secret {text}" for text in found["text"].to_pylist()]
            pq.write_table(found.set_column(2, "text", pa.array(texts_)), path, row_group_size=25)
        if how == "shorter":
            pq.write_table(found[:2], path)
    page = report(output, tmp_path / "page.html")
    quotes = page.count('class="quote excerpt"')
    if how == "touched":  # the same texts
        assert quotes > 5
        assert "could not be read" not in page
        return
    assert quotes == 0
    assert "Secret" not in page
    assert "3 files could not be read as they were scanned" in page
    assert 'id="words"' not in page
    assert main(["report", str(output), "--set", "report.by=[source]"]) == 0
    assert "Columns that could not be read: <bdi>source</bdi>" in (output / "report.html").read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# When it is written


def test_written_when_there_is_news(tmp_path: Path, tiny_bundle: Path) -> None:
    corpus, output = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    page = output / "report.html"

    def version() -> tuple[int, int]:
        return page.stat().st_ino, page.stat().st_mtime_ns

    assert scan(corpus, output, tiny_bundle) == 0
    first = version()
    assert scan(corpus, output, tiny_bundle) == 0
    assert version() == first
    assert scan(corpus, output, tiny_bundle, "thresholds.flag=0.6") == 0
    second = version()
    assert second != first
    page.unlink()
    assert scan(corpus, output, tiny_bundle, "thresholds.flag=0.6") == 0
    third = version()
    page.write_text("<!DOCTYPE html>")
    assert scan(corpus, output, tiny_bundle, "thresholds.flag=0.6") == 0
    assert version() != third
    pq.write_table(table(82, 5), corpus / "new.parquet")
    fourth = version()
    assert scan(corpus, output, tiny_bundle, "thresholds.flag=0.6") == 0
    assert version() != fourth
    assert "new.parquet" in page.read_text(encoding="utf-8")


def test_a_library_that_is_missing_fails_no_scan(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    corpus, output = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    from rtdscan.pipeline.report import plots

    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else True)
    assert scan(corpus, output, tiny_bundle) == 0
    assert capsys.readouterr().err == "rtdscan: no report was written: it needs matplotlib: pip install matplotlib\n"
    assert (output / "run.json").exists()
    assert not (output / "report.html").exists()
    assert main(["report", str(output)]) == 2
    assert "pip install matplotlib" in capsys.readouterr().err


def test_a_column_that_is_nowhere_was_passed_over(
    tmp_path: Path, scanned: tuple[Path, Path], capsys: pytest.CaptureFixture
) -> None:
    output = scanned[1]
    page = tmp_path / "page.html"
    command = ["report", str(output), "--to", str(page), "--set"]
    assert main([*command, "report.by=[nope]"]) == 2
    err = capsys.readouterr().err
    assert "report.by: " in err
    assert "has no column 'nope'; its columns" in err
    assert not page.exists()
    assert main([*command, "report.by=[decision, source]"]) == 0  # of the attributes; of INPUT
    shutil.copytree(output, tmp_path / "out")
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    run["root"] = str(tmp_path / "gone")
    (tmp_path / "out" / "run.json").write_text(json.dumps(run))
    command[1] = str(tmp_path / "out")
    assert main([*command, "report.by=[nope]"]) == 0  # who can tell? The page says so
    assert "nope" in page.read_text(encoding="utf-8")


def test_columns_of_some_types_ended_a_finished_scan(tmp_path: Path, tiny_bundle: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    columns = {
        "half": (pa.float16(), [0.5, 0.5, None], {"0.5": 2, NULL: 1}),
        "id16": (pa.uuid(), [bytes(15) + b"\x07", None, None], {f"{UUID(int=7)}": 1, NULL: 2}),
        "doc": (pa.json_(), ['{"a": 1}', None, '{"a": 1}'], {'{"a": 1}': 2, NULL: 1}),
        "view": (pa.string_view(), ["", None, "a view that is longer than twelve bytes"],
                 {"": 1, NULL: 1, "a view that is longer than twelve bytes": 1}),
        "price": (pa.decimal32(5, 2), [Decimal("1.20"), None, None], {"1.20": 1, NULL: 2}),
        "when": (pa.timestamp("ns"), [1001, None, None], {"1970-01-01 00:00:00.000001": 1, NULL: 2}),
        "took": (pa.duration("ns"), [1000, None, None], {"0:00:00.000001": 1, NULL: 2}),
        "at": (pa.time64("ns"), [1001, None, None], {"00:00:00.000001": 1, NULL: 2}),
    }  # fmt: skip
    given_ = pa.table({"key": [1, 2, 3], "text": ["A text.", "Another text.", None]})
    for name, (type_, values, _) in columns.items():
        given_ = given_.append_column(name, pa.array(values, type_))
    pq.write_table(given_, corpus / "a.parquet")
    by = f"report.by=[{', '.join(columns)}]"
    assert scan(corpus, tmp_path / "out", tiny_bundle, by, "output.columns=[half, id16]") == 0
    finished = read_finished(str(tmp_path / "out"))
    found = rows.read_rows(finished, texts.Input(finished), by=list(columns)).groups
    assert {name: {value: group.rows for value, group in found[name].items()} for name in found} == {
        name: expected for name, (_, _, expected) in columns.items()
    }


def test_a_column_of_tensors_is_told_before_the_scan() -> None:
    tensors = pa.schema({"text": pa.string(), "x": pa.fixed_shape_tensor(pa.float32(), [2])})
    with pytest.raises(UserError, match="single values"):
        check_by(["x"], tensors, text="text")
    with pytest.raises(UserError, match=r"report\.by: c/source=web/a\.parquet has no column 'source' \(it is part of"):
        check_by(["source"], tensors, text="text", where="c/source=web/a.parquet")


@pytest.mark.parametrize(
    ("by", "said"), [("nothing", "no column 'nothing'"), ("text", "is the text column"), ("tags", "single values")]
)
def test_a_wrong_column_is_told_before_the_scan(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture, by: str, said: str
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    given_ = pa.table({"key": [1], "text": ["A text."], "tags": [["a", "b"]]})
    pq.write_table(given_, corpus / "a.parquet")
    assert scan(corpus, tmp_path / "out", tiny_bundle, "input.text=text", f"report.by=[{by}]") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_no_finished_scan(tmp_path: Path, scanned: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "not an rtdscan output" in capsys.readouterr().err
    assert main(["report", str(scanned[1]), "--to", str(tmp_path / "no" / "page.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["report", str(scanned[1]), "--json", "--to", str(tmp_path / "page.html")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["report"] == str(tmp_path / "page.html")
    assert told["bytes"] == (tmp_path / "page.html").stat().st_size
    assert told["contexts"]


def test_an_empty_scan_has_a_report(tmp_path: Path, tiny_bundle: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    pq.write_table(pa.table({"key": [1, 2], "text": pa.array([None, ""], pa.string())}), corpus / "a.parquet")
    assert scan(corpus, tmp_path / "out", tiny_bundle) == 0
    assert "0 words in 0 documents" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_no_hour_has_sixty_minutes() -> None:
    told = {7190: "2 h 0 min", 7160: "1 h 59 min", 5400: "1 h 30 min", 3_600_000: "1,000 h 0 min", 89: "89 s"}
    assert {seconds: _duration(seconds).replace("\u202f", " ") for seconds in told} == told


def test_shards_are_chosen_by_their_names() -> None:
    shards = [Shard(f"attributes/{n}", f"{n}", 0, 0, 1, 1, 1) for n in range(100)]
    ten = rows.by_lot(shards, n=10)
    assert len(ten) == 10
    assert set(ten) < set(rows.by_lot(shards, n=30)) < set(shards)
    assert rows.by_lot(list(reversed(shards)), n=10) == list(reversed(ten))
    assert rows.by_lot(shards, n=100) == shards
