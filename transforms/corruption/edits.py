"""The element, and the primitives that every family is made of.

    >>> apply("He lives in the house.", [Edit(12, 16, "", "missing")])
    Corrupted(text='He lives in house.', spans=(Span(start=12, end=17, kind='missing', original='the house'),))

A span covers whole words of the new text, by character offsets, end exclusive; `original` is what stood there. So
putting every `original` back gives the text before, to the letter: that is what "unlabelled text is unchanged" means
here, and it holds through composition. An inserted word has original "" and its span takes in the white space that
came with it; a word that is gone marks its right neighbour; two joined or swapped words are one span.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Change = Callable[[str, np.random.Generator], str | None]
"""A word and a source of chance -> the word as it goes wrong, or None where it cannot."""

T = TypeVar("T")

_UNSPACED = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS = "".join(chr(c) for c in range(0x300, 0x3100) if unicodedata.category(chr(c))[0] == "M")

WORD = re.compile(rf"[^\W{_UNSPACED}]+(?:(?:[{_MARKS}]+|['’](?=[^\W{_UNSPACED}]))[^\W{_UNSPACED}]*)*|[{_UNSPACED}]")
"""A word: letters, digits, marks and inner apostrophes; where scripts put no spaces (Han, kana), one character."""

APOSTROPHES = "'’"

ATTEMPTS = 300
"""Words that are tried for each one wanted: enough for what fits one word in a hundred, and bounded."""

GAP = re.compile(r"[^\S\n]?")
"""What may stand between two neighbours that are swapped, joined or repeated: one space or nothing."""

_LETTER = re.compile(rf"[^\W{_UNSPACED}]|[{_MARKS}]")
_NEXT = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\W_{_UNSPACED}]+|[^\w\s]|_)")


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace text[start:end] by `replacement`. Equal start and end: an insertion."""

    start: int
    end: int
    replacement: str
    kind: str


@dataclass(frozen=True, slots=True)
class Span:
    """Something wrong in the new text: characters [start, end), what kind of error, and what stood there before."""

    start: int
    end: int
    kind: str
    original: str


@dataclass(frozen=True, slots=True)
class Corrupted:
    """A text and all that is wrong with it. Spans are sorted, not empty, and do not overlap."""

    text: str
    spans: tuple[Span, ...] = ()

    def restored(self) -> str:
        """The text before anything went wrong."""
        return spliced(self.text, ((span.start, span.end, span.original) for span in self.spans))

    def labels(self, start_W: Sequence[int] | NDArray[Any], end_W: Sequence[int] | NDArray[Any]) -> NDArray[np.bool_]:
        """Which words (or tokens) a span touches.

        Args:
            start_W, end_W: Character offsets of W words in `text`, end exclusive.

        Returns:
            [W] booleans: True where the word shares a character with a span.
        """
        starts_W, ends_W = np.asarray(start_W, np.int64), np.asarray(end_W, np.int64)
        begin_S = np.array([span.start for span in self.spans], np.int64)
        stop_S = np.array([span.end for span in self.spans], np.int64)
        # Spans that begin before the word ends, less those that end before it begins: one or more is left.
        return np.searchsorted(begin_S, ends_W, "left") > np.searchsorted(stop_S, starts_W, "right")


@dataclass(slots=True)
class _Group:
    """Edits whose whole words touch: characters [start, end) of the old text and the edits inside."""

    start: int
    end: int
    edits: list[Edit]

    def rewritten(self, text: str) -> str:
        changes = ((edit.start, edit.end, edit.replacement) for edit in self.edits)
        return spliced(text, changes, start=self.start, end=self.end)


class _Change(NamedTuple):
    """A span of either corruption, placed in the text between the two.

    Attributes:
        start, end: Characters of that text.
        by: 0, the first, or 1, the second.
        kind: Of the span.
        instead: What stands for them in the text before the first, or after the second.
    """

    start: int
    end: int
    by: int
    kind: str
    instead: str


def apply(text: str, edits: Iterable[Edit]) -> Corrupted:
    """Apply edits and label the whole words they touch.

    Args:
        text: The text before.
        edits: In any order; one that overlaps an earlier one is left out, as is a deletion at the end of the text
            (it has no right neighbour to mark) and one that changes nothing.

    Returns:
        The new text and its spans. Edits within one word give one span, of the kind of the first.
    """
    groups: list[_Group] = []
    at = 0
    for edit in sorted(edits, key=lambda e: (e.start, e.end)):
        if edit.start < at or (edit.start == edit.end and not edit.replacement):
            continue
        at = edit.end
        group = _widened(text, edit)
        while groups and _touch(text, groups[-1], group):
            before = groups.pop()
            group = _Group(min(before.start, group.start), max(before.end, group.end), [*before.edits, *group.edits])
        groups.append(group)
    parts: list[str] = []
    spans: list[Span] = []
    done = shift = 0
    for group in groups:
        old, new = text[group.start : group.end], group.rewritten(text)
        if old == new or not new:
            continue
        parts += (text[done : group.start], new)
        start = group.start + shift
        spans.append(Span(start, start + len(new), group.edits[0].kind, old))
        done, shift = group.end, shift + len(new) - len(old)
    return Corrupted("".join((*parts, text[done:])), tuple(spans))


def compose(first: Corrupted, second: Corrupted) -> Corrupted:
    """What went wrong altogether.

    Args:
        first: Some text, corrupted.
        second: `first.text`, corrupted again.

    Returns:
        The second text with spans against the very first. Spans that overlap become one, of the kind that covers
        more; where the second undid the first there is none.
    """
    if not first.spans or not second.spans:
        return Corrupted(second.text, second.spans or first.spans)
    spans: list[Span] = []
    shift = 0  # of the last text against the one between
    for changes in _overlapping(sorted([*_made(first), *_met(second)], key=lambda change: change[:3])):
        start, end = changes[0].start, max(change.end for change in changes)
        old, new = (
            spliced(first.text, ((c.start, c.end, c.instead) for c in changes if c.by == by), start=start, end=end)
            for by in (0, 1)
        )
        if new != old:
            widest = max(changes, key=lambda change: (change.end - change.start, -change.by))
            spans.append(Span(start + shift, start + shift + len(new), widest.kind, old))
        shift += len(new) - (end - start)
    return Corrupted(second.text, tuple(spans))


def _made(first: Corrupted) -> list[_Change]:
    """What the first corruption did."""
    return [_Change(span.start, span.end, 0, span.kind, span.original) for span in first.spans]


def _met(second: Corrupted) -> Iterator[_Change]:
    """What the second did; its spans stand in its own text, so they are moved back."""
    shift = 0
    for span in second.spans:
        start = span.start + shift
        yield _Change(start, start + len(span.original), 1, span.kind, second.text[span.start : span.end])
        shift += len(span.original) - (span.end - span.start)


def _overlapping(changes: Iterable[_Change]) -> Iterator[list[_Change]]:
    """Sorted changes in groups that share characters. An insertion, which has none, comes before what starts there and
    joins only what it lies within."""
    group: list[_Change] = []
    past = 0
    for change in changes:
        if group and change.start >= past:
            yield group
            group = []
        past = max(past, change.end) if group else change.end
        group.append(change)
    if group:
        yield group


def spliced(text: str, changes: Iterable[tuple[int, int, str]], *, start: int = 0, end: int | None = None) -> str:
    """text[start:end] after changes: of each (a, b, other), in order, `other` stands for text[a:b]."""
    parts: list[str] = []
    at = start
    for first, past, other in changes:
        parts += (text[at:first], other)
        at = past
    return "".join((*parts, text[at:end]))


def words_of(text: str) -> list[tuple[int, int]]:
    """Character offsets of the words, end exclusive."""
    return [match.span() for match in WORD.finditer(text)]


def amount(rng: np.random.Generator, expected: float) -> int:
    """A whole number with this mean: rounded up or down by chance."""
    return int(expected + rng.random())


def pick(rng: np.random.Generator, among: Sequence[T]) -> T:
    """One of them, all equally likely."""
    return among[int(rng.random() * len(among))]


def change_words(text: str, rng: np.random.Generator, rate: float, *, kind: str, change: Change) -> Corrupted:
    """Let a share of the words go wrong, one by one.

    Args:
        text: The text before.
        rng: Source of chance.
        rate: Expected share of all words; fewer where `change` can do nothing with most.
        kind: Name of the error.
        change: Gives the wrong form of a word, or None.
    """
    words = words_of(text)
    wanted = amount(rng, rate * len(words))
    if not wanted:
        return Corrupted(text)
    edits: list[Edit] = []
    for index in rng.permutation(len(words))[: ATTEMPTS * wanted].tolist():
        start, end = words[index]
        wrong = change(text[start:end], rng)
        if wrong is not None and wrong != text[start:end]:
            edits.append(Edit(start, end, wrong, kind))
            if len(edits) == wanted:
                break
    return apply(text, edits)


def like(pattern: str, word: str) -> str:
    """`word` in capitals as `pattern` has them: all, the first, or as it is."""
    if len(pattern) > 1 and pattern.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if pattern[:1].isupper() else word


def inside_word(text: str, at: int) -> bool:
    """Whether the boundary before character `at` lies within a word."""
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if _LETTER.match(before):
        return _LETTER.match(after) is not None or (after in APOSTROPHES and _LETTER.match(text, at + 1) is not None)
    return (
        before in APOSTROPHES
        and at > 1
        and _LETTER.match(text[at - 2]) is not None
        and _LETTER.match(after) is not None
    )


def _attached(before: str, after: str) -> bool:
    return bool(before and after and _LETTER.match(before[-1]) and _LETTER.match(after[0]))


def _widened(text: str, edit: Edit) -> _Group:
    """The edit with the whole words it touches, before as well as after it is made."""
    start, end, new = edit.start, edit.end, edit.replacement
    before, after = text[max(start - 2, 0) : start], text[end : end + 2]
    if inside_word(text, start) or inside_word(before + new + after, len(before)):
        start -= 2 if before[-1] in APOSTROPHES and start > 1 else 1
        while inside_word(text, start):
            start -= 1
    if inside_word(text, end) or inside_word(before + new + after, len(before) + len(new)):
        end += 2 if after[0] in APOSTROPHES and end + 1 < len(text) else 1
        while inside_word(text, end):
            end += 1
    if not new and start == edit.start and end == edit.end:
        neighbour = _NEXT.match(text, end)
        if neighbour:
            end = neighbour.end()
            while inside_word(text, end):
                end += 1
    return _Group(start, end, [edit])


def _touch(text: str, before: _Group, after: _Group) -> bool:
    """Whether two groups share a word, before or after the edits."""
    if after.start < before.end:
        return True
    if after.start > before.end:
        return False
    return _attached(before.rewritten(text), after.rewritten(text))
