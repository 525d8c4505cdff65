"""What a scan says at its end: to people as text, to jobs as JSON, to schedulers in Prometheus' format."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, Metric, generate_latest
from prometheus_client.registry import Collector
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rtdscan.pipeline.contexts import SpanInContext
from rtdscan.pipeline.judging import Judgement, print_judgement
from rtdscan.pipeline.language import doubt_of
from rtdscan.pipeline.output import series_of
from rtdscan.pipeline.printing import one_line, shown
from rtdscan.transforms.bundle import Bundle
from rtdscan.transforms.gates import METRICS, Verdict
from rtdscan.transforms.records import STATUSES
from rtdscan.transforms.tally import Tally

BLOCKS = " ▁▂▃▄▅▆▇█"
WORST_SHOWN = 5
BAD_SHOWN = 10

GROUPS_TOLD = 200
"""Values of a column that metrics.prom has for a gate, failed ones first: Prometheus keeps each as a time series."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a scan.

    Attributes:
        output: Where it lies.
        finished: Whether run.json was written.
        tally: Of the whole corpus, units that were current included.
        outcomes: Units by what was done with them.
        bad: Files and units that could not be read, with reasons.
        seconds: Wall time of this run.
        tokens_scored: Tokens that the network ran over in this run.
        model: Name of the bundle; engine, precision, workers, threads of each: as resolved.
        device: Where torch ran the network; "auto": each worker took a CUDA device if it had one. None: another engine.
        chosen: Why `auto` chose this precision; None where it was given.
        precision_note: What precision the flags are meant to have; None where nobody measured it on such text.
        warnings: What a user should know.
        spans: The worst spans with their contexts; empty unless `log.text` allows it.
        judgement: What the gates say.
    """

    output: str
    finished: bool
    tally: Tally
    outcomes: dict[str, int]
    bad: tuple[tuple[str, str], ...]
    seconds: float
    tokens_scored: int
    model: str
    engine: str
    precision: str
    workers: int
    threads: int
    precision_note: str | None
    warnings: tuple[str, ...]
    device: str | None = None
    chosen: str | None = None
    spans: tuple[SpanInContext, ...] = ()
    judgement: Judgement = field(default_factory=Judgement)

    @property
    def exit_status(self) -> int:
        """0 done, 1 unfinished, 3 a gate said no."""
        return 1 if not self.finished else 0 if self.judgement.passed else 3

    @property
    def tokens_per_second(self) -> float:
        """Speed of this run over its whole wall time, start-up included."""
        return self.tokens_scored / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Counts and places; words of the corpus only where `spans` has some."""
        return {
            "output": self.output,
            "finished": self.finished,
            "model": self.model,
            "engine": self.engine,
            "precision": self.precision,
            "precision_chosen": self.chosen,
            "device": self.device,
            "workers": self.workers,
            "threads": self.threads,
            "seconds": round(self.seconds, 3),
            "tokens_scored": self.tokens_scored,
            "units": self.outcomes,
            "statuses": self.tally.statuses,
            "decisions": self.tally.decisions,
            "metrics": self.tally.metrics(),
            "worst": [asdict(worst) for worst in self.tally.worst[:WORST_SHOWN]],
            "bad": [{"path": path, "reason": reason} for path, reason in self.bad],
            "flag_precision": self.precision_note,
            "warnings": list(self.warnings),
            **self.judgement.to_json(),
            **({"spans": [asdict(span) for span in self.spans]} if self.spans else {}),
        }


def print_summary(summary: Summary, console: Console) -> None:
    """Show it to a person."""
    tally, metrics = summary.tally, summary.tally.metrics()
    outcomes = ", ".join(f"{count:,} {name}" for name, count in summary.outcomes.items() if count)
    counts = ", ".join(f"{tally.statuses[name]:,} {name}" for name in STATUSES if tally.statuses.get(name))
    decisions = ", ".join(f"{count:,} {name}" for name, count in sorted(tally.decisions.items()))
    speed = f", {summary.tokens_per_second:,.0f} tokens/s" if summary.tokens_scored else ""
    table = Table.grid(padding=(0, 2))
    table.add_row("documents", f"{tally.rows:,} ({counts or 'none'})")
    table.add_row("units", outcomes or "none")
    table.add_row("words", f"{tally.words:,}, {tally.flagged:,} flagged ({metrics['flagged_share']:.2%})")
    table.add_row("flags", summary.precision_note or "their precision was not measured; see `rtdscan calibrate`")
    table.add_row("decisions", decisions or "none")
    table.add_row("scores", f"0 {blocks(tally.scores)} 1   mean {metrics['mean_score']:.4f}")
    workers = f"{summary.workers} worker{'s' if summary.workers != 1 else ''}"
    workers += f" of {summary.threads} threads" if summary.threads != 1 else ""
    device = f" on {summary.device}" if summary.device else ""
    table.add_row("model", f"{shown(summary.model)}, {summary.engine} {summary.precision}{device}, {workers}")
    if summary.chosen:
        table.add_row("precision", summary.chosen)
    table.add_row("time", f"{summary.seconds:,.1f} s{speed}")
    console.print(table, highlight=False, soft_wrap=True, markup=False)
    if tally.worst:
        console.print("worst documents:", highlight=False)
    for worst in tally.worst[:WORST_SHOWN]:
        name = f", id {shown(str(worst.id), most=100)}" if worst.id is not None else ""
        place = f"  {worst.score:.3f}  {shown(worst.file)} row {worst.row}{name}"
        console.print(place, highlight=False, markup=False, soft_wrap=True)
    if summary.spans:
        console.print("worst spans:", highlight=False)
    for span in summary.spans:
        console.print(in_context(span), soft_wrap=True)
    for path, reason in summary.bad[:BAD_SHOWN]:
        told = reason if path in reason else f"{path}: {reason}"
        console.print(f"bad: {shown(told, most=1000)}", highlight=False, markup=False, soft_wrap=True)
    if len(summary.bad) > BAD_SHOWN:
        console.print(f"bad: {len(summary.bad) - BAD_SHOWN:,} more; see manifest.parquet", highlight=False)
    for warning in summary.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    print_judgement(summary.judgement, console)
    state = "output" if summary.finished else "unfinished output"
    console.print(f"{state}: {summary.output}", highlight=False, markup=False, soft_wrap=True)


def bad_line(summary: Summary) -> str:
    """What could not be read, in a line, and what to do about it where the scan did not finish for it."""
    (_, reason), *others = summary.bad
    more = f" (and {len(others)} more, see manifest.parquet)" if others else ""
    if summary.finished:
        return f"left out: {reason}{more}"
    return (
        f"{reason}{more}; all that could be read is done: repair or remove what is bad and run the same command"
        " again, or set on_bad_file=quarantine"
    )


def in_context(span: SpanInContext) -> Text:
    """A line about a flagged span: its text in red, what may have been meant and how probable that is."""
    line = Text(f"  {span.score:.3f}  …{one_line(span.before)}")
    line.append(f"[{one_line(span.words)}]", style="bold red")
    line.append(f"{one_line(span.after)}…")
    if span.suggestions:
        line.append(f"  → {one_line(span.suggestions[0])} {span.sure[0]:.2f}", style="green")
    line.append(f"  ({span.file} row {span.row})")
    return line


def blocks(counts: Sequence[int], *, width: int = 25) -> str:
    """A histogram as a line of blocks; heights on a logarithmic scale, so that rare bad documents show."""
    bins = np.add.reduceat(np.asarray(counts, dtype=np.float64), np.arange(0, len(counts), len(counts) // width))
    heights = np.log1p(bins)
    top = float(heights.max())
    return "".join(
        BLOCKS[0 if not n else 1 + int((len(BLOCKS) - 2) * h / top)] for n, h in zip(bins, heights, strict=True)
    )


def prometheus_text(summary: Summary, *, finished_at: float) -> bytes:
    """The metrics in Prometheus' text format, for a node exporter's textfile collector or a push gateway.

    Every series has the label `output`: the exporter refuses equal ones of two files.
    """
    registry = CollectorRegistry()

    def gauge(name: str, help_: str, value: float) -> None:
        Gauge(f"rtdscan_{name}", help_, registry=registry).set(value)

    for name, value in summary.tally.metrics().items():
        gauge(name, _HELP.get(name) or f"{name.removesuffix('_share')}, as a share of {METRICS[name]}", value)
    gauge("scan_seconds", "wall time of the scan", summary.seconds)
    gauge("tokens_scored", "tokens that the network ran over in this scan", summary.tokens_scored)
    gauge("bad_inputs", "files and units that could not be read", len(summary.bad))
    gauge("finished", "1 when the scan finished", float(summary.finished))
    gauge("finished_timestamp_seconds", "when the scan ended, in seconds since 1970", finished_at)
    statuses = Gauge("rtdscan_rows_by_status", "rows by status", ["status"], registry=registry)
    for status in STATUSES:
        statuses.labels(status).set(summary.tally.statuses.get(status, 0))
    units = Gauge("rtdscan_units_by_outcome", "units by what was done", ["outcome"], registry=registry)
    for outcome, count in summary.outcomes.items():
        units.labels(outcome).set(count)
    _gauge_gates(summary.judgement, registry)
    labelled = CollectorRegistry()
    labelled.register(_Labelled(registry, series_of(summary.output)))
    return generate_latest(labelled)


_HELP = {
    "rows": "rows of the corpus",
    "documents": "rows with a score",
    "words": "words and marks that have a score",
    "tokens": "word pieces that have a score",
    "flagged": "words that are flagged",
    "mean_score": "mean score of documents",
    "expected_share": "words that are expected to be wrong, flagged or not, as a share of words",
    "unknown_share": "tokens outside the model's vocabulary, as a share of tokens",
}


@dataclass(frozen=True, slots=True)
class _Labelled(Collector):
    """The series of a registry with the label `output`."""

    registry: CollectorRegistry
    output: str

    def collect(self) -> Iterator[Metric]:
        for metric in self.registry.collect():
            metric.samples = [one._replace(labels={**one.labels, "output": self.output}) for one in metric.samples]
            yield metric


def _gauge_gates(judgement: Judgement, registry: CollectorRegistry) -> None:
    if judgement.verdicts:
        registry.register(_Gates(judgement.verdicts))
    if judgement.drift:
        drift = Gauge("rtdscan_drift", "distance to the accepted run", ["measure"], registry=registry)
        for name, measure in judgement.drift.items():
            if measure["comparable"] and measure["value"] is not None:
                drift.labels(name).set(measure["value"])


@dataclass(frozen=True, slots=True)
class _Gates(Collector):
    """Series of gates. A gate is 1 unless one of its values failed, NaN where none could be judged; one that is `by` a
    column has series for its values too, with `of` which. A Gauge's series would all have the same labels."""

    verdicts: tuple[Verdict, ...]

    def collect(self) -> Iterator[Metric]:
        passed = Metric("rtdscan_gate_passed", "1 passed, 0 failed, NaN not judged", "gauge")
        values = Metric("rtdscan_gate_value", "the number that the gate judged", "gauge")
        for name in dict.fromkeys(verdict.gate for verdict in self.verdicts):
            own = sorted((one for one in self.verdicts if one.gate == name), key=_failed_first)
            outcomes = {verdict.verdict for verdict in own}
            judged = "failed" if "failed" in outcomes else "passed" if "passed" in outcomes else ""
            passed.add_sample(passed.name, {"gate": name}, _OUTCOMES.get(judged, math.nan))
            for verdict in own[:GROUPS_TOLD]:
                labels = {"gate": name}
                if verdict.by is not None and verdict.of is not None:
                    labels |= {"by": verdict.by, "of": verdict.of}
                    passed.add_sample(passed.name, labels, _OUTCOMES.get(verdict.verdict, math.nan))
                if verdict.value is not None:
                    values.add_sample(values.name, labels, verdict.value)
        yield passed
        yield values


_OUTCOMES = {"failed": 0.0, "passed": 1.0}


def _failed_first(verdict: Verdict) -> float:
    return _OUTCOMES.get(verdict.verdict, 2.0)


def precision_note(bundle: Bundle, tally: Tally, *, flag: float | None) -> str | None:
    """Which precision flags are meant to have; None where `flag`, if given, is not the threshold that was measured, and
    where the text may be in another language."""
    measured = bundle.card.flag_precision
    if not measured or (flag is not None and flag != bundle.card.thresholds.flag) or doubt_of(tally):
        return None
    held_out = measured.get("held_out")
    told = "" if held_out is None else f", {held_out:.0%} in documents that the threshold was not chosen on"
    return f"meant to be right {measured['precision']:.0%} of the time{told} ({measured['on']})"


def warnings_of(bundle: Bundle, tally: Tally) -> tuple[str, ...]:
    """What a user should know of the model, and of the corpus beside it."""
    failed = tally.statuses.get("failed", 0)
    none = "no document could be scored, all with text failed: does the model work?" if not tally.documents else None
    return (*bundle.warnings, *(told for told in (none if failed else None, doubt_of(tally)) if told))
