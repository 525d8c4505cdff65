from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.transforms.windows import Windows, cut_windows, join_windows, split_pieces, token_boundaries
from rtdscan.transforms.words import codepoints


def boundaries(n_tokens: int, after: list[int]) -> np.ndarray:
    boundary_T = np.zeros(n_tokens, dtype=np.bool_)
    boundary_T[after] = True
    return boundary_T


def as_lists(windows: Windows) -> list[tuple[int, int, int, int]]:
    columns = (windows.start_B, windows.end_B, windows.own_start_B, windows.own_end_B)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, np.ndarray, int, int]:
    size = draw(st.integers(1, 12))
    overlap = draw(st.integers(0, size // 2))
    boundary_T = np.array(draw(st.lists(st.booleans(), max_size=60)), dtype=np.bool_)
    if draw(st.booleans()):
        boundary_T[:] = False  # overlaps all the way
    return len(boundary_T), boundary_T, size, overlap


def test_the_example_of_the_module() -> None:
    windows = cut_windows(16, boundaries(16, [2, 5]), size=8, overlap=4)
    # The first window could reach to 8; token 5 is the last end of a sentence in its second half. [6, 14) is full, the
    # next starts 4 earlier, at 10, and takes the rest. Of the overlap 10 … 13, tokens 10 and 11 have 3 and 2 tokens to
    # the right in the earlier window and 0 and 1 to the left in the later one.
    assert as_lists(windows) == [(0, 6, 0, 6), (6, 14, 6, 12), (10, 16, 12, 16)]


def test_a_tie_goes_to_the_earlier_window() -> None:
    # [0, 6) and [3, 7): token 4 has one token on its shorter side in both.
    assert as_lists(cut_windows(7, boundaries(7, []), size=6, overlap=3)) == [(0, 6, 0, 5), (3, 7, 5, 7)]


def test_what_fits_is_one_window_and_nothing_is_none() -> None:
    assert as_lists(cut_windows(8, boundaries(8, [3]), size=8)) == [(0, 8, 0, 8)]
    assert as_lists(cut_windows(0, boundaries(0, []), size=8)) == []


def test_an_end_in_the_first_half_is_left_alone() -> None:
    assert as_lists(cut_windows(10, boundaries(10, [3]), size=8, overlap=2))[0] == (0, 8, 0, 7)
    assert as_lists(cut_windows(10, boundaries(10, [4]), size=8, overlap=2))[0] == (0, 5, 0, 5)


@given(cases())
def test_windows_cover_every_token_and_what_they_own_partitions_them(case: tuple[int, np.ndarray, int, int]) -> None:
    n_tokens, boundary_T, size, overlap = case
    windows = as_lists(cut_windows(n_tokens, boundary_T, size=size, overlap=overlap))
    assert [t for _, _, own_start, own_end in windows for t in range(own_start, own_end)] == list(range(n_tokens))
    for start, end, own_start, own_end in windows:
        assert start <= own_start < own_end <= end <= start + size
    for (_, end, _, _), (start, *_) in pairwise(windows):
        assert end - start in (0, overlap)
        assert end == start or not boundary_T[end - size + size // 2 : end].any()


@given(cases())
def test_a_token_is_owned_by_the_window_with_most_context_on_its_shorter_side(
    case: tuple[int, np.ndarray, int, int],
) -> None:
    n_tokens, boundary_T, size, overlap = case
    windows = as_lists(cut_windows(n_tokens, boundary_T, size=size, overlap=overlap))
    for token in range(n_tokens):
        context = [min(token - start, end - 1 - token) if start <= token < end else -1 for start, end, _, _ in windows]
        owner = context.index(max(context))  # the first of equals
        assert windows[owner][2] <= token < windows[owner][3]


def test_joined_windows_are_ranges_of_all_tokens() -> None:
    parts = [cut_windows(n_tokens, boundaries(n_tokens, []), size=6, overlap=2) for n_tokens in (0, 7, 0, 3)]
    assert as_lists(join_windows(parts)) == [(0, 6, 0, 5), (4, 7, 5, 7), (7, 10, 7, 10)]
    assert as_lists(join_windows([])) == []
    assert join_windows(parts).start_B.dtype == np.int32


@pytest.mark.parametrize(("size", "overlap"), [(0, None), (8, 5), (8, -1)])
def test_sizes_out_of_range_are_refused(size: int, overlap: int | None) -> None:
    with pytest.raises(ValueError, match="expected size >= 1"):
        cut_windows(5, boundaries(5, []), size=size, overlap=overlap)


@pytest.mark.parametrize(
    ("text", "tokens", "after"),
    [
        # One. | two ( "three." ) | four: the closing quote is the last token of its sentence
        ('One. two "three." four', [0, 3, 5, 9, 10, 15, 16, 18], [1, 6]),
        # Tokens that begin with white space, as of byte-level BPE: a line's end belongs to what stands before it.
        ("one\n\ntwo three", [0, 3, 8], [0]),
        ("好。你", [0, 0, 1, 2], [2]),  # two tokens of one character
        ("one. ", [0], [0]),
        ("", [], []),
    ],
)
def test_token_boundaries(text: str, tokens: list[int], after: list[int]) -> None:
    boundary_T = token_boundaries(codepoints(text), np.array(tokens, dtype=np.int32))
    assert len(boundary_T) == len(tokens)
    assert np.flatnonzero(boundary_T).tolist() == after


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("one. two fo\n\nur\nfive. six", "one. two fo\n\n"),
        ("one. two\r\n\r\nthree. four", "one. two\r\n\r\n"),
        ("one two thr. e\nfour five", "one two thr. e\n"),
        ("a\n\ne two three. four five", "a\n\ne two three."),  # the blank line is in the first half
        ("one two three fourfivesix", "one two three"),
        ("一二三四五。六七八九十", "一二三四五。"),
        ("一二三四五六七八九十", "一二三四五六"),
        ("a" * 30, "a" * 20),
        ("a👍👍👍👍👍👍", "a👍👍👍👍"),
        ("12345678901234567890", "12345678901234567890"),
    ],
)
def test_pieces_are_cut_where_it_hurts_least(text: str, first: str) -> None:
    start, end = next(split_pieces(text.encode(), size=20))
    assert text.encode()[start:end].decode() == first


@given(st.text(st.sampled_from("ab .\n\r。！一é👍\u3000"), max_size=120), st.integers(4, 40))
def test_pieces_make_up_the_text_and_are_whole_characters(text: str, size: int) -> None:
    data = text.encode()
    pieces = [data[start:end] for start, end in split_pieces(data, size=size)]
    assert list(split_pieces(memoryview(data).cast("b"), size=size)) == list(split_pieces(data, size=size))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= size for piece in pieces)
    assert "".join(piece.decode() for piece in pieces) == text


@given(st.binary(max_size=80), st.integers(4, 10))
def test_pieces_of_bytes_that_are_no_text_make_them_up(data: bytes, size: int) -> None:
    assert b"".join(data[start:end] for start, end in split_pieces(data, size=size)) == data


def test_pieces_have_room_for_a_character() -> None:
    with pytest.raises(ValueError, match="size 3: expected at least 4"):
        list(split_pieces(b"x", size=3))
