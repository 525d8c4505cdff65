"""What a bundle's generator says of words in their place: how well each fills the gap that it leaves.

A candidate of k pieces is read in a gap of k [MASK]s: its log p is the sum of its pieces' (each as if the others were
hidden, so a long word is not scored by its own first half).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rtdscan.transforms.bundle import Bundle
from rtdscan.transforms.generator import Filled, Gap, Generator, load_generator
from rtdscan.transforms.settings import ScoreSettings

LONGEST = 8
"""Pieces of a candidate that are read; what follows in a longer one is taken to fit as well as these."""

_BEST = 24
"""Pieces that are looked at for words: those that go on a word (##…) and marks are none."""


class Reading(NamedTuple):
    """What the generator says of a place.

    Attributes:
        log_p_C: Of each candidate.
        pieces_C: How many pieces each has.
        words: Whole words of one piece that fit best, with log p.
    """

    log_p_C: NDArray[np.float64]
    pieces_C: NDArray[np.float64]
    words: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class GapReader:
    """Reads candidates in their places.

    Attributes:
        generator: The network.
        tokenizer: The bundle's.
        bundle: Whose it is.
    """

    generator: Generator
    tokenizer: Tokenizer
    bundle: Bundle

    def read(self, places: Sequence[tuple[str, str]], candidates: Sequence[Sequence[str]]) -> list[Reading]:
        """For places, each the text before and after the gap, and candidates for each."""
        gaps: list[Gap] = []
        asked = []
        for (before, after), texts in zip(places, candidates, strict=True):
            pieces = [self._ids(text)[:LONGEST] for text in texts]
            around = self._ids(before), self._ids(after)
            wide = {1, *(len(ids) for ids in pieces if ids)}
            first: dict[int, int] = {}
            for width in sorted(wide):
                first[width] = len(gaps)
                gaps += self._gaps(*around, [ids for ids in pieces if len(ids) == width], width)
            asked.append((pieces, first))
        filled = self.generator.fill(gaps, best=_BEST)
        return [self._reading(pieces, first, filled) for pieces, first in asked]

    def pieces(self, text: str) -> int:
        """How many a word has."""
        return len(self._ids(text))

    def _gaps(self, before: list[int], after: list[int], pieces: Sequence[list[int]], width: int) -> list[Gap]:
        special = self.bundle.special
        room = self.bundle.config.positions - 2 - width
        left = before[max(0, len(before) - room // 2) :]
        ids = [special.cls, *left, *[special.mask] * width, *after[: room - len(left)], special.sep]
        return [Gap(ids, 1 + len(left) + at, [one[at] for one in pieces]) for at in range(width)]

    def _reading(self, pieces: Sequence[list[int]], first: dict[int, int], filled: Sequence[Filled]) -> Reading:
        log_p_C = np.full(len(pieces), -np.inf)
        for width, start in first.items():
            those = [at for at, ids in enumerate(pieces) if len(ids) == width]
            if those:
                log_p_C[those] = np.sum([filled[start + at].log_p for at in range(width)], axis=0, dtype=np.float64)
        one = filled[first[1]]
        named = ((self.tokenizer.id_to_token(id_), float(p)) for id_, p in zip(one.best, one.best_log_p, strict=True))
        words = tuple((word, p) for word, p in named if word is not None and word.isalpha())
        return Reading(log_p_C, np.array([len(ids) for ids in pieces], np.float64), words)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


def load_reader(bundle: Bundle, *, settings: ScoreSettings) -> GapReader | None:
    """Of a bundle's generator; None where it has none."""
    generator = load_generator(bundle, settings=settings)
    return GapReader(generator, bundle.shared_tokenizer(), bundle) if generator else None
