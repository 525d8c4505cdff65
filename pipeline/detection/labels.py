"""Labelled text: Parquet with spans, or a clean corpus that is corrupted on the way.

Labelled Parquet has a text column and `spans`, a list<struct<start, end, …>> of character offsets, end exclusive, of
what is wrong; `kind` in it names the kind of error. Words that overlap `ignore_spans` are left out of every count.
Verdicts that people gave on the page of `rtdscan review` serve as well, see verdicts.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rtdscan.pipeline.detection.verdicts import is_verdicts, labels_of, read_verdicts
from rtdscan.transforms import storage
from rtdscan.transforms.columns import describe, find_text_column
from rtdscan.transforms.corruption import REGISTRY
from rtdscan.transforms.corruption.generator import Sample
from rtdscan.transforms.corruption.mixture import Mixture
from rtdscan.transforms.cutting import cut_file
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.records import WorkUnit
from rtdscan.transforms.settings import MixtureSettings
from rtdscan.transforms.units import read_footer, read_unit

_SPANS = "list<struct<start: int, end: int, …>>"

UNIT_MB = 0.5
"""Text that is read at once."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Stretches of several texts, flat.

    Attributes:
        document_S: Text of each span.
        start_S, end_S: Character offsets, end exclusive.
        kind_S: Kind of error; "" where it has none.
    """

    document_S: NDArray[np.int64]
    start_S: NDArray[np.int64]
    end_S: NDArray[np.int64]
    kind_S: NDArray[np.str_]

    @staticmethod
    def of(spans: Sequence[tuple[int, int, int, str]]) -> "Spans":
        """From (document, start, end, kind)."""
        document, start, end, kind = zip(*spans, strict=True) if spans else ((), (), (), ())
        numbers = [np.array(column, dtype=np.int64) for column in (document, start, end)]
        return Spans(numbers[0], numbers[1], numbers[2], np.array(kind, dtype=np.str_))


@dataclass(frozen=True, slots=True)
class Labelled:
    """Texts and what is wrong with them.

    Attributes:
        texts: D texts.
        wrong: What is wrong.
        ignored: What counts neither as wrong nor as right.
        synthetic: Whether the errors were made by this program.
        source: Where it comes from, for reports.
        notes: What a user has to know of it.
    """

    texts: list[str]
    wrong: Spans
    ignored: Spans
    synthetic: bool = False
    source: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def judged(self) -> bool:
        """Whether some labels are verdicts: then of most texts only a few words count, those that were flagged."""
        return "verdicts" in self.source


def is_document_kind(kind: str) -> bool:
    """Whether it is a kind of corruption whose words may each be right."""
    return kind in REGISTRY and REGISTRY[kind].level == "document"


def read_labelled(inputs: Sequence[str], *, text: str | None = None) -> Labelled:
    """Read labelled Parquet.

    Args:
        inputs: Files, folders, globs; files of verdicts among them.
        text: Text column; default: the only one.

    Raises:
        UserError: There is no such file or column, or a span lies outside its text.
    """
    texts: list[str] = []
    spans: dict[str, list[tuple[int, int, int, str]]] = {"spans": [], "ignore_spans": []}
    judged: list[str] = []
    for unit, column in _units(inputs, text=text, judged=judged):
        schema = read_footer(unit.file.path).schema
        if "spans" not in schema.names:
            raise UserError(
                f"{unit.file.path} has no column 'spans' (list<struct<start, end>>); its columns: {describe(schema)}; "
                "to measure on a clean corpus add --corrupt"
            )
        names = [name for name in spans if name in schema.names]
        rows = read_unit(unit, text=column, columns=names)
        for name in names:
            _check_type(schema.field(name), where=unit.file.path)
        decoded = [value.decode("utf-8", "replace") if value else "" for value in rows["text"].to_pylist()]
        for name in names:
            for at, listed in enumerate(rows[name].to_pylist()):
                for span in listed or ():
                    if span is None:
                        raise UserError(
                            f"{unit.file.path} row {unit.first_row + at}: {name} holds null; expected {_SPANS}, a list "
                            "without spans where nothing is wrong"
                        )
                    start, end = span["start"], span["end"]
                    if start is None or end is None or not 0 <= start <= end <= len(decoded[at]):
                        raise UserError(
                            f"{unit.file.path} row {unit.first_row + at}: {name} has {start} to {end}, but the text "
                            f"has {len(decoded[at])} characters; offsets count Unicode characters, end exclusive"
                        )
                    spans[name].append((len(texts) + at, start, end, str(span.get("kind") or "")))
        texts += decoded
    verdicts = labels_of(read_verdicts(judged))
    for label in verdicts.labels:
        spans["spans"] += ((len(texts), start, end, "") for start, end in label.spans)
        spans["ignore_spans"] += ((len(texts), start, end, "") for start, end in label.ignored)
        texts.append(label.text)
    if not texts:
        what = "no verdict that counts: all are unsure, disputed or withdrawn" if judged else "no rows"
        raise UserError(f"{', '.join(inputs)}: holds {what}")
    source = {"data": [str(path) for path in inputs], "documents": len(texts), "corrupted": False}
    if judged:
        source["verdicts"] = verdicts.told()
    return Labelled(texts, Spans.of(spans["spans"]), Spans.of(spans["ignore_spans"]), source=source)


def some_of(labelled: Labelled, documents: int, *, seed: int) -> Labelled:
    """So many documents that are not blank, drawn at random, in their order; fewer where there are no more."""
    filled = np.array([at for at, text in enumerate(labelled.texts) if text.strip()], dtype=np.int64)
    kept = np.sort(np.random.default_rng((seed, 1)).permutation(filled)[:documents])
    number_D = np.full(len(labelled.texts), -1)
    number_D[kept] = np.arange(len(kept))

    def of(spans: Spans) -> Spans:
        number_S = number_D[spans.document_S]
        in_S = number_S >= 0
        return Spans(number_S[in_S], spans.start_S[in_S], spans.end_S[in_S], spans.kind_S[in_S])

    return replace(
        labelled,
        texts=[labelled.texts[at] for at in kept.tolist()],
        wrong=of(labelled.wrong),
        ignored=of(labelled.ignored),
        source=labelled.source | {"documents": len(kept)},
        notes=(*labelled.notes, *_shortage(len(kept), documents)),
    )


def _shortage(found: int, documents: int) -> tuple[str, ...]:
    if found >= documents:
        return ()
    return (f"only {found:,} documents are not blank, of {documents:,} that input.documents asks for",)


def _absent(mixture: MixtureSettings, *, made: set[str]) -> tuple[str, ...]:
    none = [kind for kind, weight in mixture.kinds.items() if weight > 0 and kind not in made]
    if not none:
        return ()
    why = "too few texts, or of a language or script that they can do nothing with"
    return (f"no errors were made of the kinds {', '.join(none)}: {why}",)


def corrupt_corpus(
    inputs: Sequence[str],
    mixture: MixtureSettings,
    *,
    seed: int,
    text: str | None = None,
    documents: int | None = None,
    sample: Sample | None = None,
) -> Labelled:
    """Corrupt a clean corpus.

    Args:
        inputs: Files, folders, globs.
        mixture: Kinds of errors and rates.
        seed: Of the choice of documents and of the errors.
        text: Text column; default: the only one.
        documents: So many, chosen at random over the corpus; None: all.
        sample: The generator, where the kinds have it.

    Raises:
        UserError: There is no such file or column.
    """
    texts = sample_texts(inputs, text=text, documents=documents, seed=seed)
    if not texts:
        raise UserError(f"{', '.join(inputs)}: holds no text")
    corrupted = Mixture(mixture, sample=sample).corrupt_all(texts, seed=seed)
    wrong = [(at, s.start, s.end, s.kind) for at, made in enumerate(corrupted) for s in made.spans]
    source = {
        "data": [str(path) for path in inputs],
        "documents": len(texts),
        "corrupted": True,
        "seed": seed,
        "mixture": "default" if mixture == MixtureSettings() else mixture.model_dump(mode="json"),
    }
    notes = () if documents is None else _shortage(len(texts), documents)
    notes += _absent(mixture, made={span.kind for one in corrupted for span in one.spans})
    made_texts = [made.text for made in corrupted]
    return Labelled(made_texts, Spans.of(wrong), Spans.of([]), synthetic=True, source=source, notes=notes)


def sample_texts(inputs: Sequence[str], *, text: str | None, documents: int | None, seed: int) -> list[str]:
    """Texts that are not blank, in their order: all, or so many of them, each set of so many as likely as any other.

    Row numbers are drawn, and more of them in place of those that turn out blank; what is in memory is the texts that
    are wanted, one unit, and the numbers. The same for the same seed; fewer where there are no more.
    """
    units = _units(inputs, text=text)
    if documents is None:
        return [found for unit, column in units for found in _texts(unit, column)]
    rng = np.random.default_rng((seed, 1))
    rows = sum(unit.rows for unit, _ in units)
    chosen: dict[int, str] = {}
    drawn = np.zeros(0, dtype=np.int64)  # ascending
    take = documents
    while len(chosen) < documents and len(drawn) < rows:
        fresh = _undrawn(rng.choice(rows - len(drawn), size=min(take, rows - len(drawn)), replace=False), drawn)
        found = _texts_at(units, np.sort(fresh))
        # The first in the order of the draw, not of the corpus.
        wanted = [row for row in fresh.tolist() if row in found][: documents - len(chosen)]
        chosen.update((row, found[row]) for row in wanted)
        drawn = np.union1d(drawn, fresh)
        missing = documents - len(chosen)
        take = min(1 + 2 * missing * len(drawn) // max(len(chosen), 1), 4 * len(drawn))
    return [chosen[row] for row in sorted(chosen)]


def _undrawn(at_N: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers among the rows that were not drawn yet -> rows."""
    rows: NDArray[np.int64] = at_N + np.searchsorted(drawn - np.arange(len(drawn)), at_N, side="right")
    return rows


def _texts_at(units: Sequence[tuple[WorkUnit, str]], rows: NDArray[np.int64]) -> dict[int, str]:
    """Row -> text, of ascending rows of the whole corpus; blank ones are left out."""
    end_U = np.cumsum([unit.rows for unit, _ in units])
    which, first = np.unique(np.searchsorted(end_U, rows, side="right"), return_index=True)
    found: dict[int, str] = {}
    for at, here in zip(which.tolist(), np.split(rows, first[1:]), strict=True):
        unit, column = units[at]
        values = read_unit(unit, text=column)["text"].take(pa.array(here - (end_U[at] - unit.rows))).to_pylist()
        decoded = ((value or b"").decode("utf-8", "replace") for value in values)
        found.update((row, value) for row, value in zip(here.tolist(), decoded, strict=True) if value.strip())
    return found


def iterate_texts(inputs: Sequence[str], *, text: str | None) -> Iterator[list[str]]:
    """All texts that are not blank, a few hundred kB at a time."""
    for unit, column in _units(inputs, text=text):
        yield _texts(unit, column)


def _units(inputs: Sequence[str], *, text: str | None, judged: list[str] | None = None) -> list[tuple[WorkUnit, str]]:
    """Units of text with their columns; files of verdicts go to `judged` instead, where it is given."""
    _, entries = storage.expand_all(inputs)
    units: list[tuple[WorkUnit, str]] = []
    for entry in entries:
        footer = read_footer(entry.path)
        if judged is not None and is_verdicts(footer.schema):
            judged.append(entry.path)
            continue
        column = find_text_column(footer.schema, text, where=storage.printable(entry.path))
        units += ((unit, column) for unit in cut_file(entry, text=column, text_mb=UNIT_MB, footer=footer)[1])
    return units


def _texts(unit: WorkUnit, column: str) -> list[str]:
    values = read_unit(unit, text=column)["text"].to_pylist()
    decoded = (value.decode("utf-8", "replace") for value in values if value)
    return [found for found in decoded if found.strip()]


def _check_type(column: "pa.Field[Any]", *, where: str) -> None:
    type_ = column.type
    listed = pa.types.is_list(type_) or pa.types.is_large_list(type_)
    fields = list(type_.value_type) if listed and pa.types.is_struct(type_.value_type) else []
    numbers = {field.name for field in fields if pa.types.is_integer(field.type)}
    if not {"start", "end"} <= numbers:
        raise UserError(f"{where}: column '{column.name}' is {type_}; expected {_SPANS}")
