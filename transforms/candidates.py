"""What speaks for each candidate in its place: what the discriminator and the generator say when they read it there.

Shapes: C candidates of one word, F features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rtdscan.transforms.gaps import GapReader
from rtdscan.transforms.near import FEATURES, Near, NearWords, folded

AROUND = 60
"""Characters on each side of a span that the networks read with a candidate: some thirty tokens in all. With 100 they
ranked no better (typos_ewt_train, five-fold: right word first in .760 against .764), with 40 a little worse (.757)."""

GUESSED = 3
"""Words of the generator's own that join them."""

Judge = Callable[[Sequence[str], Sequence[tuple[int, int]]], NDArray[np.float64]]
"""Texts and, in each, where a candidate stands -> evidence_CF in the order of IN_CONTEXT."""

IN_CONTEXT = ("own", "around")
"""What the discriminator says of a candidate: the largest logit of its words; the sum of log(1 - p) over the others."""

FILLED = ("filled", "pieces")
"""What the generator says: log p of a candidate in its place, and its pieces, each of which makes that smaller."""

LEAST = -20.0
"""The smallest log p that counts: behind it a piece is one that the generator hardly ever saw."""

_WORD = 30
"""Characters in which a word ends, or the text is of a script without spaces."""


@dataclass(slots=True)
class Case:
    """A word and what may have been meant, with what speaks for it.

    Attributes:
        text, start, end: Where it stands.
        found: C candidates.
        read: What is said of them in their place: [C, F] from each that was asked.
        alone: Words that fit, with their probability, where letters can't be compared.
    """

    text: str
    start: int
    end: int
    found: list[Near]
    read: list[NDArray[np.float64]] = field(default_factory=list)
    alone: list[tuple[Near, float]] = field(default_factory=list)

    @property
    def written(self) -> str:
        """The word."""
        return self.text[self.start : self.end]

    @property
    def features_CF(self) -> NDArray[np.float64]:
        """All that a ranking weighs."""
        letters_CF = np.array([near.features for near in self.found], np.float64).reshape(-1, len(FEATURES))
        return np.hstack([letters_CF, *self.read])

    def instead(self, near: Near) -> str:
        """A candidate as it would be written here."""
        return like(self.written, near.text)


def judge_cases(cases: Sequence[Case], judge: Judge) -> None:
    """Let the discriminator read every candidate in its place."""
    there = [in_place(c.text, c.start, c.end, c.instead(near)) for c in cases for near in c.found]
    evidence_CF = judge([text for text, _ in there], [spot for _, spot in there]) if there else np.zeros((0, 2))
    ends = np.cumsum([len(case.found) for case in cases])[:-1]
    for case, told_CF in zip(cases, np.split(evidence_CF, ends), strict=True):
        case.read.append(told_CF)


def read_gaps(cases: Sequence[Case], gaps: GapReader, words: NearWords | None) -> None:
    """Let the generator read the candidates, and add words of its own. To be called before the others."""
    around = [halves(case.text, case.start, case.end) for case in cases]
    readings = gaps.read(around, [[case.instead(near) for near in case.found] for case in cases])
    for case, reading in zip(cases, readings, strict=True):
        written = folded(case.written)
        known = {written, *(near.text for near in case.found)}
        own = [(text, log_p) for text, log_p in reading.words if text not in known]
        told = list(zip(reading.log_p_C, reading.pieces_C, strict=True))
        if words is not None and words.comparable(written):
            for text, log_p in own[:GUESSED]:
                case.found.append(words.compare(written, text))
                told.append((log_p, 1.0))
        elif gaps.pieces(written) == 1:
            case.alone = [(Near(text, ()), float(np.exp(log_p))) for text, log_p in own]
        told_CF = np.array(told, np.float64).reshape(len(told), len(FILLED))
        case.read.append(np.maximum(told_CF, LEAST))


def evidence(words: pa.ChunkedArray, places: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """evidence_CF in the order of IN_CONTEXT, from a text's words with their probabilities and a place in each text."""
    evidence_CF = np.zeros((len(places), len(IN_CONTEXT)))
    for at, (marks, (start, end)) in enumerate(zip(words, places, strict=True)):
        found = marks.values
        if found is None or not len(found):
            continue
        start_W, end_W, p_W = (found.field(name).to_numpy() for name in ("start", "end", "score"))
        p_W = np.clip(p_W.astype(np.float64), 1e-6, 1 - 1e-6)
        own_W = (start_W < end) & (end_W > start)
        evidence_CF[at, 0] = np.log(p_W / (1 - p_W))[own_W].max(initial=-14.0)
        evidence_CF[at, 1] = np.log1p(-p_W[~own_W]).sum()
    return evidence_CF


def in_place(text: str, start: int, end: int, instead: str) -> tuple[str, tuple[int, int]]:
    """What the discriminator reads: `instead` at its place, with whole words around it; and where it stands there."""
    before, after = halves(text, start, end)
    return before + instead + after, (len(before), len(before) + len(instead))


def halves(text: str, start: int, end: int) -> tuple[str, str]:
    """The text before and after a place, whole words where there are spaces between them."""
    low, high = max(0, start - AROUND), min(len(text), end + AROUND)
    if low:
        low += next((at for at in range(min(_WORD, start - low)) if text[low + at - 1].isspace()), 0)
    if high < len(text):
        high -= next((at for at in range(min(_WORD, high - end)) if text[high - at].isspace()), 0)
    return text[low:start], text[end:high]


def like(written: str, meant: str) -> str:
    """`meant` in the case of `written`: small, Capital, ALL CAPITALS; the English "I" always large."""
    if len(written) > 1 and written.isupper():
        return meant.upper()
    meant = " ".join("I" + word[1:] if word == "i" or word.startswith("i'") else word for word in meant.split(" "))
    return meant[:1].upper() + meant[1:] if written[:1].isupper() else meant
