"""Progress of a scan: a bar on a terminal, else a log line every half minute. Both go to stderr."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from rtdscan.pipeline.forecast import BYTES_PER_TOKEN
from rtdscan.transforms.tally import Tally

LOG_SECONDS = 30.0
"""Between log lines where there is no terminal."""

ALMOST = 0.99
"""Share of what is left that units under way are taken for at most: they are not done."""


@dataclass
class Meter:
    """Adds up what is done and shows it.

    Attributes:
        units, text_bytes: What there is to do.
        tally, done_units, done_bytes: Of the units that are done.
        under_way: Tokens scored of those that are not done yet.
    """

    units: int
    text_bytes: int
    tally: Tally = field(default_factory=Tally.zero)
    done_units: int = 0
    done_bytes: int = 0
    under_way: int = 0
    started: float = field(default_factory=time.monotonic)
    _bar: Progress | None = None
    _task: TaskID | None = None

    def add(self, tally: Tally, *, text_bytes: int) -> None:
        """One unit is done."""
        self.tally = self.tally + tally
        self.done_units += 1
        self.done_bytes += text_bytes
        self._show()

    def read(self, tokens: int) -> None:
        """So many tokens are scored of units that are not done yet."""
        self.under_way = tokens
        self._show()

    @property
    def share(self) -> float:
        """How much of the text is done, by its bytes; of units under way an estimate by their tokens."""
        a_token = self.done_bytes / self.tally.tokens if self.tally.tokens else BYTES_PER_TOKEN
        left = max(self.text_bytes - self.done_bytes, 0)
        return (self.done_bytes + min(self.under_way * a_token, ALMOST * left)) / max(self.text_bytes, 1)

    def state(self) -> str:
        """How far it is, in a line."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        tokens = self.tally.tokens + self.under_way
        flagged = self.tally.metrics()["flagged_share"]
        return (
            f"{self.done_units:,}/{self.units:,} units, {self.tally.rows:,} documents, "
            f"{tokens / seconds:,.0f} tokens/s, {flagged:.2%} of words flagged"
        )

    def _show(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.share, state=self.state())


@contextmanager
def metering(units: int, text_bytes: int, *, kind: type[Meter] = Meter) -> Iterator[Meter]:
    """A meter for the duration of a scan or another pass over units."""
    meter = kind(units, text_bytes)
    console = Console(stderr=True)
    if not console.is_terminal:
        with _lines(meter):
            yield meter
        return
    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("so far,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with _Bar(*columns, console=console, transient=True) as bar:
        meter._bar, meter._task = bar, bar.add_task("", total=1.0, state=meter.state())
        yield meter


class _Bar(Progress):
    """The bar with the state below it: side by side they don't fit into 80 columns."""

    def get_renderables(self) -> Iterator[RenderableType]:
        for task in self.tasks:
            yield self.make_tasks_table([task])
            yield Text(task.fields["state"], no_wrap=True, overflow="ellipsis")


@contextmanager
def _lines(meter: Meter) -> Iterator[None]:
    """A line now and then, also while a unit takes long."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(LOG_SECONDS):
            print(f"rtdscan: {meter.share:.0%} done, {meter.state()}", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
