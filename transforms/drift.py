"""How far a run is from the accepted one: PSI and KS of scores and lengths, shift of the mean embedding.

All come from a tally's histograms and sums, so they cost nothing and add up over shards. No numpy for a hundred
numbers, but for `psi_by_chance`.

A value of 0 means no difference. How large one may get by chance depends on the number of documents: `Measure.chance`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtdscan.transforms.tally import Tally

MEASURES = ("psi_score", "ks_score", "psi_length", "ks_length", "embedding_shift")
"""Names of the measures; gates speak of them as `drift.psi_score` and so on."""

OF_SCORES = ("psi_score", "ks_score", "embedding_shift")
"""Measures that say nothing when the two runs had different models."""

LITTLE, MUCH = 0.1, 0.25
"""The usual reading of PSI: below LITTLE no change to speak of, from MUCH on another population (Siddiqi, Credit Risk
Scorecards, 2006, after Lewis, 1994). A convention, not a test."""

PSI_SCORES = (0, 1, 2, 3, 5, 10, 20, 30, 50)
"""First bins (hundredths) of the bins in which PSI compares scores: narrow where most documents are."""

FLOOR = 1e-4
"""Added to each share before its logarithm is taken, so that an empty bin counts, but not infinitely."""

SPLITS = 999
"""Random splits by which the PSI of chance is found: 2 ms."""

MOST_SPLIT = 10**9
"""From so many documents on numpy can't draw splits; chance is then next to nothing."""

_TAIL = 1.645
"""The standard normal distribution's 95th percentile."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How far two runs are apart.

    Attributes:
        value: The distance; None where one of the two has no documents (or no embeddings).
        chance: What 1 of 20 pairs of corpora from one source exceeds; None where no formula is known. Documents are
            taken as independent; those of one file seldom are, so this is a lower bound.
    """

    value: float | None
    chance: float | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """The accepted run, all that later ones are compared with.

    Attributes:
        accepted_at: When it was accepted, ISO 8601.
        finished_at: When its scan ended; None where it was accepted unfinished.
        model: Name of its bundle; None where it was accepted unfinished.
        model_digest: Digest of its bundle; None as above.
        scoring: Digest of all that changes scores (see records.Fingerprint).
        tally: Of the whole run, without its worst documents.
    """

    accepted_at: str
    finished_at: str | None
    model: str | None
    model_digest: str | None
    scoring: str
    tally: "Tally"

    def to_fields(self) -> dict[str, Any]:
        """For JSON; `from_fields` reads it."""
        return {"format": 1, **asdict(replace(self, tally=replace(self.tally, worst=())))}

    @staticmethod
    def from_fields(fields: Mapping[str, Any]) -> "Baseline":
        """Read what `to_fields` gave.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: It is something else.
        """
        from rtdscan.transforms.tally import Tally

        if fields["format"] != 1:
            raise ValueError(f"format {fields['format']}")
        names = ("accepted_at", "finished_at", "model", "model_digest", "scoring")
        return Baseline(**{name: fields[name] for name in names}, tally=Tally.from_fields(fields["tally"]))


def drift(now: "Tally", base: "Tally") -> dict[str, Measure]:
    """All MEASURES between two tallies; symmetric."""
    scores, lengths = (_coarse(now.scores), _coarse(base.scores)), (now.lengths, base.lengths)
    return {
        "psi_score": Measure(psi(*scores), psi_by_chance(*scores)),
        "ks_score": Measure(ks(now.scores, base.scores), ks_by_chance(now.documents, base.documents)),
        "psi_length": Measure(psi(*lengths), psi_by_chance(*lengths)),
        "ks_length": Measure(ks(*lengths), ks_by_chance(now.documents, base.documents)),
        "embedding_shift": Measure(embedding_shift(now.embedding_sum, base.embedding_sum)),
    }


def psi(a: Sequence[int], b: Sequence[int]) -> float | None:
    """Population stability index of two histograms over the same bins: sum of (p - q) * ln(p / q).

    p and q are shares, each (n_i / n + FLOOR) / (1 + bins * FLOOR). That is Jeffreys' divergence (1946), the sum of
    both Kullback-Leibler divergences. Smoothing shares, not counts, makes it depend on shares alone: twice the
    documents give the same value.

    Returns:
        0 for equal shares, symmetric, below 2 * ln(1 + 1 / FLOOR), about 18; None where one histogram is empty.
    """
    p, q = _shares(a), _shares(b)
    if p is None or q is None:
        return None
    scale = 1 + len(p) * FLOOR
    return sum((x - y) * math.log((x + FLOOR) / (y + FLOOR)) for x, y in zip(p, q, strict=True)) / scale


def psi_by_chance(a: Sequence[int], b: Sequence[int]) -> float | None:
    """The 95th percentile of PSI between samples of one source, by a permutation test; symmetric.

    Were both of one source, any split of all documents into groups of these sizes would be as likely (Fisher, The
    Design of Experiments, 1935): PSI exceeds the 950th smallest of SPLITS random ones in at most 1 of 20 cases, however
    few documents there are. The formula by chi-squared needs about 5 in each bin: with 50 and 50 documents in bins of
    LENGTH_EDGES 1 of 3 pairs exceeded it. The splits are drawn with one seed, so the same counts give the same number.
    """
    import numpy as np

    n, m = sorted((sum(a), sum(b)))
    if not n:
        return None
    if n + m >= MOST_SPLIT:
        return _psi_by_chi_squared(a, b)
    both_K = np.array([x + y for x, y in zip(a, b, strict=True) if x or y])
    part_SK = np.random.default_rng(0).multivariate_hypergeometric(both_K, n, size=SPLITS, method="marginals")
    p_SK, q_SK = part_SK / n + FLOOR, (both_K - part_SK) / m + FLOOR
    psi_S = ((p_SK - q_SK) * np.log(p_SK / q_SK)).sum(axis=1) / (1 + len(a) * FLOOR)
    return float(np.sort(psi_S)[(SPLITS + 1) * 19 // 20 - 1])


def _psi_by_chi_squared(a: Sequence[int], b: Sequence[int]) -> float:
    """The same where every bin holds many documents.

    PSI is then about (1/n + 1/m) times chi-squared with one degree of freedom fewer than there are bins (Yurdakul,
    Statistical Properties of Population Stability Index, Western Michigan University, 2018); its percentile by Wilson
    and Hilferty (1931), within 3 %. Bins that are empty in both count for nothing.
    """
    free = sum(1 for x, y in zip(a, b, strict=True) if x or y) - 1
    if not free:
        return 0.0
    chi2 = free * (1 - 2 / (9 * free) + _TAIL * math.sqrt(2 / (9 * free))) ** 3
    return (1 / sum(a) + 1 / sum(b)) * chi2


def ks(a: Sequence[int], b: Sequence[int]) -> float | None:
    """Kolmogorov-Smirnov distance of two histograms over the same bins: largest gap of their cumulative shares.

    Taken at the edges of bins, so never more than between the documents themselves. In [0, 1]; None where one is empty.
    """
    p, q = _shares(a), _shares(b)
    if p is None or q is None:
        return None
    gap = largest = 0.0
    for x, y in zip(p, q, strict=True):
        gap += x - y
        largest = max(largest, abs(gap))
    return largest


def ks_by_chance(n: int, m: int) -> float | None:
    """The 95th percentile of KS between samples of one source: 1.358 * sqrt(1/n + 1/m) (Smirnov, 1948), at most 1."""
    return min(1.0, 1.358 * math.sqrt(1 / n + 1 / m)) if n and m else None


def embedding_shift(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Cosine distance between the normalised means of two sets of embeddings, given their sums: 1 - cos.

    In [0, 2]; None where one set is empty, sums up to nothing, or the two have different numbers of dimensions.
    """
    lengths = math.hypot(*a), math.hypot(*b)
    if len(a) != len(b) or not all(lengths):
        return None
    # Half the squared distance of the unit vectors is 1 - cos, and exact where they are equal.
    return sum((x / lengths[0] - y / lengths[1]) ** 2 for x, y in zip(a, b, strict=True)) / 2


def _coarse(scores: Sequence[int]) -> list[int]:
    """A histogram of scores in the bins of PSI_SCORES."""
    return [sum(scores[first:last]) for first, last in zip(PSI_SCORES, (*PSI_SCORES[1:], None), strict=True)]


def _shares(counts: Sequence[int]) -> list[float] | None:
    total = sum(counts)
    return [count / total for count in counts] if total else None
