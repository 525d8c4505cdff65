"""ReadDocuments: a work unit's rows as Arrow, unless its shard is already current."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from rtdscan.transforms import attempts, storage
from rtdscan.transforms.job import Job, is_current, reuse
from rtdscan.transforms.records import DocumentBatch, UnitResult, WorkUnit
from rtdscan.transforms.shards import read_shard, read_stamp
from rtdscan.transforms.units import FileProblem, content_digest, read_unit

DONE = "done"
"""Tag of units that need no scoring: current or bad."""


@dataclass(eq=False, kw_only=True)
class ReadDocuments(beam.PTransform):
    """WorkUnit -> DocumentBatch, with units that need no more work under the tag `done`.

    The shard is looked at again here: engines retry bundles and restart regions long after the plan was made.
    """

    job: Job

    def expand(self, units):  # type: ignore[no-untyped-def]  # Beam warns of annotations on several outputs
        """Wire `read_documents`."""
        return units | "Read" >> beam.ParDo(_Read(self.job)).with_outputs(DONE, main="batches")


class _Read(beam.DoFn):
    def __init__(self, job: Job) -> None:
        self._job = job

    def process(self, unit: WorkUnit) -> Iterator[DocumentBatch | TaggedOutput[Literal["done"], UnitResult]]:
        read = read_documents(unit, self._job)
        yield TaggedOutput(DONE, read) if isinstance(read, UnitResult) else read


def read_documents(unit: WorkUnit, job: Job) -> DocumentBatch | UnitResult:
    """Read a unit and find out what has to be done with it.

    Returns:
        The unit's rows with what is to be done; or its result where nothing is (current, or unreadable).
    """
    started = time.monotonic()
    shard = storage.join(job.output, unit.shard)
    stamp = read_stamp(shard)
    found = stamp.fingerprint if stamp else None
    if stamp and is_current(found, job, unit):
        return UnitResult(unit, "current", stamp.digest, stamp.tally)
    attempt = attempts.begin(job, unit)
    if attempt.hopeless:
        attempts.end(job, unit)
        return UnitResult(unit, "bad", "", reason=f"{attempt.deaths} workers died while reading {unit.shard}")
    carried = job.settings.output.columns
    try:
        rows = read_unit(unit, text=job.text, id=job.id, columns=(*carried, *job.by), absent=job.absent)
    except FileProblem as problem:
        attempts.end(job, unit)
        return UnitResult(unit, "bad", "", seconds=time.monotonic() - started, reason=str(problem))
    fingerprint = job.fingerprint(unit, text=content_digest(rows.column(0)))
    outcome = reuse(found, fingerprint, carries=bool(job.id or carried or job.by))
    previous = None if outcome == "scored" else _rows_of(shard)
    counted = rows.num_columns - len(job.by)
    return DocumentBatch(
        unit=unit,
        fingerprint=fingerprint,
        outcome="scored" if previous is None else outcome,
        table=rows.select(range(counted)),
        previous=previous,
        spelled=stamp.tally.spelled if stamp else 0,
        listed=stamp.tally.listed if stamp else 0,
        suggesting=stamp.suggesting if stamp else "",
        careful=attempt.careful,
        failed=frozenset(attempt.failed),
        started=started,
        by=rows.select(range(counted, rows.num_columns)) if job.by else None,
    )


def _rows_of(shard: str) -> pa.Table | None:
    """A shard's rows; None where its footer is sound but they are not."""
    try:
        return read_shard(shard)
    except (pa.ArrowException, OSError):
        return None
