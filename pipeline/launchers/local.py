"""Run a job on all cores of one machine: child processes, each running its graph on short lists of units.

Beam's local runner partitions its input once, never retries and hangs for ever when a worker process dies. Here units
are handed out as workers get free. Each worker has a pipe of its own: units go in, results come out, and the end of the
pipe tells that the worker died. It is replaced; the unit that it was at is tried again alone (see
transforms/attempts.py), the rest of its list goes on as a list.

Pools with one queue for all workers do not serve: a worker that dies while it holds the queue's lock takes the pool
with it (2 workers, SIGKILLed at random: Pebble 5.2 gave up after 3 to 10, concurrent.futures after one).
"""

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from rtdscan.pipeline.launchers.children import settle, start_child
from rtdscan.transforms import attempts, storage
from rtdscan.transforms.absent import keep_out
from rtdscan.transforms.errors import AT_FAULT, RtdscanError
from rtdscan.transforms.job import Task
from rtdscan.transforms.records import Done, WorkUnit

LIST_MB = 4.0
"""Text of a list of units; small units are handed out together, for a list costs 0.2 s of Beam's start."""

LIST_LEAST_MB = 0.125
"""Text of a list towards the end, two seconds of work: whoever is last finishes that much later than the others."""

LIST_UNITS = 32
"""Units of a list at most, so that many small files are spread evenly too."""

DEATHS_AT_START = 3
"""Workers in a row that may die before they are ready; then no more are started, for the machine is at fault."""

DEATHS_OF_UNIT = 30
"""Workers that may die over one unit before it is given up: each death after the second names a document as failed."""

EXIT_SECONDS = 5.0
"""What a worker whose pipe has ended gets to exit by itself."""

PACE_SECONDS = 0.5
"""Between two times that a worker tells how far it is with its unit."""

Message = Done | int | RtdscanError | str | None
"""From a worker: a unit is done; tokens scored since the last that was; an error that ends the scan; its last words;
ready for a list of units."""


def run_local(
    units: Sequence[WorkUnit],
    job: Task,
    *,
    workers: int,
    on_done: Callable[[Done], None] = lambda done: None,
    on_tokens: Callable[[int], None] = lambda tokens: None,
) -> list[Done]:
    """Scan units with child processes.

    Args:
        units: What to scan.
        job: The resolved scan, or another pass over units (see transforms/child.py).
        workers: Child processes.
        on_done: Called for every unit as it is done.
        on_tokens: Called now and then with the tokens scored of units that are not done yet, of all workers together.

    Returns:
        One result a unit.

    Raises:
        RtdscanError: A worker failed with an error, or workers die without getting anywhere.
    """
    scan = _Scan(unit_lists(units, workers=workers), job, workers=workers, on_done=on_done, on_tokens=on_tokens)
    try:
        scan.run()
    finally:
        scan.stop()
    return scan.done


@dataclass(eq=False, slots=True)
class _Worker:
    """A child process.

    Attributes:
        process: The process.
        pipe: To it: the job, then lists of units. From it: `Message`s.
        ready: Whether it ever was ready for units.
        units: What it has still to do, by shard.
        tokens: Scored of the unit that it is at.
        words: Its last words.
    """

    process: SpawnProcess
    pipe: "Connection[Task | list[WorkUnit], Message]"
    ready: bool = False
    units: dict[str, WorkUnit] = field(default_factory=dict)
    tokens: int = 0
    words: str = ""

    def tell(self, message: Task | list[WorkUnit]) -> None:
        """Send; if it is dead, `wait` will tell."""
        with suppress(OSError):
            self.pipe.send(message)


class _Scan:
    """The bookkeeping of one `run_local`. Everything happens in one thread."""

    def __init__(
        self,
        lists: Iterable[list[WorkUnit]],
        job: Task,
        *,
        workers: int,
        on_done: Callable[[Done], None],
        on_tokens: Callable[[int], None],
    ) -> None:
        self.done: list[Done] = []
        self._pending = deque(lists)
        self._job = job
        self._most = workers
        self._on_done = on_done
        self._on_tokens = on_tokens
        self._workers: list[_Worker] = []
        self._deaths: Counter[str] = Counter()
        self._deaths_at_start = 0

    def run(self) -> None:
        """Keep workers busy until every unit is done."""
        while self._pending or any(worker.units for worker in self._workers):
            self._hire()
            heard = set(wait([worker.pipe for worker in self._workers]))
            for worker in [worker for worker in self._workers if worker.pipe in heard]:
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):  # OSError: it died within a message
                    self._bury(worker)
                else:
                    self._take(worker, message)
            self._hand_out()

    def stop(self) -> None:
        """Kill the workers: what they did is on the disk, and what they were at will be done again."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join(EXIT_SECONDS)
            worker.pipe.close()
        with suppress(RtdscanError):  # must not hide what happened; the next scan tries again
            storage.clean_temporaries(self._job.output)

    def _hire(self) -> None:
        """Start as many workers as there is work for."""
        busy = sum(1 for worker in self._workers if worker.units)
        wanted = min(self._most, busy + len(self._pending))
        while len(self._workers) < wanted and self._deaths_at_start < DEATHS_AT_START:
            try:
                self._workers.append(_start(self._job))
            except OSError as error:
                if not self._workers:
                    raise RtdscanError(f"can't start a worker process: {error}; try --set workers=1") from error
                self._deaths_at_start = DEATHS_AT_START  # make do with those that there are

    def _take(self, worker: _Worker, message: Message) -> None:
        if isinstance(message, RtdscanError):
            raise message
        if isinstance(message, str):
            worker.words = message
        elif message is None:
            worker.ready = True
            self._deaths_at_start = 0
        elif isinstance(message, int):
            worker.tokens = message
            self._tell_tokens()
        else:
            worker.tokens = 0
            if worker.units.pop(message.shard, None):
                self._report(message)

    def _hand_out(self) -> None:
        for worker in self._workers:
            if self._pending and worker.ready and not worker.units:
                units = self._pending.popleft()
                worker.units = {unit.shard: unit for unit in units}
                worker.tell(units)

    def _bury(self, worker: _Worker) -> None:
        """Have the dead worker's units done by others."""
        self._workers.remove(worker)
        self._tell_tokens()
        worker.pipe.close()
        worker.process.join(EXIT_SECONDS)
        worker.process.kill()
        worker.process.join(EXIT_SECONDS)
        cause = worker.words or _cause(worker.process.exitcode)
        if worker.ready:
            self._deaths_at_start = 0  # there is room for another one
            self._try_again(list(worker.units.values()), cause)
            return
        self._deaths_at_start += 1
        if self._deaths_at_start >= DEATHS_AT_START and not self._workers:
            raise RtdscanError(
                f"workers die while starting ({cause}); is there enough memory? try --set workers=1, and when it was"
                " put right run the same command again"
            )

    def _try_again(self, units: list[WorkUnit], cause: str) -> None:
        """Put units in front of the others: one that was begun alone, so that it takes no other along."""
        begun = [unit for unit in units if attempts.begun(self._job, unit)]
        rest = [unit for unit in units if unit not in begun]
        suspects = begun or rest
        where = ", ".join(storage.printable(unit.shard) for unit in begun) or "no unit"
        logging.getLogger(__name__).warning("a worker died (%s), it was at %s; another one goes on", cause, where)
        for unit in suspects:
            self._deaths[unit.shard] += 1
        hopeless = [unit for unit in suspects if self._deaths[unit.shard] >= DEATHS_OF_UNIT]
        for unit in hopeless:
            self._report(Done(unit.shard, "bad", "", 0.0, f"{DEATHS_OF_UNIT} workers died over it ({cause})", ""))
        if begun and rest:
            self._pending.appendleft(rest)
        self._pending.extendleft([unit] for unit in suspects if unit not in hopeless)

    def _report(self, done: Done) -> None:
        self.done.append(done)
        self._tell_tokens()
        self._on_done(done)

    def _tell_tokens(self) -> None:
        self._on_tokens(sum(worker.tokens for worker in self._workers))


def unit_lists(units: Sequence[WorkUnit], *, workers: int) -> Iterator[list[WorkUnit]]:
    """Cut units into short lists, the largest units first, and ever shorter ones, so that all workers end together."""
    left = sum(unit.text_bytes for unit in units)
    # Four lists a worker, so that even a small corpus keeps all of them busy to the end.
    least = min(LIST_LEAST_MB * 2**20, left / (4 * workers))
    short: list[WorkUnit] = []
    size, most = 0, 0.0
    for unit in sorted(units, key=lambda unit: -unit.text_bytes):
        if short and (size + unit.text_bytes > most or len(short) == LIST_UNITS):
            yield short
            short, size, left = [], 0, left - size
        if not short:
            most = max(least, min(LIST_MB * 2**20, left / (4 * workers)))
        short.append(unit)
        size += unit.text_bytes
    if short:
        yield short


def _cause(code: int | None) -> str:
    return f"killed by signal {-code}" if code is not None and code < 0 else f"exit status {code}"


def _start(job: Task) -> _Worker:
    worker = _Worker(*start_child(_work, name="rtdscan-worker"))
    # Through our pipe, not as an argument: `start` would hang if the child died before it read a large one.
    worker.tell(job)
    return worker


def _work(pipe: "Connection[Message, Any]", launcher: int) -> None:
    """What a child does. Beam is imported here, not in the launcher."""
    settle(launcher)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.basicConfig(level=logging.ERROR)  # Beam warns of optional packages when it is imported
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # errors come back as exceptions
    with suppress(EOFError, OSError):  # the launcher is gone, or was satisfied
        try:
            _serve(pipe)
        except RtdscanError as error:
            pipe.send(error)
        except AT_FAULT as error:
            pipe.send(f"{type(error).__name__}: {error}")
        except Exception as error:
            pipe.send(RtdscanError(f"a worker failed: {type(error).__name__}: {error}"))


def _serve(pipe: "Connection[Message, Any]") -> None:
    job: Task = pipe.recv()
    keep_out(*job.unused)
    from rtdscan.transforms import pace
    from rtdscan.transforms.child import prepare, run_units

    prepare(job)
    teller = _Teller(pipe)
    pace.listen(teller.scored)
    while True:
        pipe.send(None)
        run_units(pipe.recv(), job, on_done=teller.done)


class _Teller:
    """Tells the launcher of units that are done, and now and then how far the next one is. One thread of Beam's calls
    it; the process's own waits meanwhile."""

    def __init__(self, pipe: "Connection[Message, Any]") -> None:
        self._pipe = pipe
        self._tokens = 0
        self._told = 0.0

    def scored(self, tokens: int) -> None:
        self._tokens += tokens
        now = time.monotonic()
        if now - self._told >= PACE_SECONDS:
            self._told = now
            self._pipe.send(self._tokens)

    def done(self, done: Done) -> None:
        self._tokens = 0
        self._pipe.send(done)
