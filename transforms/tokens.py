"""Texts -> flat arrays of tokens, words and windows: everything the network and the readout need of a chunk of texts.

A piece is a text, or a part of one that is too long to be tokenised at once. All arrays of a chunk are flat, piece
after piece; offsets of characters count from the beginning of the *document*.

Shapes: P pieces, N tokens, W words, B windows, K token-word pairs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rtdscan.transforms.batches import SPECIAL_TOKENS
from rtdscan.transforms.readout import Pairs
from rtdscan.transforms.residue import residues
from rtdscan.transforms.windows import Windows, cut_texts, join_windows, token_boundaries
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


def make_chunk(pieces: Sequence[Piece], *, tokenizer: Tokenizer, window: int, unknown: int) -> Chunk:
    """Tokenise pieces and cut them into words and windows.

    Args:
        pieces: The texts.
        tokenizer: With truncation and padding off; special tokens are not asked for.
        window: Tokens of a window, the two special tokens included.
        unknown: Id of the unknown token.
    """
    parts = [
        _parse(batch, tokenizer=tokenizer, size=window - SPECIAL_TOKENS, unknown=unknown)
        for batch in _encode_batches(pieces) or [[]]
    ]
    base_N = np.cumsum([0, *(len(part.ids_N) for part in parts)])
    base_W = np.cumsum([0, *(len(part.start_W) for part in parts)])
    flat = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Chunk)
        if field.name not in ("pairs", "windows")
    }
    return Chunk(
        **flat,
        pairs=Pairs(
            token_P=np.concatenate([p.pairs.token_P + base for p, base in zip(parts, base_N, strict=False)]),
            word_P=np.concatenate([p.pairs.word_P + base for p, base in zip(parts, base_W, strict=False)]),
        ),
        windows=join_windows([part.windows for part in parts]),
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


def _parse(pieces: Sequence[Piece], *, tokenizer: Tokenizer, size: int, unknown: int) -> Chunk:
    """Parse pieces together, laid end to end with a space between: what a piece gives does not depend on the others."""
    texts = [piece.text for piece in pieces]
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    chars_P = _counts(map(len, texts))
    first_P = np.cumsum(chars_P + 1) - (chars_P + 1)
    codes_C = codepoints(" ".join(texts))
    tokens_P = _counts(map(len, encodings))
    ids_N = np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int32)
    offsets = chain.from_iterable(chain.from_iterable(e.offsets for e in encodings))
    offset_N2 = np.fromiter(offsets, np.int64).reshape(-1, 2) + np.repeat(first_P, tokens_P)[:, None]
    start_N, end_N = (np.ascontiguousarray(offset_N2[:, at], dtype=np.int32) for at in (0, 1))
    words = cut_words(codes_C, start_N)
    token_K, word_K = token_words(words, start_N, end_N, codes_C)
    damage_C = np.concatenate([[0], np.cumsum(_damaged(texts, first_P, codes_C))])
    damaged_W = damage_C[words.end_W] > damage_C[words.start_W]
    boundary_N = token_boundaries(codes_C, start_N, first_P)
    kept_N, kept_W = _within_budget(pieces, tokens_P, first_P + chars_P, start_N, words.start_W)
    kept_K = kept_N[token_K] & kept_W[word_K]
    piece_N = np.repeat(np.arange(len(pieces)), tokens_P)[kept_N]
    piece_W = (np.searchsorted(first_P, words.start_W, side="right") - 1)[kept_W]
    kept_P = np.bincount(piece_N, minlength=len(pieces))
    windows, windows_P = cut_texts(kept_P, boundary_N[kept_N], size=size)
    shift_P = (_counts(piece.first_char for piece in pieces) - first_P).astype(np.int32)  # to offsets in documents
    return Chunk(
        document_P=_counts(piece.document for piece in pieces),
        chars_P=chars_P,
        tokens_P=kept_P,
        words_P=np.bincount(piece_W, minlength=len(pieces)),
        windows_P=windows_P,
        unknown_P=np.bincount(piece_N, ids_N[kept_N] == unknown, minlength=len(pieces)).astype(np.int64),
        truncated_P=kept_P < tokens_P,
        ids_N=ids_N[kept_N],
        start_N=start_N[kept_N] + shift_P[piece_N],
        end_N=end_N[kept_N] + shift_P[piece_N],
        start_W=words.start_W[kept_W] + shift_P[piece_W],
        end_W=words.end_W[kept_W] + shift_P[piece_W],
        damaged_W=damaged_W[kept_W],
        pairs=Pairs((np.cumsum(kept_N) - 1)[token_K[kept_K]], (np.cumsum(kept_W) - 1)[word_K[kept_K]]),
        windows=windows,
    )


def _damaged(texts: Sequence[str], first_P: NDArray[np.int64], codes_C: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Characters of damage and of residues."""
    damaged_C = is_damage(codes_C)
    for text, first in zip(texts, first_P.tolist(), strict=True):
        for start, end in residues(text):
            damaged_C[first + start : first + end] = True
    return damaged_C


def _within_budget(
    pieces: Sequence[Piece],
    tokens_P: NDArray[np.int64],
    past_P: NDArray[np.int64],
    start_N: Ints,
    start_W: Ints,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tokens and words stay. Of a piece with too many tokens (it ends at past_P), those words that begin before
    the first token that is left out."""
    kept_N, kept_W = np.ones(len(start_N), dtype=bool), np.ones(len(start_W), dtype=bool)
    first_token = 0
    for piece, tokens, past in zip(pieces, tokens_P.tolist(), past_P.tolist(), strict=True):
        if piece.max_tokens is not None and tokens > piece.max_tokens:
            first = first_token + piece.max_tokens
            kept_N[first : first_token + tokens] = False
            first_word, past_word = np.searchsorted(start_W, [start_N[first], past])
            kept_W[first_word:past_word] = False
        first_token += tokens
    return kept_N, kept_W


def _counts(values: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(values, dtype=np.int64)
