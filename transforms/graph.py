"""The scan's graph from units to results: the same one in a local child process, a Ray task and on a cluster."""

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
