"""Nothing relies on where a bundle begins or ends, on how often it runs, or on being alone."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bundles import Abuse
from corpora import options, run_here, shards, write_corpus

from rtdscan.pipeline.__main__ import main

LAUNCHER = "rtdscan.pipeline.launchers.local.run_local"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_bundles_cut_at_random_replayed_and_run_twice_at_once_change_nothing(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    corpus, abuse = write_corpus(tmp_path / "corpus"), Abuse(seed)
    sets = options(tiny_bundle, "unit.text_mb=0.0004", "tally.by=[source]")
    for name, launcher in (("plain", run_here), ("abused", abuse.run)):
        monkeypatch.setattr(LAUNCHER, launcher)
        assert main(["scan", str(corpus), str(tmp_path / name), *sets]) == 0
    units = Counter(result.unit.shard for result in abuse.results)
    # Not a trivial case: bundles of several units, some lost after half of their output, some run twice at once.
    assert abuse.bundles >= 6
    assert len(units) > abuse.bundles
    assert min(abuse.replayed, abuse.doubled) >= 3
    assert max(units.values()) == 2
    plain, abused = tmp_path / "plain", tmp_path / "abused"
    assert shards(abused) == shards(plain)
    assert set(shards(abused)) == set(units)
    runs = [json.loads((output / "run.json").read_text()) for output in (plain, abused)]
    assert runs[0]["tally"] == runs[1]["tally"]
    assert runs[1]["tally"]["rows"] == 82
    manifests = [pq.read_table(output / "manifest.parquet").drop(["seconds", "worker"]) for output in (plain, abused)]
    assert manifests[0].num_rows == len(units)
    columns = [name for name in manifests[0].column_names if name != "status"]
    assert manifests[0].select(columns).equals(manifests[1].select(columns))
    statuses = Counter(manifests[1]["status"].to_pylist())
    assert set(statuses) == {"scored", "current"}  # current: scored by a bundle whose results were lost
    assert statuses["current"] < len(units)
    assert not (abused / ".attempts").exists()
