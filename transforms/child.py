"""What a process that was given units does with them: the same in a local child and in a Ray task.

What is run over the units is up to the job that it is given: see `graph_of`. Only what that needs is imported: Beam's
RunInference brings torch along, which a cleaning has no use for (4 s and 0.3 GB a process).
"""

import os
import uuid
from collections.abc import Callable, Sequence

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from rtdscan.transforms.cleaning.job import CleanJob
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.job import Job, Task
from rtdscan.transforms.records import Done, UnitResult, WorkUnit
from rtdscan.transforms.results import done_of

_RECEIVERS: dict[str, Callable[[Done], None]] = {}
"""Who gets the results of each pipeline that runs in this process: Beam's runner copies functions and returns none."""


def graph_of(job: Task) -> beam.PTransform:
    """What a job does with units: WorkUnit -> UnitResult."""
    if isinstance(job, Job):
        from rtdscan.transforms.graph import ScanUnits

        return ScanUnits(job=job)
    if isinstance(job, CleanJob):
        from rtdscan.transforms.clean import CleanUnits, HashUnits

        return CleanUnits(job=job) if job.step == "clean" else HashUnits(job=job)
    raise TypeError(f"{type(job).__name__} is no job over units")


def prepare(job: Task) -> None:
    """Load the model, if any, and run it once, so that what fails or dies in it does so before any unit was begun.

    Raises:
        RtdscanError: The model, engine or precision that was resolved is not to be had here.
    """
    if isinstance(job, Job):
        from rtdscan.transforms.infer import ScorerHandler

        ScorerHandler(job).load_model().score_rows(pa.table({"text": pa.array([b"a"], pa.large_binary())}))


def run_units(
    units: Sequence[WorkUnit], job: Task, *, on_done: Callable[[Done], None] = lambda done: None
) -> list[Done]:
    """Run a job's graph over units, in this process.

    Args:
        units: A short list.
        job: The resolved scan, or another pass over units.
        on_done: Called for each unit once its shard is written.

    Returns:
        What became of each unit, in no particular order.

    Raises:
        RtdscanError: A step failed; the message is the error's own line, without Beam's tracebacks.
        MemoryError: This process has not enough memory for one of the units.
    """
    results: list[Done] = []

    def receive(done: Done) -> None:
        results.append(done)
        on_done(done)

    run = uuid.uuid4().hex
    _RECEIVERS[run] = receive
    try:
        _run(units, job, run)
    except Exception as error:
        line = _own_line(error)
        memory = isinstance(error, MemoryError) or line.startswith("MemoryError")
        raise MemoryError(line) if memory else RtdscanError(line) from error
    finally:
        del _RECEIVERS[run]
    return results


def _run(units: Sequence[WorkUnit], job: Task, run: str) -> None:
    # Named in full: `DirectRunner` would first try to download another engine.
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
        # For artifacts of other languages, of which there are none; a worker that is killed would leave it behind.
        os.rmdir(pipeline.local_tempdir)
        (
            pipeline
            | "Units" >> beam.Create(list(units), reshuffle=False)  # pcoll: WorkUnit
            | "Run" >> graph_of(job)  # pcoll: UnitResult
            | "Tell" >> beam.Map(_tell, run)  # pcoll: None
        )


def _tell(result: UnitResult, run: str) -> None:
    _RECEIVERS[run](done_of(result))


def _own_line(error: Exception) -> str:
    """What an error says, without what Beam added on the way; with its type unless it is one of ours."""
    text = str(error)
    if isinstance(error, RuntimeError):  # Beam could not add to the message: `Traceback … module.Type: message`
        text = ([line for line in text.splitlines() if line.strip()] or ["RuntimeError"])[-1]
    text = text.partition(" [while running")[0]
    if isinstance(error, RtdscanError):
        return text
    if not isinstance(error, RuntimeError):
        return f"{type(error).__name__}: {text}"
    kind, colon, said = text.partition(": ")
    name = kind.rpartition(".")[2]
    return f"{name}: {said}" if colon and name.isidentifier() else text
