"""From measured words to the fields of bundle.json that the scan uses.

readout {coefficients, intercept}   calibration {slope, intercept}   thresholds {floor, flag, review, drop}
flag_precision {precision, measured, low, high, held_out, rate, on}  metrics.calibration: all that was measured
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rtdscan.pipeline.detection.bundles import card_of
from rtdscan.pipeline.detection.evidence import Evidence
from rtdscan.pipeline.detection.labels import is_document_kind
from rtdscan.pipeline.detection.measuring import JUDGED, Measured
from rtdscan.pipeline.detection.metrics import FEW_DOCUMENTS, told
from rtdscan.pipeline.detection.refit import Flags, Refit, Words, choose_words, feature_names, folds_of, refit
from rtdscan.pipeline.detection.reliability import CANDIDATE, Prior, Reliability, probability
from rtdscan.pipeline.detection.settings import CalibrateConfig
from rtdscan.pipeline.detection.thresholds import Threshold, document_thresholds, threshold_for
from rtdscan.pipeline.detection.truth import told_of_documents
from rtdscan.transforms.bundle import Bundle
from rtdscan.transforms.errors import UserError

LEAST_WRONG, LEAST_TEXTS = 50, 20
"""Wrong words and documents below which a calibration is said to rest on little."""

LUCK = 0.1
"""By so much the precision in other documents may fall short of what is wanted without a warning."""

HELD_OUT = (
    "precision is measured on the words that chose the threshold, which flatters it, the more the fewer are flagged; "
    "held out: on documents that had no part in the choice"
)

UNFITTED = "too few documents have errors for a cross-validation, so that no readout was fitted: it is kept as it was"


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What calibrate found.

    Attributes:
        card: bundle.json as it is to be.
        fit: The readout.
        rate: Share of wrong words that all holds for.
        thresholds: For each wanted precision, by the words that damage does not decide.
        before, after: Reliability at that rate.
        notes: What a user has to know.
    """

    card: dict[str, Any]
    fit: Refit
    rate: float
    thresholds: list[Threshold]
    before: Reliability
    after: Reliability
    notes: tuple[str, ...]


def calibrate(
    measured: Measured, *, config: CalibrateConfig, precision: float, expected: float | None, seed: int, keep: bool
) -> Calibrated:
    """Fit the readout and its calibration, choose thresholds.

    Args:
        measured: Labelled words.
        config: Ridge, folds, wanted precisions.
        precision: What flags are to have.
        expected: Share of wrong words among all that count in the corpus to be scanned; None: as in the labelled text.
        seed: Of the folds.
        keep: Leave the readout as it is.

    Raises:
        UserError: The labels contradict the model, or no wrong or no right word is left to learn from.
    """
    evidence, truth, bundle = measured.evidence, measured.truth, measured.scorer.bundle
    synthetic = measured.labelled.synthetic
    told_W = told_of_documents(truth)
    words = choose_words(evidence, truth, told_W, synthetic=synthetic)
    _check_words(words, measured, told_W)
    names = feature_names(bundle.card, evidence, synthetic=synthetic)
    counted_W = truth.counted_W & ~told_W
    wrong_W = truth.wrong_W[counted_W]
    prior = Prior.of(wrong_W, expected)
    found = refit(
        bundle.card, evidence, words,
        names=names, ridge=config.ridge, folds=config.folds, seed=seed, shift=prior.shift, keep=keep,
    )  # fmt: skip
    if found.slope <= 0:
        raise UserError(
            f"{', '.join(measured.labelled.source['data'])}: the labels contradict the model (words it finds likelier"
            f" to be wrong are less often so, slope {found.slope:g}); label more words, or choose another model"
        )
    p_before = evidence.probability(bundle.card)[counted_W]
    p_after = evidence.settled(probability(found.logit_W, found.slope, found.shift))[counted_W]
    weight_W = prior.weigh(wrong_W)
    fixed_W = evidence.damaged_W[counted_W]
    before, after = (Reliability.of(p_W, wrong_W, fixed_W=fixed_W, weight_W=weight_W) for p_W in (p_before, p_after))
    wanted = sorted({*config.precisions, precision})
    # Damage is flagged at any threshold, and nearly always rightly: with it the others' precision would seem higher.
    document_W = evidence.document_W[counted_W]
    find = partial(
        threshold_for,
        p_W=p_after[~fixed_W],
        wrong_W=wrong_W[~fixed_W],
        document_W=document_W[~fixed_W],
        fold_W=folds_of(document_W, wrong_W, folds=config.folds, seed=seed)[~fixed_W],
        prior=prior,
        seed=seed,
    )
    thresholds = [find(each) for each in wanted]
    review, drop = document_thresholds(p_after, wrong_W, document_W, documents=truth.documents)
    chosen, notes = _choose(thresholds, precision)
    notes = (*notes, *_little(words, evidence), *less_than_wanted(chosen))
    if any(row.threshold is not None and row.interval is None for row in thresholds):
        notes = (*notes, FEW_DOCUMENTS)
    if found.after is None and not keep:
        notes = (*notes, UNFITTED)
    if measured.labelled.judged:  # nobody judged whole documents
        review, drop = bundle.card.thresholds.review, bundle.card.thresholds.drop
        notes = (*notes, f"{JUDGED}; thresholds.review and .drop stay as they were")
    rate = expected or float(wrong_W.mean())
    measured_here = {
        **_about(measured.labelled.source),
        "words": len(wrong_W),
        "base_rate": float(wrong_W.mean()),
        "expected_rate": rate,
        "cross_validated": {
            "before": _brief(found.before),
            "after": found.after and _brief(found.after),
            "kept": found.kept,
        },
        "calibration_error": {"before": before.error, "after": after.error},
        "candidates": {"before": before.candidates.to_json(), "after": after.candidates.to_json()},
        "thresholds": [threshold.to_json() for threshold in thresholds],
    }
    card = _card(bundle, found, chosen, review=review, drop=drop, about=measured_here)
    return Calibrated(card, found, rate, thresholds, before, after, notes)


def _check_words(words: Words, measured: Measured, told_W: Flags) -> None:
    """That some wrong and some right words are left, and else where they have gone."""
    truth, evidence = measured.truth, measured.evidence
    for what, these_W in (("wrong", truth.wrong_W), ("right", ~truth.wrong_W)):
        these_W = these_W & truth.counted_W
        if (these_W & words.chosen_W).any():
            continue
        damaged_W = these_W & ~told_W & evidence.damaged_W
        unseen_W = these_W & ~told_W & ~evidence.damaged_W & ~evidence.seen_W
        kinds = ", ".join(kind for kind in truth.kinds if is_document_kind(kind))
        raise UserError(
            f"{', '.join(measured.labelled.source['data'])}: {int(these_W.sum()):,} words are {what}, and calibrate "
            f"can learn from none of them: {int((these_W & told_W).sum()):,} stand in errors of whole documents"
            f"{f' ({kinds})' if kinds else ''}, {int(damaged_W.sum()):,} are damaged, which rules decide, and "
            f"{int(unseen_W.sum()):,} the network does not see; expected some {what} words beside those"
        )


def _little(words: Words, evidence: Evidence) -> tuple[str, ...]:
    """A warning where few words or documents were there to learn from."""
    wrong = int((words.chosen_W & words.wrong_W).sum())
    documents = len(np.unique(evidence.document_W[words.chosen_W]))
    if wrong >= LEAST_WRONG and documents >= LEAST_TEXTS:
        return ()
    return (
        f"warning: this rests on few labels (wrong words: {wrong:,}, documents: {documents:,}; expected {LEAST_WRONG} "
        f"and {LEAST_TEXTS} or more): probabilities and thresholds may be far off",
    )


def less_than_wanted(chosen: Threshold | None) -> tuple[str, ...]:
    """A note where flags in other documents are right much less often than in those that chose the threshold."""
    if chosen is None or chosen.held_out is None or chosen.held_out >= chosen.wanted - LUCK:
        return ()
    return (
        f"of the flags in documents that had no part in choosing the threshold {chosen.held_out:.0%} were right, and "
        f"{chosen.wanted:.0%} are wanted: label more text, or be content with less (--precision)",
    )


def _card(
    bundle: Bundle, found: Refit, chosen: Threshold | None, *, review: float, drop: float, about: dict[str, Any]
) -> dict[str, Any]:
    flag = 0.5 if chosen is None or chosen.threshold is None else chosen.threshold
    card = card_of(bundle)
    return card | {
        "readout": {"coefficients": found.coefficients, "intercept": found.intercept},
        "calibration": {"slope": found.slope, "intercept": found.shift},
        "thresholds": {"floor": min(CANDIDATE, flag / 2), "flag": flag, "review": review, "drop": drop},
        "flag_precision": _flag_precision(chosen, rate=about["expected_rate"], source=about),
        "metrics": {**card["metrics"], "calibration": about},
    }


def section(found: Calibrated, *, synthetic: bool) -> str:
    """What the model card says about it."""
    about = found.card["metrics"]["calibration"]
    before, after = found.fit.before.average_precision, found.fit.after
    made = " (errors made by `--corrupt`)" if synthetic else ""
    lines = [
        f"Fitted on {about['words']:,} words of {about['documents']:,} documents ({', '.join(about['data'])}), "
        f"{about['base_rate']:.2%} of them wrong{made}, for text in which {found.rate:.2%} are. Expected calibration "
        f"error there {found.after.error:.4f} (before: {found.before.error:.4f}), over candidates (words of "
        f"probability {CANDIDATE:g} or more) {found.after.candidates.told()} "
        f"(before: {found.before.candidates.told()}). The readout was "
        f"{'kept' if found.fit.kept else 'fitted anew'}: average precision "
        + (f"{before:.3f}." if after is None else f"{before:.3f}, cross-validated {after.average_precision:.3f} anew."),
        "",
        "| precision | threshold | measured (95 %) | held out | recall |",
        "|---|---|---|---|---|",
    ]
    for row in found.thresholds:
        if row.threshold is None:
            lines.append(f"| {row.wanted:g} | not reached | | | |")
        else:
            measured = told(row.precision, row.interval)
            held_out = "–" if row.held_out is None else f"{row.held_out:.3f}"
            lines.append(f"| {row.wanted:g} | {row.threshold:g} | {measured} | {held_out} | {row.recall:.3f} |")
    lines += ["", f"{HELD_OUT.capitalize()}."]
    if synthetic:
        lines += ["", "Errors that people and machines make are harder to find than these: expect less on real text."]
    return "\n".join(lines)


def _choose(thresholds: list[Threshold], precision: float) -> tuple[Threshold | None, tuple[str, ...]]:
    """The threshold of that precision, or of the highest below it that is reached."""
    reached = [row for row in thresholds if row.threshold is not None and row.wanted <= precision]
    if reached and reached[-1].wanted == precision:
        return reached[-1], ()
    missed = f"no threshold reaches a precision of {precision:g} here"
    if reached:
        return reached[-1], (f"{missed}; words are flagged at {reached[-1].wanted:g} instead",)
    return None, (f"{missed}, nor any lower one that was asked for; thresholds.flag is 0.5",)


def _flag_precision(chosen: Threshold | None, *, rate: float, source: dict[str, Any]) -> dict[str, Any] | None:
    if chosen is None:
        return None
    low, high = (None, None) if chosen.interval is None else (round(bound, 4) for bound in chosen.interval)
    kind = "made-up errors in" if source["corrupted"] else "labelled errors of"
    return {
        "precision": chosen.wanted,
        "measured": round(chosen.precision, 4),
        "low": low,
        "high": high,
        "held_out": None if chosen.held_out is None else round(chosen.held_out, 4),
        "rate": rate,
        "on": f"{kind} {', '.join(source['data'])} ({source['documents']:,} documents), {rate:.2%} of words wrong",
    }


def _about(source: dict[str, Any]) -> dict[str, Any]:
    """The source without folders: a bundle travels."""
    return {**source, "data": [Path(path).name for path in source["data"]]}


def _brief(figures: Any) -> dict[str, float]:
    return {name: round(float(getattr(figures, name)), 5) for name in ("auroc", "average_precision", "f05")}
