"""When a report is written, and where to."""

import json
import os
import re
import sys
from collections.abc import Sequence
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from rtdscan.pipeline.config import ReportSettings
from rtdscan.pipeline.finished.folder import Finished, read_columns, read_finished
from rtdscan.pipeline.output import BASELINE, REPORT
from rtdscan.transforms import storage
from rtdscan.transforms.columns import get_column
from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.partitions import with_partitions
from rtdscan.transforms.units import read_footer

_MARK = re.compile(rb'<meta name="rtdscan-report" content="([0-9a-f]{32})">')
_HEAD_BYTES = 4_000
_VOLATILE = ("finished_at", "summary")


def report_path(output: str) -> str:
    """Where the report of an OUTPUT lies."""
    return storage.join(output, REPORT)


def write_report(output: str, settings: ReportSettings, *, path: str) -> dict[str, Any]:
    """Write the report of a finished scan.

    Args:
        output: OUTPUT.
        settings: What it shows.
        path: Where to; the file appears whole or not at all.

    Returns:
        What there is to say: `report` (the path), `bytes`, `contexts` (whether documents are quoted), `problems` (in
        how many files INPUT could not be read).

    Raises:
        UserError: The scan has not finished, an option is wrong, or matplotlib is missing.
        RtdscanError: OUTPUT is damaged, or the report can't be written.
    """
    from rtdscan.pipeline.report.plots import missing

    lacking = missing()
    if lacking:
        raise UserError(f"no report can be written: {lacking}")
    from rtdscan.pipeline.report.collect import collect
    from rtdscan.pipeline.report.page import render

    if storage.is_local(path) and not storage.local(os.path.dirname(path) or ".").is_dir():
        raise UserError(f"--to {path}: there is no folder {os.path.dirname(path)}")
    finished = read_finished(output)
    findings = collect(finished, settings)
    page = render(findings, key=_key(finished, settings)).encode()
    storage.put_bytes(path, page)
    quoted = any(document.excerpts for document in findings.worst) or bool(findings.words and findings.words.words)
    return {"report": path, "bytes": len(page), "contexts": quoted, "problems": findings.n_problems}


def check_by(by: Sequence[str], schema: pa.Schema, *, text: str, where: str = "INPUT") -> None:
    """Make sure, before a scan, that its report can be made.

    Args:
        by: `report.by`.
        schema: Of INPUT, with the columns that are part of the path.
        text: Its text column.
        where: A file of it, for messages.

    Raises:
        UserError: A column is not there, or its values are no names of groups.
    """
    for name in by:
        type_ = get_column(schema, name, where=f"report.by: {where}").type
        if name == text:
            raise UserError(f"report.by: {name} is the text column; name columns with few values")
        if pa.types.is_nested(type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_):
            raise UserError(f"report.by: column {name} is {type_}; name columns of single values")


def check_finished(finished: Finished, by: Sequence[str]) -> None:
    """The same for a scan that has finished, as far as its INPUT is still there: columns may be carried along, too.

    Raises:
        UserError: As `check_by`.
    """
    shard = next(finished.shards(), None)
    if shard is None:
        return
    carried = read_columns(finished.output, shard, by).column_names
    lacking = [name for name in by if name not in carried and name not in finished.tally.by]
    path = storage.join(finished.run["root"], shard.file)
    try:
        schema = with_partitions(read_footer(path).schema, shard.file)
    except RtdscanError:  # the page says which columns it lacks
        return
    check_by(lacking, schema, text=finished.run["text"], where=storage.printable(path))


def refresh_report(output: str) -> None:
    """Write the report at the end of a scan, unless the one that is there says the same.

    Where a library is missing that is said in one line: a scan does not fail for want of its report.

    Raises:
        RtdscanError: It can't be written.
    """
    from rtdscan.pipeline.report.plots import missing

    lacking = missing()
    if lacking:
        print(f"rtdscan: no report was written: {lacking}", file=sys.stderr)
        return
    finished = read_finished(output)
    settings = ReportSettings(**finished.run["config"].get("report", {}))
    path = report_path(output)
    if _key_of(path) != _key(finished, settings):
        write_report(output, settings, path=path)


def print_report(output: str) -> None:
    """Say where the report of an OUTPUT lies, if there is one."""
    path = report_path(output)
    if storage.exists(path):
        print(f"report: {storage.printable(path)}")


def _key(finished: Finished, settings: ReportSettings) -> str:
    """Digest of what a report is made from; not of when, nor of how long what was done once took."""
    record = {name: value for name, value in finished.run.items() if name not in _VOLATILE}
    parts = [
        version("rtdscan"),
        json.dumps(record, sort_keys=True),
        settings.model_dump_json(),
        *map(str, finished.manifest["fingerprint"].to_pylist()),
    ]
    digest = blake2b("\n".join(parts).encode(), digest_size=16)
    digest.update(storage.read_bytes(storage.join(finished.output, BASELINE)) or b"")
    return digest.hexdigest()


def _key_of(path: str) -> str | None:
    """The digest that a report carries; None where there is none."""
    try:
        found = _MARK.search((storage.read_bytes(path) or b"")[:_HEAD_BYTES])
    except RtdscanError:
        return None
    return found[1].decode() if found else None
