"""Footers -> work units: which rows are scored together."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

import pyarrow as pa

from rtdscan.transforms import storage
from rtdscan.transforms.columns import find_text_column, get_column, is_absent
from rtdscan.transforms.partitions import partitions
from rtdscan.transforms.records import BadFile, InputFile, WorkUnit
from rtdscan.transforms.units import MIB, FileProblem, Footer, is_repetitive, read_footer, told

UNITS_PER_ROW_GROUP = 256
"""At most so many units of one row group. A reader has to decode all rows before its own, so n units cost n / 2 times
the row group: 256 of 1 GB two minutes, where scoring that takes hours. Memory is why it is not 32: a row group of 1 GB
then makes units of 4 MB, as any other, not of 32. It wins over ROWS_PER_UNIT."""

ROWS_PER_UNIT = 65_536
"""At most so many rows, since a row costs something however short."""

ROWS_PER_REPETITIVE_UNIT = 8_192
"""The same where the footer does not tell how long texts are: a column chunk that is nothing but a dictionary of up to
1 MiB and references to it shows 3 GB of repeated text as 0.06 MB."""


def cut_file(
    entry: storage.Entry, *, text: str, columns: Sequence[str] = (), text_mb: float, footer: Footer | None = None
) -> tuple[InputFile, list[WorkUnit]]:
    """Cut a file into units.

    Each row group is cut evenly into units of about `text_mb` by the footer's size of the text, and of at most
    ROWS_PER_UNIT rows, but into at most UNITS_PER_ROW_GROUP.

    Args:
        entry: The file.
        text: Name or path of the text column.
        columns: Others that it must have.
        text_mb: MiB of uncompressed text a unit.
        footer: The file's footer, if it was read already.

    Returns:
        The file, and its units in the order of its rows; no units where it has no rows.

    Raises:
        FileProblem: The footer can't be read, or the columns are not there or not of the right type.
    """
    footer = footer or read_footer(entry.path)
    where = storage.printable(entry.path)
    with told(where):
        for name in columns:
            get_column(footer.schema, name, where=where)
        column = get_column(footer.schema, find_text_column(footer.schema, text, where=where), where=where)
        leaf = column.leaf_index(footer.schema)
        file = InputFile(entry.path, entry.relative, entry.size, entry.version, footer.digest)
        units: list[WorkUnit] = []
        first_row = 0
        for number in range(footer.metadata.num_row_groups):
            group = footer.metadata.row_group(number)
            chunk = group.column(leaf)
            size, rows = max(chunk.total_uncompressed_size, 0), group.num_rows
            bound = ROWS_PER_REPETITIVE_UNIT if is_repetitive(chunk, rows) else ROWS_PER_UNIT
            count = min(max(ceil(size / (text_mb * MIB)), ceil(rows / bound)), UNITS_PER_ROW_GROUP, rows)
            cuts = [at * rows // count for at in range(count + 1)] if rows else []
            for skip, end in pairwise(cuts):
                share = size * (end - skip) // rows
                units.append(WorkUnit(file, number, skip, first_row + skip, end - skip, share))
            first_row += rows
    return file, units


def cut(
    entry: storage.Entry,
    *,
    text: str,
    id: str | None = None,
    carried: Sequence[str] = (),
    counted: Sequence[str] = (),
    text_mb: float,
) -> tuple[InputFile, list[WorkUnit], dict[str, pa.DataType | None]] | BadFile:
    """As `cut_file`, with the types of other columns, and with a file that can't be scanned as a value.

    Args:
        entry, text, text_mb: As for `cut_file`.
        id: Id column, if any; the file must have it.
        carried: Columns that OUTPUT's shards have, too. None of them may be part of the path, which is OUTPUT's.
        counted: Columns that are read, too; may be part of the path.

    Returns:
        The file, its units, and the types of id, carried and counted columns; None where it lacks one.
    """
    where = storage.printable(entry.path)
    in_path = partitions(entry.relative)
    try:
        footer = read_footer(entry.path)
        schema = footer.schema
        absent = {name for name in (*carried, *counted) if is_absent(schema, name)} - set(carried).intersection(in_path)
        needed = [name for name in (*([id] if id else []), *carried, *counted) if name not in absent]
        file, units = cut_file(entry, text=text, columns=needed, text_mb=text_mb, footer=footer)
    except FileProblem as problem:
        return BadFile(where, entry.relative, str(problem))
    types = {name: get_column(schema, name, where=where).type for name in needed}
    return file, units, {**types, **{name: pa.string() if name in in_path else None for name in absent}}
