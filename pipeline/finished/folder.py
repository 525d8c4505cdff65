"""A finished OUTPUT: run.json, the manifest, and the shards it names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rtdscan.pipeline.output import MANIFEST_FILE, finished_run, read_run
from rtdscan.transforms import storage
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.gates import Run
from rtdscan.transforms.tally import Tally


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard that the manifest lists.

    Attributes:
        path: Below OUTPUT.
        file: Input file, relative to INPUT's root.
        row_group, first_row, rows: The unit.
        tokens, flagged: Counts of the unit.
    """

    path: str
    file: str
    row_group: int
    first_row: int
    rows: int
    tokens: int
    flagged: int

    @property
    def lot(self) -> bytes:
        """What decides whether it is in a sample: the same on every machine."""
        return blake2b(self.path.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished scan.

    Attributes:
        output: OUTPUT.
        run: run.json.
        manifest: A row a unit.
        judged: What gates judge of it.
    """

    output: str
    run: dict[str, Any]
    manifest: pa.Table
    judged: Run

    @property
    def tally(self) -> Tally:
        """Of all rows."""
        return self.judged.tally

    @property
    def thresholds(self) -> dict[str, Any]:
        """`thresholds.*`, resolved."""
        thresholds: dict[str, Any] = self.run["config"]["thresholds"]
        return thresholds

    def shards(self) -> Iterator[Shard]:
        """All shards in the order of the manifest; shards without rows left out."""
        names = ["shard", "file", "row_group", "first_row", "rows", "tokens", "flagged"]
        there = self.manifest.select(names).filter(pc.field("shard").is_valid() & (pc.field("rows") > 0))
        for batch in there.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                yield Shard(path=row.pop("shard"), **row)


def read_finished(output: str) -> Finished:
    """Read what a finished scan left.

    Raises:
        UserError: OUTPUT is not a scan's, or the scan has not finished.
        RtdscanError: The manifest is missing or damaged.
    """
    run = read_run(output)
    manifest = storage.read_bytes(storage.join(output, MANIFEST_FILE))
    try:
        if manifest is None:
            raise FileNotFoundError("there is none")
        return Finished(output, run, pq.read_table(BytesIO(manifest)), finished_run(run))
    except (OSError, pa.ArrowException) as error:
        raise RtdscanError(f"cannot read {storage.join(output, MANIFEST_FILE)} ({error}); scan again") from error


def read_columns(output: str, shard: Shard, columns: Sequence[str]) -> pa.Table:
    """Some columns of a shard; those that it does not have are left out.

    Raises:
        RtdscanError: The shard is missing or damaged.
    """
    path = storage.join(output, shard.path)
    with storage.open_read(path) as source:
        try:
            file = pq.ParquetFile(source)
            there = set(file.schema_arrow.names)
            return file.read(columns=[name for name in columns if name in there], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise RtdscanError(f"cannot read {storage.printable(path)} ({error}); scan again") from error
