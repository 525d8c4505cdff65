"""HashUnits, CleanUnits: the two passes of a cleaning over work units."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa

from rtdscan.transforms import attempts
from rtdscan.transforms.cleaning.duplicates import HASHES, sketches, text_digests
from rtdscan.transforms.cleaning.files import (
    marks_digest,
    read_attributes,
    read_clean_stamp,
    read_fingerprint,
    read_marks,
    read_rows,
    write_cleaned,
    write_hashes,
)
from rtdscan.transforms.cleaning.job import CleanJob, clean_fingerprint, hash_fingerprint, hashes_path
from rtdscan.transforms.cleaning.rows import clean_table, selected
from rtdscan.transforms.columns import as_binary
from rtdscan.transforms.records import Outcome, UnitResult, WorkUnit
from rtdscan.transforms.storage import join
from rtdscan.transforms.units import FileProblem, read_unit


@dataclass(eq=False, kw_only=True)
class CleanUnits(beam.PTransform):
    """WorkUnit -> UnitResult; reads, cleans and writes a unit in one step, so that no table leaves it."""

    job: CleanJob

    def expand(self, units: "beam.PCollection[WorkUnit]") -> "beam.PCollection[UnitResult]":
        """Wire `clean_unit`."""
        return units | "Clean" >> beam.Map(clean_unit, self.job)  # pcoll: UnitResult


@dataclass(eq=False, kw_only=True)
class HashUnits(beam.PTransform):
    """WorkUnit -> UnitResult; writes the hashes of the texts that `keep` chooses."""

    job: CleanJob

    def expand(self, units: "beam.PCollection[WorkUnit]") -> "beam.PCollection[UnitResult]":
        """Wire `hash_unit`."""
        return units | "Hash" >> beam.Map(hash_unit, self.job)  # pcoll: UnitResult


def clean_unit(unit: WorkUnit, job: CleanJob) -> UnitResult:
    """Clean a unit, unless its files are current."""
    return _noted(unit, job, _clean)


def hash_unit(unit: WorkUnit, job: CleanJob) -> UnitResult:
    """Hash the unit's texts, unless that was done."""
    return _noted(unit, job, _hash)


def _clean(unit: WorkUnit, job: CleanJob) -> tuple[Outcome, str]:
    attributes, stamp = read_attributes(unit, job)
    marks = read_marks(unit, job)
    fingerprint = clean_fingerprint(job, stamp.digest, marks=marks_digest(marks))
    found = read_clean_stamp(unit, job)
    if found is not None and found.fingerprint == fingerprint:
        return "current", fingerprint
    rows = read_rows(unit, text=job.text, digest=stamp.fingerprint.text)
    cleaned = clean_table(rows, attributes, job.settings, text=job.text, file=unit.file.relative, marks=marks)
    write_cleaned(unit, job, cleaned, fingerprint=fingerprint)
    return "cleaned", fingerprint


def _hash(unit: WorkUnit, job: CleanJob) -> tuple[Outcome, str]:
    attributes, stamp = read_attributes(unit, job)
    fingerprint = hash_fingerprint(job, stamp.digest)
    if read_fingerprint(join(job.output, hashes_path(unit))) == fingerprint:
        return "current", fingerprint
    texts = as_binary(read_unit(unit, text=job.text)["text"])
    chosen = np.flatnonzero(selected(attributes, job.settings).to_numpy(zero_copy_only=False))
    texts = texts.take(pa.array(chosen, pa.int64()))
    digest_N2 = text_digests(texts)
    hashes = pa.table({"row": unit.first_row + chosen, "low": digest_N2[:, 0], "high": digest_N2[:, 1]})
    if job.settings.duplicates.sketches:
        sketch = pa.FixedSizeListArray.from_arrays(pa.array(sketches(texts).ravel()), HASHES)
        hashes = hashes.append_column("sketch", sketch)
    write_hashes(unit, job, hashes, fingerprint=fingerprint)
    return "hashed", fingerprint


def _noted(unit: WorkUnit, job: CleanJob, work: Callable[[WorkUnit, CleanJob], tuple[Outcome, str]]) -> UnitResult:
    """Do it, with a note while it lasts; a unit that can't be read is a result like others."""
    started = time.monotonic()
    attempt = attempts.begin(job, unit)
    outcome: Outcome = "bad"
    fingerprint = reason = ""
    try:
        if attempt.hopeless:
            raise FileProblem(f"{attempt.deaths} workers died over {unit.shard}; is there enough memory?")
        outcome, fingerprint = work(unit, job)
    except FileProblem as problem:
        reason = str(problem)
    attempts.end(job, unit)
    return UnitResult(
        unit=unit,
        outcome=outcome,
        fingerprint=fingerprint,
        seconds=time.monotonic() - started,
        reason=reason,
        worker=f"{socket.gethostname()}:{os.getpid()}",
    )
