"""What a cleaning says at its end: to people as a table, to jobs as JSON."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from rtdscan.pipeline.printing import shown

BAD_SHOWN = 10


@dataclass(frozen=True, slots=True)
class CleanSummary:
    """The end of a cleaning.

    Attributes:
        output: OUTPUT of the scan.
        cleaned: CLEANED.
        finished: Whether clean.json was written.
        rows, kept, rejected: Of all units, counted in the footers of the files that were written.
        reasons: Rejected rows by reason.
        changes: Changes by kind.
        units: Units by what was done with them.
        unscored: Rows without a score that are kept for their decision (unless they repeat others), by status.
        not_scanned: Rows of input files that the scan left out (a sample, units that could not be read).
        left_out: Files and units that the scan could not read.
        bad: Units that could not be cleaned.
        warnings: Those of the scan, and that no row was kept.
        seconds: Wall time.
    """

    output: str
    cleaned: str
    finished: bool
    rows: int
    kept: int
    rejected: int
    reasons: dict[str, int]
    changes: dict[str, int]
    units: dict[str, int]
    unscored: dict[str, int]
    not_scanned: int
    left_out: tuple[tuple[str, str], ...]
    bad: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Counts and places only."""
        return {
            "output": self.output,
            "cleaned": self.cleaned,
            "finished": self.finished,
            "rows": self.rows,
            "kept": self.kept,
            "rejected": self.rejected,
            "reasons": self.reasons,
            "changes": self.changes,
            "units": self.units,
            "unscored": self.unscored,
            "not_scanned": self.not_scanned,
            "left_out": [{"path": path, "reason": reason} for path, reason in self.left_out],
            "bad": [{"path": path, "reason": reason} for path, reason in self.bad],
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }


def print_clean_summary(summary: CleanSummary, console: Console) -> None:
    """Show it to a person."""
    units = ", ".join(f"{count:,} {name}" for name, count in summary.units.items()) or "none"
    checked = "counted again in every unit's files" if summary.finished else "so far"
    rows = [("rows", f"{summary.rows:,} = {summary.kept:,} kept + {summary.rejected:,} rejected ({checked})")]
    rows += [(f"  {reason}", f"{count:,}") for reason, count in summary.reasons.items()]
    rows += [(f"changed: {kind}", f"{count:,}") for kind, count in summary.changes.items()]
    if summary.unscored:
        told = ", ".join(f"{count:,} {status}" for status, count in summary.unscored.items())
        rows.append(("  no score", f"{told}: kept; a scan with thresholds.not_ok=drop (no network runs) rejects them"))
    if summary.not_scanned:
        rows.append(("not scanned", f"{summary.not_scanned:,} more rows of INPUT, so neither kept nor rejected"))
    rows += [("units", units), ("time", f"{summary.seconds:,.1f} s")]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.print(Text(f"{name:{width}}  {value}"), soft_wrap=True)
    for what, listed in (("left out by the scan", summary.left_out), ("bad", summary.bad)):
        for path, reason in listed[:BAD_SHOWN]:
            told = reason if path in reason else f"{path}: {reason}"
            console.print(Text(f"{what}: {shown(told, most=1000)}"), soft_wrap=True)
        if len(listed) > BAD_SHOWN:
            console.print(Text(f"{what}: {len(listed) - BAD_SHOWN:,} more"), soft_wrap=True)
    for warning in summary.warnings:
        console.print(Text(f"warning: {warning}"), soft_wrap=True)
    state = "cleaned" if summary.finished else "unfinished (repair what is bad, then run the same command again)"
    console.print(Text(f"{state}: {summary.cleaned}"), soft_wrap=True)
