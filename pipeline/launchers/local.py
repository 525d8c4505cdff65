"""Run a scan on all cores of one machine: child processes, each running the graph on short lists of units.

Beam's local runner partitions its input once, never retries and hangs for ever when a worker process dies. Here units
are handed out as workers get free, and a dead worker is replaced: the units that it had are tried again one at a time,
so that the one that kills is found (see transforms/attempts.py).
"""

import logging
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from pebble import ProcessExpired, ProcessPool
from pebble.common.types import CONSTS

from rtdscan.transforms import storage
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, WorkUnit

LIST_MB = 4.0
"""Text of a list of units; small units are handed out together, for a list costs 0.2 s of Beam's start."""

LIST_UNITS = 32
"""Units of a list at most: what goes back about them must stay one atomic write into a pipe."""

DEATHS_AT_START = 3
"""Workers that may die before any of them began a unit; then the machine is at fault, not a document."""

DEATHS_OF_UNIT = 30
"""Workers that may die over one unit before it is given up: each death after the second names a document as failed."""

LOCK_SECONDS = 20.0
"""After this a lock that a killed worker left behind ends the scan with an error instead of holding it up."""


def run_local(
    units: Sequence[WorkUnit], job: Job, *, workers: int, on_done: Callable[[Done], None] = lambda done: None
) -> list[Done]:
    """Scan units with child processes.

    Args:
        units: What to scan.
        job: The resolved scan.
        workers: Child processes.
        on_done: Called for every unit as it is done.

    Returns:
        One result a unit.

    Raises:
        RtdscanError: A worker failed with an error, or workers die without getting anywhere.
    """
    CONSTS.channel_lock_timeout = LOCK_SECONDS
    pool = ProcessPool(
        max_workers=min(workers, max(len(units), 1)),
        context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=[os.getpid()],
    )
    scan = _Scan(pool, job, on_done, in_flight=2 * workers)
    try:
        scan.run(unit_lists(units))
        pool.close()
        pool.join(timeout=10)
    finally:
        pool.stop()  # kills what still runs: an interrupted scan leaves no worker behind
        pool.join(timeout=10)
    return scan.done


class _Scan:
    """The bookkeeping of one `run_local`."""

    def __init__(self, pool: ProcessPool, job: Job, on_done: Callable[[Done], None], *, in_flight: int) -> None:
        self.done: list[Done] = []
        self._pool = pool
        self._job = job
        self._on_done = on_done
        self._in_flight = in_flight
        self._deaths: Counter[str] = Counter()

    def run(self, lists: Iterator[list[WorkUnit]]) -> None:
        """Keep the pool fed until every list is done; few are in flight, so that the pool's queue stays short."""
        running: dict[Future[list[Done]], list[WorkUnit]] = {}
        retry: list[list[WorkUnit]] = []
        exhausted = False
        while not exhausted or running or retry:
            while retry or (len(running) < self._in_flight and not exhausted):
                units = retry.pop() if retry else next(lists, None)
                if units is None:
                    exhausted = True
                    break
                running[self._pool.schedule(_run_list, args=[units, self._job])] = units
            finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in finished:
                retry += self._settle(future, running.pop(future))

    def _settle(self, future: "Future[list[Done]]", units: list[WorkUnit]) -> list[list[WorkUnit]]:
        """Take a list's results; or, where its worker died, say which lists to try again."""
        try:
            results = future.result()
        except ProcessExpired as death:
            return [[unit] for unit in units if self._again(unit, death)]
        except RtdscanError:
            raise
        except Exception as error:
            raise RtdscanError(f"scanning {units[0].shard} failed: {type(error).__name__}: {error}") from error
        for done in results:
            self._report(done)
        return []

    def _again(self, unit: WorkUnit, death: ProcessExpired) -> bool:
        """Whether to try a unit again whose worker died."""
        self._deaths[unit.shard] += 1
        began = storage.exists(storage.join(self._job.output, ".attempts", self._job.run))
        if not began and not self.done and max(self._deaths.values()) >= DEATHS_AT_START:
            raise RtdscanError(
                f"workers die while starting ({_cause(death)}); is there enough memory? try --set workers=1"
            )
        if self._deaths[unit.shard] < DEATHS_OF_UNIT:
            return True
        reason = f"{self._deaths[unit.shard]} workers died over it ({_cause(death)})"
        self._report(Done(unit.shard, "bad", "", 0.0, reason, ""))
        return False

    def _report(self, done: Done) -> None:
        self.done.append(done)
        self._on_done(done)


def unit_lists(units: Sequence[WorkUnit]) -> Iterator[list[WorkUnit]]:
    """Cut units into short lists, the largest units first, so that no long one is left for the end."""
    short: list[WorkUnit] = []
    size = 0
    for unit in sorted(units, key=lambda unit: -unit.text_bytes):
        if short and (size + unit.text_bytes > LIST_MB * 2**20 or len(short) == LIST_UNITS):
            yield short
            short, size = [], 0
        short.append(unit)
        size += unit.text_bytes
    if short:
        yield short


def _cause(death: ProcessExpired) -> str:
    code = death.exitcode
    return f"killed by signal {-code}" if isinstance(code, int) and code < 0 else f"exit status {code}"


def _start_worker(launcher: int) -> None:
    """Make a child quiet, one thread wide outside the network, and let it end when the launcher is gone."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.basicConfig(level=logging.ERROR)  # Beam warns of optional packages when it is imported
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # errors come back as exceptions
    threading.Thread(target=_end_with, args=[launcher], daemon=True).start()


def _run_list(units: list[WorkUnit], job: Job) -> list[Done]:
    """What a child does; Beam is imported there, not in the launcher."""
    from rtdscan.transforms.child import run_units

    return run_units(units, job)


def _end_with(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)
