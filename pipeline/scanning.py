"""A scan from plan to run.json.

Plan from the footers, find out which shards are current, scan the rest with a launcher, then write manifest.parquet
and, once all is there that it speaks of, run.json. A scan that was killed is resumed by running it again.
"""

import platform
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rtdscan.pipeline import output as folder
from rtdscan.pipeline import owned
from rtdscan.pipeline.config import ScanConfig, redacted, resolved
from rtdscan.pipeline.contexts import SpanInContext, worst_spans
from rtdscan.pipeline.judging import judge_run, warn
from rtdscan.pipeline.launchers.choice import LOCAL, check_runner
from rtdscan.pipeline.launchers.cores import default_workers, share_out
from rtdscan.pipeline.planning import Plan, make_plan
from rtdscan.pipeline.progress import Meter, metering
from rtdscan.pipeline.report.writing import check_by, refresh_report
from rtdscan.pipeline.summary import WORST_SHOWN, Summary, bad_line, precision_note, prometheus_text, warnings_of
from rtdscan.transforms import attempts, storage
from rtdscan.transforms.bundle import Bundle, load_bundle
from rtdscan.transforms.engines import device_of
from rtdscan.transforms.gates import Run
from rtdscan.transforms.generator import generator_digest
from rtdscan.transforms.job import Foreseen, Job, foresee, is_current
from rtdscan.transforms.partitions import with_partitions
from rtdscan.transforms.records import Done, WorkUnit, attribute_schema
from rtdscan.transforms.resolved import ranges_for, resolve_settings, why_precision
from rtdscan.transforms.settings import ScoreSettings
from rtdscan.transforms.shards import Stamp, read_stamp
from rtdscan.transforms.tally import Tally

if TYPE_CHECKING:
    from rtdscan.pipeline.launchers.ray import Cluster


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scan that is about to run.

    Attributes:
        plan, bundle, job, workers: As resolved.
        chosen: Why `precision: auto` became what it is; None where it was given.
        device: Of the engine; None where it is up to other machines, or the engine has no choice.
    """

    plan: Plan
    bundle: Bundle
    job: Job
    workers: int
    chosen: str | None = None
    device: str | None = None


def scan(
    inputs: Sequence[str], output: str, *, config: ScanConfig, beam_args: Sequence[str] = (), moved: bool = False
) -> Summary:
    """Scan INPUT into OUTPUT.

    Args:
        inputs: Files, directories or globs.
        output: Folder of the results.
        config: All options.
        beam_args: Options for a Beam runner.
        moved: Whether OUTPUT may belong to another INPUT, which these are the new paths of.

    Returns:
        What there is to say at the end. `finished` is False when a file or unit was bad and `on_bad_file` is `fail`.

    Raises:
        UserError: INPUT, OUTPUT, the model or an option is wrong; nothing was touched.
        BusyError: Another scan writes into OUTPUT.
        Submitted: The job was handed to a Beam runner, and `wait` is false.
        RtdscanError: The scan failed; what is done stays, and running it again resumes.
    """
    started = time.monotonic()
    owned.check(output, inputs, moved=moved)
    folder.read_baseline(output)  # a damaged one is told before hours of work, not after
    with ExitStack() as held:
        if folder.is_output(output):  # busy is told at once, however long planning takes
            held.enter_context(storage.lock(output))
            prepared = prepare(inputs, output, config, beam_args=beam_args)
        else:  # nothing is made before all else is known to be right
            prepared = prepare(inputs, output, config, beam_args=beam_args)
            held.enter_context(storage.lock(output))
        owned.claim(output, inputs, moved=moved, units=prepared.plan.every)
        storage.clean_temporaries(output)
        attempts.forget(output)
        units = prepared.plan.units
        stamps = _stamps(output, units)
        pending = [unit for unit in units if not _current(stamps.get(unit.shard), prepared.job, unit)]
        prepared = _spread(prepared, pending, config)
        cluster = held.enter_context(_cluster(prepared, config)) if pending else None
        folder.reopen(output, pending=bool(pending))
        folder.remove_stale(output, prepared.plan.every, bad_files=prepared.plan.bad)
        done = _launch(pending, prepared, config=config, beam_args=beam_args, cluster=cluster)
        attempts.forget(output)
        bad = {shard for shard, one in done.items() if one.outcome == "bad"}  # what was scored of them once is history
        stamps = {shard: stamp for shard, stamp in stamps.items() if shard not in bad}
        stamps |= _stamps(output, [unit for unit in pending if unit.shard not in bad])
        summary = _finish(prepared, config=config, inputs=inputs, stamps=stamps, done=done, started=started)
        if summary.finished and config.report.enabled:
            refresh_report(output)
        return summary


def prepare(inputs: Sequence[str], output: str, config: ScanConfig, *, beam_args: Sequence[str] = ()) -> Prepared:
    """Resolve everything that was left open, before anything is touched."""
    check_runner(config, beam_args, paths=[*inputs, output])
    bundle = load_bundle(config.model)
    given = config.model_dump(include=set(ScoreSettings.model_fields), exclude_unset=True)
    settings = resolve_settings(ScoreSettings.model_validate(given), bundle)
    device = device_of(settings.engine, settings.device) if config.runner in LOCAL else None
    plan = plan_input(inputs, config)
    where = storage.printable(plan.files[0].path)
    check_by(config.report.by, with_partitions(plan.schema, plan.files[0].relative), text=plan.text, where=where)
    attribute_schema(
        settings.output,
        dims=1,
        id_type=plan.types[config.input.id] if config.input.id else None,
        carried=tuple(pa.field(name, plan.types[name]) for name in config.output.columns),
    )
    job = Job(
        output=output,
        run=uuid.uuid4().hex[:12],
        text=plan.text,
        id=config.input.id,
        settings=settings,
        bundle_digest=bundle.digest,
        ranges=ranges_for(settings, bundle),
        by=config.counted,
        absent=plan.absent,
        generator=generator_digest(bundle) if settings.suggest.reads else None,
    )
    workers = default_workers() if config.workers == "auto" else config.workers
    return Prepared(plan, bundle, job, workers, why_precision(config.precision, settings, bundle), device)


def _spread(prepared: Prepared, pending: Sequence[WorkUnit], config: ScanConfig) -> Prepared:
    """Give workers several cores each where there are few units. Only with an engine whose numbers do not depend on its
    threads: a shard must not tell how many others there were to make."""
    settings = prepared.job.settings
    is_asked = config.workers != "auto" or "threads" in config.model_fields_set
    if not pending or is_asked or config.runner not in LOCAL or settings.engine != "openvino":
        return prepared
    workers, threads = share_out(prepared.workers, [unit.text_bytes for unit in pending])
    job = replace(prepared.job, settings=settings.model_copy(update={"threads": threads}))
    return replace(prepared, job=job, workers=workers)


def plan_input(inputs: Sequence[str], config: ScanConfig) -> Plan:
    """The plan of INPUT with the options of a config."""
    return make_plan(
        inputs,
        text=config.input.text,
        id=config.input.id,
        columns=config.output.columns,
        counted=config.counted,
        text_mb=config.unit.text_mb,
        sample=config.input.sample,
    )


def foreseen_units(prepared: Prepared) -> list[Foreseen]:
    """What will become of the plan's units, as their shards' footers tell; parallel to them."""
    job, units = prepared.job, prepared.plan.units
    stamps = folder.read_stamps(job.output, units)
    return [foresee(stamp.fingerprint if stamp else None, job, unit) for unit, stamp in zip(units, stamps, strict=True)]


def _stamps(output: str, units: Sequence[WorkUnit]) -> dict[str, Stamp]:
    found = zip(units, folder.read_stamps(output, units), strict=True)
    return {unit.shard: stamp for unit, stamp in found if stamp is not None}


def _current(stamp: Stamp | None, job: Job, unit: WorkUnit) -> bool:
    return stamp is not None and is_current(stamp.fingerprint, job, unit)


def _cluster(prepared: Prepared, config: ScanConfig) -> "AbstractContextManager[Cluster | None]":
    """The cluster that runs the scan, where one has to be joined first."""
    if config.runner != "ray":
        return nullcontext()
    from rtdscan.pipeline.launchers.ray import joined

    return joined(prepared.job, settings=config.ray, workers=None if config.workers == "auto" else config.workers)


def _launch(
    pending: list[WorkUnit],
    prepared: Prepared,
    *,
    config: ScanConfig,
    beam_args: Sequence[str],
    cluster: "Cluster | None",
) -> dict[str, Done]:
    """Scan units with the launcher that the config names."""
    if not pending:
        return {}
    with metering(len(pending), sum(unit.text_bytes for unit in pending)) as meter:
        results = _run(pending, prepared, meter, config=config, beam_args=beam_args, cluster=cluster)
    return {done.shard: done for done in results}


def _run(
    pending: list[WorkUnit],
    prepared: Prepared,
    meter: Meter,
    *,
    config: ScanConfig,
    beam_args: Sequence[str],
    cluster: "Cluster | None",
) -> list[Done]:
    """Call the launcher. Each is imported when it is needed: nothing to do must stay fast."""
    sizes = {unit.shard: unit.text_bytes for unit in pending}

    def on_done(done: Done) -> None:
        stamp = read_stamp(storage.join(prepared.job.output, done.shard))
        meter.add(stamp.tally if stamp else Tally.zero(), text_bytes=sizes[done.shard])

    if config.runner in LOCAL:
        from rtdscan.pipeline.launchers.local import run_local

        return run_local(pending, prepared.job, workers=prepared.workers, on_done=on_done, on_tokens=meter.read)
    if cluster is not None:
        from rtdscan.pipeline.launchers.ray import run_ray

        return run_ray(pending, cluster, on_done=on_done)
    from rtdscan.pipeline.launchers.beam import run_beam

    return run_beam(
        pending,
        prepared.job,
        runner=config.runner,
        options=config.beam,
        arguments=beam_args,
        wait=config.wait,
    )


def _finish(
    prepared: Prepared,
    *,
    config: ScanConfig,
    inputs: Sequence[str],
    stamps: dict[str, Stamp],
    done: dict[str, Done],
    started: float,
) -> Summary:
    """Write the manifest and, when nothing was bad or bad files are tolerated, run.json. What was scored
    of bad files before is removed then: a finished OUTPUT holds the shards that its manifest names."""
    job, plan, bundle = prepared.job, prepared.plan, prepared.bundle
    tally = Tally.zero()
    for unit in plan.units:
        if unit.shard in stamps:
            tally = tally + stamps[unit.shard].tally
    bad = [(bad.path, bad.reason) for bad in plan.bad]
    paths = {unit.shard: storage.printable(unit.file.path) for unit in plan.units}
    bad += [(paths[shard], d.reason) for shard, d in sorted(done.items()) if d.outcome == "bad"]
    outcomes = Counter(done[unit.shard].outcome if unit.shard in done else "current" for unit in plan.units)
    summary = Summary(
        output=storage.printable(job.output),
        finished=not bad or config.on_bad_file == "quarantine",
        tally=tally,
        outcomes=dict(sorted(outcomes.items())),
        bad=tuple(bad),
        seconds=time.monotonic() - started,
        tokens_scored=sum(stamps[d.shard].tally.tokens for d in done.values() if d.outcome == "scored"),
        model=bundle.name,
        engine=job.settings.engine,
        precision=job.settings.precision,
        workers=_workers(prepared, config, done),
        threads=job.settings.threads,
        device=prepared.device or (job.settings.device if job.settings.engine == "torch" else None),
        chosen=prepared.chosen,
        precision_note=precision_note(bundle, tally, flag=config.thresholds.flag),
        warnings=(*warnings_of(bundle, tally), *plan.warnings, *_outside(prepared)),
        spans=tuple(_spans(prepared, tally)) if config.log.text else (),
        judgement=judge_run(Run(tally, bundle.name, bundle.digest, job.scoring, len(bad)), config, output=job.output),
    )
    warn(summary.judgement)
    if bad and summary.finished:
        unread = {shard for shard, one in done.items() if one.outcome == "bad"}
        folder.remove_stale(job.output, [unit for unit in plan.every if unit.shard not in unread])
    folder.write_manifest(job.output, units=plan.units, done=done, stamps=stamps, bad_files=plan.bad)
    if summary.finished:
        folder.write_run(job.output, _run_record(prepared, config=config, inputs=inputs, summary=summary))
    storage.put_bytes(storage.join(job.output, folder.METRICS), prometheus_text(summary, finished_at=time.time()))
    if bad:
        print(f"rtdscan: {bad_line(summary)}", file=sys.stderr)
    return summary


def _outside(prepared: Prepared) -> tuple[str, ...]:
    """Whoever reads attributes/** should know of shards that are not of the sample."""
    plan = prepared.plan
    others = {unit.shard for unit in plan.every} - {unit.shard for unit in plan.units}
    left = folder.count_shards(prepared.job.output, others) if others else 0
    told = f"shards outside the sample stay in attributes/, as old as they are; {folder.MANIFEST_FILE} lists the others"
    return (f"{left:,} {told}",) if left else ()


def _workers(prepared: Prepared, config: ScanConfig, done: Mapping[str, Done]) -> int:
    """Worker processes: as resolved on this machine, else as many as took part."""
    return prepared.workers if config.runner in LOCAL else len({one.worker for one in done.values() if one.worker})


def _spans(prepared: Prepared, tally: Tally) -> list[SpanInContext]:
    job = prepared.job
    return worst_spans(job.output, prepared.plan.units, text=job.text, worst=tally.worst, n=WORST_SHOWN)


def _run_record(prepared: Prepared, *, config: ScanConfig, inputs: Sequence[str], summary: Summary) -> dict[str, Any]:
    job = prepared.job
    settings = job.settings.model_dump(mode="json")
    return {
        "format": 1,
        "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "inputs": [owned.absolute(path) for path in inputs],
        "root": storage.printable(prepared.plan.root),
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
