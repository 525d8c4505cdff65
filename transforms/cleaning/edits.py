"""Edits of texts: what becomes of flagged spans and personal data, and a text column anew.

Offsets are characters of the text as it was, as everywhere in rtdscan.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rtdscan.transforms.cleaning.personal import find_personal
from rtdscan.transforms.cleaning.settings import CleanSettings, SpanSettings
from rtdscan.transforms.columns import Column, as_binary


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a text: characters `start` to `end` (exclusive) become `after`.

    Attributes:
        kind: mask | remove | replace, of flagged spans; else the kind of personal data.
    """

    start: int
    end: int
    after: str
    kind: str


def edits_of(text: str, spans: Sequence[Mapping[str, Any]], settings: CleanSettings) -> list[Edit]:
    """What is to be changed in a text.

    Args:
        text: The text.
        spans: Its flagged spans, as in the attributes; in order, without overlaps.
        settings: What to do.

    Returns:
        Edits in order, without overlaps. Where a span overlaps personal data, these are masked and the span is left.
    """
    personal = settings.personal
    found = find_personal(text, personal.kinds, phone_region=personal.phone_region) if personal.kinds else []
    edits = [Edit(one.start, one.end, personal.mask.replace("{kind}", one.kind.upper()), one.kind) for one in found]
    edits += _span_edits(text, spans, settings.spans)
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.kind in ("mask", "remove", "replace"))):
        while kept and edit.start < kept[-1].end and edit.kind in personal.kinds:
            kept.pop()  # a span that reaches into personal data
        if not kept or edit.start >= kept[-1].end:
            kept.append(edit)
    return kept


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """The text after all edits."""
    parts, at = [], 0
    for edit in edits:
        parts += [text[at : edit.start], edit.after]
        at = edit.end
    return "".join([*parts, text[at:]])


def edited_column(values: Any, edits: Mapping[int, bytes]) -> Any:
    """A text column with some texts replaced.

    Args:
        values: Chunked array of a string-like or binary type.
        edits: Row -> the new text's bytes.

    Returns:
        A chunked array of the same type.
    """
    old = as_binary(values)
    new = pa.array([edits.get(row, old[row].as_py()) for row in range(len(old))], pa.large_binary())
    return pa.chunked_array([_as_type(new, values.type)])


def with_column(table: pa.Table, column: Column, values: Any) -> pa.Table:
    """The table with other values in a column, which may lie inside structs; all else stays, metadata too.

    Args:
        table: N rows.
        column: Found in the table's schema.
        values: N values of the column's type; those below a null struct are lost.
    """
    top = column.path[0]
    field = table.schema.field(top)
    if len(column.path) > 1:
        whole = table.column(top).combine_chunks()
        inner = values.combine_chunks()
        values = pa.chunked_array([_inside(_one(whole), column.path[1:], _one(inner))])
    return table.set_column(top, field, values)


def _inside(struct: pa.StructArray, path: tuple[int, ...], values: pa.Array) -> pa.StructArray:
    """The struct array with other values in a field at some depth."""
    fields = [struct.type.field(at) for at in range(struct.type.num_fields)]
    children = [struct.field(at) for at in range(len(fields))]
    children[path[0]] = values if len(path) == 1 else _inside(children[path[0]], path[1:], values)
    return pa.StructArray.from_arrays(children, fields=fields, mask=struct.is_null())


def _one(values: Any) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.concat_arrays(values.chunks)


def _as_type(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    """Bytes as a text column's type; bytes that are not UTF-8 stay as they are."""
    if pa.types.is_dictionary(type_):
        encoded = texts.dictionary_encode()
        words = _as_type(encoded.dictionary, type_.value_type)
        return pa.DictionaryArray.from_arrays(encoded.indices.cast(type_.index_type), words, ordered=type_.ordered)
    # Unsafe: without it Arrow refuses bytes that are not UTF-8, which Parquet's string columns may hold.
    return pc.cast(texts, type_, safe=False)


def _span_edits(text: str, spans: Sequence[Mapping[str, Any]], settings: SpanSettings) -> Iterator[Edit]:
    for span in spans:
        start, end, score = span["start"], span["end"], span["score"]
        after = next(iter(span["suggestions"] or ()), None)  # in the case of what it stands for, see `candidates.like`
        sure = next(iter(span.get("probabilities") or ()), 0.0)
        likely = _reaches(score, settings.replace_above) and _reaches(sure, settings.replace_sure)
        wanted = settings.replace and likely
        if wanted and after is not None:
            if after != text[start:end]:
                yield Edit(start, end, after, "replace")
        elif settings.action == "mask" and _reaches(score, settings.above):
            yield Edit(start, end, settings.mask, "mask")
        elif settings.action == "remove" and _reaches(score, settings.above):
            yield Edit(*_with_space(text, start, end), "", "remove")


def _reaches(value: float, bound: float) -> bool:
    """Whether a stored number is at or above a bound: it is of 32 bits, so .9 is less than a .9 of 64."""
    return bool(np.float32(value) >= np.float32(bound))


def _with_space(text: str, start: int, end: int) -> tuple[int, int]:
    """The span with one space beside it, so that no two are left where there was one on either side."""
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if after == " " and before in ("", " ", "\n"):
        return start, end + 1
    if before == " " and (not after or after in "\n.,;:!?)"):
        return start - 1, end
    return start, end
