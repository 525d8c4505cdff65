"""A unit's rows with all their columns, its duplicates, and the files that it becomes."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rtdscan.transforms import storage
from rtdscan.transforms.cleaning.job import CleanJob, changes_path, hashes_path, kept_path, rejected_path
from rtdscan.transforms.cleaning.rows import MARKS, REASON, Cleaned, reason_kind
from rtdscan.transforms.columns import get_column
from rtdscan.transforms.footers import open_parquet
from rtdscan.transforms.job import digest_of
from rtdscan.transforms.partitions import add_partitions
from rtdscan.transforms.records import WorkUnit
from rtdscan.transforms.shards import Stamp, read_shard, read_stamp
from rtdscan.transforms.units import INT96_UNIT, MIB, NULL_LISTS, FileProblem, content_digest, told

KEY = b"rtdscan.clean"
"""Key of the footer's metadata under which a file's stamp lies, as JSON; all other metadata are the input's."""

DUPLICATES_FILE = "duplicates.parquet"
"""All duplicates in corpus order (schema MARKS), beside clean.json."""

BATCH_ROWS = 512

_OPTIONS: dict[str, Any] = {
    "pre_buffer": False,
    "buffer_size": MIB,
    "page_checksum_verification": True,
    "coerce_int96_timestamp_unit": INT96_UNIT,
}


@dataclass(frozen=True, slots=True)
class CleanStamp:
    """What the footer of a file of a unit says.

    Attributes:
        fingerprint: What it was made from.
        kept, rejected, changes: Rows of the unit's files.
        reasons, kinds: How many rows were rejected by reason, how many changes made by kind.
    """

    fingerprint: str
    kept: int
    rejected: int
    changes: int
    reasons: dict[str, int]
    kinds: dict[str, int]


def read_rows(unit: WorkUnit, *, text: str, digest: str) -> pa.Table:
    """Read a unit's rows with all columns, types and metadata as in the input.

    Args:
        unit: The unit.
        text: Name or path of the text column.
        digest: `content_digest` that its texts had when they were scanned.

    Raises:
        FileProblem: The file has gone or changed since the scan, or its data are damaged.
    """
    name = storage.printable(unit.file.path)
    if storage.stat(unit.file.path) != (unit.file.size, unit.file.version):
        raise FileProblem(f"{name} has changed since the scan: scan again, then clean")
    with told(f"{name}, row group {unit.row_group}"), storage.open_read(unit.file.path) as source:
        file = open_parquet(source, unit.file, **_OPTIONS)
        try:
            rows = _rows(file, unit)
        except pa.ArrowInvalid as error:
            if NULL_LISTS not in str(error):
                raise
            rows = _rows_with_null_lists(source, file, unit)
    texts = get_column(rows.schema, text, where=name).of(rows)
    if rows.num_rows != unit.rows or content_digest(texts) != digest:
        raise FileProblem(f"{name} has changed since the scan: scan again, then clean")
    return rows


def _rows(file: pq.ParquetFile, unit: WorkUnit, columns: Sequence[str] | None = None) -> pa.Table:
    at, end, batches = 0, unit.skip + unit.rows, []
    groups = [unit.row_group]
    for batch in file.iter_batches(batch_size=BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False):
        first, last = max(unit.skip - at, 0), min(end - at, batch.num_rows)
        at += batch.num_rows
        if first < last:
            batches.append(batch.slice(first, last - first))
        if at >= end:
            break
    return pa.Table.from_batches(batches, schema=None if columns else file.schema_arrow)


def _rows_with_null_lists(source: Any, file: pq.ParquetFile, unit: WorkUnit) -> pa.Table:
    """As `_rows`. Lists of fixed size are read as plain lists, which they are where Arrow's own schema is left out."""
    footer = BytesIO()
    file.metadata.write_metadata_file(footer)
    data = footer.getvalue().replace(b"ARROW:schema", b"ARROW:ignore")
    plain = pq.ParquetFile(source, metadata=pq.read_metadata(pa.BufferReader(data)), **_OPTIONS)
    schema = file.schema_arrow
    fixed = [field.name for field in schema if pa.types.is_fixed_size_list(field.type)]
    lists, others = _rows(plain, unit, fixed), _rows(file, unit, [name for name in schema.names if name not in fixed])
    arrays = [lists[field.name].cast(field.type) if field.name in fixed else others[field.name] for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def read_attributes(unit: WorkUnit, job: CleanJob) -> tuple[pa.Table, Stamp]:
    """The unit's attributes, with the columns that its path adds, and their stamp.

    Raises:
        FileProblem: The shard is missing, damaged, or not the unit's.
    """
    path = storage.join(job.attributes, unit.shard)
    where = storage.printable(path)
    stamp = read_stamp(path)
    if stamp is None:
        raise FileProblem(f"{where} is missing or damaged: scan again, then clean")
    with told(where):
        table = read_shard(path)
    numbers = table["row"].to_numpy()
    ours = table.num_rows == unit.rows and (numbers == range(unit.first_row, unit.first_row + unit.rows)).all()
    if not ours:
        raise FileProblem(f"{where} is not of rows {unit.first_row} to {unit.first_row + unit.rows - 1}: scan again")
    return add_partitions(table, unit.file.relative), stamp


def read_marks(unit: WorkUnit, job: CleanJob) -> pa.Table:
    """The unit's duplicates (schema MARKS), in order."""
    if not job.settings.marks:
        return MARKS.empty_table()
    mine = (pc.field("file") == unit.file.relative) & (pc.field("row") >= unit.first_row)
    with storage.open_read(storage.join(job.output, DUPLICATES_FILE)) as source:
        found = pq.read_table(source, filters=mine & (pc.field("row") < unit.first_row + unit.rows))
    return found.replace_schema_metadata(None)


def marks_digest(marks: pa.Table) -> str:
    """Digest of a unit's duplicates; empty where there are none."""
    return digest_of(marks.to_pydict()) if marks.num_rows else ""


def write_hashes(unit: WorkUnit, job: CleanJob, hashes: pa.Table, *, fingerprint: str) -> None:
    """Write the hashes of the unit's selected texts."""
    _write(storage.join(job.output, hashes_path(unit)), hashes, {"fingerprint": fingerprint})


def write_cleaned(unit: WorkUnit, job: CleanJob, cleaned: Cleaned, *, fingerprint: str) -> CleanStamp:
    """Write the unit's files, each whole or not at all; the kept rows last, so that they tell that all are there."""
    stamp = CleanStamp(
        fingerprint=fingerprint,
        kept=cleaned.kept.num_rows,
        rejected=cleaned.rejected.num_rows,
        changes=cleaned.changes.num_rows,
        reasons=dict(sorted(Counter(map(reason_kind, cleaned.rejected[REASON].to_pylist())).items())),
        kinds=dict(sorted(Counter(cleaned.changes["kind"].to_pylist()).items())),
    )
    if job.settings.edits:
        _write(storage.join(job.output, changes_path(unit)), cleaned.changes, asdict(stamp))
    _write(storage.join(job.output, rejected_path(unit)), cleaned.rejected, asdict(stamp))
    _write(storage.join(job.output, kept_path(unit)), cleaned.kept, asdict(stamp))
    return stamp


def read_clean_stamp(unit: WorkUnit, job: CleanJob) -> CleanStamp | None:
    """The stamp of a unit all of whose files are there and belong together; None otherwise.

    Rows are counted by the files' own footers.
    """
    kept = _footer(storage.join(job.output, kept_path(unit)))
    rejected = _footer(storage.join(job.output, rejected_path(unit)))
    if kept is None or kept[0] != (rejected and rejected[0]):
        return None
    try:
        stamp = CleanStamp(**kept[0])
    except TypeError:  # of another version
        return None
    if job.settings.edits:
        changes = _footer(storage.join(job.output, changes_path(unit)))
        if changes is None or changes[0] != kept[0] or changes[1] != stamp.changes:
            return None
    counted = (kept[1], rejected[1] if rejected else -1)
    return stamp if counted == (stamp.kept, stamp.rejected) and sum(counted) == unit.rows else None


def read_fingerprint(path: str) -> str:
    """The fingerprint of a file; empty where there is none."""
    found = _footer(path)
    return str(found[0].get("fingerprint", "")) if found else ""


def _footer(path: str) -> tuple[dict[str, Any], int] | None:
    """Stamp and rows of a file; None where there is none that this program wrote."""
    if not storage.exists(path):
        return None
    try:
        with storage.open_read(path) as source:
            metadata = pq.read_metadata(source)
        stamp = json.loads((metadata.metadata or {})[KEY])
    except (pa.ArrowInvalid, OSError, KeyError, ValueError):
        return None
    return (stamp, metadata.num_rows) if isinstance(stamp, dict) else None


def _write(path: str, table: pa.Table, stamp: dict[str, Any]) -> None:
    metadata = {**(table.schema.metadata or {}), KEY: json.dumps(stamp, sort_keys=True).encode()}
    stamped = table.replace_schema_metadata(metadata)
    try:
        storage.put(path, lambda sink: pq.write_table(stamped, sink, compression="zstd"))
    except pa.ArrowNotImplementedError as error:
        raise FileProblem(f"cannot write {storage.printable(path)} as Parquet: {error}") from error
