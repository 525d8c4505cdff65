"""A shard on disk: attribute rows of one unit, with fingerprint and tally in its footer."""

import json
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rtdscan.transforms import storage
from rtdscan.transforms.job import digest_of
from rtdscan.transforms.records import Fingerprint, ScoredBatch
from rtdscan.transforms.tally import Tally

KEY = b"rtdscan"
"""Key of the footer's metadata under which a shard's stamp lies, as JSON."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a shard's footer says about it; `suggesting` as in Job, empty in shards of before it was told."""

    fingerprint: Fingerprint
    tally: Tally
    suggesting: str = ""

    @property
    def digest(self) -> str:
        """Hex digest of the fingerprint."""
        return fingerprint_digest(self.fingerprint)


def fingerprint_digest(fingerprint: Fingerprint) -> str:
    """Hex digest of a fingerprint, as the manifest shows it."""
    return digest_of(asdict(fingerprint))


def read_stamp(path: str) -> Stamp | None:
    """Read a shard's stamp; None where there is no shard, or none that this program wrote."""
    if not storage.exists(path):
        return None
    try:
        with storage.open_read(path) as source:
            metadata = pq.read_metadata(source).metadata or {}
    except (pa.ArrowException, OSError):  # what pyarrow raises on damaged footers
        return None
    return parse_stamp(metadata.get(KEY))


def parse_stamp(value: bytes | None) -> Stamp | None:
    """Read the JSON of a stamp; None where it is of another format."""
    if value is None:
        return None
    try:
        fields = json.loads(value)
        tally = Tally.from_json(fields["tally"])
        return Stamp(Fingerprint(**fields["fingerprint"]), tally, fields.get("suggesting", ""))
    except (ValueError, KeyError, TypeError):
        return None  # a format of another version: the unit is scored again


def read_shard(path: str) -> pa.Table:
    """All rows of a shard."""
    with storage.open_read(path) as source:
        return pq.read_table(source, partitioning=None)


def write_shard(batch: ScoredBatch, *, output: str) -> None:
    """Write a unit's shard, whole or not at all; the same batch gives the same bytes."""
    stamp = {"fingerprint": asdict(batch.fingerprint), "tally": batch.tally.to_json(), "suggesting": batch.suggesting}
    table = batch.attributes.replace_schema_metadata({KEY: json.dumps(stamp, sort_keys=True).encode()})
    storage.put(
        storage.join(output, batch.unit.shard),
        lambda sink: pq.write_table(table, sink, compression="zstd", write_statistics=True),
    )
