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
from rtdscan.transforms.words import Words, codepoints, cut_words, is_damage, token_words

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
        tokens_P, words_P, windows_P, unknown_P: Counts of each piece.
        truncated_P: Whether tokens were left out.
        ids_N: Token ids.
        start_N, end_N: Character offsets of tokens in their document.
        start_W, end_W: Character offsets of words in their document, end exclusive.
        damaged_W: Words that hold a character of damage, or share one with a residue.
        pairs: Pieces of words, in flat token and word numbers.
        windows: Windows over the flat tokens; none crosses from one piece to another.
    """

    document_P: NDArray[np.int64]
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


@dataclass(frozen=True, slots=True)
class _Laid:
    """Pieces laid end to end with a space between, and their tokens.

    Attributes:
        codes_C: The characters.
        first_P, past_P: Where each piece begins and ends.
        tokens_P: Tokens of each piece.
        ids_N, start_N, end_N: Token ids, and their characters, end exclusive.
    """

    codes_C: NDArray[np.uint32]
    first_P: NDArray[np.int64]
    past_P: NDArray[np.int64]
    tokens_P: NDArray[np.int64]
    ids_N: Ints
    start_N: Ints
    end_N: Ints

    @staticmethod
    def of(pieces: Sequence[Piece], tokenizer: Tokenizer) -> "_Laid":
        texts = [piece.text for piece in pieces]
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        past_P = np.cumsum(_counts(len(text) + 1 for text in texts)) - 1
        first_P = past_P - _counts(map(len, texts))
        tokens_P = _counts(map(len, encodings))
        offsets = chain.from_iterable(chain.from_iterable(e.offsets for e in encodings))
        offset_N2 = np.fromiter(offsets, np.int64).reshape(-1, 2) + np.repeat(first_P, tokens_P)[:, None]
        return _Laid(
            codes_C=codepoints(" ".join(texts)),
            first_P=first_P,
            past_P=past_P,
            tokens_P=tokens_P,
            ids_N=np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int32),
            start_N=np.ascontiguousarray(offset_N2[:, 0], np.int32),
            end_N=np.ascontiguousarray(offset_N2[:, 1], np.int32),
        )


def _parse(pieces: Sequence[Piece], *, tokenizer: Tokenizer, size: int, unknown: int) -> Chunk:
    """Parse pieces together, laid end to end: what a piece gives does not depend on the others."""
    laid = _Laid.of(pieces, tokenizer)
    words = cut_words(laid.codes_C, laid.start_N)
    damaged_W = _damaged_words(pieces, laid, words)
    boundary_N = token_boundaries(laid.codes_C, laid.start_N, laid.first_P)
    token_K, word_K = token_words(words, laid.start_N, laid.end_N, laid.codes_C)

    # From here on only what is within the budgets of pieces, which is nearly always all.
    kept_N, kept_W = _within_budget(pieces, laid, words)
    kept_K = kept_N[token_K] & kept_W[word_K]
    number_N, number_W = np.cumsum(kept_N) - 1, np.cumsum(kept_W) - 1
    ids_N, start_N, end_N = laid.ids_N[kept_N], laid.start_N[kept_N], laid.end_N[kept_N]
    start_W, end_W = words.start_W[kept_W], words.end_W[kept_W]
    piece_N = np.repeat(np.arange(len(pieces)), laid.tokens_P)[kept_N]
    piece_W = np.searchsorted(laid.first_P, start_W, side="right") - 1
    tokens_P, words_P = (np.bincount(piece_X, minlength=len(pieces)) for piece_X in (piece_N, piece_W))
    windows, windows_P = cut_texts(tokens_P, boundary_N[kept_N], size=size)
    shift_P = (_counts(piece.first_char for piece in pieces) - laid.first_P).astype(np.int32)  # to the document's
    return Chunk(
        document_P=_counts(piece.document for piece in pieces),
        tokens_P=tokens_P,
        words_P=words_P,
        windows_P=windows_P,
        unknown_P=np.bincount(piece_N[ids_N == unknown], minlength=len(pieces)),
        truncated_P=tokens_P < laid.tokens_P,
        ids_N=ids_N,
        start_N=start_N + shift_P[piece_N],
        end_N=end_N + shift_P[piece_N],
        start_W=start_W + shift_P[piece_W],
        end_W=end_W + shift_P[piece_W],
        damaged_W=damaged_W[kept_W],
        pairs=Pairs(number_N[token_K[kept_K]], number_W[word_K[kept_K]]),
        windows=windows,
    )


def _damaged_words(pieces: Sequence[Piece], laid: _Laid, words: Words) -> NDArray[np.bool_]:
    """Words with a character of damage or of a residue."""
    damaged_C = is_damage(laid.codes_C)
    for piece, first in zip(pieces, laid.first_P.tolist(), strict=True):
        for start, end in residues(piece.text):
            damaged_C[first + start : first + end] = True
    before_C = np.concatenate([[0], np.cumsum(damaged_C)])
    damaged_W: NDArray[np.bool_] = before_C[words.end_W] > before_C[words.start_W]
    return damaged_W


def _within_budget(pieces: Sequence[Piece], laid: _Laid, words: Words) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tokens and words stay. Of a piece with too many tokens, those words that begin before the first token that
    is left out."""
    kept_N, kept_W = np.ones(len(laid.start_N), dtype=bool), np.ones(len(words.start_W), dtype=bool)
    first_token = 0
    for piece, tokens, past in zip(pieces, laid.tokens_P.tolist(), laid.past_P.tolist(), strict=True):
        if piece.max_tokens is not None and tokens > piece.max_tokens:
            first = first_token + piece.max_tokens
            kept_N[first : first_token + tokens] = False
            first_word, past_word = np.searchsorted(words.start_W, [laid.start_N[first], past])
            kept_W[first_word:past_word] = False
        first_token += tokens
    return kept_N, kept_W


def _counts(values: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(values, dtype=np.int64)
