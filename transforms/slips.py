"""Whether a rare word may be a slip of a frequent one: `teh`, not `zhang`.

A network of pieces sees little of letters: a rare name and a misspelling are both pieces that it did not expect. What
tells them apart is whether a more frequent word is near in letters, by a slip that people make.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.near import FEATURES, NearWords, folded
from rtdscan.transforms.word_hashes import hash_strings

WEIGHTS = (-8.23, -1.07, 0.22, 1.68, 1.30, 1.39, 3.22, -2.52, -0.69)
"""Coefficients of near.FEATURES in a softmax over the listed words near a made-up misspelling and "none of them";
`benchmarks/slips.py` prints them. The best of .886 of those held out is the word that was meant."""

NONE = -10.18
"""Score of "none of them"."""

SURE_LETTERS = 5
"""Up to so many letters, a word that the list of misspellings has says nothing: `sive`, `jus` and `gard` are on it."""

RARER = 10.0
"""In so many times fewer documents is a misspelling than what was meant, or it is a word of the corpus' own."""

REMEMBERED = 1 << 15
"""Words whose slip is remembered: 5 MB. Looking for one takes 0.3 ms."""


@dataclass(frozen=True)  # no slots: it finds its words when they are asked for
class Slips:
    """Of a lexicon: its words, in how many documents each is, and how many were counted."""

    words: Sequence[str]
    documents_E: NDArray[np.integer[Any]]
    total: int

    @cached_property
    def near(self) -> NearWords:
        """The words, to be searched by letters; known misspellings come from the shipped list."""
        import pyarrow.parquet as pq

        from rtdscan.transforms.corruption.wordlist import WORDS

        wrongs = pq.read_table(WORDS / "misspellings.parquet")
        pairs = zip(wrongs["wrong"].to_pylist(), wrongs["right"].to_pylist(), strict=True)
        counts = dict(zip(self.words, self.documents_E.tolist(), strict=True))
        return NearWords.of(counts, total=self.total, corrections=pairs)

    def of(self, word: str) -> float:
        """Log odds of the likeliest other word that it may be a slip of against the word itself; at least 0.

        The more documents hold a word, the more speaks for it; an unlisted one counts as "none of them". A function of
        the word and the lexicon alone. 0 for what is no word of letters, or too long.
        """
        return self._remembered(folded(word))

    def of_names(self, words: Sequence[str]) -> list[float]:
        """The same of unlisted words that may be names: slips of words one slip away alone. Names are near to much else
        that is two or three slips away, and there are many of them: together they take a tenth of the time."""
        names, known = list(map(folded, words)), self._names
        # A dict of its own: another thread may empty the one that is shared.
        told = {name: score for name in set(names) if (score := known.get(name)) is not None}
        new = sorted(set(names) - told.keys())
        best = self.near.best_one_slip_away(new, WEIGHTS, least=NONE)
        found = {name: score - NONE for name, score in zip(new, best, strict=True)}
        if len(known) + len(found) > REMEMBERED:
            known.clear()
        known.update(found)
        told |= found
        return [told[name] for name in names]

    def misspelt(self, key_W: NDArray[np.uint64]) -> NDArray[np.float64]:
        """How surely words are known misspellings, by their hashes: log(letters / 5), at least 0; 0 of all others.

        The longer, the surer: on encyclopedia articles the network and `slip` left open whether 200 words in small
        letters were wrong; of those with five letters or fewer that the list has .27 were, of six to eight .68, of nine
        and more .96 (benchmarks/misspelt.py).
        """
        key_M, sure_M = self._misspellings
        if not len(key_M):
            return np.zeros(len(key_W))
        at_W = np.minimum(np.searchsorted(key_M, key_W), len(key_M) - 1)
        return np.where(key_M[at_W] == key_W, sure_M[at_W], 0.0)

    @cached_property
    def _misspellings(self) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        """Hashes, ascending, of the longer known misspellings, and how sure each is."""
        rarity, unlisted = self.near.rarity, math.log(self.total + 2)
        rarer = math.log(RARER)
        wrongs = [
            wrong
            for wrong, rights in self.near.corrections.items()
            if len(wrong) > SURE_LETTERS and rarity.get(wrong, unlisted) - min(map(rarity.__getitem__, rights)) >= rarer
        ]
        key_M = hash_strings(wrongs)
        order = np.argsort(key_M)
        return key_M[order], np.log(np.fromiter(map(len, wrongs), np.float64, len(wrongs)) / SURE_LETTERS)[order]

    @cached_property
    def _remembered(self) -> Callable[[str], float]:
        return lru_cache(REMEMBERED)(self._of)

    @cached_property
    def _names(self) -> dict[str, float]:
        return {}

    def _of(self, word: str) -> float:
        unlisted = float(np.log(self.total + 2))
        least = NONE - WEIGHTS[FEATURES.index("rarity")] * (unlisted - self.near.rarity.get(word, unlisted))
        return self.near.best(word, WEIGHTS, least=least) - least
