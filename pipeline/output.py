"""The folder OUTPUT: what lies in it, and what is written last. Whose it is: `owned`."""

import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rtdscan.transforms import storage
from rtdscan.transforms.drift import Baseline
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.gates import Run
from rtdscan.transforms.records import MANIFEST, BadFile, Done, WorkUnit
from rtdscan.transforms.shards import Stamp, read_stamp
from rtdscan.transforms.tally import Tally

MARKER = ".rtdscan.json"
"""File that makes a folder an OUTPUT of this program, and says of which INPUT."""

RUN, MANIFEST_FILE, METRICS, REPORT = "run.json", "manifest.parquet", "metrics.prom", "report.html"

BASELINE = "baseline.json"
"""The accepted run; only `rtdscan accept` writes it, no scan removes it."""

UNFINISHED = "# HELP rtdscan_finished 1 when the scan finished\n# TYPE rtdscan_finished gauge\nrtdscan_finished%s 0.0\n"
"""metrics.prom while a scan runs, and of one that was killed: the counts of the last one are not this one's."""

_SHARD = re.compile(r"rg\d{5,}-row\d{9,}\.parquet")
"""See WorkUnit.shard."""

READERS = 16
"""Threads that read footers: enough to hide the latency of an object store."""


def is_output(path: str) -> bool:
    """Whether a scan wrote this folder."""
    return storage.exists(storage.join(path, MARKER))


def read_stamps(output: str, units: Sequence[WorkUnit]) -> list[Stamp | None]:
    """What the shards of units say of themselves; None where there is none."""
    # Where each look is a request, a listing tells first what there is: a new OUTPUT of 10,000 units costs one page.
    there = None if storage.is_local(output) else {f"attributes/{entry.relative}" for entry in list_shards(output)}

    def read(unit: WorkUnit) -> Stamp | None:
        return read_stamp(storage.join(output, unit.shard)) if there is None or unit.shard in there else None

    with ThreadPoolExecutor(READERS) as threads:
        return list(threads.map(read, units))


def list_shards(output: str) -> list[storage.Entry]:
    """Shards: what is there and named as a shard is; a folder of somebody's other files may be linked there."""
    found = storage.list_files(storage.join(output, "attributes"), suffix=".parquet", hidden=True)
    return [entry for entry in found if _SHARD.fullmatch(entry.relative.rpartition("/")[2])]


def remove_stale(output: str, units: Iterable[WorkUnit], *, bad_files: Iterable[BadFile] = ()) -> int:
    """Remove shards that belong to no unit of INPUT; their file is gone, smaller, or cut differently.

    Args:
        output: OUTPUT.
        units: All units of INPUT, those outside a sample included.
        bad_files: Files that can't be read today; what was scored of them before stays, for the day they are mended.

    Returns:
        How many there were.
    """
    planned = {unit.shard for unit in units}
    kept = tuple(f"attributes/{bad.relative}/" for bad in bad_files)
    shards = list_shards(output)
    stale = [
        entry
        for entry, name in ((entry, f"attributes/{entry.relative}") for entry in shards)
        if name not in planned and not name.startswith(kept)
    ]
    if stale:
        storage.remove(storage.join(output, REPORT))
    for entry in stale:
        storage.remove(entry.path, within=storage.join(output, "attributes"))
    return len(stale)


def count_shards(output: str, shards: Container[str]) -> int:
    """How many of these shards there are."""
    return sum(f"attributes/{entry.relative}" in shards for entry in list_shards(output))


def reopen(output: str, *, pending: bool) -> None:
    """Take back the signs that OUTPUT is finished, before anything in it changes: a scan that is killed leaves none.

    Args:
        output: OUTPUT.
        pending: Whether shards will change, so that a report would be about another corpus. It stays otherwise: to
            write an equal one again takes seconds.
    """
    for name in (RUN, MANIFEST_FILE):
        storage.remove(storage.join(output, name))
    if pending:
        storage.remove(storage.join(output, REPORT))
    label = series_of(output).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    storage.put_bytes(storage.join(output, METRICS), (UNFINISHED % f'{{output="{label}"}}').encode())


def series_of(output: str) -> str:
    """What the series of an OUTPUT are told apart by, in a Prometheus that collects those of several: where it lies."""
    return storage.printable(str(storage.local(output).absolute())) if storage.is_local(output) else output


def write_manifest(
    output: str,
    *,
    units: Sequence[WorkUnit],
    done: Mapping[str, Done],
    stamps: Mapping[str, Stamp],
    bad_files: Sequence[BadFile],
) -> None:
    """Write manifest.parquet: a row a unit, and a row a file that could not be opened.

    Args:
        output: OUTPUT.
        units: The whole plan.
        done: What was done in this run, by shard; a unit that is missing here was current.
        stamps: Stamps by shard; a unit that is missing here has no shard.
        bad_files: Files without units.
    """
    rows = [_unit_row(unit, done.get(unit.shard), stamps.get(unit.shard)) for unit in units]
    rows += [{"file": bad.relative, "status": "bad", "reason": bad.reason} for bad in bad_files]
    sink = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST), sink, compression="zstd")
    storage.put_bytes(storage.join(output, MANIFEST_FILE), sink.getvalue())


def write_run(output: str, run: Mapping[str, Any]) -> None:
    """Write run.json, the sign that OUTPUT is finished; after all shards and the manifest."""
    storage.put_bytes(storage.join(output, RUN), (json.dumps(run, indent=1, ensure_ascii=False) + "\n").encode())


def read_run(output: str) -> dict[str, Any]:
    """What run.json says.

    Raises:
        UserError: There is none, or it is damaged.
    """
    found = storage.read_bytes(storage.join(output, RUN))
    if found is None:
        what = "is not finished: run its scan again" if is_output(output) else "is not an rtdscan output"
        raise UserError(f"{output} {what}; expected a folder with {RUN}")
    try:
        run = json.loads(found)
        finished_run(run)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{storage.join(output, RUN)} is damaged; run the scan again, it will write it anew") from error
    return dict(run)


def finished_run(run: Mapping[str, Any]) -> Run:
    """What gates judge of a run.json."""
    model = run["model"]
    tally, bad = Tally.from_fields(run["tally"]), len(run["summary"]["bad"])
    return Run(tally, model["name"], model["digest"], run["scoring"], bad)


def summed_shards(output: str) -> tuple[Tally, str]:
    """The tally of the shards that the manifest names, and the digest of how they were scored.

    Others may lie beside them: of bad files, from before these went bad, and from outside a sample.

    Raises:
        UserError: There is no manifest, since the scan ended early; or it names no shards, or some that are not there.
    """
    manifest = storage.read_bytes(storage.join(output, MANIFEST_FILE))
    if manifest is None:
        raise UserError(f"{output} has no {MANIFEST_FILE}, for its scan ended early; run it again")
    try:
        shards = pq.read_table(BytesIO(manifest), columns=["shard"])["shard"].drop_null().to_pylist()
    except (OSError, ValueError) as error:  # an ArrowInvalid is a ValueError
        raise UserError(f"{storage.join(output, MANIFEST_FILE)} is damaged ({error}); run the scan again") from error
    stamps = [stamp for shard in shards if (stamp := read_stamp(storage.join(output, shard)))]
    ways = {stamp.fingerprint.scoring for stamp in stamps}
    if len(ways) != 1 or len(stamps) < len(shards):
        raise UserError(f"{output} holds no shards, or others than its manifest says; run its scan again")
    return sum((stamp.tally for stamp in stamps), start=Tally.zero()), ways.pop()


def read_baseline(output: str) -> Baseline | None:
    """The accepted run; None where there is none.

    Raises:
        UserError: baseline.json is damaged.
    """
    path = storage.join(output, BASELINE)
    found = storage.read_bytes(path)
    try:
        return None if found is None else Baseline.from_fields(json.loads(found))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged; remove it, then accept a run: rtdscan accept {output}") from error


def write_baseline(output: str, baseline: Baseline) -> None:
    """Write baseline.json, whole or not at all."""
    text = json.dumps(baseline.to_fields(), ensure_ascii=False, separators=(",", ":"))
    storage.put_bytes(storage.join(output, BASELINE), (text + "\n").encode())


def _unit_row(unit: WorkUnit, done: Done | None, stamp: Stamp | None) -> dict[str, Any]:
    tally = stamp.tally if stamp else None
    return {
        "file": unit.file.relative,
        "row_group": unit.row_group,
        "first_row": unit.first_row,
        "rows": unit.rows,
        "shard": unit.shard if stamp else None,
        "fingerprint": stamp.digest if stamp else None,
        "status": done.outcome if done else "current",
        "reason": (done.reason if done else "") or None,
        "documents": tally.documents if tally else 0,
        "tokens": tally.tokens if tally else 0,
        "words": tally.words if tally else 0,
        "flagged": tally.flagged if tally else 0,
        "seconds": done.seconds if done else 0.0,
        "worker": (done.worker if done else "") or None,
    }
