"""A runner that abuses bundles as engines may: it cuts them at random, repeats them after half of their output, and
gives them to two workers at once. Workers are processes; a bundle is the scan's own graph over a few units.
"""

import multiprocessing
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from rtdscan.transforms.graph import ScanUnits
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, UnitResult, WorkUnit
from rtdscan.transforms.results import done_of, read_results, write_results

_OUTPUT: list[UnitResult] = []
"""What left the bundle that this process is at."""


@dataclass
class Abuse:
    """Runs units in abused bundles; counts what it did.

    Attributes:
        seed: Of the dice.
        bundles, replayed, doubled: How many there were, failed after half of their output, and ran twice at once.
        results: All results of bundles that ended, of doubled ones twice; those of failed ones are lost, as in engines.
    """

    seed: int
    bundles: int = 0
    replayed: int = 0
    doubled: int = 0
    results: list[UnitResult] = field(default_factory=list)

    def run(
        self,
        units: Sequence[WorkUnit],
        job: Job,
        *,
        workers: int,
        on_done: Callable[[Done], None] = lambda done: None,
        **rest: Any,
    ) -> list[Done]:
        """In place of `run_local`."""
        with ExitStack() as stack:
            pair = [stack.enter_context(_worker(job)) for _ in range(2)]
            for bundle in self._cut(units):
                self._run(bundle, pair)
        path = str(Path(job.output) / "results.jsonl")
        write_results([done_of(result) for result in self.results], path)
        done = list(read_results(path))
        Path(path).unlink()
        for one in done:
            on_done(one)
        return done

    def _cut(self, units: Sequence[WorkUnit]) -> Iterator[list[WorkUnit]]:
        dice = random.Random(self.seed)
        left = dice.sample(list(units), len(units))
        while left:
            size = dice.randint(1, 4)
            yield left[:size]
            left = left[size:]

    def _run(self, bundle: list[WorkUnit], pair: "list[Connection]") -> None:
        self.bundles += 1
        # Each kind of trouble in turn, and both together: fails on two workers at once, then again on two at once.
        fails, twice = self.bundles % 2 == 0, self.bundles % 4 in (1, 2)
        at = pair if twice else [pair[self.bundles % len(pair)]]
        self.doubled += twice
        if fails:
            self.replayed += 1
            assert not all(whole for whole, _ in self._send(at, bundle, (len(bundle) + 1) // 2))
        assert all(whole for whole, _ in self._send(at, bundle, None))

    def _send(
        self, at: "list[Connection]", bundle: list[WorkUnit], fail_after: int | None
    ) -> list[tuple[bool, list[UnitResult]]]:
        for pipe in at:
            pipe.send((bundle, fail_after))
        came = [pipe.recv() for pipe in at]
        self.results += [result for whole, results in came if whole for result in results]
        return came


@contextmanager
def _worker(job: Job) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=_work, args=(its, job), daemon=True)
    process.start()
    its.close()
    try:
        yield mine
    finally:
        mine.close()
        process.join(10)
        if process.is_alive():
            process.kill()


def _work(pipe: Connection, job: Job) -> None:
    while True:
        try:
            bundle, fail_after = pipe.recv()
        except EOFError:
            return
        _OUTPUT.clear()
        try:
            with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
                (
                    pipeline
                    | "Units" >> beam.Create(bundle, reshuffle=False)
                    | "Scan" >> ScanUnits(job=job)
                    | "Out" >> beam.Map(_out, fail_after)
                )
            whole = True
        except RuntimeError as error:
            if "bundle is lost" not in str(error):
                raise
            whole = False
        pipe.send((whole, list(_OUTPUT)))


def _out(result: UnitResult, fail_after: int | None) -> None:
    if fail_after is not None and len(_OUTPUT) >= fail_after:
        raise RuntimeError("bundle is lost")
    _OUTPUT.append(result)
    if fail_after is not None and len(_OUTPUT) == fail_after:
        raise RuntimeError("bundle is lost")
