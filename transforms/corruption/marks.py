"""Punctuation mistyped: the key beside, a mark twice, a mark inside a word."""

import re

import numpy as np

from rtdscan.transforms.corruption.edits import Corrupted, Edit, amount, apply, pick, words_of

BESIDE = {
    ",": (".", ";", "m"), ".": (",", "/", ";", ">"), ";": (":", "'", "l"), ":": (";",), "'": (";", "`", "´", '"'),
    "’": (";", "`", "´"), '"': ("'",), "-": ("=", "_", "0"), "?": ("/",), "!": ("1",), "(": ("9",), ")": ("0",),
}  # fmt: skip
"""Mark -> what the keys beside it, the same key without or with shift, and the keys for accents give."""

STRAY = (",", ".", ";", "'", "/", "[", "]", "\\", "=", "-", "`")
"""Keys beside the letters."""

TWICE = frozenset(",;:)")
"""Marks that nobody writes twice on purpose."""

_MARK = re.compile("[" + re.escape("".join(BESIDE)) + "]")


def punctuation(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """A mark that is not the one that was meant ("Levi`s", "don;t", "first. second"), twice (",,"), or in a word."""
    words = words_of(text)
    wanted = amount(rng, rate * len(words))
    if not wanted:
        return Corrupted(text)
    strays = amount(rng, 0.3 * wanted)
    inner = [(start, end) for start, end in words if end - start > 2]
    edits: list[Edit] = []
    for which in rng.permutation(len(inner))[:strays].tolist():
        start, end = inner[which]
        at = start + 1 + int(rng.random() * (end - start - 1))
        edits.append(Edit(at, at, pick(rng, STRAY), "punctuation"))
    there = [match.start() for match in _MARK.finditer(text)]
    for which in rng.permutation(len(there))[: wanted - len(edits)].tolist():
        at = there[which]
        mark = text[at]
        wrong = mark * 2 if mark in TWICE and rng.random() < 0.3 else pick(rng, BESIDE[mark])
        edits.append(Edit(at, at + 1, wrong, "punctuation"))
    return apply(text, edits)
