"""Scorer: a table of texts in, a table of attributes out. The in-memory twin of the scan.

    scorer = Scorer.load()                                       # the bundled English model
    attributes = scorer.score(pa.table({"text": ["He goes too school."]}))
    attributes["spans"][0].as_py()                               # [{"start": 8, "end": 11, "score": …}]

A text's attributes depend on the text, the model and the settings alone: not on the other texts, not on the batch.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rtdscan.transforms.bundle import Bundle, load_bundle
from rtdscan.transforms.candidates import evidence
from rtdscan.transforms.columns import as_binary, as_table, distinct, find_text_column, read_column
from rtdscan.transforms.documents import NULL, Document, failed_document, read_document
from rtdscan.transforms.embedding import EmbeddingMap
from rtdscan.transforms.engines import Engine, load_engine
from rtdscan.transforms.engines.quantised import Ranges
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.forward import Known
from rtdscan.transforms.gaps import GapReader, load_reader
from rtdscan.transforms.lexicon import Lexicon
from rtdscan.transforms.pace import OnTokens
from rtdscan.transforms.pieces import score_pieces
from rtdscan.transforms.presentation import present
from rtdscan.transforms.records import attribute_schema
from rtdscan.transforms.resolved import ranges_for, resolve_settings
from rtdscan.transforms.settings import OutputSettings, ScoreSettings, SuggestSettings, Thresholds
from rtdscan.transforms.stored import PieceScores, refloored, stored_columns
from rtdscan.transforms.suggest import Suggester, add_suggestions
from rtdscan.transforms.tokens import Piece

CHUNK_BYTES = 2 << 20
"""Text whose windows are sorted by length at once; equal ones are looked for in all chunks of a table (forward.Known).

Scoring takes about 20 bytes of memory a byte of it, so it bounds what a worker needs whatever the size of its units.
Padding of encyclopedia articles is 3.7 % at this size, 3.4 % at 4 MB.
"""

CHUNK_PIECES = 4096
"""Texts of a chunk at most: each costs a vector of D numbers whatever its length."""

OnDocument = Callable[[int | None], None]
OnListed = Callable[[int, int], None]


@dataclass(frozen=True, eq=False, repr=False)  # no slots: RunInference holds models by weak reference
class Scorer:
    """Scores texts. Make one with `load` in each process, after a fork; its threads may share it.

    Attributes:
        bundle: The model.
        engine: What runs it.
        lexicon, embedding_map: The bundle's, where it has one.
        settings: Resolved: engine, precision, window and thresholds are given.
        gaps: The bundle's generator, where it has one and suggestions are read in their context.
    """

    bundle: Bundle
    engine: Engine
    settings: ScoreSettings
    lexicon: Lexicon | None = None
    embedding_map: EmbeddingMap | None = None
    gaps: GapReader | None = None

    @staticmethod
    def load(model: str | os.PathLike[str] = "default", *, settings: ScoreSettings | None = None) -> "Scorer":
        """Load a model and choose what runs it.

        Args:
            model: "default", a bundle or ELECTRA directory, a hub name@revision, a s3:// or gs:// URL.
            settings: Everything else; its `model` is overridden.

        Raises:
            UserError: There is no such model, it can't serve, or the engine or precision that was asked for is not to
                be had here.
        """
        name = os.fspath(model)
        settings = (settings or ScoreSettings()).model_copy(update={"model": name})
        return Scorer.from_bundle(load_bundle(name), settings=settings)

    @staticmethod
    def from_bundle(bundle: Bundle, *, settings: ScoreSettings, ranges: Ranges | None = None) -> "Scorer":
        """As `load`, from a bundle that is already there.

        Args:
            bundle: The model.
            settings: Everything else; `model` says where it was loaded from, for pickling.
            ranges: For int8; None: those of the bundle, or found.
        """
        settings = resolve_settings(settings, bundle)
        engine = load_engine(
            bundle,
            engine=settings.engine,
            precision=settings.precision,
            threads=settings.threads,
            device=settings.device,
            ranges=ranges or ranges_for(settings, bundle),
        )
        return Scorer(
            bundle,
            engine,
            settings,
            bundle.lexicon(),
            EmbeddingMap.read(bundle.path, dims=bundle.config.dims),
            load_reader(bundle, settings=settings) if settings.suggest.reads else None,
        )

    def with_settings(self, settings: ScoreSettings) -> "Scorer":
        """The same network with other settings; model, engine, precision, device, threads stay, and what was loaded.

        Where suggestions are to be read in context and the generator was not loaded, it is now: keep the result.
        """
        chosen = {name: getattr(self.settings, name) for name in ("model", "engine", "precision", "device", "threads")}
        settings = resolve_settings(settings.model_copy(update=chosen), self.bundle)
        gaps = self.gaps or (load_reader(self.bundle, settings=settings) if settings.suggest.reads else None)
        return replace(self, settings=settings, gaps=gaps)

    def __repr__(self) -> str:
        """A line: the parts hold word lists and weights."""
        return f"Scorer({self.bundle.name}, {self.engine.name} {self.engine.precision})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, it is what it was loaded from: whoever unpickles it loads it again."""
        return _load_again, (self.settings, self.bundle.digest)

    def score(self, table: pa.Table, *, text: str | None = None, id: str | None = None) -> pa.Table:
        """Score every row of a table.

        Args:
            table: One text a row, in a string-like column; a table, or a data frame of pandas or Polars.
            text: Name of the text column; needed where there are several that could be.
            id: Name of a column to keep as `id`.

        Returns:
            One attribute row per row, in order (schema: records.attribute_schema).

        Raises:
            TypeError: It is no table.
            UserError: There is no such column, no single text column, or two columns would have one name.
        """
        table = as_table(table)
        name = find_text_column(table.schema, text, where="the table", told_by="text=")
        columns = self.settings.output.columns
        names = ["text", *(["id"] if id else []), *columns]
        carried = (read_column(table, column) for column in (*([id] if id else []), *columns))
        rows = pa.Table.from_arrays([as_binary(read_column(table, name)), *carried], names=names)
        self._schema(rows.schema)  # before anything is scored
        return self.score_rows(rows)

    def score_rows(
        self,
        rows: pa.Table,
        *,
        first_row: int = 0,
        failed: frozenset[int] = frozenset(),
        on_document: OnDocument | None = None,
        on_tokens: OnTokens | None = None,
        on_listed: OnListed | None = None,
    ) -> pa.Table:
        """Score rows as ReadDocuments gives them. Equal texts are scored once.

        Args:
            rows: First column: the texts as large_binary. Then `id` if there is one, and the columns to carry along.
            first_row: Number of the first row in its file.
            failed: Rows that are not to be tried, because they killed a worker.
            on_document: Called with each row's number before it is scored alone, with None after it; slow.
            on_tokens: Called now and then with the number of tokens scored since.
            on_listed: Called at the end with `spelled` and `listed` of all rows, see tally.Tally.

        Returns:
            One attribute row per row.
        """
        texts, kind_R, first_U = distinct(rows.column(0))
        doomed = {int(kind_R[row]) for row in failed}
        documents = [
            failed_document(data, "it killed its worker") if at in doomed else read_document(data)
            for at, data in enumerate(_views(texts))
        ]
        parts = list(self._score(documents, first_U=first_U, on_document=on_document, on_tokens=on_tokens))
        documents.append(NULL)
        stored = stored_columns(
            documents, parts, settings=self.settings, dims=self.engine.dims, embedding_map=self.embedding_map
        )
        told = self._presented(stored, lambda at: documents[at].text()).take(pa.array(kind_R))
        if on_listed is not None:
            on_listed(*(int(told[name].to_numpy().sum()) for name in ("n_spelled", "n_listed")))
        return self._attributes(told, rows, first_row=first_row)

    def rewrite(self, previous: pa.Table, rows: pa.Table, *, first_row: int = 0, hold: bool = False) -> pa.Table:
        """Make spans and decisions again from stored attributes. Equal texts are looked at once.

        No network runs, but for suggestions in context of spans that have none yet.

        Args:
            previous: The rows' attributes, scored at a `thresholds.floor` no higher than today's.
            rows: As for `score_rows`, with the same texts.
            first_row: Number of the first row in its file.
            hold: The suggestions of `previous` were made with these settings: a span that stays keeps them.
        """
        texts, kind_R, first_U = distinct(rows.column(0))
        views = list(_views(texts))
        given = {"row", *rows.column_names[1:]}  # Arrow can't take from every type that these may have
        own = previous.select([name for name in previous.column_names if name not in given])
        stored = refloored(own.take(pa.array(first_U[: kind_R.max(initial=-1) + 1])), settings=self.settings)
        made = stored["spans"].combine_chunks() if hold else None
        told = self._presented(stored, lambda at: str(views[at], "utf-8"), made=made).take(pa.array(kind_R))
        return self._attributes(told, rows, first_row=first_row)

    def restamp(self, previous: pa.Table, rows: pa.Table, *, first_row: int = 0) -> pa.Table:
        """Stored attributes that still hold, as a table that is written to the same bytes as a fresh one."""
        return self._attributes(previous, rows, first_row=first_row)

    def _score(
        self,
        documents: Sequence[Document],
        *,
        first_U: NDArray[np.int64],
        on_document: OnDocument | None,
        on_tokens: OnTokens | None,
    ) -> Iterator[PieceScores]:
        """Scores of all pieces, documents in ascending order."""
        pieces: list[Piece] = []
        known = Known()
        room = CHUNK_BYTES
        for at, document in enumerate(documents):
            if document.status != "ok":
                continue
            alone = document.long or on_document is not None
            if pieces and (alone or room < len(document.data) or len(pieces) == CHUNK_PIECES):
                yield self._score_pieces(pieces, known, on_tokens)
                pieces, room = [], CHUNK_BYTES
            if not alone:
                pieces += (replace(p, max_tokens=self.settings.limits.document_tokens) for p in document.pieces(at))
                room -= len(document.data)
                continue
            if on_document:
                on_document(int(first_U[at]))
            yield from self._score_alone(document, at, known, on_tokens)
            if on_document:
                on_document(None)
        if pieces:
            yield self._score_pieces(pieces, known, on_tokens)

    def _score_alone(
        self, document: Document, number: int, known: Known, on_tokens: OnTokens | None
    ) -> Iterator[PieceScores]:
        """Scores of one document, a piece at a time, as long as its budget of tokens lasts."""
        left = self.settings.limits.document_tokens
        for piece in document.pieces(number):
            part = self._score_pieces([replace(piece, max_tokens=left)], known, on_tokens)
            yield part
            left -= int(part.tokens_P.sum())
            if part.truncated_P.any():
                return

    def _score_pieces(self, pieces: Sequence[Piece], known: Known, on_tokens: OnTokens | None) -> PieceScores:
        return score_pieces(
            pieces,
            bundle=self.bundle,
            engine=self.engine,
            lexicon=self.lexicon,
            settings=self.settings,
            known=known,
            on_tokens=on_tokens,
        )

    def _presented(
        self, stored: pa.Table, text_of: Callable[[int], str], *, made: pa.ListArray | None = None
    ) -> pa.Table:
        """Add n_flagged, spans and decision to stored columns; `made`: see `add_suggestions`."""
        told = present(
            text_of,
            scores=stored["score"].to_pylist(),
            n_words=stored["n_words"].to_pylist(),
            candidates=stored["candidates"].combine_chunks(),
            settings=self.settings,
        )
        columns = {name: getattr(told, name) for name in ("n_flagged", "spans", "decision")}
        suggester = self.suggester(self.settings.suggest)
        if suggester is not None:
            columns["spans"] = add_suggestions(told.spans, text_of, suggester, made=made)
        for name, column in columns.items():
            at = stored.schema.get_field_index(name)
            stored = stored.append_column(name, column) if at < 0 else stored.set_column(at, name, column)
        return stored

    def suggester(self, settings: SuggestSettings) -> Suggester | None:
        """What makes suggestions; None where there are to be none, or nothing that they could come from."""
        words = self.lexicon.slips.near if self.lexicon and settings.top_k else None
        gaps = self.gaps if settings.in_context else None
        if not settings.top_k or (words is None and gaps is None):
            return None
        return Suggester(words, settings, judge=self.judge, gaps=gaps)

    def judge(self, texts: Sequence[str], places: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
        """What the network says of words at some places (see candidates.IN_CONTEXT)."""
        plain = {
            "output": OutputSettings(words=True, embedding="none"),
            "suggest": SuggestSettings(top_k=0),
            "thresholds": Thresholds(floor=1.0, flag=1.0, review=1.0, drop=1.0),
        }
        scorer = replace(self, settings=self.settings.model_copy(update=plain))
        return evidence(scorer.score(pa.table({"text": pa.array(texts, pa.string())}))["words"], places)

    def _attributes(self, told: pa.Table, rows: pa.Table, *, first_row: int) -> pa.Table:
        """Put attributes beside the columns that come from the input, in the order of the schema."""
        schema = self._schema(rows.schema)
        number = pa.array(np.arange(first_row, first_row + rows.num_rows), pa.int64())
        columns = {name: told[name] for name in told.column_names}
        columns |= {"row": number, **dict(zip(rows.column_names[1:], rows.columns[1:], strict=True))}
        return pa.table([columns[name] for name in schema.names], schema=schema).combine_chunks()

    def _schema(self, rows: pa.Schema) -> pa.Schema:
        """The schema of the attributes of such rows (see `score_rows`)."""
        has_id = rows.names[1:2] == ["id"]
        return attribute_schema(
            self.settings.output,
            dims=self.engine.dims,
            id_type=rows.field(1).type if has_id else None,
            carried=tuple(rows)[2 if has_id else 1 :],
        )


def _load_again(settings: ScoreSettings, digest: str) -> Scorer:
    """What a pickled Scorer becomes; UserError where its model is not here, or another one is."""
    bundle = load_bundle(settings.model)
    if bundle.digest != digest:
        raise UserError(
            f"model {settings.model} has digest {bundle.digest} here, but {digest} where the scorer was pickled: give "
            "every worker the same model"
        )
    return Scorer.from_bundle(bundle, settings=settings)


def _views(binaries: pa.LargeBinaryArray) -> Iterator[memoryview]:
    """The bytes of each value, not copied; empty where null."""
    for value in binaries:
        yield memoryview(value.as_buffer() or b"")
