"""The scan, end to end: the same as Scorer, readable by others, and never more work than there is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import attributes, metrics_of, options, shards, table, write_corpus
from prometheus_client.parser import text_string_to_metric_families

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.config import ScanConfig, load_config
from rtdscan.transforms import engines, pace
from rtdscan.transforms.infer import load_scorer
from rtdscan.transforms.records import MANIFEST, attribute_schema
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import OutputSettings, ScoreSettings

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def scan(corpus: Path, output: Path, bundle: Path, *more: str) -> dict[str, int]:
    """Scan; returns units by outcome."""
    flags = [word for word in more if word.startswith("--")]
    sets = [word for word in more if not word.startswith("--")]
    assert main(["scan", str(corpus), str(output), *flags, *options(bundle, *sets)]) == 0
    return json.loads((output / "run.json").read_text())["summary"]["units"]


def test_an_interrupted_scan_leaves_no_sign_that_the_last_one_finished(
    corpus: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """metrics.prom still said `rtdscan_finished 1` with the old counts, and the old report stayed beside new shards."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    scan(corpus, output, tiny_bundle)
    page = output / "report.html"
    page.write_text("of this corpus", encoding="utf-8")  # a report takes seconds, and has tests of its own
    assert "rtdscan_finished 1.0" in metrics_of(output)
    scan(corpus, output, tiny_bundle)
    assert page.exists(), "nothing has changed"
    shutil.copy(corpus / "a.parquet", corpus / "new.parquet")
    with monkeypatch.context() as patch:
        patch.setattr("rtdscan.pipeline.launchers.local.run_local", interrupted)
        assert main(["scan", str(corpus), str(output), *options(tiny_bundle)]) == 1
    assert not (output / "run.json").exists()
    (metrics,) = text_string_to_metric_families((output / "metrics.prom").read_text())
    assert [(sample.name, sample.value) for sample in metrics.samples] == [("rtdscan_finished", 0.0)]
    assert metrics.samples[0].labels == {"output": str(output)}
    assert not page.exists()
    scan(corpus, output, tiny_bundle)
    assert "rtdscan_finished 1.0" in metrics_of(output)
    page.write_text("of this corpus", encoding="utf-8")
    (corpus / "new.parquet").unlink()
    scan(corpus, output, tiny_bundle)
    assert not page.exists(), "shards have gone"


def test_the_device_is_told_and_is_no_reason_to_score_again(
    corpus: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engines, "has_cuda", lambda: False)
    assert main(["scan", str(corpus), str(output), *options(tiny_bundle, "device=cuda")]) == 2
    assert "device is cuda, but there is no CUDA device" in capsys.readouterr().err
    assert not output.exists()
    assert scan(corpus, output, tiny_bundle)["scored"] >= 8
    assert "torch float32 on cpu" in capsys.readouterr().out
    assert json.loads((output / "run.json").read_text())["summary"]["device"] == "cpu"
    assert set(scan(corpus, output, tiny_bundle, "device=cpu")) == {"current"}
    assert load_config(ScanConfig, files=[Path(__file__).parent.parent / "configs" / "gpu.yaml"]).device == "cuda"


def test_the_scan_is_the_scorer(corpus: Path, output: Path, tiny_bundle: Path) -> None:
    done = scan(corpus, output, tiny_bundle, "output.words=true", "output.columns=[source]", "batch_tokens=256")
    found = attributes(output)
    files = [corpus / "a.parquet", corpus / "news item" / "b.parquet", corpus / "news item" / "ü.parquet"]
    settings = ScoreSettings(
        engine="torch",
        precision="float32",
        output=OutputSettings(words=True, columns=("source",)),
        batch_tokens=256,
    )
    scorer = Scorer.load(str(tiny_bundle), settings=settings)
    expected = pa.concat_tables(scorer.score(pq.read_table(path), text="text", id="key") for path in files)
    # Not a trivial case: several files, row groups, units, windows and batches, and rows without a score.
    assert done["scored"] >= 8
    assert found.num_rows == 82
    assert found["n_tokens"].to_numpy().sum() > 4 * 256
    assert set(found["status"].to_pylist()) == {"ok", "null", "empty"}
    assert found.replace_schema_metadata().equals(expected.replace_schema_metadata())
    assert found["row"].to_pylist() == [*range(40), *range(30), *range(12)]


def test_units_may_be_cut_as_one_likes(corpus: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    scan(corpus, tmp_path / "small", tiny_bundle)
    scan(corpus, tmp_path / "large", tiny_bundle, "unit.text_mb=1")
    assert len(shards(tmp_path / "small")) > len(shards(tmp_path / "large")) == 4  # one a row group
    assert attributes(tmp_path / "small").equals(attributes(tmp_path / "large"))


def test_fewer_units_than_cores_get_several_threads_each_and_the_same_bytes(
    corpus: Path, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtdscan.pipeline.scanning.default_workers", lambda: 9)
    told = {}
    for name, more in {
        "shared": ["workers=auto"],
        "given": ["workers=auto", "threads=1"],
        "plain": ["workers=5"],
        "torch": ["workers=auto", "engine=torch"],  # whose sums threads share out otherwise
    }.items():
        scan(corpus, tmp_path / name, tiny_bundle, "unit.text_mb=1", "engine=openvino", *more)
        summary = json.loads((tmp_path / name / "run.json").read_text())["summary"]
        told[name] = summary["workers"], summary["threads"]
    assert told == {"shared": (3, 3), "given": (9, 1), "plain": (5, 1), "torch": (9, 1)}
    assert shards(tmp_path / "shared") == shards(tmp_path / "given") == shards(tmp_path / "plain")


def test_the_schema_is_the_one_that_is_written_down(corpus: Path, output: Path, tiny_bundle: Path) -> None:
    scan(corpus, output, tiny_bundle)
    dims = Scorer.load(str(tiny_bundle)).engine.dims
    expected = attribute_schema(OutputSettings(), dims=dims, id_type=pa.uint32())
    for path in (output / "attributes").rglob("*.parquet"):
        if path.is_file():
            found = pq.read_schema(path)
            assert found.remove_metadata().equals(expected.remove_metadata())
            assert all(found.field(f.name).metadata[b"description"] == f.metadata[b"description"] for f in expected)
            assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_other_engines_read_the_output(corpus: Path, output: Path, tiny_bundle: Path) -> None:
    scan(corpus, output, tiny_bundle, "output.words=true", "output.tokens=true")
    expected = attributes(output)
    pattern = str(output / "attributes" / "**" / "*.parquet")
    with_duckdb = duckdb.sql(f"select * from read_parquet('{pattern}') order by id")
    rows = with_duckdb.fetchall()
    assert [row[0] for row in rows] == sorted(expected["id"].to_pylist())
    assert with_duckdb.columns == expected.column_names
    flagged = duckdb.sql(f"select sum(n_flagged), sum(len(candidates)) from read_parquet('{pattern}')").fetchall()[0]
    assert flagged == (
        sum(filter(None, expected["n_flagged"].to_pylist())),
        len(expected["candidates"].combine_chunks().flatten()),
    )
    with_polars = polars.read_parquet(pattern).sort("id")
    assert with_polars["id"].to_list() == sorted(expected["id"].to_pylist())
    assert with_polars["spans"].list.len().sum() == len(expected["spans"].combine_chunks().flatten())
    assert with_polars["embedding"].dtype == polars.Array(polars.Float16, 32)


def test_manifest_run_and_metrics(corpus: Path, output: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["scan", str(corpus), str(output), "--json", *options(tiny_bundle)]) == 0
    told = json.loads(capsys.readouterr().out)
    manifest = pq.read_table(output / "manifest.parquet")
    assert manifest.schema.equals(MANIFEST)
    rows = manifest.to_pylist()
    assert {row["shard"] for row in rows} == set(shards(output))
    assert sum(row["rows"] for row in rows) == 82 == told["metrics"]["rows"]
    found = attributes(output)
    for name, column in (("tokens", "n_tokens"), ("words", "n_words"), ("flagged", "n_flagged")):
        assert sum(row[name] for row in rows) == sum(filter(None, found[column].to_pylist())) == told["metrics"][name]
    run = json.loads((output / "run.json").read_text())
    assert run["summary"] == told
    assert run["text"] == "text"
    assert run["config"]["engine"] == "torch"
    assert run["config"]["thresholds"]["flag"] == 0.5
    assert run["model"]["digest"]
    prometheus = metrics_of(output)
    assert "rtdscan_rows 82.0" in prometheus
    assert 'rtdscan_rows_by_status{status="null"}' in prometheus
    assert not list(output.rglob(".tmp-*"))
    assert not (output / ".attempts").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Nothing is scored twice


@pytest.fixture
def inferences(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batches that went through the network."""
    from rtdscan.transforms.engines.torch import TorchEngine

    ran: list[int] = []
    forward = TorchEngine.forward

    def counting(self, ids_BT, lengths_B, weights_BT):
        ran.append(len(ids_BT))
        return forward(self, ids_BT, lengths_B, weights_BT)

    monkeypatch.setattr(TorchEngine, "forward", counting)
    load_scorer.cache_clear()
    return ran


def test_a_second_scan_runs_no_network(corpus: Path, output: Path, tiny_bundle: Path, inferences: list[int]) -> None:
    first = scan(corpus, output, tiny_bundle)
    assert sum(inferences) > 20
    before = shards(output)
    inferences.clear()
    assert scan(corpus, output, tiny_bundle) == {"current": first["scored"]}
    assert not inferences
    assert shards(output) == before


def test_a_touched_file_is_only_restamped(corpus: Path, output: Path, tiny_bundle: Path, inferences: list[int]) -> None:
    sets = ["input.id=null"]  # an id would have to be read again
    units = scan(corpus, output, tiny_bundle, *sets)["scored"]
    before = attributes(output)
    inferences.clear()
    os.utime(corpus / "a.parquet", ns=(1, 1))
    done = scan(corpus, output, tiny_bundle, *sets)
    assert not inferences
    assert 2 <= done["restamped"] < units
    assert done["restamped"] + done["current"] == units
    assert attributes(output).equals(before)
    restamped = shards(output)
    shutil.rmtree(output)
    scan(corpus, output, tiny_bundle, *sets)
    assert shards(output) == restamped, "the bytes of a fresh scan"
    assert scan(corpus, output, tiny_bundle, *sets) == {"current": units}


def test_a_changed_file_is_scored_where_its_text_changed(
    corpus: Path, output: Path, tiny_bundle: Path, inferences: list[int]
) -> None:
    units = scan(corpus, output, tiny_bundle)["scored"]
    inferences.clear()
    rows = table(0, 40).to_pylist()
    rows[39]["text"] = "An altogether different text."
    pq.write_table(pa.Table.from_pylist(rows, schema=table(0, 40).schema), corpus / "a.parquet", row_group_size=25)
    done = scan(corpus, output, tiny_bundle)
    assert done["scored"] == 1
    assert done["rewritten"] >= 1  # the other units of the file: same texts, but ids may have changed
    assert done["scored"] + done["rewritten"] + done["current"] == units
    assert sum(inferences) <= 30
    summary = json.loads((output / "run.json").read_text())["summary"]
    assert 0 < summary["tokens_scored"] < summary["metrics"]["tokens"]
    assert attributes(output)["n_chars"].to_pylist()[39] == len("An altogether different text.")


def test_new_and_deleted_files(corpus: Path, output: Path, tiny_bundle: Path, inferences: list[int]) -> None:
    units = scan(corpus, output, tiny_bundle)["scored"]
    of_b = len([path for path in shards(output) if "b.parquet" in path])
    pq.write_table(table(82, 5), corpus / "new.parquet")
    inferences.clear()
    done = scan(corpus, output, tiny_bundle)
    assert done["current"] == units
    assert done["scored"] == len([path for path in shards(output) if "new.parquet" in path]) > 0
    (corpus / "news item" / "b.parquet").unlink()
    inferences.clear()
    done = scan(corpus, output, tiny_bundle)
    assert not inferences
    assert set(done) == {"current"}
    assert not [path for path in shards(output) if "b.parquet" in path]
    assert of_b > 0
    assert attributes(output).num_rows == 82 + 5 - 30


def test_other_thresholds_run_no_network(
    corpus: Path, output: Path, tmp_path: Path, tiny_bundle: Path, inferences: list[int]
) -> None:
    units = scan(corpus, output, tiny_bundle, "thresholds.floor=0.1")["scored"]
    before = attributes(output)
    inferences.clear()
    changed = ["thresholds.floor=0.2", "thresholds.flag=0.7", "thresholds.drop=0.6", "thresholds.review=0.3"]
    changed += ["ignore=[url, email]", "allow=[garden]", "output.columns=[source]"]
    assert scan(corpus, output, tiny_bundle, *changed) == {"rewritten": units}
    assert not inferences
    assert sum(filter(None, attributes(output)["n_flagged"].to_pylist())) < sum(
        filter(None, before["n_flagged"].to_pylist())
    )
    scan(corpus, tmp_path / "fresh", tiny_bundle, *changed)
    assert shards(output) == shards(tmp_path / "fresh")  # to the byte: history leaves no trace
    inferences.clear()
    assert scan(corpus, output, tiny_bundle, *changed, "thresholds.floor=0.05") == {"scored": units}  # not stored
    assert inferences


def test_a_plan_counts_only_what_needs_the_network(
    corpus: Path, output: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other thresholds, carried columns and touched files were told as tokens to score, a week of them."""

    def planned(*more: str) -> tuple[int, int, int, int]:
        capsys.readouterr()
        assert main(["plan", str(corpus), str(output), "--json", *options(tiny_bundle, *more)]) == 0
        told = json.loads(capsys.readouterr().out)
        return told["current"], told["rewritten"], told["touched"], told["tokens"]

    units = scan(corpus, output, tiny_bundle, "thresholds.floor=0.1")["scored"]
    kept = "thresholds.floor=0.1"
    assert planned(kept) == (units, 0, 0, 0)
    assert planned("thresholds.floor=0.2", "thresholds.flag=0.7", "output.columns=[source]") == (0, units, 0, 0)
    lower, model = planned("thresholds.floor=0.05"), planned(kept, "window=24")
    assert lower == model == (0, 0, 0, lower[3])
    assert lower[3] > 0
    os.utime(corpus / "a.parquet", ns=(1, 1))
    current, rewritten, touched, tokens = planned(kept)
    assert (current + touched, rewritten) == (units, 0)
    assert touched >= 2
    assert 0 < tokens < lower[3]  # at most: the texts may have changed
    capsys.readouterr()
    assert main(["plan", str(corpus), str(output), *options(tiny_bundle, kept)]) == 0
    assert f"at most about {tokens:,}" in capsys.readouterr().out


def test_an_input_that_moved_is_not_scored_again(
    corpus: Path, output: Path, tmp_path: Path, tiny_bundle: Path, inferences: list[int], capsys: pytest.CaptureFixture
) -> None:
    """The only advice was another OUTPUT: a scan of everything for a folder of another name."""
    units = scan(corpus, output, tiny_bundle)["scored"]
    before = shards(output)
    inferences.clear()
    moved = corpus.rename(tmp_path / "moved")
    assert main(["scan", str(moved), str(output), *options(tiny_bundle)]) == 2
    told = capsys.readouterr().err
    assert f"belongs to another INPUT ({corpus}), not {moved}; if that one has moved or is spelled otherwise" in told
    assert "add --moved; else" in told
    assert main(["plan", str(moved), str(output), "--moved", "--json", *options(tiny_bundle)]) == 0
    assert json.loads(capsys.readouterr().out)["current"] == units
    (moved / "a.parquet").unlink()
    assert scan(moved, output, tiny_bundle, "--moved") == scan(moved, output, tiny_bundle)  # once is enough
    assert not inferences
    assert shards(output) == {path: found for path, found in before.items() if "/a.parquet/" not in path}


def test_an_output_moves_along_with_none_but_its_own_input(
    corpus: Path, output: Path, tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture
) -> None:
    """All that was scored would be removed."""
    scan(corpus, output, tiny_bundle)
    before = shards(output)
    (tmp_path / "other").mkdir()
    pq.write_table(table(0, 5), tmp_path / "other" / "c.parquet")
    assert main(["scan", str(tmp_path / "other"), str(output), "--moved", *options(tiny_bundle)]) == 2
    assert "another corpus; choose another OUTPUT" in capsys.readouterr().err
    assert shards(output) == before
    assert set(scan(corpus, output, tiny_bundle)) == {"current"}


@pytest.mark.parametrize("change", ["window=24", "output.words=true", "output.embedding=float32", "model"])
def test_what_changes_scores_is_scored_again(
    corpus: Path, output: Path, tmp_path: Path, tiny_bundle: Path, change: str
) -> None:
    units = scan(corpus, output, tiny_bundle)["scored"]
    if change == "model":
        other = tmp_path / "other"
        shutil.copytree(tiny_bundle, other)
        card = json.loads((other / "bundle.json").read_text())
        card["calibration"] = {"slope": 0.5, "intercept": 0.25}
        (other / "bundle.json").write_text(json.dumps(card))
        assert scan(corpus, output, other) == {"scored": units}
    else:
        assert scan(corpus, output, tiny_bundle, change) == {"scored": units}


def test_thresholds_of_the_bundle_do_not_rescore(corpus: Path, output: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    units = scan(corpus, output, tiny_bundle)["scored"]
    other = tmp_path / "other"
    shutil.copytree(tiny_bundle, other)
    card = json.loads((other / "bundle.json").read_text())
    card["thresholds"] = {"floor": 0.05, "flag": 0.9, "review": 0.3, "drop": 0.4}
    (other / "bundle.json").write_text(json.dumps(card))
    assert scan(corpus, output, other) == {"rewritten": units}


def test_a_carried_column_that_came_later_is_null_before(corpus: Path, output: Path, tiny_bundle: Path) -> None:
    """Files without it were bad, and what was scored of them was removed."""
    units = scan(corpus, output, tiny_bundle)["scored"]
    later = pa.table({"key": pa.array([900], pa.uint32()), "text": ["One more."], "when": ["now"]})
    pq.write_table(later, corpus / "z.parquet")
    sets = ("output.columns=[when]", "tally.by=[when]", "on_bad_file=quarantine")
    assert scan(corpus, output, tiny_bundle, *sets) == {"rewritten": units, "scored": 1}
    assert attributes(output)["when"].to_pylist() == [None] * 82 + ["now"]
    told = json.loads((output / "run.json").read_text())["summary"]
    warning = "3 of 4 files have no column when, which is null there (a.parquet)"
    assert (told["bad"], told["warnings"]) == ([], [warning])
    assert scan(corpus, output, tiny_bundle, *sets) == {"current": units + 1}


def test_a_missing_shard_is_made_again(corpus: Path, output: Path, tiny_bundle: Path) -> None:
    scan(corpus, output, tiny_bundle)
    before = shards(output)
    lost, damaged, *_ = sorted(before)
    (output / lost).unlink()
    (output / damaged).write_bytes(b"PAR1 not really")
    assert scan(corpus, output, tiny_bundle)["scored"] == 2
    assert shards(output) == before


def test_a_sample_is_stable_and_nested(corpus: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    taken = {}
    for share in (0.2, 0.5):
        output = tmp_path / f"sample-{share}"
        scan(corpus, output, tiny_bundle, f"input.sample={share}")
        taken[share] = set(shards(output))
        assert attributes(output).num_rows >= share * 82
    assert taken[0.2] < taken[0.5]
    whole = tmp_path / "whole"
    scan(corpus, whole, tiny_bundle)
    assert taken[0.5] < set(shards(whole))


def test_shards_outside_a_smaller_sample_stay_and_are_told(corpus: Path, output: Path, tiny_bundle: Path) -> None:
    """They took hours and serve again; but rows that no manifest names were read without a word."""
    units = scan(corpus, output, tiny_bundle)["scored"]
    taken = sum(scan(corpus, output, tiny_bundle, "input.sample=0.4").values())
    assert 0 < taken < units == len(shards(output))
    warnings = json.loads((output / "run.json").read_text())["summary"]["warnings"]
    assert [line for line in warnings if line.startswith(f"{units - taken} shards outside the sample stay in")]
    assert scan(corpus, output, tiny_bundle) == {"current": units}
    assert "outside the sample" not in (output / "run.json").read_text()


def test_several_inputs_share_a_root(tmp_path: Path, tiny_bundle: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        pq.write_table(table(0, 3), tmp_path / name / "same.parquet")
    args = [str(tmp_path / "x" / "*.parquet"), str(tmp_path / "y"), str(tmp_path / "out")]
    assert main(["scan", *args, *options(tiny_bundle)]) == 0
    assert {Path(path).parent.as_posix() for path in shards(tmp_path / "out")} == {
        "attributes/x/same.parquet",
        "attributes/y/same.parquet",
    }


def test_as_a_user_with_all_cores(corpus: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    """Real child processes give the bytes that one process gives. On openvino, whose workers start in half the time."""
    sets = ("engine=openvino", "output.columns=[source]")
    command = [sys.executable, "-m", "rtdscan.pipeline", "scan", str(corpus), str(tmp_path / "out")]
    done = subprocess.run(
        [*command, *options(tiny_bundle, "workers=2", *sets)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "82 (" in done.stdout
    assert ", 2 workers " in done.stdout
    assert done.stderr == ""
    scan(corpus, tmp_path / "here", tiny_bundle, *sets)
    assert shards(tmp_path / "out") == shards(tmp_path / "here")
    workers = set(pq.read_table(tmp_path / "out" / "manifest.parquet")["worker"].to_pylist())
    assert len(workers) == 2


def test_a_process_tells_how_far_it_is(corpus: Path, output: Path, tiny_bundle: Path) -> None:
    told: list[int] = []
    pace.listen(told.append)
    try:
        scan(corpus, output, tiny_bundle)
    finally:
        pace.listen(lambda tokens: None)
    assert sum(told) == json.loads((output / "run.json").read_text())["summary"]["tokens_scored"]


def test_a_beam_runner_by_name(corpus: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    scan(corpus, tmp_path / "here", tiny_bundle)
    args = ["scan", str(corpus), str(tmp_path / "out"), *options(tiny_bundle, "runner=FnApiRunner")]
    assert main([*args, "--set", "workers=7", "--", "--direct_num_workers=1"]) == 0
    assert shards(tmp_path / "out") == shards(tmp_path / "here")
    told = json.loads((tmp_path / "out" / "run.json").read_text())["summary"]
    assert told["workers"] == 1  # those that took part, whatever this machine would have


def test_beam_options_need_a_beam_runner(corpus: Path, tmp_path: Path, tiny_bundle: Path, capsys) -> None:
    args = ["scan", str(corpus), str(tmp_path / "out"), *options(tiny_bundle)]
    assert main([*args, "--", "--parallelism=4"]) == 2
    assert "--parallelism=4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
