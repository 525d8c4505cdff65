"""The shape of the graph: no document crosses a stage boundary, and Beam gives the numbers that it should."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from corpora import attributes, options, shards, write_corpus

from rtdscan.pipeline.config import ScanConfig, load_config
from rtdscan.pipeline.scanning import Prepared, prepare
from rtdscan.transforms import infer
from rtdscan.transforms.graph import scan_units
from rtdscan.transforms.read import read_documents
from rtdscan.transforms.records import DocumentBatch, Done, ScoredBatch, UnitResult
from rtdscan.transforms.results import read_results, write_results


@pytest.fixture
def prepared(tmp_path: Path, tiny_bundle: Path) -> Prepared:
    config = load_config(ScanConfig, sets=options(tiny_bundle)[1::2])
    return prepare([str(write_corpus(tmp_path / "corpus"))], str(tmp_path / "out"), config)


def fused_stages(pipeline: beam.Pipeline) -> list[set[str]]:
    """The pipeline as the runner would run it: transforms by stage."""
    _, stages = FnApiRunner().create_stages(pipeline.to_runner_api())
    return [{transform.unique_name for transform in stage.transforms} for stage in stages]


def stage_of(stages: list[set[str]], name: str) -> int:
    found = [at for at, names in enumerate(stages) if any(name in one for one in names)]
    assert len(found) == 1, (name, stages)
    return found[0]


def crossing(stages: list[set[str]]) -> bool:
    """Whether reading, the network and writing are spread over several stages."""
    return (
        len(
            {stage_of(stages, name) for name in ("ReadDocuments/Read", "/BeamML_RunInference", "WriteAttributes/Write")}
        )
        > 1
    )


def build(prepared: Prepared, *, shuffle: bool = False) -> beam.Pipeline:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    units = pipeline | beam.Create(list(prepared.plan.units))
    if shuffle:
        units = units | "First" >> beam.Reshuffle()
    scan_units(units, prepared.job)
    return pipeline


def test_documents_stay_in_one_stage(prepared: Prepared) -> None:
    assert not crossing(fused_stages(build(prepared)))
    assert not crossing(fused_stages(build(prepared, shuffle=True)))


def test_the_check_above_can_fail(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtdscan.transforms.infer import ScoreDocuments

    plain = ScoreDocuments.expand

    def shuffled(self, batches):
        return plain(self, batches | "Crossing" >> beam.Reshuffle())

    monkeypatch.setattr(ScoreDocuments, "expand", shuffled)
    assert crossing(fused_stages(build(prepared)))


def test_no_step_carries_a_resource_hint(prepared: Prepared) -> None:
    """A hint on one step alone breaks fusion; accelerators are options of the job."""
    environments = build(prepared).to_runner_api().components.environments.values()
    assert not any(environment.resource_hints for environment in environments)


def test_the_whole_graph_through_beam(prepared: Prepared) -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    results = scan_units(pipeline | beam.Create(list(prepared.plan.units)), prepared.job)
    results | beam.Map(_check)
    done = pipeline.run()
    done.wait_until_finish()
    counters = {c.key.metric.name: c.committed for c in done.metrics().query()["counters"]}
    assert counters["num_inferences"] == 82  # documents, not units
    output = Path(prepared.job.output)
    assert len(shards(output)) == len(prepared.plan.units) >= 8
    assert attributes(output).num_rows == 82


def _check(result: UnitResult) -> None:
    assert isinstance(result, UnitResult)
    assert result.outcome == "scored"
    assert result.tally.rows == result.unit.rows
    assert result.seconds > 0


def test_only_small_elements_leave_the_stage() -> None:
    """A UnitResult holds neither texts nor tables."""
    assert not {"table", "attributes"} & set(UnitResult.__slots__)
    assert "table" in DocumentBatch.__slots__
    assert "attributes" in ScoredBatch.__slots__


def test_bundles_in_threads_are_scored_one_after_the_other(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flink's and Dataflow's workers run several bundles in threads of one process, with one scorer."""
    inside, most = [], []
    score = infer.score_documents

    def watched(batch: DocumentBatch, **more):
        inside.append(batch)
        most.append(len(inside))
        time.sleep(0.02)
        try:
            return score(batch, **more)
        finally:
            inside.remove(batch)

    monkeypatch.setattr(infer, "score_documents", watched)
    handler = infer.ScorerHandler(prepared.job)
    model = handler.load_model()
    batches = [read_documents(unit, prepared.job) for unit in prepared.plan.units]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda batch: handler.run_inference(batch, model)[0].attributes, batches))
    assert max(most) == 1
    assert [len(table) for table in found] == [unit.rows for unit in prepared.plan.units]


def test_of_two_results_of_a_unit_the_one_that_did_the_work_stays(tmp_path: Path) -> None:
    worked = Done("a", "scored", "f", 9.0, "", "here:2")
    idle = Done("a", "current", "f", 0.1, "", "here:1")
    assert list(read_results(write_results([idle, worked], str(tmp_path / "results.jsonl")))) == [worked]
