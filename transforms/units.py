"""Parquet's footers, and a unit's rows.

Reading streams: one row group's column chunks through buffers of 1 MiB, in batches of a few hundred kB, keeping the
unit's rows. Measured on a row group of 1 GB (400,000 texts of 2.6 kB, zstd; pyarrow 25, one core): 1.5 GB/s, and a peak
of 60 MB with the unit's own 8 MB, wherever in the row group it lies.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rtdscan.transforms import storage
from rtdscan.transforms.columns import (
    Column,
    as_binary,
    find_column,
    get_column,
    is_absent,
    is_bytes_like,
    is_string_like,
    leaf_count,
)
from rtdscan.transforms.errors import RtdscanError, StoreError
from rtdscan.transforms.footers import open_parquet
from rtdscan.transforms.partitions import partition_values, partitions
from rtdscan.transforms.records import InputFile, WorkUnit

MIB = 1 << 20

_DICTIONARY_BYTES = 2 * MIB
"""Writers give a dictionary up at 1 MiB (pyarrow, parquet-java) or a little later, and go on plainly."""

_TAIL_BYTES = 64 << 10
"""Read at once from the end of a file; holds most footers."""

_BATCH_BYTES = 256 << 10
_BATCH_ROWS = 1_024
_BATCH_ROWS_UNKNOWN = 64


INT96_UNIT = "us"
"""Unit of what old writers, Spark among them, store as INT96: in nanoseconds, Arrow's default, only the years 1677 to
2262 fit, and others come out wrong. Whoever opens a file of INPUT says so, lest its types differ."""


NULL_LISTS = "Expected all lists to be of size"
"""What pyarrow (25) says of null among lists of fixed size, which it writes but can't read."""


class FileProblem(RtdscanError):
    """A file, or a unit of it, that can't be read; the others can. One line, names the file."""


@dataclass(frozen=True, slots=True)
class Footer:
    """What a Parquet file tells of itself.

    Attributes:
        metadata: Row groups, column chunks, sizes.
        schema: As Arrow sees it.
        digest: blake2b-128 hex digest of the footer's bytes.
    """

    metadata: pq.FileMetaData
    schema: pa.Schema
    digest: str


def read_footer(path: str) -> Footer:
    """Read the footer, and nothing else.

    Raises:
        FileProblem: The file is missing, empty, cut short, encrypted, or not Parquet.
    """
    where = storage.printable(path)
    with told(where), storage.open_read(path) as source:
        data = _footer_bytes(source, where=where)
        # Metadata from the bytes at hand: no second read, which in a store is a second request.
        whole = pa.BufferReader(b"PAR1" + data + struct.pack("<I", len(data)) + b"PAR1")
        metadata = pq.read_metadata(whole)
        if len(data) - metadata.serialized_size == 28:  # a signature; asked for such columns pyarrow aborts the process
            raise FileProblem(f"{where} has encrypted columns: decrypt it first")
        schema = pq.ParquetFile(whole, metadata=metadata, coerce_int96_timestamp_unit=INT96_UNIT).schema_arrow
    return Footer(metadata, schema, blake2b(data, digest_size=16).hexdigest())


def _footer_bytes(source: Any, *, where: str) -> bytes:
    size = source.size()
    if size < 12:
        raise FileProblem(f"{where} is not Parquet: {size} bytes; the shortest Parquet file has 12")
    tail = source.read_at(min(size, _TAIL_BYTES), max(size - _TAIL_BYTES, 0))
    if tail[-4:] == b"PARE":
        raise FileProblem(f"{where} is encrypted: decrypt it first")
    if tail[-4:] != b"PAR1":
        cut = source.read_at(4, 0) == b"PAR1"
        wrong = "is cut short: it begins as Parquet but its footer is missing" if cut else "is not Parquet"
        raise FileProblem(f"{where} {wrong}")
    (length,) = struct.unpack("<I", tail[-8:-4])
    if length > size - 12:
        raise FileProblem(f"{where} is damaged: it says its footer has {length} bytes, but the file has {size}")
    if length > len(tail) - 8:
        tail = source.read_at(length + 8, size - length - 8)
    return bytes(tail[-8 - length : -8])


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn what pyarrow and the file system raise into a FileProblem that names `what` in one line."""
    try:
        yield
    except (FileProblem, StoreError):  # a store that is not there is no bad file: nothing may be quarantined for it
        raise
    except RtdscanError as error:  # names the path already
        raise FileProblem(str(error)) from error
    except (pa.ArrowException, OSError, ValueError, IndexError, NotImplementedError) as error:
        if isinstance(error, MemoryError):
            raise
        raise FileProblem(f"cannot read {what}: {' '.join(str(error).split())[:300]}") from error


def is_repetitive(chunk: Any, rows: int) -> bool:
    """Whether the column chunk may be nothing but a dictionary and references to it (4 bytes at most)."""
    return bool(chunk.has_dictionary_page) and chunk.total_uncompressed_size <= _DICTIONARY_BYTES + 4 * rows


def read_unit(
    unit: WorkUnit,
    *,
    text: str,
    id: str | None = None,
    columns: Sequence[str] = (),
    absent: Mapping[str, pa.DataType] | None = None,
) -> pa.Table:
    """Read a unit's rows.

    Args:
        unit: The unit.
        text: Name or path of the text column.
        id: Name or path of the id column.
        columns: Others; those that only the path has are texts.
        absent: Types of columns that the file may lack, which are null then.

    Returns:
        Columns `text` (large_binary), `id` if asked for, and the others under the names by which they were asked for,
        with their own types. One chunk each (more only where 32-bit offsets force it).

    Raises:
        FileProblem: The file has gone or changed since it was planned, or its data are damaged.
    """
    name = storage.printable(unit.file.path)
    where = f"{name}, row group {unit.row_group}, rows {unit.first_row} to {unit.first_row + unit.rows - 1}"
    with told(where):
        _check_unchanged(unit)
        with storage.open_read(unit.file.path) as source:
            file = _open(source, unit.file, text)
            schema = file.schema_arrow
            of_path, null = partitions(unit.file.relative), absent or {}
            added = [other for other in columns if (other in of_path or other in null) and is_absent(schema, other)]
            in_file = [*([id] if id else []), *(other for other in columns if other not in added)]
            wanted = [get_column(schema, other, where=name) for other in (text, *in_file)]
            names = ["text", *(["id"] if id else []), *in_file[bool(id) :]]
            try:
                tables = list(_rows_of(file, unit, wanted, names))
            except pa.ArrowInvalid as error:
                if NULL_LISTS not in str(error):
                    raise
                named = ", ".join(f"'{column.name}'" for column in wanted if "fixed_size_list" in str(column.type))
                raise FileProblem(
                    f"{where}: Arrow cannot read lists of fixed size with nulls among them ({named}): leave such"
                    " columns out of output.columns"
                ) from error
        _check_unchanged(unit)
    found = sum(table.num_rows for table in tables)
    if found != unit.rows:
        raise FileProblem(f"{where}: only {found} rows could be read")
    rows = pa.concat_tables(tables).combine_chunks()
    for at, other in enumerate(columns, 2 if id else 1):
        if other in added:
            in_path = other in of_path
            values = (
                partition_values(unit.file.relative, other, rows=found) if in_path else pa.nulls(found, null[other])
            )
            rows = rows.add_column(at, other, values)
    return rows


def _open(source: Any, which: InputFile, text: str) -> pq.ParquetFile:
    """Open a file for streaming. Checksums are checked where the writer left some."""
    options: dict[str, Any] = {"pre_buffer": False, "buffer_size": MIB, "page_checksum_verification": True}
    options["coerce_int96_timestamp_unit"] = INT96_UNIT
    file = open_parquet(source, which, **options)
    found = find_column(file.schema_arrow, text)
    if found is None or not pa.types.is_dictionary(found.type):
        # Not read_dictionary: where a dictionary was given up it hashes all texts anew (1 GB: 270 s, 4 GB of memory).
        return file
    # A column that was a dictionary is made one anyway; read as one, its bytes need not be UTF-8.
    return pq.ParquetFile(source, metadata=file.metadata, read_dictionary=[text], **options)


def _check_unchanged(unit: WorkUnit) -> None:
    found, name = storage.stat(unit.file.path), storage.printable(unit.file.path)
    if found is None:
        raise FileProblem(f"{name} has gone since the plan was made: run again")
    if found != (unit.file.size, unit.file.version):
        then, now = unit.file.size, found[0]
        what = f"{then} bytes then, {now} now" if now != then else f"{then} bytes as then, but written at another time"
        raise FileProblem(f"{name} has changed since the plan was made ({what}): run again")


def _rows_of(file: pq.ParquetFile, unit: WorkUnit, wanted: list[Column], names: list[str]) -> Iterator[pa.Table]:
    """The unit's rows in small tables; what comes before is decoded and dropped, what comes after not read."""
    group = file.metadata.row_group(unit.row_group)
    top = list(dict.fromkeys(column.name for column in wanted))
    at, end = 0, unit.skip + unit.rows
    batches = file.iter_batches(
        batch_size=_batch_rows(file, group, wanted), row_groups=[unit.row_group], columns=top, use_threads=False
    )
    for batch in batches:
        first, last = max(unit.skip - at, 0), min(end - at, batch.num_rows)
        at += batch.num_rows
        if first < last:
            kept = batch.slice(first, last - first)
            # Names lead to the right columns: of two leaves called doc.text both were read, and the literal one wins.
            arrays = [get_column(kept.schema, column.name, where=unit.file.path).of(kept) for column in wanted]
            yield pa.Table.from_arrays([as_binary(arrays[0]), *arrays[1:]], names=names)
        if at >= end:
            return


def _batch_rows(file: pq.ParquetFile, group: Any, wanted: list[Column]) -> int:
    """Rows that take about _BATCH_BYTES. More cost memory, fewer time: 5 million rows of 20 bytes take 0.2 s by 1,024
    rows, 0.4 s by 64."""
    size: int = 0
    for column in wanted:
        first = column.leaf_index(file.schema_arrow)
        is_text = is_string_like(column.type) or is_bytes_like(column.type)
        for leaf in range(first, first + leaf_count(column.type)):
            chunk = group.column(leaf)
            if is_repetitive(chunk, group.num_rows) and is_text:
                return _BATCH_ROWS_UNKNOWN
            size += int(chunk.total_uncompressed_size)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * int(group.num_rows) // max(size, 1)))


def content_digest(texts: Any) -> str:
    """blake2b-128 hex digest of texts: of how many, how long, which are null, and of their bytes.

    Args:
        texts: Array or chunked array of a string-like or binary type, or a table with such a column `text`. However it
            is typed, chunked or sliced, the same texts give the same digest.
    """
    column = texts["text"] if isinstance(texts, pa.Table) else texts
    arrays = [as_binary(chunk) for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column])]
    digest = blake2b(digest_size=16)
    digest.update(struct.pack("<q", sum(map(len, arrays))))
    for array in arrays:
        # -1 for null, so that it differs from an empty text.
        digest.update(pc.fill_null(pc.binary_length(array), -1).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    for array in arrays:
        if array.null_count:
            array = pc.fill_null(array, b"")  # what lies under a null is anybody's guess
        if len(array):
            offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
            data = array.buffers()[2]
            if data is not None:
                digest.update(memoryview(data)[offsets[0] : offsets[-1]])
    return digest.hexdigest()
