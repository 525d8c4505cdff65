"""One document: its text from INPUT, its marks, and what people say about them."""

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from rtdscan.pipeline.detection.verdicts import WORDS, Verdict
from rtdscan.pipeline.finished.folder import Shard
from rtdscan.pipeline.finished.texts import Input
from rtdscan.pipeline.page.catalogue import Catalogue
from rtdscan.pipeline.page.judging import Said, Verdicts
from rtdscan.transforms.errors import UserError

UNITS = 4
"""Work units whose texts are kept at hand: whoever reads a document often reads its neighbours."""

MARKS = 300
"""Marks of a document that are shown, those with the highest probabilities."""

STORED_WHOLE = 100_000
"""Characters of a document that is stored whole with a verdict; of a longer one AROUND on each side."""

AROUND = 20_000

LONGEST_WORD = 100
"""Characters among which such a part looks for the beginning of a word."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of a document.

    Attributes:
        start, end, score: What and how likely it is wrong.
        flagged: Whether it is a flagged span; otherwise a candidate.
        suggestions: What could stand there instead, best first.
        sure: How probable each is; empty where a scan did not tell.
    """

    start: int
    end: int
    score: float
    flagged: bool
    suggestions: tuple[str, ...] = ()
    sure: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """A document with all that the page shows of it.

    Attributes:
        shard, row: Which.
        attributes: Its row of the scan.
        marks: In order.
        hidden: Marks that are left out, being too many.
        text: None where INPUT can't be read as it was scanned.
        why: Then the reason.
        digest: Of the text; empty without one.
        said: What people say about its stretches.
    """

    shard: Shard
    row: int
    attributes: dict[str, Any]
    marks: tuple[Mark, ...]
    hidden: int
    text: str | None
    why: str
    digest: str
    said: Said


class Documents:
    """Documents of a scan with their texts."""

    def __init__(self, catalogue: Catalogue, verdicts: Verdicts) -> None:
        """Nothing is read yet."""
        self.catalogue = catalogue
        self._verdicts = verdicts
        self._lock = threading.Lock()
        self._texts: OrderedDict[tuple[str, str], pa.Array] = OrderedDict()

    def show(self, file: str, row: int, *, candidates: bool = False) -> Shown:
        """Read a document.

        Raises:
            UserError: The scan has no such document.
            RtdscanError: Its shard can't be read.
        """
        shard = self.catalogue.shard_of(file, row)
        attributes = self.catalogue.attributes(shard, row)
        text, why = self._text(shard, row)
        marks = _marks(attributes, candidates=candidates)
        kept = sorted(sorted(marks, key=lambda mark: -mark.score)[:MARKS], key=lambda mark: mark.start)
        digest = "" if text is None else _digest(text)
        said = self._verdicts.said(file, row, digest) if text is not None else {}
        return Shown(shard, row, attributes, tuple(kept), len(marks) - len(kept), text, why, digest, said)

    def judge(self, file: str, row: int, start: int, end: int, *, verdict: str, reviewer: str) -> Verdict:
        """Store what a person says about a mark.

        Raises:
            UserError: There is no such mark, its text has gone, or this is no verdict.
            RtdscanError: It can't be written.
        """
        shard = self.catalogue.shard_of(file, row)
        marks = _marks(self.catalogue.attributes(shard, row), candidates=True)
        mark = next((mark for mark in marks if (mark.start, mark.end) == (start, end)), None)
        text, why = self._text(shard, row)
        if text is None:
            raise UserError(f"The text can't be read as it was scanned ({why}), so nobody can judge it.")
        if mark is None or verdict not in WORDS:
            raise UserError(f"There is nothing to judge at {start} to {end} of row {row:,} of {file}; open it again.")
        text_start, stored = _stored(text, start, end)
        return self._verdicts.store(
            Verdict(
                reviewer=reviewer,
                at=datetime.now(timezone.utc),
                verdict=verdict,
                file=file,
                row=row,
                start=start,
                end=end,
                score=mark.score,
                flagged=mark.flagged,
                model=self.catalogue.finished.run["model"]["digest"],
                digest=_digest(text),
                text_start=text_start,
                text=stored,
            )
        )

    def _text(self, shard: Shard, row: int) -> tuple[str | None, str]:
        key = (shard.path, str(self.catalogue.finished.run.get("finished_at")))
        with self._lock:
            texts = self._texts.get(key)
        if texts is None:
            source = Input(self.catalogue.finished)
            texts = source.texts(shard)
            if texts is None:
                return None, source.problems[shard.file]
            with self._lock:
                self._texts[key] = texts
                while len(self._texts) > UNITS:
                    self._texts.popitem(last=False)
        value = texts[row - shard.first_row]
        return str(value.as_buffer() or b"", "utf-8", "replace"), ""


def _marks(attributes: dict[str, Any], *, candidates: bool) -> list[Mark]:
    """Spans, and the candidates that lie in none of them."""
    marks = [
        Mark(
            span["start"],
            span["end"],
            span["score"],
            True,
            tuple(span.get("suggestions") or ()),
            tuple(span.get("probabilities") or ()),
        )
        for span in attributes["spans"] or ()
    ]
    if candidates:
        covered = [(mark.start, mark.end) for mark in marks]
        at = 0
        for word in sorted(attributes["candidates"] or (), key=lambda word: word["start"]):
            while at < len(covered) and covered[at][1] <= word["start"]:
                at += 1
            if at == len(covered) or covered[at][0] >= word["end"]:
                marks.append(Mark(word["start"], word["end"], word["score"], False))
    return sorted(marks, key=lambda mark: mark.start)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _stored(text: str, start: int, end: int) -> tuple[int, str]:
    """(where it begins, what is stored) of a document with a verdict."""
    if len(text) <= STORED_WHOLE:
        return 0, text
    first, last = max(0, start - AROUND), min(len(text), end + AROUND)
    # From a word's beginning, if one is near: in scripts without spaces there is none before the mark.
    space = re.search(r"\s", text[first : min(first + LONGEST_WORD, start)]) if first else None
    first += space.end() if space else 0
    return first, text[first:last]
