"""Files, units and time, from the manifest alone."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from rtdscan.pipeline.finished.folder import Finished

FILES_SHOWN = 12
SLOWEST_SHOWN = 8
WORKERS_SHOWN = 16
BAD_SHOWN = 20


@dataclass(frozen=True, slots=True)
class File:
    """An input file, its units added up."""

    file: str
    documents: int
    words: int
    flagged: int
    tokens: int
    seconds: float

    @property
    def share(self) -> float:
        """Flagged words of all words."""
        return self.flagged / max(self.words, 1)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process of the last run."""

    worker: str
    units: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What the manifest says.

    Attributes:
        files: Files in OUTPUT.
        worst: Files with the highest share of flagged words.
        median: Of the files' shares of flagged words; None where no file has words.
        slowest: Files that took longest in the last run; empty where nothing was done.
        workers: Of the last run, the busiest first.
        n_workers: How many there were.
        outcomes: Units by what was done with them.
        seconds: Time of all workers together, in the last run.
        bad: (file, reason) of what could not be read.
    """

    files: int
    worst: tuple[File, ...]
    median: float | None
    slowest: tuple[File, ...]
    workers: tuple[Worker, ...]
    n_workers: int
    outcomes: dict[str, int]
    seconds: float
    bad: tuple[tuple[str, str], ...]


def count(finished: Finished) -> Counts:
    """Add the manifest up by file and by worker."""
    manifest = finished.manifest
    files = _summed(manifest, "file", ["documents", "words", "flagged", "tokens", "seconds"])
    with_words = files.filter(pc.greater(files["words"], 0))
    share = pc.divide(with_words["flagged"].cast(pa.float64()), with_words["words"].cast(pa.float64()))
    with_words = with_words.append_column("share", share)
    worst = with_words.sort_by([("share", "descending"), ("words", "descending"), ("file", "ascending")])
    slowest = files.filter(pc.greater(files["seconds"], 0)).sort_by([("seconds", "descending"), ("file", "ascending")])
    busy = manifest.filter(pc.is_valid(manifest["worker"]))
    workers = _summed(busy, "worker", ["tokens", "seconds"], count="units")
    workers = workers.sort_by([("seconds", "descending"), ("worker", "ascending")])
    bad = manifest.filter(pc.equal(manifest["status"], "bad"))[:BAD_SHOWN]
    outcomes = sorted(pc.value_counts(manifest["status"]).to_pylist(), key=lambda pair: -pair["counts"])
    median = pc.quantile(share, 0.5)[0].as_py() if len(share) else None
    return Counts(
        files=files.num_rows,
        worst=tuple(File(**row) for row in worst[:FILES_SHOWN].drop_columns("share").to_pylist()),
        median=median,
        slowest=tuple(File(**row) for row in slowest[:SLOWEST_SHOWN].to_pylist()),
        workers=tuple(Worker(**row) for row in workers[:WORKERS_SHOWN].to_pylist()),
        n_workers=workers.num_rows,
        outcomes={pair["values"]: pair["counts"] for pair in outcomes},
        seconds=float(pc.sum(manifest["seconds"]).as_py() or 0.0),
        bad=tuple(zip(bad["file"].to_pylist(), (reason or "" for reason in bad["reason"].to_pylist()), strict=True)),
    )


def _summed(table: pa.Table, by: str, columns: list[str], *, count: str | None = None) -> pa.Table:
    """Sums of columns by the values of another, under their own names."""
    aggregates = [(column, "sum") for column in columns] + ([(by, "count")] if count else [])
    grouped = table.group_by(by, use_threads=False).aggregate(aggregates)
    names = {f"{column}_sum": column for column in columns} | ({f"{by}_count": count} if count else {})
    return grouped.rename_columns([names.get(name, name) for name in grouped.column_names])
