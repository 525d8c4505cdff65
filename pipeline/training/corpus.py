"""Which files and rows are trained on, and the texts of a unit."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rtdscan.transforms import storage
from rtdscan.transforms.columns import find_text_column, is_bytes_like, is_string_like
from rtdscan.transforms.cutting import cut_file
from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.records import WorkUnit
from rtdscan.transforms.units import read_footer, read_unit


@dataclass(frozen=True, slots=True)
class Corpus:
    """What INPUT is.

    Attributes:
        units: All of its rows, in the order of files and rows.
        text: Name of the text column.
        files, rows, text_bytes: Counts; bytes as the footers tell them.
        digest: Of the files' relative paths and footers: the same corpus elsewhere has the same.
        licences: Rows by the value of the licence column; empty where there is none.
        notes: What a user should know; a sentence each.
    """

    units: tuple[WorkUnit, ...]
    text: str
    files: int
    rows: int
    text_bytes: int
    digest: str
    licences: dict[str, int]
    notes: tuple[str, ...] = ()


def open_corpus(inputs: Sequence[str], *, text: str | None, licence: str, unit_mb: float) -> Corpus:
    """Find and plan the files; footers are read, and the licence column.

    Args:
        inputs: Files, folders, globs.
        text: Text column as configured.
        licence: Column whose values are counted, where there is one: texts, or lists of texts, which are joined.
        unit_mb: MiB of text of a unit.

    Raises:
        UserError: Nothing there, a file that can't be read, no text column, no rows.
    """
    _, entries = storage.expand_all(inputs)
    units: list[WorkUnit] = []
    licences: Counter[str] = Counter()
    uncounted: dict[str, str] = {}
    digest = hashlib.blake2b(digest_size=16)
    column: str | None = None
    try:
        for entry in entries:
            footer = read_footer(entry.path)
            where = storage.printable(entry.path)
            column = column or find_text_column(footer.schema, text, where=where)
            file, planned = cut_file(entry, text=column, text_mb=unit_mb, footer=footer)
            digest.update(json.dumps([file.relative, file.footer]).encode())
            units += planned
            if licence in footer.schema.names:
                type_ = footer.schema.field(licence).type
                if not (_is_text(type_) or _is_texts(type_)):
                    uncounted.setdefault(str(type_), where)
                    continue
                for unit in planned:
                    licences.update(_licences(unit, licence, type_, text=column))
    except UserError:
        raise
    except RtdscanError as error:
        raise UserError(f"{error}; training reads all of INPUT: take the file out") from error
    if not units or column is None:
        raise UserError(f"{', '.join(inputs)}: holds no rows; nothing to train on")
    return Corpus(
        units=tuple(units),
        text=column,
        files=len(entries),
        rows=sum(unit.rows for unit in units),
        text_bytes=sum(unit.text_bytes for unit in units),
        digest=digest.hexdigest(),
        licences=dict(licences.most_common()),
        notes=tuple(
            f"input.license: column {licence} is {type_} in {where}, not text; its values are not counted"
            for type_, where in uncounted.items()
        ),
    )


def read_texts(unit: WorkUnit, *, text: str) -> list[str]:
    """The texts of a unit; those that are null, empty or not valid UTF-8 are left out."""
    texts = []
    for value in read_unit(unit, text=text)["text"].to_pylist():
        try:
            found = (value or b"").decode("utf-8")
        except UnicodeDecodeError:
            continue
        if found.strip():
            texts.append(found)
    return texts


def sample_texts(corpus: Corpus, *, megabytes: float, seed: int) -> Iterator[str]:
    """Texts of random units, until there are so many megabytes; the same for the same seed."""
    room = int(megabytes * (1 << 20))
    for at in np.random.default_rng((seed, 0)).permutation(len(corpus.units)).tolist():
        for text in read_texts(corpus.units[at], text=corpus.text):
            yield text
            room -= len(text.encode("utf-8", "replace"))
            if room <= 0:
                return


def _is_text(type_: pa.DataType) -> bool:
    return is_string_like(type_) or is_bytes_like(type_) or pa.types.is_null(type_)


def _is_texts(type_: pa.DataType) -> bool:
    return (pa.types.is_list(type_) or pa.types.is_large_list(type_)) and is_string_like(type_.value_type)


def _licences(unit: WorkUnit, name: str, type_: pa.DataType, *, text: str) -> dict[str, int]:
    """Rows by licence; those of a list joined. A list is read beside the text, which is all that is read by itself."""
    if _is_texts(type_):
        lists = read_unit(unit, text=text, columns=(name,))[name]
        values = pc.binary_join(lists.cast(pa.list_(pa.string())), ", ").cast(pa.large_binary())
    else:
        values = read_unit(unit, text=name)["text"]
    counts: Counter[str] = Counter()
    for found in pc.value_counts(values).to_pylist():
        value: bytes | None = found["values"]
        counts["none" if value is None else value.decode("utf-8", "replace")] += found["counts"]
    return counts
