"""Notes about units whose worker died, so that one poisonous document can't stop a scan.

A worker leaves a note before it begins a unit and removes it once the shard is written. A note that is found when a
unit begins therefore tells of a death. After two deaths the unit is scored a document at a time, and the note names
the row in progress; a row that was in progress when a worker died is never tried again. Notes lie in
`OUTPUT/.attempts/<run>/`: those of another run do not count, for killing a whole scan is no document's fault.

Two workers given the same unit at once read each other's notes as deaths. That costs speed (a document at a time)
unless it happens three times over; what is written stays whole.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Any

from rtdscan.transforms import storage
from rtdscan.transforms.job import Task
from rtdscan.transforms.records import WorkUnit

CAREFUL_AFTER = 2
"""Deaths after which a unit is scored a document at a time."""

GIVE_UP_AFTER = 6
"""Deaths in a row with no document in progress (while reading, say) after which the unit is given up as bad."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known when a unit begins.

    Attributes:
        unit: Path of the unit's shard.
        deaths: Workers that died over the unit in this run.
        unexplained: Deaths since the last that a document could be blamed for.
        failed: Rows (from 0 within the unit) that were in progress when a worker died.
        row: The row in progress, or None.
    """

    unit: str
    deaths: int = 0
    unexplained: int = 0
    failed: tuple[int, ...] = ()
    row: int | None = None

    @property
    def careful(self) -> bool:
        """Whether to score a document at a time."""
        return self.deaths >= CAREFUL_AFTER

    @property
    def hopeless(self) -> bool:
        """Whether to give the unit up."""
        return self.unexplained >= GIVE_UP_AFTER


def begin(job: Task, unit: WorkUnit) -> Attempt:
    """Read the unit's note, count the death it tells of, and leave the new one."""
    found = _found(job, unit)
    attempt = after_death(found) if found else Attempt(unit.shard)
    _leave(job, unit, attempt)
    return attempt


def begun(job: Task, unit: WorkUnit) -> bool:
    """Whether the unit was begun and not ended: its worker is at it, or died."""
    return storage.exists(_note_path(job, unit))


def current(job: Task, unit: WorkUnit) -> Attempt:
    """The attempt that `begin` noted; for whoever goes on with the unit in another step."""
    return _found(job, unit) or Attempt(unit.shard)


def after_death(attempt: Attempt) -> Attempt:
    """The next attempt, after the worker of this one died."""
    deaths = attempt.deaths + 1
    if attempt.row is None:
        return replace(attempt, deaths=deaths, unexplained=attempt.unexplained + 1)
    failed = tuple(sorted({*attempt.failed, attempt.row}))
    return replace(attempt, deaths=deaths, unexplained=0, failed=failed, row=None)


def note_row(job: Task, unit: WorkUnit, attempt: Attempt, row: int | None) -> None:
    """Write down which row is in progress; None between documents."""
    _leave(job, unit, replace(attempt, row=row))


def end(job: Task, unit: WorkUnit) -> None:
    """Remove the unit's note."""
    storage.remove(_note_path(job, unit))


def forget(output: str) -> None:
    """Remove the notes of all runs."""
    storage.remove_tree(storage.join(output, ".attempts"))


def parse_note(data: bytes, unit: WorkUnit) -> Attempt:
    """What a note says; one that can't be read, or tells of another unit, says only that somebody began this one."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):  # ValueError: also what is not UTF-8
        fields = None
    if not isinstance(fields, Mapping) or fields.get("unit") != unit.shard:
        return Attempt(unit.shard)
    failed = fields.get("failed")
    return Attempt(
        unit=unit.shard,
        deaths=_count(fields.get("deaths")),
        unexplained=_count(fields.get("unexplained")),
        failed=tuple(sorted({row for row in failed if _is_row(row, unit)})) if isinstance(failed, list) else (),
        row=fields.get("row") if _is_row(fields.get("row"), unit) else None,
    )


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _is_row(value: Any, unit: WorkUnit) -> bool:
    return type(value) is int and 0 <= value < unit.rows


def _found(job: Task, unit: WorkUnit) -> Attempt | None:
    data = storage.read_bytes(_note_path(job, unit))
    return None if data is None else parse_note(data, unit)


def _leave(job: Task, unit: WorkUnit, attempt: Attempt) -> None:
    storage.put_bytes(_note_path(job, unit), json.dumps(asdict(attempt)).encode())


def _note_path(job: Task, unit: WorkUnit) -> str:
    name = blake2b(unit.shard.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return storage.join(job.output, ".attempts", job.run, f"{name}.json")
