"""Spans in their context: the worst of a scan, with the words around them, read from INPUT."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from rtdscan.transforms import storage
from rtdscan.transforms.records import WorkUnit
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
    """

    file: str
    row: int
    score: float
    before: str
    words: str
    after: str


@dataclass(frozen=True, slots=True, order=True)
class _Span:
    score: float
    unit: int
    row: int
    start: int
    end: int


def worst_spans(
    output: str, units: Sequence[WorkUnit], *, text: str, n: int, per_document: int = 1
) -> list[SpanInContext]:
    """The spans with the highest scores.

    Args:
        output: OUTPUT.
        units: Units whose shards are there.
        text: Text column of the input.
        n: How many at most.
        per_document: How many of one document at most, so that one broken document does not fill the list.

    Returns:
        Worst first.
    """
    worst = heapq.nlargest(n, _spans(output, units, per_document=per_document))
    return [_in_context(span, units[span.unit], text=text) for span in worst]


def _spans(output: str, units: Sequence[WorkUnit], *, per_document: int) -> Iterator[_Span]:
    for number, unit in enumerate(units):
        with storage.open_read(storage.join(output, unit.shard)) as source:
            rows = pq.read_table(source, columns=["spans"])["spans"].to_pylist()
        for row, spans in enumerate(rows):
            for span in heapq.nlargest(per_document, spans or (), key=lambda span: span["score"]):
                yield _Span(span["score"], number, row, span["start"], span["end"])


def _in_context(span: _Span, unit: WorkUnit, *, text: str) -> SpanInContext:
    document = read_unit(unit, text=text, columns=())["text"][span.row].as_buffer().to_pybytes().decode()
    return SpanInContext(
        file=unit.file.relative,
        row=unit.first_row + span.row,
        score=span.score,
        before=document[max(0, span.start - AROUND) : span.start],
        words=document[span.start : span.end],
        after=document[span.end : span.end + AROUND],
    )
