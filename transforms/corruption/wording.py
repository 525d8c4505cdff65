"""Words that are spelt right and do not belong, and words in the wrong place: wrong, a slip that gives another word,
near-synonym, repeated, swapped, missing, split, joined."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from string import ascii_lowercase

import numpy as np

from rtdscan.transforms.corruption.edits import GAP, Corrupted, Edit, amount, apply, change_words, like, pick, words_of
from rtdscan.transforms.corruption.wordlist import (
    FUNCTION_WORDS,
    NAME_CAPITAL,
    band,
    common,
    frequency,
    known,
    neighbours,
    part,
    peers,
    related,
)

NEAR = 4
"""Neighbours among which a near-synonym is drawn."""

SEAM = 0.7
"""Share of the words with a seam, a place where both parts are words, that are split there: "my self", "any one"."""

SEAMLESS = 0.85
"""Share of the other words that are passed over: people rarely split a word elsewhere, scanners of paper do."""

REAL = 10_000
"""Most frequent words that a slip of the hand may end in; beyond, the list is full of names and abbreviations."""


def wrong_word(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Another word of the same frequency band and crude part of speech; of the same text where the list has none."""
    own: list[str] = []

    def change(word: str, rng: np.random.Generator) -> str | None:
        lower = word.lower()
        others: Sequence[str]
        rank = frequency().rank.get(lower)
        if rank is not None and lower.isalpha():
            others = peers().get((band(int(frequency().documents_W[rank])), part(lower)), ())
        else:
            # A name, or another language: some other word of this text takes its place.
            if not own:
                own.extend(text[start:end] for start, end in words_of(text))
            others = own
        for _ in range(4):
            other = pick(rng, others) if others else lower
            if not related(lower, other.lower()) and (rank is not None or _alike(word, other)):
                return like(word, other)
        return None

    return change_words(text, rng, rate, kind="wrong_word", change=change)


def real_word(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """A slip of one letter that gives another word, which no spelling checker sees: "form", "say" for "stay"."""

    def change(word: str, rng: np.random.Generator) -> str | None:
        others = _one_letter_off(word.lower()) if word.isalpha() else ()
        return like(word, pick(rng, others)) if others else None

    return change_words(text, rng, rate, kind="real_word", change=change)


def synonym(
    text: str, rng: np.random.Generator, rate: float, *, near: Mapping[str, tuple[str, ...]] | None = None
) -> Corrupted:
    """A near neighbour in an embedding space.

    Args:
        text: The text before.
        rng: Source of chance.
        rate: Expected share of the words.
        near: Word -> neighbours (`wordlist.nearest`); default: the shipped table.
    """
    table = neighbours() if near is None else near

    def change(word: str, rng: np.random.Generator) -> str | None:
        others = table.get(word.lower())
        return like(word, pick(rng, others[:NEAR])) if others else None

    return change_words(text, rng, rate, kind="synonym", change=change)


def repeated(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """A word twice: "the the"; the second one is marked."""

    def edit(start: int, end: int, _next: int, _stop: int) -> Edit:
        word = text[start:end]
        gap = " " if text[end : end + 1] == " " or text[start - 1 : start] == " " else ""
        return Edit(end, end, gap + (word if word == "I" or not word.istitle() else word.lower()), "repeated")

    return _pairs(text, rng, rate, edit)


def swapped(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Two neighbours in the wrong order; both are marked."""

    def edit(start: int, end: int, following: int, stop: int) -> Edit | None:
        first, second = text[start:end], text[following:stop]
        if first.lower() == second.lower():
            return None
        if first.istitle() and second.islower() and first != "I":
            first, second = first.lower(), like(first, second)
        return Edit(start, stop, second + text[end:following] + first, "swapped")

    return _pairs(text, rng, rate, edit)


def missing(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """A word gone: a small one where the text has such, since "a red house" without "red" is no error."""
    small = any(text[start:end].lower() in FUNCTION_WORDS for start, end in words_of(text[:500]))

    def edit(start: int, end: int, following: int, _stop: int) -> Edit | None:
        word = text[start:end]
        if small and word.lower() not in FUNCTION_WORDS:
            return None
        if word.istitle() and word != "I":
            return Edit(start, following + 1, text[following].upper(), "missing")
        return Edit(start, following, "", "missing")

    return _pairs(text, rng, rate, edit)


def split(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """A space inside a word: "to gether", and "any one" where one word stood."""

    def change(word: str, rng: np.random.Generator) -> str | None:
        if len(word) < 4 or not word.isalpha():
            return None
        seams = [at for at in range(2, len(word) - 1) if common(word[:at]) and common(word[at:])]
        if not seams and rng.random() < SEAMLESS:
            return None
        at = pick(rng, seams) if seams and rng.random() < SEAM else 1 + int(rng.random() * (len(word) - 1))
        return f"{word[:at]} {word[at:]}"

    return change_words(text, rng, rate, kind="split", change=change)


def joined(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Two words without the space between: "inthe"; not where that is a word."""

    def edit(start: int, end: int, following: int, stop: int) -> Edit | None:
        both = text[start:end] + text[following:stop]
        return None if following == end or known(both) else Edit(end, following, "", "joined")

    return _pairs(text, rng, rate, edit)


@lru_cache(maxsize=4096)
def _one_letter_off(lower: str) -> tuple[str, ...]:
    """Frequent words that a letter too few, too many or wrong, or two in the wrong order, make of a word."""
    if len(lower) < 2 or not lower.isascii():
        return ()
    cuts = [(lower[:at], lower[at:]) for at in range(len(lower) + 1)]
    made = {left + right[1:] for left, right in cuts if right}
    made |= {left + right[1] + right[0] + right[2:] for left, right in cuts if len(right) > 1}
    made |= {left + letter + right[1:] for left, right in cuts if right for letter in ascii_lowercase}
    made |= {left + letter + right for left, right in cuts for letter in ascii_lowercase}
    capital_W = frequency().capital_W
    return tuple(
        other
        for other in sorted(made - {lower})
        if len(other) > 1 and common(other, REAL) and capital_W[frequency().rank[other]] < NAME_CAPITAL
    )


def _alike(word: str, other: str) -> bool:
    """Whether a word may stand for another one that no list knows: both with or without capital and digits."""
    return word[0].isupper() == other[0].isupper() and word.isalpha() == other.isalpha()


def _pairs(
    text: str, rng: np.random.Generator, rate: float, edit: Callable[[int, int, int, int], Edit | None]
) -> Corrupted:
    """Edits of words that are followed by another one with at most a space between.

    Args:
        text: The text before.
        rng: Source of chance.
        rate: Expected share of the words.
        edit: (start, end) of a word and of the next -> what goes wrong, or None. No word takes part in two.
    """
    words = words_of(text)
    wanted = amount(rng, rate * len(words))
    if not wanted or len(words) < 2:
        return Corrupted(text)
    edits: list[Edit] = []
    taken: set[int] = set()
    for index in rng.permutation(len(words) - 1).tolist():
        (start, end), (following, stop) = words[index], words[index + 1]
        if index in taken or index + 1 in taken or not GAP.fullmatch(text, end, following):
            continue
        made = edit(start, end, following, stop)
        if made is not None:
            taken.update((index, index + 1))
            edits.append(made)
            if len(edits) == wanted:
                break
    return apply(text, edits)
