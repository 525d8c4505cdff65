"""What ships about English words: how frequent they are, how people misspell them, which are near in meaning.

Files and licences: `transforms/data/words/README.md`. Read once, when first asked for, and kept.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

WORDS = Path(__file__).parent.parent / "data" / "words"

_FUNCTION_WORDS = (
    "a an the this that these those my your his her its our their some any no every each all both of in on at by for "
    "with from to into onto over under about after before between through during without within and or but nor so "
    "yet if than as while because although though when where who which what whose whom i you he she it we they me "
    "him us them myself himself herself itself themselves is are was were be been being am has have had having do "
    "does did will would shall should can could may might must not very too also there here then now just only even "
    "still more most such"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that carry grammar: replaced only by one another, and the ones that people leave out."""

SUFFIXES = (
    "ing", "ied", "ed", "ies", "ly", "tion", "tions", "ment", "ments", "ness", "ity", "able", "ible", "ful", "ous",
    "ive", "al", "ic", "est", "ers", "er", "ists", "ist", "ians", "ian", "'s", "es", "s",
)  # fmt: skip
"""Endings that stand for a part of speech; the first that fits decides. Crude, but "walked" becomes no "quickly"."""

NAME_CAPITAL = 60
"""A word with a capital first letter in this percentage of its uses or more is taken for a name."""


@dataclass(frozen=True, slots=True)
class Frequency:
    """The reference list, most frequent first.

    Attributes:
        words: Lower case.
        rank: Word -> its place in `words`.
        documents_W: Documents (of `total`) in which each word occurs.
        capital_W: Per cent of its uses in which its first letter is a capital.
        total: Documents that were counted.
    """

    words: tuple[str, ...]
    rank: Mapping[str, int]
    documents_W: NDArray[np.int64]
    capital_W: NDArray[np.uint8]
    total: int


@cache
def frequency() -> Frequency:
    """The 60,000 words that occur in most documents."""
    table = pq.read_table(WORDS / "frequency.parquet")
    words = tuple(table["word"].to_pylist())
    return Frequency(
        words=words,
        rank={word: rank for rank, word in enumerate(words)},
        documents_W=table["documents"].to_numpy().astype(np.int64),
        capital_W=table["capital"].to_numpy(),
        total=int(table.schema.metadata[b"documents"]),
    )


def known(word: str) -> bool:
    """Whether it is in the reference list, in whatever case, with either apostrophe."""
    return word.lower().replace("’", "'") in frequency().rank


def common(word: str, within: int = 20_000) -> bool:
    """Whether it is among the most frequent words; of single letters only "a" and "i" are words."""
    lower = word.lower().replace("’", "'")
    return frequency().rank.get(lower, within) < within and (len(lower) > 1 or lower in "ai")


@cache
def misspellings() -> Mapping[str, tuple[str, ...]]:
    """Right word, lower case -> the ways in which people misspell it."""
    table = pq.read_table(WORDS / "misspellings.parquet")
    wrongs: dict[str, list[str]] = {}
    for right, wrong in zip(table["right"].to_pylist(), table["wrong"].to_pylist(), strict=True):
        wrongs.setdefault(right, []).append(wrong)
    return {right: tuple(those) for right, those in wrongs.items()}


@cache
def neighbours() -> Mapping[str, tuple[str, ...]]:
    """Word -> words near to it in the embedding space of the shipped table, nearest first."""
    table = pq.read_table(WORDS / "neighbours.parquet")
    return {
        word: tuple(near.split())
        for word, near in zip(table["word"].to_pylist(), table["near"].to_pylist(), strict=True)
    }


@cache
def sentences() -> Mapping[str, tuple[str, ...]]:
    """Language -> sentences in it."""
    found: dict[str, list[str]] = {}
    for line in (WORDS / "foreign.tsv").read_text(encoding="utf-8").splitlines():
        language, sentence = line.split("\t")
        found.setdefault(language, []).append(sentence)
    return {language: tuple(those) for language, those in found.items()}


def part(word: str) -> str:
    """Crude part of speech of a word in lower case: function, or an ending, or "-"."""
    if word in FUNCTION_WORDS:
        return "function"
    return next((suffix for suffix in SUFFIXES if len(word) > len(suffix) + 2 and word.endswith(suffix)), "-")


def band(documents: int) -> int:
    """Frequency band: words of one band occur in about as many documents, within a factor of four."""
    return max(documents, 1).bit_length() // 2


@cache
def peers() -> Mapping[tuple[int, str], tuple[str, ...]]:
    """(band, part) -> words, without names, abbreviations and single letters."""
    list_ = frequency()
    groups: dict[tuple[int, str], list[str]] = {}
    vowel = re.compile("[aeiouy]")
    rows = zip(list_.words, list_.documents_W.tolist(), list_.capital_W.tolist(), strict=True)
    for word, documents, capital in rows:
        if word in FUNCTION_WORDS or (
            capital < NAME_CAPITAL and len(word) > 2 and word.isascii() and vowel.search(word)
        ):
            groups.setdefault((band(documents), part(word)), []).append(word)
    return {key: tuple(those) for key, those in groups.items() if len(those) > 1}


def nearest(
    words: Sequence[str], vectors_WE: NDArray[np.floating], *, count: int = 4, least: float = 0.3
) -> dict[str, tuple[str, ...]]:
    """Nearest neighbours by cosine: near-synonyms, as adversarial attacks choose them.

    Args:
        words: W words, lower case.
        vectors_WE: Their embeddings, of E dimensions; any embedding will do, the scanner's own is the hardest.
        count: Neighbours of a word at most.
        least: Smallest cosine.

    Returns:
        Word -> its neighbours, nearest first; forms of one word ("walk", "walked") are no neighbours, and words
        without any are left out.
    """
    unit_WE = np.asarray(vectors_WE, np.float32)
    unit_WE = unit_WE - unit_WE.mean(axis=0)
    unit_WE /= np.maximum(np.linalg.norm(unit_WE, axis=1, keepdims=True), 1e-9)
    found: dict[str, tuple[str, ...]] = {}
    for first in range(0, len(words), 1024):
        cosine_BW = unit_WE[first : first + 1024] @ unit_WE.T
        wide = min(3 * count + 1, len(words))
        best_BK = np.argpartition(-cosine_BW, wide - 1, axis=1)[:, :wide]
        for row, best_K in enumerate(best_BK):
            word = words[first + row]
            order = best_K[np.argsort(-cosine_BW[row, best_K], kind="stable")]
            near = (words[at] for at in order.tolist() if cosine_BW[row, at] >= least)
            those = tuple(other for other in near if not related(word, other))[:count]
            if those:
                found[word] = those
    return found


def related(a: str, b: str) -> bool:
    """Whether two words look like forms of one: equal, or one stem of three letters or more with short endings."""
    shared = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a == b or (shared >= min(3, len(a), len(b)) and shared >= max(len(a), len(b)) - 4)
