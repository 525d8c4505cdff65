"""A readout and its calibration from labelled words: cross-validated, the old one kept where it is better.

Shapes: W words, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.pipeline.detection.evidence import Evidence
from rtdscan.pipeline.detection.logistic import Fit, fit
from rtdscan.pipeline.detection.metrics import Figures, measure
from rtdscan.pipeline.detection.reliability import platt
from rtdscan.pipeline.detection.truth import Truth
from rtdscan.transforms.bundle import BundleCard
from rtdscan.transforms.corruption import REGISTRY
from rtdscan.transforms.readout import DEFAULT_COEFFICIENTS

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

ROBUST = ("largest", "slip", "slip_title", "seam", "level")
"""Features whose weights, learned from some kinds of made-up errors, hold for others. Measured with a 6-layer
prototype, fitted on corrupted training text, average precision on corrupted held-out text, network alone and with
`slip`: .748 -> .761 over people's errors, .659 -> .667 over OCR errors that the fit never saw, .632 -> .644 over
families left out of it; on real errors (typos_ewt) .233 -> .289, and AUROC .922 -> .928. With rarity and case instead
of `slip` .758, .673, .634 and .252, .918. With all features, which learn what the corruptions are made of (digits,
marks, double words), .776 on the kinds fitted, but .596 and .619 on the others, and AUROC .882 on real errors.

The others, with the bundled model, fitted on 750 corrupted documents, on 750 others / on real errors: `largest` and
`slip` .763 / .326 (AUROC .926), with `slip_title` .764 / .327 (.927), with `level` .765 / .331 (.933), with `seam`
.766 / .344 (.932), with all three .769 / .350 (.941). `slip` of words in capitals got a negative weight, and AUROC fell
to .917."""

PEOPLE = ("spelling", "grammar", "wording")
"""Families of corruption that the readout is fitted on, where there are any: the damage machines do is told by marks
and characters that say nothing of the errors people make. Fitted on all families .642, on these .643, measured as above
with every family in it."""

LEAST_PEOPLE = 50

LEAST_SCALE = 0.25
"""See `logistic.fit`. Chosen on sentences with made-up OCR errors, where the gain from 25, 100 and 400 labelled ones is
what it is without (average precision +.014, +.035, +.062), and what rare features may do wrong is bounded."""


@dataclass(frozen=True, slots=True)
class Words:
    """Labelled words as arrays.

    Attributes:
        chosen_W: Words that a fit may use: counted, seen by the network, not decided by damage, not of a kind that is
            told of documents.
        fitted_W: Those of them that the readout is fitted on.
        wrong_W: Labels.
    """

    chosen_W: Flags
    fitted_W: Flags
    wrong_W: Flags


@dataclass(frozen=True, slots=True)
class Refit:
    """What came of it.

    Attributes:
        coefficients, intercept: The readout to use.
        slope, shift: Its calibration at the expected rate.
        kept: Whether it is the old one.
        before, after: Cross-validated figures of the old and the new readout; None where none was fitted, or could be:
            a part of the cross-validation held all errors there are.
        logit_W: Logits to set thresholds by: out of fold where the readout is new.
    """

    coefficients: dict[str, float]
    intercept: float
    slope: float
    shift: float
    kept: bool
    before: Figures
    after: Figures | None
    logit_W: Floats


def choose_words(evidence: Evidence, truth: Truth, told_W: Flags, *, synthetic: bool) -> Words:
    """Which words are fitted on.

    Args:
        evidence, truth: The words and their labels.
        told_W: Words of kinds that are told of documents.
        synthetic: Whether the errors were made by this program.
    """
    chosen_W = truth.counted_W & evidence.seen_W & ~evidence.damaged_W & ~told_W
    fitted_W = chosen_W
    if synthetic:
        people_W = np.zeros(len(evidence), dtype=bool)
        for kind, touched_W in truth.kinds.items():
            if kind in REGISTRY and REGISTRY[kind].family in PEOPLE:
                people_W |= touched_W
        if int((people_W & chosen_W).sum()) >= LEAST_PEOPLE:
            fitted_W = chosen_W & (people_W | ~truth.wrong_W)
    return Words(chosen_W, fitted_W, truth.wrong_W)


def feature_names(card: BundleCard, evidence: Evidence, *, synthetic: bool) -> tuple[str, ...]:
    """Features of a new readout: the old one's; and with real labels all there are, else the robust ones."""
    more = ROBUST if synthetic else evidence.names
    names = [*(card.readout.coefficients or DEFAULT_COEFFICIENTS), *(name for name in more if name in evidence.names)]
    return tuple(dict.fromkeys(names))


def refit(
    card: BundleCard,
    evidence: Evidence,
    words: Words,
    *,
    names: Sequence[str],
    ridge: float,
    folds: int,
    seed: int,
    shift: float = 0.0,
    keep: bool = False,
) -> Refit:
    """Fit a readout near the bundle's, and calibrate the better of both.

    Args:
        card: The bundle's readout: the prior.
        evidence: Features.
        words: Labels, and which words count.
        names: Features of the new readout.
        ridge: How strongly it is kept near the prior.
        folds: Parts of the cross-validation, by documents.
        seed: Of the parts.
        shift: What the share of wrong words where the model will be used adds to every logit, see Prior.
        keep: Don't fit a readout, only calibrate.
    """
    old = card.readout.coefficients or DEFAULT_COEFFICIENTS
    prior_F = card.calibration.slope * np.array([old.get(name, 0.0) for name in names])
    feature_WF = evidence.feature_WF[:, [evidence.names.index(name) for name in names]]
    old_W = evidence.logit(old, card.readout.intercept)
    new_W = None
    if not keep:
        fold_W = folds_of(evidence.document_W, words.fitted_W & words.wrong_W, folds=folds, seed=seed)
        new_W = _out_of_fold(feature_WF, words, fold_W, prior_F=prior_F, ridge=ridge)
    chosen_W, wrong_W = words.chosen_W, words.wrong_W[words.chosen_W]
    before = measure(old_W[chosen_W], wrong_W)
    after = None if new_W is None else measure(new_W[chosen_W], wrong_W)
    coefficients, constant = dict(card.readout.coefficients), card.readout.intercept
    logit_W, kept = old_W, True
    if new_W is not None and after is not None and after.average_precision > before.average_precision:
        final = _fit(feature_WF, words, words.fitted_W, prior_F=prior_F, ridge=ridge)
        if final is not None:
            coefficients = dict(zip(names, map(_round, final.coefficient_F.tolist()), strict=True))
            logit_W, constant, kept = new_W, _round(final.intercept), False
    slope, intercept = platt(logit_W[chosen_W], wrong_W)
    return Refit(coefficients, constant, _round(slope), _round(intercept + shift), kept, before, after, logit_W)


def _out_of_fold(
    feature_WF: NDArray[Any], words: Words, fold_W: NDArray[np.int64], *, prior_F: Floats, ridge: float
) -> Floats | None:
    """Each word's logit by a readout that was fitted without its part; None where one of those can't be fitted.

    The old readout's logits in its place would be on another scale: what that does to the order of all words together
    says nothing of either readout.
    """
    new_W = np.zeros(len(fold_W))
    for fold in np.unique(fold_W):
        part = _fit(feature_WF, words, words.fitted_W & (fold_W != fold), prior_F=prior_F, ridge=ridge)
        if part is None:
            return None
        new_W[fold_W == fold] = part.logit(feature_WF[fold_W == fold])
    return new_W


def _fit(feature_WF: NDArray[Any], words: Words, rows_W: Flags, *, prior_F: Floats, ridge: float) -> Fit | None:
    """None where all labels are the same: nothing is learned from those."""
    wrong = words.wrong_W[rows_W]
    if not wrong.any() or wrong.all():
        return None
    return fit(feature_WF[rows_W], wrong, prior_F=prior_F, ridge=ridge, least_scale=LEAST_SCALE)


def folds_of(document_W: NDArray[np.int64], erring_W: Flags, *, folds: int, seed: int) -> NDArray[np.int64]:
    """Part of each word; the words of a document lie in one part, and documents with errors are dealt out evenly."""
    documents, which_W = np.unique(document_W, return_inverse=True)
    order = np.random.default_rng((seed, 2)).permutation(len(documents))
    erring_D = np.bincount(which_W, erring_W, minlength=len(documents)) > 0
    part_D = np.empty(len(documents), dtype=np.int64)
    part_D[order[np.argsort(~erring_D[order], kind="stable")]] = np.arange(len(documents)) % folds
    part_W: NDArray[np.int64] = part_D[which_W]
    return part_W


def _round(value: float) -> float:
    return float(f"{value:.6g}")
