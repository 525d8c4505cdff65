"""The elements of the graph and the Arrow schemas of everything that is written, in one place.

An element's life, for the third unit of `corpus/news/a.parquet`:

    InputFile("…/corpus/news/a.parquet", relative="news/a.parquet", …)           what the launcher found
    WorkUnit(file=…, row_group=0, first_row=9000, rows=4500)                      what a worker is asked to do
    DocumentBatch(unit, table)                                                    its rows, as Arrow
    ScoredBatch(unit, attributes, tally)                                          one attribute row per input row
    UnitResult(unit, "scored", …)                                                 what is left to say about it

Rows are numbered within their file: row i of the unit's shard is row `first_row + i` of the input file. Null in an
attribute means "not scored", never zero.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from rtdscan.transforms.errors import UserError
from rtdscan.transforms.settings import OutputSettings
from rtdscan.transforms.tally import Tally

SCORING_VERSION = 6
"""Raised whenever the same text and model would give other scores; part of every fingerprint."""

OPTIONAL = ("embedding", "words", "tokens")
"""Attributes that there may be or not; no carried column has such a name, or who reads would take it for ours."""

SPANS_VERSION = 9
"""Raised whenever spans or decisions are made otherwise from stored candidates; part of every fingerprint."""

Status = Literal["ok", "empty", "null", "invalid", "truncated", "failed"]
STATUSES: tuple[Status, ...] = ("ok", "empty", "null", "invalid", "truncated", "failed")

Outcome = Literal["scored", "rewritten", "restamped", "current", "bad", "hashed", "cleaned"]
"""What became of a unit: network run; spans and decisions made again from stored candidates; only the fingerprint
renewed; nothing to do; could not be read. And of a cleaning: texts hashed; rows kept and rejected."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A Parquet file of the corpus.

    Attributes:
        path: As a file system opens it.
        relative: Path below INPUT's glob-free root, `/` between parts; also the shards' folder.
        size: Bytes.
        version: Modification time: ns locally, seconds in a store.
        footer: blake2b-128 hex digest of the Parquet footer.
    """

    path: str
    relative: str
    size: int
    version: str
    footer: str


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Consecutive rows of one row group of one file; the unit of work, of retry and of output.

    Attributes:
        file: The file they lie in.
        row_group: Number of the row group in the file, from 0.
        skip: Rows of the row group before the first of the unit.
        first_row: Number of the unit's first row in the *file*, from 0.
        rows: Rows in the unit.
        text_bytes: Uncompressed bytes of text as the footer tells it (an estimate: dictionary pages mislead).
    """

    file: InputFile
    row_group: int
    skip: int
    first_row: int
    rows: int
    text_bytes: int

    @property
    def shard(self) -> str:
        """Path of the unit's shard below OUTPUT; a pure function of the unit."""
        return f"attributes/{self.file.relative}/rg{self.row_group:05d}-row{self.first_row:09d}.parquet"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a shard was made from; equal fingerprints mean that there is nothing to do.

    Attributes:
        size, version, footer: Identity of the input file, as in InputFile.
        rows: "first_row:rows", the cut of the unit.
        text: blake2b-128 hex digest of the unit's texts (and of nothing else).
        scoring: Digest of all that changes scores: weights, tokenizer, window, calibration, lexicon, engine and
            precision as resolved, text column, extra outputs, SCORING_VERSION.
        floor: `thresholds.floor` that the stored candidates obey.
        presentation: Digest of all that only changes spans and decisions or copies columns: other thresholds, ignore,
            allow, suggestions, id, carried columns, columns by which tallies are kept, SPANS_VERSION.
    """

    size: int
    version: str
    footer: str
    rows: str
    text: str
    scoring: str
    floor: float
    presentation: str


@dataclass(frozen=True, slots=True)
class DocumentBatch:
    """All rows of a unit.

    Attributes:
        unit: The unit.
        fingerprint: What the shard will carry.
        outcome: What has to be done: "scored", "rewritten" or "restamped".
        table: Columns `text` (large_binary: UTF-8 as stored, maybe invalid; null where null), `id` if configured, and
            the carried columns under their own names.
        previous: The unit's attributes so far, where they serve ("rewritten", "restamped").
        spelled, listed: Of the tally that was stored with `previous`.
        suggesting: What the suggestions in `previous` rest on, see Job.suggesting.
        careful: One document at a time, leaving a note of which; set after the unit killed a worker twice.
        failed: Rows (from 0 within the unit) that killed a worker: not to be tried again.
        started: time.monotonic() when reading began, to tell how long the unit took in this process.
        by: Columns of the rows by whose values tallies are kept; None where there are none.
    """

    unit: WorkUnit
    fingerprint: Fingerprint
    outcome: Outcome
    table: pa.Table
    previous: pa.Table | None = None
    spelled: int = 0
    listed: int = 0
    suggesting: str = ""
    careful: bool = False
    failed: frozenset[int] = frozenset()
    started: float = 0.0
    by: pa.Table | None = None

    def __len__(self) -> int:
        """Documents; what RunInference counts."""
        return int(self.table.num_rows)


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """The attributes of all rows of a unit, in order (schema: `attribute_schema`), and their tally.

    `suggesting`: what their suggestions rest on, see Job.suggesting.
    """

    unit: WorkUnit
    fingerprint: Fingerprint
    outcome: Outcome
    attributes: pa.Table
    tally: Tally
    started: float = 0.0
    suggesting: str = ""


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What there is to say about a unit once it is done; small, the only thing that leaves the fused stage.

    Attributes:
        unit: The unit.
        outcome: What was done.
        fingerprint: Hex digest of the shard's fingerprint; empty when bad.
        tally: Statistics of the shard.
        seconds: Wall time in the worker; 0.0 when current.
        reason: Why the unit is bad; empty otherwise.
        worker: "host:pid" that did it; empty when current.
    """

    unit: WorkUnit
    outcome: Outcome
    fingerprint: str
    tally: Tally = field(default_factory=Tally.zero)
    seconds: float = 0.0
    reason: str = ""
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What is left to say about a unit, small enough for one atomic write into a pipe. The tally lies in the shard.

    Attributes:
        shard: Path of the unit's shard below OUTPUT.
        outcome, fingerprint, seconds, reason, worker: As in UnitResult.
    """

    shard: str
    outcome: Outcome
    fingerprint: str
    seconds: float
    reason: str
    worker: str


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file of INPUT that can't be scanned, and why (one line, for people)."""

    path: str
    relative: str
    reason: str


MARK = pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32()), pa.field("score", pa.float32())])
"""A stretch of text by character offsets into the Python string, end exclusive, and its probability."""

SPAN = pa.struct(
    [*MARK, pa.field("suggestions", pa.list_(pa.string())), pa.field("probabilities", pa.list_(pa.float32()))]
)


def _described(name: str, type_: pa.DataType, description: str, *, nullable: bool = True) -> "pa.Field[Any]":
    return pa.field(name, type_, nullable=nullable, metadata={"description": description})


def attribute_schema(
    output: OutputSettings,
    *,
    dims: int,
    id_type: pa.DataType | None = None,
    carried: "tuple[pa.Field[Any], ...]" = (),
) -> pa.Schema:
    """The schema of a shard.

    Args:
        output: Which optional columns there are.
        dims: D, size of the embedding.
        id_type: Type of the id column in the input; None: no id column.
        carried: Fields of the input columns to carry along, as in the input.

    Returns:
        The schema; each field's metadata carries a `description`.

    Raises:
        UserError: A carried column has the name of an attribute.
    """
    fields = []
    if id_type is not None:
        fields.append(_described("id", id_type, "the row's id, as in the input"))
    fields += [
        _described("row", pa.int64(), "number of the row in its input file, from 0", nullable=False),
        _described("status", pa.string(), " | ".join(STATUSES), nullable=False),
        _described("reason", pa.string(), "why the status is not ok; null when it is"),
        _described("n_chars", pa.int32(), "characters of the text (Unicode code points)", nullable=False),
        _described("n_words", pa.int32(), "words and marks that were scored", nullable=False),
        _described("n_tokens", pa.int32(), "word pieces that were scored, special tokens not counted", nullable=False),
        _described("n_windows", pa.int32(), "windows the text was cut into", nullable=False),
        _described("unk_share", pa.float32(), "share of tokens that are outside the model's vocabulary"),
        _described(
            "score",
            pa.float32(),
            "expected share of words that do not belong: mean probability over all words, ignored and allowed ones too",
        ),
        _described("max_score", pa.float32(), "probability of the worst word"),
        _described("candidates", pa.list_(MARK), "every word at or above thresholds.floor, by character offsets"),
        _described("n_flagged", pa.int32(), "words at or above thresholds.flag that are neither ignored nor allowed"),
        _described(
            "spans",
            pa.list_(SPAN),
            "flagged words, neighbours merged, by character offsets, end exclusive; suggestions best first, with the "
            "probability that each is what was meant",
        ),
    ]
    if output.embedding != "none":
        number = pa.float16() if output.embedding == "float16" else pa.float32()
        fields.append(
            _described("embedding", pa.list_(number, dims), "L2-normalised mean over all tokens; D nulls if none")
        )
    decision = "keep | review | drop, by the score without what ignored and allowed words add to it"
    fields.append(_described("decision", pa.string(), decision, nullable=False))
    if output.words:
        fields.append(_described("words", pa.list_(MARK), "every word with its probability"))
    if output.tokens:
        fields.append(_described("tokens", pa.list_(MARK), "every token with its probability"))
    taken = {*(field.name for field in fields), *OPTIONAL}
    for column in carried:
        if column.name in taken:
            raise UserError(
                f"output.columns: {column.name} is the name of an attribute or listed twice; rename it in the input"
                f" (names of attributes: {', '.join(sorted(taken))})"
            )
        taken.add(column.name)
    return pa.schema([*fields, *carried])


MANIFEST = pa.schema(
    [
        _described("file", pa.string(), "input file, relative to INPUT's root"),
        _described("row_group", pa.int32(), "row group of the unit; null for a file that could not be opened"),
        _described("first_row", pa.int64(), "number of the unit's first row in its file"),
        _described("rows", pa.int64(), "rows of the unit"),
        _described("shard", pa.string(), "path of the shard, relative to OUTPUT; null where there is none"),
        _described("fingerprint", pa.string(), "digest of what the shard was made from"),
        _described("status", pa.string(), "scored | rewritten | restamped | current | bad"),
        _described("reason", pa.string(), "why a unit or file is bad"),
        _described("documents", pa.int64(), "rows with a score"),
        _described("tokens", pa.int64(), "tokens scored"),
        _described("words", pa.int64(), "words scored"),
        _described("flagged", pa.int64(), "words flagged"),
        _described("seconds", pa.float64(), "wall time of the unit in its worker; 0 when current"),
        _described("worker", pa.string(), "host:pid of the worker"),
    ]
)
