"""Ways text goes wrong, with labels: what a discriminator learns from and is measured on. A file a family:

edits       the element `Corrupted(text, spans)` and the primitives: apply, compose
wordlist    what ships about English words: frequency, misspellings, near-synonyms
spelling    real misspellings, keyboard, by ear, letters doubled, missing, transposed
grammar     agreement, articles, prepositions, tense, their/there, apostrophes
marks       punctuation
wording     wrong word, a slip that gives a word, near-synonym, repeated, swapped, missing, split, joined
foreign     another language, gibberish, shuffled
debris      markup, boilerplate
ocr         what a scanner of paper makes of letters
encoding    mojibake, entities, lost and control characters
generator   samples of a generator model, handed in as a function
mixture     kinds by share and rate, from config; a function of (text, seed, index)

Each kind is a pure function (text, rng, rate) -> Corrupted. Every one keeps this: putting each span's `original`
back gives the text before, to the letter; the same rng state gives the same result; any string is accepted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rtdscan.transforms.corruption.debris import boilerplate, markup
from rtdscan.transforms.corruption.edits import Corrupted, Edit, Span, apply, compose
from rtdscan.transforms.corruption.encoding import entities, mojibake, replacement
from rtdscan.transforms.corruption.foreign import foreign, gibberish, shuffled
from rtdscan.transforms.corruption.grammar import agreement, apostrophe, article, confusable, preposition, tense
from rtdscan.transforms.corruption.marks import punctuation
from rtdscan.transforms.corruption.ocr import ocr_heavy, ocr_light, ocr_medium
from rtdscan.transforms.corruption.spelling import keyboard, letters, phonetic, spelling
from rtdscan.transforms.corruption.wording import (
    joined,
    missing,
    real_word,
    repeated,
    split,
    swapped,
    synonym,
    wrong_word,
)

__all__ = ["REGISTRY", "Corrupted", "Edit", "Kind", "Span", "apply", "compose"]

Corrupt = Callable[[str, np.random.Generator, float], Corrupted]
Level = Literal["word", "document"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A way text goes wrong.

    Attributes:
        name: Also the `kind` of the spans it makes.
        family: Module it lies in.
        level: "word": rate is a share of the words. "document": rate is a share of the sentences, and whether a
            text is hit is to be told of the document: its words may each be right.
        corrupt: (text, rng, rate) -> Corrupted.
    """

    name: str
    family: str
    level: Level
    corrupt: Corrupt


_DOCUMENT = frozenset(("shuffled", "foreign", "gibberish", "boilerplate"))

# In the order in which they happen to a text: people write, pages are put together, scanned, encoded, marked up.
_KINDS: tuple[Corrupt, ...] = (
    spelling, keyboard, phonetic, letters,
    agreement, article, preposition, tense, confusable, apostrophe, punctuation,
    wrong_word, real_word, synonym, repeated, swapped, missing, split, joined,
    shuffled, foreign, gibberish, boilerplate,
    ocr_light, ocr_medium, ocr_heavy,
    mojibake, entities, replacement, markup,
)  # fmt: skip

REGISTRY: Mapping[str, Kind] = {
    corrupt.__name__: Kind(
        corrupt.__name__,
        corrupt.__module__.rpartition(".")[2],
        "document" if corrupt.__name__ in _DOCUMENT else "word",
        corrupt,
    )
    for corrupt in _KINDS
}
"""Name -> kind, in the order in which a mixture applies them."""
