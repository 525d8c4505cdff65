"""From which probability on is a flag right as often as wanted, and which documents stand out?

Shapes: W words, G distinct probabilities, D documents.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.pipeline.detection.metrics import Curve, Interval, flag_interval
from rtdscan.pipeline.detection.reliability import AS_HERE, Prior

Floats = NDArray[np.float64]

LEAST_FLAGGED = 20
"""Words that a threshold must flag, or its precision is an accident."""

DRAWS = 1000
"""Of the bootstrap of a threshold's precision."""

QUIET = 0.98
"""Share of documents without errors that are to stay below `thresholds.review`."""

ROTTEN = 0.2
"""A document with this share of wrong words is meant to be dropped."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where flags reach a precision.

    Attributes:
        wanted: Precision that was asked for.
        threshold: Words at or above it are flagged; None: no threshold that flags LEAST_FLAGGED words reaches it.
        precision, interval: As measured there, with a 95 % interval by drawing documents anew; None where few documents
            have flags.
        held_out: Precision of flags in documents that had no part in choosing their threshold, see `_held_out`; None
            where there are none.
        recall: Share of the wrong words that are flagged.
        flagged: Share of all words that are flagged.
    """

    wanted: float
    threshold: float | None
    precision: float = float("nan")
    interval: Interval | None = None
    held_out: float | None = None
    recall: float = 0.0
    flagged: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values by name; what does not exist is null."""
        values = asdict(self)
        values["interval"] = self.interval and list(self.interval)
        return values | ({"precision": None} if self.threshold is None else {})


def threshold_for(
    precision: float,
    p_W: Floats,
    wrong_W: NDArray[np.bool_],
    *,
    document_W: NDArray[np.int64],
    fold_W: NDArray[np.int64],
    prior: Prior = AS_HERE,
    seed: int = 0,
) -> Threshold:
    """The lowest threshold whose flags are right as often as wanted.

    Args:
        precision: Wanted.
        p_W: Probabilities, rounded to float32 as the scan stores them.
        wrong_W: Labels.
        document_W: Text of each word.
        fold_W: Part of each word, all words of a text in one.
        prior: Share of wrong words where the threshold will be used; default: as here.
        seed: Of the interval.
    """
    p_W = p_W.astype(np.float32).astype(np.float64)
    curve = Curve.of(p_W, wrong_W)
    at = _lowest(precision, curve, prior, least=LEAST_FLAGGED)
    if at is None:
        return Threshold(precision, None)
    hits_G, flagged_G = _weighed(curve, prior)
    flagged_W = p_W >= curve.score_G[at]
    below = curve.score_G[at + 1] if at + 1 < len(curve.score_G) else 0.0
    return Threshold(
        wanted=precision,
        threshold=_between(float(below), float(curve.score_G[at])),
        precision=float(hits_G[at] / flagged_G[at]),
        interval=flag_interval(wrong_W, flagged_W, document_W, weight_W=prior.weigh(wrong_W), draws=DRAWS, seed=seed),
        held_out=_held_out(precision, p_W, wrong_W, fold_W, prior),
        recall=float(curve.recall_G[at]),
        flagged=float(flagged_G[at] / flagged_G[-1]),
    )


def _weighed(curve: Curve, prior: Prior) -> tuple[Floats, Floats]:
    """Wrong words and all words at or above each score, weighted: hits_G, flagged_G."""
    hits_G = curve.wrong_G * prior.wrong
    return hits_G, hits_G + curve.right_G * prior.right


def _lowest(precision: float, curve: Curve, prior: Prior, *, least: float) -> int | None:
    """Where on the curve the lowest score is that reaches the precision with `least` words flagged."""
    hits_G, flagged_G = _weighed(curve, prior)
    precise_G = hits_G / np.maximum(flagged_G, 1e-300) >= precision
    fits = np.flatnonzero(precise_G & (curve.wrong_G + curve.right_G >= least))
    return int(fits[-1]) if len(fits) else None


def _held_out(
    precision: float, p_W: Floats, wrong_W: NDArray[np.bool_], fold_W: NDArray[np.int64], prior: Prior
) -> float | None:
    """Share of wrong words among those of each part at or above the score that the other parts choose.

    The lowest score that is precise enough is so by luck, too, the more the fewer words it flags. Measured on typing
    errors in web text, 4,000 sentences at random and the 8,500 others, 15 times: thresholds for a precision of .8 were
    right in .73 of the others (held out .75), those for .5 in .49 (.50). Chosen by the lower bound of Wilson's interval
    (95 %, one-sided) none was found for .8, and those for .5 were right in .54 and found a tenth fewer errors.
    """
    hits = flagged = 0.0
    for fold in np.unique(fold_W):
        rest_W = fold_W != fold
        curve = Curve.of(p_W[rest_W], wrong_W[rest_W])
        at = _lowest(precision, curve, prior, least=LEAST_FLAGGED * float(rest_W.mean()))
        if at is not None:
            flagged_W = ~rest_W & (p_W >= curve.score_G[at])
            weight_W = prior.weigh(wrong_W[flagged_W])
            hits += float(weight_W @ wrong_W[flagged_W])
            flagged += float(weight_W.sum())
    return hits / flagged if flagged else None


def document_thresholds(
    p_W: Floats, wrong_W: NDArray[np.bool_], document_W: NDArray[np.int64], *, documents: int
) -> tuple[float, float]:
    """When a document is reviewed, and when dropped.

    review: documents without errors stay below with a chance of QUIET. What a document would score without its errors
    is the mean over its right words. drop: half of the documents that are at least ROTTEN lie above, but no more than
    one document in a thousand without errors; without twenty such documents, four times `review`.

    Returns:
        review, drop.
    """
    right_D = np.bincount(document_W[~wrong_W], minlength=documents)
    sum_D = np.bincount(document_W[~wrong_W], p_W[~wrong_W], minlength=documents)
    clean = sum_D[right_D > 0] / right_D[right_D > 0]
    words_D = np.bincount(document_W, minlength=documents)
    score_D = np.bincount(document_W, p_W, minlength=documents) / np.maximum(words_D, 1)
    rotten_D = (words_D > 0) & (words_D - right_D >= ROTTEN * words_D)
    review = float(np.quantile(clean, QUIET))
    drop = float(np.median(score_D[rotten_D])) if rotten_D.sum() >= 20 else 4 * review
    drop = max(drop, float(np.quantile(clean, 0.999)), 2 * review)
    return _round(review), min(1.0, _round(drop))


def _between(low: float, high: float) -> float:
    """The roundest number above `low` and at most `high`, as float32, which the scan compares in."""
    for digits in range(2, 12):
        rounded = float(np.floor(high * 10**digits) / 10**digits)
        if np.float32(rounded) > np.float32(low):
            return rounded
    return high


def _round(value: float) -> float:
    return float(f"{value:.3g}")
