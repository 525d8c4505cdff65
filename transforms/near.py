"""Words near in letters: what somebody who wrote a word may have meant.

The words are those of a bundle's lexicon, so they are of its language and, with `rtdscan lexicon`, of the user's field.
Known misspellings come from the shipped list, as far as the lexicon knows what was meant.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.one_slip import Shortened

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

ALIKE = FEATURES[1:6]
"""Those that compare two words letter by letter."""

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
        letters_E: Which letters each has once and twice, see `_letters`.
        rarity: Of each word, as in FEATURES.
        rarest: The largest of these, which words that are not listed have.
        corrections: Misspelling -> what was meant.
    """

    word_E: NDArray[np.object_]
    length_E: NDArray[np.int64]
    letters_E: NDArray[np.uint64]
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

        The same as over all of `near`, with fewer comparisons.
        """
        written = folded(written)
        if not self.comparable(written):
            return least
        first = {*self.corrections.get(written, ()), *self._split(written)}
        return self._best(written, weights, first=first, away=self._slips_away(written), least=least)

    def best_one_slip_away(self, written: Sequence[str], weights: Sequence[float], *, least: float) -> list[float]:
        """The same of many words, each as over those one slip away from it and its known corrections."""
        words = [folded(word) for word in written]
        asked = [at for at, word in enumerate(words) if self.comparable(word)]
        away = self._one_slip_away([words[at] for at in asked])
        best = [least] * len(words)
        for at, near in zip(asked, away, strict=True):
            first = {*self.corrections.get(words[at], ())}
            if first or near:
                best[at] = self._best(words[at], weights, first=first, away=near, least=least)
        return best

    def _best(
        self,
        written: str,
        weights: Sequence[float],
        *,
        first: set[str],
        away: Sequence[tuple[int, str]],
        least: float,
    ) -> float:
        """Over the words `first`, and those so many slips away: from these and rarity follows what the rest may add."""
        by_name = dict(zip(FEATURES, weights, strict=True))
        alike = [by_name[name] for name in ALIKE]
        most = sum(max(weight, 0.0) for weight in alike)  # that letters may still add
        best = max([least, *(self._score(written, text, weights) for text in first - {written})])
        known = [
            (by_name["distance"] * slips / len(written) ** 0.5 + by_name["rarity"] * self.rarity[text], text)
            for slips, text in away
            if text != written and text not in first
        ]
        for score, text in sorted(known, reverse=True):
            if score + most <= best:
                break
            best = max(best, score + sum(w * f for w, f in zip(alike, _alike(written, text), strict=True)))
        return best

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
            if found := self._within(word, slips):
                found.sort(key=lambda pair: (pair[0], self.rarity[pair[1]]))
                return found[:NEAR]
        return []

    def _within(self, word: str, slips: int) -> list[tuple[int, str]]:
        """Listed words at most so many slips away, with their number."""
        first, last = np.searchsorted(self.length_E, [len(word) - slips, len(word) + slips + 1])
        # A slip takes away one letter and brings in another, at most, and with each one of the bits. Few pass the first
        # look, which is at all words of about that length.
        own, letters_E = _letters_of(word), self.letters_E[first:last]
        near_E = np.flatnonzero(np.bitwise_count(letters_E ^ own) <= 2 * slips)
        letters_E = letters_E[near_E]
        gone_E, new_E = np.bitwise_count(own & ~letters_E), np.bitwise_count(letters_E & ~own)
        return _distances(word, self.word_E[near_E[(gone_E <= slips) & (new_E <= slips)] + first], most=slips)

    def _one_slip_away(self, words: Sequence[str]) -> list[list[tuple[int, str]]]:
        """Listed words one slip away from each of these, or equal, with the number of slips."""
        from rapidfuzz.distance import OSA

        away: list[list[tuple[int, str]]] = [[] for _ in words]
        for at, listed in self._shortened.near(words):
            text = self.word_E[listed]
            slips = OSA.distance(words[at], text, score_cutoff=1)
            if slips <= 1:
                away[at].append((slips, text))
        return away

    @cached_property
    def _shortened(self) -> Shortened:
        return Shortened.of(self.word_E)

    def _split(self, word: str) -> list[str]:
        halves = ((word[:at], word[at:]) for at in range(1, len(word)))
        return [f"{a} {b}" for a, b in halves if self._alone(a) and self._alone(b)]

    def _alone(self, word: str) -> bool:
        """Whether it stands for itself: single letters are listed too, but only two of them are English words."""
        return word in self.rarity and (len(word) > 1 or word in "ai" or not word.isascii())

    def _features(self, written: str, text: str) -> tuple[float, ...]:
        from rapidfuzz.distance import OSA

        return (
            OSA.distance(written, text) / len(written) ** 0.5,
            *_alike(written, text),
            float(text in self.corrections.get(written, ()) or {text} == set(written.split())),
            float(abs(written.count(" ") - text.count(" "))),
            sum(self.rarity.get(word, self.rarest) for word in text.split()),
        )


def _alike(written: str, text: str) -> tuple[float, ...]:
    """Features ALIKE of a pair."""
    apostrophe = "'" in written or "'" in text
    return (
        float(written[0] != text[0]),
        float(apostrophe and written.translate(_NO_MARKS) == text.translate(_NO_MARKS)),
        float(_undoubled(written) == _undoubled(text)),
        float(_consonants(written) == _consonants(text)),
        float(len(written) == len(text) and sorted(written) == sorted(text)),
    )


def folded(written: str) -> str:
    """Lower case, straight apostrophes, single spaces."""
    return " ".join(written.lower().replace("’", "'").split())


def _is_word(word: str) -> bool:
    """Letters and apostrophes; no script that is written without spaces, where a word is a character or two."""
    letters = word.replace("'", "")
    return letters.isalpha() and (letters.isascii() or max(letters) < "\u2e80")


def _distances(word: str, others: NDArray[np.object_], *, most: int) -> list[tuple[int, str]]:
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    if not len(others):
        return []
    # As they come, no copy: `cdist` gives most + 1 for all that is farther.
    distance_E: NDArray[Any] = process.cdist([word], others, scorer=OSA.distance, score_cutoff=most, dtype=np.uint8)[0]
    return [(int(distance_E[at]), others[at]) for at in np.flatnonzero(distance_E <= most).tolist()]


def _letters(words: Sequence[str]) -> NDArray[np.uint64]:
    """Two bits for each of 32 classes of characters: whether a word has one of it, and whether two."""
    codes_C = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    length_E = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    place_C = np.repeat(np.arange(len(words)) * 32, length_E) + codes_C % 32
    count_E = np.bincount(place_C, minlength=len(words) * 32).reshape(-1, 32)
    bits_E = np.packbits(np.concatenate([count_E > 0, count_E > 1], axis=1), axis=1, bitorder="little")
    return bits_E.view("<u8")[:, 0].astype(np.uint64)


def _letters_of(word: str) -> np.uint64:
    """The same of one word, which arrays would only slow down."""
    once = twice = 0
    for code in map(ord, word):
        bit = 1 << code % 32
        twice |= once & bit
        once |= bit
    return np.uint64(once | twice << 32)


@lru_cache(1024)  # one word is compared with many
def _undoubled(text: str) -> str:
    return _DOUBLED.sub(r"\1", text)


@lru_cache(1024)
def _consonants(text: str) -> str:
    return text.translate(_NO_VOWELS)
