"""The scan's graph from units to results: the same one in a local child process, a Ray task and on a cluster."""

from dataclasses import dataclass

import apache_beam as beam

from rtdscan.transforms.infer import ScoreDocuments
from rtdscan.transforms.job import Job
from rtdscan.transforms.read import DONE, ReadDocuments
from rtdscan.transforms.records import UnitResult, WorkUnit
from rtdscan.transforms.write import WriteAttributes


def scan_units(units: "beam.PCollection[WorkUnit]", job: Job) -> "beam.PCollection[UnitResult]":
    """Read, score and write units.

    No document crosses a stage boundary: the three steps fuse into one stage.

    Args:
        units: What to scan.
        job: The resolved scan.

    Returns:
        One result a unit.
    """
    read = units | "ReadDocuments" >> ReadDocuments(job=job)  # pcoll: DocumentBatch
    written = (
        read.batches
        | "ScoreDocuments" >> ScoreDocuments(job=job)  # pcoll: ScoredBatch
        | "WriteAttributes" >> WriteAttributes(job=job)  # pcoll: UnitResult
    )
    return (written, read[DONE]) | "Results" >> beam.Flatten()  # pcoll: UnitResult


@dataclass(eq=False, kw_only=True)
class ScanUnits(beam.PTransform):
    """WorkUnit -> UnitResult; see `scan_units`."""

    job: Job

    def expand(self, units: "beam.PCollection[WorkUnit]") -> "beam.PCollection[UnitResult]":
        """Wire `scan_units`."""
        return scan_units(units, self.job)
