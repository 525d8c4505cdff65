"""What every step of one scan has to know, and the digests that decide whether a shard is current."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, Protocol

import pyarrow as pa

from rtdscan.transforms.engines.quantised import Ranges
from rtdscan.transforms.records import SCORING_VERSION, SPANS_VERSION, Fingerprint, Outcome, WorkUnit
from rtdscan.transforms.settings import ScoreSettings

Foreseen = Literal["current", "rewritten", "touched", "scored"]
"""What becomes of a unit, as far as footers tell; see `foresee`."""


class Task(Protocol):
    """What launchers and notes about dead workers need to know of a job, be it a scan or another pass over units."""

    @property
    def output(self) -> str:
        """The folder that is written into."""

    @property
    def run(self) -> str:
        """Identity of this run; notes about killed workers count within one run only."""

    @property
    def unused(self) -> tuple[str, ...]:
        """Packages or parts of some that its workers have no use for, though something may import them (absent.py)."""


@dataclass(frozen=True, slots=True)
class Job:
    """One scan, fully resolved: nothing in it is `auto` or None that a worker would have to decide.

    Attributes:
        output: OUTPUT.
        run: Identity of this run; notes about killed workers count within one run only.
        text: Name or path of the text column.
        id: Name of the id column, or None.
        settings: With engine, precision, window and thresholds resolved.
        bundle_digest: Digest of the bundle that `settings.model` must have on every worker.
        ranges: What int8 needs; None for any other precision. Workers take these, whatever they would find themselves.
        by: Columns by whose values the tallies are kept too.
        absent: Types of carried and counted columns that some files lack, where they are null.
        generator: Digest of the bundle's generator, where suggestions ask it.
    """

    output: str
    run: str
    text: str
    id: str | None
    settings: ScoreSettings
    bundle_digest: str
    ranges: Ranges | None = None
    by: tuple[str, ...] = ()
    absent: Mapping[str, pa.DataType] = field(default_factory=dict)
    generator: str | None = None

    @property
    def unused(self) -> tuple[str, ...]:
        """See `Task`."""
        of_others = ("torch", "transformers", "scipy", "pandas", "openvino.tools")
        return ("pymongo", "bson", *(of_others if self.settings.engine == "openvino" else ()))

    @property
    def scoring(self) -> str:
        """Digest of all that changes scores (see records.Fingerprint)."""
        settings = self.settings
        return digest_of(
            {
                "version": SCORING_VERSION,
                "bundle": self.bundle_digest,
                "engine": settings.engine,
                "precision": settings.precision,
                "window": settings.window,
                "document_tokens": settings.limits.document_tokens,
                "words": settings.output.words,
                "tokens": settings.output.tokens,
                "embedding": settings.output.embedding,
                "text": self.text,
                **({"ranges": self.ranges.digest} if self.ranges else {}),
            }
        )

    @property
    def presentation(self) -> str:
        """Digest of what can be applied to stored candidates (see records.Fingerprint)."""
        settings = self.settings
        thresholds = settings.thresholds
        return digest_of(
            {
                "flag": thresholds.flag,
                "review": thresholds.review,
                "drop": thresholds.drop,
                "not_ok": thresholds.not_ok,
                "ignore": sorted(settings.ignore),
                "allow": sorted(settings.allow),
                "id": self.id,
                "columns": settings.output.columns,
                "suggest": settings.suggest.model_dump() if settings.suggest.top_k else None,
                "spans": SPANS_VERSION,
                **({"generator": self.generator} if self.generator else {}),
                **({"by": self.by} if self.by else {}),
            }
        )

    @property
    def suggesting(self) -> str:
        """Digest of what the suggestions of a span rest on besides its text and the model; empty where there are none.

        Where it is the same, those that are stored hold for every span that is still where it was."""
        suggest = self.settings.suggest
        if not suggest.top_k:
            return ""
        return digest_of({"suggest": suggest.model_dump(), "spans": SPANS_VERSION, "generator": self.generator})

    @property
    def floor(self) -> float:
        """`thresholds.floor`, resolved."""
        floor = self.settings.thresholds.floor
        if floor is None:
            raise ValueError("thresholds.floor must be resolved before a job is made")
        return floor

    def fingerprint(self, unit: WorkUnit, *, text: str) -> Fingerprint:
        """What the unit's shard will carry, given the digest of its texts."""
        return Fingerprint(
            size=unit.file.size,
            version=unit.file.version,
            footer=unit.file.footer,
            rows=f"{unit.first_row}:{unit.rows}",
            text=text,
            scoring=self.scoring,
            floor=self.floor,
            presentation=self.presentation,
        )


def is_current(found: Fingerprint | None, job: Job, unit: WorkUnit) -> bool:
    """True when the shard's fingerprint says that there is nothing to do, without reading the input's rows."""
    return found is not None and found == job.fingerprint(unit, text=found.text)


def reuse(found: Fingerprint | None, wanted: Fingerprint, *, carries: bool) -> Outcome:
    """What has to be done once the unit's texts were read and digested.

    Args:
        found: What the shard carries; None where there is none.
        wanted: What it would carry.
        carries: Whether shards hold columns of the input, which may have changed although the texts did not.

    Returns:
        "scored" when stored scores can't serve, "restamped" when all that is stored still holds, "rewritten" when
        spans, decisions, candidates or carried columns have to be made again from what is stored.
    """
    if (
        found is None
        or found.scoring != wanted.scoring
        or found.text != wanted.text
        or found.rows != wanted.rows
        or found.floor > wanted.floor
    ):
        return "scored"
    same = found.presentation == wanted.presentation and found.floor == wanted.floor
    return "restamped" if same and not carries else "rewritten"


def foresee(found: Fingerprint | None, job: Job, unit: WorkUnit) -> Foreseen:
    """What will have to be done, without reading the input's rows; see `reuse`, which knows the texts.

    Returns:
        "current": nothing. "rewritten": stored scores serve. "touched": they do if the texts of the file, which is
        another than it was, are the same. "scored": they can't serve.
    """
    if found is None:
        return "scored"
    wanted = job.fingerprint(unit, text=found.text)
    if found == wanted:
        return "current"
    if reuse(found, wanted, carries=False) == "scored":
        return "scored"
    same_file = (found.size, found.version, found.footer) == (wanted.size, wanted.version, wanted.footer)
    return "rewritten" if same_file else "touched"


def digest_of(fields: Mapping[str, Any]) -> str:
    """blake2b-128 hex digest of a mapping of JSON values, independent of the order of keys."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()
