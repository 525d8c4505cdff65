"""What a word's letters tell without its context: how rare it is, its case, digits, length.

A lexicon is frozen (`lexicon_file.py`), so a word's features never depend on the texts it is scanned with. Words are
looked up by a 64-bit hash of their characters, computed for all words of many texts at once: no string is made, but of
unlisted words, for `slip` and `slip_title`. Measured on English prose, one core: 0.5 µs a word, but 150 µs a
call: `piece_features` joins short texts.

Two words with a space between are listed, too, where they are listed as one as well: "my self" beside "myself".

Shapes: C characters, W words, E entries of a lexicon, F features.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.slips import Slips
from rtdscan.transforms.word_hashes import DIGIT, LETTER, UPPER, Hashes, character_table, hash_strings

LEXICON_FILE = "lexicon.parquet"

LISTED = ("rarity", "rarity_small", "unlisted", "slip", "slip_title", "misspelt", "seam")
"""Features that need a lexicon."""

LEXICAL = (*LISTED, "title", "upper", "digit", "mark", "length", "non_ascii", "opening", "again")
"""Features of a word's letters, see `lexical_features`."""

LOOKED_UP = ("digit", "mark", "unlisted")
"""Features that tell how many words a lexicon could list, and how many it does."""

SHOUTED = 4
"""Letters of the shortest word in capitals that is taken for a word, not for an acronym."""

BLOCK_CHARS = 1 << 18
"""Characters looked at together: enough that a call costs nothing a word, few enough to stay in cache (0.5 µs a word;
1 µs in a million characters)."""


@dataclass(frozen=True, slots=True)
class Lexicon:
    """In how many documents of a corpus words occur.

    Attributes:
        key_E: Hashes of the words, ascending.
        rarity_E: log((total + 2) / (documents + 1)), the surprise at a document that holds the word.
        total: Documents that were counted.
        slips: Tells which words may be slips of those listed.
        slip_E: What it tells of those listed, where that was found out before.
        paired: Whether it lists words that are written as two.
    """

    key_E: NDArray[np.uint64]
    rarity_E: NDArray[np.float64]
    total: int
    slips: Slips
    slip_E: NDArray[np.float32] | None = None
    paired: bool = False

    def __len__(self) -> int:
        """Number of words."""
        return len(self.key_E)

    def look_up(self, key_W: NDArray[np.uint64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """rarity_W, that of no documents where a word is not listed, and its number in the list, or -1."""
        unlisted = float(np.log(self.total + 2.0))
        if not len(self.key_E):
            return np.full(len(key_W), unlisted), np.full(len(key_W), -1)
        at_W = np.minimum(np.searchsorted(self.key_E, key_W), len(self.key_E) - 1)
        listed_W = self.key_E[at_W] == key_W
        return np.where(listed_W, self.rarity_E[at_W], unlisted), np.where(listed_W, at_W, -1)

    @staticmethod
    def of(
        words: Sequence[str],
        documents_E: NDArray[np.int64],
        *,
        total: int,
        slip_E: NDArray[np.floating[Any]] | None = None,
    ) -> "Lexicon":
        """From words and counts; case is folded, and of words that become one the most frequent counts."""
        key_E = hash_strings(words)
        order = np.lexsort((-documents_E, key_E))
        key_E = key_E[order]
        first = np.diff(key_E, prepend=~key_E[:1]) != 0
        rarity_E = np.log((total + 2.0) / (documents_E[order][first] + 1.0))
        slip_E = None if slip_E is None else slip_E[order][first].astype(np.float32)
        paired = any(" " in word for word in words)
        return Lexicon(key_E[first], rarity_E, total, Slips(words, documents_E, total), slip_E, paired)


def lexical_features(
    names: Sequence[str],
    *,
    codes_C: NDArray[np.uint32],
    start_W: NDArray[np.integer[Any]],
    end_W: NDArray[np.integer[Any]],
    opening_W: NDArray[np.bool_],
    lexicon: Lexicon | None,
) -> NDArray[np.float64]:
    """Evidence about words from their characters alone; of many texts at once.

    Args:
        names: Features wanted, of LEXICAL:
            rarity: see `Lexicon`; 0 where the word is not `spelled`
            rarity_small: the same of words without a capital, 0 of others: a rare word in small letters is more often
                wrong than a rare name
            unlisted: is spelled and not in the lexicon
            slip: how likely a word without a capital, or a shouted one, is a slip of a more frequent one; see `Slips`,
                0 of others
            misspelt: how surely a word of these two kinds is a known misspelling, see `Slips.misspelt`; 0 of others
            slip_title: `slip` of an unlisted word that begins with a capital, by one slip at most; 0 of others
            seam: how much more often it is written as one with its neighbour, log(documents + 1) of both as one less
                that of both with a space between; the larger of both neighbours', 0 where they are not listed as one
            title, upper: begins with a capital and has a small letter; two or more letters, all capital
            digit, mark: holds a digit; neither letter nor digit
            length: log of its characters
            non_ascii: holds a character beyond ASCII other than a typographic apostrophe
            opening: first of its text
            again: equal to the word before it, but for case, and has a letter
        codes_C: The texts, one after the other, from `words.codepoints`.
        start_W, end_W: Words as offsets into codes_C, end exclusive, ascending.
        opening_W: First words of texts.
        lexicon: Needed for LISTED.

    Returns:
        feature_WF in the order of `names`.
    """
    class_C = character_table().classes[codes_C]
    letters_W, digits_W, capitals_W = (_count(class_C & bit, start_W, end_W) for bit in (LETTER, DIGIT, UPPER))
    title_W = (class_C[start_W] & UPPER > 0) & (capitals_W < letters_W)
    columns: dict[str, Callable[[], NDArray[Any]]] = {
        "title": lambda: title_W,
        "upper": lambda: (capitals_W == letters_W) & (letters_W > 1),
        "digit": lambda: digits_W > 0,
        "mark": lambda: letters_W + digits_W == 0,
        "length": lambda: np.log(end_W - start_W),
        "non_ascii": lambda: _count((codes_C > 127) & (codes_C != ord("’")), start_W, end_W) > 0,
        "opening": lambda: opening_W,
    }
    if not {"again", *LISTED}.isdisjoint(names):
        hashes = Hashes.of(codes_C)
        key_W = hashes.words(start_W, end_W)
        same_W = np.diff(key_W, prepend=np.uint64(0)) == 0
        columns["again"] = lambda: same_W & ~opening_W & (letters_W > 0)
    if not set(LISTED).isdisjoint(names):
        if lexicon is None:
            raise ValueError(f"features {', '.join(LISTED)} need a lexicon, and there is none")
        spelled_W = (letters_W > 0) & (digits_W == 0)
        rarity_W, entry_W = lexicon.look_up(key_W)
        columns["rarity"] = lambda: np.where(spelled_W, rarity_W, 0.0)
        small_W = spelled_W & (capitals_W == 0)
        plain_W = small_W | _shouted(letters_W, spelled_W & (capitals_W == letters_W), opening_W=opening_W)
        columns["rarity_small"] = lambda: np.where(small_W, rarity_W, 0.0)
        columns["unlisted"] = lambda: spelled_W & (entry_W < 0)
        columns["slip"] = lambda: _slips(lexicon, codes_C, start_W, end_W, entry_W, plain_W=plain_W)
        columns["misspelt"] = lambda: np.where(plain_W, lexicon.slips.misspelt(key_W), 0.0)
        name_W = spelled_W & (entry_W < 0) & title_W
        columns["slip_title"] = lambda: _each(lexicon.slips.of_names, codes_C, start_W, end_W, chosen_W=name_W)
        columns["seam"] = lambda: _seams(lexicon, hashes, codes_C, start_W, end_W, opening_W=opening_W)
    feature_WF = np.zeros((len(start_W), len(names)))
    for at, name in enumerate(names):
        feature_WF[:, at] = columns[name]()
    return feature_WF


def _shouted(
    letters_W: NDArray[np.int64], capital_W: NDArray[np.bool_], *, opening_W: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Words of four capitals or more beside another of two or more: no names, as far as that tells, and no acronyms."""
    capital_W = capital_W & (letters_W > 1)
    beside_W = np.zeros(len(capital_W), dtype=bool)
    both = capital_W[:-1] & capital_W[1:] & ~opening_W[1:]
    beside_W[:-1] |= both
    beside_W[1:] |= both
    return beside_W & (letters_W >= SHOUTED)


def _slips(
    lexicon: Lexicon,
    codes_C: NDArray[np.uint32],
    start_W: NDArray[np.integer[Any]],
    end_W: NDArray[np.integer[Any]],
    entry_W: NDArray[np.int64],
    *,
    plain_W: NDArray[np.bool_],
) -> NDArray[np.float64]:
    slip_W = np.zeros(len(start_W))
    known_W = np.zeros(len(start_W), dtype=bool)
    if lexicon.slip_E is not None and len(lexicon.slip_E):
        known_W = plain_W & (entry_W >= 0)
        slip_W[known_W] = lexicon.slip_E[entry_W[known_W]]
    tell = partial(map, lexicon.slips.of)
    return slip_W + _each(tell, codes_C, start_W, end_W, chosen_W=plain_W & ~known_W)


def _each(
    tell: Callable[[list[str]], Iterable[float]],
    codes_C: NDArray[np.uint32],
    start_W: NDArray[np.integer[Any]],
    end_W: NDArray[np.integer[Any]],
    *,
    chosen_W: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """What is told of the chosen words as strings; 0 of others."""
    spans = zip(start_W[chosen_W].tolist(), end_W[chosen_W].tolist(), strict=True)
    words = [codes_C[start:end].tobytes().decode("utf-32-le", "surrogatepass") for start, end in spans]
    told_W = np.zeros(len(start_W))
    told_W[chosen_W] = np.fromiter(tell(words), np.float64, len(words))
    return told_W


def _seams(
    lexicon: Lexicon,
    hashes: Hashes,
    codes_C: NDArray[np.uint32],
    start_W: NDArray[np.integer[Any]],
    end_W: NDArray[np.integer[Any]],
    *,
    opening_W: NDArray[np.bool_],
) -> NDArray[np.float64]:
    seam_W = np.zeros(len(start_W))
    if not lexicon.paired:
        return seam_W  # nothing is known of what is written as two
    left = neighbours(codes_C, start_W, end_W)
    left = left[~opening_W[left + 1]]
    as_one, entry = lexicon.look_up(hashes.joined(start_W[left], end_W[left], start_W[left + 1], end_W[left + 1]))
    left, as_one = left[entry >= 0], as_one[entry >= 0]
    as_two, _ = lexicon.look_up(hashes.words(start_W[left], end_W[left + 1]))
    seam = np.maximum(as_two - as_one, 0.0)
    np.maximum.at(seam_W, left, seam)
    np.maximum.at(seam_W, left + 1, seam)
    return seam_W


def piece_features(
    names: Sequence[str],
    *,
    codes_P: Sequence[NDArray[np.uint32]],
    first_char_P: Sequence[int],
    words_P: NDArray[np.int64],
    start_W: NDArray[np.integer[Any]],
    end_W: NDArray[np.integer[Any]],
    lexicon: Lexicon | None,
) -> NDArray[np.float64]:
    """`lexical_features` of the words of several pieces, as a chunk has them; about BLOCK_CHARS at a time.

    Args:
        names: Features wanted.
        codes_P: Each piece's characters.
        first_char_P: Characters of its document before each piece.
        words_P: Words of each piece.
        start_W, end_W: Words, piece after piece, as offsets into their document.
        lexicon: Needed for LISTED.

    Returns:
        feature_WF. The first word of every piece counts as `opening`.
    """
    feature_WF = np.zeros((len(start_W), len(names)))
    past_P = np.cumsum(words_P)
    at = 0
    while names and at < len(codes_P):
        last, size = at, 0
        while last < len(codes_P) and (last == at or size + len(codes_P[last]) <= BLOCK_CHARS):
            size += len(codes_P[last])
            last += 1
        block = slice(int(past_P[at] - words_P[at]), int(past_P[last - 1]))
        length_P = np.array([len(codes) for codes in codes_P[at:last]])
        shift_P = np.cumsum(length_P) - length_P - np.array(first_char_P[at:last])
        piece_W = np.repeat(np.arange(last - at), words_P[at:last])
        feature_WF[block] = lexical_features(
            names,
            codes_C=np.concatenate(codes_P[at:last]),
            start_W=start_W[block] + shift_P[piece_W],
            end_W=end_W[block] + shift_P[piece_W],
            opening_W=np.diff(piece_W, prepend=-1) != 0,
            lexicon=lexicon,
        )
        at = last
    return feature_WF


def neighbours(
    codes_C: NDArray[np.uint32], start_W: NDArray[np.integer[Any]], end_W: NDArray[np.integer[Any]]
) -> NDArray[np.intp]:
    """Numbers of the words that one space parts from the next, which may be that of another text."""
    apart_W = start_W[1:] == end_W[:-1] + 1
    apart_W[apart_W] = codes_C[end_W[:-1][apart_W]] == ord(" ")
    return np.flatnonzero(apart_W)


def spelled(
    codes_C: NDArray[np.uint32], start_W: NDArray[np.integer[Any]], end_W: NDArray[np.integer[Any]]
) -> NDArray[np.bool_]:
    """Whether each word holds a letter and no digit: only those are listed."""
    class_C = character_table().classes[codes_C]
    letters_W, digits_W = (_count(class_C & bit, start_W, end_W) for bit in (LETTER, DIGIT))
    spelled_W: NDArray[np.bool_] = (letters_W > 0) & (digits_W == 0)
    return spelled_W


def _count(
    flag_C: NDArray[Any], start_W: NDArray[np.integer[Any]], end_W: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Characters of each word whose flag is set."""
    sum_C = np.zeros(len(flag_C) + 1, dtype=np.int64)
    np.cumsum(flag_C != 0, out=sum_C[1:])
    count_W: NDArray[np.int64] = sum_C[end_W] - sum_C[start_W]
    return count_W
