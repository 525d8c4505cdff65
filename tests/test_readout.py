"""From logits to probabilities: numbers worked out by hand, and properties."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.transforms.bundle import BundleCard, CalibrationCard, ReadoutCard
from rtdscan.transforms.readout import (
    DAMAGE_PROBABILITY,
    Pairs,
    text_levels,
    token_probabilities,
    word_features,
    word_probabilities,
)

PAIRS = Pairs(np.array([0, 1, 2, 3]), np.array([0, 0, 0, 2]))  # word 0 has three pieces, word 1 none, word 2 one
LOGITS = np.array([1.0, 3.0, -1.0, -2.0], dtype=np.float32)


def test_features_of_words() -> None:
    feature_WF, seen_W = word_features(["largest", "mean", "first", "pieces"], logit_N=LOGITS, pairs=PAIRS, n_words=3)
    assert seen_W.tolist() == [True, False, True]
    np.testing.assert_allclose(feature_WF, [[3, 1, 1, math.log(3)], [0, 0, 0, 0], [-2, -2, -2, 0]])


def test_probabilities_by_hand() -> None:
    card = BundleCard(
        readout=ReadoutCard(coefficients={"largest": 0.5, "first": 2.0}, intercept=-1.0),
        calibration=CalibrationCard(slope=2.0, intercept=0.25),
    )
    p_W = word_probabilities(card, logit_N=LOGITS, pairs=PAIRS, damaged_W=np.zeros(3, dtype=bool))
    # word 0: z = 0.5*3 + 2*1 - 1 = 2.5, 2*2.5 + 0.25 = 5.25; word 2: z = -1 - 4 - 1 = -6, 2*-6 + 0.25 = -11.75
    expected = [1 / (1 + math.exp(-5.25)), 0.0, 1 / (1 + math.exp(11.75))]
    np.testing.assert_allclose(p_W, expected, rtol=1e-6)
    assert p_W.dtype == np.float32


def test_a_damaged_word_needs_no_network() -> None:
    p_W = word_probabilities(BundleCard(), logit_N=LOGITS, pairs=PAIRS, damaged_W=np.array([False, True, True]))
    np.testing.assert_allclose(p_W, [1 / (1 + math.exp(-3)), DAMAGE_PROBABILITY, DAMAGE_PROBABILITY], rtol=1e-6)


@given(st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=40))
def test_a_token_is_a_word_of_one_piece(logits: list[float]) -> None:
    logit_N = np.array(logits, dtype=np.float32)
    p_N = token_probabilities(BundleCard(), logit_N)
    assert ((p_N >= 0) & (p_N <= 1)).all()
    alone = [float(token_probabilities(BundleCard(), logit_N[i : i + 1])[0]) for i in range(len(logits))]
    assert p_N.tolist() == alone  # to the bit, whatever the neighbours


def test_the_level_of_a_text_is_the_mean_of_its_words() -> None:
    level_T = text_levels(LOGITS, pairs=PAIRS, words_T=np.array([2, 0, 1]))
    assert level_T.tolist() == [3.0, 0.0, -2.0], "word 1 has no piece, the second text no word"
    card = BundleCard(readout=ReadoutCard(coefficients={"largest": 1.0, "level": 0.5}))
    given = {"level": np.repeat(level_T, [2, 0, 1])}
    p_W = word_probabilities(card, logit_N=LOGITS, pairs=PAIRS, damaged_W=np.zeros(3, dtype=bool), given=given)
    np.testing.assert_allclose(p_W, [1 / (1 + math.exp(-4.5)), 0.0, 1 / (1 + math.exp(3))], rtol=1e-6)
    p_N = token_probabilities(card, LOGITS, pairs=PAIRS, given=given, level_N=np.array([3.0, 3.0, 3.0, -2.0]))
    np.testing.assert_allclose(p_N[[1, 3]], p_W[[0, 2]], rtol=1e-6)


@given(st.lists(st.lists(st.floats(-60, 60, width=32), max_size=9), min_size=1, max_size=6))
def test_a_level_does_not_depend_on_other_texts(texts: list[list[float]]) -> None:
    """To the bit: sums of many texts at once round as those of each."""

    def levels(texts: list[list[float]]) -> list[float]:
        logit_N = np.array([logit for text in texts for logit in text], dtype=np.float32)
        own = Pairs(np.arange(len(logit_N)), np.arange(len(logit_N)))
        return text_levels(logit_N, pairs=own, words_T=np.array([len(text) for text in texts])).tolist()

    assert levels(texts) == [level for text in texts for level in levels([text])]
