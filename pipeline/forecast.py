"""What a scan would take: how much there is to read and to score, and how long that lasts; what `plan` shows."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from rtdscan.pipeline.planning import Plan
from rtdscan.pipeline.printing import shown
from rtdscan.transforms.job import Foreseen
from rtdscan.transforms.records import BadFile, WorkUnit

BYTES_PER_TOKEN = 4.6
"""Bytes of English text a word piece (BERT's vocabulary); fewer in other languages."""

UNIT_SECONDS = 0.04
"""What a unit takes of a worker beside its tokens: reading, the graph, writing, notes. Measured on a core with AVX2 and
a local disk, 400 files of two short texts: 42 ms a unit scored, 12 tokens among them, 32 ms a unit rewritten. In an
object store it is more."""

LARGEST = 5
"""Row groups that a summary names."""


IN_CONTEXT = (
    "suggest.in_context is not in these figures: where 0.7% of words are flagged it takes as long again, and so on in "
    "proportion"
)
"""Measured: 1.7 times the CPU seconds of a scan without at .5 % of words flagged, 2.1 times at .76 %."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of an input file, with the bytes of text that the footer tells of."""

    file: str
    row_group: int
    rows: int
    text_bytes: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What `rtdscan plan` tells.

    Attributes:
        root, text, bad: As in Plan.
        files: Good files.
        units, rows, text_bytes: Of the sample (of the whole input where none was asked for), as footers tell.
        all_units, all_rows: Of the whole input.
        largest: Its LARGEST row groups by text, largest first.
        current: Units whose shard needs no work; None where no OUTPUT was given.
        rewritten: Units that are written again from stored scores; None as above.
        touched: Units of files that have changed, scored only where their texts have; None as above.
        tokens: Estimate for the units that are scored, `touched` ones included: bytes by BYTES_PER_TOKEN.
        seconds: Estimate: tokens by `tokens_per_second`, and UNIT_SECONDS a unit that is not current; by `workers`.
        tokens_per_second: Of one worker, as assumed.
        workers: As assumed.
        warnings: As in Plan.
    """

    root: str
    text: str
    files: int
    units: int
    rows: int
    text_bytes: int
    all_units: int
    all_rows: int
    current: int | None
    rewritten: int | None
    touched: int | None
    tokens: int
    seconds: float
    tokens_per_second: float
    workers: int
    largest: tuple[RowGroup, ...]
    bad: tuple[BadFile, ...]
    warnings: tuple[str, ...] = ()


def forecast(
    plan: Plan,
    *,
    tokens_per_second: float,
    workers: int,
    foreseen: Sequence[Foreseen] | None = None,
    in_context: bool = False,
) -> Forecast:
    """Add up a plan.

    Args:
        plan: The plan.
        tokens_per_second: What one worker is assumed to do.
        workers: How many there will be.
        foreseen: What will become of each unit; None: no OUTPUT to look at, all are scored.
        in_context: Whether suggestions are read in their context, which is not counted: nobody knows what is flagged.
    """
    fates = ["scored"] * len(plan.units) if foreseen is None else list(foreseen)
    scored = [unit for unit, fate in zip(plan.units, fates, strict=True) if fate in ("scored", "touched")]
    tokens = round(sum(unit.text_bytes for unit in scored) / BYTES_PER_TOKEN)
    busy = tokens / tokens_per_second + UNIT_SECONDS * (len(fates) - fates.count("current"))
    return Forecast(
        root=plan.root,
        text=plan.text,
        files=len(plan.files),
        units=len(plan.units),
        rows=sum(unit.rows for unit in plan.units),
        text_bytes=sum(unit.text_bytes for unit in plan.units),
        all_units=len(plan.every),
        all_rows=sum(unit.rows for unit in plan.every),
        current=None if foreseen is None else fates.count("current"),
        rewritten=None if foreseen is None else fates.count("rewritten"),
        touched=None if foreseen is None else fates.count("touched"),
        tokens=tokens,
        seconds=busy / workers,
        tokens_per_second=tokens_per_second,
        workers=workers,
        largest=_largest(plan.every),
        bad=plan.bad,
        warnings=(*plan.warnings, *([IN_CONTEXT] if in_context and scored else [])),
    )


def render(forecast: Forecast, console: Console) -> None:
    """Print a forecast for people."""
    table = Table(show_header=False, box=None, pad_edge=False)
    most = "at most about" if forecast.touched else "about"
    speed = f"{forecast.workers} x {forecast.tokens_per_second:,.0f} tokens/s, and {UNIT_SECONDS:g} s a unit"
    rows = [
        ("input", shown(forecast.root)),
        ("text column", forecast.text),
        ("files", f"{forecast.files:,}" + (f", and {len(forecast.bad):,} bad" if forecast.bad else "")),
        ("units", f"{forecast.units:,}" + _of(forecast.units, forecast.all_units)),
        ("rows", f"{forecast.rows:,}" + _of(forecast.rows, forecast.all_rows)),
        ("text", f"{forecast.text_bytes / 1e6:,.1f} MB uncompressed, as the footers tell"),
        *([] if forecast.current is None else [("current", f"{forecast.current:,} units need no work")]),
        *([("rewritten", f"{forecast.rewritten:,} units, from stored scores")] if forecast.rewritten else []),
        *([("touched", f"{forecast.touched:,} units, scored only if their text changed")] if forecast.touched else []),
        ("tokens to score", f"{most} {forecast.tokens:,} (estimate: {BYTES_PER_TOKEN} bytes a token, as in English)"),
        ("time", f"{most} {_duration(forecast.seconds)} (estimate: {speed})"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    console.print(table, markup=False)
    if forecast.largest:
        console.print(_largest_table(forecast.largest))
    for warning in forecast.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    for one in forecast.bad:
        console.print(f"bad: {shown(one.reason, most=1000)}", markup=False, highlight=False, soft_wrap=True)


def _largest_table(largest: Sequence[RowGroup]) -> Table:
    table = Table(title="largest row groups", title_justify="left", box=None, pad_edge=False)
    for name in ("file", "row group", "rows", "text MB"):
        table.add_column(name, justify="left" if name == "file" else "right")
    for group in largest:
        table.add_row(shown(group.file), str(group.row_group), f"{group.rows:,}", f"{group.text_bytes / 1e6:,.1f}")
    return table


def _of(part: int, whole: int) -> str:
    return "" if part == whole else f" of {whole:,} (sample)"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


def _largest(units: Sequence[WorkUnit]) -> tuple[RowGroup, ...]:
    groups: dict[tuple[str, int], list[WorkUnit]] = defaultdict(list)
    for unit in units:
        groups[unit.file.relative, unit.row_group].append(unit)
    told = [
        RowGroup(file, number, sum(u.rows for u in cut), sum(u.text_bytes for u in cut))
        for (file, number), cut in groups.items()
    ]
    return tuple(sorted(told, key=lambda group: (-group.text_bytes, group.file, group.row_group))[:LARGEST])
