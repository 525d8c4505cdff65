"""CollectResults: what became of all units, in one file that the launcher reads once the pipeline is done."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import apache_beam as beam

from rtdscan.transforms import storage
from rtdscan.transforms.records import Done, UnitResult


@dataclass(eq=False, kw_only=True)
class CollectResults(beam.PTransform):
    """UnitResult -> nothing; writes JSON lines to `path`, whole or not at all.

    A unit that a runner gave to two workers stands there once.
    """

    path: str

    def expand(self, results: "beam.PCollection[UnitResult]") -> "beam.PCollection[str]":
        """Wire `done_of` and `write_results`."""
        return (
            results
            | "Tell" >> beam.Map(done_of)  # pcoll: Done
            | "Gather" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())  # pcoll: list[Done], one element
            | "Write" >> beam.Map(write_results, self.path)  # pcoll: str, the path
        )


def done_of(result: UnitResult) -> Done:
    """What is left to say about a unit; its tally lies in its shard."""
    return Done(
        shard=result.unit.shard,
        outcome=result.outcome,
        fingerprint=result.fingerprint,
        seconds=result.seconds,
        reason=result.reason,
        worker=result.worker,
    )


def write_results(results: Iterable[Done], path: str) -> str:
    """Write results as JSON lines."""
    # Of two results of one unit keep the one that did the work.
    by_shard: dict[str, Done] = {}
    for done in sorted(results, key=lambda done: (done.shard, done.outcome == "current", done.worker)):
        by_shard.setdefault(done.shard, done)
    lines = [json.dumps(asdict(done)) + "\n" for done in by_shard.values()]
    storage.put_bytes(path, "".join(lines).encode())
    return path


def read_results(path: str) -> Iterator[Done]:
    """Read what `write_results` wrote; nothing where there was no unit."""
    for line in (storage.read_bytes(path) or b"").decode().splitlines():
        yield Done(**json.loads(line))
