"""Hand a scan whole to a Beam runner by name: FlinkRunner, DataflowRunner, PortableRunner, FnApiRunner."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from rtdscan.transforms import storage
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.graph import ScanUnits
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, WorkUnit
from rtdscan.transforms.results import CollectResults, read_results


def run_beam(
    units: Sequence[WorkUnit],
    job: Job,
    *,
    runner: str,
    options: Mapping[str, Any],
    arguments: Sequence[str] = (),
    on_done: Callable[[Done], None] = lambda done: None,
) -> list[Done]:
    """Scan units on a Beam runner and wait for it.

    Args:
        units: What to scan.
        job: The resolved scan.
        runner: Name of the runner.
        options: Pipeline options by name, from the config.
        arguments: Pipeline options as on a command line; they win.
        on_done: Called for every unit, once all are done.

    Raises:
        RtdscanError: The pipeline failed.
    """
    path = storage.join(job.output, ".attempts", job.run, "results.jsonl")
    flags = PipelineOptions([*arguments], runner=runner, **options)
    try:
        with beam.Pipeline(options=flags) as pipeline:
            build(pipeline, units, job, results=path)
    except RuntimeError as error:
        raise RtdscanError(f"{runner}: the pipeline failed: {str(error).strip().splitlines()[-1]}") from error
    done = list(read_results(path))
    for one in done:
        on_done(one)
    return done


def build(root: beam.Pipeline, units: Sequence[WorkUnit], job: Job, *, results: str) -> None:
    """The whole graph. Units are spread before the fused stage; only results are gathered after it."""
    (
        root
        | "Units" >> beam.Create(list(units), reshuffle=False)  # pcoll: WorkUnit
        | "Spread" >> beam.Reshuffle()  # pcoll: WorkUnit
        | "Scan" >> ScanUnits(job=job)  # pcoll: UnitResult
        | "Results" >> CollectResults(path=results)
    )
