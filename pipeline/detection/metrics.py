"""Scores and labels -> how well the wrong words stand out; and intervals, by drawing documents anew.

All four figures come from one curve: for each threshold, how many wrong and how many right words lie at or above it.
Words of equal score enter together, so that ties are neither luck nor bad luck.

Intervals: bootstrap over documents, because words of one text are not independent. Scores are first put into bins by
their rank, fine at the top (the first hundred ranks each alone) and one per cent wide below: a draw is then a product
of matrices, 200 draws over 400,000 words and 25 kinds of errors take a second instead of minutes.

Shapes: W words, G distinct scores, K bins, D documents, R draws.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

PRECISIONS = (0.5, 0.8, 0.9)

LEAST_DOCUMENTS = 10
"""Documents that it takes for an interval: those with an error, or with a flag. Of fewer, draws show too little."""

FEW_DOCUMENTS = (
    f"some figures have no interval: fewer than {LEAST_DOCUMENTS} documents have such errors or flags, and words of "
    "one document are not independent"
)

BINS = 900
BLOCK = 4096

Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """How well wrong words stand out by a score.

    Attributes:
        words, wrong: Words that count, and how many of them are wrong.
        auroc: Chance that a wrong word scores above a right one.
        average_precision: Precision averaged over the recall that each threshold adds (no interpolation).
        f05: Best F0.5 over all thresholds: precision counts twice as much as recall.
        f05_threshold: Score at which it is reached; words at or above count as flagged.
        recall_at: Precision -> the largest recall at any threshold of that precision or more; 0 where there is none.
        intervals: Name of a figure -> 95 % interval, None where fewer than LEAST_DOCUMENTS documents have the error;
            empty where none was asked for.
    """

    words: int
    wrong: int
    auroc: float
    average_precision: float
    f05: float
    f05_threshold: float
    recall_at: dict[float, float]
    intervals: dict[str, Interval | None]

    @property
    def base_rate(self) -> float:
        """Share of wrong words."""
        return self.wrong / max(self.words, 1)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers by name; None for those that do not exist, since JSON has no NaN."""
        values = {name: _existing(value) for name, value in asdict(self).items()}
        values["recall_at"] = {str(precision): _existing(recall) for precision, recall in self.recall_at.items()}
        values["intervals"] = {name: interval and list(interval) for name, interval in self.intervals.items()}
        return {"base_rate": self.base_rate, **values}


@dataclass(frozen=True, slots=True)
class Curve:
    """Wrong and right words at or above each distinct score.

    Attributes:
        score_G: Descending.
        wrong_G, right_G: Running counts; the last is all of them.
    """

    score_G: Floats
    wrong_G: Floats
    right_G: Floats

    @staticmethod
    def of(score_W: Floats, wrong_W: NDArray[np.bool_]) -> "Curve":
        """The curve of words."""
        order = np.argsort(-score_W, kind="stable")
        ranked = score_W[order]
        last = np.flatnonzero(np.diff(ranked, append=np.nan) != 0)
        wrong_G = np.cumsum(wrong_W[order], dtype=np.float64)[last]
        return Curve(ranked[last], wrong_G, last + 1.0 - wrong_G)

    @property
    def precision_G(self) -> Floats:
        """Share of wrong words at or above each score."""
        return self.wrong_G / np.maximum(self.wrong_G + self.right_G, 1e-300)

    @property
    def recall_G(self) -> Floats:
        """Share of the wrong words that lie at or above each score."""
        return self.wrong_G / np.maximum(self.wrong_G[-1:], 1e-300)


def _existing(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def measure(score_W: Floats, wrong_W: NDArray[np.bool_]) -> Figures:
    """Figures of one score, without intervals.

    Args:
        score_W: Any numbers, higher for wrong words.
        wrong_W: Labels.
    """
    if not wrong_W.any() or wrong_W.all():
        nothing = dict.fromkeys(PRECISIONS, float("nan"))
        nan = float("nan")
        return Figures(len(wrong_W), int(wrong_W.sum()), nan, nan, nan, nan, nothing, {})
    curve = Curve.of(score_W, wrong_W)
    values = summaries(curve.wrong_G, curve.right_G)
    best = int(np.argmax(_f05(curve.wrong_G, curve.right_G)))
    return Figures(
        words=len(wrong_W),
        wrong=int(wrong_W.sum()),
        auroc=float(values["auroc"]),
        average_precision=float(values["average_precision"]),
        f05=float(values["f05"]),
        f05_threshold=float(curve.score_G[best]),
        recall_at={precision: float(values[recall_name(precision)]) for precision in PRECISIONS},
        intervals={},
    )


def recall_name(precision: float) -> str:
    """Name of a figure in `Figures.intervals`."""
    return f"recall_at_{precision:g}"


FIGURES = ("auroc", "average_precision", "f05", *map(recall_name, PRECISIONS))
"""Names in `Figures.intervals`."""


def summaries(wrong_G: Floats, right_G: Floats) -> dict[str, Floats]:
    """Figures of curves, over the last axis.

    Args:
        wrong_G, right_G: Running counts from the highest score down, [..., G]; each ends in at least one.
    """
    wrong, right = wrong_G[..., -1], right_G[..., -1]
    gained_G = np.diff(wrong_G, axis=-1, prepend=0.0)
    lost_G = np.diff(right_G, axis=-1, prepend=0.0)
    precision_G = wrong_G / np.maximum(wrong_G + right_G, 1e-300)
    recall_G = wrong_G / wrong[..., None]
    found = {
        # A right word loses to all wrong words above it and to half of those level with it.
        "auroc": ((wrong_G - gained_G / 2) * lost_G).sum(axis=-1) / (wrong * right),
        "average_precision": (gained_G * precision_G).sum(axis=-1) / wrong,
        "f05": _f05(wrong_G, right_G).max(axis=-1),
    }
    for precision in PRECISIONS:
        found[recall_name(precision)] = np.where(precision_G >= precision, recall_G, 0.0).max(axis=-1)
    return found


def _f05(wrong_G: Floats, right_G: Floats) -> Floats:
    """1.25 P R / (0.25 P + R), which is 1.25 TP / (0.25 (TP + FN) + TP + FP)."""
    return 1.25 * wrong_G / (0.25 * wrong_G[..., -1:] + wrong_G + right_G)


def measure_kinds(
    score_W: Floats,
    right_W: NDArray[np.bool_],
    kinds: Mapping[str, NDArray[np.bool_]],
    *,
    document_W: NDArray[np.int64],
    draws: int,
    seed: int,
) -> dict[str, Figures]:
    """Figures with intervals, for each kind of error its words against all right words.

    Args:
        score_W: Higher for wrong words.
        right_W: Words that are right.
        kinds: Name -> words that are wrong in that way.
        document_W: Text of each word.
        draws: R; 0: no intervals.
        seed: Of the draws.
    """
    figures = {}
    for name, wrong_W in kinds.items():
        chosen_W = right_W | wrong_W
        figures[name] = measure(score_W[chosen_W], wrong_W[chosen_W])
    if not draws or not len(score_W):
        return figures
    intervals = _intervals(score_W, right_W, kinds, document_W=document_W, draws=draws, seed=seed)
    return {name: replace(found, intervals=intervals[name]) for name, found in figures.items()}


def _intervals(
    score_W: Floats,
    right_W: NDArray[np.bool_],
    kinds: Mapping[str, NDArray[np.bool_]],
    *,
    document_W: NDArray[np.int64],
    draws: int,
    seed: int,
) -> dict[str, dict[str, Interval | None]]:
    bin_W = rank_bins(score_W)
    bins = int(bin_W.max()) + 1
    documents, text_W = np.unique(document_W, return_inverse=True)
    times_RD = draw_documents(len(documents), draws=draws, seed=seed)
    right_RK = np.cumsum(_drawn(times_RD, text_W[right_W], bin_W[right_W], bins=bins), axis=1)
    found: dict[str, dict[str, Interval | None]] = {}
    for name, wrong_W in kinds.items():
        wrong_RK = np.cumsum(_drawn(times_RD, text_W[wrong_W], bin_W[wrong_W], bins=bins), axis=1)
        usable_R = (wrong_RK[:, -1] > 0) & (right_RK[:, -1] > 0)
        if len(np.unique(text_W[wrong_W])) < LEAST_DOCUMENTS or not usable_R.any():
            found[name] = dict.fromkeys(FIGURES)
            continue
        values = summaries(wrong_RK[usable_R], right_RK[usable_R])
        found[name] = {
            figure: (float(np.quantile(value_R, 0.025)), float(np.quantile(value_R, 0.975)))
            for figure, value_R in values.items()
        }
    return found


def draw_documents(documents: int, *, draws: int, seed: int) -> NDArray[np.float32]:
    """How often each document is drawn, times_RD: rows are draws of as many documents as there are."""
    rng = np.random.default_rng(seed)
    times_RD = np.empty((draws, documents), dtype=np.float32)
    for row in times_RD:
        row[:] = np.bincount(rng.integers(documents, size=documents), minlength=documents)
    return times_RD


def rank_bins(score_W: Floats) -> NDArray[np.int64]:
    """Bin of each word, 0 the highest; equal scores share one."""
    _, inverse = np.unique(-score_W, return_inverse=True)
    rank_G = np.cumsum(np.bincount(inverse))
    edges = np.unique(np.geomspace(1, len(score_W), BINS).astype(np.int64))
    bin_G = np.searchsorted(edges, rank_G, "left")
    bin_W: NDArray[np.int64] = np.unique(bin_G, return_inverse=True)[1][inverse]
    return bin_W


def _drawn(times_RD: NDArray[np.float32], text_N: NDArray[np.int64], bin_N: NDArray[np.int64], *, bins: int) -> Floats:
    """Words in each bin in each draw; a block of documents at a time, for memory."""
    total_RK = np.zeros((len(times_RD), bins))
    order = np.argsort(text_N, kind="stable")
    text_N, bin_N = text_N[order], bin_N[order]
    present, first = np.unique(text_N, return_index=True)
    for at in range(0, len(present), BLOCK):
        block = present[at : at + BLOCK]
        stop = first[at + BLOCK] if at + BLOCK < len(first) else len(text_N)
        rows = np.searchsorted(block, text_N[first[at] : stop])
        count_DK = np.bincount(rows * bins + bin_N[first[at] : stop], minlength=len(block) * bins)
        total_RK += times_RD[:, block] @ count_DK.reshape(len(block), bins).astype(np.float32)
    return total_RK


def share_interval(hits_D: Floats, of_D: Floats, *, draws: int, seed: int) -> Interval | None:
    """95 % interval of a share of words, sum(hits) / sum(of), by drawing documents anew.

    Args:
        hits_D, of_D: Words of each document, weighted or not.
        draws, seed: Of the bootstrap.

    Returns:
        None without draws, and where fewer than LEAST_DOCUMENTS documents have such words.
    """
    documents, some_D = len(of_D), of_D > 0
    hits_D, of_D = hits_D[some_D], of_D[some_D]
    if not draws or len(of_D) < LEAST_DOCUMENTS:
        return None
    share = float(hits_D.sum() / of_D.sum())
    if share in (0.0, 1.0):  # no draw gives another
        return wilson(share * len(of_D), len(of_D))
    rng = np.random.default_rng(seed)
    found = []
    for drawn in rng.binomial(documents, len(of_D) / documents, size=draws).tolist():  # the others add nothing
        at = rng.integers(len(of_D), size=max(drawn, 1))
        found.append(hits_D[at].sum() / of_D[at].sum())
    low, high = np.quantile(found, [0.025, 0.975]).tolist()
    return min(low, share), max(high, share)


def flag_interval(
    hit_W: NDArray[np.bool_],
    flagged_W: NDArray[np.bool_],
    document_W: NDArray[np.int64],
    *,
    weight_W: Floats | None = None,
    draws: int,
    seed: int,
) -> Interval | None:
    """95 % interval of the share of flagged words that are wrong, see `share_interval`."""
    _, text_W = np.unique(document_W, return_inverse=True)
    documents = int(text_W.max(initial=-1)) + 1
    weight_W = np.ones(len(hit_W)) if weight_W is None else weight_W
    hits_D, of_D = (
        np.bincount(text_W[chosen_W], weight_W[chosen_W], minlength=documents).astype(np.float64)
        for chosen_W in (hit_W & flagged_W, flagged_W)
    )
    return share_interval(hits_D, of_D, draws=draws, seed=seed)


def told(share: float, interval: Interval | None) -> str:
    """0.812 (0.790 to 0.834), or 0.812 (–)."""
    return f"{share:.3f} (–)" if interval is None else f"{share:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def wilson(hits: float, of: float, *, z: float = 1.959963984540054) -> Interval:
    """Wilson's score interval of a share (E. B. Wilson, 1927); 95 % by default.

    Args:
        hits, of: Counts; may be fractions where observations are weighted.
        z: Quantile of the normal distribution.
    """
    if of <= 0:
        return (0.0, 1.0)
    share = hits / of
    centre = share + z * z / (2 * of)
    half = z * float(np.sqrt(max(share * (1 - share), 0.0) / of + z * z / (4 * of * of)))
    scale = 1 + z * z / of
    # The share itself lies inside; rounding would put 1 above the upper bound.
    return (max(0.0, min(share, (centre - half) / scale)), min(1.0, max(share, (centre + half) / scale)))
