"""What a process that was given units does with them: the same in a local child and in a Ray task."""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.graph import scan_units
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, UnitResult, WorkUnit


def run_units(units: Sequence[WorkUnit], job: Job) -> list[Done]:
    """Run the scan's graph over units, in this process.

    Args:
        units: A short list.
        job: The resolved scan.

    Returns:
        What became of each unit, in no particular order.

    Raises:
        RtdscanError: A step failed; the message is the error's own line, without Beam's tracebacks.
    """
    try:
        return _run(units, job)
    except RuntimeError as error:  # what an error in a step becomes on its way through Beam
        raise RtdscanError(_own_line(str(error))) from error


def _run(units: Sequence[WorkUnit], job: Job) -> list[Done]:
    with tempfile.TemporaryDirectory(prefix="rtdscan-") as folder:
        path = os.path.join(folder, "results.jsonl")
        # Named in full: `DirectRunner` would first try to download another engine.
        with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
            (
                pipeline
                | "Units" >> beam.Create(list(units), reshuffle=False)  # pcoll: WorkUnit
                | "Scan" >> _Scan(job=job)  # pcoll: UnitResult
                | "Collect" >> beam.ParDo(_Collect(path))
            )
        return list(_collected(path))


@dataclass(eq=False, kw_only=True)
class _Scan(beam.PTransform):  # type: ignore[misc]
    job: Job

    def expand(self, units: "beam.PCollection[WorkUnit]") -> "beam.PCollection[UnitResult]":
        return scan_units(units, self.job)


class _Collect(beam.DoFn):  # type: ignore[misc]
    """Append results to a file of this machine: the runner works in this very process and gives nothing back."""

    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, result: UnitResult) -> None:
        done = {
            "shard": result.unit.shard,
            "outcome": result.outcome,
            "fingerprint": result.fingerprint,
            "seconds": result.seconds,
            "reason": result.reason,
            "worker": result.worker,
        }
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(done) + "\n")


def _collected(path: str) -> Iterator[Done]:
    if Path(path).exists():
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            yield Done(**json.loads(line))


def _own_line(message: str) -> str:
    """The error's type and message out of `Traceback … module.Type: message [while running 'step']`."""
    line = [line for line in message.splitlines() if line.strip()][-1]
    line = line.partition(" [while running")[0]
    kind, colon, text = line.partition(": ")
    name = kind.rpartition(".")[2]
    if not colon or not name.isidentifier():
        return line
    return text if name in ("RtdscanError", "UserError", "EngineError") else f"{name}: {text}"
