"""Spans -> labels of words, by document and character offset. A word is wrong when it shares a character with a span.

Shapes: W words, S spans, D documents.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtdscan.pipeline.detection.evidence import Evidence
from rtdscan.pipeline.detection.labels import Labelled, Spans, is_document_kind

ALL = "all"
"""The row of a table that is about every kind of error."""

UNNAMED = "(no kind)"
"""Of spans without a kind, where others have one."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Labels of words.

    Attributes:
        counted_W: Words that count: those that no ignored span touches.
        wrong_W: Words that a span touches.
        kinds: Kind of error -> the words that its spans touch; empty where no span has a kind.
        documents: D, texts in all.
    """

    counted_W: NDArray[np.bool_]
    wrong_W: NDArray[np.bool_]
    kinds: dict[str, NDArray[np.bool_]]
    documents: int


def label_words(labelled: Labelled, evidence: Evidence) -> Truth:
    """Label the words of labelled texts."""
    lengths = np.array([len(text) for text in labelled.texts], dtype=np.int64)
    base_D = np.cumsum(lengths + 1) - lengths - 1
    at_W = base_D[evidence.document_W]
    start_W, end_W = at_W + evidence.start_W, at_W + evidence.end_W
    kinds = sorted(set(labelled.wrong.kind_S.tolist()))
    by_kind = {
        kind or UNNAMED: _touched(start_W, end_W, labelled.wrong, base_D, labelled.wrong.kind_S == kind)
        for kind in kinds
        if kinds != [""]
    }
    every_S = np.ones(len(labelled.wrong.start_S), dtype=bool)
    ignored_S = np.ones(len(labelled.ignored.start_S), dtype=bool)
    return Truth(
        counted_W=~_touched(start_W, end_W, labelled.ignored, base_D, ignored_S),
        wrong_W=_touched(start_W, end_W, labelled.wrong, base_D, every_S),
        kinds=by_kind,
        documents=len(labelled.texts),
    )


def told_of_documents(truth: Truth) -> NDArray[np.bool_]:
    """Words of kinds that are told of a whole document: each of them may be right."""
    told_W = np.zeros(len(truth.wrong_W), dtype=bool)
    for kind, touched_W in truth.kinds.items():
        if is_document_kind(kind):
            told_W |= touched_W
    return told_W


def label_documents(labelled: Labelled) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.bool_]]]:
    """Which documents have no error at all, and which have one of each kind that is told of documents.

    Returns:
        clean_D, and kind -> wrong_D.
    """
    clean_D = np.ones(len(labelled.texts), dtype=bool)
    clean_D[labelled.wrong.document_S] = False
    clean_D[labelled.ignored.document_S] = False
    wrong: dict[str, NDArray[np.bool_]] = {}
    for kind in sorted(set(labelled.wrong.kind_S.tolist())):
        if is_document_kind(kind):
            wrong[kind] = np.zeros(len(labelled.texts), dtype=bool)
            wrong[kind][labelled.wrong.document_S[labelled.wrong.kind_S == kind]] = True
    return clean_D, wrong


def document_scores(p_W: NDArray[np.float64], document_W: NDArray[np.int64], documents: int) -> NDArray[np.float64]:
    """Mean probability of each document's words, as the scan's `score`; 0 for documents without words."""
    count_D = np.bincount(document_W, minlength=documents)
    return np.bincount(document_W, p_W, minlength=documents) / np.maximum(count_D, 1)


def _touched(
    start_W: NDArray[np.int64],
    end_W: NDArray[np.int64],
    spans: Spans,
    base_D: NDArray[np.int64],
    chosen_S: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Words that share a character with one of the chosen spans, which may overlap each other."""
    at_S = base_D[spans.document_S[chosen_S]]
    begin_S = np.sort(at_S + spans.start_S[chosen_S])
    stop_S = np.sort(at_S + spans.end_S[chosen_S])
    # Spans that begin before the word ends, less those that end before it begins: one or more is left.
    touched_W: NDArray[np.bool_] = np.searchsorted(begin_S, end_W, "left") > np.searchsorted(stop_S, start_W, "right")
    return touched_W
