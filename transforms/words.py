"""Text -> words: what a person would call one, by character offsets into the original Python string.

Words are cut before any normalisation, so a character that a tokenizer deletes or folds still lies in a word:

    "Don't pay $3.14!"   Don't | pay | $ | 3.14 | !
    "caf\\ufffd ab\\x00cd"  caf\\ufffd | ab\\x00cd

A word is a run of letters, digits and marks; `'` and `’` join between letters, `.` `,` `:` between digits, underscores
between either. Every other visible character is a word by itself. Combining marks, variation selectors, the zero-width
joiner and emoji modifiers stick to what they follow; an emoji sequence or flag is one word. Control, private-use,
unassigned and format characters and U+FFFD belong to the run that they touch; without one they are a word of their own,
except that invisible ones (format characters, joiner, variation selectors) alone are no word. White space is what
`str.isspace` calls so. No word contains any, so texts may be cut together with white space between them.

Shapes: C characters of the text, T tokens, W words, P pairs of token and word.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Classes of characters. EXTEND to FORMAT are "weak": they take side with their neighbours.
_SPACE, _LETTER, _DIGIT, _UNSPACED, _EXTEND, _GLUE, _STRAY, _FORMAT = range(8)
_SYMBOL, _REGIONAL, _APOSTROPHE, _POINT, _UNDERSCORE = range(8, 13)

# What a character is part of: nothing, a run, or a symbol with what sticks to it.
_GAP, _RUN, _MARK = range(3)
_GROUP = np.array([_GAP, *[_RUN] * 7, *[_MARK] * 5], dtype=np.uint8)

_MAJOR = {"L": _LETTER, "N": _LETTER, "M": _EXTEND, "P": _SYMBOL, "S": _SYMBOL, "Z": _SPACE, "C": _STRAY}
_CATEGORIES = {f"{major}{minor}": class_ for major, class_ in _MAJOR.items() for minor in "cdefiklmnopstu"}
_CATEGORIES |= {"Nd": _DIGIT, "Cf": _FORMAT}

_UNSPACED_RANGES = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark, zero
    (0x3021, 0x303B),
    (0x3041, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFF9F),  # half-width Katakana
    (0x1AFF0, 0x1B16F),  # Kana
)
"""Scripts written without spaces; only their letters count."""

_MIXED_RANGES = (
    (0, 0x3400),
    (0x4DC0, 0x4E00),
    (0xA000, 0xAC00),
    (0xD7A4, 0xD800),
    (0xF900, 0x20000),
    (0xE0000, 0xE0200),
)
"""Stretches (end exclusive) that are looked at one by one. Between them there are only Han, Hangul
syllables, surrogates, private-use and unassigned characters."""

_GLUE_RANGES = ((0x034F, 0x034F), (0x200D, 0x200D), (0xFE00, 0xFE0F), (0xE0020, 0xE007F), (0xE0100, 0xE01EF))
"""Invisible and part of what they follow: grapheme joiner, zero-width joiner, variation selectors, tags of flags."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text, ascending and disjoint.

    Attributes:
        start_W, end_W: Character offsets, end exclusive.
    """

    start_W: NDArray[np.int32]
    end_W: NDArray[np.int32]

    def __len__(self) -> int:
        """Number of words."""
        return len(self.start_W)


def codepoints(text: str) -> NDArray[np.uint32]:
    """The text as code points, lone surrogates included.

    Returns:
        codes_C: one number a character, so that indices are Python string offsets. Read-only.
    """
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def cut_words(codes_C: NDArray[np.uint32], token_start_T: NDArray[np.int32]) -> Words:
    """Cut a text into words.

    Args:
        codes_C: The text, from `codepoints`.
        token_start_T: Character offset of each token. They matter only in scripts written without spaces: there each
            starts a word, except on a character that sticks to the one before.

    Returns:
        The words. Every character that is neither white space nor invisible lies in one.
    """
    class_C = _class_table()[codes_C]
    group_C = _groups(class_C)
    inside_C = group_C != _GAP
    before_C = np.concatenate(([np.uint8(_GAP)], group_C[:-1])) if len(group_C) else group_C
    start_C = inside_C & ((group_C != before_C) | (group_C == _MARK))
    weak_C = _weak(class_C)
    if weak_C.any():
        start_C &= ~(_sticks(class_C) & (before_C != _GAP))
        joined = np.flatnonzero(codes_C[:-1] == 0x200D)  # zero-width joiner
        joined = joined[(group_C[joined] == _MARK) & (group_C[joined + 1] == _MARK)]
        start_C[joined + 1] = False
    regional = np.flatnonzero(class_C == _REGIONAL)
    if regional.size:
        start_C[_second_of_pairs(regional)] = False
    if (class_C == _UNSPACED).any():
        start_C |= _unspaced_starts(class_C, group_C, weak_C, token_start_T)
    last_C = inside_C.copy()
    last_C[:-1] &= start_C[1:] | ~inside_C[1:]
    start_W, end_W = np.flatnonzero(start_C), np.flatnonzero(last_C) + 1
    hidden_C = (class_C == _FORMAT) | (class_C == _GLUE)
    if start_W.size and hidden_C.any():
        visible_W = np.logical_or.reduceat(inside_C & ~hidden_C, start_W)
        start_W, end_W = start_W[visible_W], end_W[visible_W]
    return Words(start_W=start_W.astype(np.int32), end_W=end_W.astype(np.int32))


def token_words(
    words: Words, token_start_T: NDArray[np.int32], token_end_T: NDArray[np.int32], codes_C: NDArray[np.uint32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which token belongs to which words: those that it shares a character with.

    A token may begin with white space (byte-level BPE, SentencePiece) and may cover several words. One that lies in no
    word (white space) or has no characters is in no pair.

    Args:
        words: The words of the text.
        token_start_T, token_end_T: Character offsets of the tokens, end exclusive.
        codes_C: The text; only its length matters.

    Returns:
        token_P, word_P: indices into the tokens and into the words, by token, then by word.
    """
    # Counts at every offset are three times as fast as searching the offsets of the words.
    ended = np.zeros(len(codes_C) + 1, dtype=np.int64)
    ended[words.end_W] = 1
    begun = np.zeros(len(codes_C) + 1, dtype=np.int64)
    begun[words.start_W + 1] = 1
    first_T = np.cumsum(ended)[token_start_T]
    past_T = np.cumsum(begun)[token_end_T]
    count_T = np.where(token_start_T < token_end_T, np.maximum(past_T - first_T, 0), 0)
    token_P = np.repeat(np.arange(len(count_T)), count_T)
    nth_P = np.arange(len(token_P)) - np.repeat(np.cumsum(count_T) - count_T, count_T)
    return token_P, first_T[token_P] + nth_P


def is_damage(codes_C: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Characters that no text should hold: U+FFFD, controls, lone surrogates, private-use and unassigned code points.

    "Unassigned" is as this Python's Unicode version has it, but for Han and pictographs, which it may not know yet.
    """
    damage_C: NDArray[np.bool_] = _class_table()[codes_C] == _STRAY
    return damage_C


def sentence_ends(codes_C: NDArray[np.uint32], first_P: Sequence[int] | NDArray[np.int64] = (0,)) -> NDArray[np.bool_]:
    """Where a sentence, line or paragraph ends.

    Args:
        codes_C: The text, from `codepoints`, or several with a space between.
        first_P: Where each text begins.

    Returns:
        end_C: True at the last visible character of a line, and at the last character of `. ! ? …` (and their like in
        other scripts) with closing quotes and brackets, followed by white space or the end of the text; after
        `。！？` nothing needs to follow. Never at white space.
    """
    mark_C = _punctuation_table()[codes_C]
    padded_C = np.append(mark_C, np.uint8(_BLANK))
    end_C = np.zeros(len(mark_C), dtype=np.bool_)

    at = _past_closers(padded_C, np.flatnonzero(mark_C == _STOP), (_CLOSER, _QUOTE))
    end_C[at[padded_C[at + 1] >= _NEWLINE]] = True
    at = _past_closers(padded_C, np.flatnonzero(mark_C == _WIDE_STOP), (_CLOSER,))
    end_C[at[(padded_C[at + 1] != _STOP) & (padded_C[at + 1] != _WIDE_STOP)]] = True

    newline = np.flatnonzero(mark_C == _NEWLINE)
    if newline.size:
        visible = np.flatnonzero(mark_C < _NEWLINE)
        nth = np.searchsorted(visible, newline)
        last, newline = visible[nth[nth > 0] - 1], newline[nth > 0]
        first = np.asarray(first_P)[np.searchsorted(first_P, newline, side="right") - 1]
        end_C[last[last >= first]] = True  # else it is another text's
    return end_C


@cache
def _class_table() -> NDArray[np.uint8]:
    """Class of every code point."""
    table = np.full(0x110000, _STRAY, dtype=np.uint8)
    for first, past in _MIXED_RANGES:
        table[first:past] = [_CATEGORIES[unicodedata.category(chr(code))] for code in range(first, past)]
    table[0xAC00:0xD7A4] = _LETTER  # Hangul syllables
    letter = (table == _LETTER) | (table == _STRAY)
    for first, last in _UNSPACED_RANGES:
        table[first : last + 1][letter[first : last + 1]] = _UNSPACED
    # Same words in every Python: Han extensions and pictographs that its Unicode version does not know yet.
    table[0x20000:0x3FFFE] = _UNSPACED
    table[0x1F000:0x1FC00][table[0x1F000:0x1FC00] == _STRAY] = _SYMBOL
    table[[*range(0x0600, 0x0606), 0x06DD, 0x070F, 0x08E2]] = _LETTER  # visible, though Cf
    for first, last in _GLUE_RANGES:
        table[first : last + 1] = _GLUE
    table[0x1F3FB:0x1F400] = _EXTEND  # emoji modifiers (skin tones)
    table[0x1F1E6:0x1F200] = _REGIONAL
    table[0xFFFD] = _STRAY
    table[[ord(c) for c in "'’"]] = _APOSTROPHE
    table[[ord(c) for c in ".,:٫٬"]] = _POINT
    table[ord("_")] = _UNDERSCORE
    table[[code for code in range(0x3001) if chr(code).isspace()]] = _SPACE
    return table


@cache
def _members(classes: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether a class is one of these: np.isin, but ten times as fast on short texts."""
    return np.isin(np.arange(16), classes)


def _weak(class_C: NDArray[np.uint8]) -> NDArray[np.bool_]:
    weak_C: NDArray[np.bool_] = (class_C >= _EXTEND) & (class_C <= _FORMAT)
    return weak_C


def _sticks(class_C: NDArray[np.uint8]) -> NDArray[np.bool_]:
    sticks_C: NDArray[np.bool_] = (class_C == _EXTEND) | (class_C == _GLUE)
    return sticks_C


def _groups(class_C: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """_GAP, _RUN or _MARK of every character, joiners and what sticks resolved."""
    group_C = _GROUP[class_C]
    solid_C = ~_weak(class_C)
    for joiner, sides in ((_APOSTROPHE, (_LETTER,)), (_POINT, (_DIGIT,)), (_UNDERSCORE, (_LETTER, _DIGIT))):
        at = np.flatnonzero(class_C == joiner)
        if at.size:
            is_side = _members(sides)
            # Only underscores join in rows.
            solid = np.flatnonzero(solid_C & (class_C != joiner) if joiner == _UNDERSCORE else solid_C)
            class_S = np.concatenate(([_SPACE], class_C[solid], [_SPACE]))
            left = class_S[np.searchsorted(solid, at, side="left")]
            right = class_S[np.searchsorted(solid, at, side="right") + 1]
            group_C[at[is_side[left] & is_side[right]]] = _RUN
    sticks_C = _sticks(class_C)
    if sticks_C.any():
        base_C = np.maximum.accumulate(np.where(sticks_C, 0, np.arange(len(class_C))))
        inherited = group_C[base_C[sticks_C]]
        group_C[sticks_C] = np.where(inherited == _GAP, _RUN, inherited)
    return group_C


def _second_of_pairs(at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of positions in rows of neighbours, the second, fourth … of each row (two regional indicators are one flag)."""
    first = np.diff(at, prepend=-2) != 1
    nth = np.arange(len(at)) - np.flatnonzero(first)[np.cumsum(first) - 1]
    return np.compress(nth % 2 == 1, at)


def _unspaced_starts(
    class_C: NDArray[np.uint8],
    group_C: NDArray[np.uint8],
    weak_C: NDArray[np.bool_],
    token_start_T: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Starts of words at a change to or from a script written without spaces, and at tokens within one."""
    base_C = np.maximum.accumulate(np.where(weak_C, 0, np.arange(len(class_C))))
    unspaced_C = class_C[base_C] == _UNSPACED
    # Weak characters at the start of a run have no base in it: no change between them and what follows.
    based_C = (group_C == _RUN) & (group_C[base_C] == _RUN) & ~weak_C[base_C]
    start_C = np.zeros(len(class_C), dtype=np.bool_)
    start_C[1:] = based_C[1:] & based_C[:-1] & (unspaced_C[1:] != unspaced_C[:-1])
    at = token_start_T[(token_start_T >= 0) & (token_start_T < len(class_C))]
    start_C[at[unspaced_C[at] & ~_sticks(class_C[at])]] = True
    return start_C


_STOP, _WIDE_STOP, _CLOSER, _QUOTE, _NEWLINE, _BLANK = range(1, 7)


@cache
def _punctuation_table() -> NDArray[np.uint8]:
    """What a code point means for the end of a sentence; 0: nothing."""
    table = np.zeros(0x110000, dtype=np.uint8)
    table[_class_table() == _SPACE] = _BLANK
    table[[ord(c) for c in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"]] = _NEWLINE
    basic = [code for first, past in _MIXED_RANGES for code in range(first, min(past, 0x10000))]
    table[[code for code in basic if unicodedata.category(chr(code)) in ("Pe", "Pf")]] = _CLOSER
    table[[ord(c) for c in "\"'"]] = _CLOSER
    table[[ord(c) for c in "“‘«‹"]] = _QUOTE  # close in German and Danish, open after 。 in Chinese
    table[[ord(c) for c in ".!?…‽؟۔।॥։።။។།"]] = _STOP
    table[[ord(c) for c in "。！？｡"]] = _WIDE_STOP
    return table


def _past_closers(padded_C: NDArray[np.uint8], at: NDArray[np.int64], closers: tuple[int, ...]) -> NDArray[np.int64]:
    """Each position moved to the last of the closing quotes and brackets after it; `padded_C` ends with a blank."""
    closes = _members(closers)
    for _ in range(4):  # more in a row end no sentence
        at += closes[padded_C[at + 1]]
    return at
