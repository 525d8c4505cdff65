"""clean_table: rows and their attributes -> what is kept, what is rejected and why, what was changed."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rtdscan.transforms.cleaning.duplicates import Marks, equal_rows, similar_rows, sketches, text_digests
from rtdscan.transforms.cleaning.edits import Edit, apply_edits, edited_column, edits_of, with_column
from rtdscan.transforms.cleaning.expressions import compile_expression, mask_of
from rtdscan.transforms.cleaning.settings import CleanSettings, DuplicateSettings
from rtdscan.transforms.columns import as_binary, as_table, find_text_column, get_column
from rtdscan.transforms.errors import RtdscanError, UserError

REASON = "rtdscan_reason"
"""The column that rejected rows have besides those of the input."""

MARKS = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("first_file", pa.string()),
        pa.field("first_row", pa.int64()),
        pa.field("cosine", pa.float32()),
    ]
)
"""A duplicate: row `row` (from 0) of `file`, the kept row that it repeats, and the cosine (null: texts are equal)."""

CHANGES = pa.schema(
    [
        pa.field("file", pa.string(), metadata={"description": "input file, relative to INPUT's root"}),
        pa.field("row", pa.int64(), metadata={"description": "number of the row in its input file, from 0"}),
        pa.field("start", pa.int64(), metadata={"description": "first character, in the text as it was"}),
        pa.field("end", pa.int64(), metadata={"description": "character after the last"}),
        pa.field("before", pa.string(), metadata={"description": "what stood there; null with changes.text false"}),
        pa.field("after", pa.string(), metadata={"description": "what stands there now; null likewise if replaced"}),
        pa.field("kind", pa.string(), metadata={"description": "mask | remove | replace | kind of personal data"}),
    ]
)


class Cleaned(NamedTuple):
    """What became of a table.

    Attributes:
        kept: Rows that stay, with the input's schema, in order; texts edited where asked for.
        rejected: All others, in order, as they were, with REASON.
        changes: One row an edit of a kept row (schema CHANGES).
    """

    kept: pa.Table
    rejected: pa.Table
    changes: pa.Table


def clean_table(
    table: pa.Table,
    attributes: pa.Table,
    settings: CleanSettings,
    *,
    text: str | None = None,
    file: str = "",
    marks: pa.Table | None = None,
) -> Cleaned:
    """Keep, reject and edit rows.

    Args:
        table: N rows of input, any columns; a table, or a data frame of pandas or Polars, as the attributes.
        attributes: N rows of a scan, joined by position.
        settings: What to do.
        text: Name or path of the text column; default: as a scan finds it.
        file: Name of the file that the rows are of, for `changes`.
        marks: Duplicates among these rows, all of one file (schema MARKS), by `attributes.row`; None: looked for in
            this table alone.

    Returns:
        kept and rejected, which together are the rows of the table, and the changes.

    Raises:
        TypeError: One of the two is no table.
        UserError: An expression or column is wrong, the attributes lack a column that the settings need, or the input
            has a column REASON.
        RtdscanError: There are not as many attributes as rows, or they are those of other texts.
    """
    table, attributes = as_table(table), _as_scanned(as_table(attributes))
    if table.num_rows != attributes.num_rows:
        raise RtdscanError(f"{table.num_rows} rows of input but {attributes.num_rows} of attributes: scan again")
    refuse_reason(table.schema, where=file or "the table")
    _refuse_lack(attributes, settings)
    text = find_text_column(table.schema, text, where=file or "the table", told_by="text=")
    _refuse_others(table, attributes, text=text, where=file or "the table")
    chosen = selected(attributes, settings)
    if marks is None:
        marks, at_K = marks_of_table(table, attributes, settings, text=text, file=file)
    else:
        position = {number: at for at, number in enumerate(attributes["row"].to_pylist())}
        at_K = [position[number] for number in marks["row"].to_pylist()]
    reasons = dict(zip(at_K, map(_duplicate_reason, marks.to_pylist()), strict=True))
    keep = pc.and_(chosen, pc.invert(pa.array([row in reasons for row in range(len(chosen))], pa.bool_())))
    reject = pc.invert(keep)
    told = _selection_reasons(attributes, chosen, settings) | reasons
    rejected = _filtered(table, reject)
    why = pa.array([told[int(row)] for row in np.flatnonzero(reject.to_numpy(zero_copy_only=False))], pa.string())
    rejected = rejected.append_column(pa.field(REASON, pa.string(), metadata={"description": "why it is here"}), why)
    kept = _filtered(table, keep)
    if not settings.edits or not kept.num_rows:
        return Cleaned(kept, rejected, CHANGES.empty_table())
    own = _filtered(attributes.select(["row", "spans"]), keep)
    kept, changes = _edited(kept, own, settings, text=text, file=file)
    return Cleaned(kept, rejected, changes)


def refuse_reason(schema: pa.Schema, *, where: str) -> None:
    """Raise UserError where the input has the column that tells why a row was rejected."""
    if REASON in schema.names:
        raise UserError(f"{where} has a column {REASON}, which rejected rows get from rtdscan: rename it in the input")


def _as_scanned(attributes: pa.Table) -> pa.Table:
    """Attributes that were in a data frame, as a scan types them: texts are no views there, vectors no plain lists."""
    for at, field in enumerate(attributes.schema):
        column, type_ = attributes[at], field.type
        if pa.types.is_string_view(type_):
            attributes = attributes.set_column(at, field.name, column.cast(pa.large_string()))
        elif field.name == "embedding" and (pa.types.is_list(type_) or pa.types.is_large_list(type_)):
            dims = pc.max(pc.list_value_length(column)).as_py() or 0
            attributes = attributes.set_column(at, field.name, column.cast(pa.list_(type_.value_type, dims)))
    return attributes


def _refuse_lack(attributes: pa.Table, settings: CleanSettings) -> None:
    """Raise UserError where the attributes have not all columns that the settings need."""
    needed = {
        "row": True,
        "decision": not isinstance(settings.keep, str),
        "embedding": settings.duplicates.near is not None,
        "spans": settings.spans.action != "none" or settings.spans.replace,
    }
    lacking = [name for name, wanted in needed.items() if wanted and name not in attributes.column_names]
    if lacking:
        raise UserError(f"the attributes have no column {', '.join(lacking)}, which these settings need")


def _refuse_others(table: pa.Table, attributes: pa.Table, *, text: str, where: str) -> None:
    """Raise RtdscanError where a text has another length than the one that was scored."""
    if not {"status", "n_chars"} <= set(attributes.column_names):
        return
    counted = pc.and_(pc.equal(attributes["status"], "ok"), pc.is_valid(attributes["n_chars"]))
    row_N = np.flatnonzero(pc.fill_null(counted, False).to_numpy())
    texts = as_binary(get_column(table.schema, text, where=where).of(table)).take(pa.array(row_N))
    scored_N = attributes["n_chars"].take(pa.array(row_N)).to_numpy()
    try:
        length_N = pc.fill_null(pc.utf8_length(texts.cast(pa.large_string())), 0).to_numpy()
    except pa.ArrowInvalid:  # not UTF-8, which was scored of none
        length_N = np.array([len(str(data or b"", "utf-8", "replace")) for data in texts.to_pylist()])
    for at in np.flatnonzero(length_N != scored_N)[:1]:
        raise RtdscanError(
            f"{where}: the text at position {row_N[at]:,} has {length_N[at]:,} characters, but the one that was scored "
            f"had {scored_N[at]:,}: the attributes must be those of the table's rows, in order"
        )


def selected(attributes: pa.Table, settings: CleanSettings) -> pa.BooleanArray:
    """Which rows `keep` chooses, duplicates not looked at."""
    if isinstance(settings.keep, str):
        return mask_of(compile_expression(settings.keep, attributes.schema), attributes, text=settings.keep)
    return pc.is_in(attributes["decision"], value_set=pa.array(settings.keep, pa.string())).combine_chunks()


def marks_of_table(
    table: pa.Table, attributes: pa.Table, settings: CleanSettings, *, text: str, file: str = ""
) -> tuple[pa.Table, list[int]]:
    """Duplicates within one table (schema MARKS), by `attributes.row`, and their positions: of the rows of several
    files, or of several calls of a Scorer, numbers repeat."""
    if not settings.marks:
        return MARKS.empty_table(), []
    row_N = np.flatnonzero(selected(attributes, settings).to_numpy(zero_copy_only=False))
    texts = as_binary(get_column(table.schema, text, where=file or "the table").of(table))
    digest_N2 = text_digests(texts.take(pa.array(row_N)))
    embedding_ND = embeddings(attributes)[row_N] if settings.duplicates.near is not None else None
    found = find_marks(
        lambda: [(row_N, digest_N2)],
        settings.duplicates,
        rows=len(row_N),
        number_N=row_N,
        embedding_ND=embedding_ND,
        sketch_NH=sketches(texts.take(pa.array(row_N))) if settings.duplicates.sketches else None,
    )
    number = attributes["row"].to_numpy()
    marks = marks_table([file] * len(found.row_K), number[found.row_K], number[found.first_K], found)
    return marks, [int(at) for at in found.row_K]


def find_marks(
    read: Any,
    settings: DuplicateSettings,
    *,
    rows: int,
    number_N: "np.ndarray[Any, Any] | None" = None,
    embedding_ND: "np.ndarray[Any, Any] | None" = None,
    sketch_NH: "np.ndarray[Any, Any] | None" = None,
) -> Marks:
    """Duplicates among rows.

    Args:
        read: As for `equal_rows`.
        settings: What to look for.
        rows: How many there are.
        number_N, embedding_ND, sketch_NH: Row numbers, ascending, their embeddings (overwritten) and sketches, where
            similar rows are looked for.
    """
    equal = equal_rows(read, rows=rows) if settings.exact else Marks.none()
    if settings.near is None or number_N is None or embedding_ND is None:
        return equal
    embedding_ND[np.searchsorted(number_N, equal.row_K)] = np.nan  # rejected already, so nobody's first
    like = similar_rows(
        embedding_ND, threshold=settings.near, center=settings.center, sketch_NH=sketch_NH, overlap=settings.overlap
    )
    like = Marks(number_N[like.row_K], number_N[like.first_K], like.cosine_K)
    return equal.led_on(like) + like


def marks_table(files: Any, row_K: Any, first_row_K: Any, found: Marks, *, first_files: Any = None) -> pa.Table:
    """Duplicates as a table of the schema MARKS; `files` and rows are parallel to `found`."""
    cosines = np.minimum(found.cosine_K, 1)
    columns = [files, row_K, files if first_files is None else first_files, first_row_K]
    cosine = pa.array(cosines, pa.float32(), mask=np.isnan(cosines))
    arrays = [pa.array(column, field.type) for column, field in zip(columns, MARKS, strict=False)]
    return pa.Table.from_arrays([*arrays, cosine], schema=MARKS)


def embeddings(attributes: pa.Table) -> "np.ndarray[Any, Any]":
    """(N, D) as stored; NaN in rows that have none."""
    column = attributes["embedding"].combine_chunks()
    column = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
    dims = column.type.list_size
    values = column.values.slice(column.offset * dims, len(column) * dims)
    flat = pc.fill_null(values.cast(pa.float32()), float("nan")).to_numpy(zero_copy_only=False)
    number = np.float16 if column.type.value_type == pa.float16() else np.float32
    found: np.ndarray[Any, Any] = flat.reshape(len(column), dims).astype(number)
    found[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return found


def reason_kind(reason: str) -> str:
    """The kind of a reason, for counting: decision drop, expression, duplicate, near duplicate."""
    return reason.partition(",")[0].replace(":", "") if reason.startswith("decision: ") else reason.partition(":")[0]


def _selection_reasons(attributes: pa.Table, chosen: pa.BooleanArray, settings: CleanSettings) -> dict[int, str]:
    """Why rows are not selected, by position."""
    rows = np.flatnonzero(~chosen.to_numpy(zero_copy_only=False))
    if isinstance(settings.keep, str):
        return dict.fromkeys(map(int, rows), f"expression: not true: {settings.keep}")
    told = attributes.select(["decision", "status", "score"]).take(pa.array(rows, pa.int64())).to_pylist()
    return {
        int(row): f"decision: {one['decision']}, "
        + (f"status {one['status']}" if one["score"] is None else f"score {one['score']:.4f}")
        for row, one in zip(rows, told, strict=True)
    }


def _duplicate_reason(mark: dict[str, Any]) -> str:
    """Why a row is rejected as a duplicate."""
    where = f"{mark['first_file']} row {mark['first_row']}".strip()
    equal = mark["cosine"] is None
    return f"duplicate: {where}" if equal else f"near duplicate: {where}, cosine {mark['cosine']:.4f}"


def _filtered(table: pa.Table, mask: pa.BooleanArray) -> pa.Table:
    """The rows of a mask, whatever their types: Arrow can't filter views, but it can put slices together."""
    columns = []
    for column in table.columns:
        try:
            columns.append(column.filter(mask))
        except pa.ArrowNotImplementedError:
            chosen = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
            runs = np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1) if len(chosen) else []
            slices = [chunk for run in runs for chunk in column.slice(run[0], len(run)).chunks]
            columns.append(pa.chunked_array([pa.concat_arrays(slices)] if slices else [], column.type))
    return pa.Table.from_arrays(columns, schema=table.schema)


def _edited(
    kept: pa.Table, attributes: pa.Table, settings: CleanSettings, *, text: str, file: str
) -> tuple[pa.Table, pa.Table]:
    """Kept rows with their texts edited, and the list of edits."""
    column = get_column(kept.schema, text, where=file or "the table")
    values = column.of(kept)
    spans = attributes["spans"].to_pylist() if "spans" in attributes.column_names else [()] * kept.num_rows
    rows = attributes["row"].to_pylist()
    new: dict[int, bytes] = {}
    changes: list[dict[str, Any]] = []
    for at, data in enumerate(as_binary(values).to_pylist()):
        # Of bytes that are no UTF-8 the rest is edited all the same.
        old = "" if data is None else data.decode("utf-8", "surrogateescape")
        edits = edits_of(old, spans[at] or (), settings) if old else []
        if edits:
            new[at] = apply_edits(old, edits).encode("utf-8", "surrogateescape")
            changes += [_change(file, rows[at], old, edit, settings) for edit in edits]
    if new:
        kept = with_column(kept, column, edited_column(values, new))
    return kept, pa.Table.from_pylist(changes, schema=CHANGES)


def _change(file: str, row: int, text: str, edit: Edit, settings: CleanSettings) -> dict[str, Any]:
    quoted = settings.changes.text
    before = text[edit.start : edit.end].encode("utf-8", "replace").decode() if quoted else None
    after = edit.after if quoted or edit.kind != "replace" else None  # a suggestion tells what stood there
    fields = {"start": edit.start, "end": edit.end, "after": after, "kind": edit.kind}
    return {"file": file, "row": row, "before": before, **fields}
