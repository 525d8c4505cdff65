"""How evenly a scan spreads a corpus of one large row group beside many small files over two workers.

    python -m benchmarks.skew CORPUS [--text COLUMN] [--runners local ray] [--large MB] [--files N] [--quick]

CORPUS is a Parquet file with a text column; its prose is repeated with edits. See README.md.
"""

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.corpora import read_texts, repeated, write_files, write_rows
from benchmarks.measure import MB, machine, python, run, table
from benchmarks.models import make_model

APART = 0.10
"""Time that the first worker to finish may spend idle, as a share of the last one's."""

SMALL_KB = 10
"""Text of a small file."""

PROSE_MB = 5
"""Prose that is repeated."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What each worker did.

    Attributes:
        units: Units by worker.
        seconds: Time in them by worker, as the manifest tells.
        wall: Seconds of the whole command.
    """

    units: dict[str, int]
    seconds: dict[str, float]
    wall: float

    @property
    def apart(self) -> float:
        """How much less the least busy worker did than the busiest, as a share; 1 where only one worked."""
        busy = sorted(self.seconds.values())
        return 1 - busy[0] / busy[-1] if len(busy) > 1 else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a Parquet file whose prose is used")
    parser.add_argument("--text", help="its text column, if there are several")
    parser.add_argument("--runners", nargs="+", choices=["local", "ray"], default=["local", "ray"])
    parser.add_argument("--large", type=float, default=50, help="megabytes of the large row group (default 50)")
    parser.add_argument("--files", type=int, default=999, help=f"files of {SMALL_KB} kB beside it (default 999)")
    parser.add_argument("--folder", type=Path, help="where to make the corpus (default: the temporary folder)")
    parser.add_argument("--quick", action="store_true", help="2 MB and 20 files: does it run, not how even it is")
    args = parser.parse_args()
    large, files = (2.0, 20) if args.quick else (args.large, args.files)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"machine: {machine()}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="rtdscan-bench-", dir=args.folder) as temporary:
        folder = Path(temporary)
        model = make_model("tiny", folder / "model")
        make_corpus(folder / "corpus", list(read_texts(args.corpus, text=args.text, limit=PROSE_MB * MB)), large, files)
        found = {}
        for runner in args.runners:
            found[runner] = scan(folder / "corpus", folder / runner, model=model, runner=runner)
            print(f"done: {runner} in {found[runner].wall:.0f} s", flush=True)
    print(report(found, judged=not args.quick))


def make_corpus(folder: Path, texts: Sequence[str], large: float, files: int) -> None:
    """One file with a single row group of `large` megabytes, and small ones."""
    write_rows(folder / "large.parquet", list(repeated(texts, size=int(large * MB), seed=0)))
    short = [text[: SMALL_KB * 500] for text in texts]
    write_files(folder / "small", short, size=files * SMALL_KB * 1000, files=files)


def scan(corpus: Path, output: Path, *, model: Path, runner: str) -> Spread:
    """Scan with two workers and read the manifest."""
    options = {"model": model, "engine": "torch", "precision": "float32", "report.enabled": "false"}
    with two_nodes() if runner == "ray" else here() as more:
        sets = [word for key, value in {**options, **more}.items() for word in ("--set", f"{key}={value}")]
        usage = run(python("rtdscan.pipeline", "scan", corpus, output, "--json", *sets))
    units: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    for row in pq.read_table(output / "manifest.parquet", columns=["worker", "seconds"]).to_pylist():
        units[row["worker"]] += 1
        seconds[row["worker"]] += row["seconds"]
    return Spread(dict(units), dict(seconds), usage.seconds)


@contextmanager
def here() -> Iterator[dict[str, object]]:
    """Two processes of this machine."""
    yield {"workers": 2}


@contextmanager
def two_nodes() -> Iterator[dict[str, object]]:
    """A Ray cluster on this machine: a head without CPUs, two nodes of one CPU."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    memory = 100 * MB
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": memory}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=memory)
        yield {"runner": "ray", "ray.address": cluster.address}
    finally:
        cluster.shutdown()


def report(found: dict[str, Spread], *, judged: bool = True) -> str:
    """The table, and whether the bound holds."""
    rows: list[Sequence[object]] = [("runner", "worker", "units", "busy s", "of the busiest", "whole run s")]
    verdicts = []
    for runner, spread in found.items():
        most = max(spread.seconds.values())
        for at, (worker, seconds) in enumerate(sorted(spread.seconds.items()), start=1):
            wall = f"{spread.wall:.1f}" if at == 1 else ""
            rows.append((runner, at, spread.units[worker], f"{seconds:.1f}", f"{seconds / most:.1%}", wall))
        met = "met   " if spread.apart <= APART else "MISSED"
        verdicts.append(f"{met}  {runner}: workers {spread.apart:.1%} apart (at most {APART:.0%})")
    return "\n".join(["", table(rows), "", *(verdicts if judged else ["quick: the bound is not judged"])])


if __name__ == "__main__":
    main()
