"""Spans in their context: the worst of a scan, with the words around them, read from INPUT."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from rtdscan.transforms import storage
from rtdscan.transforms.records import WorkUnit
from rtdscan.transforms.tally import Worst
from rtdscan.transforms.units import read_unit

AROUND = 50
"""Characters of context on each side."""


@dataclass(frozen=True, slots=True)
class SpanInContext:
    """A flagged stretch of text and what stands around it.

    Attributes:
        file, row: Where it is.
        score: Its probability.
        before, words, after: The text.
        suggestions: What may have been meant, best first.
        sure: How probable each is.
    """

    file: str
    row: int
    score: float
    before: str
    words: str
    after: str
    suggestions: tuple[str, ...] = ()
    sure: tuple[float, ...] = ()


def worst_spans(
    output: str, units: Sequence[WorkUnit], *, text: str, worst: Sequence[Worst], n: int
) -> list[SpanInContext]:
    """The worst spans of the worst documents, one of each document.

    Only the shards and units of those documents are read, however large the corpus.

    Args:
        output: OUTPUT.
        units: Units whose shards are there.
        text: Text column of the input.
        worst: The worst documents, as a tally has them.
        n: How many spans at most.

    Returns:
        Worst first; documents without a flagged word are left out.
    """
    found: list[tuple[float, WorkUnit, int, dict[str, Any]]] = []
    for document in worst:
        (unit,) = [u for u in units if u.file.relative == document.file and 0 <= document.row - u.first_row < u.rows]
        row = document.row - unit.first_row
        with storage.open_read(storage.join(output, unit.shard)) as source:
            spans = pq.read_table(source, columns=["spans"])["spans"][row].as_py() or []
        if spans:
            span = max(spans, key=lambda span: span["score"])
            found.append((span["score"], unit, row, span))
    found.sort(key=lambda item: -item[0])
    return [_in_context(unit, row, span, text=text) for _, unit, row, span in found[:n]]


def _in_context(unit: WorkUnit, row: int, span: dict[str, Any], *, text: str) -> SpanInContext:
    document = read_unit(unit, text=text)["text"][row].as_buffer().to_pybytes().decode()
    start, end = span["start"], span["end"]
    return SpanInContext(
        file=unit.file.relative,
        row=unit.first_row + row,
        score=span["score"],
        before=document[max(0, start - AROUND) : start],
        words=document[start:end],
        after=document[end : end + AROUND],
        suggestions=tuple(span["suggestions"] or ()),
        sure=tuple(span["probabilities"] or ()),
    )
