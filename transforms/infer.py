"""ScoreDocuments: Beam's RunInference around `Scorer`, a whole unit as one batch.

Windows, length sorting and batching happen inside the scorer, where all documents of the unit are visible.
"""

import gc
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference

from rtdscan.transforms import attempts, pace
from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.engines.quantised import Ranges
from rtdscan.transforms.errors import EngineError, UserError
from rtdscan.transforms.generator import generator_digest
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import DocumentBatch, ScoredBatch
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import ScoreSettings
from rtdscan.transforms.tally import tally_attributes

_SCORING = threading.Lock()
"""One unit at a time in a process: where bundles run in threads (Flink's, Dataflow's harness) several at once would
take the memory of several."""


@dataclass(eq=False, kw_only=True)
class ScoreDocuments(beam.PTransform):
    """DocumentBatch -> ScoredBatch."""

    job: Job

    def expand(self, batches: "beam.PCollection[DocumentBatch]") -> "beam.PCollection[ScoredBatch]":
        """Wire RunInference."""
        return batches | "RunInference" >> RunInference(ScorerHandler(self.job))


class ScorerHandler(ModelHandler):
    """Tells RunInference how to load and call a Scorer. A batch is one DocumentBatch, whose len() is its documents."""

    def __init__(self, job: Job) -> None:
        """Keep the job; nothing is loaded before a worker asks."""
        self._job = job

    def load_model(self) -> Scorer:
        """The process's scorer for this job; loaded once a process, however many pipelines run in it."""
        job = self._job
        return load_scorer(job.settings.model_dump_json(), job.bundle_digest, job.ranges, job.generator)

    def run_inference(
        self, batch: DocumentBatch, model: Scorer, inference_args: dict[str, Any] | None = None
    ) -> list[ScoredBatch]:
        """Score one unit. A list, not a generator: RunInference guards the call, not the iteration."""
        with _SCORING:
            return [score_documents(batch, scorer=model, job=self._job)]

    def should_skip_batching(self) -> bool:
        """Units come whole."""
        return True

    def get_num_bytes(self, batch: DocumentBatch) -> int:
        """Bytes of the batch, for metrics; the default would pickle it."""
        return int(batch.table.nbytes)

    def get_metrics_namespace(self) -> str:
        """Namespace of RunInference's metrics."""
        return "rtdscan"

    def validate_inference_args(self, inference_args: dict[str, Any] | None) -> None:
        """Accept none."""
        if inference_args:
            raise ValueError(f"ScoreDocuments takes no inference arguments, got {sorted(inference_args)}")


def score_documents(batch: DocumentBatch, *, scorer: Scorer, job: Job) -> ScoredBatch:
    """Score a unit, or make its attributes again from stored ones where that serves."""
    # The scorer sees the settings of this job, whatever it was loaded with.
    scorer = scorer.with_settings(job.settings)
    attempt = attempts.current(job, batch.unit)

    def on_document(row: int | None) -> None:
        attempts.note_row(job, batch.unit, attempt, row)

    spelled, listed = batch.spelled, batch.listed

    def on_listed(*counts: int) -> None:
        nonlocal spelled, listed
        spelled, listed = counts

    if batch.outcome == "restamped" and batch.previous is not None:
        attributes = scorer.restamp(batch.previous, batch.table, first_row=batch.unit.first_row)
    elif batch.outcome == "rewritten" and batch.previous is not None:
        hold = bool(batch.suggesting) and batch.suggesting == job.suggesting
        attributes = scorer.rewrite(batch.previous, batch.table, first_row=batch.unit.first_row, hold=hold)
    else:
        attributes = scorer.score_rows(
            batch.table,
            first_row=batch.unit.first_row,
            failed=batch.failed,
            on_document=on_document if batch.careful else None,
            on_tokens=pace.tell,
            on_listed=on_listed,
        )
    tally = tally_attributes(attributes, file=batch.unit.file.relative, by=batch.by)
    tally = replace(tally, spelled=spelled, listed=listed)
    return ScoredBatch(
        batch.unit, batch.fingerprint, batch.outcome, attributes, tally, batch.started, suggesting=job.suggesting
    )


@lru_cache(maxsize=1)
def load_scorer(
    settings: str, bundle_digest: str, ranges: Ranges | None = None, generator: str | None = None
) -> Scorer:
    """Load a scorer and check that this worker has the very bundle that the launcher resolved.

    Raises:
        EngineError: The model on this worker, or its generator where that is used, has another digest; or this worker
            can't run what the launcher chose.
    """
    parsed = ScoreSettings.model_validate_json(settings)
    bundle = load_bundle(parsed.model)
    if bundle.digest != bundle_digest:
        raise EngineError(
            f"model {parsed.model} on this worker has digest {bundle.digest}, but the scan was started with"
            f" {bundle_digest}: give every worker the same model"
        )
    if parsed.suggest.reads and generator_digest(bundle) != generator:
        raise EngineError(
            f"model {parsed.model} on this worker has another generator than where the scan was started: give every "
            "worker the same model"
        )
    try:
        scorer = Scorer.from_bundle(bundle, settings=parsed, ranges=ranges)
    except UserError as error:  # the launcher has resolved it, so that the scan has begun: this worker is at fault
        raise EngineError(f"a worker can't run what the scan was started with: {error}") from error
    # What is loaded stays: the collector would look through it again and again, .2 s each time, 1 % of a scan in int8.
    gc.freeze()
    return scorer
