"""Words near in letters: what somebody who wrote a word may have meant.

The words are those of a bundle's lexicon, so they are of its language and, with `rtdscan lexicon`, of the user's field.
Known misspellings come from the shipped list, as far as the lexicon knows what was meant.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


_NO_MARKS = str.maketrans("", "", "' ")
_NO_VOWELS = str.maketrans("", "", "aeiouy' ")
_DOUBLED = re.compile(r"(.)\1")


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
        word_E: E words, lower case, the shortest first.
        length_E: Their lengths.
        letters_E: Which letters each has: a bit for each of 32 classes of characters.
        rarity: Of each word, as in FEATURES.
        rarest: The largest of these, which words that are not listed have.
        corrections: Misspelling -> what was meant.
    """

    word_E: NDArray[np.object_]
    length_E: NDArray[np.int64]
    letters_E: NDArray[np.uint32]
    rarity: Mapping[str, float]
    rarest: float
    corrections: Mapping[str, tuple[str, ...]]

    @staticmethod
    def of(counts: Mapping[str, int], *, total: int, corrections: Iterable[tuple[str, str]] = ()) -> "NearWords":
        """From the number of documents that hold each word; `corrections` are pairs of wrong and right."""
        counts = {word: n for word, n in counts.items() if _is_word(word)}
        words = sorted(sorted(counts), key=len)
        rarity = {word: math.log((total + 2) / (counts[word] + 1)) for word in words}
        meant: dict[str, tuple[str, ...]] = {}
        for wrong, right in corrections:
            if right in rarity:
                meant[wrong] = (*meant.get(wrong, ()), right)
        return NearWords(
            word_E=np.array(words, dtype=object),
            length_E=np.fromiter(map(len, words), dtype=np.int64, count=len(words)),
            letters_E=_letters(words),
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
            found.update(text for _, text in self._slips_away(written))
            found.update(self._split(written))
        else:  # one word that fell apart, or one twice; others are looked up one by one
            joined = "".join(parts)
            if len(set(parts)) == 1:
                found.add(parts[0])
            elif joined in self.rarity:
                found.add(joined)
            elif len(parts) == 2:
                found.update(text for _, text in self._slips_away(joined))
        found.discard(written)
        return [self.compare(written, text) for text in sorted(found)]

    def best(self, written: str, weights: Sequence[float], *, least: float) -> float:
        """The largest sum of `weights` times features of the words near to a single word; `least` where none is larger.

        The same as over all of `near`, with fewer comparisons: from slips and rarity follows what the rest may add.
        """
        written = folded(written)
        if not self.comparable(written):
            return least
        by_name = dict(zip(FEATURES, weights, strict=True))
        bonus = sum(
            max(by_name[name], 0.0) for name in FEATURES if name not in ("distance", "listed", "split", "rarity")
        )
        first = [*self.corrections.get(written, ()), *self._split(written)]
        best = max((self._score(written, text, weights) for text in first if text != written), default=least)
        found = [
            (by_name["distance"] * slips / len(written) ** 0.5 + by_name["rarity"] * self.rarity[text], text)
            for slips, text in self._slips_away(written)
            if text != written
        ]
        for score, text in sorted(found, reverse=True):
            if score + bonus <= best:
                break
            best = max(best, self._score(written, text, weights))
        return max(best, least)

    def _score(self, written: str, text: str, weights: Sequence[float]) -> float:
        return sum(w * f for w, f in zip(weights, self._features(written, text), strict=True))

    def comparable(self, written: str) -> bool:
        """Whether letters tell anything of it: words of a script that has some, not too long."""
        parts = folded(written).split()
        return bool(parts) and len(written) <= LONGEST and all(map(_is_word, parts))

    def compare(self, written: str, text: str) -> Near:
        """A candidate that came from elsewhere, lower case."""
        return Near(text, self._features(folded(written), text))

    def _slips_away(self, word: str) -> list[tuple[int, str]]:
        """Listed words and how few slips away they are, fewest first, the more frequent one of equals first."""
        for slips in (1,) if len(word) < 4 else (2, 3) if len(word) > 5 else (2,):
            first, last = np.searchsorted(self.length_E, [len(word) - slips, len(word) + slips + 1])
            # A slip takes away one class of letters and brings in another, at most.
            own, letters_E = _letters([word])[0], self.letters_E[first:last]
            gone_E, new_E = np.bitwise_count(own & ~letters_E), np.bitwise_count(letters_E & ~own)
            chosen = self.word_E[np.flatnonzero((gone_E <= slips) & (new_E <= slips)) + first]
            found = _distances(word, chosen, most=slips)
            if found:
                found.sort(key=lambda pair: (pair[0], self.rarity[pair[1]]))
                return found[:NEAR]
        return []

    def _split(self, word: str) -> list[str]:
        halves = ((word[:at], word[at:]) for at in range(1, len(word)))
        return [f"{a} {b}" for a, b in halves if self._alone(a) and self._alone(b)]

    def _alone(self, word: str) -> bool:
        """Whether it stands for itself: single letters are listed too, but only two of them are English words."""
        return word in self.rarity and (len(word) > 1 or word in "ai" or not word.isascii())

    def _features(self, written: str, text: str) -> tuple[float, ...]:
        from rapidfuzz.distance import OSA

        wrote, meant = (one.translate(_NO_MARKS) for one in (written, text))
        return (
            OSA.distance(written, text) / len(written) ** 0.5,
            float(written[0] != text[0]),
            float(wrote == meant and "'" in written + text),
            float(_undoubled(written) == _undoubled(text)),
            float(_consonants(written) == _consonants(text)),
            float(sorted(written) == sorted(text)),
            float(text in self.corrections.get(written, ()) or {text} == set(written.split())),
            float(abs(written.count(" ") - text.count(" "))),
            sum(self.rarity.get(word, self.rarest) for word in text.split()),
        )


def folded(written: str) -> str:
    """Lower case, straight apostrophes, single spaces."""
    return " ".join(written.lower().replace("’", "'").split())


def _is_word(word: str) -> bool:
    """Letters and apostrophes; no script that is written without spaces, where a word is a character or two."""
    letters = word.replace("'", "")
    return letters.isalpha() and max(letters) < "\u2e80"


def _distances(word: str, others: NDArray[np.object_], *, most: int) -> list[tuple[int, str]]:
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    if not len(others):
        return []
    # As they come, no copy: `cdist` gives most + 1 for all that is farther.
    distance_E: NDArray[Any] = process.cdist([word], others, scorer=OSA.distance, score_cutoff=most, dtype=np.uint8)[0]
    return [(int(distance_E[at]), others[at]) for at in np.flatnonzero(distance_E <= most).tolist()]


def _letters(words: Sequence[str]) -> NDArray[np.uint32]:
    """A bit for each of 32 classes of characters; of words of one character at least."""
    codes_C = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    length_E = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    bits_C = np.uint32(1) << (codes_C % 32).astype(np.uint32)
    return np.bitwise_or.reduceat(bits_C, np.cumsum(length_E) - length_E) if len(words) else bits_C


def _undoubled(text: str) -> str:
    return _DOUBLED.sub(r"\1", text)


def _consonants(text: str) -> str:
    return text.translate(_NO_VOWELS)
