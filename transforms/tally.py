"""Additive statistics of a scan: `Tally.zero()`, `a + b`, `tally.metrics()`.

A shard's footer carries its tally, so a later scan adds up what is already there without reading a row.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SCORE_EDGES: tuple[float, ...] = tuple(round(0.01 * i, 2) for i in range(101))
"""Edges of the histogram of document scores: hundredths."""

LENGTH_EDGES: tuple[int, ...] = (0, *(2**i for i in range(25)))
"""Edges of the histogram of document lengths in words: powers of two; the last bin is open."""

WORST = 20
"""Documents with the highest scores that a tally remembers."""


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
        )

    def metrics(self) -> dict[str, float]:
        """What gates and summaries speak of.

        Returns:
            `flagged_share` (of words), `mean_score` (over documents), `expected_share` (of words), `drop_share`,
            `review_share`, `failed_share` (of rows), `unknown_share` (of tokens), and the counts.
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
            "failed_share": self.statuses.get("failed", 0) / max(self.rows, 1),
        }

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it. Equal tallies give equal lines."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Tally":
        """Read what `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        fields["worst"] = tuple(Worst(**worst) for worst in fields["worst"])
        for name in ("scores", "lengths", "embedding_sum"):
            fields[name] = tuple(fields[name])
        return Tally(**fields)


def tally_attributes(attributes: pa.Table, *, file: str) -> Tally:
    """The tally of a shard's rows.

    Args:
        attributes: Rows of `records.attribute_schema`.
        file: Relative path of the input file, for the list of the worst documents.
    """
    scored = attributes.filter(pc.is_valid(attributes["score"]))
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
        worst=_worst(scored, score_D, file),
    )


def _sum(table: pa.Table, column: str) -> int:
    return int(pc.sum(table[column]).as_py() or 0)


def _embedding_sum(scored: pa.Table) -> tuple[float, ...]:
    if "embedding" not in scored.column_names or scored.num_rows == 0:
        return ()
    values = scored["embedding"].combine_chunks().flatten()
    values_DE = values.cast(pa.float32()).fill_null(0.0).to_numpy().reshape(scored.num_rows, -1).astype(np.float64)
    return tuple(np.round(values_DE.sum(axis=0), 6).tolist())


def _worst(scored: pa.Table, score_D: "np.ndarray[Any, np.dtype[np.float64]]", file: str) -> tuple[Worst, ...]:
    order = np.argsort(-score_D, kind="stable")[:WORST]
    rows = scored["row"].take(pa.array(order)).to_pylist()
    ids: Sequence[Any] = [None] * len(order)
    if "id" in scored.column_names:
        ids = scored["id"].take(pa.array(order)).to_pylist()
    return tuple(
        Worst(score=float(score_D[at]), file=file, row=row, id=None if id_ is None else str(id_))
        for at, row, id_ in zip(order, rows, ids, strict=True)
    )


def _added(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in sorted({*a, *b})}


def _summed(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    if not a or not b:
        return a or b
    return tuple(x + y for x, y in zip(a, b, strict=True))
