"""WriteAttributes: a unit's shard, written whole; what goes on is only its result."""

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam

from rtdscan.transforms import attempts
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import ScoredBatch, UnitResult
from rtdscan.transforms.shards import fingerprint_digest, write_shard


@dataclass(eq=False, kw_only=True)
class WriteAttributes(beam.PTransform):
    """ScoredBatch -> UnitResult."""

    job: Job

    def expand(self, batches: "beam.PCollection[ScoredBatch]") -> "beam.PCollection[UnitResult]":
        """Wire `write_attributes`."""
        return batches | "Write" >> beam.ParDo(_Write(self.job))


class _Write(beam.DoFn):
    def __init__(self, job: Job) -> None:
        self._job = job

    def process(self, batch: ScoredBatch) -> Iterator[UnitResult]:
        yield write_attributes(batch, self._job)


def write_attributes(batch: ScoredBatch, job: Job) -> UnitResult:
    """Write the shard, then remove the note that the unit is in progress."""
    write_shard(batch, output=job.output)
    attempts.end(job, batch.unit)
    return UnitResult(
        unit=batch.unit,
        outcome=batch.outcome,
        fingerprint=fingerprint_digest(batch.fingerprint),
        tally=batch.tally,
        seconds=time.monotonic() - batch.started,
        worker=f"{socket.gethostname()}:{os.getpid()}",
    )
