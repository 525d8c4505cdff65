"""Suggestions: what may have been meant where words are flagged, best first.

Candidates are words near in letters (`near.py`). They are ranked by how likely such a slip is and how frequent the
word; with `suggest.in_context` also by the discriminator, which reads each of the best in its place: a network that
tells which words do not belong tells as well which of several does. No generator is needed: one small enough to ship
knows too little of the context (a narrow one trained along guesses a twentieth of hidden words).

The ranking is a softmax over the candidates and "none of them", so each suggestion has a probability; the coefficients
were fitted by `benchmarks/suggestions.py --fit` on `typos_ewt_train` (errors that people marked in e-mails, reviews
and web pages), and are measured on others. On the 167 of `typos_ewt_dev` the right word is first in .70 by letters
alone, .77 in context, and among five in .83.

Shapes: C candidates of one span, F features.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rtdscan.transforms.near import Near, NearWords
from rtdscan.transforms.records import SPAN
from rtdscan.transforms.settings import SuggestSettings

AROUND = 100
"""Characters on each side of a span that the discriminator reads with a candidate: some forty tokens in all. Twice as
many ranked no better (typos_ewt_train)."""

JUDGED = 8
"""Candidates that are judged in their context, the best by their letters."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*['’]?")

_AMONG_WORDS = frozenset(" \t\n\r\u00a0.,;:!?'\"()[]{}-–—…“”‘’«»„")

Judge = Callable[[Sequence[str], Sequence[tuple[int, int]]], NDArray[np.float64]]
"""Texts and, in each, where a candidate stands -> evidence_CF in the order of IN_CONTEXT."""

IN_CONTEXT = ("own", "around")
"""What the discriminator says of a candidate: the largest logit of its words; the sum of log(1 - p) over the others."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Coefficients of the softmax.

    Attributes:
        weights: Of FEATURES, then of IN_CONTEXT where it is used.
        none: Score of "none of them".
    """

    weights: tuple[float, ...]
    none: float

    def probabilities(self, features_CF: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of each candidate to be what was meant; they sum up to less than 1."""
        score_C = features_CF @ np.array(self.weights)
        top = max(float(score_C.max(initial=self.none)), self.none)
        odds_C = np.exp(score_C - top)
        return np.asarray(odds_C / (odds_C.sum() + np.exp(self.none - top)))


BY_LETTERS = Ranking((-3.99, -2.15, 4.50, 1.97, 1.27, 0.60, 2.78, -0.56, -0.63), -4.27)
BY_CONTEXT = Ranking((-2.88, -1.28, 3.98, 2.04, 1.22, -0.06, 2.42, 0.10, -0.27, -1.08, -0.39), 2.87)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What may have been meant, in the case of what was written, and how probable that is."""

    text: str
    probability: float


@dataclass(frozen=True)
class Suggester:
    """Makes suggestions.

    Attributes:
        words: Where candidates come from.
        settings: How many, and how they are ranked.
        judge: The discriminator; needed with `settings.in_context`.
    """

    words: NearWords
    settings: SuggestSettings
    judge: Judge | None = None

    def suggest(self, places: Sequence[tuple[str, int, int]]) -> list[list[Suggestion]]:
        """For spans of texts, each as (text, start, end); the network reads them together.

        Each word of a span is looked up alone; of several words each that more likely than not is wrong is replaced by
        its best suggestion, unless they are rather one word that fell apart, or one that is there twice.

        Returns:
            At most `top_k` suggestions each, the most probable first, none below `least`.
        """
        spots = [[(text, *spot) for spot in _words_in(text, start, end)] for text, start, end in places]
        ranked = iter(self._ranked([spot for those in spots for spot in those]))
        return [
            self._of_span(place, [(spot, next(ranked)) for spot in those])
            for place, those in zip(places, spots, strict=True)
        ]

    def _of_span(
        self, place: tuple[str, int, int], found: Sequence[tuple[tuple[str, int, int], list[Suggestion]]]
    ) -> list[Suggestion]:
        """From suggestions for the words of a span (after those for all of them together, if there are several)."""
        text, start, end = place
        if not found:
            return []
        if len(found) == 1:
            (_, first, last), ones = found[0]
            told = [Suggestion(text[start:first] + one.text + text[last:end], one.probability) for one in ones]
        else:
            told = [one for _, ones in found[:1] for one in ones]
            combined, p, at = "", 1.0, start
            twice = len({text[first:last].lower() for (_, first, last), _ in found[1:]}) == 1
            for (_, first, last), ones in () if twice else found[1:]:
                if ones and ones[0].probability > 0.5:
                    combined, p, at = combined + text[at:first] + ones[0].text, p * ones[0].probability, last
            if at > start:
                told.append(Suggestion(combined + text[at:end], p))
                told.sort(key=lambda one: -one.probability)
        return [one for one in told if one.probability >= self.settings.least][: self.settings.top_k]

    def _ranked(self, spots: Sequence[tuple[str, int, int]]) -> list[list[Suggestion]]:
        cases = [self._by_letters(text[start:end]) for text, start, end in spots]
        if self.settings.in_context:
            cases = self._by_context(spots, cases)
        return [
            [Suggestion(like(text[start:end], near.text), p) for near, p in ranked]
            for (text, start, end), ranked in zip(spots, cases, strict=True)
        ]

    def _by_letters(self, written: str) -> list[tuple[Near, float]]:
        found = self.words.near(written)
        if not found:
            return []
        p_C = BY_LETTERS.probabilities(np.array([near.features for near in found]))
        return _sorted(found, p_C)

    def _by_context(
        self, places: Sequence[tuple[str, int, int]], cases: Sequence[list[tuple[Near, float]]]
    ) -> list[list[tuple[Near, float]]]:
        if self.judge is None:
            raise ValueError("suggest.in_context needs a judge")
        best = [[near for near, _ in ranked[:JUDGED]] for ranked in cases]
        texts, spots = [], []
        for (text, start, end), chosen in zip(places, best, strict=True):
            for near in chosen:
                there = in_place(text, start, end, like(text[start:end], near.text))
                texts.append(there[0])
                spots.append(there[1])
        evidence = iter(self.judge(texts, spots)) if texts else iter(())
        ranked_again = []
        for chosen in best:
            features_CF = np.array([[*near.features, *next(evidence)] for near in chosen])
            p_C = BY_CONTEXT.probabilities(features_CF) if chosen else np.zeros(0)
            ranked_again.append(_sorted(chosen, p_C))
        return ranked_again


def add_suggestions(spans: pa.ListArray, text_of: Callable[[int], str], suggester: Suggester) -> pa.ListArray:
    """Fill `suggestions` of a column of spans (`records.SPAN`); `text_of` gives a row's text."""
    flat = spans.flatten()
    counts = spans.value_lengths().fill_null(0).to_pylist()
    starts, ends = flat.field("start").to_pylist(), flat.field("end").to_pylist()
    row_K = np.repeat(np.arange(len(spans)), counts).tolist()
    found = suggester.suggest(list(_places(row_K, starts, ends, text_of)))
    texts = pa.array([[one.text for one in those] for those in found], pa.list_(pa.string()))
    values = pa.StructArray.from_arrays(
        [flat.field("start"), flat.field("end"), flat.field("score"), texts], fields=list(SPAN)
    )
    ends_R = np.cumsum(counts)
    # A null offset makes a null row: Arrow's own convention for ListArray.from_arrays.
    offsets = pa.array([0, *ends_R.tolist()], pa.int32(), mask=np.array([*spans.is_null().to_pylist(), False]))
    return pa.ListArray.from_arrays(offsets, values, type=pa.list_(SPAN))


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


def _places(
    rows: Sequence[int], starts: Sequence[int], ends: Sequence[int], text_of: Callable[[int], str]
) -> Iterator[tuple[str, int, int]]:
    """Spans with the text around them; each text is asked for once, and of a long one no more is kept."""
    last, text = -1, ""
    for row, start, end in zip(rows, starts, ends, strict=True):
        if row != last:
            last, text = row, text_of(row)
        low = max(0, start - 2 * AROUND)
        yield text[low : end + 2 * AROUND], start - low, end - low


def in_place(text: str, start: int, end: int, instead: str) -> tuple[str, tuple[int, int]]:
    """What the discriminator reads: `instead` at its place, with whole words around it; and where it stands there."""
    low, high = max(0, start - AROUND), min(len(text), end + AROUND)
    while 0 < low < start and not text[low - 1].isspace():
        low += 1
    while end < high < len(text) and not text[high].isspace():
        high -= 1
    return text[low:start] + instead + text[end:high], (start - low, start - low + len(instead))


def _words_in(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Where the words of a span stand, without marks around them; before several of them all of them together.

    None where anything else stands among them: `&nbsp;`, `x1` or half of a character are damage, not slips.
    """
    if not _AMONG_WORDS.issuperset(_WORD.sub("", text[start:end])):
        return []
    spots = [(start + m.start(), start + m.end()) for m in _WORD.finditer(text[start:end])]
    return spots if len(spots) < 2 else [(spots[0][0], spots[-1][1]), *spots]


def like(written: str, meant: str) -> str:
    """`meant` in the case of `written`: small, Capital, ALL CAPITALS; the English "I" always large."""
    if len(written) > 1 and written.isupper():
        return meant.upper()
    if written[:1].isupper():
        return meant[:1].upper() + meant[1:]
    return "I" + meant[1:] if meant == "i" or meant.startswith("i'") else meant


def _sorted(found: Sequence[Near], p_C: NDArray[np.float64]) -> list[tuple[Near, float]]:
    order = sorted(range(len(found)), key=lambda at: (-p_C[at], found[at].text))
    return [(found[at], float(p_C[at])) for at in order]
