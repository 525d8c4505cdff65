"""Words misspelt: as people do it (a list), by a neighbouring key, by ear, and by a letter too many or too few.

What comes out is never a word of the reference list: "form" for "from" is a wrong word, not a misspelling.
"""

import re

import numpy as np

from rtdscan.transforms.corruption.edits import Change, Corrupted, change_words, like, pick
from rtdscan.transforms.corruption.wordlist import known, misspellings

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

SHORT = 0.75
"""Share of the words of up to three letters that are passed over: people rarely misspell them, the list often."""

TRIES = 4
"""How often a word is tried before another one takes its place."""


def _adjacent() -> dict[str, str]:
    """Letter -> the keys around it on a QWERTY keyboard; a row is shifted by half a key against the one above."""
    place = {letter: (row, column) for row, letters in enumerate(ROWS) for column, letter in enumerate(letters)}
    near: dict[str, str] = {}
    for letter, (row, column) in place.items():
        near[letter] = "".join(
            other
            for other, (r, c) in place.items()
            if other != letter
            and abs(r - row) <= 1
            and (c - column) in ((-1, 1) if r == row else (0, 1) if r < row else (-1, 0))
        )
    return near


ADJACENT = _adjacent()

PHONETIC = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        ("ph", "f"), ("f(?=[aeiou])", "ph"), ("ei", "ie"), ("ie", "ei"), ("ough", "uff"), ("ought", "out"),
        ("ight", "ite"), ("tion", "shun"), ("tion", "sion"), ("sion", "tion"), ("ck", "k"), ("c(?=[aou])", "k"),
        ("c(?=[ei])", "s"), ("s(?=[ei])", "c"), ("qu", "kw"), ("x", "ks"), ("kn", "n"), ("wr", "r"), ("wh", "w"),
        ("gh", "g"), ("mb$", "m"), ("sc(?=[ei])", "s"), ("ance$", "ence"), ("ence$", "ance"), ("ant$", "ent"),
        ("ent$", "ant"), ("able$", "ible"), ("ible$", "able"), ("ary$", "ery"), ("ery$", "ary"), ("or$", "er"),
        ("er$", "or"), ("ous$", "us"), ("al$", "el"), ("el$", "al"), ("le$", "el"), ("ea", "ee"), ("ee", "ea"),
        ("ai", "ay"), ("ou", "ow"), ("oo", "u"), ("au", "aw"), ("oa", "o"), ("y$", "ie"), ("ey$", "y"),
        ("(?<=.)a(?=[^aeiou].)", "e"), ("(?<=.)e(?=[^aeiou].)", "a"), ("(?<=.)i(?=[^aeiou].)", "e"),
        ("(?<=.)e(?=[^aeiou].)", "i"), ("(?<=.)o(?=[^aeiou].)", "a"), ("(?<=[^aeiou])e$", ""), ("z", "s"), ("j", "g"),
        ("g(?=[ei])", "j"), ("dge", "ge"), ("tch", "ch"), (r"([b-df-hj-np-tv-z])\1", r"\1"),
    )
)  # fmt: skip
"""Spellings that sound alike, or nearly: unstressed vowels, silent letters, endings, double consonants."""


def spelling(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Real misspellings from the shipped list: "definately"."""
    wrongs = misspellings()

    def change(word: str, rng: np.random.Generator) -> str | None:
        if len(word) < 4 and rng.random() < SHORT:
            return None
        those = wrongs.get(word) or wrongs.get(word.lower())
        return like(word, pick(rng, those)) if those else None

    return change_words(text, rng, rate, kind="spelling", change=change)


def keyboard(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """A neighbouring key instead of, before or after the right one: "hpuse", "housr", "houjse"."""
    return change_words(text, rng, rate, kind="keyboard", change=lambda word, rng: _mistyped(word, rng, _slip))


def letters(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """A letter doubled, missing, swapped with the next, or a double letter single: "acount", "acocunt", "accountt"."""
    return change_words(text, rng, rate, kind="letters", change=lambda word, rng: _mistyped(word, rng, _fumble))


def phonetic(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Written as it sounds: "seperate", "fotograf"."""
    return change_words(text, rng, rate, kind="phonetic", change=_by_ear)


def _mistyped(word: str, rng: np.random.Generator, slip: Change) -> str | None:
    """The word after a slip that gives no other word; None for words that are short or no letters alone."""
    if len(word) < 3 or not word.isalpha():
        return None
    for _ in range(TRIES):
        wrong = slip(word, rng)
        if wrong is not None and wrong != word and not known(wrong):
            return wrong
    return None


def _slip(word: str, rng: np.random.Generator) -> str | None:
    at = int(rng.random() * len(word))
    near = ADJACENT.get(word[at].lower())
    if near is None:
        return None
    key = pick(rng, near)
    key = key.upper() if word[at].isupper() else key
    how = rng.random()
    if how < 0.7:
        return word[:at] + key + word[at + 1 :]
    return word[:at] + key + word[at:] if how < 0.85 and at else word[: at + 1] + key.lower() + word[at + 1 :]


def _fumble(word: str, rng: np.random.Generator) -> str:
    # People rarely get the first letter wrong: what goes is at 1 or later.
    at = 1 + int(rng.random() * (len(word) - 1))
    how = rng.random()
    if how < 0.3:
        return word[:at] + word[at - 1].lower() + word[at:]
    if how < 0.65 or at + 1 == len(word):
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _by_ear(word: str, rng: np.random.Generator) -> str | None:
    if len(word) < 4 or not word.isalpha():
        return None
    lower = word.lower()
    first = int(rng.random() * len(PHONETIC))
    # A random rule first and then the ones after it: most rules fit few words.
    for at in range(first, first + len(PHONETIC)):
        pattern, replacement = PHONETIC[at % len(PHONETIC)]
        match = pattern.search(lower)
        if match:
            wrong = lower[: match.start()] + match.expand(replacement) + lower[match.end() :]
            if not known(wrong):
                return like(word, wrong)
    return None
