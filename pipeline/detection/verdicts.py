"""What people said about flagged words, and the labels that follow from it.

A verdict is a Parquet file of one row, written once and never changed (`OUTPUT/verdicts/*.parquet`), so that several
people at once lose nothing. It carries the text it is about, so that it can be used when the corpus has gone.

- Of what one person says about one stretch of text the last counts; `withdrawn` means that nothing was said.
- Words judged `right` (the flag is: the word does not belong) are errors, words judged `wrong` are none. All others,
  and those that people are unsure about or disagree on, count for nothing: they are in `ignore_spans`.
"""

import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from io import BytesIO
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rtdscan.transforms import storage
from rtdscan.transforms.errors import RtdscanError

FOLDER = "verdicts"
"""Below OUTPUT."""

Word = Literal["right", "wrong", "unsure", "withdrawn"]
WORDS: tuple[Word, ...] = ("right", "wrong", "unsure", "withdrawn")

READERS = 16

SCHEMA = pa.schema(
    [
        pa.field("reviewer", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
        pa.field("score", pa.float32()),
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("model", pa.string()),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("text_start", pa.int64(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
    ]
)
"""A file of verdicts: the fields of `Verdict`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one person said about one stretch of a document.

    Attributes:
        reviewer: Who.
        at: When, UTC; of one person the last counts.
        verdict: right (the flag is: the word does not belong), wrong, unsure, withdrawn.
        file, row: The document.
        start, end: The stretch, characters of the document, end exclusive.
        score: Its probability at that time.
        flagged: Whether it was flagged then, or only a candidate.
        model: Digest of the model.
        digest: Of the document's text.
        text_start: Where `text` begins in the document; 0 but for very long ones.
        text: The document, or of a very long one what stands around.
    """

    reviewer: str
    at: datetime
    verdict: Word
    file: str
    row: int
    start: int
    end: int
    score: float | None
    flagged: bool
    model: str | None
    digest: str
    text_start: int
    text: str

    @property
    def document(self) -> tuple[str, int, str]:
        """What it is about, as long as the text stays the same."""
        return self.file, self.row, self.digest


@dataclass(frozen=True, slots=True)
class Label:
    """A text of which some words are known to be right or wrong.

    Attributes:
        text: The text.
        spans: (start, end) of what is wrong with it.
        ignored: (start, end) of what nothing is known about.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    ignored: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """What follows from all verdicts.

    Attributes:
        labels: Texts with at least one word that counts.
        reviewers: Names.
        right, wrong: Stretches that count.
        unsure: Stretches about which nobody was sure.
        disputed: Stretches on which people disagree.
    """

    labels: tuple[Label, ...]
    reviewers: tuple[str, ...]
    right: int
    wrong: int
    unsure: int
    disputed: int

    def told(self) -> dict[str, Any]:
        """Counts, for reports."""
        return {name: value for name, value in asdict(self).items() if name != "labels"}


def write_verdict(output: str, verdict: Verdict) -> str:
    """Store a verdict in a file of its own; it is on the disk when this returns.

    Returns:
        The file's name.
    """
    if verdict.verdict not in WORDS:
        raise ValueError(f"verdict {verdict.verdict!r}; expected one of {WORDS}")
    sink = BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(verdict)], schema=SCHEMA), sink, compression="zstd")
    at = verdict.at.astimezone(timezone.utc)
    name = f"{at:%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex}.parquet"
    storage.put_bytes(storage.join(output, FOLDER, name), sink.getvalue())
    return name


def is_verdicts(schema: pa.Schema) -> bool:
    """Whether a file with this schema holds verdicts."""
    return {"reviewer", "verdict", "text_start"} <= set(schema.names)


def read_verdicts(paths: Sequence[str], *, text: bool = True) -> list[Verdict]:
    """Read files of verdicts, in order of time.

    Args:
        paths: The files.
        text: Read the texts too; without, they are empty.

    Raises:
        RtdscanError: A file is damaged or of another format.
    """
    with ThreadPoolExecutor(READERS) as threads:
        found = [verdict for read in threads.map(lambda path: _read(path, text=text), paths) for verdict in read]
    return sorted(found, key=lambda verdict: verdict.at)


def _read(path: str, *, text: bool) -> list[Verdict]:
    names = [name for name in SCHEMA.names if text or name != "text"]
    try:
        with storage.open_read(path) as source:
            table = pq.ParquetFile(source).read(columns=names, use_threads=False)
        return [Verdict(**{"text": "", **row}) for row in table.to_pylist()]
    except (pa.ArrowException, OSError, TypeError) as error:
        raise RtdscanError(f"cannot read {storage.printable(path)} ({error}); remove it to go on without it") from error


def last_said(verdicts: Iterable[Verdict]) -> dict[tuple[int, int], dict[str, Verdict]]:
    """What each person said last about each stretch of one document.

    Args:
        verdicts: About one document, in order of time.

    Returns:
        (start, end) -> reviewer -> verdict; what was withdrawn is left out.
    """
    said: dict[tuple[int, int], dict[str, Verdict]] = {}
    for verdict in verdicts:
        people = said.setdefault((verdict.start, verdict.end), {})
        people.pop(verdict.reviewer, None)
        if verdict.verdict != "withdrawn":
            people[verdict.reviewer] = verdict
    return {stretch: people for stretch, people in said.items() if people}


def settled(people: Iterable[Verdict]) -> Literal["right", "wrong", "unsure", "disputed"]:
    """What several people's verdicts on one stretch come to; who is unsure has no voice."""
    words = {verdict.verdict for verdict in people} - {"unsure"}
    if len(words) > 1:
        return "disputed"
    return "unsure" if not words else "right" if "right" in words else "wrong"


def labels_of(verdicts: Iterable[Verdict]) -> Labels:
    """Labelled texts from verdicts with their texts, in order of time."""
    documents: dict[tuple[str, int, str, int, str], list[Verdict]] = {}
    latest: dict[tuple[str, str, int, str, int, int], Verdict] = {}
    for verdict in verdicts:  # an excerpt may begin elsewhere when a person says something else
        latest.pop(key := (verdict.reviewer, *verdict.document, verdict.start, verdict.end), None)
        latest[key] = verdict
    for verdict in latest.values():
        documents.setdefault((*verdict.document, verdict.text_start, verdict.text), []).append(verdict)
    labels: list[Label] = []
    counts = dict.fromkeys(("right", "wrong", "unsure", "disputed"), 0)
    for (*_, text_start, text), about in documents.items():
        stretches = [(start, end, settled(people.values())) for (start, end), people in last_said(about).items()]
        for *_, word in stretches:
            counts[word] += 1
        label = _label(text, [(start - text_start, end - text_start, word) for start, end, word in stretches])
        if label:
            labels.append(label)
    reviewers = sorted({verdict.reviewer for verdict in latest.values()})
    return Labels(tuple(labels), tuple(reviewers), **counts)


def _label(text: str, stretches: Sequence[tuple[int, int, str]]) -> Label | None:
    """Characters that are judged one way only count; of flags that overlap those in which all agree."""
    marks = {word: np.zeros(len(text), dtype=bool) for word in ("right", "wrong", "disputed")}
    for start, end, word in stretches:
        if word in marks:
            marks[word][start:end] = True
    counted = (marks["right"] ^ marks["wrong"]) & ~marks["disputed"]
    if not counted.any():
        return None
    return Label(text, _runs(marks["right"] & counted), _runs(~counted))


def _runs(marked: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """(start, end) of the stretches that are marked."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return tuple(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
