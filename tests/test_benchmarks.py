"""The benchmarks run, count what they say they count, and print the rows that benchmarks/README.md explains."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import corpora, measure, memory, misspelt, scan, skew, slips
from benchmarks.measure import Usage
from benchmarks.softmax import softmax
from rtdscan.transforms.corruption.wordlist import WORDS
from rtdscan.transforms.near import FEATURES, NearWords

PROSE = (
    "The old man walked along the river and looked at the water. It was a cold morning, and the boats lay still. "
    "He had been there before, many years ago, when the town was small. "
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents of one to nine sentences."""
    path = tmp_path_factory.mktemp("corpus") / "toy.parquet"
    corpora.write_rows(path, [f"Document {number}. " + PROSE * (1 + number % 3) for number in range(60)])
    return path


def run_benchmark(module: str, *arguments: object) -> str:
    command = measure.python(f"benchmarks.{module}", *arguments)
    done = subprocess.run(command, cwd=measure.ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def text_bytes(path: Path) -> int:
    return sum(len(text.encode()) for text in pq.read_table(path)["text"].to_pylist())


@pytest.mark.slow
def test_how_long_nothing_takes() -> None:
    told = run_benchmark("idle", "--shards", 20, "--repeats", 1)
    assert "rtdscan scan, 20 shards, all current" in told


def test_a_sample_is_spread_over_the_corpus(corpus: Path, tmp_path: Path) -> None:
    texts = corpora.sample_rows(corpus, tmp_path / "sample.parquet", rows=6)
    assert [text.split(".")[0] for text in texts] == [f"Document {number}" for number in range(0, 60, 10)]
    sample = pq.ParquetFile(tmp_path / "sample.parquet")
    assert sample.read().to_pydict() == {"row": list(range(6)), "text": texts}
    assert sample.metadata.num_row_groups == 1


def test_repeated_prose_has_the_size_and_never_the_same_text() -> None:
    texts = list(corpora.repeated([PROSE * 4, PROSE * 7], size=50_000, seed=0))
    assert 50_000 <= sum(len(text.encode()) for text in texts) < 50_000 + len(PROSE) * 7 + 1
    assert len(set(texts)) == len(texts) > 30
    assert sorted(texts[0].split()) == sorted((PROSE * 4).split())


def test_a_command_is_measured() -> None:
    """It holds 100 MB and a child holds 60 more; each burns 0.3 s of CPU."""
    burn = "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(0.4)\n"
    child = "import sys; held = b'x' * 60_000_000; " + repr(burn) + " and exec(" + repr(burn) + ")"
    code = (
        f"import subprocess, sys\nheld = b'x' * 100_000_000\nsubprocess.run([sys.executable, '-c', {child!r}])\n{burn}"
    )
    usage = measure.run([sys.executable, "-c", code])
    assert 0.6 < usage.cpu < 2
    assert usage.seconds > 0.7
    assert 100e6 < usage.processes["main"] < 150e6
    assert 60e6 < usage.processes["child"] < 100e6
    assert 160e6 < usage.tree <= usage.processes["main"] + usage.processes["child"]


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(measure.CommandFailed, match=r"exit status 3\nbecause"):
        measure.run([sys.executable, "-c", "import sys; print('because', file=sys.stderr); sys.exit(3)"])


def test_the_report_of_speed_by_hand(tmp_path: Path) -> None:
    """1,000 tokens of which the first 100 are those of the small run.

    Stock scores 550 (50 in the small run) in 10 CPU s, 5 of them start: 100 tok/s. scan: 900 in 14 - 11 = 3 s: 300.
    The bare engine: 1,000 in 2.5 s: 400. So scan is 3 times stock and 0.75 of bare.
    """

    def usage(cpu: float) -> Usage:
        return Usage(seconds=2 * cpu, cpu=cpu, tree=123_000_000)

    pair: scan.Pair = ("torch", "float32")
    stock = scan.Runs("stock", [usage(9), usage(10), usage(13)], [usage(5)], tokens=550, start_tokens=50)
    bare = scan.Runs("bare", [usage(2.5)], tokens=1000, padding=0.04)
    scanned = scan.Runs("scan", [usage(14)], [usage(11)], tokens=1000, start_tokens=100, padding=0.04)
    setup = scan.Setup(folder=tmp_path, model=tmp_path, tokens=1000, megabytes=4, cores=1)
    lines = scan.report(setup, stock=stock, bare={pair: bare}, scans={(pair, 1): scanned}).splitlines()
    rows = [line.split() for line in lines if line.startswith(("stock", "bare", "scan"))]
    assert rows == [
        ["stock", "50", "100", "44%", "28", "55", "10.0", "55.0%", "123", "-", "1.00", "-"],
        ["bare", "200", "400", "0%", "-", "-", "-", "100.0%", "123", "4.0%", "4.00", "-"],
        ["scan", "150", "300", "0%", "36", "71", "22.0", "100.0%", "123", "4.0%", "3.00", "0.75"],
    ]
    assert [line.split("  ")[0].strip() for line in lines if "torch float32" in line] == ["met", "MISSED", "met"]


def test_the_report_of_memory_by_hand() -> None:
    """1x takes 100 MB; the large corpus 104, the row group 106, the document of 10 MB 150: 5 bytes a byte."""
    sizes = memory.Sizes(base=1, factor=20, row_group=50, document=10)
    told = json.dumps({"metrics": {"documents": 7}, "units": {"scored": 2, "current": 1}})
    peaks = {"1x": 100, "20x": 104, "one row group": 106, "one document": 150}
    measured = {
        name: Usage(seconds=10, cpu=9, tree=peak * 10**6, processes={"main": 10**7, "child": 9 * 10**7}, stdout=told)
        for name, peak in peaks.items()
    }
    lines = memory.report(measured, sizes).splitlines()
    assert [line.split()[-2:] for line in lines if line[:2] in ("1x", "20", "on")] == [
        ["+0.0%", "-"],
        ["+4.0%", "-"],
        ["+6.0%", "-"],
        ["+50.0%", "5.00"],
    ]
    assert [line.split()[0] for line in lines[-3:]] == ["met", "MISSED", "met"]


def test_the_corpora_of_memory_have_the_bytes_that_its_table_tells(tmp_path: Path) -> None:
    for name, make, _ in memory.cases(memory.QUICK):
        make(tmp_path / name, [PROSE * 30, PROSE * 7], memory.QUICK)
    size = {name: [text_bytes(path) for path in sorted((tmp_path / name).iterdir())] for name in ("1x", "4x")}
    assert [sum(size["1x"]), sum(size["4x"])] == pytest.approx([0.5e6, 2e6], rel=0.05)
    assert [len(size["1x"]), len(size["4x"])] == [5, 20]
    large, document = (tmp_path / name / "corpus.parquet" for name in ("one row group", "one document"))
    assert text_bytes(large) == pytest.approx(4e6, rel=0.01)
    assert pq.read_metadata(large).num_row_groups == 1
    assert text_bytes(document) == pytest.approx(1e6, rel=0.01)
    assert pq.read_metadata(document).num_rows == 1


def test_the_report_of_skew_by_hand() -> None:
    """Workers busy for 90 and 100 s are 10 % apart, for 80 and 100 s 20 %; a lone one never meets the bound."""

    def spread(*seconds: float) -> skew.Spread:
        busy = {f"w{at}": each for at, each in enumerate(seconds)}
        return skew.Spread(dict.fromkeys(busy, 3), busy, 120.0)

    lines = skew.report({"local": spread(90, 100), "ray": spread(100, 80), "one": spread(7)}).splitlines()
    assert [line.split() for line in lines if line.startswith("local")] == [
        ["local", "1", "3", "90.0", "90.0%", "120.0"],
        ["local", "2", "3", "100.0", "100.0%"],
    ]
    assert [line.split()[0] for line in lines[-3:]] == ["met", "MISSED", "MISSED"]


@pytest.mark.slow
def test_skew_prints_its_table(corpus: Path) -> None:
    out = run_benchmark("skew", corpus, "--quick", "--runners", "local")
    assert sorted(line.split()[1] for line in out.splitlines() if line.startswith("local")) == ["1", "2"]


@pytest.mark.slow
def test_scan_prints_its_table(corpus: Path) -> None:
    out = run_benchmark("scan", corpus, "--quick", "--engines", "torch", "--precisions", "float32")
    assert "sample: 20 rows of toy.parquet" in out
    for row in ("stock Beam pipeline, float32", "bare engine, torch", "rtdscan scan, torch float32, 1 worker"):
        assert f"\n{row}" in out
    scanned = next(line for line in out.splitlines() if line.startswith("rtdscan scan, torch float32, 1 worker"))
    assert "100.0%" in scanned


@pytest.mark.slow
def test_memory_prints_its_table(corpus: Path) -> None:
    out = run_benchmark("memory", corpus, "--quick", "--engine", "openvino")
    rows = {line.split("  ")[0]: line.split("  ") for line in out.splitlines()}
    assert {"1x", "4x", "one row group", "one document"} <= rows.keys()


def test_made_up_slips_teach_which_word_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"house": 90, "horse": 30, "received": 60, "receiver": 5, "believe": 70, "because": 300}
    near = NearWords.of(counts, total=1000, corrections=[("recieved", "received"), ("becuase", "because")])
    assert len(slips.half_known(near).corrections) == 1
    monkeypatch.setattr(slips, "CASES", 60)
    features, right = slips.make_cases(near, list(counts), np.array(list(counts.values()), dtype=float))
    assert len(features) == len(right) >= 60
    assert {one.shape[1] for one in features} == {len(FEATURES)}
    weights = softmax(features, right)
    assert weights[FEATURES.index("distance")] < 0, "a word farther away is meant less often"
    best = [int(np.argmax(one @ weights[:-1])) for one in features]
    assert np.mean(np.array(best) == np.array(right)) > 0.8


def test_the_weight_of_misspellings_follows_from_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    others, sure = rng.normal(-1, 2, 4000), rng.choice([0.0, 0.3, 0.6], 4000)
    wrong = rng.random(4000) < 1 / (1 + np.exp(-others - 2.5 * sure))
    assert misspelt.likeliest(others, sure, wrong) == pytest.approx(2.5, abs=0.3)
    articles = tmp_path / "articles.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["x" * 900 + " teh end", "Teh end" + " y" * 900]}), articles)
    rows = [{"id": "b", "start": "0", "word": "Teh"}, {"id": "a", "start": "901", "word": "teh"}]
    texts, starts, ends = misspelt.excerpts(articles, rows)
    assert [text[start:end] for text, start, end in zip(texts, starts, ends, strict=True)] == ["Teh", "teh"]
    assert max(map(len, texts)) <= 2 * misspelt.AROUND + 3
    with pytest.raises(SystemExit, match="no 'teh' at 902; these are other articles"):
        misspelt.excerpts(articles, [{**rows[1], "start": "902"}])


def test_labels_are_of_listed_misspellings() -> None:
    known = {*pq.read_table(WORDS / "misspellings.parquet")["wrong"].to_pylist()}
    with misspelt.LABELS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 200 == len({(row["id"], row["start"]) for row in rows})
    assert {row["word"].replace("’", "'") for row in rows} <= known
    assert {row["wrong"] for row in rows} == {"0", "1"}
