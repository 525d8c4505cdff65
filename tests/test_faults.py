"""The fault campaign: a short one holds, and its comparison sees what it is there to see."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from corpora import options, run_here, shards

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import faults, measure
from rtdscan.pipeline.__main__ import main


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_campaign_loses_nothing() -> None:
    wanted = ["--faults", 3, "--only", "kill all", "kill worker", "full disk", "--runners", "local", "--json"]
    command = measure.python("benchmarks.faults", *wanted)
    done = subprocess.run(command, cwd=measure.ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert sorted(row["fault"] for row in rows) == ["full disk", "kill all", "kill worker"]
    assert [row["tried"] for row in rows] == [1, 1, 1]
    troubles = ("hangs", "lost_rows", "double_rows", "other_bytes", "unfinished")
    assert not [row for row in rows if any(row[name] for name in troubles)]


@pytest.fixture
def outputs(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """(an undisturbed scan, another one of a copy of its corpus)."""
    monkeypatch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
    faults.write_corpus(tmp_path / "corpus", seed=1)
    shutil.copytree(tmp_path / "corpus", tmp_path / "copy")
    for corpus, output in (("corpus", "expected"), ("copy", "out")):
        sets = options(tiny_bundle, "input.id=null", "unit.text_mb=0.01")
        assert main(["scan", str(tmp_path / corpus), str(tmp_path / output), *sets]) == 0
    return tmp_path / "expected", tmp_path / "out"


def test_the_comparison_sees_what_is_lost_double_or_other(outputs: tuple[Path, Path]) -> None:
    expected, output = outputs
    row = faults.Row()
    faults.compare(output, expected, row)
    assert row == faults.Row()
    first, second, third, *_ = sorted(shards(output))
    rows = pq.read_metadata(output / first).num_rows
    (output / first).unlink()
    shutil.copy(output / second, (output / second).with_name("rg00099-row000000000.parquet"))
    table = pq.read_table(output / third, partitioning=None)
    scores = table["n_words"].to_numpy() + 1
    changed = table.set_column(table.schema.get_field_index("n_words"), "n_words", [scores])
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), output / third)
    faults.compare(output, expected, row)
    assert (row.lost_rows, row.double_rows, row.other_bytes) == (rows, pq.read_metadata(output / second).num_rows, 1)
    (output / "run.json").unlink()
    again = faults.Row()
    faults.compare(output, expected, again)
    assert again.unfinished == 1
