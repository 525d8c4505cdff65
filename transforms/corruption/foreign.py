"""Sentences that do not belong at all: another language, gibberish, and the text's own in another order.

`rate` is here the expected share of the text's sentences, at most one insertion after each.
"""

import re
from collections.abc import Callable

import numpy as np

from rtdscan.transforms.corruption.edits import WORD, Corrupted, Edit, amount, apply, pick, spliced, words_of
from rtdscan.transforms.corruption.wordlist import sentences

SENTENCE = re.compile(
    r"\S(?:[^\n]|\n(?![^\S\n]*\n))*?(?:[.!?…][\"'”’)\]]*(?=\s)|[。！？][\"'”’)\]]*|(?=\n[^\S\n]*\n)|\Z)"
)
"""A sentence, or what is left of a paragraph without a full stop. Linear: it never looks past the paragraph."""

LETTERS = "eeeetttaaaoooiinnsshhrrddlluccmwfgypbvkjxqz"
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxz", "aeiou"
MASH = "asdfghjklqwertyuiopzxcvbnm"


def insert_sentences(
    text: str, rng: np.random.Generator, rate: float, *, kind: str, make: Callable[[np.random.Generator], str]
) -> Corrupted:
    """Put made sentences after some of the text's own.

    Args:
        text: The text before; one without a word stays as it is.
        rng: Source of chance.
        rate: Expected insertions for each sentence of the text.
        kind: Name of the error.
        make: Gives a sentence.
    """
    ends = sentence_ends(text)
    wanted = amount(rng, rate * len(ends))
    chosen = rng.permutation(len(ends))[:wanted].tolist() if wanted else []
    return apply(text, (Edit(ends[at], ends[at], " " + make(rng), kind) for at in chosen))


def sentence_ends(text: str) -> list[int]:
    """Offsets behind the sentences that hold a word."""
    return [end for _, end in _sentence_spans(text)]


def foreign(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Sentences of one other language, whole or in part."""
    languages = sentences()
    language = languages[pick(rng, tuple(languages))]
    return insert_sentences(text, rng, rate, kind="foreign", make=lambda rng: _part(pick(rng, language), rng))


def gibberish(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Words that are none: keys mashed, letters by frequency, syllables in a row."""
    how = pick(rng, (_mashed, _lettered, _babbled))

    def make(rng: np.random.Generator) -> str:
        return " ".join(how(rng) for _ in range(1 + int(rng.random() * 9)))

    return insert_sentences(text, rng, rate, kind="gibberish", make=make)


def shuffled(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Sentences with their words in random order, or a run of sentences in random order."""
    spans = _sentence_spans(text)
    wanted = amount(rng, rate * len(spans))
    if not wanted:
        return Corrupted(text)
    if len(spans) > 2 and rng.random() < 0.3:
        return _reordered(text, spans, max(wanted, 2), rng)
    edits = []
    for at in rng.permutation(len(spans))[:wanted].tolist():
        start, end = spans[at]
        words = words_of(text[start:end])
        edits.append(Edit(start, end, _permuted(text[start:end], words, rng), "shuffled"))
    return apply(text, edits)


def _sentence_spans(text: str) -> list[tuple[int, int]]:
    spans = (match.span() for match in SENTENCE.finditer(text))
    return [(start, end) for start, end in spans if WORD.search(text, start, end)]


def _reordered(text: str, spans: list[tuple[int, int]], count: int, rng: np.random.Generator) -> Corrupted:
    count = min(count, len(spans))
    first = int(rng.random() * (len(spans) - count + 1))
    run = spans[first : first + count]
    start, end = run[0][0], run[-1][1]
    within = [(first - start, past - start) for first, past in run]
    return apply(text, [Edit(start, end, _permuted(text[start:end], within, rng), "shuffled")])


def _permuted(text: str, places: list[tuple[int, int]], rng: np.random.Generator) -> str:
    """The text with what stands in these places in random order."""
    stands = [text[start:end] for start, end in places]
    order = rng.permutation(len(places)).tolist()
    return spliced(text, ((*place, stands[other]) for place, other in zip(places, order, strict=True)))


def _part(sentence: str, rng: np.random.Generator) -> str:
    words = sentence.split(" ")
    if len(words) < 5 or rng.random() < 0.5:
        return sentence
    count = 3 + int(rng.random() * (len(words) - 3))
    first = int(rng.random() * (len(words) - count + 1))
    return " ".join(words[first : first + count])


def _mashed(rng: np.random.Generator) -> str:
    """Keys near each other, as a hand that falls on the keyboard hits them."""
    at = int(rng.random() * len(MASH))
    steps = rng.integers(-3, 4, size=3 + int(rng.random() * 9)).cumsum()
    return "".join(MASH[(at + step) % len(MASH)] for step in steps.tolist())


def _lettered(rng: np.random.Generator) -> str:
    return "".join(LETTERS[at] for at in rng.integers(0, len(LETTERS), size=2 + int(rng.random() * 8)).tolist())


def _babbled(rng: np.random.Generator) -> str:
    return "".join(pick(rng, CONSONANTS) + pick(rng, VOWELS) for _ in range(1 + int(rng.random() * 4)))
