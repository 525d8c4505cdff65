"""Notes about units whose worker died, so that one poisonous document can't stop a scan.

A worker leaves a note before it begins a unit and removes it once the shard is written. A note that is found when a
unit begins therefore tells of a death. After two deaths the unit is scored a document at a time, and the note names
the row in progress; a row that was in progress when a worker died is never tried again. Notes lie in
`OUTPUT/.attempts/<run>/`: those of another run do not count, for killing a whole scan is no document's fault.

Two workers given the same unit at once read each other's notes as deaths. That costs speed (a document at a time)
unless it happens three times over; what is written stays whole.
"""

import json
from dataclasses import asdict, dataclass
from hashlib import blake2b

from rtdscan.transforms import storage
from rtdscan.transforms.job import Job
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


def begin(job: Job, unit: WorkUnit) -> Attempt:
    """Read the unit's note, count the death it tells of, and leave the new one."""
    attempt = Attempt(unit=unit.shard)
    if (found := storage.read_bytes(_note_path(job, unit))) is not None:
        attempt = after_death(Attempt(**json.loads(found)))
    _leave(job, unit, attempt)
    return attempt


def after_death(attempt: Attempt) -> Attempt:
    """The next attempt, after the worker of this one died."""
    blamed = attempt.row is not None
    return Attempt(
        unit=attempt.unit,
        deaths=attempt.deaths + 1,
        unexplained=0 if blamed else attempt.unexplained + 1,
        failed=tuple(sorted({*attempt.failed, *([attempt.row] if attempt.row is not None else [])})),
    )


def note_row(job: Job, unit: WorkUnit, attempt: Attempt, row: int | None) -> None:
    """Write down which row is in progress; None between documents."""
    _leave(job, unit, Attempt(attempt.unit, attempt.deaths, attempt.unexplained, attempt.failed, row))


def end(job: Job, unit: WorkUnit) -> None:
    """Remove the unit's note."""
    storage.remove(_note_path(job, unit))


def forget(output: str) -> None:
    """Remove the notes of all runs."""
    storage.remove_tree(storage.join(output, ".attempts"))


def _leave(job: Job, unit: WorkUnit, attempt: Attempt) -> None:
    fields = {**asdict(attempt), "failed": list(attempt.failed)}
    storage.put_bytes(_note_path(job, unit), json.dumps(fields).encode())


def _note_path(job: Job, unit: WorkUnit) -> str:
    name = blake2b(unit.shard.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return storage.join(job.output, ".attempts", job.run, f"{name}.json")
