"""Embeddings: numbers by hand, and the map that a bundle may bring."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.embedding import EMBEDDING_FILE, EmbeddingMap, embeddings
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import OutputSettings, ScoreSettings

SWAP = EmbeddingMap(np.array([1, 0], np.float32), np.array([[0, 2], [1, 0]], np.float32))
"""(x, y) -> (y, 2 (x - 1))."""


def test_by_hand() -> None:
    sums = np.array([[6, 8], [0, 0], [4, 0]], np.float32)
    tokens = np.array([2, 0, 4])
    plain, there = embeddings(sums, tokens, None)
    np.testing.assert_allclose(plain, [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)
    assert there.tolist() == [True, False, True]
    mapped, there = embeddings(sums, tokens, SWAP)
    # (3, 4) -> (4, 4); the third is (1, 0), the very mean: no direction is left.
    np.testing.assert_allclose(mapped[0], [0.5**0.5, 0.5**0.5], rtol=1e-6)
    assert there.tolist() == [True, False, False]


@given(hnp.arrays(np.float32, (7, 16), elements=st.floats(-100, 100, width=32)), st.integers(0, 6))
def test_a_row_does_not_depend_on_the_others(sums: np.ndarray, row: int) -> None:
    rng = np.random.default_rng(0)
    mapped = EmbeddingMap(*(rng.normal(size=shape).astype(np.float32) for shape in (16, (16, 16))))
    together, _ = embeddings(sums, np.full(7, 3), mapped)
    alone, _ = embeddings(sums[row : row + 1], np.full(1, 3), mapped)
    assert together[row].tobytes() == alone[0].tobytes()


def test_the_bundle_brings_it(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    before = load_bundle(str(tiny_bundle))
    rng = np.random.default_rng(1)
    dims = before.config.dims
    mapped = EmbeddingMap(rng.normal(size=dims).astype(np.float32), rng.normal(size=(dims, dims)).astype(np.float32))
    mapped.save(folder / EMBEDDING_FILE)
    read = EmbeddingMap.read(folder, dims=dims)
    assert read is not None
    np.testing.assert_allclose(read.weight_DD, mapped.weight_DD, atol=2e-3)  # float16
    after = load_bundle(str(folder))
    assert after.digest != before.digest
    settings = ScoreSettings(engine="torch", precision="float32", output=OutputSettings(embedding="float32"))
    table = pa.table({"text": ["a long day at the house", "", "water and light", "a long day at the house"]})
    plain, told = (Scorer.from_bundle(bundle, settings=settings).score(table) for bundle in (before, after))
    assert plain.drop(["embedding"]).equals(told.drop(["embedding"]))  # verdicts stay as they are
    vectors = told["embedding"].to_pylist()
    assert vectors[0] == vectors[3] != vectors[2]
    assert vectors[0] != plain["embedding"].to_pylist()[0]
    np.testing.assert_allclose(np.linalg.norm(vectors[0]), 1, rtol=1e-6)
    assert vectors[1] == [None] * dims


def test_of_another_network_or_damaged(tiny_bundle: Path, tmp_path: Path) -> None:
    assert EmbeddingMap.read(tiny_bundle, dims=32) is None
    SWAP.save(tmp_path / EMBEDDING_FILE)
    with pytest.raises(UserError, match=r"expected mean \[32\] and weight \[32, 32\]"):
        EmbeddingMap.read(tmp_path, dims=32)
    (tmp_path / EMBEDDING_FILE).write_bytes(b"no")
    with pytest.raises(UserError, match="can be read"):
        EmbeddingMap.read(tmp_path, dims=32)
