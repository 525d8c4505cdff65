"""Progress of a scan: a bar on a terminal, else a log line every half minute. Both go to stderr."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rtdscan.transforms.tally import Tally

LOG_SECONDS = 30.0
"""Between log lines where there is no terminal."""


@dataclass
class Meter:
    """Adds up what is done and shows it.

    Attributes:
        units, text_bytes: What there is to do.
    """

    units: int
    text_bytes: int
    tally: Tally = field(default_factory=Tally.zero)
    done_units: int = 0
    done_bytes: int = 0
    started: float = field(default_factory=time.monotonic)
    _bar: Progress | None = None
    _task: TaskID | None = None

    def add(self, tally: Tally, *, text_bytes: int) -> None:
        """One unit is done."""
        self.tally = self.tally + tally
        self.done_units += 1
        self.done_bytes += text_bytes
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done_bytes, state=self.state())

    def state(self) -> str:
        """How far it is, in a line."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        metrics = self.tally.metrics()
        return (
            f"{self.done_units:,}/{self.units:,} units, {self.tally.rows:,} documents, "
            f"{self.tally.tokens / seconds:,.0f} tokens/s, {metrics['flagged_share']:.2%} of words flagged"
        )


@contextmanager
def metering(units: int, text_bytes: int, *, kind: type[Meter] = Meter) -> Iterator[Meter]:
    """A meter for the duration of a scan or another pass over units."""
    meter = kind(units, text_bytes)
    console = Console(stderr=True)
    if not console.is_terminal:
        with _lines(meter):
            yield meter
        return
    columns = (BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        meter._bar, meter._task = bar, bar.add_task("units", total=max(text_bytes, 1), state=meter.state())
        yield meter


@contextmanager
def _lines(meter: Meter) -> Iterator[None]:
    """A line now and then, also while a unit takes long."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(LOG_SECONDS):
            print(f"rtdscan: {meter.state()}", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
