"""Figures by hand, against scikit-learn where it is installed, and as properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtdscan.pipeline.detection.metrics import (
    Curve,
    draw_documents,
    flag_interval,
    measure,
    measure_kinds,
    rank_bins,
    recall_name,
    share_interval,
    summaries,
    wilson,
)

SCORES = np.array([0.9, 0.8, 0.8, 0.4, 0.3, 0.1])
WRONG = np.array([True, True, False, False, True, False])


def test_figures_by_hand() -> None:
    found = measure(SCORES, WRONG)
    # Pairs (wrong, right) won: .9 beats all 3; .8 ties .8 and beats .4, .1: 2.5; .3 beats .1: 1. Of 9: 6.5.
    assert found.auroc == pytest.approx(6.5 / 9)
    # Thresholds .9: P 1, +1/3; .8: P 2/3, +1/3; .3: P 3/5, +1/3.
    assert found.average_precision == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    # F0.5 = 1.25 TP / (.25 * 3 + flagged): .9: 1.25/1.75 = .714; .8: 2.5/3.75 = .667; .3: 3.75/5.75 = .652.
    assert found.f05 == pytest.approx(1.25 / 1.75)
    assert found.f05_threshold == 0.9
    # Precision .5 or more still holds at the lowest score (3 of 6), .8 only at the highest.
    assert found.recall_at == pytest.approx({0.5: 1.0, 0.8: 1 / 3, 0.9: 1 / 3})
    assert (found.words, found.wrong, found.base_rate) == (6, 3, 0.5)


def test_words_of_equal_score_enter_together() -> None:
    found = measure(np.zeros(10), np.arange(10) < 3)
    assert found.auroc == 0.5
    assert found.average_precision == pytest.approx(0.3)
    curve = Curve.of(np.zeros(10), np.arange(10) < 3)
    assert curve.wrong_G.tolist() == [3]
    assert curve.right_G.tolist() == [7]


def test_without_both_labels_there_are_no_figures() -> None:
    for wrong in (np.zeros(4, bool), np.ones(4, bool)):
        assert np.isnan(measure(np.arange(4.0), wrong).auroc)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 8))
def test_against_scikit_learn(seed: int, words: int, levels: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    score, wrong = rng.integers(levels, size=words) / levels, rng.random(words) < 0.4
    if not wrong.any() or wrong.all():
        return
    found = measure(score, wrong)
    assert found.auroc == pytest.approx(sklearn.roc_auc_score(wrong, score))
    assert found.average_precision == pytest.approx(sklearn.average_precision_score(wrong, score))
    best = max(sklearn.fbeta_score(wrong, score >= t, beta=0.5) for t in np.unique(score))
    assert found.f05 == pytest.approx(best)
    assert sklearn.fbeta_score(wrong, score >= found.f05_threshold, beta=0.5) == pytest.approx(best)
    precision, recall, _ = sklearn.precision_recall_curve(wrong, score)
    for wanted, got in found.recall_at.items():
        fits = recall[:-1][precision[:-1] >= wanted]  # its last point is no threshold
        assert got == pytest.approx(fits.max() if len(fits) else 0.0)


@given(st.integers(0, 10_000))
def test_only_the_order_of_scores_matters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score, wrong = rng.normal(size=50).round(1), np.arange(50) % 7 == 0
    one, other = measure(score, wrong), measure(np.exp(3 * score), wrong)
    assert (one.auroc, one.average_precision, one.f05) == (other.auroc, other.average_precision, other.f05)


def test_bins_keep_order_and_ties_together() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=20_000).round(2)
    bins = rank_bins(score)
    order = np.argsort(-score)
    assert (np.diff(bins[order]) >= 0).all()
    assert bins.min() == 0
    assert len(np.unique(bins)) == bins.max() + 1
    for value in (0.0, 1.5):
        assert len(set(bins[score == value].tolist())) == 1
    top = np.argsort(-rng.normal(size=20_000))
    assert len(set(rank_bins(-top.astype(float))[np.argsort(top)][:50].tolist())) == 50, "the first ranks stand alone"


def _drawn_figures(score: np.ndarray, wrong: np.ndarray, document: np.ndarray, draws: int) -> dict[str, np.ndarray]:
    """The bootstrap without bins: every draw repeats the words of its documents."""
    times = draw_documents(int(document.max()) + 1, draws=draws, seed=5).astype(int)
    values: dict[str, list[float]] = {}
    for row in times:
        repeats = row[document]
        curve = Curve.of(np.repeat(score, repeats), np.repeat(wrong, repeats))
        for name, value in summaries(curve.wrong_G, curve.right_G).items():
            values.setdefault(name, []).append(float(value))
    return {name: np.array(those) for name, those in values.items()}


def test_intervals_are_those_of_drawing_documents_anew() -> None:
    rng = np.random.default_rng(1)
    document = np.repeat(np.arange(150), 40)
    wrong = rng.random(6000) < 0.03
    score = rng.normal(size=6000) + 2 * wrong
    kinds = {"odd": wrong & (document % 2 == 1), "all": wrong}
    found = measure_kinds(score, ~wrong, kinds, document_W=document, draws=100, seed=5)
    exact = _drawn_figures(score, wrong, document, draws=100)
    for name, values in exact.items():
        low, high = np.quantile(values, [0.025, 0.975])
        assert found["all"].intervals[name] == pytest.approx((low, high), abs=0.012), name
    narrow, wide = (found[kind].intervals["auroc"] for kind in ("all", "odd"))
    assert wide[1] - wide[0] > narrow[1] - narrow[0]
    again = measure_kinds(score, ~wrong, kinds, document_W=document, draws=100, seed=5)
    other = measure_kinds(score, ~wrong, kinds, document_W=document, draws=100, seed=6)
    assert again == found
    assert other["all"].intervals != found["all"].intervals


def test_a_kind_in_one_document_has_no_interval() -> None:
    document = np.repeat(np.arange(50), 4)
    wrong = np.arange(200) < 2
    found = measure_kinds(-np.arange(200.0), ~wrong, {"x": wrong}, document_W=document, draws=50, seed=0)
    assert found["x"].auroc == 1.0
    rare = np.zeros(200, bool)
    none = measure_kinds(-np.arange(200.0), ~wrong, {"x": rare}, document_W=document, draws=50, seed=0)
    assert set(none["x"].intervals.values()) == {None}


@pytest.mark.parametrize(("documents", "given"), [(9, False), (10, True)])
def test_few_documents_have_no_interval(documents: int, given: bool) -> None:
    """Errors in two documents had one, as if two told how documents differ."""
    document = np.repeat(np.arange(50), 4)
    wrong = (np.arange(200) % 4 == 0) & (document < documents)
    score = np.random.default_rng(0).normal(size=200)
    found = measure_kinds(score, ~wrong, {"x": wrong}, document_W=document, draws=50, seed=0)["x"]
    assert set(found.intervals) == {"auroc", "average_precision", "f05", *map(recall_name, found.recall_at)}
    assert (None not in found.intervals.values()) == given
    assert (found.to_json()["intervals"]["auroc"] is not None) == given
    flagged = np.ones(200, bool)
    few = document < documents
    assert (flag_interval(wrong[few], flagged[few], document[few], draws=50, seed=0) is not None) == given
    assert flag_interval(wrong, flagged, document, draws=0, seed=0) is None


def test_words_of_one_document_are_not_independent() -> None:
    """Precision's interval was that of 800 independent words, a third of what 40 documents tell."""
    document, flagged = np.repeat(np.arange(400), 20), np.repeat(np.arange(400) < 40, 20)
    wrong = np.repeat(np.arange(400) < 32, 20)  # of 40 documents with flags 32 are wrong throughout
    found = flag_interval(wrong, flagged, document, draws=1000, seed=0)
    assert found == pytest.approx(wilson(32, 40), abs=0.04)
    assert wilson(640, 800)[1] - wilson(640, 800)[0] < 0.06 < 0.2 < found[1] - found[0]
    # All documents drawn, without the short cut:
    hits, of = (np.bincount(document[which], minlength=400) for which in (wrong & flagged, flagged))
    times = draw_documents(400, draws=1000, seed=3)
    assert found == pytest.approx(np.quantile(times @ hits / (times @ of), [0.025, 0.975]), abs=0.02)
    # Where all flags are right, every draw says so: as many observations as documents, not a width of zero.
    assert flag_interval(flagged, flagged, document, draws=100, seed=0) == wilson(40, 40)


@pytest.mark.parametrize("hit", [True, False])
def test_documents_without_flags_are_drawn_too_and_the_share_lies_inside(
    hit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drawn:
        def binomial(self, documents: int, share: float, *, size: int) -> np.ndarray:
            assert (documents, share, size) == (40, 0.25, 3), "ten of forty documents have flags"
            return np.array([0, 1, 4])

        def integers(self, documents: int, *, size: int) -> np.ndarray:
            assert documents == 10
            return np.arange(size)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Drawn())
    of = np.repeat([1.0, 0.0], [10, 30])
    hits = np.where(np.isin(np.arange(40), [0, 2]) == hit, of, 0.0)
    # Draws of one document (none is none), one and four have 1, 1 and 1/2 hits: 2.5 % lie below .525, all have .2.
    # Of what is left they have 0, 0 and 1/2: 2.5 % lie above .475, all have .8.
    assert share_interval(hits, of, draws=3, seed=0) == pytest.approx((0.2, 1.0) if hit else (0.0, 0.8))


def test_no_rounding_puts_a_share_outside() -> None:
    for of in range(1, 300):
        assert wilson(0, of)[0] == 0.0
        assert wilson(of, of)[1] == 1.0


def test_wilson_by_hand() -> None:
    # 8 of 10: centre (.8 + .19207) / 1.38415 = .7167, half width 1.95996 * sqrt(.016 + .0096) / 1.38415 = .2266.
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=2e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 5)[1] == 1.0
    assert wilson(0, 5)[0] == 0.0


@settings(max_examples=20)
@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_holds_the_share_and_narrows(hits: int, of: int) -> None:
    hits = min(hits, of)
    low, high = wilson(hits, of)
    assert 0 <= low <= hits / of <= high + 1e-12 <= 1 + 1e-12
    assert wilson(10 * hits, 10 * of)[1] - wilson(10 * hits, 10 * of)[0] < high - low
