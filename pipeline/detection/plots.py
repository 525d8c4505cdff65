"""Precision-recall curves and reliability as PNG. matplotlib is optional (`pip install 'rtdscan[evaluate]'`)."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.pipeline.detection.metrics import Curve
from rtdscan.pipeline.detection.reliability import CANDIDATE, Reliability
from rtdscan.transforms.errors import UserError

MOST_KINDS = 10
"""Curves that can be told apart."""

POINTS = 2000


def check_plot(path: str | None) -> None:
    """Fail before the work, not after it, where a plot can't be drawn."""
    if path is None:
        return
    if not path.lower().endswith(".png"):
        raise UserError(f"--plot {path}: expected a name that ends in .png")
    if not Path(path).absolute().parent.is_dir():
        raise UserError(f"--plot {path}: the folder {Path(path).absolute().parent} does not exist")
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError(f"--plot {path}: needs matplotlib; pip install 'rtdscan[evaluate]' or leave --plot out")


def plot_precision_recall(
    path: str,
    *,
    detectors: Mapping[str, NDArray[np.float64]],
    right_W: NDArray[np.bool_],
    rows: Mapping[str, NDArray[np.bool_]],
    title: str,
) -> None:
    """Draw precision over recall.

    Args:
        path: PNG to write.
        detectors: Name -> score_W; the first is the model.
        right_W: Right words.
        rows: Row -> wrong words; the first is all of them, the others are kinds.
        title: Above the figure.
    """
    kinds = sorted(list(rows)[1:], key=lambda row: -int(rows[row].sum()))[:MOST_KINDS]
    figure, axes = _figure(2 if kinds else 1, title)
    every = next(iter(rows))
    for name, score_W in detectors.items():
        _draw(axes[0], score_W, right_W, rows[every], label=name)
    axes[0].axhline(rows[every].sum() / (rows[every] | right_W).sum(), color="grey", lw=0.8, ls=":", label="chance")
    axes[0].set_title("all kinds of errors", fontsize=10)
    if kinds:
        model = next(iter(detectors.values()))
        for kind in kinds:
            _draw(axes[1], model, right_W, rows[kind], label=kind)
        axes[1].set_title("the model, kinds of errors each against all right words", fontsize=10)
    for axis in axes:
        axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
        axis.legend(fontsize=8)
        axis.grid(alpha=0.25)
    figure.savefig(path, dpi=120)


def plot_reliability(path: str, tables: Mapping[str, Reliability], *, title: str) -> None:
    """Draw the share of wrong words over the probability, and how many words there are; the legend has the errors.

    Args:
        path: PNG to write.
        tables: Name -> reliability.
        title: Above the figure.
    """
    figure, axes = _figure(2, title)
    axes[0].plot([0, 1], [0, 1], color="grey", lw=0.8, ls=":")
    for name, found in tables.items():
        bins = found.bins
        mean, rate = [b.mean for b in bins], [b.rate for b in bins]
        spread = [
            [max(0.0, b.rate - b.interval[0]) for b in bins],
            [max(0.0, b.interval[1] - b.rate) for b in bins],
        ]
        axes[0].errorbar(mean, rate, yerr=spread, marker="o", ms=4, lw=1, capsize=2, label=_told(name, found))
        axes[1].step(
            [b.low for b in bins] + [1.0], [b.words for b in bins] + [bins[-1].words], where="post", label=name
        )
    axes[0].set(xlabel="probability", ylabel="share of wrong words (95 % interval)", xlim=(0, 1), ylim=(0, 1))
    axes[1].set(xlabel="probability", ylabel="words", xlim=(0, 1), yscale="log")
    for axis in axes:
        axis.legend(fontsize=8)
        axis.grid(alpha=0.25)
    figure.savefig(path, dpi=120)


def _told(name: str, found: Reliability) -> str:
    """A legend's two lines: the calibration error over all words, and what holds for candidates."""
    candidates = found.candidates
    ratio = "" if candidates.ratio is None else f", mean / observed {candidates.ratio:.2f}"
    least = f"p ≥ {CANDIDATE:g}: "
    line = f"{least}{candidates.error:.3f}{ratio}" if candidates.words else f"{least}no words"
    return f"{name}: calibration error {found.error:.4f}\n{line}"


def _figure(panels: int, title: str) -> tuple[Any, list[Any]]:
    # Not pyplot: that keeps figures and looks for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * panels, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    return figure, [figure.add_subplot(1, panels, at + 1) for at in range(panels)]


def _draw(
    axis: Any, score_W: NDArray[np.float64], right_W: NDArray[np.bool_], wrong_W: NDArray[np.bool_], *, label: str
) -> None:
    chosen_W = right_W | wrong_W
    curve = Curve.of(score_W[chosen_W], wrong_W[chosen_W])
    keep = np.unique(np.linspace(0, len(curve.score_G) - 1, POINTS).astype(np.int64))
    if len(curve.score_G) < 5:  # a yes or no: points, since no threshold lies between them
        axis.plot(curve.recall_G[:-1], curve.precision_G[:-1], "o", ms=6, label=label)
    else:
        axis.plot(curve.recall_G[keep], curve.precision_G[keep], lw=1.2, label=label)
