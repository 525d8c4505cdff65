"""Do probabilities mean what they say?

Shapes: W words, C candidates, B bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtdscan.pipeline.detection.logistic import fit
from rtdscan.pipeline.detection.metrics import Interval, wilson
from rtdscan.transforms.readout import sigmoid

Floats = NDArray[np.float64]

CANDIDATE = 0.05
"""Words of this probability or more are candidates, see also `thresholds.floor`. Where errors are rare nearly all words
are right and far below, and the calibration error over all of them hides that of these: .003 and .085 on typing errors
in web text, where candidates' probabilities are 1.5 times what they should be."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Words of about one probability.

    Attributes:
        low, high: Bounds of the probability, the upper one exclusive but in the last bin.
        words: How many there are, weighted to the expected rate of errors.
        mean: Their mean probability.
        rate: Their share of wrong words.
        interval: Of `rate`, 95 %, Wilson's: as if words were independent, which those of one text are not.
    """

    low: float
    high: float
    words: float
    mean: float
    rate: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Candidates:
    """Words of probability CANDIDATE or more, but for those whose probability a rule has fixed.

    Attributes:
        words: How many there are, weighted to the expected rate of errors.
        error: Expected calibration error.
        mean: Their mean probability.
        rate: Their share of wrong words.
    """

    words: float
    error: float
    mean: float
    rate: float

    @property
    def ratio(self) -> float | None:
        """Mean probability over share of wrong words, above 1 where probabilities are too high; None: none is wrong."""
        return self.mean / self.rate if self.rate else None

    def to_json(self) -> dict[str, Any]:
        """Plain values by name; what does not exist is null."""
        found = {"calibration_error": self.error, "mean": self.mean, "rate": self.rate, "ratio": self.ratio}
        return {"least": CANDIDATE, "words": self.words, **(found if self.words else dict.fromkeys(found))}

    def told(self) -> str:
        """0.085; mean probability 0.241, share of wrong words 0.157, ratio 1.54."""
        if not self.words:
            return "– (none)"
        ratio = "" if self.ratio is None else f", ratio {self.ratio:.2f}"
        return f"{self.error:.3f}; mean probability {self.mean:.3f}, share of wrong words {self.rate:.3f}{ratio}"


@dataclass(frozen=True, slots=True)
class Reliability:
    """Probabilities against what was wrong.

    Attributes:
        bins: All words; empty where there are none.
        candidates: See there.
    """

    bins: list[Bin]
    candidates: Candidates

    @staticmethod
    def of(p_W: Floats, wrong_W: NDArray[np.bool_], *, fixed_W: NDArray[np.bool_], weight_W: Floats) -> "Reliability":
        """Of words.

        Args:
            p_W: Probabilities.
            wrong_W: Labels.
            fixed_W: Words whose probability a rule has fixed.
            weight_W: Weights to the expected rate of errors.
        """
        chosen_W = (p_W >= CANDIDATE) & ~fixed_W
        p_C, wrong_C, weight_C = p_W[chosen_W], wrong_W[chosen_W], weight_W[chosen_W]
        words = float(weight_C.sum())
        candidates = Candidates(
            words=words,
            error=calibration_error(bins_of(p_C, wrong_C, weight_W=weight_C)),
            mean=float(weight_C @ p_C) / max(words, 1e-300),
            rate=float(weight_C @ wrong_C) / max(words, 1e-300),
        )
        return Reliability(bins_of(p_W, wrong_W, weight_W=weight_W), candidates)

    @property
    def error(self) -> float:
        """Expected calibration error over all words."""
        return calibration_error(self.bins)


class Prior(NamedTuple):
    """Weights of words under which the share of errors is that of the corpus to be scanned.

    Made once, over all words that count: whoever weighs some of them only, those that rules leave open say, means the
    same corpus.
    """

    wrong: float = 1.0
    right: float = 1.0

    @staticmethod
    def of(wrong_W: NDArray[np.bool_], expected: float | None) -> "Prior":
        """For a share `expected` of wrong words; None: as here. The weights sum to W."""
        if expected is None:
            return AS_HERE
        rate = float(wrong_W.mean())
        return Prior(expected / rate, (1 - expected) / (1 - rate))

    def weigh(self, wrong_W: NDArray[np.bool_]) -> Floats:
        """Weight of each word."""
        return np.where(wrong_W, self.wrong, self.right)

    @property
    def shift(self) -> float:
        """What it adds to every logit (Saerens et al., 2002: only the prior has changed)."""
        return float(np.log(self.wrong) - np.log(self.right))


AS_HERE = Prior()
"""The share of errors of the labelled words."""


def platt(logit_W: Floats, wrong_W: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of p = sigmoid(slope * logit + intercept) of greatest likelihood (J. Platt, 1999)."""
    # Standardised prior zero and a ridge of one: an observation's worth, so that separable words stay finite.
    found = fit(logit_W[:, None], wrong_W, ridge=1.0)
    return float(found.coefficient_F[0]), found.intercept


def bins_of(p_W: Floats, wrong_W: NDArray[np.bool_], *, weight_W: Floats, bins: int = 10) -> list[Bin]:
    """The reliability table: bins of equal width, those without words left out."""
    which_W = np.minimum((p_W * bins).astype(np.int64), bins - 1)
    words_B = np.bincount(which_W, weight_W, minlength=bins)
    mean_B = np.bincount(which_W, weight_W * p_W, minlength=bins) / np.maximum(words_B, 1e-300)
    rate_B = np.bincount(which_W, weight_W * wrong_W, minlength=bins) / np.maximum(words_B, 1e-300)
    # Weighted words are worth fewer observations (L. Kish: square of the sum over sum of squares).
    worth_B = words_B**2 / np.maximum(np.bincount(which_W, weight_W**2, minlength=bins), 1e-300)
    return [
        Bin(
            low=at / bins,
            high=(at + 1) / bins,
            words=float(words_B[at]),
            mean=float(mean_B[at]),
            rate=float(rate_B[at]),
            interval=wilson(float(rate_B[at] * worth_B[at]), float(worth_B[at])),
        )
        for at in np.flatnonzero(words_B > 0).tolist()
    ]


def calibration_error(table: Sequence[Bin]) -> float:
    """Expected calibration error: mean distance between probability and share of wrong words, by words."""
    words = sum(bin_.words for bin_ in table)
    return sum(bin_.words * abs(bin_.mean - bin_.rate) for bin_ in table) / max(words, 1e-300)


def probability(logit_W: Floats, slope: float, intercept: float) -> Floats:
    """sigmoid(slope * logit + intercept)."""
    return sigmoid(slope * logit_W + intercept)
