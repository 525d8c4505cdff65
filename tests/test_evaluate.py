"""rtdscan evaluate: the words of the scan, both detectors on the same words, what is refused."""

import json
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import ENGLISH, make_tiny_bundle

from rtdscan.pipeline.__main__ import PROGRAMS, main
from rtdscan.pipeline.detection import baselines
from rtdscan.pipeline.detection.evidence import Evidence, gather
from rtdscan.pipeline.detection.labels import Labelled, Spans
from rtdscan.pipeline.detection.measuring import EASIER
from rtdscan.pipeline.detection.tables import NO_WORDS, make_report
from rtdscan.pipeline.detection.truth import ALL, label_words
from rtdscan.pipeline.language import doubt_of
from rtdscan.transforms.corruption.wordlist import frequency
from rtdscan.transforms.lexicon import LEXICON_FILE
from rtdscan.transforms.lexicon_file import write_lexicon
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import OutputSettings, ScoreSettings, Thresholds
from rtdscan.transforms.tally import tally_attributes

CARD = {
    "readout": {"coefficients": {"largest": 0.7, "mean": 0.2, "pieces": -0.3}, "intercept": 0.2},
    "calibration": {"slope": 1.3, "intercept": -0.4},
}


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROGRAMS, "evaluate", ("rtdscan.pipeline.evaluate", "how well a model finds known errors"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_bundle(tmp_path_factory.mktemp("evaluate") / "model", card=CARD))


def sentences(count: int, *, seed: int = 0) -> list[str]:
    words = ENGLISH.split()
    rng = np.random.default_rng(seed)
    return [" ".join(words[at] for at in rng.integers(len(words), size=12)) + "." for _ in range(count)]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty texts; in every second one the second word is misspelled, in every eighth the third is not counted."""
    texts, spans, ignored = [], [], []
    for at, text in enumerate(sentences(40)):
        words = text.split(" ")
        if at % 2:
            words[1] = "qx" + words[1]
        begin = len(words[0]) + 1
        kind = "shuffled" if at % 10 == 9 else "spelling"
        spans.append([{"start": begin, "end": begin + len(words[1]), "kind": kind}] if at % 2 else [])
        third = begin + len(words[1]) + 1
        ignored.append([{"start": third, "end": third + len(words[2])}] if at % 8 == 0 else [])
        texts.append(" ".join(words))
    path = tmp_path_factory.mktemp("labelled") / "labelled.parquet"
    pq.write_table(pa.table({"text": texts, "spans": spans, "ignore_spans": ignored}), path)
    return str(path)


LEXICAL_CARD = {
    "readout": {
        "coefficients": {"largest": 0.7, "slip": 0.4, "rarity_small": 0.3, "title": -0.5, "upper": -1.0},
        "intercept": 0.2,
    },
    "calibration": {"slope": 1.3, "intercept": -0.4},
}


@pytest.fixture(scope="module")
def lexical_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = make_tiny_bundle(tmp_path_factory.mktemp("lexical") / "model", card=LEXICAL_CARD)
    write_lexicon(["the", "one", "water"], [90, 50, 3], total=100, sink=path / LEXICON_FILE)
    return str(path)


@pytest.mark.parametrize("which", ["model", "lexical_model"])
def test_words_and_probabilities_are_those_of_the_scan(which: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    texts = [*sentences(6), "The Water IS One the", "", "我们学校 caf\ufffd x\u0301", "one " * 60, "\u0301"]
    settings = ScoreSettings(engine="torch", precision="float32", output=OutputSettings(words=True))
    scorer = Scorer.load(model, settings=settings.model_copy(update={"thresholds": Thresholds(floor=0.0)}))
    words = scorer.score(pa.table({"text": texts}))["words"].to_pylist()
    evidence = gather(scorer, texts, lexicon=scorer.lexicon)
    p_W = evidence.probability(scorer.bundle.card).astype(np.float32)
    found: list[list[tuple[int, int, float]]] = [[] for _ in texts]
    rows = zip(evidence.document_W, evidence.start_W, evidence.end_W, p_W, strict=True)
    for document, start, end, p in rows:
        found[document].append((int(start), int(end), float(p)))
    expected = [[(w["start"], w["end"], w["score"]) for w in row or ()] for row in words]
    assert sum(map(len, expected)) > 120
    assert len({p for row in expected for *_, p in row}) > 50
    assert [[w[:2] for w in row] for row in found] == [[w[:2] for w in row] for row in expected]
    assert [w[2] for row in found for w in row] == pytest.approx([w[2] for row in expected for w in row], abs=1e-6)


@pytest.mark.parametrize(
    ("texts", "told", "in_parts"),
    [
        (["", *sentences(2), "one " * 60, "the", ""], [1, 6], [1, 3, 4, 6]),
        (["", " "], [1, 2], [1, 2]),
        (["one"], [1], [1]),
        ([], [], []),
    ],
)
def test_evidence_does_not_depend_on_chunks(
    model: str, monkeypatch: pytest.MonkeyPatch, texts: list[str], told: list[int], in_parts: list[int]
) -> None:
    scorer = Scorer.load(model, settings=ScoreSettings(engine="torch", precision="float32"))
    done: list[int] = []
    whole = gather(scorer, texts, lexicon=None, on_progress=done.append)
    assert done == told
    done.clear()
    monkeypatch.setattr("rtdscan.pipeline.detection.evidence.CHUNK_CHARS", 100)
    parts = gather(scorer, texts, lexicon=None, on_progress=done.append)
    assert done == in_parts
    for name in ("document_W", "start_W", "end_W", "seen_W", "damaged_W"):
        assert getattr(parts, name).tolist() == getattr(whole, name).tolist()
    assert parts.feature_WF == pytest.approx(whole.feature_WF, abs=1e-5)
    assert (parts.tokens, parts.unknown, parts.names) == (whole.tokens, whole.unknown, whole.names)


def test_the_figures(model: str, labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "curves.png"
    args = ["evaluate", labelled, "--model", model, "--set", "draws=20", "--json"]
    assert main([*args, "--set", "input.documents=30"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["documents"] == 30
    assert main([*args, *(["--plot", str(plot)] if _has("matplotlib") else [])]) == 0
    found = json.loads(capsys.readouterr().out)
    every = found["words"]["model"]["all"]
    # 13 words a text with its full stop, less 5 not counted; 20 wrong, 4 of them told of documents.
    assert (every["words"], every["wrong"]) == (40 * 13 - 5 - 4, 16)
    assert found["words"]["model"]["spelling"]["wrong"] == 16
    assert found["words"]["model"]["shuffled"]["wrong"] == 4
    assert found["words"]["model"]["without marks"]["words"] == every["words"] - 40
    assert every["intervals"]["auroc"][0] <= every["auroc"] <= every["intervals"]["auroc"][1]
    assert found["flags"]["flagged"] <= every["words"]
    assert sum(bin_["words"] for bin_ in found["reliability"]) == every["words"]
    assert found["documents"]["shuffled"]["words"] == 40, "fewer than 20 are clean all over"
    # "qx…" is in no list: only other unlisted words are as rare.
    assert found["words"]["word rarity (English)"]["all"]["auroc"] > 0.99
    if _has("hunspell"):
        assert found["words"]["Hunspell (en_US)"]["all"]["auroc"] > 0.98
    assert not found["data"]["corrupted"]
    assert EASIER not in found["notes"]
    if _has("matplotlib"):
        assert plot.read_bytes().startswith(b"\x89PNG")
    assert main(args) == 0
    assert json.loads(capsys.readouterr().out) == found, "seeded"


def test_flags_and_calibration_are_about_the_words_of_the_table() -> None:
    """Words of kinds that are told of documents counted as missed, though each of them may be right."""
    texts = ["one two three four"] * 4
    wrong = Spans.of([(0, 0, 3, "spelling"), (1, 0, 18, "shuffled")])
    labelled = Labelled(texts, wrong, Spans.of([]))
    document, at = np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4)
    start, end = np.array([0, 4, 8, 14])[at], np.array([3, 7, 13, 18])[at]
    seen = np.ones(16, bool)
    evidence = Evidence(("mark",), document, start, end, np.zeros((16, 1), np.float32), seen, ~seen)
    p = np.where(np.arange(16) == 0, 0.9, 0.0)
    given = {"p_W": p, "baselines": {}, "flag": 0.5, "draws": 0, "seed": 0}
    report = make_report(labelled, evidence, label_words(labelled, evidence), **given)
    assert (report.words["model"][ALL].wrong, report.words["model"][ALL].words) == (1, 12)
    assert (report.flags.flagged, report.flags.precision, report.flags.recall) == (1, 1.0, 1.0)
    assert report.reliability.error == pytest.approx(0.1 / 12)
    assert report.to_json()["candidates"] == pytest.approx(
        {"least": 0.05, "words": 1, "calibration_error": 0.1, "mean": 0.9, "rate": 1.0, "ratio": 0.9}
    )
    ruled = replace(evidence, damaged_W=p > 0)
    assert make_report(labelled, ruled, label_words(labelled, ruled), **given).to_json()["candidates"]["words"] == 0


def test_flags_are_those_of_the_scan() -> None:
    """Which compares float32."""
    spans = Spans.of([(0, 0, 3, "x")])
    labelled = Labelled(["one two"], spans, Spans.of([]))
    at, seen = np.array([0, 4]), np.ones(2, bool)
    evidence = Evidence(("mark",), 0 * at, at, at + 3, np.zeros((2, 1), np.float32), seen, ~seen)
    given = {"p_W": np.array([0.7 - 1e-12, 0.6]), "baselines": {}, "flag": 0.7, "draws": 0, "seed": 0}
    assert make_report(labelled, evidence, label_words(labelled, evidence), **given).flags.flagged == 1


def test_a_table_without_words_says_why(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table, and a precision of 0.000, where all errors are told of documents."""
    spans = [
        [{"start": 0, "end": len(text), "kind": "foreign"}] if at % 2 else [] for at, text in enumerate(sentences(8))
    ]
    pq.write_table(pa.table({"text": sentences(8), "spans": spans}), tmp_path / "foreign.parquet")
    args = ["evaluate", str(tmp_path / "foreign.parquet"), "--model", model, "--set", "draws=0"]
    assert main(args) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert NO_WORDS in told
    assert "foreign" in told
    assert "precision 0.000" not in told
    assert "all kinds of errors together" not in told
    assert main([*args, "--json"]) == 0
    flags = json.loads(capsys.readouterr().out)["flags"]
    assert (flags["precision"], flags["interval"], flags["recall"]) == (None, None, None)


@pytest.mark.parametrize("spans", [[(11, 12, "mark")], [(0, 11, "shuffled")], [(0, 3, "word"), (4, 11, "shuffled")]])
def test_json_has_no_nan(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], spans: list[tuple[int, int, str]]
) -> None:
    """`NaN` is no JSON: most readers refuse all of it."""
    listed = [[{"start": start, "end": end, "kind": kind} for start, end, kind in spans]] * 5
    pq.write_table(pa.table({"text": ["The one man, home"] * 5, "spans": listed}), tmp_path / "few.parquet")
    for more in ([], ["--set", "draws=0"]):
        assert main(["evaluate", str(tmp_path / "few.parquet"), "--model", model, "--json", *more]) == 0
        told = capsys.readouterr().out
        assert "null" in told
        json.loads(told, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_figures_that_nobody_can_read_are_no_success(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a full disk `evaluate` ended with a traceback."""
    pq.write_table(pa.table({"text": ["One man"], "spans": [[{"start": 0, "end": 3}]]}), tmp_path / "few.parquet")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", open("/dev/full", "w", encoding="utf-8"))  # noqa: SIM115
        assert main(["evaluate", str(tmp_path / "few.parquet"), "--model", model, "--set", "draws=0", "--json"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "rtdscan: what came of it can't be shown: No space left on device"
    )


def test_a_clean_corpus_with_made_up_errors(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"text": sentences(30)}), tmp_path / "clean.parquet")
    (tmp_path / "mixture.yaml").write_text("kinds: {letters: 1}\nclean: 0\nrate: [0.1, 0.2]\n")
    args = ["evaluate", str(tmp_path / "clean.parquet"), "--model", model, "--corrupt", str(tmp_path / "mixture.yaml")]
    assert main([*args, "--set", "draws=0"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "letters" in told
    assert "made by a program" in told
    assert "without marks" in told
    assert re.search(r"calibration error 0\.\d+, over \d+ candidates \(words of probability 0\.05 or more\) ", told)
    assert main([*args, "--set", "draws=0", "--set", "input.documents=5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data"]["documents"] == 5
    assert found["data"]["corrupted"]
    assert EASIER in found["notes"]
    assert found["words"]["model"]["all"]["intervals"] == {}


def test_without_the_spelling_checker_it_says_so(
    model: str, labelled: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(baselines, "has_hunspell", lambda: False)
    assert main(["evaluate", labelled, "--model", model, "--set", "draws=0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["words"]) == {"model", "word rarity (English)"}
    assert baselines.INSTALL in found["notes"]


def test_text_in_another_language_is_doubted(
    lexical_model: str, labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Detectors that know English only were shown beside the model for text in any language."""
    args = ["evaluate", labelled, "--model", lexical_model, "--set", "draws=0", "--json"]
    assert main(args) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["words"]) == {"model"}
    language, left_out = found["notes"]
    assert "of words are in the model's lexicon: is the text in the model's language?" in language
    assert left_out == f"{baselines.FOREIGN}: Hunspell (en_US), word rarity (English)"
    if _has("hunspell"):  # a dictionary of one's own is kept
        (tmp_path / "xx.aff").write_text("SET UTF-8\n")
        (tmp_path / "xx.dic").write_text("1\nwater\n")
        assert main([*args, "--set", f"dictionary={tmp_path}/xx"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert set(found["words"]) == {"model", "Hunspell (xx)"}
        assert found["notes"][1] == f"{baselines.FOREIGN}: word rarity (English)"


def test_the_doubt_of_evaluate_is_that_of_the_scan(lexical_model: str) -> None:
    texts = [*sentences(30), "我们 αβγ 42 x2", "", "one"]
    scorer = Scorer.load(lexical_model, settings=ScoreSettings(engine="torch", precision="float32"))
    told: list[int] = []
    rows = pa.table({"text": pa.array([text.encode() for text in texts], pa.large_binary())})
    attributes = scorer.score_rows(rows, on_listed=lambda *counts: told.extend(counts))
    tally = replace(tally_attributes(attributes, file="f"), spelled=told[0], listed=told[1])
    evidence = gather(scorer, texts, lexicon=scorer.lexicon)
    assert (evidence.tokens, evidence.unknown) == (tally.tokens, tally.unknown)
    assert tally.unknown > 0
    assert evidence.doubt == doubt_of(tally) is not None


def test_baselines_by_word(tmp_path: Path) -> None:
    words = ["the", "The", "government", "zzyzxq", "42", "!"]
    rarity = baselines.rarity(words)
    assert rarity[0] == rarity[1] < rarity[2] < rarity[3]
    assert rarity[4] == rarity[5] == 0
    assert rarity[3] == pytest.approx(np.log(frequency().total + 2))
    pytest.importorskip("hunspell")
    assert baselines.misspelled(["don’t", "recieve", "42", "我"], dictionary="en_US").tolist() == [0, 1, 0, 1]
    (tmp_path / "xx.aff").write_text("SET UTF-8\n")
    (tmp_path / "xx.dic").write_text("1\nrecieve\n")
    own = str(tmp_path / "xx")
    assert baselines.misspelled(["don’t", "recieve"], dictionary=own).tolist() == [1, 0]
    with pytest.raises(Exception, match=r"no files no\.aff"):
        baselines.misspelled(["a"], dictionary=str(tmp_path / "no"))


def test_one_long_word_costs_the_others_no_memory() -> None:
    """Each of the distinct words took the room of the longest: 500 words beside one of 100,000 letters 800 MB."""
    texts = [" ".join(["a" * 100_000, *(f"w{at}" for at in range(500)), "the"])]
    end = np.cumsum([len(word) + 1 for word in texts[0].split()]) - 1
    start, seen = np.concatenate([[0], end[:-1] + 1]), np.ones(len(end), bool)
    none = np.zeros((len(end), 0), np.float32)
    evidence = Evidence((), np.zeros(len(end), np.int64), start, end, none, seen, ~seen)
    baselines.rarity(["the"])  # the list is read once
    tracemalloc.start()
    found = baselines.baseline_scores(evidence, texts, dictionary="en_US")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert found.scores[baselines.RARITY][-1] < found.scores[baselines.RARITY][0]
    assert len(found.scores[baselines.RARITY]) == 502


def test_what_is_refused(model: str, labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"text": ["fine here"], "spans": [[{"start": 0, "end": 0}]]}), tmp_path / "none.parquet")
    pq.write_table(pa.table({"text": sentences(2)}), tmp_path / "plain.parquet")
    (tmp_path / "endless.yaml").write_text("kinds: {letters: .inf}\n")
    (tmp_path / "bad.yaml").write_text("kinds: {typos: 1}\n")
    for args, word in (
        ([str(tmp_path / "plain.parquet")], "no column 'spans'"),
        ([str(tmp_path / "none.parquet")], "0 of 2 words are labelled wrong"),
        ([labelled, "--corrupt", str(tmp_path / "bad.yaml")], "typos"),
        ([labelled, "--corrupt", labelled], "name the corpus before it"),
        ([labelled, "--plot", str(tmp_path / "curves.pdf")], "ends in .png"),
        ([labelled, "--plot", str(tmp_path / "no" / "curves.png")], "does not exist"),
        ([labelled, "--set", "draws=-1"], "draws"),
        ([labelled, "--seed", "-1"], "-1 is not a whole number, 0 or more"),
        ([labelled, "--seed", "1.5"], "1.5 is not a whole number"),
        ([labelled, "--corrupt", str(tmp_path / "endless.yaml")], "finite number"),
        ([labelled, "--set", f"dictionary={tmp_path}/no"], "no.aff" if _has("hunspell") else None),
    ):
        if word is not None:
            assert main(["evaluate", *args, "--model", model]) == 2, args
            assert word in capsys.readouterr().err


def _has(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None
