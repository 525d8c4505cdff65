"""One pass over attribute rows: groups, score distribution, and a sample of documents. Memory is bounded.

Shapes: D documents, S sampled documents, E edges of bins.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rtdscan.pipeline.finished.folder import Finished, Shard, read_columns
from rtdscan.pipeline.finished.texts import Input
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.partitions import add_partitions
from rtdscan.transforms.tally import NULL, OTHER, Tally

SCORE_EDGES_E: NDArray[np.float64] = np.logspace(-4, 0, 4 * 12 + 1)
"""Edges of the histogram of scores: twelve a decade; lower scores count in the first bin."""

SHARDS = 4_000
"""Shards whose rows are looked at, at most; of more, the first by a hash of their names."""

SAMPLE = 1_200
"""Documents in the sample: as many points as a figure bears."""

VALUES = 5_000
"""Distinct values of a column that are told apart; those met later are added up as OTHER."""

READERS = 8
AT_ONCE = 64
"""Shards that are in memory at a time, a few columns of each."""


@dataclass(slots=True)
class Group:
    """Documents that have something in common, added up; the fields are sums over them."""

    rows: int = 0
    documents: int = 0
    words: int = 0
    flagged: int = 0
    score: float = 0.0
    review: int = 0
    drop: int = 0

    @property
    def share(self) -> float:
        """Flagged words of all words."""
        return self.flagged / max(self.words, 1)

    @staticmethod
    def of(tally: Tally) -> "Group":
        """The documents of a tally."""
        drop, review = tally.decisions.get("drop", 0), tally.decisions.get("review", 0)
        return Group(tally.rows, tally.documents, tally.words, tally.flagged, tally.score_sum, review, drop)


@dataclass(slots=True)
class Rows:
    """What the rows say.

    Attributes:
        rows: Rows that were looked at.
        shards, of: Shards that were looked at, and shards there are.
        scores_E: Documents by score, bins of SCORE_EDGES_E.
        words_S, score_S: The sample: lengths and scores of documents.
        lot_S: What decides who is in it: the smallest.
        groups: Column -> value -> its documents, of the rows that were looked at. A column that could not be read is
            missing.
    """

    rows: int = 0
    shards: int = 0
    of: int = 0
    scores_E: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(SCORE_EDGES_E) - 1, np.int64))
    words_S: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    score_S: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    lot_S: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    groups: dict[str, dict[str, Group]] = field(default_factory=dict)


def read_rows(finished: Finished, source: Input, *, by: Sequence[str]) -> Rows:
    """Read the rows of at most SHARDS shards.

    Args:
        finished: The scan.
        source: Its INPUT, for columns that were not carried along.
        by: Columns to group by.
    """
    shards = list(finished.shards())
    looked_at = by_lot(shards, n=SHARDS)
    found = Rows(shards=len(looked_at), of=len(shards), groups={name: {} for name in by})
    missing: set[str] = set()
    for shard, table, others in _tables(finished, source, looked_at, by=by):
        _add(found, shard, table)
        for name in by:
            values = table[name] if name in table.column_names else others[name] if others is not None else None
            if values is None:
                missing.add(name)
            else:
                _add_groups(found.groups[name], values, table, name=name)
    for name in missing:
        del found.groups[name]
    return found


def by_lot(shards: Sequence[Shard], *, n: int) -> list[Shard]:
    """At most `n` shards, chosen by their hash, in the order given."""
    if len(shards) <= n:
        return list(shards)
    taken = {shard.path for shard in sorted(shards, key=lambda shard: shard.lot)[:n]}
    return [shard for shard in shards if shard.path in taken]


def _tables(
    finished: Finished, source: Input, shards: Sequence[Shard], *, by: Sequence[str]
) -> Iterator[tuple[Shard, pa.Table, pa.Table | None]]:
    """Rows of shards in order, and the columns of `by` that only INPUT has."""
    wanted = ["row", "score", "n_words", "n_flagged", "decision", *by]

    def read(shard: Shard) -> tuple[Shard, pa.Table, pa.Table | None]:
        table = add_partitions(read_columns(finished.output, shard, wanted), shard.file)
        lacking = [name for name in by if name not in table.column_names]
        return shard, table, source.columns(shard, lacking) if lacking else None

    with ThreadPoolExecutor(READERS) as threads:
        for first in range(0, len(shards), AT_ONCE):
            yield from threads.map(read, shards[first : first + AT_ONCE])


def _add(found: Rows, shard: Shard, table: pa.Table) -> None:
    found.rows += table.num_rows
    scored = table.filter(pc.is_valid(table["score"]))
    score_D = scored["score"].to_numpy().astype(np.float64)
    inside_D = np.clip(score_D, SCORE_EDGES_E[0], SCORE_EDGES_E[-1])
    found.scores_E += np.histogram(inside_D, SCORE_EDGES_E)[0]
    lot_S = np.concatenate([found.lot_S, _lots(shard.file, scored["row"].to_numpy())])
    words_S = np.concatenate([found.words_S, scored["n_words"].to_numpy().astype(np.int64)])
    score_S = np.concatenate([found.score_S, score_D])
    kept = np.argsort(lot_S, kind="stable")[:SAMPLE]
    found.lot_S, found.words_S, found.score_S = lot_S[kept], words_S[kept], score_S[kept]


def _lots(file: str, row_D: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A hash of file and row: splitmix64 of the row from where the file's hash begins."""
    seed = np.uint64(int.from_bytes(blake2b(file.encode(), digest_size=8).digest(), "little"))
    z = row_D.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + seed
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _add_groups(groups: dict[str, Group], values: Any, table: pa.Table, *, name: str) -> None:
    """Add a shard's rows to their groups."""
    names, group_D = _encoded(values, name=name)
    decision_D = table["decision"].to_numpy(zero_copy_only=False)
    score_D = table["score"].fill_null(0.0).to_numpy().astype(np.float64)
    sums = {
        "rows": np.ones(len(group_D)),
        "documents": table["score"].is_valid().to_numpy(zero_copy_only=False),
        "words": table["n_words"].to_numpy(),
        "flagged": table["n_flagged"].fill_null(0).to_numpy(),
        "score": score_D,
        "review": decision_D == "review",
        "drop": decision_D == "drop",
    }
    totals = {key: np.bincount(group_D, weight, minlength=len(names)) for key, weight in sums.items()}
    for at, value in enumerate(names):
        known = value in groups or len(groups) < VALUES
        group = groups.setdefault(value if known else OTHER, Group())
        for key, total in totals.items():
            added = total[at] if key == "score" else int(total[at])
            setattr(group, key, getattr(group, key) + added)


def _encoded(values: Any, *, name: str) -> tuple[list[str], NDArray[np.int64]]:
    """Distinct values as text, and which of them each row has."""
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(column, pa.ChunkedArray):  # large columns stay in chunks
        column = pa.concat_arrays(column.chunks)
    if isinstance(column, pa.DictionaryArray):
        column = column.cast(column.type.value_type)
    type_ = column.type
    if isinstance(column, pa.ExtensionArray):  # UUIDs, JSON
        column = column.storage
    if pa.types.is_nested(column.type):
        raise UserError(f"report.by: column {name} is {type_}; expected single values")
    encoded = _encodable(column).dictionary_encode(null_encoding="encode")
    values = encoded.dictionary
    if isinstance(type_, pa.BaseExtensionType) and values.type == type_.storage_type:
        values = pa.ExtensionArray.from_storage(type_, values)  # which prints a UUID as one
    names = [NULL if value is None else str(value)[:200] for value in values.to_pylist()]
    return names, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _encodable(column: pa.Array) -> pa.Array:
    """The same values in a type that Arrow can encode, with its nulls, and Python can hold."""
    type_ = column.type
    if pa.types.is_float16(type_):
        return column.cast(pa.float32())
    if pa.types.is_decimal32(type_) or pa.types.is_decimal64(type_):
        return column.cast(pa.decimal128(type_.precision, type_.scale))
    if pa.types.is_string_view(type_) or pa.types.is_binary_view(type_):
        return column.cast(pa.large_string() if pa.types.is_string_view(type_) else pa.large_binary())
    if pa.types.is_timestamp(type_) and type_.unit == "ns":
        return column.cast(pa.timestamp("us", type_.tz), safe=False)
    if pa.types.is_duration(type_) and type_.unit == "ns":
        return column.cast(pa.duration("us"), safe=False)
    return column.cast(pa.time64("us"), safe=False) if type_ == pa.time64("ns") else column
