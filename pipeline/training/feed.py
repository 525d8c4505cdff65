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


Made = tuple[Batch, Position]
"""A batch, and the position of the one after it."""


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

    def after(self, at: Position) -> Position:
        """The beginning of the block after that of `at`."""
        last = at.block + 1 >= self.blocks
        return Position(at.epoch + 1) if last else Position(at.epoch, at.block + 1)

    def block_units(self, epoch: int, block: int) -> list[WorkUnit]:
        """The units of a block; each is in one block of each epoch."""
        order = np.random.default_rng((self.seed, 1, epoch)).permutation(len(self.units))
        chosen = order[block * UNITS_PER_BLOCK : (block + 1) * UNITS_PER_BLOCK]
        return [self.units[at] for at in chosen.tolist()]


def block_batches(plan: Plan, maker: Maker, start: Position) -> Iterator[Made]:
    """The batches of a block from `start.batch` on, each with the position of the one after it."""
    rng = np.random.default_rng((plan.seed, 2, start.epoch, start.block))
    texts = [text for unit in plan.block_units(start.epoch, start.block) for text in read_texts(unit, text=plan.text)]
    windows = maker.windows(texts, rng)
    batches = maker.arrange(windows, rng)
    first = (start.epoch << 56) + (start.block << 28)
    for number in range(start.batch, len(batches)):
        batch = maker.batch([windows[at] for at in batches[number].tolist()], seed=plan.seed, number=first + number)
        following = Position(start.epoch, start.block, number + 1)
        yield batch, following if number + 1 < len(batches) else plan.after(start)


class Feed:
    """Iterate over Made, once. Close it when done.

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

    def __iter__(self) -> Iterator[Made]:
        """From `start` on, without end.

        Raises:
            UserError: A whole epoch holds no text.
            RtdscanError: A process of the feed died.
        """
        return self._joined(self._by_processes()) if self._workers else self._by_thread()

    def close(self) -> None:
        """Stop making batches."""
        self._closed.set()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _joined(self, blocks: Iterable[Iterable[Made]]) -> Iterator[Made]:
        """Block after block, while some of them have text."""
        empty = 0
        for block in blocks:
            empty += 1
            for made in block:
                empty = 0
                yield made
            if empty > self._plan.blocks:
                raise UserError(f"the corpus has no text in column {self._plan.text}; nothing to train on")

    def _by_processes(self) -> Iterator[list[Made]]:
        """Blocks in order, made ahead by processes."""
        self._pool = ProcessPoolExecutor(
            self._workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_worker,
            initargs=(self._plan, os.getpid()),
        )
        pending: deque[Future[list[Made]]] = deque()
        for at in self._starts():
            pending.append(self._pool.submit(_work, at))
            if len(pending) <= self._workers:
                continue
            try:
                yield pending.popleft().result()
            except BrokenProcessPool as error:
                raise RtdscanError(
                    "a process that makes batches died (out of memory?); run again to resume, with fewer feed.workers "
                    "or a smaller feed.shuffle_mb"
                ) from error

    def _by_thread(self) -> Iterator[Made]:
        """Batches in order, made ahead by a thread; it hands over what went wrong, too."""
        ready: queue.Queue[Made | BaseException] = queue.Queue(AHEAD)

        def put(item: Made | BaseException) -> None:
            while not self._closed.is_set():
                try:
                    return ready.put(item, timeout=0.2)
                except queue.Full:
                    continue

        def work() -> None:
            try:
                maker = Maker(self._plan.recipe)
                for made in self._joined(block_batches(self._plan, maker, at) for at in self._starts()):
                    put(made)
                    if self._closed.is_set():
                        return
            except BaseException as error:  # raised where batches are taken; a panic in Rust is no Exception
                put(error)

        threading.Thread(target=work, name="feed", daemon=True).start()
        while not isinstance(item := ready.get(), BaseException):
            yield item
        raise item

    def _starts(self) -> Iterator[Position]:
        at = self._start
        while True:
            yield at
            at = self._plan.after(at)


_worker: tuple[Plan, Maker] | None = None
"""Of a process of the pool; set once by its initializer."""


def _begin_worker(plan: Plan, parent: int) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process a core already
    end_with(parent)
    _worker = (plan, Maker(plan.recipe))


def _work(at: Position) -> list[Made]:
    assert _worker is not None
    return list(block_batches(*_worker, at))


def batches_of(feed: Iterator[Made], count: int) -> tuple[Sequence[Batch], Position]:
    """The next batches of a step, and where the feed stands then."""
    taken = [next(feed) for _ in range(count)]
    return [batch for batch, _ in taken], taken[-1][1]
