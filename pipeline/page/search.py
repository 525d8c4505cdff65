"""Documents whose text holds some words. INPUT is read a bit at a time: as long as it may take, then to be resumed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rtdscan.pipeline.finished.excerpts import in_context
from rtdscan.pipeline.finished.texts import Input
from rtdscan.pipeline.page.catalogue import MEASURES, Catalogue, Query, Row

MOST = 200
"""Documents that are found at most."""

AT_ONCE = 16
"""Shards whose rows are asked for at once."""

SNIPPET = 60
"""Characters on each side of the words that were found."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found so far.

    Attributes:
        rows: Documents, in the order that was asked for.
        shards: Shards that were looked through, of those there are.
        documents: Documents whose text was looked through.
        unread: Files that could not be read as they were scanned.
        ended: Whether there is nothing left to look through, or enough was found.
    """

    rows: tuple[Row, ...] = ()
    shards: int = 0
    documents: int = 0
    unread: tuple[str, ...] = ()
    ended: bool = False


def search(
    catalogue: Catalogue, source: Input, query: Query, words: str, *, seconds: float, after: Found | None = None
) -> Found:
    """Look for texts that hold words, in any case.

    Args:
        catalogue: The documents.
        source: Their texts.
        query: Documents that come into question, and the order in which to show them.
        words: What to look for.
        seconds: Time that it may take; at least one shard is looked at.
        after: Go on from here.
    """
    found = after or Found()
    until = time.monotonic() + seconds
    rows, at, documents, unread = list(found.rows), found.shards, found.documents, dict.fromkeys(found.unread)
    while at < len(catalogue.shards) and len(rows) < MOST and (at == found.shards or time.monotonic() < until):
        batch = catalogue.shards[at : at + AT_ONCE]
        inside: dict[str, list[Row]] = {}
        for row in catalogue.inside(query, batch):
            inside.setdefault(row.shard.path, []).append(row)
        for shard in batch:
            candidates = inside.get(shard.path, [])
            texts = source.texts(shard) if candidates else None
            at += 1
            if texts is None:
                if candidates:
                    unread[shard.file] = None
            else:
                documents += len(candidates)
                rows += _holding(candidates, texts, words)
            if len(rows) >= MOST or time.monotonic() >= until:
                break
    ended = at >= len(catalogue.shards) or len(rows) >= MOST
    return Found(tuple(_sorted(rows[:MOST], query)), at, documents, tuple(unread), ended)


def _holding(candidates: Sequence[Row], texts: Any, words: str) -> list[Row]:
    numbers = [row.row - row.shard.first_row for row in candidates]
    chosen = texts.take(pa.array(numbers, pa.int64()))
    try:
        decoded = chosen.cast(pa.large_string())
        hits = pc.find_substring(pc.utf8_lower(decoded), pattern=_lower(words)).to_pylist()
    except pa.ArrowInvalid:  # some text is not UTF-8
        lower = [_lower(str(value or b"", "utf-8", "replace")) for value in chosen.to_pylist()]
        hits = [text.find(_lower(words)) for text in lower]
    held = []
    for row, value, hit in zip(candidates, chosen, hits, strict=True):
        if hit is not None and hit >= 0:
            held.append(replace(row, snippet=_snippet(str(value.as_buffer(), "utf-8", "replace"), words)))
    return held


def _lower(text: str) -> str:
    """As Arrow does it, a character for each: Python makes two of "İ", which then is nowhere, and shifts the rest."""
    # A browser may send half of a surrogate pair.
    lower: str = pc.utf8_lower(pa.scalar(text.encode("utf-8", "replace").decode(), pa.large_string())).as_py()
    return lower


def _snippet(text: str, words: str) -> str:
    at = _lower(text).find(_lower(words))
    start = max(0, min(at, len(text)))
    span = {"start": start, "end": min(start + len(words), len(text))}
    before, inside, after = in_context(lambda a, b: text[a:b], span, n_chars=len(text), around=SNIPPET)
    return f"{'…' if start > SNIPPET else ''}{before}{inside}{after}{'…' if len(text) > span['end'] + SNIPPET else ''}"


def _sorted(rows: Sequence[Row], query: Query) -> list[Row]:
    """By a measure; for other columns as they were found, in the order of the corpus."""
    if query.order not in MEASURES:
        return list(rows)
    known = [row for row in rows if getattr(row, query.order) is not None]
    known.sort(key=lambda row: getattr(row, query.order), reverse=query.descending)
    return known + [row for row in rows if getattr(row, query.order) is None]
