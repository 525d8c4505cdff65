"""Pieces that are tokenised together give what each gives alone."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_words import TOKENIZERS

from rtdscan.transforms import tokens
from rtdscan.transforms.tokens import Chunk, Piece, make_chunk
from rtdscan.transforms.words import codepoints, sentence_ends

PARTS = (
    *"ab 3.,'_!?\n\r\u3000",
    *("don't ", "walking. ", "&amp;", "</b>", "a. " * 9, "b" * 9),
    *("é", "e\u0301", "\u0301", "\u200d", "\ufe0f", "你", "好", "。", "”", "🇩", "👍", "👩\u200d👩"),
    *("\ufeff", "\x00", "\ufffd", "\u00ad"),
)

TEXT = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)

PIECE = st.builds(
    Piece,
    document=st.integers(0, 9),
    text=TEXT,
    first_char=st.integers(0, 50),
    max_tokens=st.none() | st.integers(0, 20),
)


def by_piece(chunk: Chunk) -> list[dict[str, Any]]:
    """What a chunk says of each piece, numbers of tokens, words and windows counted from the piece's first."""
    told: list[dict[str, Any]] = []
    token = word = window = 0
    for at in range(len(chunk.document_P)):
        n, w, b = (int(counts[at]) for counts in (chunk.tokens_P, chunk.words_P, chunk.windows_P))
        within = (chunk.pairs.word_P >= word) & (chunk.pairs.word_P < word + w)
        told.append({name: getattr(chunk, name)[at].item() for name in vars_of(Chunk, "_P")})
        told[-1] |= {name: getattr(chunk, name)[token : token + n].tolist() for name in vars_of(Chunk, "_N")}
        told[-1] |= {name: getattr(chunk, name)[word : word + w].tolist() for name in vars_of(Chunk, "_W")}
        told[-1]["windows"] = [
            (getattr(chunk.windows, name)[window : window + b] - token).tolist()
            for name in vars_of(type(chunk.windows), "_B")
        ]
        told[-1]["pairs"] = (
            (chunk.pairs.token_P[within] - token).tolist(),
            (chunk.pairs.word_P[within] - word).tolist(),
        )
        token, word, window = token + n, word + w, window + b
    assert (token, word, window) == (len(chunk.ids_N), len(chunk.start_W), len(chunk.windows))
    assert sum(len(piece["pairs"][0]) for piece in told) == len(chunk.pairs.token_P)
    return told


def vars_of(kind: type, ending: str) -> list[str]:
    return [field.name for field in fields(kind) if field.name.endswith(ending)]


@given(st.lists(PIECE, max_size=6), st.sampled_from(sorted(TOKENIZERS)), st.integers(3, 12), st.integers(1, 60))
def test_a_piece_gives_the_same_whatever_is_beside_it(
    pieces: list[Piece], tokenizer: str, window: int, together: int
) -> None:
    given: dict[str, Any] = {"tokenizer": TOKENIZERS[tokenizer], "window": window, "unknown": 0}
    alone = [by_piece(make_chunk([piece], **given))[0] for piece in pieces]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "ENCODE_BYTES", together)
        chunk = make_chunk(pieces, **given)
    assert by_piece(chunk) == alone
    kinds = {name: getattr(chunk, name).dtype for name in ("start_N", "end_N", "start_W", "end_W", "ids_N")}
    assert set(kinds.values()) == {np.dtype(np.int32)}


def test_what_is_over_the_budget_is_left_out() -> None:
    pieces = [Piece(0, "one two three", max_tokens=4), Piece(1, "ab cd", first_char=7, max_tokens=4)]
    chunk = make_chunk(pieces, tokenizer=TOKENIZERS["wordpiece"], window=12, unknown=0)
    assert chunk.truncated_P.tolist() == [True, False]
    # Letters are tokens here: o n e, t of "two", which begins before the first that is left out.
    assert chunk.tokens_P.tolist() == [4, 4]
    assert list(zip(chunk.start_W.tolist(), chunk.end_W.tolist(), strict=True)) == [(0, 3), (4, 7), (7, 9), (10, 12)]
    assert chunk.start_N.tolist() == [0, 1, 2, 4, 7, 8, 10, 11]
    assert chunk.pairs.word_P.tolist() == [0, 0, 0, 1, 2, 2, 3, 3]


def test_a_line_that_ends_in_one_text_ends_none_in_another() -> None:
    codes = codepoints("one" + " " + "\ntwo\n")
    assert np.flatnonzero(sentence_ends(codes, [0, 4])).tolist() == [7]
    assert np.flatnonzero(sentence_ends(codes)).tolist() == [2, 7]
