"""Words near in letters: what somebody who wrote a word may have meant.

The words are those of a bundle's lexicon, so they are of its language and, with `rtdscan lexicon`, of the user's field.
Known misspellings come from the shipped list, as far as the lexicon knows what was meant.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rtdscan.transforms.bundle import Bundle
from rtdscan.transforms.corruption.wordlist import WORDS
from rtdscan.transforms.lexicon import LEXICON_FILE, read_counts

FEATURES = ("distance", "first", "apostrophe", "doubled", "vowels", "letters", "listed", "split", "rarity")
"""What tells how likely somebody wrote one for the other, in the order of `Near.features`:

distance: insertions, deletions, substitutions and swaps of neighbours (optimal string alignment), over the square root
    of the length: three slips in a long word are like two in a short one
first: the first letters differ
apostrophe: equal but for apostrophes
doubled: equal once doubled letters count as one
vowels: equal once vowels are left out
letters: the same letters in another order
listed: in the list of misspellings, or written twice
split: words more or fewer than before
rarity: how rare the suggestion is, log((total + 2) / (documents + 1)), added over its words
"""

LONGEST = 40
"""Characters of a word that anything is suggested for; longer ones are no slips."""

NEAR = 40
"""Words near in letters that are kept of one word."""


@dataclass(frozen=True, slots=True)
class Near:
    """A suggestion and what speaks for it.

    Attributes:
        text: Lower case, words with a space between.
        features: In the order of FEATURES.
    """

    text: str
    features: tuple[float, ...]


@dataclass(frozen=True)
class NearWords:
    """A word list that is searched by letters.

    Attributes:
        words: E words, lower case, the shortest first.
        length_E: Their lengths.
        letters_E: Which letters each has: a bit for each of 32 classes of characters.
        rarity: Of each word, as in FEATURES.
        rarest: The largest of these, which words that are not listed have.
        corrections: Misspelling -> what was meant.
    """

    words: tuple[str, ...]
    length_E: NDArray[np.int64]
    letters_E: NDArray[np.uint32]
    rarity: Mapping[str, float]
    rarest: float
    corrections: Mapping[str, tuple[str, ...]]

    @staticmethod
    def of(counts: Mapping[str, int], *, total: int, corrections: Iterable[tuple[str, str]] = ()) -> "NearWords":
        """From the number of documents that hold each word; `corrections` are pairs of wrong and right."""
        counts = {word: n for word, n in counts.items() if _is_word(word)}
        words = sorted(counts, key=lambda word: (len(word), word))
        rarity = {word: float(np.log((total + 2) / (counts[word] + 1))) for word in words}
        meant: dict[str, tuple[str, ...]] = {}
        for wrong, right in corrections:
            if right in rarity:
                meant[wrong] = (*meant.get(wrong, ()), right)
        return NearWords(
            words=tuple(words),
            length_E=np.array([len(word) for word in words], dtype=np.int64),
            letters_E=np.array([_letters(word) for word in words], dtype=np.uint32),
            rarity=rarity,
            rarest=max(rarity.values(), default=0.0),
            corrections=meant,
        )

    def near(self, written: str) -> list[Near]:
        """What may have been meant, in no particular order; empty for what is no word or words."""
        written = folded(written)
        parts = written.split()
        if not self.comparable(written):
            return []
        found = set(self.corrections.get(written, ()))
        if len(parts) == 1:
            found.update(self._near(written))
            found.update(self._split(written))
        else:  # one word that fell apart, or one twice; others are looked up one by one
            joined = "".join(parts)
            if len(set(parts)) == 1:
                found.add(parts[0])
            elif joined in self.rarity:
                found.add(joined)
            elif len(parts) == 2:
                found.update(self._near(joined))
        found.discard(written)
        return [self.compare(written, text) for text in sorted(found)]

    def comparable(self, written: str) -> bool:
        """Whether letters tell anything of it: words of a script that has some, not too long."""
        parts = folded(written).split()
        return bool(parts) and len(written) <= LONGEST and all(map(_is_word, parts))

    def compare(self, written: str, text: str) -> Near:
        """A candidate that came from elsewhere, lower case."""
        return Near(text, self._features(folded(written), text))

    def _near(self, word: str) -> list[str]:
        """Listed words a few slips away, fewest slips first, the more frequent one of equals first."""
        for slips in (1,) if len(word) < 4 else (2, 3) if len(word) > 5 else (2,):
            first, last = np.searchsorted(self.length_E, [len(word) - slips, len(word) + slips + 1])
            # A slip changes two classes of letters at most.
            differ = np.bitwise_count(self.letters_E[first:last] ^ np.uint32(_letters(word)))
            chosen = [self.words[at] for at in (np.flatnonzero(differ <= 2 * slips) + first).tolist()]
            found = _distances(word, chosen, most=slips)
            if found:
                found.sort(key=lambda pair: (pair[0], self.rarity[pair[1]]))
                return [other for _, other in found[:NEAR]]
        return []

    def _split(self, word: str) -> list[str]:
        halves = ((word[:at], word[at:]) for at in range(1, len(word)))
        return [f"{a} {b}" for a, b in halves if self._alone(a) and self._alone(b)]

    def _alone(self, word: str) -> bool:
        """Whether it stands for itself: single letters are listed too, but only two of them are English words."""
        return word in self.rarity and (len(word) > 1 or word in "ai" or not word.isascii())

    def _features(self, written: str, text: str) -> tuple[float, ...]:
        wrote, meant = (re.sub("[' ]", "", one) for one in (written, text))
        slips = _distances(written, [text], most=LONGEST)[0][0]
        return (
            slips / len(written) ** 0.5,
            float(written[0] != text[0]),
            float(wrote == meant and "'" in written + text),
            float(_undoubled(written) == _undoubled(text)),
            float(_consonants(written) == _consonants(text)),
            float(sorted(written) == sorted(text)),
            float(text in self.corrections.get(written, ()) or {text} == set(written.split())),
            float(abs(written.count(" ") - text.count(" "))),
            sum(self.rarity.get(word, self.rarest) for word in text.split()),
        )


def near_words(bundle: Bundle) -> NearWords | None:
    """Of a bundle's lexicon, read once a process; None where it has none."""
    path = bundle.path / LEXICON_FILE
    return _read(path, bundle.digest) if path.is_file() else None


@lru_cache(maxsize=2)
def _read(path: Path, digest: str) -> NearWords:
    table, total = read_counts(path)
    counts = dict(zip(table["word"].to_pylist(), table["documents"].to_pylist(), strict=True))
    wrongs = pq.read_table(WORDS / "misspellings.parquet")
    pairs = zip(wrongs["wrong"].to_pylist(), wrongs["right"].to_pylist(), strict=True)
    return NearWords.of(counts, total=total, corrections=pairs)


def folded(written: str) -> str:
    """Lower case, straight apostrophes, single spaces."""
    return " ".join(written.lower().replace("’", "'").split())


def _is_word(word: str) -> bool:
    """Letters and apostrophes; no script that is written without spaces, where a word is a character or two."""
    return bool(word.strip("'")) and all(c == "'" or (c.isalpha() and ord(c) < 0x2E80) for c in word)


def _distances(word: str, others: Sequence[str], *, most: int) -> list[tuple[int, str]]:
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    if not others:
        return []
    # As they come, no copy: `cdist` gives most + 1 for all that is farther.
    distance_E: NDArray[Any] = process.cdist([word], others, scorer=OSA.distance, score_cutoff=most, dtype=np.uint8)[0]
    return [(int(distance_E[at]), others[at]) for at in np.flatnonzero(distance_E <= most).tolist()]


def _letters(word: str) -> int:
    bits = 0
    for c in word:
        bits |= 1 << (ord(c) % 32)
    return bits


def _undoubled(text: str) -> str:
    return re.sub(r"(.)\1", r"\1", text)


def _consonants(text: str) -> str:
    return re.sub("[aeiouy' ]", "", text)
