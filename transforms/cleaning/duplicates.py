"""Which rows say the same as an earlier one: equal texts by hash, similar ones by their embeddings.

Rows have numbers in corpus order. Equal texts: a 128-bit hash a row, in parts that fit into memory, so any number of
rows. Similar texts: each row against all that are kept before it, in blocks of matrix products in float32: no pair is
missed, but time is n * kept * D, so the caller bounds n. 200,000 rows of 384 numbers are 15 T multiplications (some
minutes on two cores) and 0.5 GB.

A discriminator's embeddings tell kinds of text apart better than texts: on 1,441 articles and chapters, centred, 100
pairs had a cosine of .9 or more, most of them chapters of different novels, and the two pairs that shared more than a
third of their word triples (.88 and .70 of them) had .92 and .97. So a pair must also share word triples, of which 64
numbers a row are kept (MinHash; Broder 1997): the error of the share is .06.

Shapes: N rows, K duplicates, D numbers of an embedding, B rows of a block, H hashes of a sketch.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rtdscan.transforms.columns import as_binary

PART_ROWS = 16_000_000
"""Rows whose hashes are looked at together: 24 bytes each, and as much again while they are sorted."""

BLOCK = 1_024

HASHES = 64
"""H: numbers of a row's sketch."""

_CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORDS = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
"""Words; in scripts without spaces, characters."""

_RANDOM = np.random.default_rng(20261121)
_FACTOR_H, _SHIFT_H = (_RANDOM.integers(0, 2**64, HASHES, np.uint64) | np.uint64(1) for _ in range(2))
_FACTOR_3 = _RANDOM.integers(0, 2**64, 3, np.uint64) | np.uint64(1)

ROUNDING = 1e-3
"""How far the cosine of two vectors of float16 is from that of the vectors: of two equal ones it may be .9995."""

CENTER_FROM = 100
"""Rows from which on embeddings are centred: of few rows each is a large part of the mean, so that what is left of two
equal ones may point anywhere."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Duplicates, by row number, ascending.

    Attributes:
        row_K: The duplicate.
        first_K: The first kept row that it repeats.
        cosine_K: Of the two embeddings; NaN where the texts are equal.
    """

    row_K: NDArray[np.int64]
    first_K: NDArray[np.int64]
    cosine_K: NDArray[np.float32]

    def __add__(self, other: "Marks") -> "Marks":
        """Both, ascending; no row may be in both."""
        row_K = np.concatenate([self.row_K, other.row_K])
        order = np.argsort(row_K, kind="stable")
        first_K = np.concatenate([self.first_K, other.first_K])
        return Marks(row_K[order], first_K[order], np.concatenate([self.cosine_K, other.cosine_K])[order])

    def led_on(self, other: "Marks") -> "Marks":
        """The same, where a first row is itself a duplicate in `other` with the first row of that."""
        if not len(other.row_K):
            return self
        at_K = np.minimum(np.searchsorted(other.row_K, self.first_K), len(other.row_K) - 1)
        on_K = other.row_K[at_K] == self.first_K
        first_K = np.where(on_K, other.first_K[at_K], self.first_K)
        return Marks(self.row_K, first_K, np.where(on_K, other.cosine_K[at_K], self.cosine_K).astype(np.float32))

    @staticmethod
    def none() -> "Marks":
        """No duplicates."""
        return Marks(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def text_digests(texts: pa.Array) -> NDArray[np.uint64]:
    """blake2b-128 of texts: (N, 2). However a text is typed, the same bytes give the same; a null gives (0, 0)."""
    values = as_binary(texts)
    found = np.zeros((len(values), 2), np.uint64)
    for row, value in enumerate(values):
        data = value.as_buffer()
        if data is not None:
            found[row] = np.frombuffer(blake2b(memoryview(data), digest_size=16).digest(), np.uint64)
    return found


def sketches(texts: pa.Array) -> NDArray[np.uint32]:
    """MinHash of the word triples of texts, small and capital letters alike: (N, H).

    The share of numbers that two rows have in common estimates the share of triples that they have. A text without
    words gives zeros.
    """
    values = as_binary(texts)
    found = np.zeros((len(values), HASHES), np.uint32)
    known: dict[str, int] = {}
    for row, value in enumerate(values):
        data = value.as_buffer()
        words = _WORDS.findall(str(memoryview(data), "utf-8", "replace").lower()) if data is not None else []
        if words:
            for word in words:
                if word not in known:
                    known[word] = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
            found[row] = _sketch(np.array([known[word] for word in words], np.uint64))
    return found


def _sketch(word_W: NDArray[np.uint64]) -> NDArray[np.uint32]:
    padded = np.pad(word_W, (0, max(0, 3 - len(word_W))))
    triple_N = sum(padded[at : len(padded) - 2 + at] * _FACTOR_3[at] for at in range(3))
    least_H = np.full(HASHES, 2**32 - 1, np.uint32)
    for at in range(0, len(triple_N), 4 * BLOCK):
        piece_HN = (triple_N[None, at : at + 4 * BLOCK] ^ _SHIFT_H[:, None]) * _FACTOR_H[:, None]
        least_H = np.minimum(least_H, (piece_HN >> np.uint64(32)).astype(np.uint32).min(axis=1))
    return np.maximum(least_H, 1)  # 0 is for texts without words


def equal_rows(
    read: Callable[[], Iterable[tuple[NDArray[np.int64], NDArray[np.uint64]]]], *, rows: int, part_rows: int = PART_ROWS
) -> Marks:
    """Rows whose text is equal to an earlier one's.

    Args:
        read: Gives row numbers and digests (n,) and (n, 2) in pieces, in corpus order; called once a part.
        rows: How many there are in all.
        part_rows: Rows that are looked at together at most.
    """
    parts = max(1, -(-rows // part_rows))
    found = Marks.none()
    for part in range(parts):
        chosen = [
            (row_N[mine], digest_N2[mine])
            for row_N, digest_N2 in read()
            if (mine := (digest_N2[:, 0] % np.uint64(parts) == part) & digest_N2.any(axis=1)).any()
        ]
        if chosen:
            found = found + _equal(np.concatenate([c[0] for c in chosen]), np.concatenate([c[1] for c in chosen]))
    return found


def _equal(row_N: NDArray[np.int64], digest_N2: NDArray[np.uint64]) -> Marks:
    order = np.lexsort((row_N, digest_N2[:, 1], digest_N2[:, 0]))
    row_N, digest_N2 = row_N[order], digest_N2[order]
    again = np.concatenate([[False], (digest_N2[1:] == digest_N2[:-1]).all(axis=1)])
    group = np.maximum.accumulate(np.where(again, 0, np.arange(len(row_N))))
    row_K, first_K = row_N[again], row_N[group[again]]
    ascending = np.argsort(row_K)
    return Marks(row_K[ascending], first_K[ascending], np.full(len(row_K), np.nan, np.float32))


def centered(vectors_ND: NDArray[np.floating]) -> NDArray[np.float16]:
    """Vectors minus their mean, of length 1 again; rows of NaN stay, a vector that is the mean becomes NaN."""
    there = ~np.isnan(vectors_ND[:, 0])
    total_D = np.zeros(vectors_ND.shape[1])
    for at in range(0, len(vectors_ND), BLOCK):
        rows = vectors_ND[at : at + BLOCK][there[at : at + BLOCK]]
        total_D += rows.sum(axis=0, dtype=np.float64)
    return unit(vectors_ND, minus=(total_D / max(1, there.sum())).astype(np.float32))


def unit(vectors_ND: NDArray[np.floating], *, minus: NDArray[np.float32] | None = None) -> NDArray[np.float16]:
    """Vectors, less one, of length 1; NaN where there is no direction."""
    found = np.empty(vectors_ND.shape, np.float16)
    for at in range(0, len(vectors_ND), BLOCK):
        rows = vectors_ND[at : at + BLOCK].astype(np.float32)
        rows = rows if minus is None else rows - minus
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        # Below this nothing but the rounding of float16 is left.
        found[at : at + BLOCK] = np.where(length > 1e-3, rows / np.maximum(length, 1e-3), np.nan)
    return found


def similar_rows(
    vectors_ND: NDArray[np.floating],
    *,
    threshold: float,
    center: bool,
    sketch_NH: NDArray[np.uint32] | None = None,
    overlap: float = 0.0,
) -> Marks:
    """Rows whose vector has at least a cosine with that of an earlier row that is none of these.

    Args:
        vectors_ND: Embeddings in corpus order; NaN where there is none: such a row is never a duplicate.
        threshold: Cosine, which ROUNDING may bring a pair below.
        center: Subtract the mean first, given CENTER_FROM rows or more.
        sketch_NH, overlap: Sketches of the texts, and the least share of them that such a pair has in common; not
            looked at where overlap is 0.

    Returns:
        Each with the first row that it is like. Every row that is not marked is unlike all unmarked ones before it.
    """
    threshold -= ROUNDING
    n = len(vectors_ND)
    many = n > 0 and np.count_nonzero(~np.isnan(vectors_ND[:, 0])) >= CENTER_FROM
    unit_ND = centered(vectors_ND) if center and many else unit(vectors_ND)
    first_N, cosine_N = np.full(n, -1), np.zeros(n, np.float32)  # -1: like no row before it

    def look(row: int, other_K: NDArray[np.int64], cosine_K: NDArray[np.float32]) -> None:
        """Note the first of the others that the row is like."""
        near_K = cosine_K >= threshold
        if sketch_NH is not None and overlap:
            near_K[near_K] = _alike(sketch_NH, row, other_K[near_K], overlap)
        if near_K.any():
            at = int(np.argmax(near_K))
            first_N[row], cosine_N[row] = other_K[at], cosine_K[at]

    kept_N = np.zeros(0, np.int64)
    for at in range(0, n, BLOCK):
        row_B = at + np.flatnonzero(~np.isnan(unit_ND[at : at + BLOCK, 0]))
        block_BD = unit_ND[row_B].astype(np.float32)
        for past in range(0, len(kept_N), 8 * BLOCK):
            kept_K = kept_N[past : past + 8 * BLOCK]
            open_B = np.flatnonzero(first_N[row_B] < 0)
            cosine_BK = block_BD[open_B] @ unit_ND[kept_K].astype(np.float32).T
            for b in np.flatnonzero((cosine_BK >= threshold).any(axis=1)):
                look(row_B[open_B[b]], kept_K, cosine_BK[b])
        cosine_BB = block_BD @ block_BD.T
        for b in np.flatnonzero((np.tril(cosine_BB, -1) >= threshold).any(axis=1) & (first_N[row_B] < 0)):
            kept_B = np.flatnonzero(first_N[row_B[:b]] < 0)  # who is like another is nobody's first
            look(row_B[b], row_B[kept_B], cosine_BB[b, kept_B])
        kept_N = np.concatenate([kept_N, row_B[first_N[row_B] < 0]])
    row_K = np.flatnonzero(first_N >= 0)
    return Marks(row_K, first_N[row_K], cosine_N[row_K])


def _alike(sketch_NH: NDArray[np.uint32], row: int, others: NDArray[np.int64], overlap: float) -> NDArray[np.bool_]:
    """Which of the others have enough of their texts in common with the row."""
    mine_H = sketch_NH[row]
    share: NDArray[np.float64] = ((sketch_NH[others] == mine_H) & (mine_H != 0)).mean(axis=1)
    return share >= overlap
