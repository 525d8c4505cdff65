"""What a scanner of paper makes of letters, at three severities.

light: one likely confusion in a word that is hit ("tbe"). medium: one or two, rarer ones as well, words broken.
heavy: two to four, letters lost and specks read as marks ("t~ie"). Shapes know no dictionary: "modem" for "modern"
counts.
"""

import re

import numpy as np

from rtdscan.transforms.corruption.edits import Corrupted, change_words, pick

LIKELY = (
    "rn>m m>rn cl>d d>cl l>1 l>I I>l i>1 O>0 0>O o>0 e>c c>e h>b b>h n>u u>n ii>n fi>ﬁ fl>ﬂ ffi>ﬃ vv>w w>vv li>h "
    "h>li tb>th th>tb t>f f>t 1>l 5>S S>5 g>q q>g y>v v>y a>o o>a s>8 B>8 8>B rn>nn in>m ri>n"
)
RARER = (
    "the>tlie the>tho hat>bat ar>at E>F F>E G>C C>G D>O Q>O Z>2 2>Z z>2 6>b b>6 9>g g>9 k>lc k>h j>; ;>j .>, ,>. l>! "
    "!>l t>l l>t s>f f>s u>ii nn>m m>nn w>iv H>II M>lVl N>II U>LI K>lC R>B P>F x>v p>n e>o o>e a>n a>ii é>6 ss>fs "
    "st>ft"
)
SPECKS = tuple("~^`'.,·*|_\\°•-")

_HYPHEN = 0.1
"""Share of the medium and heavy hits on long words that leave the hyphen of a line break inside: "exam- ple"."""


def _table(*lists: str) -> tuple[re.Pattern[str], dict[str, tuple[str, ...]]]:
    confusions: dict[str, list[str]] = {}
    for pair in " ".join(lists).split():
        shape, seen = pair.split(">")
        confusions.setdefault(shape, []).append(seen)
    # Overlapping matches: "rn" in "rnn" is found, and so are its letters.
    longest_first = sorted(confusions, key=len, reverse=True)
    found = re.compile("(?=(" + "|".join(re.escape(shape) for shape in longest_first) + "))")
    return found, {shape: tuple(those) for shape, those in confusions.items()}


_LIGHT, _WIDE = _table(LIKELY), _table(LIKELY, RARER)


def ocr_light(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """One likely confusion a word."""

    def change(word: str, rng: np.random.Generator) -> str | None:
        return _confused(word, rng, _LIGHT) if len(word) > 1 else None

    return change_words(text, rng, rate, kind="ocr_light", change=change)


def ocr_medium(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """One or two confusions a word, and hyphens of line breaks."""

    def change(word: str, rng: np.random.Generator) -> str | None:
        return _damaged(word, rng, 1 + int(rng.random() * 2), specks=0.05)

    return change_words(text, rng, rate, kind="ocr_medium", change=change)


def ocr_heavy(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Two to four confusions a word, lost letters, specks."""

    def change(word: str, rng: np.random.Generator) -> str | None:
        return _damaged(word, rng, 2 + int(rng.random() * 3), specks=0.25)

    return change_words(text, rng, rate, kind="ocr_heavy", change=change)


def _confused(
    word: str, rng: np.random.Generator, table: tuple[re.Pattern[str], dict[str, tuple[str, ...]]]
) -> str | None:
    found, confusions = table
    places = [(match.start(), match[1]) for match in found.finditer(word)]
    if not places:
        return None
    at, shape = pick(rng, places)
    return word[:at] + pick(rng, confusions[shape]) + word[at + len(shape) :]


def _damaged(word: str, rng: np.random.Generator, times: int, *, specks: float) -> str | None:
    if len(word) > 6 and word.isalpha() and rng.random() < _HYPHEN:
        at = 3 + int(rng.random() * (len(word) - 5))
        return f"{word[:at]}- {word[at:]}"
    wrong = word
    for _ in range(min(times, 1 + len(word) // 2)):
        at = int(rng.random() * len(wrong))
        if rng.random() >= specks:
            wrong = _confused(wrong, rng, _WIDE) or wrong
        elif rng.random() < 0.4 and len(wrong) > 2:
            wrong = wrong[:at] + wrong[at + 1 :]
        else:
            wrong = wrong[:at] + pick(rng, SPECKS) + wrong[at:]
    return wrong if wrong != word else None
