"""The steps: take batches, differentiate, follow; write metrics and checkpoints; stop when asked to."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rtdscan.pipeline.training import checkpoint
from rtdscan.pipeline.training.feed import Made, Position, batches_of
from rtdscan.pipeline.training.models import Networks
from rtdscan.pipeline.training.objective import SUMS, Counts, Objective
from rtdscan.pipeline.training.optimiser import Adam, learning_rate
from rtdscan.pipeline.training.recorder import Recorder, summarise
from rtdscan.pipeline.training.settings import PretrainConfig
from rtdscan.transforms.errors import RtdscanError

LOG_SECONDS = 30.0
"""Between lines on stderr where there is no terminal for the progress bar."""


@dataclass(slots=True)
class State:
    """Where a run stands; with weights, optimiser and generators of chance all that a checkpoint holds.

    Attributes:
        step: Steps that are done.
        position: Of the feed.
        pieces: Pieces seen so far, padding not counted.
        seconds: Time spent training, over all processes of the run.
        sums: SUMS since the last line of metrics.
    """

    step: int
    position: Position
    pieces: int
    seconds: float
    sums: torch.Tensor

    @staticmethod
    def fresh() -> "State":
        """Before the first step."""
        return State(0, Position(), 0, 0.0, torch.zeros(len(SUMS), dtype=torch.float64))


@dataclass(slots=True)
class Run:
    """What the loop works with."""

    config: PretrainConfig
    networks: Networks
    objective: Objective
    optimiser: Adam
    recorder: Recorder
    checkpoints: Path
    device: torch.device
    bfloat16: bool
    state: State


def train(run: Run, feed: Iterator[Made]) -> None:
    """Go on to the last step.

    Raises:
        RtdscanError: SIGTERM or SIGINT came; a checkpoint was written. Or the loss is no number any more.
    """
    config = run.config
    run.networks.train()
    began, spent = time.monotonic(), run.state.seconds
    last = (began, run.state.pieces)
    told = began
    with _stop_signals() as stopped, _progress(run) as progress:
        task = progress.add_task("training", total=config.steps, completed=run.state.step, loss="")
        while run.state.step < config.steps:
            _step(run, feed)
            run.state.seconds = spent + time.monotonic() - began
            step = run.state.step
            progress.update(task, completed=step)
            if step % config.log_every == 0 or step == config.steps:
                now = time.monotonic()
                line = _log(run, speed=(run.state.pieces - last[1]) / max(now - last[0], 1e-9))
                loss = f"loss {line.get('loss', float('nan')):.3f}, {line['pieces_per_second']:,.0f} pieces/s"
                progress.update(task, loss=loss)
                if progress.disable and now - told >= LOG_SECONDS:
                    told = now
                    print(f"rtdscan: step {step:,} of {config.steps:,}, {loss}", file=sys.stderr, flush=True)
                last = (now, run.state.pieces)
            if stopped.is_set() or step % config.checkpoint.every == 0 or step == config.steps:
                _check_numbers(run)  # a checkpoint that is none would push out those that are
                save(run)
            if stopped.is_set() and step < config.steps:
                raise RtdscanError(f"stopped after step {step} of {config.steps}; run the same command again to resume")


def save(run: Run) -> None:
    """Write a checkpoint."""
    state = run.state
    content = {
        "position": asdict(state.position),
        "pieces": state.pieces,
        "seconds": state.seconds,
        "sums": state.sums.cpu(),
        "networks": run.networks.state_dict(),
        "optimiser": run.optimiser.state_dict(),
    }
    checkpoint.save(run.checkpoints, state.step, content, keep=run.config.checkpoint.keep)


def restore(run: Run, content: dict[str, Any]) -> None:
    """Take up where `save` was called."""
    run.networks.load_state_dict(content["networks"])
    run.optimiser.load_state_dict(content["optimiser"])
    run.state = State(
        step=content["step"],
        position=Position(**content["position"]),
        pieces=content["pieces"],
        seconds=content["seconds"],
        sums=content["sums"].to(run.device),
    )
    checkpoint.restore_random(content)


def _step(run: Run, feed: Iterator[Made]) -> None:
    config, state = run.config, run.state
    batches, position = batches_of(feed, config.accumulate)
    counts = Counts.of(batches)
    for batch in batches:
        with torch.autocast(run.device.type, dtype=torch.bfloat16, enabled=run.bfloat16):
            loss, sums = run.objective.loss(batch, counts, device=run.device)
        loss.backward()  # type: ignore[no-untyped-call]
        state.sums += sums
    norm = run.optimiser.step(learning_rate(state.step, steps=config.steps, settings=config.optimiser))
    state.sums[SUMS.index("gradient")] += norm.double()
    state.sums[SUMS.index("steps")] += 1
    state.step += 1
    state.position = position
    state.pieces += sum(int(batch.lengths_B.sum()) for batch in batches)


def _check_numbers(run: Run) -> None:
    """See that the losses and gradients since the last line of metrics, and the weights, are finite."""
    values = (run.state.sums, *run.networks.parameters())
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise RtdscanError(
            f"the loss is not a number any more at step {run.state.step}: lower optimiser.lr or lengthen "
            "optimiser.warmup, and train into another folder"
        )


def _log(run: Run, *, speed: float) -> dict[str, Any]:
    _check_numbers(run)
    state, config = run.state, run.config
    line: dict[str, Any] = {
        "step": state.step,
        "epoch": state.position.epoch,
        "pieces": state.pieces,
        "learning_rate": learning_rate(state.step - 1, steps=config.steps, settings=config.optimiser),
        **summarise(state.sums.cpu()),
        "seconds": round(state.seconds, 2),
        "pieces_per_second": round(speed, 1),
    }
    run.recorder.write(line)
    state.sums = torch.zeros_like(state.sums)
    return line


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set instead of ending the process; a second one ends it."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(run: Run) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
