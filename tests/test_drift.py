"""Drift: numbers worked out by hand, and what must hold whatever the histograms."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rtdscan.transforms import drift as module
from rtdscan.transforms.drift import FLOOR, MEASURES, OF_SCORES, drift, embedding_shift, ks, ks_by_chance, psi
from rtdscan.transforms.drift import psi_by_chance as by_chance
from rtdscan.transforms.tally import LENGTH_EDGES, SCORE_EDGES, Tally

BINS = 6
histograms = st.lists(st.integers(0, 1000), min_size=BINS, max_size=BINS)
filled = histograms.filter(any)
vectors = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=4, max_size=4)


def test_psi_by_hand() -> None:
    # Shares .5 .5 against .25 .75: .25 ln 2 + (-.25) ln (2/3) = .25 ln 3; smoothing moves it by less than 0.001.
    assert psi([50, 50], [25, 75]) == pytest.approx(0.25 * math.log(3), abs=1e-3)
    # An empty bin: shares 1 and 0 against .5 and .5, each + FLOOR, over 1 + 2 FLOOR.
    p, q, none = 1 + FLOOR, 0.5 + FLOOR, FLOOR
    expected = (0.5 * math.log(p / q) + 0.5 * math.log(q / none)) / (1 + 2 * FLOOR)
    assert psi([7, 0], [1, 1]) == pytest.approx(expected) == pytest.approx(4.6, abs=0.01)


def test_ks_by_hand() -> None:
    # Cumulative shares .5 .75 1 against .25 .25 1: the gap is widest after the second bin.
    assert ks([2, 1, 1], [1, 0, 3]) == 0.5
    assert ks([1, 0], [0, 1]) == 1.0
    assert ks_by_chance(100, 100) == pytest.approx(0.192, abs=1e-3)  # 1.358 * sqrt(0.02)
    assert ks_by_chance(1, 1) == 1.0


def test_embedding_shift_by_hand() -> None:
    assert embedding_shift([2.0, 0.0], [0.0, 5.0]) == pytest.approx(1.0)  # at right angles
    assert embedding_shift([1.0, 1.0], [3.0, 0.0]) == pytest.approx(1 - math.sqrt(0.5))  # 45 degrees
    assert embedding_shift([1.0, 0.0], [-9.0, 0.0]) == pytest.approx(2.0)
    assert embedding_shift([1.0, 2.0], [10.0, 20.0]) == pytest.approx(0.0, abs=1e-15)  # ten times the documents


@pytest.mark.parametrize(("a", "b"), [([0, 0], [1, 2]), ([1, 2], [0, 0]), ([0, 0], [0, 0])])
def test_nothing_cannot_be_compared(a: list[int], b: list[int]) -> None:
    assert psi(a, b) is None
    assert ks(a, b) is None
    assert by_chance(a, b) is None
    assert ks_by_chance(sum(a), sum(b)) is None
    assert embedding_shift(a, b) is None
    assert embedding_shift((), (1.0,)) is None
    assert embedding_shift((1.0,), (1.0, 1.0)) is None


@given(filled, filled, st.integers(2, 50))
def test_distances(a: list[int], b: list[int], times: int) -> None:
    for distance, most in ((psi, 2 * math.log(1 + 1 / FLOOR)), (ks, 1.0)):
        assert distance(a, a) == 0
        found = distance(a, b)
        assert found is not None
        assert found == pytest.approx(distance(b, a), rel=1e-9, abs=1e-12)
        assert found == pytest.approx(distance([times * n for n in a], b), rel=1e-6, abs=1e-9)
        assert -1e-12 <= found <= most + 1e-9
    same = all(x * sum(b) == y * sum(a) for x, y in zip(a, b, strict=True))
    assert same == (psi(a, b) < 1e-12) == (ks(a, b) < 1e-12)


@given(vectors, vectors)
def test_the_shift_is_one_minus_the_cosine(a: list[float], b: list[float]) -> None:
    assume(math.hypot(*a) > 0.01 and math.hypot(*b) > 0.01)
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
    assert embedding_shift(a, b) == pytest.approx(1 - cosine, abs=1e-9)
    assert embedding_shift(a, b) == embedding_shift(b, a)
    assert embedding_shift(a, a) == 0


def test_chance_is_what_equal_sources_give() -> None:
    """Of 400 pairs of samples of one source about 20 exceed it: Poisson, so hardly fewer than 6 or more than 40."""
    draw = random.Random(7)
    weights = [5, 4, 3, 2, 1, 1]

    def sample(n: int) -> list[int]:
        drawn = draw.choices(range(BINS), weights, k=n)
        return [drawn.count(at) for at in range(BINS)]

    pairs = [(sample(150), sample(300)) for _ in range(400)]
    assert 6 <= sum(psi(a, b) > by_chance(a, b) for a, b in pairs) <= 40
    # Five steps let a discrete distribution lie below the continuous one's percentile.
    assert 0 < sum(ks(a, b) > ks_by_chance(150, 300) for a, b in pairs) <= 24


@pytest.mark.parametrize(("n", "m"), [(50, 50), (200, 200), (100, 5000), (5000, 5000)])
def test_a_third_of_small_groups_of_one_source_exceeded_chance(n: int, m: int) -> None:
    """Also where most bins hold next to nothing 1 of 20 exceeds it: of 150 hardly fewer than 2 or more than 15."""
    rng = np.random.default_rng(7)

    def pair(values: Callable[[int], Any], edges: Sequence[float]) -> tuple[list[int], list[int]]:
        first, second = (np.histogram(values(size), edges)[0].tolist() for size in (n, m))
        return first, second

    lengths = [pair(lambda size: rng.lognormal(5.5, 1.1, size), (*LENGTH_EDGES, np.inf)) for _ in range(150)]
    scores = [pair(lambda size: rng.beta(0.6, 25, size), SCORE_EDGES) for _ in range(150)]
    assert any(0 < x + y < 5 for x, y in zip(*lengths[0], strict=True))
    for pairs in (lengths, [(module._coarse(a), module._coarse(b)) for a, b in scores]):
        assert 2 <= sum(psi(a, b) > by_chance(a, b) for a, b in pairs) <= 15


@given(filled, filled)
def test_chance_is_the_same_in_both_directions_and_each_time(a: list[int], b: list[int]) -> None:
    assert by_chance(a, b) == by_chance(a, b) == by_chance(b, a)


def test_chance_of_many_documents_is_that_of_chi_squared() -> None:
    # Four degrees of freedom: 9.49 / 5000 * 2; the percentile of 999 splits is good to some percent.
    a = [1000] * 5
    assert by_chance(a, a) == pytest.approx(9.49 * 2 / 5000, rel=0.15)
    huge = [10**9] * 5
    assert by_chance(huge, huge) == pytest.approx(9.49 * 2 / 5e9, rel=0.03)
    assert by_chance([10**9, 0], [10**9, 0]) == 0


# Tallies


def tally(scores: list[float], words: int = 10, embedding: tuple[float, ...] = ()) -> Tally:
    """Documents with these scores, all of one length."""
    counts = [0] * (len(SCORE_EDGES) - 1)
    for score in scores:
        counts[min(int(score * 100 + 1e-9), 99)] += 1
    lengths = [0] * len(Tally.zero().lengths)
    lengths[words.bit_length()] = len(scores)
    fields = {"documents": len(scores), "scores": tuple(counts), "lengths": tuple(lengths), "embedding_sum": embedding}
    return Tally(**{**{name: getattr(Tally.zero(), name) for name in Tally.__slots__}, **fields})


score_lists = st.lists(st.integers(0, 100).map(lambda n: n / 100), min_size=1, max_size=20)


@given(score_lists, score_lists, score_lists)
def test_drift_of_parts_added_up_is_drift_of_the_whole(a: list[float], b: list[float], base: list[float]) -> None:
    added = tally(a, embedding=(1.0, 2.0)) + tally(b, embedding=(3.0, -1.0))
    whole = tally(a + b, embedding=(4.0, 1.0))
    against = tally(base, embedding=(1.0, 1.0))
    assert drift(added, against) == drift(whole, against)
    assert set(drift(whole, against)) == set(MEASURES) >= set(OF_SCORES)
    assert {measure.value for measure in drift(whole, whole).values()} == {0.0}


def test_psi_of_scores_sees_the_tail() -> None:
    """Bad documents from 1 to 10 in 100, the rest near 0: one bin for all of them would show as much as none."""
    before = tally([0.005] * 99 + [0.6])
    after = tally([0.005] * 90 + [0.6] * 10)
    found = drift(after, before)
    # .09 ln 10 for the tail and .09 ln 1.1 for the rest
    assert found["psi_score"].value == pytest.approx(0.09 * math.log(11), abs=0.003)
    assert found["ks_score"].value == pytest.approx(0.09)
    assert found["psi_length"].value == found["ks_length"].value == 0
    assert found["embedding_shift"].value is None


def test_the_bins_of_psi_hold_every_score() -> None:
    assert sum(module._coarse(range(100))) == sum(range(100))
    assert module._coarse(range(100))[0] == 0
    assert len(module._coarse(range(100))) == len(module.PSI_SCORES)
