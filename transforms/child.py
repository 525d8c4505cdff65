"""What a process that was given units does with them: the same in a local child and in a Ray task."""

import uuid
from collections.abc import Callable, Sequence

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.graph import ScanUnits
from rtdscan.transforms.infer import ScorerHandler
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, UnitResult, WorkUnit
from rtdscan.transforms.results import done_of

MEMORY_ERRORS = ("MemoryError", "ArrowMemoryError")

_RECEIVERS: dict[str, Callable[[Done], None]] = {}
"""Who gets the results of each pipeline that runs in this process: Beam's runner copies functions and returns none."""


def prepare(job: Job) -> None:
    """Load the model and run it once, so that what fails or dies in it does so before any unit was begun.

    Raises:
        RtdscanError: The model, engine or precision that was resolved is not to be had here.
    """
    ScorerHandler(job).load_model().score(pa.table({"text": ["a"]}))


def run_units(
    units: Sequence[WorkUnit], job: Job, *, on_done: Callable[[Done], None] = lambda done: None
) -> list[Done]:
    """Run the scan's graph over units, in this process.

    Args:
        units: A short list.
        job: The resolved scan.
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
    except RuntimeError as error:  # what an error in a step becomes on its way through Beam
        line = _own_line(str(error))
        raise MemoryError(line) if line.startswith(MEMORY_ERRORS) else RtdscanError(line) from error
    finally:
        del _RECEIVERS[run]
    return results


def _run(units: Sequence[WorkUnit], job: Job, run: str) -> None:
    # Named in full: `DirectRunner` would first try to download another engine.
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
        (
            pipeline
            | "Units" >> beam.Create(list(units), reshuffle=False)  # pcoll: WorkUnit
            | "Scan" >> ScanUnits(job=job)  # pcoll: UnitResult
            | "Tell" >> beam.Map(_tell, run)  # pcoll: None
        )


def _tell(result: UnitResult, run: str) -> None:
    _RECEIVERS[run](done_of(result))


def _own_line(message: str) -> str:
    """The error's type and message out of `Traceback … module.Type: message [while running 'step']`."""
    line = [line for line in message.splitlines() if line.strip()][-1]
    line = line.partition(" [while running")[0]
    kind, colon, text = line.partition(": ")
    name = kind.rpartition(".")[2]
    if not colon or not name.isidentifier():
        return line
    return text if name in ("RtdscanError", "UserError", "EngineError") else f"{name}: {text}"
