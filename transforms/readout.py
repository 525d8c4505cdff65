"""From token logits to word probabilities. These belong to the scoring: they are stored, and `presentation.py` works
from what is stored.

Shapes: N tokens, W words (both of many texts, one after the other), P token-word pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.bundle import BundleCard

DAMAGE_PROBABILITY = 0.99
"""Of a word that holds U+FFFD, a control character or an unassigned or private code point: tokenizers delete these, so
the network never sees them. And of what machines left in prose, see residue.py. Such a word is damaged whatever its
context says."""

INVISIBLE_PROBABILITY = 0.0
"""Of a word without a piece that is not damaged (stray accents, which an uncased tokenizer strips)."""

DEFAULT_COEFFICIENTS = {"largest": 1.0}
"""Of a bundle that has none: a word is as odd as its oddest piece."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which token belongs to which word, over many texts: token_P and word_P, word_P ascending."""

    token_P: NDArray[np.int64]
    word_P: NDArray[np.int64]


def word_features(
    names: Sequence[str],
    *,
    logit_N: NDArray[np.float32],
    pairs: Pairs,
    n_words: int,
    given: Mapping[str, Array] = MappingProxyType({}),
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Evidence about each word.

    Args:
        names: Features wanted: `largest`, `mean`, `first` (logits of its pieces), `pieces` (log of their number), and
            those of `given`.
        logit_N: The network's output.
        pairs: Pieces of words.
        n_words: W.
        given: Name -> feature of all W words, from `lexicon.piece_features` and `text_levels`.

    Returns:
        feature_WF in the order of `names`, and seen_W: False for words without a piece (their features are 0).
    """
    counts_W = np.bincount(pairs.word_P, minlength=n_words)
    seen_W = counts_W > 0
    first_P = np.flatnonzero(np.diff(pairs.word_P, prepend=-1))
    logit_P = logit_N[pairs.token_P].astype(np.float64)
    columns: dict[str, Callable[[], Array]] = {
        "largest": lambda: np.maximum.reduceat(logit_P, first_P),
        "mean": lambda: np.bincount(pairs.word_P, logit_P, minlength=n_words)[seen_W] / counts_W[seen_W],
        "first": lambda: logit_P[first_P],
        "pieces": lambda: np.log(counts_W[seen_W].astype(np.float64)),
    }
    columns |= {name: partial(np.compress, seen_W, feature_W) for name, feature_W in given.items()}
    feature_WF = np.zeros((n_words, len(names)))
    for at, name in enumerate(names):
        if len(first_P):
            feature_WF[seen_W, at] = columns[name]()
    return feature_WF, seen_W


def text_levels(logit_N: NDArray[np.float32], *, pairs: Pairs, words_T: NDArray[np.int64]) -> Array:
    """Feature `level`: how odd the network finds a whole text, the mean of `largest` over its words.

    Where much is odd, more of what is a little odd is wrong. A text is what is tokenised at once: a document, but for
    the largest (documents.PIECE_BYTES).

    Args:
        logit_N: The network's output.
        pairs: Pieces of words.
        words_T: Words of each of T texts.

    Returns:
        level_T; 0 of a text without a word that has a piece.
    """
    feature_WF, seen_W = word_features(["largest"], logit_N=logit_N, pairs=pairs, n_words=int(words_T.sum()))
    text_W = np.repeat(np.arange(len(words_T)), words_T)
    count_T = np.bincount(text_W, seen_W, minlength=len(words_T))
    # bincount adds in order, one text at a time: neighbours can't change the rounding.
    level_T: Array = np.bincount(text_W, feature_WF[:, 0], minlength=len(words_T)) / np.maximum(count_T, 1)
    return level_T


def word_probabilities(
    card: BundleCard,
    *,
    logit_N: NDArray[np.float32],
    pairs: Pairs,
    damaged_W: NDArray[np.bool_],
    given: Mapping[str, Array] = MappingProxyType({}),
) -> NDArray[np.float32]:
    """Calibrated probability, for each word, that it does not belong.

    A logistic regression over `word_features` (coefficients in the bundle), then Platt's scaling
    p = 1 / (1 + exp(-(slope * z + intercept))) with the bundle's calibration.

    Args:
        card: The bundle's readout and calibration.
        logit_N: The network's output.
        pairs: Pieces of words.
        damaged_W: Words that hold characters which the tokenizer deletes as damage.
        given: See `word_features`; those that the readout has.

    Returns:
        p_W in [0, 1].
    """
    coefficients = card.readout.coefficients or DEFAULT_COEFFICIENTS
    names = tuple(coefficients)
    feature_WF, seen_W = word_features(names, logit_N=logit_N, pairs=pairs, n_words=len(damaged_W), given=given)
    # Column by column: a matrix product's rounding may depend on the number of rows, and so on a word's neighbours.
    z_W = np.full(len(damaged_W), card.readout.intercept)
    for at, weight in enumerate(coefficients.values()):
        z_W += feature_WF[:, at] * weight
    p_W = sigmoid(card.calibration.slope * z_W + card.calibration.intercept)
    p_W[~seen_W] = INVISIBLE_PROBABILITY
    p_W[damaged_W] = DAMAGE_PROBABILITY
    return p_W.astype(np.float32)


def token_probabilities(
    card: BundleCard,
    logit_N: NDArray[np.float32],
    *,
    pairs: Pairs | None = None,
    given: Mapping[str, Array] = MappingProxyType({}),
    level_N: Array | None = None,
) -> NDArray[np.float32]:
    """Probability of each token as if it were a word of one piece with the letters of the word it belongs to.

    Args:
        card: See `word_probabilities`.
        logit_N: The network's output.
        pairs: Which words tokens belong to.
        given: Features of words, see `word_features`.
        level_N: Level of each token's text, where the readout has it.
    """
    own = Pairs(np.arange(len(logit_N)), np.arange(len(logit_N)))
    of_tokens = {name: np.zeros(len(logit_N)) for name in given}  # a token in no word: the letters say nothing
    for name, feature_W in given.items():
        assert pairs is not None, "letters are known by words"
        of_tokens[name][pairs.token_P] = feature_W[pairs.word_P]
    if level_N is not None:
        of_tokens["level"] = level_N
    undamaged_N = np.zeros(len(logit_N), dtype=bool)
    return word_probabilities(card, logit_N=logit_N, pairs=own, damaged_W=undamaged_N, given=of_tokens)


def sigmoid(z: Array) -> Array:
    """Logistic function without overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)
