"""Texts of documents, read from INPUT where it is still what was scanned."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from rtdscan.pipeline.finished.folder import Finished, Shard
from rtdscan.transforms import storage
from rtdscan.transforms.columns import find_column
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.footers import open_parquet
from rtdscan.transforms.records import InputFile, WorkUnit
from rtdscan.transforms.shards import read_stamp
from rtdscan.transforms.units import INT96_UNIT, FileProblem, content_digest, read_footer, read_unit

SLICE_BYTES = 1 << 16
"""Of a long text this much is decoded at a time."""

BUFFER_BYTES = 1 << 20
"""Of a column this much is read at a time."""


@dataclass(slots=True)
class Input:
    """INPUT of a finished scan, by work unit.

    What is read is compared with what was scanned: texts by their digest, so that a touched or copied corpus still
    serves; other columns by the file's size and time.

    Attributes:
        finished: The scan.
        problems: What could not be read, by file.
    """

    finished: Finished
    problems: dict[str, str] = field(default_factory=dict)

    def texts(self, shard: Shard) -> pa.Array | None:
        """The unit's texts (large_binary, one a row); None where they are not what was scanned."""
        try:
            unit, digest = self._unit(shard)
            unit = replace(unit, file=_as_it_is(unit.file))
            texts = read_unit(unit, text=self.finished.run["text"])["text"].combine_chunks()
            if content_digest(texts) != digest:
                raise FileProblem(f"{shard.file} has changed since the scan")
        except RtdscanError as problem:
            self.problems.setdefault(shard.file, str(problem))
            return None
        return texts

    def columns(self, shard: Shard, names: Sequence[str]) -> pa.Table | None:
        """Other columns of the unit's rows; None where the file is not what was scanned or lacks one of them."""
        try:
            unit, _ = self._unit(shard)
            if storage.stat(unit.file.path) != (unit.file.size, unit.file.version):
                raise FileProblem(f"{shard.file} has changed since the scan")
            return _read_columns(unit, names)
        except (RtdscanError, pa.ArrowException, OSError) as problem:
            self.problems.setdefault(shard.file, str(problem))
            return None

    def _unit(self, shard: Shard) -> tuple[WorkUnit, str]:
        """The unit that a shard was made from, and the digest of its texts."""
        stamp = read_stamp(storage.join(self.finished.output, shard.path))
        if stamp is None:
            raise RtdscanError(f"the shard {shard.path} is damaged; scan again")
        found = stamp.fingerprint
        path = storage.join(self.finished.run["root"], shard.file)
        groups = read_footer(path).metadata
        if shard.row_group >= groups.num_row_groups:
            raise FileProblem(f"{shard.file} has changed since the scan")
        before = sum(groups.row_group(number).num_rows for number in range(shard.row_group))
        file = InputFile(path, shard.file, found.size, found.version, found.footer)
        unit = WorkUnit(file, shard.row_group, shard.first_row - before, shard.first_row, shard.rows, 0)
        if unit.skip < 0 or unit.skip + unit.rows > groups.row_group(shard.row_group).num_rows:
            raise FileProblem(f"{shard.file} has changed since the scan")
        return unit, found.text


class LongText:
    """Characters of a text in UTF-8 that is never decoded as a whole.

    Args:
        data: Its bytes.
        slice_bytes: How many are decoded at a time, to the end of a character.
    """

    def __init__(self, data: memoryview, *, slice_bytes: int = SLICE_BYTES) -> None:
        """Find out where slices begin: in bytes and in characters."""
        self._data = data
        self._starts, self._firsts = [0], [0]
        while self._starts[-1] < len(data):
            start = self._starts[-1]
            stop = min(start + slice_bytes, len(data))
            while stop < len(data) and data[stop] & 0xC0 == 0x80:  # not within a character
                stop += 1
            inner = np.frombuffer(data[start:stop], np.uint8) & 0xC0 == 0x80
            self._starts.append(stop)
            self._firsts.append(self._firsts[-1] + len(inner) - int(np.count_nonzero(inner)))
        self._last = (-1, "")

    def __call__(self, start: int, end: int) -> str:
        """Characters `start` to `end` (exclusive). Those of one slice, one after the other, are decoded once."""
        at = bisect_right(self._firsts, start) - 1
        parts = []
        while at < len(self._starts) - 1 and self._firsts[at] < end:
            first = self._firsts[at]
            parts.append(self._slice(at)[max(0, start - first) : max(0, end - first)])
            at += 1
        return "".join(parts)

    def _slice(self, at: int) -> str:
        if self._last[0] != at:
            self._last = at, str(self._data[self._starts[at] : self._starts[at + 1]], "utf-8")
        return self._last[1]


def _as_it_is(file: InputFile) -> InputFile:
    found = storage.stat(file.path)
    if found is None:
        raise FileProblem(f"{file.relative} has gone")
    return replace(file, size=found[0], version=found[1])


def _read_columns(unit: WorkUnit, names: Sequence[str]) -> pa.Table:
    parts, at, end = [], 0, unit.skip + unit.rows
    with storage.open_read(unit.file.path) as source:
        options = {"pre_buffer": False, "buffer_size": BUFFER_BYTES, "coerce_int96_timestamp_unit": INT96_UNIT}
        file = open_parquet(source, unit.file, **options)
        for batch in file.iter_batches(row_groups=[unit.row_group], columns=list(names), use_threads=False):
            first, last = max(unit.skip - at, 0), min(end - at, batch.num_rows)
            at += batch.num_rows
            if first < last:
                kept = batch.slice(first, last - first)
                found = [find_column(kept.schema, name) for name in names]
                lacking = [name for name, column in zip(names, found, strict=True) if column is None]
                if lacking:
                    raise FileProblem(f"{unit.file.relative} has no column '{lacking[0]}'")
                arrays = [column.of(kept) for column in found if column is not None]
                parts.append(pa.Table.from_arrays(arrays, names=list(names)))
            if at >= end:
                break
    return pa.concat_tables(parts)
