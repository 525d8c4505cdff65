"""`rtdscan gate`, `rtdscan accept`, the gates at the end of a scan, and who is told."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import attributes, metrics_of, options, run_here, shards, write_corpus
from prometheus_client.parser import text_string_to_metric_families

from rtdscan.pipeline import output as folder
from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.config import ScanConfig
from rtdscan.pipeline.judging import Judgement
from rtdscan.pipeline.launchers import Submitted
from rtdscan.pipeline.notify import message, notify
from rtdscan.pipeline.sections import NotifySettings
from rtdscan.pipeline.summary import Summary, prometheus_text
from rtdscan.transforms import storage
from rtdscan.transforms.errors import BusyError, EngineError, UserError
from rtdscan.transforms.gates import Verdict
from rtdscan.transforms.tally import Tally

pytestmark = pytest.mark.usefixtures("in_process")

PASSING = ("gates.rows.min=82", "gates.null_share={max: 0.5}")
BY_SOURCE = "gates.by_source={metric: documents, by: source, min: 1}"


class Scanned:
    """A corpus and its OUTPUT."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.corpus, self.output, self.bundle = folder / "corpus", folder / "out", bundle

    def scan(self, *sets: str, config: Path | None = None) -> int:
        more = ["--config", str(config)] if config else []
        return main(["scan", str(self.corpus), str(self.output), *options(self.bundle, *sets), *more])

    def run(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output / "run.json").read_text())
        return found

    def gate(self, *arguments: str) -> int:
        return main(["gate", str(self.output), *arguments])

    def accept(self, *arguments: str) -> int:
        return main(["accept", str(self.output), *arguments])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Scanned:
    """A finished scan with gates that pass; read it, don't change it."""
    scanned = Scanned(tmp_path_factory.mktemp("first"), tiny_bundle)
    write_corpus(scanned.corpus)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
        assert scanned.scan(*PASSING, BY_SOURCE) == 0
    return scanned


@pytest.fixture
def scanned(first: Scanned, tmp_path: Path) -> Scanned:
    """The same to change: another OUTPUT of the same corpus."""
    shutil.copytree(first.output, tmp_path / "out")
    own = Scanned(tmp_path, first.bundle)
    own.corpus = first.corpus
    return own


# At the end of a scan


def test_a_scan_whose_gate_fails_is_finished_and_exits_with_3(
    scanned: Scanned, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shards(scanned.output)
    assert scanned.scan(*PASSING, BY_SOURCE, "gates.null_share.max=0.01", "gates.drift.ks_score={max: 0.1}") == 3
    said = capsys.readouterr()
    (row,) = [line for line in said.out.splitlines() if line.startswith("null_share")]
    nulls = attributes(scanned.output)["status"].to_pylist().count("null")
    assert nulls > 0
    assert row.split() == ["null_share", f"{nulls / 82:.4f}", "<=", "0.01", "failed"]
    assert said.err == (
        "rtdscan: not judged: drift.ks_score: no baseline: no run was accepted yet: rtdscan accept OUTPUT\n"
    )
    summary = scanned.run()["summary"]
    assert summary["finished"]
    assert not summary["passed"]
    told = {(gate["gate"], gate["of"]): gate["verdict"] for gate in summary["gates"]}
    assert told == {
        ("rows", None): "passed",
        ("null_share", None): "failed",
        **{("by_source", f"s{n}"): "passed" for n in range(3)},
        ("drift.ks_score", None): "no baseline",
    }
    prometheus = metrics_of(scanned.output)
    for line in (
        '{gate="rows"} 1.0',
        '{gate="null_share"} 0.0',
        '{gate="by_source"} 1.0',
        '{by="source",gate="by_source",of="s1"} 1.0',
        '{gate="drift.ks_score"} NaN',
    ):
        assert f"rtdscan_gate_passed{line}\n" in prometheus
    assert f'rtdscan_gate_value{{gate="null_share"}} {nulls / 82}\n' in prometheus
    assert 'rtdscan_gate_value{gate="drift' not in prometheus
    assert set(summary["units"]) == {"current"}, "bounds are no reason to touch a shard"
    assert shards(scanned.output) == before


def series(*verdicts: Verdict) -> dict[str, dict[tuple[str, ...], float]]:
    """What metrics.prom says of gates: by the series' name, of `gate`, `by` and `of`."""
    facts = {"output": "out", "finished": True, "outcomes": {}, "bad": (), "seconds": 1.0, "tokens_scored": 0}
    how = {"model": "m", "engine": "e", "precision": "p", "workers": 1, "threads": 1}
    about = {"precision_note": None, "warnings": (), "judgement": Judgement(verdicts)}
    text = prometheus_text(Summary(tally=Tally.zero(), **facts, **how, **about), finished_at=0.0).decode()
    found: dict[str, dict[tuple[str, ...], float]] = {"rtdscan_gate_passed": {}, "rtdscan_gate_value": {}}
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name in found else ():
            assert set(sample.labels) in ({"gate", "output"}, {"gate", "by", "of", "output"})
            key = tuple(sample.labels[name] for name in ("gate", "by", "of") if name in sample.labels)
            assert key not in found[family.name], "a series twice: Prometheus would refuse all"
            found[family.name][key] = sample.value
    return found


def test_no_alert_could_name_the_value_of_the_column_that_failed() -> None:
    odd = 'a "quoted" \\ path\nof 二 lines'
    found = series(
        Verdict("rows", "rows", ">= 1", None, None, 5, "passed"),
        Verdict("drops", "drop_share", "<= 0.2", "site", "b", 0.1, "passed"),
        Verdict("drops", "drop_share", "<= 0.2", "site", odd, 0.3, "failed"),
        Verdict("drops", "drop_share", "<= 0.2", "site", "new", None, "no data"),
        Verdict("empty", "null_share", "<= 0.2", "site", None, None, "no data", "no rows"),
    )
    unjudged = {key for key, value in found["rtdscan_gate_passed"].items() if value != value}
    assert unjudged == {("drops", "site", "new"), ("empty",)}
    assert {key: value for key, value in found["rtdscan_gate_passed"].items() if key not in unjudged} == {
        ("rows",): 1.0,
        ("drops",): 0.0,
        ("drops", "site", "b"): 1.0,
        ("drops", "site", odd): 0.0,
    }
    values = {("rows",): 5.0, ("drops", "site", "b"): 0.1, ("drops", "site", odd): 0.3}
    assert found["rtdscan_gate_value"] == values


def test_of_many_values_of_a_column_the_failed_ones_come_first() -> None:
    verdicts = [
        Verdict("drops", "drop_share", "<= 0.2", "site", f"{at}", 0.5, "failed" if at % 2 else "passed")
        for at in range(300)
    ]
    found = series(*verdicts)["rtdscan_gate_passed"]
    assert len(found) == 201
    assert [key[2] for key, value in found.items() if key[1:] and not value] == [f"{at}" for at in range(1, 300, 2)]


def test_counts_by_a_column_need_no_network_and_are_right(
    scanned: Scanned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtdscan.transforms.engines.torch import TorchEngine

    corpus = pa.concat_tables(pq.read_table(path) for path in sorted(scanned.corpus.rglob("*.parquet")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchEngine, "forward", lambda *_: pytest.fail("the network ran"))
        assert scanned.scan("tally.by=[source, key]") == 0
        run = scanned.run()
        assert set(run["summary"]["units"]) == {"rewritten"}
    found = attributes(scanned.output)
    assert "source" not in found.column_names
    by = run["tally"]["by"]
    assert len(by["key"]) == 82
    rows = corpus.append_column("n_flagged", found["n_flagged"]).append_column("status", found["status"])
    assert found["id"].to_pylist() == rows["key"].to_pylist()
    for source in ("s0", "s1", "s2"):
        of = [row for row in rows.select(["source", "n_flagged", "status"]).to_pylist() if row["source"] == source]
        assert by["source"][source]["rows"] == len(of) > 20
        assert by["source"][source]["flagged"] == sum(row["n_flagged"] or 0 for row in of)
        assert by["source"][source]["statuses"].get("null", 0) == sum(row["status"] == "null" for row in of) > 0
    assert set(by["source"]) == {"s0", "s1", "s2"}


def test_a_column_that_is_also_carried_is_counted(scanned: Scanned) -> None:
    assert scanned.scan(BY_SOURCE, "output.columns=[source]") == 0
    assert attributes(scanned.output)["source"].to_pylist()[:3] == ["s0", "s1", "s2"]
    assert set(scanned.run()["tally"]["by"]["source"]) == {"s0", "s1", "s2"}


def test_values_that_changed_are_counted_anew_without_the_network(scanned: Scanned, tmp_path: Path) -> None:
    shutil.copytree(scanned.corpus, tmp_path / "corpus")
    (scanned.output / ".rtdscan.json").write_text(json.dumps({"format": 1, "inputs": [str(tmp_path / "corpus")]}))
    scanned.corpus = tmp_path / "corpus"
    table = pq.read_table(scanned.corpus / "a.parquet")
    renamed = table.set_column(1, "source", pa.array(["new"] * 40))
    pq.write_table(renamed, scanned.corpus / "a.parquet", row_group_size=25)
    assert scanned.scan(BY_SOURCE) == 0
    assert scanned.run()["tally"]["by"]["source"]["new"]["rows"] == 40
    assert set(scanned.run()["summary"]["units"]) == {"current", "rewritten"}


def test_a_column_that_is_not_there(scanned: Scanned, capsys: pytest.CaptureFixture[str]) -> None:
    assert scanned.scan("tally.by=[sauce]") == 2
    assert "no column 'sauce'" in capsys.readouterr().err


def test_a_scan_of_which_nothing_could_be_scored_is_no_success(
    first: Scanned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that gave no numbers ended with a warning and status 0; `clean` then kept every row."""
    from rtdscan.transforms.engines.torch import TorchEngine

    forward = TorchEngine.forward

    def broken(*given: Any) -> Any:
        logits_BT, pooled_BD = forward(*given)
        return logits_BT * np.nan, pooled_BD

    monkeypatch.setattr(TorchEngine, "forward", broken)
    scanned = Scanned(tmp_path, first.bundle)
    scanned.corpus = first.corpus
    assert scanned.scan() == 3
    said = capsys.readouterr().out
    assert "warning: no document could be scored, all with text failed: does the model work?" in said
    (row,) = [line for line in said.splitlines() if line.startswith("scored")]
    assert row.split() == ["scored", "(documents)", "0", ">=", "1", "failed", "all", "with", "text", "failed"]
    assert scanned.run()["summary"]["finished"]
    assert 'rtdscan_gate_passed{gate="scored"} 0.0' in metrics_of(scanned.output)
    assert (scanned.gate(), scanned.accept()) == (3, 3)
    assert "failed its gates (scored)" in capsys.readouterr().err
    assert scanned.accept("--force") == 0


# rtdscan gate


def test_the_gates_again(first: Scanned, capsys: pytest.CaptureFixture[str]) -> None:
    assert first.gate() == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["gate", "of", "value", "bound", "verdict"]
    assert [line.split()[0] for line in table[1:]] == ["rows", "null_share", *["by_source"] * 3]
    assert "source=s0" in table[3]
    assert first.gate("--json", "--set", "gates.rows.min=83") == 3
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] is False
    assert [gate["verdict"] for gate in told["gates"]] == ["failed", *["passed"] * 4]
    assert told["baseline"] is None
    assert first.gate("--set", "gates.rows=false") == 0


def test_gates_of_a_config_file_take_the_place_of_the_scans(
    first: Scanned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("gates:\n  failed_share: {max: 0}\n")
    assert first.gate("--config", str(tmp_path / "c.yaml"), "--json") == 0
    assert [gate["gate"] for gate in json.loads(capsys.readouterr().out)["gates"]] == ["failed_share"]
    (tmp_path / "c.yaml").write_text("gates:\n  rows: {max: 0, by: key}\n")
    assert first.gate("--config", str(tmp_path / "c.yaml")) == 2
    assert "was not counted by key; scan it again with this config (no network runs)" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text("gates: {}\n")
    assert first.gate("--config", str(tmp_path / "c.yaml")) == 2
    assert "give some by --config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "takes"),
    [
        ("gate|--set|thresholds.flag=.5", "gates.* and notify.*"),
        ("gate|--json|--set|gates.rows.min=1|--set|threads=2", "gates.* and notify.*"),
        ("accept|--set|thresholds={flag: .5}", "gates.*"),
        ("accept|--set|notify.timeout=1", "gates.*"),
        ("report|--set|thresholds.flag=.5", "report.*"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    first: Scanned, capsys: pytest.CaptureFixture[str], line: str, takes: str
) -> None:
    """`gate OUTPUT --set thresholds.flag=.5` judged by the old threshold without a word."""
    program, *more = line.split("|")
    before = sorted(first.output.iterdir())
    assert main([program, str(first.output), *more]) == 2
    said = capsys.readouterr()
    key = more[-1].partition("=")[0]
    assert said.err.startswith(f"rtdscan: --set {key}: rtdscan {program} takes {takes} only; all else is for `rtdscan")
    assert said.out == ""
    assert sorted(first.output.iterdir()) == before
    assert main([program, str(first.output), "--", "--temp_location=x"]) == 2
    assert "takes nothing after `--`" in capsys.readouterr().err


def test_what_is_no_option_anywhere_is_told_as_such(first: Scanned, capsys: pytest.CaptureFixture[str]) -> None:
    assert first.gate("--set", "threshold.flag=.5") == 2
    assert "unknown key threshold.flag (value 0.5); did you mean thresholds.flag?" in capsys.readouterr().err


def test_the_help_of_gate_lists_what_acts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", "--help"]) == 0
    shown = capsys.readouterr().out
    keys = [line.strip().partition(":")[0] for line in shown.splitlines() if line.startswith("  ") and line[2] != " "]
    options_ = [key for key in keys if key.partition(".")[0] in ScanConfig.model_fields]
    assert options_ == ["gates", "notify.url", "notify.url_env", "notify.command", "notify.timeout"]
    assert "everything after `--`" not in shown


def test_a_long_table_shows_what_failed(first: Scanned, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    shutil.copytree(first.output, output)
    run = first.run()
    of = run["tally"]["by"]["source"]["s0"]
    run["tally"]["by"]["source"] = {f"\x1b[31m{n:03d}\u202e": {**of, "documents": n} for n in range(60)}
    (output / "run.json").write_text(json.dumps(run))
    sets = ["gates.by_source.min=25", "gates.rows=false", "gates.null_share=false"]
    assert main(["gate", str(output), *(part for option in sets for part in ("--set", option))]) == 3
    lines = capsys.readouterr().out.splitlines()
    told = [line.split()[2:] for line in lines[1:]]
    assert [line[-1] for line in told] == [*["failed"] * 21, "passed"]
    assert [line[1] for line in told[:20]] == [str(n) for n in range(20)]
    assert told[20][:6] == ["source:", "5", "more", "values", "20", "to"]
    assert told[21][:6] == ["source:", "35", "values", "25", "to", "59"]
    assert not any("\x1b" in line or "\u202e" in line for line in lines)


def test_what_is_no_finished_output(scanned: Scanned, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", str(tmp_path / "nothing")]) == 2
    assert "is not an rtdscan output" in capsys.readouterr().err
    assert main(["accept", str(tmp_path / "nothing")]) == 2
    assert not (tmp_path / "nothing").exists()
    (scanned.output / "run.json").write_text("{")
    assert scanned.gate() == 2
    assert "run.json is damaged" in capsys.readouterr().err
    (scanned.output / "run.json").unlink()
    assert scanned.gate() == 2
    assert "is not finished: run its scan again" in capsys.readouterr().err


# rtdscan accept


DRIFT = (
    "gates.drift.ks_score={max: 0.2}",
    "gates.drift.ks_length={max: 0.2}",
    "gates.drift.embedding_shift={max: 0.2}",
)


def test_drift_is_against_the_accepted_run(
    scanned: Scanned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(scanned.corpus, corpus)
    (scanned.output / ".rtdscan.json").write_text(json.dumps({"format": 1, "inputs": [str(corpus)]}))
    scanned.corpus = corpus
    assert scanned.accept() == 0
    assert "82 rows" in capsys.readouterr().out
    accepted = (scanned.output / "baseline.json").read_bytes()
    # The same corpus: no drift.
    assert scanned.scan(*DRIFT) == 0
    drift = scanned.run()["summary"]["drift"]
    assert {name: found["value"] for name, found in drift.items()} == dict.fromkeys(drift, 0.0)
    assert 'rtdscan_drift{measure="psi_score"} 0.0' in metrics_of(scanned.output)
    # Other texts: a failed run, which leaves the accepted one as it was.
    table = pa.table({"key": pa.array(range(200), pa.uint32()), "source": ["s9"] * 200, "text": ["zzq xx " * 30] * 200})
    pq.write_table(table, corpus / "new.parquet")
    capsys.readouterr()
    assert scanned.scan(*DRIFT) == 3
    assert "accepted run: 20" in capsys.readouterr().out
    told = {gate["gate"]: (gate["value"], gate["verdict"]) for gate in scanned.run()["summary"]["gates"]}
    assert told["drift.ks_length"][0] > 0.3
    assert told["drift.ks_length"][1] == "failed"
    assert (scanned.output / "baseline.json").read_bytes() == accepted
    assert scanned.accept() == 3
    assert "failed its gates (drift.ks" in capsys.readouterr().err
    assert (scanned.output / "baseline.json").read_bytes() == accepted
    # What was accepted by force is what counts from now on.
    assert scanned.accept("--force", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 282
    assert scanned.gate() == 0
    assert scanned.scan(*DRIFT) == 0


@pytest.mark.parametrize("said", ["threads: 1", "gates:", "gates: # nothing yet\nnotify: {timeout: 5}"])
def test_a_config_file_that_names_no_gates_leaves_those_of_the_scan(
    scanned: Scanned, tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    """`accept OUTPUT --config x.yaml` accepted a run that had failed its gates."""
    run = scanned.run()
    run["config"]["gates"] = {"rows": {"metric": "rows", "max": 1}}
    (scanned.output / "run.json").write_text(json.dumps(run))
    config = tmp_path / "c.yaml"
    config.write_text(f"{said}\n", encoding="utf-8")
    assert scanned.gate("--config", str(config)) == 3
    assert scanned.accept("--config", str(config)) == 3
    assert "failed its gates (rows)" in capsys.readouterr().err
    assert not (scanned.output / "baseline.json").exists()
    assert scanned.accept("--config", str(config), "--set", "gates.rows.max=82") == 0


@pytest.mark.parametrize("how", [[], ["--force"]])
def test_nothing_is_accepted_while_a_scan_writes(
    scanned: Scanned, capsys: pytest.CaptureFixture[str], how: list[str]
) -> None:
    """The counts of one run would become the baseline beside the shards of another."""
    with storage.lock(str(scanned.output)):
        assert scanned.accept(*how) == 4
        assert "is busy" in capsys.readouterr().err
        assert not (scanned.output / "baseline.json").exists()
    assert scanned.accept("--set", "gates.rows.min=83") == 3
    assert scanned.accept(*how) == 0, "a refusal lets go of the lock"
    with storage.lock(str(scanned.output)):
        pass


def test_the_baseline_is_read_and_written_under_the_lock(scanned: Scanned, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def held(name: str) -> Callable[..., Any]:
        own = getattr(folder, name)

        def look(*args: Any) -> Any:
            with pytest.raises(BusyError), storage.lock(str(scanned.output)):
                pass
            done.append(name)
            return own(*args)

        return look

    for name in ("read_run", "summed_shards", "write_baseline"):
        monkeypatch.setattr(folder, name, held(name))
    assert scanned.accept() == 0
    assert done == ["read_run", "write_baseline"]
    (scanned.output / "run.json").unlink()
    assert scanned.accept("--force") == 0
    assert done[2:] == ["summed_shards", "write_baseline"]


def test_an_unfinished_run_is_accepted_by_force_only(scanned: Scanned, capsys: pytest.CaptureFixture[str]) -> None:
    run = scanned.run()
    (scanned.output / "run.json").unlink()
    assert scanned.accept() == 2
    assert "is not finished" in capsys.readouterr().err
    assert not (scanned.output / "baseline.json").exists()
    assert scanned.accept("--force") == 0
    baseline = json.loads((scanned.output / "baseline.json").read_text())
    assert baseline["tally"]["scores"] == run["tally"]["scores"]
    assert (baseline["model"], baseline["scoring"]) == (None, run["scoring"])
    assert scanned.scan(*DRIFT, BY_SOURCE) == 0
    assert {gate["verdict"] for gate in scanned.run()["summary"]["gates"]} == {"passed"}


def test_what_is_accepted_by_force_is_what_the_manifest_names(
    scanned: Scanned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shards of a file that had gone bad since were taken along; so were those that a killed scan had left."""
    corpus = tmp_path / "corpus"
    shutil.copytree(scanned.corpus, corpus)
    scanned.corpus, scanned.output = corpus, tmp_path / "new"
    assert scanned.scan() == 0
    (corpus / "a.parquet").write_bytes(b"PAR1")
    assert scanned.scan() == 1
    assert attributes(scanned.output).num_rows == 82
    assert scanned.accept("--force") == 0
    baseline = json.loads((scanned.output / "baseline.json").read_text())
    assert baseline["tally"]["rows"] == 42
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtdscan.pipeline.scanning._launch", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert scanned.scan() == 1
    capsys.readouterr()
    assert scanned.accept("--force") == 2
    assert "has no manifest.parquet, for its scan ended early; run it again" in capsys.readouterr().err


def test_a_file_that_is_left_out_is_told_and_may_fail_a_gate(
    scanned: Scanned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A nightly scan lost a source to a torn file, and ended with 0 and an empty stderr."""
    corpus = tmp_path / "corpus"
    shutil.copytree(scanned.corpus, corpus)
    scanned.corpus, scanned.output = corpus, tmp_path / "new"
    (corpus / "a.parquet").write_bytes(b"PAR1")
    gate = ("gates.bad_inputs.max=0", "on_bad_file=quarantine")
    assert scanned.scan(*gate) == 3
    assert "left out: " in capsys.readouterr().err
    assert scanned.gate() == 3
    assert scanned.gate("--set", "gates.bad_inputs.max=1") == 0
    assert 'rtdscan_gate_passed{gate="bad_inputs"} 0.0' in metrics_of(scanned.output)


def test_another_model_is_not_compared(scanned: Scanned, capsys: pytest.CaptureFixture[str]) -> None:
    assert scanned.accept() == 0
    baseline = json.loads((scanned.output / "baseline.json").read_text())
    baseline["model_digest"] = "0" * 32
    (scanned.output / "baseline.json").write_text(json.dumps(baseline))
    assert scanned.gate(*(part for gate in DRIFT for part in ("--set", gate)), "--json") == 0
    said = capsys.readouterr()
    told = json.loads(said.out[said.out.index("{") :])
    outcomes = {gate["metric"]: gate["verdict"] for gate in told["gates"] if gate["metric"].startswith("drift")}
    assert outcomes == {
        "drift.ks_score": "not comparable",
        "drift.ks_length": "passed",
        "drift.embedding_shift": "not comparable",
    }
    assert not told["drift"]["psi_score"]["comparable"]
    assert "not judged: drift.ks_score, drift.embedding_shift: not comparable: scored by another model" in said.err


def test_a_damaged_baseline_is_told_before_the_scan(scanned: Scanned, capsys: pytest.CaptureFixture[str]) -> None:
    (scanned.output / "baseline.json").write_text('{"format": 1}')
    assert scanned.scan() == 2
    assert "baseline.json is damaged; remove it" in capsys.readouterr().err
    assert (scanned.output / "run.json").exists()


# notify


class Hook(BaseHTTPRequestHandler):
    """Keeps what it gets; the path says what it answers."""

    got: list[tuple[str, dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, dict(self.headers), body))
        if self.path.startswith("/slow"):
            for _ in range(100):  # a byte now and then: no single step takes long
                self.wfile.write(b"H")
                self.wfile.flush()
                time.sleep(0.1)
        self.send_response(int(self.path.rpartition("/")[2]) if self.path[-3:].isdigit() else 200)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """A server on this machine: its address, and what it got."""

    class Own(Hook):
        got: list[tuple[str, dict[str, str], bytes]] = []  # noqa: RUF012

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Who waits no longer is what is tested."""

    server = Quiet(("127.0.0.1", 0), Own)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", Own.got
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("error", "events"),
    [
        (UserError("INPUT does not exist"), ["failed"]),
        (EngineError("no such device"), ["failed"]),
        (ZeroDivisionError("a bug"), ["failed"]),
        (MemoryError(), ["failed"]),
        (KeyboardInterrupt(), ["failed"]),
        (BusyError("another scan"), []),
        (Submitted("job 7"), []),
    ],
)
def test_a_scan_that_ends_early_is_told_however_it_ends(
    scanned: Scanned,
    hook: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    events: list[str],
) -> None:
    """Only errors with exit status 1 were: not a wrong INPUT, not a bug, not the SIGTERM of a job's time-out."""

    def scan(*_: object, **__: object) -> None:
        raise error

    address, got = hook
    config = tmp_path / "c.yaml"
    config.write_text(f"notify: {{url: 'http://{address}/'}}\n", encoding="utf-8")
    monkeypatch.setattr("rtdscan.pipeline.scanning.scan", scan)
    assert scanned.scan(config=config) in (0, 1, 2, 4)
    assert [json.loads(body)["event"] for _, _, body in got] == events


@pytest.mark.timeout(60)
def test_a_scan_that_is_stopped_tells_and_ends_soon(scanned: Scanned, hook: Any, tmp_path: Path) -> None:
    """SIGTERM as a job's time-out sends it, to the process; whom it tells never answers."""
    address, got = hook
    config = tmp_path / "c.yaml"
    config.write_text(f"notify: {{url: 'http://{address}/slow', timeout: 60}}\n", encoding="utf-8")
    words = ["scan", str(scanned.corpus), str(scanned.output), "--config", str(config)]
    code = (
        "import sys, time; from rtdscan.pipeline import scan as program, scanning, __main__\n"
        "program.STOPPED_SECONDS = 0.5\n"
        "def scan(*_, **__):\n    print('at it', flush=True); time.sleep(50)\n"
        "scanning.scan = scan; sys.exit(__main__.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"at it\n"
        child.terminate()
        _, told = child.communicate(timeout=40)  # notify.timeout is longer
    assert child.returncode == 1
    assert b"interrupted; run the same command again" in told
    assert [json.loads(body)["event"] for _, _, body in got] == ["failed"]


def full_disk() -> TextIO:
    return open("/dev/full", "w", encoding="utf-8")


def reader_that_went_away() -> TextIO:
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w", encoding="utf-8")


def latin_1() -> TextIO:
    """What PYTHONIOENCODING=latin-1 makes of stdout: no block of the summary's histogram is in it."""
    return io.TextIOWrapper(io.BytesIO(), encoding="latin-1", write_through=True)


@pytest.mark.parametrize(
    ("program", "form", "stdout"),
    [
        ("scan", "text", full_disk),
        ("scan", "text", latin_1),
        ("scan", "text", lambda: None),
        ("scan", "--json", reader_that_went_away),
        ("gate", "text", full_disk),
        ("gate", "text", reader_that_went_away),
        ("gate", "--json", full_disk),
        ("gate", "--json", latin_1),
    ],
)
def test_a_stdout_that_takes_nothing_hides_no_failed_gate(
    scanned: Scanned,
    hook: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    program: str,
    form: str,
    stdout: Callable[[], TextIO],
) -> None:
    """It became exit status 1, as a crash would, and nobody was told."""
    address, got = hook
    config = tmp_path / "c.yaml"
    config.write_text(f"notify: {{url: 'http://{address}/'}}\ngates: {{rows: {{max: 1}}}}\n", encoding="utf-8")
    more = ["--config", str(config), *([form] if form == "--json" else [])]
    own = [str(scanned.corpus)] if program == "scan" else []
    sets = options(scanned.bundle) if program == "scan" else []
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", stdout())
        assert main([program, *own, str(scanned.output), *sets, *more]) == 3
        shown = sys.stdout
        if shown is not None:
            shown.flush()  # Python does so at its exit, and a failure then is status 120
    ((_, _, body),) = got
    assert json.loads(body)["event"] == "gate"
    told = capfd.readouterr().err
    assert ("No space left on device; the work is done" in told) == (stdout is full_disk)
    assert "Traceback" not in told
    if isinstance(shown, io.TextIOWrapper) and isinstance(shown.buffer, io.BytesIO):
        text = shown.buffer.getvalue().decode("latin-1")
        assert json.loads(text)["passed"] is False if form == "--json" else "rows" in text


TOLD = message("gate", output="s3://me:hunter2@bucket/out", tally=Tally.zero())


def test_a_webhook_is_told_counts_only(
    scanned: Scanned, hook: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, got = hook
    config = tmp_path / "c.yaml"
    config.write_text(f"notify: {{url: 'http://{address}/T0/hunter2'}}\ngates: {{rows: {{max: 500}}}}\n")
    assert scanned.scan(config=config) == 0
    assert got == []
    sets = ("gates.rows.max=1", "gates.by_source={metric: rows, by: source, max: 27}", "log.text=true")
    assert scanned.scan(*sets, config=config) == 3
    ((path, headers, body),) = got
    assert path == "/T0/hunter2"
    assert headers["Content-Type"] == "application/json"
    told = json.loads(body)
    assert told["event"] == "gate"
    assert told["output"] == str(scanned.output)
    assert told["metrics"]["rows"] == 82
    assert told["gates"][0]["value"] == 82
    assert told["gates"][1]["verdicts"] == {"failed": 1, "passed": 2}  # 28, 27 and 27 rows
    for word in ("s0", "s1", "house", "garden", "a.parquet", ".parquet"):
        assert word not in body.decode()
    assert "hunter2" not in (scanned.output / "run.json").read_text()
    assert scanned.run()["config"]["notify"]["url"] == f"http://{address}/***"
    said = capsys.readouterr()
    assert "hunter2" not in said.out + said.err
    assert scanned.gate("--config", str(config), "--set", "gates.rows.max=1") == 3
    assert len(got) == 2
    assert scanned.gate() == 3
    assert len(got) == 2, "what run.json says of notify is no address"


def test_an_unfinished_scan_is_told(scanned: Scanned, tmp_path: Path, hook: Any) -> None:
    address, got = hook
    corpus = tmp_path / "corpus"
    shutil.copytree(scanned.corpus, corpus)
    (corpus / "torn.parquet").write_bytes(b"PAR1")
    scanned.corpus, scanned.output = corpus, tmp_path / "new"
    config = tmp_path / "c.yaml"
    config.write_text(f"notify: {{url: 'http://{address}/'}}\ngates: {{rows: {{max: 1}}}}\n")
    assert scanned.scan(config=config) == 1
    told = json.loads(got[0][2])
    assert (told["event"], told["bad_inputs"]) == ("unfinished", 1)


@pytest.mark.timeout(30)  # and not as long as who is told takes
@pytest.mark.parametrize(
    ("path", "warning"),
    [
        ("/500", "status 500"),
        ("/302", "status 302"),  # not followed: nobody named that address
        ("/slow", "no answer in 0.5 s"),
    ],
)
def test_a_webhook_that_fails_is_a_warning(
    hook: Any, path: str, warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address, got = hook
    notify(NotifySettings(url=f"http://me:hunter2@{address}{path}", timeout=0.5), TOLD)
    assert capsys.readouterr().err == f"rtdscan: warning: notify: http://{address}/***: {warning}; nobody was told\n"
    assert [where for where, _, _ in got] == [path]
    assert got[0][1]["Authorization"] == "Basic bWU6aHVudGVyMg=="  # me:hunter2
    assert "hunter2" not in got[0][2].decode()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/hunter2", "http://127.0.0.1:hunter2/x", "http://a b/hunter2"])
def test_a_webhook_that_is_not_there_is_a_warning(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    notify(NotifySettings(url=url, timeout=5), TOLD)
    said = capsys.readouterr().err
    assert said.startswith("rtdscan: warning: notify: http://")
    assert said.count("\n") == 1
    assert "/hunter2" not in said


def test_the_address_may_come_from_the_environment(
    hook: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, got = hook
    monkeypatch.delenv("HOOK", raising=False)
    notify(NotifySettings(url_env="HOOK"), TOLD)
    assert "environment variable HOOK: holds no URL" in capsys.readouterr().err
    monkeypatch.setenv("HOOK", f"http://{address}/")
    notify(NotifySettings(url_env="HOOK"), TOLD)
    assert len(got) == 1
    assert capsys.readouterr().err == ""


def test_a_program_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys; print('noise'); open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
    notify(NotifySettings(command=(sys.executable, "-c", code, str(tmp_path / "got"))), TOLD)
    assert json.loads((tmp_path / "got").read_bytes()) == TOLD
    assert capfd.readouterr() == ("", ""), "stdout holds our results only"


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("command", "warning"),
    [
        (("/no/such/program", "hunter2"), "/no/such/program: No such file or directory"),
        (("sh", "-c", "exit 7 # hunter2"), "sh: exit status 7"),
        (("sh", "-c", "sleep 60 & sleep 60 # hunter2"), "sh: stopped after 0.5 s"),
    ],
)
def test_a_program_that_fails_is_a_warning(
    command: tuple[str, ...], warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    notify(NotifySettings(command=command, timeout=0.5), TOLD)
    assert capsys.readouterr().err == f"rtdscan: warning: notify: {warning}; nobody was told\n"


def test_nobody_is_told_unless_asked(monkeypatch: pytest.MonkeyPatch, scanned: Scanned) -> None:
    monkeypatch.setattr("rtdscan.pipeline.notify._post", lambda *_, **__: pytest.fail("a connection"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program"))
    assert scanned.gate("--set", "gates.rows.max=1", "--set", "gates.rows.min=0") == 3


def test_verdicts_are_counted_by_gate() -> None:
    found = [
        Verdict("g", "rows", "<= 1", "source", "secret name", 5.0, "failed"),
        Verdict("g", "rows", "<= 1", "source", "other", 1.0, "passed"),
        Verdict("h", "rows", "<= 1", None, None, 6.0, "failed"),
    ]
    told = message("gate", output="o", verdicts=found)["gates"]
    assert "secret" not in json.dumps(told)
    assert [(gate["gate"], gate["value"], gate["verdicts"]) for gate in told] == [
        ("g", None, {"failed": 1, "passed": 1}),
        ("h", 6.0, {"failed": 1}),
    ]
