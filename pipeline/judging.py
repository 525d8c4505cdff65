"""What gates have to say about a run, judged and shown: at the end of a scan, by `rtdscan gate` and `accept`."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from rtdscan.pipeline.config import ScanConfig
from rtdscan.pipeline.output import read_baseline
from rtdscan.pipeline.printing import one_line
from rtdscan.transforms.drift import Baseline
from rtdscan.transforms.gates import Run, Verdict, compared, judge, passed

FAILED_SHOWN, PASSED_SHOWN = 20, 3
"""Values of a column that are shown one by one for a gate; the rest is told as a range."""

STYLES = {"passed": "green", "failed": "bold red"}


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that gates have to say about a run.

    Attributes:
        verdicts: In the order of the gates; by value where a gate is by a column.
        baseline: The accepted run; None where there is none.
        drift: All measures against it, see `gates.compared`; empty without one.
    """

    verdicts: tuple[Verdict, ...] = ()
    baseline: Baseline | None = None
    drift: dict[str, dict[str, Any]] | None = None

    @property
    def passed(self) -> bool:
        """Whether no gate says no."""
        return passed(self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """For `--json` and run.json."""
        told = ("accepted_at", "finished_at", "model", "model_digest")
        return {
            "passed": self.passed,
            "gates": [asdict(verdict) for verdict in self.verdicts],
            "baseline": {name: getattr(self.baseline, name) for name in told} if self.baseline else None,
            "drift": self.drift or {},
        }


def judge_run(finished: Run, config: ScanConfig, *, output: str) -> Judgement:
    """Judge a run against its bounds and the accepted run.

    Raises:
        UserError: baseline.json is damaged, or a gate is by a column by which the run was not counted.
    """
    baseline = read_baseline(output)
    return Judgement(
        verdicts=judge(config.gates, finished, baseline),
        baseline=baseline,
        drift=compared(finished, baseline) if baseline else {},
    )


def warn(judgement: Judgement) -> None:
    """Say on stderr what could not be judged, and why: it passes, but nobody looked."""
    reasons: dict[str, dict[str, None]] = {}
    for verdict in judgement.verdicts:
        if verdict.verdict not in ("passed", "failed"):
            reasons.setdefault(f"{verdict.verdict}: {verdict.note}", {})[verdict.gate] = None
    for reason, gates in reasons.items():
        print(f"rtdscan: not judged: {', '.join(gates)}: {reason}", file=sys.stderr)


def print_judgement(judgement: Judgement, console: Console) -> None:
    """Show verdicts and drift to a person; nothing where there are neither."""
    found = [*_verdict_rows(judgement.verdicts), *_drift_rows(judgement)]
    if not found:
        return
    if judgement.baseline:
        console.print(f"accepted run: {judgement.baseline.accepted_at}", highlight=False, markup=False)
    rows: list[_Row] = [("gate", "of", "value", "bound", "verdict", ""), *found]
    # By hand: in a pipe rich would cut its own tables to 80 columns.
    widths = [max(cell_len(row[at]) for row in rows) for at in range(5)]
    for row in rows:
        line = Text()
        for at, cell in enumerate(row):
            padding = " " * (widths[at] - cell_len(cell) + 2) if at < 5 else ""
            line.append(padding[2:] + cell + padding[:2] if at == 2 else cell + padding, STYLES.get(row[4], ""))
        line.rstrip()
        console.print(line, soft_wrap=True)


_Row = tuple[str, str, str, str, str, str]


def _verdict_rows(verdicts: Sequence[Verdict]) -> Iterator[_Row]:
    for name in dict.fromkeys(verdict.gate for verdict in verdicts):
        of_gate = [verdict for verdict in verdicts if verdict.gate == name]
        for outcome in sorted({verdict.verdict for verdict in of_gate}, key=lambda outcome: outcome != "failed"):
            alike = [verdict for verdict in of_gate if verdict.verdict == outcome]
            shown = PASSED_SHOWN if outcome == "passed" else FAILED_SHOWN
            few = alike if len(alike) <= shown else alike[:shown] if outcome == "failed" else []
            yield from (_verdict_row(verdict) for verdict in few)
            if few != alike:
                yield _rest_row(alike[len(few) :], more="more " if few else "")


def _verdict_row(verdict: Verdict) -> _Row:
    of = f"{verdict.by}={one_line(verdict.of)}" if verdict.of is not None else verdict.by or ""
    return _title(verdict), of, _number(verdict.value), verdict.bound, verdict.verdict, verdict.note


def _rest_row(verdicts: Sequence[Verdict], *, more: str) -> _Row:
    """Values of a column with one verdict, as a range."""
    first = verdicts[0]
    numbers = sorted(verdict.value for verdict in verdicts if verdict.value is not None)
    value = f"{_number(numbers[0])} to {_number(numbers[-1])}" if numbers else _number(None)
    return _title(first), f"{first.by}: {len(verdicts)} {more}values", value, first.bound, first.verdict, ""


def _title(verdict: Verdict) -> str:
    return verdict.gate if verdict.gate == verdict.metric else f"{verdict.gate} ({verdict.metric})"


def _drift_rows(judgement: Judgement) -> Iterator[_Row]:
    """Measures that no gate speaks of."""
    judged = {verdict.metric for verdict in judgement.verdicts if verdict.by is None}
    for name, measure in (judgement.drift or {}).items():
        if f"drift.{name}" not in judged:
            known = measure["comparable"] and measure["value"] is not None
            value, note = (measure["value"], measure["note"]) if known else (None, "")
            yield f"drift.{name}", "", _number(value), "none", "", note


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if value >= 0.0001 or not value else f"{value:.1e}"
    )
