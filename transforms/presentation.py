"""From stored scores and candidates to what a user reads: spans and decisions.

Works from what is stored and the text alone, so other thresholds, `ignore` or `allow` need no network; a fresh scan and
a rewritten shard go through the same code and get the same bytes.

Shapes: K candidates of a document.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rtdscan.transforms.records import MARK, SPAN
from rtdscan.transforms.residue import residues
from rtdscan.transforms.settings import ScoreSettings


@dataclass(frozen=True, slots=True)
class Presentation:
    """What is said about documents from their candidates: one entry a document."""

    n_flagged: pa.Int32Array
    spans: pa.ListArray
    decision: pa.StringArray


def present(
    text_of: Callable[[int], str],
    *,
    scores: Sequence[float | None],
    n_words: Sequence[int],
    candidates: pa.ListArray,
    settings: ScoreSettings,
) -> Presentation:
    """Flag words, merge neighbours into spans, decide.

    A document is decided by its score less what ignored and allowed candidates contributed to it.

    Args:
        text_of: Gives the text of a document by its number; asked only where the text matters.
        scores: Stored scores; None where there is none.
        n_words: Words of each document.
        candidates: Stored candidates, type list<MARK>.
        settings: With thresholds resolved (none is None) as well as `ignore` and `allow`.

    Returns:
        Columns `n_flagged`, `spans`, `decision`.
    """
    thresholds = settings.thresholds
    flag, review, drop = thresholds.flag, thresholds.review, thresholds.drop
    if flag is None or review is None or drop is None:
        raise ValueError(f"thresholds must be resolved before presenting, got {thresholds!r}")
    marks = candidates.flatten()
    start_K, end_K, score_K = (marks.field(name).to_numpy() for name in ("start", "end", "score"))
    offset = _offsets(candidates)
    exempting = bool(settings.ignore or settings.allow)
    flagged: list[int | None] = []
    spans: list[list[tuple[int, int, float]] | None] = []
    decisions: list[str] = []
    for at, score in enumerate(scores):
        if score is None:
            flagged.append(None)
            spans.append(None)
            decisions.append(thresholds.not_ok)
            continue
        own = slice(offset[at], offset[at + 1])
        start, end, value = start_K[own], end_K[own], score_K[own]
        shown = value >= flag
        if shown.any() or (exempting and len(value)):
            text = text_of(at)
            exempt = exempt_words(text, start, end, ignore=settings.ignore, allow=settings.allow)
            shown &= ~exempt
            spans.append(list(merged(text, start[shown], end[shown], value[shown])))
            score -= float(value[exempt].astype(np.float64).sum()) / max(n_words[at], 1)
        else:
            spans.append([])
        flagged.append(int(shown.sum()))
        decisions.append("drop" if score >= drop else "review" if score >= review else "keep")
    return Presentation(pa.array(flagged, pa.int32()), _span_array(spans), pa.array(decisions, pa.string()))


def merged(
    text: str, start_K: NDArray[np.int32], end_K: NDArray[np.int32], score_K: NDArray[np.float32]
) -> Iterator[tuple[int, int, float]]:
    """Merge words with nothing but white space between them; a span scores as its worst word."""
    current: tuple[int, int, float] | None = None
    for start, end, score in zip(start_K.tolist(), end_K.tolist(), score_K.tolist(), strict=True):
        if current is not None and not text[current[1] : start].strip():
            current = (current[0], end, max(current[2], score))
            continue
        if current is not None:
            yield current
        current = (start, end, score)
    if current is not None:
        yield current


def exempt_words(
    text: str, start_K: NDArray[np.int32], end_K: NDArray[np.int32], *, ignore: Sequence[str], allow: tuple[str, ...]
) -> NDArray[np.bool_]:
    """Which of the words are never flagged: of a kind in `ignore`, or an entry of `allow` or part of one."""
    exempt_K = np.zeros(len(start_K), dtype=bool)
    if not len(start_K):
        return exempt_K
    for kind in ignore:
        exempt_K |= _overlapping([m.span() for m in IGNORABLE[kind].finditer(text)], start_K, end_K)
    if "code" in ignore:
        exempt_K |= _overlapping(residues(text), start_K, end_K)
    if allow:
        words, phrases = _allowed(allow)
        spots = zip(start_K.tolist(), end_K.tolist(), strict=True)
        exempt_K |= np.array([_folded(text[start:end]) in words for start, end in spots], dtype=bool)
        if phrases:
            exempt_K |= _overlapping(list(_found(text, phrases)), start_K, end_K)
    return exempt_K


# Every repetition that could be retried from many starting points is bounded: texts are hostile, matching stays linear.
IGNORABLE: dict[str, re.Pattern[str]] = {
    "url": re.compile(r"(?:[a-zA-Z][a-zA-Z0-9+.-]{1,20}://|www\.)[^\s<>\"']+"),
    "email": re.compile(r"[\w.+%-]{1,64}@[\w-]+(?:\.[\w-]+)+"),
    # Begins with a digit; with sign, currency, separators and unit: 1,000; -3.5e7; 10:30; $5; 2nd; 50kg.
    "number": re.compile(r"(?<!\w)[-+±$€£¥]?\d[\d.,:/'’-]{0,40}\w{0,4}%?(?!\w)"),
    # Fenced blocks, `inline code`, and what no prose holds: snake_case, camelCase, a.b(), $VAR, /a/path, <tag>, 0x1f;
    # and all residues.
    "code": re.compile(
        r"```.*?(?:```|\Z)|`[^`\n]+`|\b\w+_\w+\b|\b[a-z]+[A-Z]\w*\b|\b[\w.]{1,80}\([^()\n]{0,200}\)|[$@]\w+"
        r"|(?<!\w)(?:/[\w.-]+){2,}|</?[a-zA-Z][^<>\n]*>|\b0x[0-9a-fA-F]+\b",
        re.DOTALL,
    ),
}


HAN = "\u2e80-\uabff\uf900-\ufaff\U00020000-\U0003ffff"
"""Scripts without spaces between words: each character stands for itself."""

_ATOM = re.compile(rf"[{HAN}]|[^\W{HAN}]+(?:['’][^\W{HAN}]+)*|[^\w\s]")

_Phrase = tuple[tuple[str, bool], ...]
"""Atoms, folded, and whether white space stands before each."""


def _folded(text: str) -> str:
    return text.casefold().replace("’", "'")


@cache
def _allowed(allow: tuple[str, ...]) -> tuple[frozenset[str], dict[str, list[_Phrase]]]:
    """Entries that are one word; those of several atoms ("New York", "AT&T", "e-mail"), longest first, by the first."""
    phrases: dict[str, list[_Phrase]] = {}
    for entry in allow:
        atoms = list(_ATOM.finditer(entry.strip()))
        if len(atoms) > 1:
            ends = [atoms[0].start(), *(atom.end() for atom in atoms)]
            phrase = tuple((_folded(atom[0]), atom.start() > end) for atom, end in zip(atoms, ends, strict=False))
            phrases.setdefault(phrase[0][0], []).append(phrase)
    for those in phrases.values():
        those.sort(key=len, reverse=True)
    return frozenset(map(_folded, allow)), phrases


def _found(text: str, phrases: dict[str, list[_Phrase]]) -> Iterator[tuple[int, int]]:
    """Where phrases stand, whole words of the text, the longest of each place; time does not grow with their number."""
    past = 0
    for atom in _ATOM.finditer(text):
        if atom.start() >= past:
            ends = (_end_of(phrase, text, atom.end()) for phrase in phrases.get(_folded(atom[0]), ()))
            past = next((end for end in ends if end is not None), past)
            if past > atom.start():
                yield atom.start(), past


def _end_of(phrase: _Phrase, text: str, at: int) -> int | None:
    """Where a phrase ends whose first atom ends at `at`; None where its others do not follow."""
    for wanted, apart in phrase[1:]:
        atom = _ATOM.search(text, at)
        if atom is None or _folded(atom[0]) != wanted or (atom.start() > at) != apart:
            return None
        at = atom.end()
    return at


def _overlapping(
    ranges: list[tuple[int, int]], start_K: NDArray[np.int32], end_K: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Words that share a character with one of the ranges (ascending, disjoint)."""
    if not ranges:
        return np.zeros(len(start_K), dtype=bool)
    left_R, right_R = np.array(ranges).T
    at_K = np.searchsorted(right_R, start_K, side="right")  # the first range that ends after the word begins
    inside_K = at_K < len(right_R)
    inside_K[inside_K] = left_R[at_K[inside_K]] < end_K[inside_K]
    hit: NDArray[np.bool_] = inside_K
    return hit


def mark_lists(
    counts: NDArray[np.int64], start: NDArray[np.int32], end: NDArray[np.int32], score: NDArray[np.float32]
) -> pa.ListArray:
    """A column of list<MARK> from flat arrays and the number of marks of each row."""
    marks = pa.StructArray.from_arrays([pa.array(start), pa.array(end), pa.array(score)], fields=list(MARK))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), marks, type=pa.list_(MARK))


def _offsets(lists: pa.ListArray) -> list[int]:
    """Offsets of each row into `lists.flatten()`, which leaves out what lies under a null."""
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return [0, *np.cumsum(lengths).tolist()]


def _span_array(spans: list[list[tuple[int, int, float]] | None]) -> pa.ListArray:
    flat = [span for row in spans if row is not None for span in row]
    start, end, score = zip(*flat, strict=True) if flat else ((), (), ())
    columns: tuple[Sequence[Any], ...] = (start, end, score, [[]] * len(flat), [[]] * len(flat))
    values = pa.StructArray.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, SPAN, strict=True)], fields=list(SPAN)
    )
    # A null offset makes a null row: Arrow's own convention for ListArray.from_arrays.
    offsets: list[int | None] = []
    total = 0
    for row in spans:
        offsets.append(None if row is None else total)
        total += len(row or ())
    return pa.ListArray.from_arrays(pa.array([*offsets, total], pa.int32()), values, type=pa.list_(SPAN))
