"""Tokens -> windows the network can read, and which of them each token belongs to.

A window ends where a sentence ends if one does in its second half; then the next begins there. Where none does, the
window is full and the next one overlaps it, and each token in the overlap belongs to the window in which it has more
context on its shorter side. For size 8, overlap 4 and a sentence that ends after token 5 (|):

    tokens   0 1 2 3 4 5|6 7 8 9 10 11 12 13 14 15
    window 0 ───────────
    window 1             ───────────────────          owns 6 … 11
    window 2                        ────────────      owns 12 … 15

Shapes: T tokens of a document, N of several texts, P texts, B windows, C characters.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.words import sentence_ends


@dataclass(frozen=True, slots=True)
class Windows:
    """Ranges of tokens, special tokens not among them, in order.

    Attributes:
        start_B, end_B: The tokens that a window shows to the network, end exclusive.
        own_start_B, own_end_B: Those of them whose values are taken from it. They partition the tokens.
    """

    start_B: NDArray[np.int32]
    end_B: NDArray[np.int32]
    own_start_B: NDArray[np.int32]
    own_end_B: NDArray[np.int32]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.start_B)


def cut_windows(n_tokens: int, boundary_T: NDArray[np.bool_], *, size: int, overlap: int | None = None) -> Windows:
    """Cut a document into windows.

    Args:
        n_tokens: T, special tokens not counted.
        boundary_T: A sentence or paragraph ends after the token.
        size: Tokens of a window at most, special tokens not counted.
        overlap: Tokens that a full window shares with the next, at most size // 2, so that no token lies in three
            windows; default: size // 4.

    Returns:
        The windows; none for no tokens.

    Raises:
        ValueError: `size` or `overlap` out of range.
    """
    return cut_texts([n_tokens], boundary_T, size=size, overlap=overlap)[0]


def cut_texts(
    tokens_P: Sequence[int] | NDArray[np.int64],
    boundary_N: NDArray[np.bool_],
    *,
    size: int,
    overlap: int | None = None,
) -> tuple[Windows, NDArray[np.int64]]:
    """Cut several texts into windows; see `cut_windows`.

    Args:
        tokens_P: Tokens of each text.
        boundary_N: For the tokens of all texts, laid end to end.
        size, overlap: Of windows.

    Returns:
        The windows of all texts, in order, as ranges of all tokens, and windows_P, how many each text has.
    """
    overlap = size // 4 if overlap is None else overlap
    if size < 1 or not 0 <= overlap <= size // 2:
        raise ValueError(f"size {size}, overlap {overlap}: expected size >= 1 and 0 <= overlap <= size // 2")
    ends = (np.flatnonzero(boundary_N) + 1).tolist()
    starts: list[int] = []
    stops: list[int] = []
    counts: list[int] = []
    start = past = nth = 0
    for tokens in np.asarray(tokens_P).tolist():
        before, past = len(starts), past + tokens
        while start + size < past:
            nth = bisect_right(ends, start + size, nth)
            at_sentence = nth > 0 and ends[nth - 1] > start + size // 2
            stop = ends[nth - 1] if at_sentence else start + size
            starts.append(start)
            stops.append(stop)
            start = stop if at_sentence else stop - overlap
        if tokens > 0:
            starts.append(start)
            stops.append(past)
        start = past
        counts.append(len(starts) - before)
    return _own(np.array(starts, dtype=np.int32), np.array(stops, dtype=np.int32)), np.array(counts, dtype=np.int64)


def _own(start_B: NDArray[np.int32], end_B: NDArray[np.int32]) -> Windows:
    """Divide overlaps between neighbours.

    Token t of an overlap [s, e) has e - 1 - t tokens on its shorter side in the earlier window, which is full, and
    t - s in the later one, which ends further right than the earlier: the later one wins where 2 t > s + e - 1. Where
    nothing overlaps, s = e, the earlier window owns what is before s.
    """
    own_start_B = start_B.copy()
    own_start_B[1:] = (start_B[1:] + end_B[:-1] - 1) // 2 + 1
    own_end_B = end_B.copy()
    own_end_B[:-1] = own_start_B[1:]
    return Windows(start_B=start_B, end_B=end_B, own_start_B=own_start_B, own_end_B=own_end_B)


def join_windows(documents: Sequence[Windows]) -> Windows:
    """The windows of several documents as ranges of all their tokens laid end to end.

    Args:
        documents: Windows of each document, from `cut_windows`; a document without tokens has none.

    Returns:
        All windows, in order.
    """
    if not documents:
        return cut_windows(0, np.zeros(0, dtype=np.bool_), size=1)
    tokens = np.array([int(windows.end_B[-1]) if len(windows) else 0 for windows in documents])
    first_B = np.repeat(np.cumsum(tokens) - tokens, [len(windows) for windows in documents]).astype(np.int32)
    return Windows(
        start_B=np.concatenate([windows.start_B for windows in documents]) + first_B,
        end_B=np.concatenate([windows.end_B for windows in documents]) + first_B,
        own_start_B=np.concatenate([windows.own_start_B for windows in documents]) + first_B,
        own_end_B=np.concatenate([windows.own_end_B for windows in documents]) + first_B,
    )


def token_boundaries(
    codes_C: NDArray[np.uint32], token_start_T: NDArray[np.int32], first_P: Sequence[int] | NDArray[np.int64] = (0,)
) -> NDArray[np.bool_]:
    """Tokens after which a sentence or paragraph ends.

    Args:
        codes_C: The text, from `words.codepoints`, or several with a space between.
        token_start_T: Character offset of each token, ascending.
        first_P: Where each text begins.

    Returns:
        boundary_T: A sentence ends at a character from the token's start to before the next token's; the last token of
        a text counts as an end or not.
    """
    before_C = np.concatenate(([0], np.cumsum(sentence_ends(codes_C, first_P))))
    before_T = before_C[np.append(token_start_T, len(codes_C))]
    boundary_T: NDArray[np.bool_] = before_T[1:] > before_T[:-1]
    return boundary_T


_CUTS: tuple[tuple[tuple[bytes, ...], bool], ...] = (
    ((b"\n\n", b"\n\r\n"), True),
    ((b"\n",), True),
    ((b". ", b"! ", b"? ", b'." ', b'!" ', b'?" ', "… ".encode(), ".” ".encode()), False),
    ((b" ", b"\t", b"\r", "\u00a0".encode(), "\u2028".encode(), "\u3000".encode()), False),
    (("。".encode(), "！".encode(), "？".encode()), True),
)
"""Where a text may be cut, best first, and whether after the pattern or before its last character. A space goes with
what follows it, as byte-level and SentencePiece tokenizers want it."""


def split_pieces(text: bytes | memoryview, *, size: int = 1 << 20) -> Iterator[tuple[int, int]]:
    """Cut a huge document into pieces that can be tokenised one by one, without decoding it as a whole.

    Args:
        text: UTF-8. Where it is not valid, the cuts are arbitrary but still make progress.
        size: Bytes of a piece at most. Cuts are looked for in the second half of a piece.

    Yields:
        Byte offsets (start, end) of consecutive pieces that make up the text; none for an empty one.

    Raises:
        ValueError: `size` is below 4, the bytes of a character.
    """
    if size < 4:
        raise ValueError(f"size {size}: expected at least 4, the bytes of a character")
    start = 0
    while len(text) - start > size:
        end = _cut_before(text, start + size // 2, start + size)
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)


def _cut_before(text: bytes | memoryview, low: int, high: int) -> int:
    """The best place to cut from `low` to `high`, above `low`."""
    tail = bytes(text[low:high])
    for patterns, after in _CUTS:
        best = 0
        for pattern in patterns:
            at = tail.rfind(pattern)
            if at >= 0:
                width = len(pattern) if after else len(pattern) - len(pattern.decode()[-1].encode())
                best = max(best, at + width)
        if best > 0:
            return low + best
    end = high
    while end > high - 3 and text[end] & 0xC0 == 0x80:
        end -= 1
    return end if text[end] & 0xC0 != 0x80 else high
