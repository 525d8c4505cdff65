"""Hand a scan whole to a Beam runner by name: FlinkRunner, DataflowRunner, PortableRunner, FnApiRunner."""

import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import apache_beam as beam

from rtdscan.pipeline.launchers import Submitted
from rtdscan.pipeline.launchers.beam_options import pipeline_options
from rtdscan.transforms import storage
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.graph import ScanUnits
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, WorkUnit
from rtdscan.transforms.results import CollectResults, read_results

_OWN = re.compile(r"rtdscan\.[\w.]+\.(\w+Error|FileProblem): (?P<said>.+)")
_CALL = re.compile(r'details = "(?P<said>.+)"')
_RAISED = re.compile(r"(?P<said>(?:\w+\.)*\w+(?:Error|Exception): .+)")
_PREFIXES = re.compile(r"^(?:\w+\.)*(?P<said>(?:\w+Error|\w+Exception): )")


def run_beam(
    units: Sequence[WorkUnit],
    job: Job,
    *,
    runner: str,
    options: Mapping[str, Any],
    arguments: Sequence[str] = (),
    wait: bool = True,
) -> list[Done]:
    """Scan units on a Beam runner.

    Args:
        units: What to scan.
        job: The resolved scan.
        runner: Name of the runner.
        options: Pipeline options by name, from the config.
        arguments: Pipeline options as on a command line; they win.
        wait: Stay until the job has ended.

    Raises:
        RtdscanError: The pipeline failed.
        Submitted: It runs, or will, and nobody waits for it; or a template was written, which others make a job of.
    """
    path = storage.join(job.output, ".attempts", job.run, "results.jsonl")
    flags = pipeline_options(runner, options, arguments)
    try:
        with _one_line():
            pipeline = beam.Pipeline(options=flags)
            build(pipeline, units, job, results=path)
            running = pipeline.run()
            if not wait or _is_template(running):
                raise Submitted(_name(running, runner))
            _wait(running)
    except RtdscanError:
        raise
    except Exception as error:  # runners raise types of their own: gRPC's, HTTP's, RuntimeError
        raise RtdscanError(f"{runner}: the pipeline failed: {cause(error)}") from error
    return list(read_results(path))


def build(root: beam.Pipeline, units: Sequence[WorkUnit], job: Job, *, results: str) -> None:
    """The whole graph. Units are spread before the fused stage; only results are gathered after it."""
    (
        root
        | "Units" >> beam.Create(list(units), reshuffle=False)  # pcoll: WorkUnit
        | "Spread" >> beam.Reshuffle()  # pcoll: WorkUnit
        | "Scan" >> ScanUnits(job=job)  # pcoll: UnitResult
        | "Results" >> CollectResults(path=results)
    )


def cause(error: BaseException) -> str:
    """The line that tells most of what a runner raised: our own error in it, else a call's details, else the last."""
    text = str(error).strip() or type(error).__name__
    for pattern in (_OWN, _CALL, _RAISED):
        found = list(pattern.finditer(text))
        if found:
            return _PREFIXES.sub(r"\g<said>", found[-1]["said"].partition(" [while running")[0])
    return text.splitlines()[-1]


@contextmanager
def _one_line() -> Iterator[None]:
    """Keep the remote tracebacks that Beam logs from the terminal: their cause is told once, in one line."""

    def is_short(record: logging.LogRecord) -> bool:
        return "Traceback (most recent call last)" not in record.getMessage()

    logging.getLogger().addFilter(is_short)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(is_short)


def _wait(running: Any) -> None:
    """Wait for the end; whoever stops waiting stops the job."""
    try:
        running.wait_until_finish()
    except (KeyboardInterrupt, SystemExit):
        print("rtdscan: cancelling the job", file=sys.stderr)
        _cancel(running)
        raise


def _cancel(running: Any) -> None:
    """Cancel the job; where that can't be done, say so: it may go on, and be paid for."""
    try:
        running.cancel()
    except Exception as error:  # runners raise types of their own, and the service may be what has gone
        print(f"rtdscan: warning: the job could not be cancelled, it may go on: {cause(error)}", file=sys.stderr)


def _is_template(running: Any) -> bool:
    """Whether there is no job: with --template_location Dataflow's runner writes a file, and its job_id() raises."""
    return getattr(running, "has_job", True) is False


def _name(running: Any, runner: str) -> str:
    """What the runner calls the job, as far as it says."""
    if _is_template(running):
        return f"the template of a {runner} job"
    job = getattr(running, "job_id", None)
    found = job() if callable(job) else job or getattr(running, "_job_id", None)
    return f"{runner} job {found}" if found else f"{runner} job"
