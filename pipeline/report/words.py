"""The worst documents, and the words flagged most often, each with the text around."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rtdscan.pipeline.finished.excerpts import Excerpt, Text, in_context, make_excerpts
from rtdscan.pipeline.finished.folder import Finished, Shard, read_columns
from rtdscan.pipeline.finished.texts import Input, LongText
from rtdscan.pipeline.finished.visible import shortened
from rtdscan.transforms.tally import Worst

SPANS_SHOWN = 6
"""Spans of a document that are shown with what stands around them."""

TOKENS_READ = 4_000_000
"""Tokens of the work units whose flagged words are counted, chosen by a hash of their shards' names."""

SPANS_READ = 200_000
"""Spans that are counted at most."""

LONG_BYTES = 1 << 20
"""Of a text above this only the parts that are shown are decoded."""

WORDS_SHOWN = 30
CONTEXTS = 2
WORD_CHARS = 60
"""Characters by which two words are told apart."""

KWIC_AROUND = 48
"""Characters on each side of a flagged word in the table of words."""


@dataclass(frozen=True, slots=True)
class WorstDocument:
    """One of the documents with the highest scores.

    Attributes:
        score, file, row, id: Which.
        words, flagged: Counts of words.
        decision: What the scan made of it.
        weak: Whether no word was flagged, so that the excerpts mark candidates.
        excerpts: Where its worst words stand; empty where its text can't be read or may not be shown.
    """

    score: float
    file: str
    row: int
    id: str | None
    words: int
    flagged: int
    decision: str
    weak: bool
    excerpts: tuple[Excerpt, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """A flagged word where it stands."""

    before: str
    words: str
    after: str
    score: float
    file: str
    row: int


@dataclass(slots=True)
class FlaggedWord:
    """A word that was flagged several times.

    Attributes:
        forms: How it was written, with counts.
        times, documents: How often, and in how many documents.
        score_sum: Sum of its probabilities.
        capital: How often it began with a capital letter.
        contexts: The first few, from different documents.
    """

    forms: Counter[str] = field(default_factory=Counter)
    times: int = 0
    documents: int = 0
    score_sum: float = 0.0
    capital: int = 0
    contexts: list[Context] = field(default_factory=list)

    @property
    def word(self) -> str:
        """As it is written most often."""
        return min(self.forms, key=lambda form: (-self.forms[form], form))


@dataclass(frozen=True, slots=True)
class FlaggedWords:
    """Words flagged most often.

    Attributes:
        words: Most frequent first.
        spans, documents: Flagged spans that were counted, and the documents they are in.
        whole: Whether these are all of the corpus.
    """

    words: tuple[FlaggedWord, ...]
    spans: int
    documents: int
    whole: bool


def worst_documents(finished: Finished, source: Input, *, text: bool) -> list[WorstDocument]:
    """The worst documents that the tally remembers, worst first; only their shards and units are read."""
    wanted: dict[str, list[Worst]] = {}
    for document in finished.tally.worst:
        wanted.setdefault(document.file, []).append(document)
    units: dict[Shard, list[Worst]] = {}
    for shard in finished.shards():
        inside = [w for w in wanted.get(shard.file, ()) if 0 <= w.row - shard.first_row < shard.rows]
        if inside:
            units[shard] = inside
    found = [one for shard, inside in units.items() for one in _documents(finished, source, shard, inside, text=text)]
    return sorted(found, key=lambda document: (-document.score, document.file, document.row))


def _documents(
    finished: Finished, source: Input, shard: Shard, inside: Sequence[Worst], *, text: bool
) -> list[WorstDocument]:
    columns = ["n_chars", "n_words", "n_flagged", "decision", "spans", "candidates"]
    rows = read_columns(finished.output, shard, columns).take([w.row - shard.first_row for w in inside]).to_pylist()
    texts = source.texts(shard) if text else None
    documents = []
    for worst, row in zip(inside, rows, strict=True):
        spans = row["spans"] or row["candidates"] or []
        excerpts: tuple[Excerpt, ...] = ()
        if texts is not None:
            reader = _reader(texts, worst.row - shard.first_row)
            excerpts = make_excerpts(reader, spans, n_chars=row["n_chars"], n=SPANS_SHOWN)
        documents.append(
            WorstDocument(
                score=worst.score,
                file=worst.file,
                row=worst.row,
                id=None if worst.id is None else shortened(worst.id, 120),
                words=row["n_words"],
                flagged=row["n_flagged"] or 0,
                decision=row["decision"],
                weak=not row["spans"],
                excerpts=excerpts,
            )
        )
    return documents


def flagged_words(finished: Finished, source: Input) -> FlaggedWords:
    """Count the flagged words of some work units: of the whole corpus where it is small."""
    flagged = [shard for shard in finished.shards() if shard.flagged]
    taken, tokens = [], 0
    for shard in sorted(flagged, key=lambda shard: shard.lot):
        if tokens and tokens + shard.tokens > TOKENS_READ:
            break
        taken.append(shard)
        tokens += shard.tokens
    words: dict[str, FlaggedWord] = {}
    spans = documents = read = 0
    cut = False
    for shard in sorted(taken, key=lambda shard: (shard.file, shard.first_row)):
        texts = source.texts(shard) if spans < SPANS_READ else None
        if texts is None:
            continue
        read += 1
        rows = read_columns(finished.output, shard, ["row", "n_chars", "spans"])
        rows = rows.filter(pc.greater(pc.list_value_length(rows["spans"]), 0))
        for row in rows.to_pylist():
            cut |= spans + len(row["spans"]) > SPANS_READ
            row["spans"] = row["spans"][: SPANS_READ - spans]
            if not row["spans"]:
                break
            _count(words, row, _reader(texts, row["row"] - shard.first_row), file=shard.file)
            spans += len(row["spans"])
            documents += 1
    order = sorted(words.values(), key=lambda word: (-word.times, -word.documents, word.word))
    several = [word for word in order if word.times > 1]
    return FlaggedWords(tuple(several[:WORDS_SHOWN]), spans, documents, whole=read == len(flagged) and not cut)


def _count(words: dict[str, FlaggedWord], row: dict[str, Any], text: Text, *, file: str) -> None:
    """Add a document's flagged words."""
    new: set[str] = set()
    for span in row["spans"]:
        stretch = text(span["start"], min(span["end"], span["start"] + 4 * WORD_CHARS))
        form = " ".join(stretch.split())[:WORD_CHARS]
        key = form.casefold()
        word = words.setdefault(key, FlaggedWord())
        word.forms[form] += 1
        word.times += 1
        word.documents += key not in new
        word.score_sum += span["score"]
        word.capital += form[:1].isupper()
        if key not in new and len(word.contexts) < CONTEXTS:
            before, inside, after = in_context(text, span, n_chars=row["n_chars"], around=KWIC_AROUND)
            word.contexts.append(Context(before, shortened(inside, WORD_CHARS), after, span["score"], file, row["row"]))
        new.add(key)


def _reader(texts: pa.Array, at: int) -> Callable[[int, int], str]:
    data = memoryview(texts[at].as_buffer())
    if len(data) > LONG_BYTES:
        return LongText(data)
    whole = str(data, "utf-8")
    return lambda start, end: whole[start:end]
