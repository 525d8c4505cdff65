"""From the scores of pieces to the columns that are stored of each document.

Stored columns are what a scan pays the network for; `presentation.present` makes the rest from them.

Shapes: P pieces, W words, N tokens, U documents, D hidden.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rtdscan.transforms.bundle import BundleCard
from rtdscan.transforms.documents import Document
from rtdscan.transforms.embedding import EmbeddingMap, embeddings
from rtdscan.transforms.forward import Forward
from rtdscan.transforms.lexicon import LOOKED_UP
from rtdscan.transforms.presentation import mark_lists
from rtdscan.transforms.readout import text_levels, token_probabilities, word_probabilities
from rtdscan.transforms.records import Status
from rtdscan.transforms.settings import ScoreSettings
from rtdscan.transforms.tokens import Chunk


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks of several pieces, flat: how many each has, and where they are."""

    count_P: NDArray[np.int64]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    score: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PieceScores:
    """Scores of the pieces of a chunk. Sums are over the piece's words or tokens."""

    document_P: NDArray[np.int64]
    words_P: NDArray[np.int64]
    tokens_P: NDArray[np.int64]
    windows_P: NDArray[np.int64]
    unknown_P: NDArray[np.int64]
    spelled_P: NDArray[np.int64]
    listed_P: NDArray[np.int64]
    truncated_P: NDArray[np.bool_]
    sum_P: NDArray[np.float64]
    max_P: NDArray[np.float32]
    pooled_PD: NDArray[np.float32]
    candidates: Marks
    words: Marks | None
    tokens: Marks | None
    failed: dict[int, str]


def piece_scores(
    chunk: Chunk,
    forward: Forward,
    *,
    card: BundleCard,
    settings: ScoreSettings,
    lexical: Mapping[str, NDArray[np.float64]],
) -> PieceScores:
    """Read the network's output of a chunk out into scores of its pieces.

    Args:
        chunk: Tokens, words and windows.
        forward: The network's output.
        card: Readout and calibration.
        settings: Thresholds resolved.
        lexical: Features of the words' letters: those that the readout has and, where there is a lexicon, LOOKED_UP.
    """
    n_pieces = len(chunk.document_P)
    given = {name: lexical[name] for name in card.readout.coefficients if name in lexical}
    level_N = None
    if "level" in card.readout.coefficients:
        level_P = text_levels(forward.logit_N, pairs=chunk.pairs, words_T=chunk.words_P)
        given["level"], level_N = np.repeat(level_P, chunk.words_P), np.repeat(level_P, chunk.tokens_P)
    p_W = word_probabilities(card, logit_N=forward.logit_N, pairs=chunk.pairs, damaged_W=chunk.damaged_W, given=given)
    piece_W = np.repeat(np.arange(n_pieces), chunk.words_P)
    piece_B = np.repeat(np.arange(n_pieces), chunk.windows_P)
    max_P = np.zeros(n_pieces, dtype=np.float32)
    np.maximum.at(max_P, piece_W, p_W)
    pooled_PD = np.zeros((n_pieces, forward.pooled_BD.shape[1]), dtype=np.float32)
    np.add.at(pooled_PD, piece_B, forward.pooled_BD)
    every_W = np.ones(len(p_W), dtype=bool)
    spelled_W = listed_W = ~every_W
    if all(name in lexical for name in LOOKED_UP):
        spelled_W = lexical["digit"] + lexical["mark"] == 0
        listed_W = spelled_W & (lexical["unlisted"] == 0)
    tokens = None
    if settings.output.tokens:
        p_N = token_probabilities(card, forward.logit_N, pairs=chunk.pairs, given=given, level_N=level_N)
        tokens = Marks(chunk.tokens_P, chunk.start_N, chunk.end_N, p_N)
    return PieceScores(
        document_P=chunk.document_P,
        words_P=chunk.words_P,
        tokens_P=chunk.tokens_P,
        windows_P=chunk.windows_P,
        unknown_P=chunk.unknown_P,
        spelled_P=np.bincount(piece_W[spelled_W], minlength=n_pieces),
        listed_P=np.bincount(piece_W[listed_W], minlength=n_pieces),
        truncated_P=chunk.truncated_P,
        # bincount adds in order, one document at a time: neighbours can't change the rounding.
        sum_P=np.bincount(piece_W, p_W.astype(np.float64), minlength=n_pieces).astype(np.float64),
        max_P=max_P,
        pooled_PD=pooled_PD,
        candidates=_word_marks(chunk, piece_W, p_W, p_W >= _floor(settings)),
        words=_word_marks(chunk, piece_W, p_W, every_W) if settings.output.words else None,
        tokens=tokens,
        failed={int(chunk.document_P[piece_B[at]]): reason for at, reason in forward.failed.items()},
    )


def stored_columns(
    documents: Sequence[Document],
    parts: Sequence[PieceScores],
    *,
    settings: ScoreSettings,
    dims: int,
    embedding_map: EmbeddingMap | None = None,
) -> pa.Table:
    """Add up pieces to documents.

    Args:
        documents: All documents, scored or not.
        parts: Scores of their pieces, documents in ascending order.
        settings: Which columns there are.
        dims: D.
        embedding_map: The bundle's, where it has one.

    Returns:
        A row per document: status, reason, n_chars, n_words, n_tokens, n_windows, unk_share, score, max_score,
        candidates, and embedding, words, tokens as asked for; for the tally alone n_spelled and n_listed.
    """
    totals = _Totals.of(documents, parts, dims=dims)
    status, reason = _verdicts(documents, totals, limit=settings.limits.document_tokens)
    scored_U = np.array([s in ("ok", "truncated") for s in status], dtype=bool)
    words_U = np.where(scored_U, totals.words_U, 0)
    tokens_U = np.where(scored_U, totals.tokens_U, 0)
    columns: dict[str, pa.Array] = {
        "status": pa.array(status, pa.string()),
        "reason": pa.array(reason, pa.string()),
        "n_chars": pa.array([d.n_chars for d in documents], pa.int32()),
        "n_words": pa.array(words_U, pa.int32()),
        "n_tokens": pa.array(tokens_U, pa.int32()),
        "n_windows": pa.array(np.where(scored_U, totals.windows_U, 0), pa.int32()),
        "n_spelled": pa.array(np.where(scored_U, totals.spelled_U, 0), pa.int64()),
        "n_listed": pa.array(np.where(scored_U, totals.listed_U, 0), pa.int64()),
        "unk_share": _floats(totals.unknown_U / np.maximum(tokens_U, 1), scored_U),
        "score": _floats(totals.sum_U / np.maximum(words_U, 1), scored_U),
        "max_score": _floats(totals.max_U, scored_U),
        "candidates": _mark_column([part.candidates for part in parts], parts, scored_U),
    }
    if settings.output.embedding != "none":
        unit_UD, there_U = embeddings(totals.pooled_UD, tokens_U, embedding_map)
        columns["embedding"] = _embedding_column(unit_UD, scored_U & there_U, settings.output.embedding)
    for name in ("words", "tokens"):
        if getattr(settings.output, name):
            columns[name] = _mark_column([getattr(part, name) for part in parts], parts, scored_U)
    return pa.table(columns)


def refloored(previous: pa.Table, *, settings: ScoreSettings) -> pa.Table:
    """Stored columns of rows scored earlier, with the candidates of a floor that is no lower than theirs."""
    stored = previous.combine_chunks()
    candidates = _single(stored["candidates"])
    marks = candidates.flatten()
    keep = pc.greater_equal(marks.field("score"), pa.scalar(_floor(settings), pa.float32()))
    row_K = np.repeat(np.arange(len(candidates)), candidates.value_lengths().fill_null(0).to_numpy())
    kept = marks.filter(keep)
    counts = np.bincount(row_K[keep.to_numpy(zero_copy_only=False)], minlength=len(candidates))
    lists = mark_lists(counts, *(kept.field(name).to_numpy() for name in ("start", "end", "score")))
    null = pa.scalar(None, lists.type)
    column = pc.if_else(candidates.is_valid(), lists, null)
    return stored.set_column(stored.schema.get_field_index("candidates"), "candidates", column)


@dataclass(frozen=True, slots=True)
class _Totals:
    """Sums over the pieces of each document."""

    words_U: NDArray[np.int64]
    tokens_U: NDArray[np.int64]
    windows_U: NDArray[np.int64]
    unknown_U: NDArray[np.int64]
    spelled_U: NDArray[np.int64]
    listed_U: NDArray[np.int64]
    truncated_U: NDArray[np.int64]
    sum_U: NDArray[np.float64]
    max_U: NDArray[np.float32]
    pooled_UD: NDArray[np.float32]
    failed: dict[int, str]

    @staticmethod
    def of(documents: Sequence[Document], parts: Sequence[PieceScores], *, dims: int) -> "_Totals":
        n = len(documents)
        names = ("words", "tokens", "windows", "unknown", "spelled", "listed", "truncated")
        counts = {name: np.zeros(n, dtype=np.int64) for name in names}
        sum_U, max_U = np.zeros(n), np.zeros(n, dtype=np.float32)
        pooled_UD = np.zeros((n, dims), dtype=np.float32)
        failed: dict[int, str] = {}
        for part in parts:
            for name, total_U in counts.items():
                np.add.at(total_U, part.document_P, getattr(part, f"{name}_P"))
            np.add.at(sum_U, part.document_P, part.sum_P)
            np.maximum.at(max_U, part.document_P, part.max_P)
            np.add.at(pooled_UD, part.document_P, part.pooled_PD)
            failed |= part.failed
        by_document = {f"{name}_U": total_U for name, total_U in counts.items()}
        return _Totals(**by_document, sum_U=sum_U, max_U=max_U, pooled_UD=pooled_UD, failed=failed)


def _verdicts(documents: Sequence[Document], totals: _Totals, *, limit: int) -> tuple[list[Status], list[str | None]]:
    status: list[Status] = []
    reasons: list[str | None] = []
    for at, document in enumerate(documents):
        verdict: tuple[Status, str | None] = (document.status, document.reason)
        if document.status == "ok" and at in totals.failed:
            verdict = ("failed", totals.failed[at])
        elif document.status == "ok" and not totals.words_U[at]:
            verdict = ("empty", "no words")
        elif document.status == "ok" and totals.truncated_U[at]:
            verdict = ("truncated", f"only the first {limit} tokens were scored (limits.document_tokens)")
        status.append(verdict[0])
        reasons.append(verdict[1])
    return status, reasons


def _word_marks(
    chunk: Chunk, piece_W: NDArray[np.int64], p_W: NDArray[np.float32], chosen_W: NDArray[np.bool_]
) -> Marks:
    return Marks(
        np.bincount(piece_W[chosen_W], minlength=len(chunk.document_P)),
        chunk.start_W[chosen_W],
        chunk.end_W[chosen_W],
        p_W[chosen_W],
    )


def _mark_column(marks: Sequence[Marks], parts: Sequence[PieceScores], scored_U: NDArray[np.bool_]) -> pa.ListArray:
    """Marks of documents; null where nothing was scored."""
    n = len(scored_U)
    count_U = np.zeros(n, dtype=np.int64)
    for mark, part in zip(marks, parts, strict=True):
        np.add.at(count_U, part.document_P, mark.count_P)
    document_K = np.repeat(np.arange(n), count_U)
    keep_K = scored_U[document_K]
    flat = [
        np.concatenate([getattr(mark, name) for mark in marks] or [np.zeros(0, dtype)])[keep_K]
        for name, dtype in (("start", np.int32), ("end", np.int32), ("score", np.float32))
    ]
    lists = mark_lists(np.where(scored_U, count_U, 0), *flat)
    return pc.if_else(pa.array(scored_U), lists, pa.scalar(None, lists.type))


def _embedding_column(unit_UD: NDArray[np.float32], valid_U: NDArray[np.bool_], type_: str) -> pa.FixedSizeListArray:
    # Null numbers in a row that is there: pyarrow before 26 can write null rows of this type but not read them
    # (apache/arrow#35692), and Beam keeps us below 26.
    values = pa.array(unit_UD.astype(type_).ravel(), mask=np.repeat(~valid_U, unit_UD.shape[1]))
    return pa.FixedSizeListArray.from_arrays(values, unit_UD.shape[1])


def _floats(values_U: NDArray[Any], valid_U: NDArray[np.bool_]) -> pa.FloatArray:
    return pa.array(values_U.astype(np.float32), mask=~valid_U)


def _floor(settings: ScoreSettings) -> float:
    floor = settings.thresholds.floor
    if floor is None:
        raise ValueError("thresholds.floor must be resolved before scoring")
    return floor


def _single(column: pa.ChunkedArray) -> pa.Array:
    chunk = column.combine_chunks()
    return chunk.chunk(0) if isinstance(chunk, pa.ChunkedArray) and chunk.num_chunks == 1 else chunk
