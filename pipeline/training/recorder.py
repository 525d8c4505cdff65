"""What a run tells of itself: metrics as JSON lines, TensorBoard events, and a picture of the curves.

The lines of an undisturbed run and of one that was killed and resumed are the same but for the CLOCK keys.
"""

import importlib
import json
import math
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from rtdscan.pipeline.training.objective import SUMS

CLOCK = ("seconds", "pieces_per_second")
"""Keys that tell time; all others follow from corpus, options and seed."""

METRICS = "metrics.jsonl"
EVENTS = "events"
CURVES = "curves.png"


def summarise(sums: Tensor) -> dict[str, float]:
    """Means and shares of what was added up since the last line; what there was none of is left out."""
    s = dict(zip(SUMS, sums.tolist(), strict=True))
    ratios = {
        "loss": (s["loss"], s["steps"]),
        "gradient": (s["gradient"], s["steps"]),
        "mlm_loss": (s["mlm"], s["mlm_n"]),
        "mlm_accuracy": (s["mlm_right"], s["mlm_hidden"]),
        "distance": (s["distil"], s["distil_n"]),
    }
    for kind in ("gen", "noise"):
        ratios |= {
            f"{kind}_loss": (s[kind], s[f"{kind}_n"]),
            f"{kind}_replaced": (s[f"{kind}_replaced"], s[f"{kind}_n"]),
            f"{kind}_precision": (s[f"{kind}_found"], s[f"{kind}_flagged"]),
            f"{kind}_recall": (s[f"{kind}_found"], s[f"{kind}_replaced"]),
        }
    return {name: above / below for name, (above, below) in ratios.items() if below}


class Recorder:
    """Writes a run's metrics into MODEL.

    Args:
        folder: MODEL.
        step: Steps done so far; what is recorded of later ones (by a process that was killed) is forgotten.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        """Forget what is later than `step`."""
        self._path = folder / METRICS
        kept = [line for line in read_metrics(folder) if line["step"] <= step]
        aside = self._path.with_suffix(".half")
        aside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(aside, self._path)
        self._events = _event_writer(folder / EVENTS, step=step)

    def write(self, line: dict[str, Any]) -> None:
        """Add a line; it has a key `step`."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._events is not None:
            for name, value in line.items():
                if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                    self._events.add_scalar(name, value, line["step"])

    def close(self) -> None:
        """Flush events."""
        if self._events is not None:
            self._events.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run so far; a last one that was cut short is left out."""
    path = folder / METRICS
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def draw_curves(folder: Path) -> Path | None:
    """Draw a run's metrics into MODEL/curves.png; None without matplotlib, or where there are fewer than two lines."""
    lines = read_metrics(folder)
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError:
        return None
    if len(lines) < 2:
        return None
    panels = {
        "loss (sum of all parts)": ("loss",),
        "generator: cross entropy": ("mlm_loss",),
        "generator: accuracy at [MASK]": ("mlm_accuracy",),
        "discriminator: cross entropy": ("gen_loss", "noise_loss"),
        "precision and recall at 0.5": ("gen_precision", "gen_recall", "noise_precision", "noise_recall"),
        "embedding: distance to the teacher": ("distance",),
        "learning rate": ("learning_rate",),
        "length of the gradient": ("gradient",),
    }
    shown = {title: names for title, names in panels.items() if any(name in line for name in names for line in lines)}
    figure = figures.Figure(figsize=(12, 2.8 * math.ceil(len(shown) / 2)), layout="constrained")
    axes = figure.subplots(math.ceil(len(shown) / 2), 2, squeeze=False).ravel()
    for axis, (title, names) in zip(axes, shown.items(), strict=False):
        for name in names:
            points = [(line["step"], line[name]) for line in lines if name in line]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.legend(fontsize=8)
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    figure.savefig(folder / CURVES, dpi=110)
    return folder / CURVES


def _event_writer(folder: Path, *, step: int) -> Any:
    """None where TensorBoard is not installed (extra `train`): the JSON lines say the same."""
    try:
        tensorboard = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return None
    return tensorboard.SummaryWriter(str(folder), purge_step=step + 1 if step else None)
