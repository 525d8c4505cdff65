"""From the hashes and embeddings of all units to duplicates.parquet.

Rows are numbered over the whole corpus here: the rows of all units before, then the row within its unit.
"""

import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rtdscan.pipeline.cleaning.plan import CleanPlan
from rtdscan.transforms import storage
from rtdscan.transforms.cleaning.duplicates import HASHES
from rtdscan.transforms.cleaning.files import DUPLICATES_FILE, KEY, read_fingerprint
from rtdscan.transforms.cleaning.job import CLEANING_VERSION, CleanJob, hash_fingerprint, hashes_path
from rtdscan.transforms.cleaning.rows import embeddings, find_marks, marks_table
from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.job import digest_of
from rtdscan.transforms.records import WorkUnit

ROW_GROUP = 50_000
"""Rows of a row group of duplicates.parquet: a worker reads those that have its unit's file and rows."""


def write_duplicates(plan: CleanPlan, job: CleanJob) -> pa.Table:
    """Find all duplicates and write them down, unless they are there already.

    Returns:
        All duplicates in corpus order (schema MARKS).

    Raises:
        UserError: There are too many documents to compare each with each.
    """
    path = storage.join(job.output, DUPLICATES_FILE)
    hashed = [hash_fingerprint(job, stamp.digest) for stamp in plan.stamps]
    settings = job.settings.duplicates.model_dump(mode="json")
    # Fingerprints hold no names: a renamed file is scanned as it was, but its rows are other rows of the corpus.
    places = [(unit.file.relative, unit.row_group, unit.first_row, unit.rows) for unit in plan.units]
    of = {"hashes": digest_of({"all": hashed}), "places": digest_of({"all": places})}
    digest = digest_of({"version": CLEANING_VERSION, **of, **settings})
    if read_fingerprint(path) == digest:
        with storage.open_read(path) as source:
            return pq.read_table(source).replace_schema_metadata(None)
    table = _find(plan.units, job)
    stamp = {KEY: json.dumps({"fingerprint": digest}).encode()}
    sink = BytesIO()
    pq.write_table(table.replace_schema_metadata(stamp), sink, compression="zstd", row_group_size=ROW_GROUP)
    storage.put_bytes(path, sink.getvalue())
    return table


def marks_by_unit(units: Sequence[WorkUnit], marks: pa.Table) -> Iterator[pa.Table]:
    """The duplicates of each unit, in the order of the units.

    Raises:
        RtdscanError: There are some of other rows than these.
    """
    files, rows = marks["file"].to_pylist(), marks["row"].to_pylist()
    at = 0
    for unit in units:
        first, end = at, unit.first_row + unit.rows
        while at < len(rows) and files[at] == unit.file.relative and unit.first_row <= rows[at] < end:
            at += 1
        yield marks.slice(first, at - first)
    if at < len(rows):
        raise RtdscanError(f"{DUPLICATES_FILE} names row {rows[at]} of {files[at]}, which is in no unit: delete it")


def _find(units: Sequence[WorkUnit], job: CleanJob) -> pa.Table:
    starts = [0, *accumulate(unit.rows for unit in units)]

    def read() -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64]]]:
        for unit, start in zip(units, starts, strict=False):
            hashes = _hashes(unit, job, ["row", "low", "high"])
            number_N = hashes["row"].to_numpy() - unit.first_row + start
            yield number_N, np.stack([hashes["low"].to_numpy(), hashes["high"].to_numpy()], axis=1)

    rows = sum(_hashed_rows(unit, job) for unit in units)
    near: dict[str, Any] = {}
    if job.settings.duplicates.near is not None:
        _check_limit(rows, job.settings.duplicates.limit)
        near = _embeddings(units, starts, job, rows=rows)
    found = find_marks(read, job.settings.duplicates, rows=rows, **near)
    files, numbers = _places(units, starts, found.row_K)
    first_files, first_numbers = _places(units, starts, found.first_K)
    return marks_table(files, numbers, first_numbers, found, first_files=first_files)


def _check_limit(rows: int, limit: int) -> None:
    if rows > limit:
        raise UserError(
            f"duplicates.near compares each document with each: {rows:,} are more than duplicates.limit, {limit:,}."
            " Time grows with the square (20,000 took 5 s on one core); raise the limit, or keep fewer"
        )


def _embeddings(units: Sequence[WorkUnit], starts: Sequence[int], job: CleanJob, *, rows: int) -> dict[str, Any]:
    """Numbers, embeddings and sketches of the rows that were hashed."""
    number_N = np.zeros(rows, np.int64)
    sketch_NH = np.zeros((rows, HASHES), np.uint32) if job.settings.duplicates.sketches else None
    embedding_ND: NDArray[Any] | None = None
    at = 0
    for unit, start in zip(units, starts, strict=False):
        hashes = _hashes(unit, job, ["row"] if sketch_NH is None else ["row", "sketch"])
        chosen = hashes["row"].to_numpy() - unit.first_row
        with storage.open_read(storage.join(job.attributes, unit.shard)) as source:
            found_ND = embeddings(pq.read_table(source, columns=["embedding"], partitioning=None))[chosen]
        if embedding_ND is None:
            embedding_ND = np.zeros((rows, found_ND.shape[1]), found_ND.dtype)
        embedding_ND[at : at + len(chosen)] = found_ND
        number_N[at : at + len(chosen)] = start + chosen
        if sketch_NH is not None:
            flat = pc.list_flatten(hashes["sketch"]).to_numpy()
            sketch_NH[at : at + len(chosen)] = flat.reshape(len(chosen), HASHES)
        at += len(chosen)
    embedding_ND = np.zeros((0, 1), np.float32) if embedding_ND is None else embedding_ND
    return {"number_N": number_N, "embedding_ND": embedding_ND, "sketch_NH": sketch_NH}


def _places(
    units: Sequence[WorkUnit], starts: Sequence[int], number_K: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64]]:
    """File, and row within it, of rows of the corpus."""
    unit_K = np.searchsorted(np.array(starts), number_K, side="right") - 1
    first = np.array([unit.first_row - start for unit, start in zip(units, starts, strict=False)], np.int64)
    return [units[unit].file.relative for unit in unit_K], number_K + first[unit_K] if len(number_K) else number_K


def _hashes(unit: WorkUnit, job: CleanJob, columns: Sequence[str]) -> pa.Table:
    with storage.open_read(storage.join(job.output, hashes_path(unit))) as source:
        return pq.read_table(source, columns=list(columns), partitioning=None)


def _hashed_rows(unit: WorkUnit, job: CleanJob) -> int:
    with storage.open_read(storage.join(job.output, hashes_path(unit))) as source:
        return int(pq.read_metadata(source).num_rows)
