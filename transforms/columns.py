"""Columns by name, also inside structs; which of them is the text; and texts as bytes.

A column is addressed by its name or, inside structs, by the names on the way to it with dots between (`doc.text`). A
column whose very name is `doc.text` wins over the field `text` of a column `doc`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rtdscan.transforms.errors import UserError

USUAL = ("text", "content", "document")
"""Names that a text column is known by, the best known first."""

_STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BINARIES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a schema, maybe inside structs.

    Attributes:
        name: As it was asked for.
        path: Position of its top-level column, then of the field in each struct on the way.
        type: Its Arrow type.
    """

    name: str
    path: tuple[int, ...]
    type: pa.DataType

    def leaf_index(self, schema: pa.Schema) -> int:
        """Number of the column's first Parquet leaf.

        Counted, since names don't tell: the leaves of `doc.text` and of `text` in `doc` are both called `doc.text`.

        Args:
            schema: The Arrow schema of the Parquet file that the column was found in.
        """
        index, fields = 0, list(schema)
        for at in self.path:
            index += sum(leaf_count(field.type) for field in fields[:at])
            fields = _children(fields[at].type)
        return index

    def of(self, rows: Any) -> Any:
        """The column's values in a table or record batch of that schema; null where a struct on the way is null."""
        values, type_ = rows.column(self.path[0]), rows.schema.field(self.path[0]).type
        for at in self.path[1:]:
            values, type_ = pc.struct_field(values, [at]), type_.field(at).type
        return values


def leaf_count(type_: pa.DataType) -> int:
    """Parquet leaves of a column of this type."""
    children = _children(type_)
    return sum(leaf_count(child.type) for child in children) if children else 1


def _children(type_: pa.DataType) -> "list[pa.Field[Any]]":
    if isinstance(type_, pa.BaseExtensionType):
        return _children(type_.storage_type)
    if pa.types.is_dictionary(type_):
        return []
    return [type_.field(at) for at in range(type_.num_fields)]


def find_column(schema: pa.Schema, name: str) -> Column | None:
    """The column of that name or path; None where there is none, or more than one."""
    return _find(list(schema), name, name, ())


def _find(fields: "list[pa.Field[Any]]", rest: str, name: str, path: tuple[int, ...]) -> Column | None:
    exact = [at for at, field in enumerate(fields) if field.name == rest]
    if len(exact) == 1:
        return Column(name, (*path, exact[0]), fields[exact[0]].type)
    for at, field in enumerate(fields):
        if not exact and pa.types.is_struct(field.type) and rest.startswith(f"{field.name}."):
            found = _find(_children(field.type), rest[len(field.name) + 1 :], name, (*path, at))
            if found:
                return found
    return None


def is_absent(schema: pa.Schema, name: str) -> bool:
    """Whether there is no column of that name or path; False where there are several."""
    return find_column(schema, name) is None and name not in schema.names


def get_column(schema: pa.Schema, name: str, *, where: str) -> Column:
    """The column of that name or path.

    Raises:
        UserError: There is none, or more than one.
    """
    found = find_column(schema, name)
    if found is None:
        several = list(schema.names).count(name) > 1
        wrong = f"several columns called '{name}'" if several else f"no column '{name}'"
        raise UserError(f"{where} has {wrong}{_hive_hint(name, path=where)}; its columns: {describe(schema)}")
    return found


def _hive_hint(name: str, *, path: str) -> str:
    """What to say of a column that is not in a file but in its path; empty where it is not."""
    told = (
        " (it is part of the path, as it will be of OUTPUT: readers with Hive partitioning find it there; gates,"
        " tally.by, report.by and --keep take it where it is below INPUT)"
    )
    return told if f"/{name}=" in f"/{path}" else ""


def is_string_like(type_: pa.DataType) -> bool:
    """Whether it is string, large_string, string_view or a dictionary of those."""
    if pa.types.is_dictionary(type_):
        return is_string_like(type_.value_type)
    return any(test(type_) for test in _STRINGS)


def is_bytes_like(type_: pa.DataType) -> bool:
    """Whether it is a binary type of variable length or a dictionary of such; text only when asked for by name."""
    if pa.types.is_dictionary(type_):
        return is_bytes_like(type_.value_type)
    return any(test(type_) for test in _BINARIES)


def as_table(rows: Any) -> pa.Table:
    """A table, or what Arrow can read as one (data frames of pandas and Polars, anything with `__arrow_c_stream__`).

    Raises:
        TypeError: It is neither; a single column, for example.
    """
    if isinstance(rows, pa.Table):
        return rows
    expected = f"expected a pyarrow.Table or a data frame, found {type(rows).__name__}"
    if not hasattr(rows, "__arrow_c_stream__"):
        raise TypeError(expected)
    try:
        return pa.table(rows)
    except pa.ArrowInvalid as error:
        raise TypeError(f"{expected}; put a column into a table: pa.table({{'text': column}})") from error


def find_text_column(schema: pa.Schema, wanted: str | None, *, where: str, told_by: str = "input.text") -> str:
    """Which column holds the text.

    Args:
        schema: Of a file or table.
        wanted: Name or path of the column; may be of a binary type, or of nulls alone. None: the string-like column
            called text, content or document (in this order), else one of nulls called so, else the only string-like
            one; columns inside structs only where there is no other.
        where: The file or table, for the error message.
        told_by: What names the column: the option or argument, for the error message.

    Returns:
        Name or path of the column.

    Raises:
        UserError: There is no such column, it does not hold text, or there are several that could be meant.
    """
    if wanted is not None:
        type_ = get_column(schema, wanted, where=where).type
        stored = type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_  # arrow.json is a string
        if is_string_like(stored) or is_bytes_like(stored) or pa.types.is_null(stored):
            return wanted
        raise UserError(
            f"{where}: column '{wanted}' is {type_}, expected string or binary{_list_hint(type_)};"
            f" its columns: {describe(schema)}"
        )
    strings = [name for name, type_ in leaves(schema) if is_string_like(type_)]
    nulls = [name for name, type_ in leaves(schema) if pa.types.is_null(type_)]
    top = [name for name in strings if name in schema.names]
    for names, usual in product((strings, nulls), USUAL):
        usually = [name for name in names if name == usual or (not top and name.endswith(f".{usual}"))]
        if len(usually) == 1:
            return usually[0]
    if len(top or strings) == 1:
        return (top or strings)[0]
    if strings:
        wrong = f"{len(top or strings)} string columns: name the text column by {told_by}"
    else:
        hints = (_list_hint(type_) for _, type_ in leaves(schema))
        wrong = "no string column" + next(filter(None, hints), f": name the text column by {told_by}")
    raise UserError(f"{where} has {wrong}; its columns: {describe(schema)}")


def _list_hint(type_: pa.DataType) -> str:
    """What to do with a column of lists of texts; empty for others."""
    is_list = getattr(type_, "value_type", None) is not None and not pa.types.is_dictionary(type_)
    return " (lists are not read: join or explode them first)" if is_list and is_string_like(type_.value_type) else ""


def leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    """Name or path, and type, of every column that is not a struct."""
    for field in schema:
        yield from _leaves(field, "")


def _leaves(field: "pa.Field[Any]", above: str) -> Iterator[tuple[str, pa.DataType]]:
    if not pa.types.is_struct(field.type):
        yield above + field.name, field.type
        return
    for child in _children(field.type):
        yield from _leaves(child, f"{above}{field.name}.")


def describe(schema: pa.Schema) -> str:
    """The columns for an error message: `id (int64), doc.text (string)`; the first 20."""
    told = [f"{name} ({type_})" for name, type_ in leaves(schema)]
    more = f", and {len(told) - 20} more" if len(told) > 20 else ""
    return ", ".join(told[:20]) + more if told else "none"


def read_column(rows: Any, name: str) -> Any:
    """The values of a column.

    Args:
        rows: A table or record batch.
        name: Name, or path inside structs; a null struct gives null.

    Returns:
        An array of a batch, a chunked array of a table.

    Raises:
        UserError: There is none, or more than one.
    """
    return get_column(rows.schema, name, where="the table").of(rows)


def as_binary(values: Any) -> pa.Array:
    """Texts as bytes.

    Args:
        values: Array or chunked array of a string-like or binary type, or of nulls.

    Returns:
        One large_binary array: nulls stay, bytes that are not valid UTF-8 stay as they are.
    """
    if isinstance(values, pa.ChunkedArray):
        chunks = [as_binary(chunk) for chunk in values.chunks]
        return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks or [pa.array([], pa.large_binary())])
    if pa.types.is_dictionary(values.type):
        # The dictionary first: decoded 32-bit offsets would end at 2 GiB.
        words = values.dictionary.cast(pa.large_binary())
        return pa.DictionaryArray.from_arrays(values.indices, words).dictionary_decode()
    return values.cast(pa.large_binary())


def distinct(values: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64], NDArray[np.int64]]:
    """Each of R values once.

    Returns:
        The U values that are not null, in the order in which they first come; kind_R: which of them each row has, U
        where it is null; [U + 1] the first row of each kind, 0 for nulls that are not there.
    """
    coded = pc.dictionary_encode(values.combine_chunks())
    kind_R = coded.indices.fill_null(len(coded.dictionary)).to_numpy().astype(np.int64)
    first_U = np.zeros(len(coded.dictionary) + 1, dtype=np.int64)
    first_U[kind_R[::-1]] = np.arange(len(kind_R))[::-1]
    return coded.dictionary, kind_R, first_U
