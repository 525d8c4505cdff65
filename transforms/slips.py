"""Whether a rare word may be a slip of a frequent one: `teh`, not `zhang`.

A network of pieces sees little of letters: a rare name and a misspelling are both pieces that it did not expect. What
tells them apart is whether a more frequent word is near in letters, by a slip that people make.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.near import FEATURES, NearWords, folded

WEIGHTS = (-8.23, -1.07, 0.22, 1.68, 1.30, 1.39, 3.22, -2.52, -0.69)
"""Coefficients of near.FEATURES in a softmax over the listed words near a made-up misspelling and "none of them";
`benchmarks/slips.py` prints them. The best of .886 of those held out is the word that was meant."""

NONE = -10.18
"""Score of "none of them"."""

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
        new = sorted(set(names) - known.keys())
        if len(known) + len(new) > REMEMBERED:
            known.clear()
            new = sorted(set(names))
        best = self.near.best_one_slip_away(new, WEIGHTS, least=NONE)
        known.update((name, score - NONE) for name, score in zip(new, best, strict=True))
        return [known[name] for name in names]

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
