"""Figures of several detectors per kind of error: gathered, for people, and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from rtdscan.pipeline.detection.evidence import Evidence
from rtdscan.pipeline.detection.labels import Labelled, is_document_kind
from rtdscan.pipeline.detection.metrics import (
    PRECISIONS,
    Figures,
    Interval,
    flag_interval,
    measure,
    measure_kinds,
    recall_name,
    told,
)
from rtdscan.pipeline.detection.reliability import CANDIDATE, Reliability
from rtdscan.pipeline.detection.truth import ALL, Truth, document_scores, label_documents, told_of_documents

MODEL = "model"
"""The detector that is measured; the others are baselines."""

LETTERED = "without marks"
"""The row about words that hold a letter or digit."""

NO_WORDS = (
    "all errors are of kinds that are told of whole documents, whose words may each be right: there is no table of all "
    "kinds by words and nothing to say of flags, only the documents' scores"
)
"""Where there is no row ALL."""

LEAST_CLEAN = 20
"""Documents without errors that it takes to measure by document against them; else against all without the kind."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Flags:
    """What the model's own threshold gives on these words; None where there is nothing to divide by.

    The interval is one of precision, 95 %, by drawing documents anew; None without draws or with few documents.
    """

    threshold: float
    flagged: int
    precision: float | None
    interval: Interval | None
    recall: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """All that evaluate tells.

    Attributes:
        words: Detector -> row (ALL, LETTERED, kinds of error) -> figures.
        documents: Kind that is told of documents -> figures of the documents' scores.
        flags: At the model's threshold, by the words of ALL.
        reliability: Probabilities against what was wrong, by the words of ALL.
    """

    words: dict[str, dict[str, Figures]]
    documents: dict[str, Figures]
    flags: Flags
    reliability: Reliability

    @property
    def few_documents(self) -> bool:
        """Whether intervals were asked for, and some could not be told."""
        rows = [row for rows in self.words.values() for row in rows.values()]
        asked = any(row.intervals for row in rows)
        flags_too = asked and self.flags.precision is not None and self.flags.interval is None
        return flags_too or any(None in row.intervals.values() for row in rows)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "words": {
                detector: {row: figures.to_json() for row, figures in rows.items()}
                for detector, rows in self.words.items()
            },
            "documents": {kind: figures.to_json() for kind, figures in self.documents.items()},
            "flags": asdict(self.flags),
            "calibration_error": self.reliability.error if self.reliability.bins else None,
            "candidates": self.reliability.candidates.to_json(),
            "reliability": [asdict(bin_) for bin_ in self.reliability.bins],
        }


def word_rows(truth: Truth) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.bool_]]]:
    """Right words, and wrong words by row of the table: ALL, then each kind.

    Where some kinds are told of documents, ALL leaves their words out: each may be right.
    """
    right_W = truth.counted_W & ~truth.wrong_W
    wrong_W = truth.counted_W & truth.wrong_W
    kinds = {kind: wrong_W & touched_W for kind, touched_W in truth.kinds.items()}
    told_W = told_of_documents(truth)
    rows = {ALL: wrong_W & ~told_W, **kinds}
    return right_W, {row: chosen_W for row, chosen_W in rows.items() if chosen_W.any()}


def make_report(
    labelled: Labelled,
    evidence: Evidence,
    truth: Truth,
    *,
    p_W: Floats,
    baselines: Mapping[str, Floats],
    flag: float,
    draws: int,
    seed: int,
) -> Report:
    """Measure the model and the baselines on the same words.

    Args:
        labelled: The texts.
        evidence: Their words.
        truth: The labels.
        p_W: The model's probabilities.
        baselines: Name -> score_W.
        flag: The model's threshold.
        draws, seed: Of the bootstrap.
    """
    right_W, rows = word_rows(truth)
    lettered_W = evidence.column("mark") == 0
    words: dict[str, dict[str, Figures]] = {}
    for name, score_W in {MODEL: p_W, **baselines}.items():
        found = measure_kinds(score_W, right_W, rows, document_W=evidence.document_W, draws=draws, seed=seed)
        if ALL in rows:
            some = measure_kinds(
                score_W,
                right_W & lettered_W,
                {LETTERED: rows[ALL] & lettered_W},
                document_W=evidence.document_W,
                draws=draws,
                seed=seed,
            )
            found = {ALL: found[ALL], **some, **found}
        words[name] = found
    counted_W = truth.counted_W & ~told_of_documents(truth)  # those of ALL
    reliability = Reliability.of(
        p_W[counted_W],
        truth.wrong_W[counted_W],
        fixed_W=evidence.damaged_W[counted_W],
        weight_W=np.ones(int(counted_W.sum())),
    )
    return Report(
        words=words,
        documents=_by_document(labelled, evidence, p_W),
        flags=_flags(
            p_W[counted_W],
            truth.wrong_W[counted_W],
            evidence.document_W[counted_W],
            flag=flag,
            draws=draws,
            seed=seed,
        ),
        reliability=reliability,
    )


def _by_document(labelled: Labelled, evidence: Evidence, p_W: Floats) -> dict[str, Figures]:
    clean_D, kinds = label_documents(labelled)
    score_D = document_scores(p_W, evidence.document_W, len(labelled.texts))
    found = {}
    for kind, wrong_D in kinds.items():
        right_D = clean_D if clean_D.sum() >= LEAST_CLEAN else ~wrong_D
        chosen_D = right_D | wrong_D
        found[kind] = measure(score_D[chosen_D], wrong_D[chosen_D])
    return found


def _flags(
    p_W: Floats,
    wrong_W: NDArray[np.bool_],
    document_W: NDArray[np.int64],
    *,
    flag: float,
    draws: int,
    seed: int,
) -> Flags:
    flagged_W = p_W.astype(np.float32) >= flag
    hits, flagged, wrong = int((flagged_W & wrong_W).sum()), int(flagged_W.sum()), int(wrong_W.sum())
    if not wrong:
        return Flags(flag, flagged, None, None, None)
    if not flagged:
        return Flags(flag, 0, None, None, 0.0)
    interval = flag_interval(wrong_W, flagged_W, document_W, draws=draws, seed=seed)
    return Flags(flag, flagged, hits / flagged, interval, hits / wrong)


# ---------------------------------------------------------------------------------------------------------------------
# For people


def overall_table(report: Report) -> Table:
    """All detectors on all words, with intervals; and what the model's probabilities are worth."""
    candidates = report.reliability.candidates
    caption = (
        f"the model's calibration error {report.reliability.error:.4f}, over {candidates.words:,.0f} candidates (words "
        f"of probability {CANDIDATE:g} or more) {candidates.told()}"
    )
    table = Table(
        title="all kinds of errors together, by words", title_justify="left", caption=caption, caption_justify="left"
    )
    for name in ("detector", "words", "wrong", "AUROC", "average precision", "best F0.5"):
        table.add_column(name, justify="left" if name == "detector" else "right")
    for precision in PRECISIONS:
        table.add_column(f"recall at P {precision:g}", justify="right")
    for detector, rows in report.words.items():
        for row in (ALL, LETTERED):
            if row in rows:
                name = detector if row == ALL else f"  {row}"
                table.add_row(name, f"{rows[row].words:,}", _share(rows[row].base_rate), *_cells(rows[row]))
    return table


def flags_line(flags: Flags) -> str:
    """A sentence about the model's own threshold."""
    line = f"at the model's threshold {flags.threshold:g}: {flags.flagged:,} words flagged"
    if flags.precision is not None:
        line += f", precision {told(flags.precision, flags.interval)}"
    return line if flags.recall is None else f"{line}, recall {flags.recall:.3f}"


def kinds_table(report: Report) -> Table:
    """Each kind of error: the model in full, of the others AUROC and average precision."""
    others = [name for name in report.words if name != MODEL]
    table = Table(title="each kind of error against all right words", title_justify="left")
    table.add_column("kind")
    for name in ("wrong words", "base rate", "AUROC", "AP", "F0.5", *(f"R at P {p:g}" for p in PRECISIONS), *others):
        table.add_column(name, justify="right")
    for row, figures in report.words[MODEL].items():
        if row in (ALL, LETTERED):
            continue
        by_others = [
            f"{_point(f.auroc)} / {_point(f.average_precision)}" for f in (report.words[o][row] for o in others)
        ]
        name = f"{row} *" if is_document_kind(row) else row
        table.add_row(name, f"{figures.wrong:,}", _share(figures.base_rate), *_cells(figures, brief=True), *by_others)
    if others:
        table.caption = f"{', '.join(others)}: AUROC / average precision; * better told of documents"
    return table


def documents_table(report: Report) -> Table:
    """Kinds that are told of documents."""
    table = Table(title="kinds that are told of documents, by the documents' score", title_justify="left")
    for name in ("kind", "documents", "with it", "AUROC", "AP"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for kind, figures in report.documents.items():
        table.add_row(
            kind, f"{figures.words:,}", f"{figures.wrong:,}", _point(figures.auroc), _point(figures.average_precision)
        )
    return table


def _cells(figures: Figures, *, brief: bool = False) -> list[str]:
    names = {"auroc": figures.auroc, "average_precision": figures.average_precision, "f05": figures.f05}
    names |= {recall_name(precision): recall for precision, recall in figures.recall_at.items()}
    return [
        _point(value) if brief or name not in figures.intervals else _with_interval(value, figures.intervals[name])
        for name, value in names.items()
    ]


def _with_interval(value: float, interval: Interval | None) -> str:
    if interval is None:
        return f"{_point(value)} (–)"
    return f"{_point(value)} ({_point(interval[0])}–{_point(interval[1])})"


def _point(value: float) -> str:
    """.123; a dash for what does not exist."""
    return "–" if np.isnan(value) else f"{value:.3f}".lstrip("0") if value < 1 else "1"


def _share(value: float) -> str:
    return f"{value:.2%}"
