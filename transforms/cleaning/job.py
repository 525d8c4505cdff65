"""What every step of one cleaning has to know, and what decides whether a unit is current."""

from dataclasses import dataclass
from typing import Literal

from rtdscan.transforms.cleaning.settings import CleanSettings
from rtdscan.transforms.job import digest_of
from rtdscan.transforms.records import WorkUnit

CLEANING_VERSION = 3
"""Raised whenever the same rows, attributes and settings would give other files; part of every fingerprint."""

Step = Literal["hash", "clean"]


@dataclass(frozen=True, slots=True)
class CleanJob:
    """One pass of a cleaning over all units.

    Attributes:
        output: CLEANED.
        run: Identity of this run; notes about killed workers count within one run only.
        attributes: OUTPUT of the scan.
        text: Name or path of the text column.
        settings: What to keep and change.
        step: "hash": the hashes of the texts that `keep` chooses, which duplicates are found by; "clean": the rest.
    """

    output: str
    run: str
    attributes: str
    text: str
    settings: CleanSettings
    step: Step = "clean"

    @property
    def unused(self) -> tuple[str, ...]:
        """See `job.Task`."""
        return ("pandas", "pymongo", "bson")


def hash_fingerprint(job: CleanJob, attributes: str) -> str:
    """What a unit's hashes are made from.

    Args:
        attributes: Digest of the shard's fingerprint: input file, cut, text, scoring and presentation.
    """
    keep = job.settings.model_dump(mode="json", include={"keep"})
    sketches = job.settings.duplicates.sketches
    fields = {"version": CLEANING_VERSION, "attributes": attributes, "text": job.text, "sketches": sketches}
    return digest_of({**fields, **keep})


def clean_fingerprint(job: CleanJob, attributes: str, *, marks: str) -> str:
    """What a unit's kept, rejected and changed rows are made from.

    Args:
        attributes: As for `hash_fingerprint`.
        marks: Digest of the unit's duplicates.
    """
    settings = job.settings.model_dump(mode="json", exclude={"duplicates"})
    fields = {"version": CLEANING_VERSION, "attributes": attributes, "text": job.text, "marks": marks, **settings}
    return digest_of(fields)


def kept_path(unit: WorkUnit) -> str:
    """Path of the unit's kept rows below CLEANED; like those of the others a pure function of the unit."""
    return _below("kept", unit)


def rejected_path(unit: WorkUnit) -> str:
    """Path of the unit's rejected rows below CLEANED."""
    return _below("rejected", unit)


def changes_path(unit: WorkUnit) -> str:
    """Path of the list of the unit's changes below CLEANED."""
    return _below("changes", unit)


def hashes_path(unit: WorkUnit) -> str:
    """Path of the hashes of the unit's texts below CLEANED; hidden from readers of Parquet folders."""
    return _below(".hashes", unit)


def _below(folder: str, unit: WorkUnit) -> str:
    return folder + "/" + unit.shard.removeprefix("attributes/")
