"""Additive statistics of a scan: `Tally.zero()`, `a + b`, `tally.metrics()`.

A shard's footer carries its tally, so a later scan adds up what is already there without reading a row.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rtdscan.transforms.columns import as_binary, is_bytes_like, is_string_like

SCORE_EDGES: tuple[float, ...] = tuple(round(0.01 * i, 2) for i in range(101))
"""Edges of the histogram of document scores: hundredths."""

LENGTH_EDGES: tuple[int, ...] = (0, *(2**i for i in range(25)))
"""Edges of the histogram of document lengths in words: powers of two; the last bin is open."""

WORST = 20
"""Documents with the highest scores that a tally remembers."""

VALUES = 200
"""Values of a user's column that are counted by name; the rest is counted together, under OTHER."""

_COUNTED = (
    "row", "status", "n_chars", "n_words", "n_tokens", "n_windows", "unk_share", "score", "n_flagged", "embedding",
    "decision",
)  # fmt: skip

OTHER, NULL = "(other)", "(null)"

VALUE_CHARS = 100
"""Characters of a value that name it."""


@dataclass(frozen=True, slots=True)
class Worst:
    """A document among the worst: where it is and how bad."""

    score: float
    file: str
    row: int
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over documents. Adding is associative and commutative; `zero` is neutral.

    Attributes:
        rows: Input rows.
        statuses, decisions: Rows by status and by decision.
        documents: Rows with a score.
        chars, words, tokens, windows, unknown, flagged: Sums over documents; unknown: tokens outside the vocabulary.
        score_sum: Sum of document scores.
        expected: Sum over documents of score * words: the expected number of words that do not belong.
        scores: Documents by score, bins of SCORE_EDGES.
        lengths: Documents by words, bins of LENGTH_EDGES.
        embedding_sum: Sum of the documents' embeddings; empty where there are none.
        worst: The WORST documents, worst first.
        by: For columns of the user's, by name: the tally of the rows of each value, without embeddings and worst.
        spelled, listed: Words with letters and no digit, and those of them that the model's lexicon lists. Both 0 where
            there is no lexicon, in `by`, and in shards of before they were counted.
    """

    rows: int
    statuses: dict[str, int]
    decisions: dict[str, int]
    documents: int
    chars: int
    words: int
    tokens: int
    windows: int
    unknown: int
    flagged: int
    score_sum: float
    expected: float
    scores: tuple[int, ...]
    lengths: tuple[int, ...]
    embedding_sum: tuple[float, ...]
    worst: tuple[Worst, ...]
    by: "dict[str, dict[str, Tally]]" = field(default_factory=dict)
    spelled: int = 0
    listed: int = 0

    @staticmethod
    def zero() -> "Tally":
        """The tally of no documents."""
        return Tally(
            rows=0, statuses={}, decisions={}, documents=0, chars=0, words=0, tokens=0, windows=0, unknown=0, flagged=0,
            score_sum=0.0, expected=0.0, scores=(0,) * (len(SCORE_EDGES) - 1), lengths=(0,) * len(LENGTH_EDGES),
            embedding_sum=(), worst=(),
        )  # fmt: skip

    def __add__(self, other: "Tally") -> "Tally":
        """The tally of both sets of documents."""
        worst = sorted((*self.worst, *other.worst), key=lambda w: (-w.score, w.file, w.row))[:WORST]
        return Tally(
            rows=self.rows + other.rows,
            statuses=_added(self.statuses, other.statuses),
            decisions=_added(self.decisions, other.decisions),
            documents=self.documents + other.documents,
            chars=self.chars + other.chars,
            words=self.words + other.words,
            tokens=self.tokens + other.tokens,
            windows=self.windows + other.windows,
            unknown=self.unknown + other.unknown,
            flagged=self.flagged + other.flagged,
            score_sum=self.score_sum + other.score_sum,
            expected=self.expected + other.expected,
            scores=tuple(a + b for a, b in zip(self.scores, other.scores, strict=True)),
            lengths=tuple(a + b for a, b in zip(self.lengths, other.lengths, strict=True)),
            embedding_sum=_summed(self.embedding_sum, other.embedding_sum),
            worst=tuple(worst),
            by={
                column: _joined(self.by.get(column, {}), other.by.get(column, {})) for column in {**self.by, **other.by}
            },
            spelled=self.spelled + other.spelled,
            listed=self.listed + other.listed,
        )

    def metrics(self) -> dict[str, float]:
        """What gates and summaries speak of.

        Returns:
            `flagged_share` (of words), `mean_score` (over documents), `expected_share` (of words), `unknown_share` (of
            tokens), `drop_share`, `review_share`, a share of rows for each status but ok, and the counts. Names and
            what they are shares of: `gates.METRICS`.
        """
        return {
            "rows": self.rows,
            "documents": self.documents,
            "words": self.words,
            "tokens": self.tokens,
            "flagged": self.flagged,
            "flagged_share": self.flagged / max(self.words, 1),
            "mean_score": self.score_sum / max(self.documents, 1),
            "expected_share": self.expected / max(self.words, 1),
            "unknown_share": self.unknown / max(self.tokens, 1),
            "drop_share": self.decisions.get("drop", 0) / max(self.rows, 1),
            "review_share": self.decisions.get("review", 0) / max(self.rows, 1),
            **{
                f"{status}_share": self.statuses.get(status, 0) / max(self.rows, 1)
                for status in ("empty", "null", "invalid", "truncated", "failed")
            },
        }

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it. Equal tallies give equal lines."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Tally":
        """Read what `to_json` wrote."""
        return Tally.from_fields(json.loads(text))

    @staticmethod
    def from_fields(fields: Mapping[str, Any]) -> "Tally":
        """Read what `dataclasses.asdict` gave, lists for tuples."""
        read = {name: tuple(fields[name]) for name in ("scores", "lengths", "embedding_sum")}
        by = {
            column: {value: Tally.from_fields(inner) for value, inner in values.items()}
            for column, values in fields.get("by", {}).items()
        }
        worst = tuple(Worst(**worst) for worst in fields["worst"])
        return Tally(**{**fields, **read, "worst": worst, "by": by})


def tally_attributes(attributes: pa.Table, *, file: str, by: pa.Table | None = None) -> Tally:
    """The tally of a shard's rows; `spelled` and `listed`, which rows don't tell, are 0.

    Args:
        attributes: Rows of `records.attribute_schema`.
        file: Relative path of the input file, for the list of the worst documents.
        by: Columns of the same rows by whose values there are tallies too.
    """
    there = pc.is_valid(attributes["score"])
    scored = _counted(attributes).filter(there)
    score_D = scored["score"].to_numpy().astype(np.float64)
    words_D = scored["n_words"].to_numpy()
    unknown_D = scored["unk_share"].to_numpy().astype(np.float64) * scored["n_tokens"].to_numpy()
    return Tally(
        rows=attributes.num_rows,
        statuses=dict(sorted(Counter(attributes["status"].to_pylist()).items())),
        decisions=dict(sorted(Counter(attributes["decision"].to_pylist()).items())),
        documents=scored.num_rows,
        chars=_sum(attributes, "n_chars"),
        words=_sum(attributes, "n_words"),
        tokens=_sum(attributes, "n_tokens"),
        windows=_sum(attributes, "n_windows"),
        unknown=int(np.rint(unknown_D).sum()),
        flagged=_sum(attributes, "n_flagged"),
        score_sum=float(score_D.sum()),
        expected=float((score_D * words_D).sum()),
        scores=tuple(np.histogram(score_D, SCORE_EDGES)[0].tolist()),
        lengths=tuple(np.histogram(words_D, (*LENGTH_EDGES, np.inf))[0].tolist()),
        embedding_sum=_embedding_sum(scored),
        worst=_worst(attributes, np.flatnonzero(there.to_numpy()), score_D, file),
        by={} if by is None else {name: _by_value(attributes, by[name]) for name in by.column_names},
    )


def _by_value(attributes: pa.Table, values: pa.ChunkedArray) -> dict[str, Tally]:
    """The tally of the rows of each value."""
    numbers = _counted(attributes)
    if "embedding" in numbers.column_names:
        numbers = numbers.drop_columns("embedding")
    names, name_R = _named(values)
    kept = _kept(names)
    slot_N = np.array([at if name in kept else len(names) for at, name in enumerate(names)], dtype=np.int64)
    slot_R = slot_N[name_R]
    return {
        (*names, OTHER)[at]: replace(tally_attributes(numbers.filter(pa.array(slot_R == at)), file=""), worst=())
        for at in np.unique(slot_R)
    }


def _named(values: pa.ChunkedArray) -> tuple[list[str], "np.ndarray[Any, np.dtype[np.int64]]"]:
    """The names of a column's values, and for each row which it has. What has no short name is OTHER."""
    known = values.combine_chunks()
    if isinstance(known, pa.ChunkedArray):
        known = pa.concat_arrays(known.chunks)
    if not (is_string_like(known.type) or is_bytes_like(known.type)):
        try:
            known = known.cast(pa.string())
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists and the like; another type in one file of many
            return [OTHER], np.zeros(len(known), dtype=np.int64)
    codes = as_binary(known).dictionary_encode()
    name_U = [str(value, "utf-8", "replace")[:VALUE_CHARS] for value in codes.dictionary.to_pylist()]
    number = {name: at for at, name in enumerate(sorted({*name_U, NULL}))}
    number_U = np.array([*(number[name] for name in name_U), number[NULL]], dtype=np.int64)
    return list(number), number_U[codes.indices.fill_null(len(name_U)).to_numpy()]


def surely_absent(value: str, counted: Mapping[str, Tally]) -> bool:
    """Whether a value that is not among those counted has no rows, and is not merely part of OTHER.

    The smallest hashes are kept, so what is missing has no row if its hash is smaller than one that was kept. Fewer
    than VALUES names beside OTHER come from a file whose column has no names (lists): its values may be any.

    Args:
        value: A value that is missing.
        counted: The tallies of a column's values, of `Tally.by`.
    """
    if OTHER not in counted or value == NULL:
        return True
    named = [_order(name) for name in counted if name not in (OTHER, NULL)]
    return len(named) >= VALUES and _order(value) < max(named)


def _order(value: str) -> bytes:
    return blake2b(value.encode(), digest_size=8).digest()


def _kept(values: Sequence[str]) -> set[str]:
    """The VALUES values with the smallest hashes: whatever the order in which tallies are added, the same ones.

    Not the most frequent ones: which these are is not known before all are counted.
    """
    named = {value for value in values if value not in (OTHER, NULL)}
    if len(named) > VALUES:
        named = set(sorted(named, key=_order)[:VALUES])
    return {*named, NULL}


def _joined(a: dict[str, Tally], b: dict[str, Tally]) -> dict[str, Tally]:
    """Tallies of values added up; those of values too many under OTHER."""
    kept = _kept([*a, *b])
    joined: dict[str, Tally] = {}
    for values in (a, b):
        for value, tally in values.items():
            name = value if value in kept else OTHER
            joined[name] = joined[name] + tally if name in joined else tally
    return dict(sorted(joined.items()))


def _counted(attributes: pa.Table) -> pa.Table:
    """The columns that are counted; of the user's none, for Arrow can't filter all types that these may have."""
    return attributes.select([name for name in attributes.column_names if name in _COUNTED])


def _sum(table: pa.Table, column: str) -> int:
    return int(pc.sum(table[column]).as_py() or 0)


def _embedding_sum(scored: pa.Table) -> tuple[float, ...]:
    if "embedding" not in scored.column_names or scored.num_rows == 0:
        return ()
    values = scored["embedding"].combine_chunks().flatten()
    values_DE = values.cast(pa.float32()).fill_null(0.0).to_numpy().reshape(scored.num_rows, -1).astype(np.float64)
    return tuple(np.round(values_DE.sum(axis=0), 6).tolist())


def _worst(
    attributes: pa.Table, row_D: "np.ndarray[Any, np.dtype[np.int64]]", score_D: "np.ndarray[Any, Any]", file: str
) -> tuple[Worst, ...]:
    """Of documents by their rows in the table."""
    ids = attributes["id"] if "id" in attributes.column_names else None
    worst = []
    for at in np.argsort(-score_D, kind="stable")[:WORST].tolist():
        row = int(row_D[at])
        id_ = None if ids is None else _printable(ids[row])
        worst.append(Worst(score=float(score_D[at]), file=file, row=attributes["row"][row].as_py(), id=id_))
    return tuple(worst)


def _printable(id_: pa.Scalar) -> str | None:
    """An id as text; what is not UTF-8 in a string is escaped, not refused."""
    if not id_.is_valid:
        return None
    if is_string_like(id_.type) and not pa.types.is_dictionary(id_.type):
        return bytes(id_.as_buffer()).decode("utf-8", "backslashreplace")
    if pa.types.is_duration(id_.type):
        id_ = id_.cast(pa.int64())
    elif pa.types.is_temporal(id_.type):  # Python has no nanoseconds and no years past 9999
        id_ = id_.cast(pa.string())
    return str(id_.as_py())


def _added(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in sorted({*a, *b})}


def _summed(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    if not a or not b:
        return a or b
    return tuple(x + y for x, y in zip(a, b, strict=True))
