"""Figures as SVG that takes its colours and letters from the page, light or dark. No script, no link, no user's text.

matplotlib draws; each colour it draws with stands for a variable of the page's style sheet.

Shapes: E bins, S sampled documents.
"""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.pipeline.report.rows import SCORE_EDGES_E, Rows
from rtdscan.transforms.drift import PSI_SCORES
from rtdscan.transforms.tally import LENGTH_EDGES, Tally

COLOURS = {
    "#010101": "ink",
    "#020202": "soft",
    "#030303": "line",
    "#040404": "keep",
    "#050505": "review",
    "#060606": "drop",
    "#070707": "accent",
}
"""What is drawn with -> variable of the style sheet that takes its place."""

INK, SOFT, LINE, KEEP, REVIEW, DROP, ACCENT = COLOURS

SIZE = (5.2, 3.1)
"""Inches of 72 CSS pixels: two stand side by side on a wide page, and letters stay readable on a phone."""

_DASHES = (0, (3, 3))
_STYLE: Any = {
    "font.size": 9.5,
    "svg.fonttype": "none",  # letters stay letters, in the page's font
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "ytick.major.size": 0,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def missing() -> str | None:
    """What to do where pages or figures can't be made here, in one line; None where they can."""
    lacking = [name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None]
    return f"it needs {' and '.join(lacking)}: pip install {' '.join(lacking)}" if lacking else None


def score_figure(rows: Rows, *, thresholds: Mapping[str, Any]) -> str:
    """Documents by score, on a logarithmic scale: a share of .2 and one of .002 are both seen."""
    figure, axis = _figure()
    first, last = _range(rows.scores_E, thresholds)
    edges_E = SCORE_EDGES_E[first : last + 1]
    colours = [_colour(score, thresholds) for score in np.sqrt(edges_E[:-1] * edges_E[1:])]
    width_E = np.diff(edges_E) * 0.92
    axis.bar(edges_E[:-1], rows.scores_E[first:last], width_E, align="edge", color=colours, linewidth=0)
    axis.set_xscale("log")
    axis.set_xlim(edges_E[0], edges_E[-1])
    _log_ticks(axis.xaxis)
    for name in ("review", "drop"):
        if edges_E[0] < thresholds[name] < edges_E[-1]:
            axis.axvline(thresholds[name], color=SOFT, lw=0.9, ls=_DASHES)
            at = axis.get_xaxis_transform()
            axis.text(thresholds[name], 1.02, name, transform=at, color=SOFT, ha="center", fontsize=8.5)
    axis.yaxis.grid(True)
    _count_ticks(axis.yaxis)
    axis.set_xlabel("score")
    return _svg(figure, "scores", "Histogram: documents by score")


def length_figure(rows: Rows, *, thresholds: Mapping[str, Any]) -> str:
    """Score against length of the sampled documents, and the median of each octave of lengths."""
    figure, axis = _figure()
    words_S, score_S = np.maximum(rows.words_S, 1), np.clip(rows.score_S, SCORE_EDGES_E[0], 1)
    colours = [_colour(score, thresholds) for score in score_S]
    axis.scatter(words_S, score_S, s=9, color=colours, alpha=0.55, linewidth=0)
    octave_S = np.floor(np.log2(words_S)).astype(np.int64)
    middle = [
        (2.0 ** (octave + 0.5), float(np.median(score_S[octave_S == octave])))
        for octave in np.unique(octave_S)
        if (octave_S == octave).sum() >= 5
    ]
    if len(middle) > 1:
        axis.plot(*zip(*middle, strict=True), color=INK, lw=1.3)
        axis.annotate("median", middle[-1], (4, 0), textcoords="offset points", va="center", color=INK, fontsize=8.5)
    axis.set_xscale("log")
    axis.set_yscale("log")
    lowest = float(score_S.min(initial=thresholds["review"] or 1))
    low = max(lowest / 1.5, SCORE_EDGES_E[0])
    high = min(1.05, max(1.5 * float(score_S.max(initial=low)), 1.6 * thresholds["review"]))
    axis.set_ylim(low, high)
    for name in ("review", "drop"):
        if low < thresholds[name] < high:
            axis.axhline(thresholds[name], color=SOFT, lw=0.9, ls=_DASHES)
            at = axis.get_yaxis_transform()
            axis.text(0, thresholds[name] * 1.06, name, transform=at, color=SOFT, fontsize=8.5)
    axis.yaxis.grid(True)
    _log_ticks(axis.yaxis)
    _length_ticks(axis)
    axis.set_xlabel("words in the document")
    axis.set_ylabel("score")
    return _svg(figure, "lengths", "Scatter plot: score against length of documents")


def drift_figures(now: Tally, base: Tally) -> tuple[str, str]:
    """Scores and lengths of this run beside those of the accepted one, as shares of documents."""
    figure, axis = _figure()
    edges = [f"{edge / 100:g}" for edge in PSI_SCORES]
    names = [f"{low}–{high}" for low, high in zip(edges, [*edges[1:], "1"], strict=True)]
    for tally, place, colour, label in ((base, -0.21, SOFT, "accepted run"), (now, 0.21, ACCENT, "this run")):
        shares = _shares([sum(part) for part in np.split(np.asarray(tally.scores), PSI_SCORES[1:])])
        axis.bar(
            np.arange(len(names)) + place,
            shares,
            0.4,
            color=colour,
            alpha=0.45 if tally is base else 1,
            label=label,
            linewidth=0,
        )
    axis.set_xticks(range(len(names)), names, fontsize=8, rotation=30, ha="right", rotation_mode="anchor")
    _share_axis(axis, "score")
    scores = _svg(figure, "drift-scores", "Bars: documents by score, this run beside the accepted one")
    figure, axis = _figure()
    used = np.flatnonzero(np.add(now.lengths, base.lengths))
    first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    middle_E = np.sqrt(np.multiply((1, *LENGTH_EDGES[1:]), (*LENGTH_EDGES[1:], 2 * LENGTH_EDGES[-1])))[first:last]
    for tally, colour, label in ((base, SOFT, "accepted run"), (now, ACCENT, "this run")):
        shares = _shares(tally.lengths)[first:last]
        axis.plot(middle_E, shares, color=colour, lw=1.6, ls=_DASHES if tally is base else "-", label=label)
    axis.set_xscale("log")
    _length_ticks(axis)
    _share_axis(axis, "words in the document")
    return scores, _svg(figure, "drift-lengths", "Lines: documents by length, this run beside the accepted one")


def _figure() -> tuple[Any, Any]:
    # Not pyplot: that keeps figures and looks for a screen.
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        return figure, figure.add_subplot()


def _svg(figure: Any, name: str, title: str) -> str:
    """A figure as an element of HTML; the same figure gives the same characters."""
    from matplotlib import rc_context

    sink = StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": name, "svg.id": None}):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = sink.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"<defs>\s*</defs>", "", drawn)
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", drawn))
    # One page, several figures: what nothing refers to needs no name, and the other names are the figure's own.
    drawn = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", drawn)
    drawn = re.sub(r'(url\(|href=")#', rf"\1#{name}-", drawn)
    drawn = re.sub(r"font-family: [^;\"]+;?|font: [0-9.]+px [^;\"]+;?", _own_font, drawn)
    drawn = re.sub(r'^<svg [^>]*viewBox="([^"]*)"[^>]*>', _opening(title), drawn)
    for colour, variable in COLOURS.items():
        drawn = drawn.replace(colour, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", drawn)


def _own_font(found: "re.Match[str]") -> str:
    size = re.match(r"font: ([0-9.]+px)", found[0])
    return f"font-size: {size[1]};" if size else ""


def _opening(title: str) -> str:
    return rf'<svg viewBox="\1" role="img" aria-label="{title}">'


def _range(counts_E: NDArray[np.int64], thresholds: Mapping[str, Any]) -> tuple[int, int]:
    """First bin and last, exclusive, of what there is to see: all documents and the nearest threshold."""
    used = np.flatnonzero(counts_E)
    if not len(used):
        return 0, len(counts_E)
    review = int(np.searchsorted(SCORE_EDGES_E, max(thresholds["review"], SCORE_EDGES_E[1])))
    return max(0, int(used[0]) - 1), min(len(counts_E), max(int(used[-1]) + 2, review + 3))


def _colour(score: float, thresholds: Mapping[str, Any]) -> str:
    return DROP if score >= thresholds["drop"] else REVIEW if score >= thresholds["review"] else KEEP


def _shares(counts: Sequence[int]) -> NDArray[np.float64]:
    return np.asarray(counts, dtype=np.float64) / max(sum(counts), 1)


def _share_axis(axis: Any, label: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.yaxis.grid(True)
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    axis.set_xlabel(label)
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper right", fontsize=8.5, borderaxespad=0, frameon=False, labelcolor=SOFT)


def _count_ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))


def _log_ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    few = high / low < 30
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if few else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10f}".rstrip("0").rstrip(".")))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def _length_ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_xlim()
    axis.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high / low < 300 else (1,)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda words, _: f"{words:,.0f}"))
    axis.xaxis.set_minor_locator(NullLocator())
