"""Logistic regression, calibration and thresholds: planted answers, scikit-learn, brute force."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rtdscan.pipeline.detection import plots
from rtdscan.pipeline.detection.calibration import less_than_wanted
from rtdscan.pipeline.detection.logistic import fit
from rtdscan.pipeline.detection.metrics import wilson
from rtdscan.pipeline.detection.reliability import (
    Prior,
    Reliability,
    bins_of,
    calibration_error,
    platt,
    probability,
)
from rtdscan.pipeline.detection.thresholds import Threshold, document_thresholds, threshold_for
from rtdscan.transforms.readout import sigmoid


def planted(words: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of very different scale, and labels from coefficients (2, -0.03, 0) and intercept -3."""
    rng = np.random.default_rng(seed)
    feature = np.stack([rng.normal(1, 1, words), rng.normal(50, 30, words), rng.normal(0, 0.01, words)], axis=1)
    return feature, rng.random(words) < sigmoid(2 * feature[:, 0] - 0.03 * feature[:, 1] - 3)


def test_planted_coefficients_are_found() -> None:
    feature, wrong = planted(40_000)
    found = fit(feature, wrong)
    assert found.coefficient_F[:2] == pytest.approx([2, -0.03], rel=0.05)
    assert found.intercept == pytest.approx(-3, abs=0.15)
    z = found.logit(feature)
    assert sigmoid(z).mean() == pytest.approx(wrong.mean(), abs=1e-6)  # the free intercept sees to that


def test_against_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    feature, wrong = planted(800)
    scaled = (feature - feature.mean(0)) / feature.std(0)
    theirs = linear.LogisticRegression(C=1 / 30, tol=1e-10, max_iter=1000).fit(scaled, wrong)
    ours = fit(feature, wrong, ridge=30.0)
    assert ours.coefficient_F * feature.std(0) == pytest.approx(theirs.coef_[0], abs=1e-4)
    assert ours.logit(feature) == pytest.approx(theirs.decision_function(scaled), abs=1e-3)


def test_the_ridge_holds_coefficients_at_the_prior() -> None:
    feature, wrong = planted(2_000)
    prior = np.array([0.5, 0.01, 7.0])
    held = fit(feature, wrong, prior_F=prior, ridge=1e9)
    assert held.coefficient_F == pytest.approx(prior, rel=1e-3)
    free, between = fit(feature, wrong).coefficient_F, fit(feature, wrong, prior_F=prior, ridge=100.0).coefficient_F
    assert min(prior[0], free[0]) < between[0] < max(prior[0], free[0])


def test_a_feature_that_says_nothing_keeps_its_prior() -> None:
    feature, wrong = planted(500)
    feature = np.column_stack([feature, np.full(500, 4.0)])
    assert fit(feature, wrong, prior_F=np.array([0, 0, 0, 1.5]), ridge=1.0).coefficient_F[3] == 1.5


def test_separable_words_stay_finite_and_one_label_is_refused() -> None:
    logit = np.array([-2.0, -1.0, 1.0, 2.0])
    slope, intercept = platt(logit, logit > 0)
    assert 0 < slope < 100
    assert np.isfinite(intercept)
    with pytest.raises(ValueError, match="both kinds"):
        fit(logit[:, None], np.ones(4, bool))


def test_the_slope_has_a_prior_of_one_observation() -> None:
    logit, wrong = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True])
    slope, intercept = platt(logit, wrong)
    # In units of the standard deviation s the penalty is (slope s)^2 / 2; where the sum is least, gradients cancel.
    s = np.sqrt(2.5)
    assert (sigmoid(slope * logit + intercept) - wrong) @ logit / s == pytest.approx(-slope * s, abs=1e-6)
    assert intercept == pytest.approx(0.0, abs=1e-6)


def test_platt_finds_slope_and_intercept() -> None:
    rng = np.random.default_rng(3)
    logit = rng.normal(-2, 2, 60_000)
    wrong = rng.random(60_000) < sigmoid(0.6 * logit - 0.5)
    assert platt(logit, wrong) == pytest.approx((0.6, -0.5), abs=0.03)


def test_the_shift_corrects_for_another_share_of_errors() -> None:
    rng = np.random.default_rng(4)
    wrong = rng.random(200_000) < 0.2
    logit = rng.normal(size=200_000) + 2 * wrong
    slope, intercept = platt(logit, wrong)
    # The same words where only one in a hundred is wrong: most wrong ones left out.
    keep = ~wrong | (rng.random(200_000) < (0.01 / 0.99) / (0.2 / 0.8))
    p = probability(logit, slope, intercept + Prior.of(wrong, 0.01).shift)
    assert p[keep].mean() == pytest.approx(wrong[keep].mean(), rel=0.05)
    assert wrong[keep].mean() == pytest.approx(0.01, rel=0.05)
    assert Prior.of(wrong, None).shift == 0.0


def test_prior_weights() -> None:
    wrong = np.array([True, True, False, False, False, False, False, False])
    weight = Prior.of(wrong, 0.1).weigh(wrong)
    assert weight.sum() == pytest.approx(8)
    assert (weight * wrong).sum() / weight.sum() == pytest.approx(0.1)
    assert Prior.of(wrong, None).weigh(wrong).tolist() == [1.0] * 8


def test_reliability_by_hand() -> None:
    p = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    wrong = np.array([False, True, True, True, False])
    table = bins_of(p, wrong, weight_W=np.ones(5))
    assert [(b.low, b.words, b.rate) for b in table] == [(0.0, 2.0, 0.5), (0.9, 3.0, pytest.approx(2 / 3))]
    # 2/5 * |.05 - .5| + 3/5 * |.9667 - .6667|
    assert calibration_error(table) == pytest.approx(0.4 * 0.45 + 0.6 * 0.3)


def test_weighted_words_are_worth_fewer_observations() -> None:
    wrong, weight = np.array([True, False, False]), np.array([1.0, 3.0, 0.5])
    first, last = bins_of(np.array([0.1, 0.18, 0.9]), wrong, weight_W=weight)
    # Kish: (1 + 3)^2 / (1^2 + 3^2) = 1.6 observations, a quarter of them wrong; a single word is one.
    assert (first.words, first.mean, first.rate) == (4.0, pytest.approx(0.16), 0.25)
    assert first.interval == wilson(0.4, 1.6)
    assert last.interval == wilson(0.0, 1.0)


def test_words_that_are_surely_right_do_not_hide_what_candidates_are_worth() -> None:
    """An error of .003 over all words was all that was told, where probabilities of .05 or more were 1.5 times off."""
    p = np.array([0.01] * 990 + [0.049, 0.05, 0.35, 0.35, 0.85, 0.99])
    wrong, fixed = np.zeros(996, bool), np.zeros(996, bool)
    wrong[-2:] = fixed[-1] = True
    found = Reliability.of(p, wrong, fixed_W=fixed, weight_W=np.ones(996))
    # Candidates are .05, .35, .35 and .85; only the last is wrong: (.05 + .35 + .35 + .15) / 4.
    assert found.candidates.to_json() == pytest.approx(
        {"least": 0.05, "words": 4, "calibration_error": 0.225, "mean": 0.4, "rate": 0.25, "ratio": 1.6}
    )
    assert found.candidates.told() == "0.225; mean probability 0.400, share of wrong words 0.250, ratio 1.60"
    assert found.error == pytest.approx((9.9 + 0.049 + 0.05 + 0.7 + 0.15 + 0.01) / 996)
    # The wrong word counts three times: a mean of (.75 + 3 * .85) / 6, half of them wrong, errors .05 + .7 + .45.
    weighted = Reliability.of(p, wrong, fixed_W=fixed, weight_W=np.where(wrong, 3.0, 1.0)).candidates
    assert weighted.to_json() == pytest.approx(
        {"least": 0.05, "words": 6, "calibration_error": 0.2, "mean": 0.55, "rate": 0.5, "ratio": 1.1}
    )


def test_candidates_that_do_not_exist_are_null() -> None:
    one, no = np.ones(3), np.zeros(3, bool)
    none = Reliability.of(np.array([0.01, 0.02, 0.99]), no, fixed_W=np.array([False, False, True]), weight_W=one)
    assert none.candidates.to_json() == {
        "least": 0.05, "words": 0, "calibration_error": None, "mean": None, "rate": None, "ratio": None
    }  # fmt: skip
    assert none.candidates.told() == "– (none)"
    right = Reliability.of(np.full(3, 0.25), no, fixed_W=no, weight_W=one).candidates
    assert (right.error, right.mean, right.rate, right.ratio) == (0.25, 0.25, 0.0, None)
    assert right.told() == "0.250; mean probability 0.250, share of wrong words 0.000"


def test_the_plot_tells_the_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    make, drawn = plots._figure, []
    monkeypatch.setattr(plots, "_figure", lambda *given: drawn.append(make(*given)) or drawn[-1])
    wrong, fixed = np.arange(20) < 2, np.zeros(20, bool)
    p = np.where(np.arange(20) < 4, 0.75, 0.0)
    some, none = (Reliability.of(each, wrong, fixed_W=fixed, weight_W=np.ones(20)) for each in (p, p / 100))
    plots.plot_reliability(str(tmp_path / "x.png"), {"before": some, "after": none}, title="t")
    ((_, (axis, _)),) = drawn
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        "before: calibration error 0.0500\np ≥ 0.05: 0.250, mean / observed 1.50",
        "after: calibration error 0.0985\np ≥ 0.05: no words",
    ]


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([None, 0.02, 0.3]), st.sampled_from([0.5, 0.8, 0.95]))
def test_a_threshold_is_the_lowest_that_is_precise_enough(seed: int, expected: float | None, wanted: float) -> None:
    rng = np.random.default_rng(seed)
    wrong = rng.random(400) < 0.3
    p = sigmoid(rng.normal(size=400) + 2 * wrong).round(2)
    prior = Prior.of(wrong, expected)
    weight = prior.weigh(wrong)

    def precision(threshold: float) -> float:
        flagged = p >= threshold
        return float((weight * wrong)[flagged].sum() / weight[flagged].sum())

    assume(all(abs(precision(t) - wanted) > 1e-9 for t in np.unique(p)))  # which rounding decides
    enough = [t for t in np.unique(p) if (p >= t).sum() >= 20 and precision(t) >= wanted]
    found = threshold_for(wanted, p, wrong, document_W=np.arange(400) // 10, fold_W=np.arange(400) // 100, prior=prior)
    if not enough:
        assert found.threshold is None
        assert found.to_json()["precision"] is None
        return
    assert found.threshold is not None
    assert ((p.astype(np.float32) >= found.threshold) == (p >= min(enough))).all()
    assert found.precision == pytest.approx(precision(min(enough)))
    assert found.interval is None or found.interval[0] <= found.precision <= found.interval[1]
    assert found.recall == pytest.approx((wrong & (p >= min(enough))).sum() / wrong.sum())
    assert found.flagged == pytest.approx(weight[p >= min(enough)].sum() / 400)


def test_precision_at_another_share_of_errors() -> None:
    wrong = np.arange(1000) % 5 == 0
    p = np.where(wrong, 0.9, np.where(np.arange(1000) % 50 == 1, 0.9, 0.1))  # 200 wrong and 20 right at .9
    document = np.repeat(np.arange(100), 10)
    fold = document // 20
    same = threshold_for(0.5, p, wrong, document_W=document, fold_W=fold)
    rare = threshold_for(0.05, p, wrong, document_W=document, fold_W=fold, prior=Prior.of(wrong, 0.01))
    # Weights .05 and 1.2375: precision 10 / (10 + 24.75).
    assert same.precision == pytest.approx(200 / 220)
    assert rare.precision == pytest.approx(10 / 34.75)
    for row in (same, rare):
        assert row.held_out == pytest.approx(row.precision), "all parts are alike"
        assert row.interval is not None
        assert row.interval[0] < row.precision < row.interval[1]
    few = threshold_for(0.5, p, wrong, document_W=fold, fold_W=fold)
    assert (few.precision, few.interval, few.to_json()["interval"]) == (same.precision, None, None)


@pytest.mark.parametrize(("words", "reached"), [(19, False), (20, True)])
def test_a_threshold_flags_some_words(words: int, reached: bool) -> None:
    p = np.repeat([0.9, 0.1], [words, 50])
    found = threshold_for(0.9, p, p > 0.5, document_W=np.arange(len(p)), fold_W=np.zeros_like(p, int))
    assert (found.threshold is not None) == reached


def test_thresholds_part_what_the_scan_can_tell_apart() -> None:
    """Scores are stored and compared as float32."""
    wrong, zero = np.arange(60) < 30, np.zeros(60, int)
    one = threshold_for(0.9, np.where(wrong, 0.6 + 1e-9, 0.6), wrong, document_W=zero, fold_W=zero)
    assert one.threshold is None, "as float32 they are one number"
    for high in np.float32([0.6, 0.123456, 0.06337, 0.08937, 0.98765, 1.0]):
        low = np.nextafter(high, np.float32(0))
        p = np.where(wrong, high, low).astype(np.float64)
        found = threshold_for(0.9, p, wrong, document_W=zero, fold_W=zero)
        assert found.threshold is not None
        assert (np.array([low, high]) >= np.float32(found.threshold)).tolist() == [False, True]


def test_a_precision_that_other_documents_do_not_have_is_told() -> None:
    """A threshold for .8 was written without a word where .3 was held out."""
    reached = Threshold(0.8, 0.5, precision=0.81, held_out=0.75)
    assert less_than_wanted(reached) == ()
    assert "30% were right, and 80% are wanted" in less_than_wanted(replace(reached, held_out=0.302))[0]
    assert less_than_wanted(replace(reached, held_out=None)) == less_than_wanted(None) == ()


@pytest.mark.parametrize(
    # By the first part .9 is chosen, which flags 15 wrong words of the second; by the second .5, which flags 15 wrong
    # and 15 right words of the first. All together choose .5: 45 wrong and 15 right.
    ("prior", "wanted", "precision", "held_out"),
    [
        (Prior(), 0.75, 45 / 60, 30 / 45),
        (Prior(wrong=0.5, right=2.0), 0.4, 22.5 / 52.5, 15 / 45),
    ],
)
def test_flags_are_held_out_from_the_choice_of_their_threshold(
    prior: Prior, wanted: float, precision: float, held_out: float
) -> None:
    """What was told was measured on the words that chose: .80 where other sentences had .73."""
    p = np.tile(np.repeat([0.9, 0.5, 0.0], [15, 15, 40]), 2)
    wrong, part = p > 0, np.repeat([0, 1], 70)
    wrong[15:30] = False
    given = {"document_W": np.arange(140) // 5, "prior": prior}
    found = threshold_for(wanted, p, wrong, fold_W=part, **given)
    assert (found.threshold, found.precision) == (0.5, pytest.approx(precision))
    assert found.held_out == found.to_json()["held_out"] == pytest.approx(held_out)
    assert threshold_for(wanted, p, wrong, fold_W=0 * part, **given).held_out is None, "there are no others"


def test_documents_are_reviewed_by_what_clean_ones_score() -> None:
    document = np.repeat(np.arange(200), 10)
    wrong = (document >= 150) & (np.arange(2000) % 10 < 4)  # fifty documents with 40 % wrong words
    p = np.where(wrong, 0.7, 0.01 + document / 100_000)
    review, drop = document_thresholds(p, wrong, document, documents=200)
    assert review == pytest.approx(0.01 + 0.98 * 199 / 100_000, abs=1e-4)
    assert drop == pytest.approx(0.4 * 0.7 + 0.6 * 0.01175, abs=2e-3), "the median of the rotten ones"
    few = document < 160
    review, drop = document_thresholds(p[few], wrong[few], document[few], documents=200)
    assert drop == pytest.approx(4 * review, rel=0.01), "ten rotten documents say too little"


def test_a_rare_feature_pays_for_its_coefficient() -> None:
    rng = np.random.default_rng(6)
    rare = (np.arange(1000) < 4).astype(float)
    feature = np.stack([rng.normal(size=1000), rare], axis=1)
    wrong = (rng.random(1000) < 0.05) | (rare > 0)
    cheap = fit(feature, wrong, ridge=30.0).coefficient_F[1]
    dear = fit(feature, wrong, ridge=30.0, least_scale=0.25).coefficient_F[1]
    assert cheap > 2.5 * dear > 0
