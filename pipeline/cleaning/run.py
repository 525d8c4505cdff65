"""The passes of a cleaning over the units of a scan, and the count of rows at its end.

Look whether INPUT is what was scanned, hash texts and find duplicates where asked for, clean the units that are not
current, count the rows of what was written, and write clean.json last. What was killed is resumed by running it again.
"""

import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version

import pyarrow as pa

from rtdscan.pipeline.cleaning import folder
from rtdscan.pipeline.cleaning.marks import marks_by_unit, write_duplicates
from rtdscan.pipeline.cleaning.plan import CleanPlan, make_plan
from rtdscan.pipeline.cleaning.summary import CleanSummary
from rtdscan.pipeline.launchers.cores import default_workers
from rtdscan.pipeline.options import resolved
from rtdscan.pipeline.output import READERS, RUN, read_run
from rtdscan.pipeline.progress import Meter, metering
from rtdscan.transforms import attempts, storage
from rtdscan.transforms.cleaning.files import CleanStamp, marks_digest, read_clean_stamp, read_fingerprint
from rtdscan.transforms.cleaning.job import CleanJob, clean_fingerprint, hash_fingerprint, hashes_path
from rtdscan.transforms.cleaning.rows import MARKS
from rtdscan.transforms.cleaning.settings import CleanSettings
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.records import Done, WorkUnit
from rtdscan.transforms.tally import Tally


@dataclass
class _RowMeter(Meter):
    """Progress in rows."""

    rows: int = 0

    def state(self) -> str:
        """How far it is, in a line."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        return f"{self.done_units:,}/{self.units:,} units, {self.rows:,} rows, {self.rows / seconds:,.0f} rows/s"


def clean(
    output: str, cleaned: str, *, settings: CleanSettings, workers: int | None = None, moved: bool = False
) -> CleanSummary:
    """Clean the corpus of a scan into CLEANED.

    Args:
        output: OUTPUT of a finished scan.
        cleaned: Folder of the results.
        settings: What to keep and change.
        workers: Child processes; None: as many as cores and memory allow.
        moved: Whether CLEANED may belong to another OUTPUT, which this is the new path of.

    Returns:
        What there is to say at the end. `finished` is False when a unit could not be read.

    Raises:
        UserError: OUTPUT, CLEANED or an option is wrong, or INPUT has changed since the scan; nothing was touched.
        BusyError: Another cleaning writes into CLEANED.
        RtdscanError: It failed; what is done stays, and running it again resumes.
    """
    started = time.monotonic()
    inputs = read_run(output)["inputs"]
    folder.check(cleaned, output, inputs, moved=moved)
    with ExitStack() as held:
        known = folder.is_cleaned(cleaned)
        if known:  # busy is told at once, however long planning takes
            held.enter_context(storage.lock(cleaned))
        before = storage.read_bytes(storage.join(output, RUN))
        plan = make_plan(output, settings)
        if not known:  # nothing is made before all else is known to be right
            held.enter_context(storage.lock(cleaned))
        folder.claim(cleaned, output, inputs, moved=moved)
        storage.clean_temporaries(cleaned)
        attempts.forget(cleaned)
        folder.reopen(cleaned)
        folder.remove_stale(cleaned, plan.units, settings)
        job = CleanJob(output=cleaned, run=uuid.uuid4().hex[:12], attributes=output, text=plan.text, settings=settings)
        done = _passes(plan, job, workers=workers or default_workers())
        attempts.forget(cleaned)
        if storage.read_bytes(storage.join(output, RUN)) != before:
            raise RtdscanError(f"{output} was scanned again meanwhile; run the same command again")
        return _finish(plan, job, done=done, started=started)


def _passes(plan: CleanPlan, job: CleanJob, *, workers: int) -> dict[str, Done]:
    """Hash, find duplicates, clean; what became of each unit that was not current."""
    marks = MARKS.empty_table()
    if job.settings.marks:
        hashing = replace(job, step="hash")
        hashed = _hashed(plan, job)
        done = _launch([unit for unit in plan.units if unit.shard not in hashed], hashing, workers=workers)
        if any(one.outcome == "bad" for one in done.values()):  # none was cleaned, whatever lies there of before
            return {unit.shard: Done(unit.shard, "hashed", "", 0.0, "", "") for unit in plan.units} | done
        marks = write_duplicates(plan, job)
    current = _current(plan, job, marks)
    return _launch([unit for unit in plan.units if unit.shard not in current], job, workers=workers)


def _hashed(plan: CleanPlan, job: CleanJob) -> set[str]:
    """Shards of the units whose hashes are current."""
    with ThreadPoolExecutor(READERS) as threads:
        found = threads.map(lambda unit: read_fingerprint(storage.join(job.output, hashes_path(unit))), plan.units)
        wanted = [hash_fingerprint(job, stamp.digest) for stamp in plan.stamps]
        return {unit.shard for unit, has, want in zip(plan.units, found, wanted, strict=True) if has == want}


def _current(plan: CleanPlan, job: CleanJob, marks: pa.Table) -> set[str]:
    """Shards of the units that need no work."""
    digests = [marks_digest(mine) for mine in marks_by_unit(plan.units, marks)]
    wanted = [
        clean_fingerprint(job, stamp.digest, marks=digest) for stamp, digest in zip(plan.stamps, digests, strict=True)
    ]
    found = _stamps(plan.units, job)
    return {
        unit.shard
        for unit, stamp, fingerprint in zip(plan.units, found, wanted, strict=True)
        if stamp is not None and stamp.fingerprint == fingerprint
    }


def _stamps(units: Sequence[WorkUnit], job: CleanJob) -> list[CleanStamp | None]:
    with ThreadPoolExecutor(READERS) as threads:
        return list(threads.map(lambda unit: read_clean_stamp(unit, job), units))


def _launch(units: list[WorkUnit], job: CleanJob, *, workers: int) -> dict[str, Done]:
    """Run a pass over units with child processes."""
    if not units:
        return {}
    from rtdscan.pipeline.launchers.local import run_local

    by_shard = {unit.shard: unit for unit in units}
    with metering(len(units), sum(unit.text_bytes for unit in units), kind=_RowMeter) as meter:

        def on_done(done: Done) -> None:
            unit = by_shard[done.shard]
            if isinstance(meter, _RowMeter):
                meter.rows += unit.rows
            meter.add(Tally.zero(), text_bytes=unit.text_bytes)

        return {done.shard: done for done in run_local(units, job, workers=workers, on_done=on_done)}


def _finish(plan: CleanPlan, job: CleanJob, *, done: dict[str, Done], started: float) -> CleanSummary:
    """Count what was written and, where nothing is missing, write clean.json."""
    paths = {unit.shard: storage.printable(unit.file.path) for unit in plan.units}
    found = _stamps(plan.units, job)
    stamps = [stamp for stamp in found if stamp is not None]
    bad = [(paths[shard], one.reason) for shard, one in sorted(done.items()) if one.outcome == "bad"]
    if not bad:
        missing = [unit.shard for unit, stamp in zip(plan.units, found, strict=True) if stamp is None]
        bad = [(paths[shard], f"what was written of {shard} does not add up; run it again") for shard in missing]
    scanned = sum(unit.rows for unit in plan.units)
    outcomes = Counter(done[unit.shard].outcome if unit.shard in done else "current" for unit in plan.units)
    summary = CleanSummary(
        output=storage.printable(job.attributes),
        cleaned=storage.printable(job.output),
        finished=not bad,
        rows=sum(stamp.kept + stamp.rejected for stamp in stamps),
        kept=sum(stamp.kept for stamp in stamps),
        rejected=sum(stamp.rejected for stamp in stamps),
        reasons=_added([stamp.reasons for stamp in stamps]),
        changes=_added([stamp.kinds for stamp in stamps]),
        units=dict(sorted(outcomes.items())),
        unscored=plan.unscored if _keeps_unscored(plan, job) else {},
        not_scanned=plan.total_rows - scanned,
        left_out=plan.left_out,
        bad=tuple(bad),
        warnings=(*plan.run["summary"].get("warnings", ()), *([] if bad else _none_kept(stamps))),
        seconds=time.monotonic() - started,
    )
    if not bad and summary.rows != scanned:  # each unit added up, so this is a fault of this program
        raise RtdscanError(f"{summary.rows} rows were written, but {scanned} scanned: please report this")
    if summary.finished:
        record = {
            "format": 1,
            "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "config": resolved(job.settings),
            "scan": {name: plan.run[name] for name in ("finished_at", "inputs", "root", "text", "id", "scoring")},
            "versions": {name: version(name) for name in ("rtdscan", "pyarrow")},
            "summary": summary.to_json(),
        }
        folder.write_done(job.output, record)
    return summary


def _keeps_unscored(plan: CleanPlan, job: CleanJob) -> bool:
    """Whether rows without a score are kept by their decision, which is the same for all."""
    keep = job.settings.keep
    return not isinstance(keep, str) and plan.run["config"]["thresholds"]["not_ok"] in keep


def _none_kept(stamps: Sequence[CleanStamp]) -> list[str]:
    """A warning where all rows were rejected."""
    rejected = sum(stamp.rejected for stamp in stamps)
    if not rejected or any(stamp.kept for stamp in stamps):
        return []
    return [f"no row was kept, {rejected:,} were rejected: do model, thresholds and `keep` suit the corpus?"]


def _added(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))
