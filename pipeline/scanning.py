"""A scan from plan to run.json.

Plan from the footers, find out which shards are current, scan the rest with a launcher, then write manifest.parquet
and, last, run.json. A scan that was killed is resumed by running it again.
"""

import os
import platform
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

from rtdscan.pipeline import output as folder
from rtdscan.pipeline.config import ScanConfig, redacted, resolved
from rtdscan.pipeline.planning import Plan, make_plan
from rtdscan.pipeline.progress import metering
from rtdscan.pipeline.summary import Summary, prometheus_text
from rtdscan.transforms import attempts, storage
from rtdscan.transforms.bundle import Bundle, load_bundle
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.job import Job, is_current
from rtdscan.transforms.records import Done, WorkUnit
from rtdscan.transforms.scorer import resolve_settings
from rtdscan.transforms.settings import ScoreSettings
from rtdscan.transforms.shards import Stamp, read_stamp
from rtdscan.transforms.tally import Tally

WORKER_GB = 1.5
"""Memory that `workers: auto` reckons with for each worker process."""

UNKNOWN_WARNING = 0.1
"""Share of unknown tokens above which the summary doubts that the text is in the model's language."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A scan that is about to run."""

    plan: Plan
    bundle: Bundle
    job: Job
    workers: int


def scan(inputs: Sequence[str], output: str, *, config: ScanConfig, beam_args: Sequence[str] = ()) -> Summary:
    """Scan INPUT into OUTPUT.

    Args:
        inputs: Files, directories or globs.
        output: Folder of the results.
        config: All options.
        beam_args: Options for a Beam runner.

    Returns:
        What there is to say at the end. `finished` is False when a file or unit was bad and `on_bad_file` is `fail`.

    Raises:
        UserError: INPUT, OUTPUT, the model or an option is wrong; nothing was touched.
        BusyError: Another scan writes into OUTPUT.
        RtdscanError: The scan failed; what is done stays, and running it again resumes.
    """
    started = time.monotonic()
    prepared = _prepare(inputs, output, config)
    folder.claim(output, inputs)
    with storage.lock(output):
        storage.clean_temporaries(output)
        attempts.forget(output)
        units = prepared.plan.units
        stamps = _stamps(output, units)
        pending = [unit for unit in units if not _current(stamps.get(unit.shard), prepared.job, unit)]
        folder.reopen(output)
        folder.remove_stale(output, units)
        done = _launch(pending, prepared, config=config, beam_args=beam_args)
        attempts.forget(output)
        stamps |= _stamps(output, [unit for unit in pending if done[unit.shard].outcome != "bad"])
        return _finish(prepared, config=config, inputs=inputs, stamps=stamps, done=done, started=started)


def _prepare(inputs: Sequence[str], output: str, config: ScanConfig) -> _Prepared:
    """Resolve everything that was left open, before anything is touched."""
    bundle = load_bundle(config.model)
    given = config.model_dump(include=set(ScoreSettings.model_fields), exclude_unset=True)
    settings = resolve_settings(ScoreSettings.model_validate(given), bundle)
    plan = make_plan(
        inputs,
        text=config.input.text,
        id=config.input.id,
        columns=config.output.columns,
        text_mb=config.unit.text_mb,
        sample=config.input.sample,
    )
    job = Job(
        output=output,
        run=uuid.uuid4().hex[:12],
        text=plan.text,
        id=config.input.id,
        settings=settings,
        bundle_digest=bundle.digest,
    )
    workers = default_workers() if config.workers == "auto" else config.workers
    return _Prepared(plan, bundle, job, workers)


def default_workers() -> int:
    """Worker processes: a core each, as far as memory goes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return max(1, min(cores, int(memory / WORKER_GB)))


def _stamps(output: str, units: Sequence[WorkUnit]) -> dict[str, Stamp]:

    found = zip(units, folder.read_stamps(output, units), strict=True)
    return {unit.shard: stamp for unit, stamp in found if stamp is not None}


def _current(stamp: Stamp | None, job: Job, unit: WorkUnit) -> bool:
    return stamp is not None and is_current(stamp.fingerprint, job, unit)


def _launch(
    pending: list[WorkUnit], prepared: _Prepared, *, config: ScanConfig, beam_args: Sequence[str]
) -> dict[str, Done]:
    """Scan units with the launcher that the config names."""
    if not pending:
        return {}
    if config.runner not in ("local", "DirectRunner"):
        raise UserError(f"runner {config.runner} is not supported yet; use local")
    from rtdscan.pipeline.launchers.local import run_local  # nothing to do must stay fast

    sizes = {unit.shard: unit.text_bytes for unit in pending}
    with metering(len(pending), sum(sizes.values())) as meter:

        def on_done(done: Done) -> None:
            stamp = read_stamp(storage.join(prepared.job.output, done.shard))
            meter.add(stamp.tally if stamp else Tally.zero(), text_bytes=sizes[done.shard])

        results = run_local(pending, prepared.job, workers=prepared.workers, on_done=on_done)
    return {done.shard: done for done in results}


def _finish(
    prepared: _Prepared,
    *,
    config: ScanConfig,
    inputs: Sequence[str],
    stamps: dict[str, Stamp],
    done: dict[str, Done],
    started: float,
) -> Summary:
    """Write the manifest and, when nothing was bad or bad files are tolerated, run.json."""
    job, plan, bundle = prepared.job, prepared.plan, prepared.bundle
    tally = Tally.zero()
    for unit in plan.units:
        if unit.shard in stamps:
            tally = tally + stamps[unit.shard].tally
    bad = [(bad.path, bad.reason) for bad in plan.bad]
    bad += [(f"{shard} ", d.reason) for shard, d in sorted(done.items()) if d.outcome == "bad"]
    outcomes = Counter(done[unit.shard].outcome if unit.shard in done else "current" for unit in plan.units)
    summary = Summary(
        output=job.output,
        finished=not bad or config.on_bad_file == "quarantine",
        tally=tally,
        outcomes=dict(sorted(outcomes.items())),
        bad=tuple(bad),
        seconds=time.monotonic() - started,
        tokens_scored=sum(stamps[d.shard].tally.tokens for d in done.values() if d.outcome == "scored"),
        model=bundle.name,
        engine=job.settings.engine,
        precision=job.settings.precision,
        workers=prepared.workers,
        precision_note=_precision_note(bundle, config),
        warnings=_warnings(bundle, tally),
    )
    folder.write_manifest(job.output, units=plan.units, done=done, stamps=stamps, bad_files=plan.bad)
    storage.put_bytes(storage.join(job.output, folder.METRICS), prometheus_text(summary, finished_at=time.time()))
    if summary.finished:
        folder.write_run(job.output, _run_record(prepared, config=config, inputs=inputs, summary=summary))
    return summary


def _run_record(prepared: _Prepared, *, config: ScanConfig, inputs: Sequence[str], summary: Summary) -> dict[str, Any]:

    job = prepared.job
    settings = job.settings.model_dump(mode="json")
    return {
        "format": 1,
        "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "inputs": [folder.absolute(path) for path in inputs],
        "root": prepared.plan.root,
        "text": job.text,
        "id": job.id,
        "config": redacted({**resolved(config), **settings}),
        "model": {"name": prepared.bundle.name, "digest": prepared.bundle.digest},
        "scoring": job.scoring,
        "presentation": job.presentation,
        "versions": {
            "rtdscan": version("rtdscan"),
            "python": platform.python_version(),
            **{name: version(name) for name in ("apache-beam", "pyarrow", "tokenizers")},
        },
        "files": len(prepared.plan.files),
        "summary": summary.to_json(),
        "tally": asdict(summary.tally),
    }


def _precision_note(bundle: Bundle, config: ScanConfig) -> str | None:
    """Which precision flags are meant to have; None where the threshold is not the one that was measured."""
    measured, wanted = bundle.card.flag_precision, config.thresholds.flag
    if not measured or (wanted is not None and wanted != bundle.card.thresholds.flag):
        return None
    return f"meant to be right {measured['precision']:.0%} of the time ({measured['on']})"


def _warnings(bundle: Bundle, tally: Tally) -> tuple[str, ...]:
    share = tally.metrics()["unknown_share"]
    if share < UNKNOWN_WARNING:
        return bundle.warnings
    doubt = f"{share:.0%} of tokens are outside the model's vocabulary: is the text in the model's language?"
    return (*bundle.warnings, doubt)
