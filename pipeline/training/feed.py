"""The endless stream of batches: seeded, shuffled, made ahead, resumed exactly.

An epoch's units, in random order, are taken a few at a time: a block. A block's windows are shuffled and become its
batches. So memory holds some blocks, never the corpus, and batch j of block b of epoch e is a function of corpus,
recipe and seed alone: whoever makes it, in whatever order, it is the same; and where a feed stands is three numbers.
"""

import multiprocessing
import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np

from rtdscan.pipeline.launchers.children import end_with
from rtdscan.pipeline.training.corpus import read_texts
from rtdscan.pipeline.training.examples import Batch, Maker, Recipe
from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.records import WorkUnit

UNITS_PER_BLOCK = 8
"""Units of a block: from so many places of the corpus come the neighbours of a batch."""


AHEAD = 8
"""Batches that a thread makes ahead; enough to bridge a block's beginning on a CPU, where a batch takes a second."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """The next batch: its number in its block, the block's in its epoch, the epoch's."""

    epoch: int = 0
    block: int = 0
    batch: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a block follows from; picklable.

    Attributes:
        units: Of the corpus, in a fixed order.
        text: Name of the text column.
        recipe: What becomes of the texts.
        seed: Of everything random.
    """

    units: tuple[WorkUnit, ...]
    text: str
    recipe: Recipe
    seed: int

    @property
    def blocks(self) -> int:
        """Blocks of an epoch."""
        return -(-len(self.units) // UNITS_PER_BLOCK)

    def epochs(self, position: Position) -> float:
        """How often the corpus was read where the feed stands at `position`; a block that was begun does not count."""
        return position.epoch + position.block / self.blocks

    def block_units(self, epoch: int, block: int) -> list[WorkUnit]:
        """The units of a block; each is in one block of each epoch."""
        order = np.random.default_rng((self.seed, 1, epoch)).permutation(len(self.units))
        chosen = order[block * UNITS_PER_BLOCK : (block + 1) * UNITS_PER_BLOCK]
        return [self.units[at] for at in chosen.tolist()]


def block_batches(plan: Plan, maker: Maker, start: Position) -> Iterator[Batch]:
    """The batches of a block from `start.batch` on."""
    rng = np.random.default_rng((plan.seed, 2, start.epoch, start.block))
    texts = [text for unit in plan.block_units(start.epoch, start.block) for text in read_texts(unit, text=plan.text)]
    windows = maker.windows(texts, rng)
    first = (start.epoch << 56) + (start.block << 28)
    for number, rows in enumerate(maker.arrange(windows, rng)):
        if number >= start.batch:
            yield maker.batch([windows[at] for at in rows.tolist()], seed=plan.seed, number=first + number)


class Feed:
    """Iterate over (batch, position of the one after it), once. Close it when done.

    Args:
        plan: What to make.
        start: Where to begin.
        workers: Processes, each of which makes whole blocks ahead; 0: a thread, which makes AHEAD batches ahead and
            so begins sooner. The batches are the same.
    """

    def __init__(self, plan: Plan, *, start: Position | None = None, workers: int = 0) -> None:
        """Nothing is made before somebody iterates."""
        self._plan = plan
        self._start = start or Position()
        self._workers = workers
        self._closed = threading.Event()
        self._pool: ProcessPoolExecutor | None = None

    def __iter__(self) -> Iterator[tuple[Batch, Position]]:
        """From `start` on, without end.

        Raises:
            UserError: A whole epoch holds no text.
            RtdscanError: A process of the feed died.
        """
        empty = 0
        for at, batches in self._blocks() if self._workers else self._threaded():
            number = at.batch
            before = None
            for batch in batches:
                if before is not None:
                    number += 1
                    yield before, Position(at.epoch, at.block, number)
                before = batch
            empty = empty + 1 if before is None and at.batch == 0 else 0
            if before is not None:
                yield before, self._after(at)
            if empty > self._plan.blocks:
                raise UserError(f"the corpus has no text in column {self._plan.text}; nothing to train on")

    def close(self) -> None:
        """Stop making batches."""
        self._closed.set()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _blocks(self) -> Iterator[tuple[Position, Iterable[Batch]]]:
        """Blocks in order, made by processes."""
        self._pool = ProcessPoolExecutor(
            self._workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_worker,
            initargs=(self._plan, os.getpid()),
        )
        pending: deque[tuple[Position, Future[list[Batch]]]] = deque()
        for at in self._starts():
            pending.append((at, self._pool.submit(_work, at)))
            if len(pending) <= self._workers:
                continue
            first, future = pending.popleft()
            try:
                yield first, future.result()
            except BrokenProcessPool as error:
                raise RtdscanError(
                    "a process that makes batches died (out of memory?); run again to resume, with fewer feed.workers "
                    "or a smaller feed.shuffle_mb"
                ) from error

    def _threaded(self) -> Iterator[tuple[Position, Iterable[Batch]]]:
        """Blocks in order, made by a thread; it hands over batches, None after a block's last, or what went wrong."""
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(AHEAD)

        def put(item: Batch | BaseException | None) -> None:
            while not self._closed.is_set():
                try:
                    return ready.put(item, timeout=0.2)
                except queue.Full:
                    continue

        def work() -> None:
            try:
                maker = Maker(self._plan.recipe)
                for at in self._starts():
                    for batch in block_batches(self._plan, maker, at):
                        put(batch)
                        if self._closed.is_set():
                            return
                    put(None)
                    if self._closed.is_set():
                        return
            except BaseException as error:  # raised where batches are taken; a panic in Rust is no Exception
                put(error)

        def taken() -> Iterator[Batch]:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item

        threading.Thread(target=work, name="feed", daemon=True).start()
        for at in self._starts():
            yield at, taken()

    def _starts(self) -> Iterator[Position]:
        at = self._start
        while True:
            yield at
            at = self._after(at)

    def _after(self, at: Position) -> Position:
        last = at.block + 1 >= self._plan.blocks
        return Position(at.epoch + 1) if last else Position(at.epoch, at.block + 1)


_worker: tuple[Plan, Maker] | None = None
"""Of a process of the pool; set once by its initializer."""


def _begin_worker(plan: Plan, parent: int) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process a core already
    end_with(parent)
    _worker = (plan, Maker(plan.recipe))


def _work(at: Position) -> list[Batch]:
    assert _worker is not None
    return list(block_batches(*_worker, at))


def batches_of(feed: Iterator[tuple[Batch, Position]], count: int) -> tuple[Sequence[Batch], Position]:
    """The next batches of a step, and where the feed stands then."""
    taken = [next(feed) for _ in range(count)]
    return [batch for batch, _ in taken], taken[-1][1]
