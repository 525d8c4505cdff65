"""Hashes of words: a number for each word, the same for the same word in whatever case and with either apostrophe.

64 bits, computed for all words of many texts at once, without making strings. The chance that any two of 60,000 words
have one hash is 1e-10.

Shapes: C characters, W words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.words import codepoints

LETTER, UPPER, DIGIT = 1, 2, 4
"""Bits of a character's class."""

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2**64
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))

_CODES = 0x1F000
"""Code points below are looked at one by one; above are pictographs, and letters from 0x20000 to 0x3FFFF (Han)."""


@dataclass(frozen=True, slots=True)
class Hashes:
    """Hashes of stretches of characters: a polynomial in an odd base modulo 2**64 over a random number a character.

    The sum over a stretch is a difference of running sums, divided by the power at which it begins.
    """

    sum_C: NDArray[np.uint64]
    power_C: NDArray[np.uint64]
    back_C: NDArray[np.uint64]

    @staticmethod
    def of(codes_C: NDArray[np.uint32]) -> "Hashes":
        """Of characters as `words.codepoints` gives them; case is folded here."""
        power_C, back_C = (np.full(len(codes_C) + 1, base) for base in (_BASE, _INVERSE))
        power_C[0] = back_C[0] = 1
        for each_C in (power_C, back_C):
            np.multiply.accumulate(each_C, out=each_C)
        sum_C = np.zeros(len(codes_C) + 1, dtype=np.uint64)
        np.cumsum(_mixed(character_table().lower[codes_C].astype(np.uint64)) * power_C[:-1], out=sum_C[1:])
        return Hashes(sum_C, power_C, back_C)

    def words(self, start_W: NDArray[np.integer[Any]], end_W: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
        """Of stretches from start to end, exclusive."""
        return _mixed(self._plain(start_W, end_W))

    def joined(
        self,
        start_W: NDArray[np.integer[Any]],
        end_W: NDArray[np.integer[Any]],
        next_start_W: NDArray[np.integer[Any]],
        next_end_W: NDArray[np.integer[Any]],
    ) -> NDArray[np.uint64]:
        """Of two stretches as if they were one."""
        rest_W = self._plain(next_start_W, next_end_W)
        return _mixed(self._plain(start_W, end_W) + rest_W * self.power_C[end_W - start_W])

    def _plain(self, start_W: NDArray[np.integer[Any]], end_W: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
        plain_W: NDArray[np.uint64] = (self.sum_C[end_W] - self.sum_C[start_W]) * self.back_C[start_W]
        return plain_W


def hash_words(
    codes_C: NDArray[np.uint32], start_W: NDArray[np.integer[Any]], end_W: NDArray[np.integer[Any]]
) -> NDArray[np.uint64]:
    """A number for each word, the same for the same word in whatever case and with either apostrophe."""
    return Hashes.of(codes_C).words(start_W, end_W)


def hash_strings(words: Sequence[str]) -> NDArray[np.uint64]:
    """The same for words that are strings."""
    length_W = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    end_W = np.cumsum(length_W)
    return hash_words(codepoints("".join(words)), end_W - length_W, end_W)


def folded(word: str) -> str:
    """A word as the lexicon lists it: lower case character by character, straight apostrophe."""
    return "".join(low if len(low := c.lower()) == 1 else c for c in word).replace("’", "'")


@dataclass(frozen=True, slots=True)
class Characters:
    """Of every code point: its small form, and the bits LETTER, UPPER, DIGIT."""

    lower: NDArray[np.uint32]
    classes: NDArray[np.uint8]


@cache
def character_table() -> Characters:
    """What is known of characters, made once a process."""
    lower = np.arange(0x110000, dtype=np.uint32)
    classes = np.zeros(0x110000, dtype=np.uint8)
    # As `folded` and the methods of str say, but for all of them at once.
    characters = list(map(chr, range(_CODES)))
    lower[:_CODES] = [ord(low) if len(low) == 1 else code for code, low in enumerate(map(str.lower, characters))]
    lower[ord("’")] = ord("'")
    for bit, is_one in ((LETTER, str.isalpha), (UPPER, str.isupper), (DIGIT, str.isnumeric)):
        classes[:_CODES] += np.uint8(bit) * np.fromiter(map(is_one, characters), bool, _CODES)
    classes[0x20000:0x3FFFE] = LETTER
    return Characters(lower, classes)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's last steps: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
