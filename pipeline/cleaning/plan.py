"""What there is to clean: the units of a finished scan, if its inputs are still what was scanned."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rtdscan.pipeline.finished.folder import Finished, Shard, read_finished
from rtdscan.pipeline.output import READERS
from rtdscan.transforms import storage
from rtdscan.transforms.cleaning.expressions import compile_expression
from rtdscan.transforms.cleaning.personal import check_personal
from rtdscan.transforms.cleaning.rows import refuse_reason
from rtdscan.transforms.cleaning.settings import CleanSettings
from rtdscan.transforms.columns import find_column, get_column
from rtdscan.transforms.cutting import cut_file
from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.partitions import partitions, with_partitions
from rtdscan.transforms.records import InputFile, WorkUnit, attribute_schema
from rtdscan.transforms.settings import OutputSettings
from rtdscan.transforms.shards import Stamp, read_stamp
from rtdscan.transforms.units import FileProblem, Footer, read_footer

NAMED = 3
"""Files that a message names."""


@dataclass(frozen=True, slots=True)
class CleanPlan:
    """What there is to clean.

    Attributes:
        run: run.json of the scan.
        text: Name or path of the text column.
        units: In corpus order.
        stamps: Of their attributes, parallel.
        total_rows: Rows of all input files, scanned or not.
        unscored: Rows that the scan gave no score, by status.
        left_out: Files and units that the scan could not read, with reasons.
    """

    run: dict[str, Any]
    text: str
    units: tuple[WorkUnit, ...]
    stamps: tuple[Stamp, ...]
    total_rows: int
    unscored: dict[str, int]
    left_out: tuple[tuple[str, str], ...]


def make_plan(output: str, settings: CleanSettings) -> CleanPlan:
    """Read what a scan left, and look whether it fits its inputs and the settings.

    Raises:
        UserError: OUTPUT is no finished scan, INPUT has changed since, or an option does not fit the attributes.
    """
    finished = read_finished(output)
    shards = list(finished.shards())
    with ThreadPoolExecutor(READERS) as threads:
        found = list(threads.map(lambda shard: read_stamp(storage.join(output, shard.path)), shards))
    stamps = [stamp for stamp in found if stamp is not None]
    if len(stamps) < len(shards):
        missing = next(shard.path for shard, stamp in zip(shards, found, strict=True) if stamp is None)
        raise UserError(f"{storage.join(output, missing)} is missing or damaged: scan again, then clean")
    entries = _entries(finished)
    footers = _unchanged(finished, shards, stamps, entries)
    for name, footer in footers.items():
        refuse_reason(footer.schema, where=storage.printable(entries[name].path))
    if shards:
        others = {tuple(partitions(shard.file)): shard for shard in reversed(shards)}  # the first one of each layout
        for shard in others.values():
            _check_settings(settings, _schema(storage.join(output, shard.path)), file=shard.file)
    elif footers:  # nothing will be done, yet what is wrong today is wrong on the day there are rows
        name, footer = next(iter(footers.items()))
        _check_settings(settings, _implied_schema(finished.run, footer.schema), file=name)
    units = [
        _unit(shard, stamp, entries[shard.file], footers[shard.file])
        for shard, stamp in zip(shards, stamps, strict=True)
    ]
    bad = finished.manifest.filter(finished.manifest["shard"].is_null()).select(["file", "reason"]).to_pylist()
    return CleanPlan(
        run=finished.run,
        text=finished.run["text"],
        units=tuple(units),
        stamps=tuple(stamps),
        total_rows=sum(footer.metadata.num_rows for footer in footers.values()),
        unscored={
            status: count
            for status, count in finished.tally.statuses.items()
            if status in ("empty", "null", "invalid", "failed")
        },
        left_out=tuple((one["file"], one["reason"] or "not scanned") for one in bad),
    )


def _entries(finished: Finished) -> dict[str, storage.Entry]:
    """The files that INPUT has now, by their path below its root."""
    try:
        _, entries = storage.expand_all(finished.run["inputs"])
    except UserError as error:
        raise UserError(
            f"INPUT of this scan is gone or moved: {error} (if it moved, scan it into the same OUTPUT with --moved)"
        ) from error
    return {entry.relative: entry for entry in entries}


def _unchanged(
    finished: Finished, shards: Sequence[Shard], stamps: Sequence[Stamp], entries: dict[str, storage.Entry]
) -> dict[str, Footer]:
    """The footers of all files that were scanned.

    Raises:
        UserError: A file is new, has gone, has changed or was mended.
    """
    scanned = {shard.file: stamp.fingerprint for shard, stamp in zip(shards, stamps, strict=True)}
    _refuse(sorted(scanned.keys() - entries.keys()), "has gone", "have gone")
    moved = [
        name for name, was in scanned.items() if (entries[name].size, entries[name].version) != (was.size, was.version)
    ]
    _refuse(moved, "has changed", "have changed")
    with ThreadPoolExecutor(READERS) as threads:
        names = sorted(entries)
        footers = dict(zip(names, threads.map(lambda name: _footer(entries[name].path), names), strict=True))
    other = [name for name in names if name in scanned and _digest(footers[name]) != scanned[name].footer]
    _refuse(other, "has changed", "have changed")
    known = {*scanned, *finished.manifest["file"].to_pylist()}
    if finished.run["config"]["input"]["sample"] >= 1:
        # Files without rows are in no manifest.
        new = [name for name in names if name not in known and not _is_empty(footers[name])]
        _refuse(new, "is new", "are new")
    unopened = finished.manifest.filter(finished.manifest["row_group"].is_null())["file"].to_pylist()
    _refuse([name for name in unopened if _is_good(entries.get(name), footers.get(name), finished.run)], "can be read")
    return {name: footer for name, footer in footers.items() if footer is not None}


def _is_good(entry: storage.Entry | None, footer: Footer | None, run: dict[str, Any]) -> bool:
    """Whether a scan with the same options could read a file."""
    if entry is None or footer is None:
        return False
    columns = [run["id"]] if run["id"] else []
    try:
        cut_file(entry, text=run["text"], columns=columns, text_mb=run["config"]["unit"]["text_mb"], footer=footer)
    except FileProblem:
        return False
    return True


def _refuse(names: Iterable[str], what: str, what_of_several: str = "") -> None:
    listed = list(names)
    if listed:
        more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
        raise UserError(
            f"INPUT has changed since the scan: {', '.join(listed[:NAMED])}{more}"
            f" {what if len(listed) == 1 else what_of_several or what};"
            " run the scan again (it reads only what is new), then clean"
        )


def _footer(path: str) -> Footer | None:
    try:
        return read_footer(path)
    except RtdscanError:  # a bad file is in the manifest, or new
        return None


def _digest(footer: Footer | None) -> str:
    return footer.digest if footer else ""


def _is_empty(footer: Footer | None) -> bool:
    return footer is not None and footer.metadata.num_rows == 0


def _check_settings(settings: CleanSettings, attributes: pa.Schema, *, file: str) -> None:
    if isinstance(settings.keep, str):
        compile_expression(settings.keep, with_partitions(attributes, file))
    if settings.duplicates.near is not None and "embedding" not in attributes.names:
        raise UserError(
            "duplicates.near needs embeddings, but OUTPUT was scanned with output.embedding none:"
            " scan again with float16"
        )
    check_personal(settings.personal.kinds, phone_region=settings.personal.phone_region)


def _implied_schema(run: dict[str, Any], schema: pa.Schema) -> pa.Schema:
    """The schema that the attributes of such an INPUT would have."""
    chosen = OutputSettings.model_validate(run["config"]["output"])
    columns = [column for name in chosen.columns if (column := find_column(schema, name))]
    return attribute_schema(
        chosen,
        dims=1,
        id_type=get_column(schema, run["id"], where="INPUT").type if run["id"] else None,
        carried=tuple(pa.field(column.name, column.type) for column in columns),
    )


def _schema(path: str) -> pa.Schema:
    with storage.open_read(path) as source:
        return pq.read_schema(source)


def _unit(shard: Shard, stamp: Stamp, entry: storage.Entry, footer: Footer) -> WorkUnit:
    groups = [footer.metadata.row_group(number) for number in range(shard.row_group + 1)]
    before = sum(group.num_rows for group in groups[:-1])
    was = stamp.fingerprint
    file = InputFile(entry.path, shard.file, was.size, was.version, was.footer)
    share = groups[-1].total_byte_size * shard.rows // max(1, groups[-1].num_rows)
    return WorkUnit(file, shard.row_group, shard.first_row - before, shard.first_row, shard.rows, max(0, share))
