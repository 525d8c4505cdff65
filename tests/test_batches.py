import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.transforms.batches import Batch, fill, plan_batches, scatter
from rtdscan.transforms.windows import Windows, cut_windows, join_windows

SPECIAL = {"pad": 0, "cls": 101, "sep": 102}


def lengths(windows: Windows) -> np.ndarray:
    return windows.end_B - windows.start_B + 2


@st.composite
def documents(draw: st.DrawFn) -> Windows:
    """Windows over a few documents laid end to end."""
    size = draw(st.integers(2, 10))
    parts = draw(st.lists(st.lists(st.booleans(), max_size=40), min_size=1, max_size=5))
    return join_windows([cut_windows(len(part), np.array(part, dtype=np.bool_), size=size) for part in parts])


def test_batches_by_hand() -> None:
    # Descending and stable: 30, 20, 20, 9, 3. Padded to 32: 96 // 32 = 3 rows; then 9 -> 16: 6 rows would fit.
    batches = plan_batches(np.array([20, 9, 30, 3, 20], dtype=np.int32), tokens=96, multiple=8)
    assert [(batch.rows_B.tolist(), batch.length) for batch in batches] == [([2, 0, 4], 32), ([1, 3], 16)]


def test_a_window_beyond_the_budget_goes_alone() -> None:
    batches = plan_batches(np.array([5, 50, 60], dtype=np.int32), tokens=16, multiple=8)
    assert [(batch.rows_B.tolist(), batch.length) for batch in batches] == [([2], 64), ([1], 56), ([0], 8)]


def test_no_windows_no_batches() -> None:
    assert plan_batches(np.zeros(0, dtype=np.int32), tokens=16) == []


@given(st.lists(st.integers(3, 40), max_size=60), st.integers(8, 200), st.sampled_from([1, 4, 8]))
def test_batches_hold_every_window_once_within_the_budget(values: list[int], tokens: int, multiple: int) -> None:
    length_W = np.array(values, dtype=np.int32)
    batches = plan_batches(length_W, tokens=tokens, multiple=multiple)
    assert sorted(row for batch in batches for row in batch.rows_B.tolist()) == list(range(len(values)))
    for batch in batches:
        assert batch.length % multiple == 0
        assert 0 <= batch.length - length_W[batch.rows_B].max() < multiple
        assert batch.length * len(batch.rows_B) <= tokens or len(batch.rows_B) == 1
    order = [row for batch in batches for row in batch.rows_B.tolist()]
    assert order == sorted(range(len(values)), key=lambda row: -values[row])  # sorted() is stable


def test_little_of_a_unit_is_padding() -> None:
    # Lengths as of articles in windows of 128: a third full, most ended at a sentence, some short.
    rng = np.random.default_rng(0)
    length_W = np.concatenate([np.full(700, 128), rng.integers(66, 129, 1200), rng.integers(3, 129, 300)]).astype(
        np.int32
    )
    batches = plan_batches(length_W, tokens=4096)
    assert 1 - length_W.sum() / sum(batch.length * len(batch.rows_B) for batch in batches) < 0.05


def test_fill_by_hand() -> None:
    # Two documents of 7 and 2 tokens; the first in windows [0, 6) and [4, 7), of which token 4 is the first one's.
    windows = Windows(*(np.array(column, dtype=np.int32) for column in ([0, 4, 7], [6, 7, 9], [0, 5, 7], [5, 7, 9])))
    ids = np.array([11, 12, 13, 14, 15, 16, 17, 21, 22], dtype=np.int32)
    filled = fill(Batch(rows_B=np.array([1, 2, 0]), length=9), ids, windows, **SPECIAL)
    assert filled.ids_BT.tolist() == [
        [101, 15, 16, 17, 102, 0, 0, 0, 0],
        [101, 21, 22, 102, 0, 0, 0, 0, 0],
        [101, 11, 12, 13, 14, 15, 16, 102, 0],
    ]
    assert filled.lengths_B.tolist() == [5, 4, 8]
    assert filled.weights_BT.tolist() == [
        [0, 0, 1, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 0, 0, 0],
    ]
    assert (filled.ids_BT.dtype, filled.lengths_B.dtype, filled.weights_BT.dtype) == (np.int32, np.int32, np.float32)


def test_a_window_that_does_not_fit_is_refused() -> None:
    windows = cut_windows(6, np.zeros(6, dtype=np.bool_), size=6)
    with pytest.raises(ValueError, match="a window of 8 tokens in a batch of length 7"):
        fill(Batch(rows_B=np.array([0]), length=7), np.arange(6, dtype=np.int32), windows, **SPECIAL)


@given(documents(), st.integers(8, 100), st.sampled_from([1, 8]), st.randoms(use_true_random=False))
def test_order_is_restored_whatever_the_batches(windows: Windows, tokens: int, multiple: int, random) -> None:
    n_tokens = int(windows.end_B.max(initial=0))
    ids = np.arange(1000, 1000 + n_tokens, dtype=np.int32)
    batches = plan_batches(lengths(windows), tokens=tokens, multiple=multiple)
    random.shuffle(batches)
    value_N = np.full(n_tokens, -1.0, dtype=np.float32)
    row_N = np.full(n_tokens, -1.0, dtype=np.float32)
    owned = np.zeros(len(windows), dtype=np.float32)
    for batch in batches:
        filled = fill(batch, ids, windows, **SPECIAL)
        scatter(batch, filled.ids_BT.astype(np.float32), windows, out_N=value_N)
        scatter(
            batch, np.broadcast_to(batch.rows_B[:, None], filled.ids_BT.shape).astype(np.float32), windows, out_N=row_N
        )
        owned[batch.rows_B] = filled.weights_BT.sum(axis=1)
    assert value_N.tolist() == ids.tolist()
    own_B = windows.own_end_B - windows.own_start_B
    assert row_N.tolist() == np.repeat(np.arange(len(windows)), own_B).tolist(), "the value is the owner's"
    assert owned.tolist() == own_B.tolist()
