"""Texts -> flat arrays of tokens, words and windows: everything the network and the readout need of a chunk of texts.

A piece is a text, or a part of one that is too long to be tokenised at once. All arrays of a chunk are flat, piece
after piece; offsets of characters count from the beginning of the *document*.

Shapes: P pieces, N tokens, W words, B windows, K token-word pairs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from rtdscan.transforms.readout import Pairs
from rtdscan.transforms.residue import residues
from rtdscan.transforms.windows import Windows, cut_windows, join_windows, token_boundaries
from rtdscan.transforms.words import codepoints, cut_words, is_damage, token_words

ENCODE_BYTES = 1 << 18
"""Text that is given to the tokenizer at once: its answer costs about 140 bytes of Python objects a token."""

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Piece:
    """A text or a part of one.

    Attributes:
        document: Number of the document it belongs to.
        text: The characters.
        first_char: Characters of the document before it.
        max_tokens: Tokens to score at most; the rest of the piece is left out.
    """

    document: int
    text: str
    first_char: int = 0
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens, words and windows of several pieces, flat.

    Attributes:
        document_P: Document of each piece.
        chars_P, tokens_P, words_P, windows_P, unknown_P: Counts of each piece.
        truncated_P: Whether tokens were left out.
        ids_N: Token ids.
        start_N, end_N: Character offsets of tokens in their document.
        start_W, end_W: Character offsets of words in their document, end exclusive.
        damaged_W: Words that hold a character of damage, or share one with a residue.
        pairs: Pieces of words, in flat token and word numbers.
        windows: Windows over the flat tokens; none crosses from one piece to another.
    """

    document_P: NDArray[np.int64]
    chars_P: NDArray[np.int64]
    tokens_P: NDArray[np.int64]
    words_P: NDArray[np.int64]
    windows_P: NDArray[np.int64]
    unknown_P: NDArray[np.int64]
    truncated_P: NDArray[np.bool_]
    ids_N: Ints
    start_N: Ints
    end_N: Ints
    start_W: Ints
    end_W: Ints
    damaged_W: NDArray[np.bool_]
    pairs: Pairs
    windows: Windows


@dataclass(frozen=True, slots=True)
class _Parsed:
    """One piece, offsets counted from its own beginning."""

    ids: Ints
    start_N: Ints
    end_N: Ints
    start_W: Ints
    end_W: Ints
    damaged_W: NDArray[np.bool_]
    pairs: Pairs
    windows: Windows
    truncated: bool


def make_chunk(pieces: Sequence[Piece], *, tokenizer: Tokenizer, window: int, unknown: int) -> Chunk:
    """Tokenise pieces and cut them into words and windows.

    Args:
        pieces: The texts.
        tokenizer: With truncation and padding off; special tokens are not asked for.
        window: Tokens of a window, the two special tokens included.
        unknown: Id of the unknown token.
    """
    parsed = [part for batch in _encode_batches(pieces) for part in _parse(batch, tokenizer=tokenizer, window=window)]
    tokens_P = _counts(len(p.ids) for p in parsed)
    words_P = _counts(len(p.start_W) for p in parsed)
    first_P = [piece.first_char for piece in pieces]
    base_N = np.concatenate([[0], np.cumsum(tokens_P)])
    base_W = np.concatenate([[0], np.cumsum(words_P)])
    return Chunk(
        document_P=_counts(piece.document for piece in pieces),
        chars_P=_counts(len(piece.text) for piece in pieces),
        tokens_P=tokens_P,
        words_P=words_P,
        windows_P=_counts(len(p.windows) for p in parsed),
        unknown_P=_counts(int((p.ids == unknown).sum()) for p in parsed),
        truncated_P=np.array([p.truncated for p in parsed], dtype=bool),
        ids_N=_flat([p.ids for p in parsed]),
        start_N=_flat([p.start_N + first for p, first in zip(parsed, first_P, strict=True)]),
        end_N=_flat([p.end_N + first for p, first in zip(parsed, first_P, strict=True)]),
        start_W=_flat([p.start_W + first for p, first in zip(parsed, first_P, strict=True)]),
        end_W=_flat([p.end_W + first for p, first in zip(parsed, first_P, strict=True)]),
        damaged_W=_flat([p.damaged_W for p in parsed], bool),
        pairs=Pairs(
            token_P=_flat([p.pairs.token_P + base for p, base in zip(parsed, base_N, strict=False)], np.int64),
            word_P=_flat([p.pairs.word_P + base for p, base in zip(parsed, base_W, strict=False)], np.int64),
        ),
        windows=join_windows([p.windows for p in parsed]),
    )


def _encode_batches(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Consecutive pieces, ENCODE_BYTES of characters or one piece at a time."""
    batches: list[list[Piece]] = []
    room = 0
    for piece in pieces:
        if not batches or len(piece.text) > room:
            batches.append([])
            room = ENCODE_BYTES
        batches[-1].append(piece)
        room -= len(piece.text)
    return batches


def _parse(pieces: Sequence[Piece], *, tokenizer: Tokenizer, window: int) -> list[_Parsed]:
    encodings = tokenizer.encode_batch([piece.text for piece in pieces], add_special_tokens=False)
    return [_parse_one(piece, encoding, window=window) for piece, encoding in zip(pieces, encodings, strict=True)]


def _parse_one(piece: Piece, encoding: Encoding, *, window: int) -> _Parsed:
    ids = np.array(encoding.ids, dtype=np.int32)
    offset_N2 = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
    start_N, end_N = np.ascontiguousarray(offset_N2[:, 0]), np.ascontiguousarray(offset_N2[:, 1])
    truncated = piece.max_tokens is not None and len(ids) > piece.max_tokens
    codes_C = codepoints(piece.text)
    words = cut_words(codes_C, start_N)
    start_W, end_W = words.start_W, words.end_W
    token_K, word_K = token_words(words, start_N, end_N, codes_C)
    if truncated:
        # Words that begin before the first token that is left out and have a piece, or lie before it, stay.
        limit = piece.max_tokens or 0
        cut = int(start_N[limit])
        kept = int(np.searchsorted(start_W, cut, side="left"))
        start_W, end_W = start_W[:kept], end_W[:kept]
        ids, start_N, end_N = ids[:limit], start_N[:limit], end_N[:limit]
        keep_K = (token_K < limit) & (word_K < kept)
        token_K, word_K = token_K[keep_K], word_K[keep_K]
    damaged_C = is_damage(codes_C)
    for start, end in residues(piece.text):
        damaged_C[start:end] = True
    damage_C = np.concatenate([[0], np.cumsum(damaged_C)])
    return _Parsed(
        ids=ids,
        start_N=start_N,
        end_N=end_N,
        start_W=start_W,
        end_W=end_W,
        damaged_W=damage_C[end_W] > damage_C[start_W],
        pairs=Pairs(token_K.astype(np.int64), word_K.astype(np.int64)),
        windows=cut_windows(len(ids), token_boundaries(codes_C, start_N), size=window - 2),
        truncated=truncated,
    )


def _counts(values: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(values, dtype=np.int64)


def _flat(arrays: Sequence[NDArray[Any]], dtype: type = np.int32) -> NDArray[Any]:
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)
