"""Suggestions: what may have been meant where words are flagged, best first.

Candidates are words near in letters (`near.py`). They are ranked by how likely such a slip is and how frequent the
word. With `suggest.in_context` the best of them are read in their place: by the discriminator, for a network that tells
which words do not belong tells as well which of several does, and by the generator, where the bundle has one
(`gaps.py`), which adds words of its own. Where no letters help, in Chinese or without a lexicon, its words are all.
Escapes that machines left ("&eacute;") need none of this: they say what they stand for.

The ranking is a softmax over the candidates and "none of them", so each suggestion has a probability; the coefficients
were fitted by `benchmarks/suggestions.py --fit` on `typos_ewt_train` (errors that people marked in e-mails, reviews
and web pages), and are measured on others (README, "What was meant").

Shapes: C candidates of one span, F features.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rtdscan.transforms.candidates import AROUND, Case, Judge, judge_cases, like, read_gaps
from rtdscan.transforms.gaps import GapReader
from rtdscan.transforms.near import Near, NearWords
from rtdscan.transforms.presentation import HAN
from rtdscan.transforms.records import SPAN
from rtdscan.transforms.residue import mended, residues
from rtdscan.transforms.settings import SuggestSettings

JUDGED = 8
"""Candidates that are judged in their context at most, the best by their letters."""

WORTH_READING = 0.005
"""Probability by letters below which a candidate is not: a third of the best eight, of them 2 of 678 right ones
(typos_ewt_train)."""

MENDED = 0.99
"""Probability of what an escape stands for, "é" for "&eacute;": right for all of 2,729 made-up references."""

PLACES = 512
"""Words that are read together: of a corpus that is all errors a unit has many, and each takes a dozen texts."""

_WORD = re.compile(rf"(?![\W\d_])[{HAN}]|[^\W\d_{HAN}]+(?:['’][^\W\d_{HAN}]+)*['’]?")

_PARTS = re.compile(r"\S+(?:(?<=Ã)[ \u00a0])?|\s+")
"""Words and what lies between them. The space after Ã is no end of a word: both together are a misread "à"."""

_AMONG_WORDS = frozenset(" \t\n\r\u00a0\u3000.,;:!?'\"()[]{}-–—…“”‘’«»„，。、；：？！（）《》〈〉「」『』【】·・")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Coefficients of the softmax.

    Attributes:
        weights: Of FEATURES, then of FILLED and IN_CONTEXT where they are used.
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


BY_LETTERS = Ranking((-4.22, -2.15, 4.52, 1.99, 1.28, 0.60, 2.66, -0.88, -0.63), -4.53)
BY_CONTEXT = Ranking((-3.23, -1.33, 4.00, 2.25, 1.23, -0.08, 2.21, -0.33, -0.33, -1.03, -0.15), 1.91)
BY_GENERATOR = Ranking((-3.80, -1.81, 3.06, 2.28, 1.34, 0.01, 1.98, -0.72, -0.19, 0.25, 1.49, -0.84, -0.15), 0.63)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What may have been meant, in the case of what was written, and how probable that is."""

    text: str
    probability: float


@dataclass(frozen=True)
class Suggester:
    """Makes suggestions.

    Attributes:
        words: Where candidates come from; None: from the generator alone.
        settings: How many, and how they are ranked.
        judge: The discriminator; needed with `settings.in_context`.
        gaps: The generator, where there is one.
    """

    words: NearWords | None
    settings: SuggestSettings
    judge: Judge | None = None
    gaps: GapReader | None = None

    def suggest(self, places: Sequence[tuple[str, int, int]]) -> list[list[Suggestion]]:
        """For spans of texts, each as (text, start, end); the network reads them together.

        Each word of a span is looked up alone; of several words each that more likely than not is wrong is replaced by
        its best suggestion, unless they are rather one word that fell apart, or one that is there twice.

        Returns:
            At most `top_k` suggestions each, the most probable first, none below `least`.
        """
        spans = [_Span.of(*place) for place in places]
        ranked = iter(self._ranked([spot for span in spans for spot in span.spots]))
        told = (span.told([next(ranked) for _ in span.spots]) for span in spans)
        least, most = self.settings.least, self.settings.top_k
        return [[one for one in those if one.probability >= least][:most] for those in told]

    def in_place(self, places: Sequence[tuple[str, int, int]]) -> list[Case]:
        """Words, as (text, start, end), whose best candidates by letters were read in their places by both networks."""
        if self.judge is None:
            raise ValueError("suggest.in_context needs a judge")
        cases = [Case(*place, self._worth_reading(place)) for place in places]
        if cases:
            if self.gaps:
                read_gaps(cases, self.gaps, self.words)
            judge_cases(cases, self.judge)
        return cases

    def _ranked(self, spots: Sequence[tuple[str, int, int]]) -> list[list[Suggestion]]:
        if self.settings.in_context:
            ranking = BY_GENERATOR if self.gaps else BY_CONTEXT
            some = (spots[at : at + PLACES] for at in range(0, len(spots), PLACES))
            cases = (case for those in some for case in self.in_place(those))
            ranked = [_sorted(case.found, ranking.probabilities(case.features_CF)) or case.alone for case in cases]
        else:
            ranked = [self._by_letters(spot) for spot in spots]
        return [
            [Suggestion(like(text[start:end], near.text), p) for near, p in those]
            for (text, start, end), those in zip(spots, ranked, strict=True)
        ]

    def _worth_reading(self, spot: tuple[str, int, int]) -> list[Near]:
        return [near for near, p in self._by_letters(spot)[:JUDGED] if p >= WORTH_READING]

    def _by_letters(self, spot: tuple[str, int, int]) -> list[tuple[Near, float]]:
        text, start, end = spot
        found = self.words.near(text[start:end]) if self.words else []
        if not found:
            return []
        p_C = BY_LETTERS.probabilities(np.array([near.features for near in found]))
        return _sorted(found, p_C)


@dataclass(frozen=True, slots=True)
class _Span:
    """A span of a text.

    Attributes:
        text, start, end: Where it stands.
        words: Where its words stand, without marks around them. None where anything else stands among them: `&nbsp;`,
            `{{cite}}`, `x1` or half of a character are damage, not slips.
    """

    text: str
    start: int
    end: int
    words: tuple[tuple[int, int], ...]

    @staticmethod
    def of(text: str, start: int, end: int) -> "_Span":
        """Find the words."""
        written = text[start:end]
        if not _AMONG_WORDS.issuperset(_WORD.sub("", written)) or residues(written):
            return _Span(text, start, end, ())
        return _Span(text, start, end, tuple((start + m.start(), start + m.end()) for m in _WORD.finditer(written)))

    @property
    def spots(self) -> list[tuple[str, int, int]]:
        """What suggestions are looked for: each word, and several of them together."""
        together = ((self.words[0][0], self.words[-1][1]),) if len(self.words) > 1 else ()
        return [(self.text, first, last) for first, last in (*self.words, *together)]

    def told(self, ranked: Sequence[Sequence[Suggestion]]) -> list[Suggestion]:
        """Suggestions for the span from those for its spots, the most probable first."""
        if not self.words:
            return self._mended()
        first, last = self.words[0][0], self.words[-1][1]
        whole = [
            Suggestion(self.text[self.start : first] + one.text + self.text[last : self.end], one.probability)
            for one in ranked[-1]
        ]
        if len(self.words) > 1:
            whole += self._one_by_one(ranked[:-1])
        return sorted(whole, key=lambda one: -one.probability)

    def _one_by_one(self, ranked: Sequence[Sequence[Suggestion]]) -> list[Suggestion]:
        """The span with each word that more likely than not is wrong replaced; not where all are the same word."""
        if len({self.text[first:last].lower() for first, last in self.words}) == 1:
            return []
        written, probability, at = "", 1.0, self.start
        for (first, last), ones in zip(self.words, ranked, strict=True):
            if ones and ones[0].probability > 0.5:
                written += self.text[at:first] + ones[0].text
                probability *= ones[0].probability
                at = last
        return [Suggestion(written + self.text[at : self.end], probability)] if at > self.start else []

    def _mended(self) -> list[Suggestion]:
        """What escapes stand for; nothing where a word has none, for it may be wrong as well."""
        cut_off = self.text[self.end - 1 : self.end + 1] in ("Ã ", "Ã\u00a0")
        parts = _PARTS.findall(self.text[self.start : self.end + cut_off])
        meant = [part if part.isspace() else mended(part) for part in parts]
        if not all(meant):
            return []
        whole = "".join(filter(None, meant))
        return [Suggestion(whole.rstrip() if cut_off else whole, MENDED)]  # a space may be what an escape stands for


def add_suggestions(
    spans: pa.ListArray, text_of: Callable[[int], str], suggester: Suggester, *, made: pa.ListArray | None = None
) -> pa.ListArray:
    """Fill `suggestions` and `probabilities` of a column of spans (`records.SPAN`).

    Args:
        spans: A row's spans each.
        text_of: A row's text, by its number.
        suggester: Makes them.
        made: Spans of the same rows with suggestions of an equal suggester, which are taken for spans that lie there.
    """
    held = {} if made is None else _suggestions_by_place(made)
    wanted = _places(spans)
    new = [place for place in wanted if place not in held]
    held.update(zip(new, suggester.suggest(list(_with_text(new, text_of))), strict=True))
    found = [held[place] for place in wanted]
    flat, counts = spans.flatten(), _counts(spans)
    texts = pa.array([[one.text for one in those] for those in found], pa.list_(pa.string()))
    # Rounded: what is behind differs from one processor to the next.
    sure = pa.array([[round(one.probability, 3) for one in those] for those in found], pa.list_(pa.float32()))
    values = pa.StructArray.from_arrays(
        [flat.field("start"), flat.field("end"), flat.field("score"), texts, sure], fields=list(SPAN)
    )
    ends_R = np.cumsum(counts)
    # A null offset makes a null row: Arrow's own convention for ListArray.from_arrays.
    offsets = pa.array([0, *ends_R.tolist()], pa.int32(), mask=np.array([*spans.is_null().to_pylist(), False]))
    return pa.ListArray.from_arrays(offsets, values, type=pa.list_(SPAN))


def _counts(spans: pa.ListArray) -> list[int]:
    counts: list[int] = spans.value_lengths().fill_null(0).to_pylist()
    return counts


def _places(spans: pa.ListArray) -> list[tuple[int, int, int]]:
    """(row, start, end) of each span."""
    flat = spans.flatten()
    row_K = np.repeat(np.arange(len(spans)), _counts(spans)).tolist()
    return list(zip(row_K, flat.field("start").to_pylist(), flat.field("end").to_pylist(), strict=True))


def _suggestions_by_place(made: pa.ListArray) -> dict[tuple[int, int, int], list[Suggestion]]:
    flat = made.flatten()
    texts, sure = flat.field("suggestions").to_pylist(), flat.field("probabilities").to_pylist()
    return {
        place: [Suggestion(*one) for one in zip(those or (), ps or (), strict=True)]
        for place, those, ps in zip(_places(made), texts, sure, strict=True)
    }


def _with_text(places: Sequence[tuple[int, int, int]], text_of: Callable[[int], str]) -> Iterator[tuple[str, int, int]]:
    """Spans with the text around them; each text is asked for once, and of a long one no more is kept."""
    last, text = -1, ""
    for row, start, end in places:
        if row != last:
            last, text = row, text_of(row)
        low = max(0, start - 2 * AROUND)
        yield text[low : end + 2 * AROUND], start - low, end - low


def _sorted(found: Sequence[Near], p_C: NDArray[np.float64]) -> list[tuple[Near, float]]:
    order = sorted(range(len(found)), key=lambda at: (-p_C[at], found[at].text))
    return [(found[at], float(p_C[at])) for at in order]
