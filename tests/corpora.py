"""Small corpora for tests, and ways to run the scan on them."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rtdscan.transforms.child import run_units
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, WorkUnit

SENTENCES = (
    "The old house stood at the end of the road.",
    "Nobody had lived there for years, and the garden was wild!",
    "Was it true that 3.14 people, on average, don't pay?",
    "She wrote to bob@example.org about https://example.org/page and left.",
    "Naïve café — “quoted” text… and a caf\ufffd too.",
    "我们 在 这里 学习中文。",
)


def text(number: int) -> str:
    """A text that differs from the others; every fifth is one of a few that repeat."""
    if number % 5 == 0:
        return SENTENCES[number % 3]
    chosen = [SENTENCES[(number * 7 + at) % len(SENTENCES)] for at in range(1 + number % 4)]
    return f"Number {number}. " + " ".join(chosen)


def table(first: int, rows: int, *, odd: bool = True) -> pa.Table:
    """Rows with an id, a source and a text; some of the texts null or empty."""
    texts = [
        None if odd and n % 11 == 3 else "" if odd and n % 13 == 4 else text(n) for n in range(first, first + rows)
    ]
    return pa.table(
        {
            "key": pa.array(range(first, first + rows), pa.uint32()),
            "source": pa.array([f"s{n % 3}" for n in range(first, first + rows)]).dictionary_encode(),
            "text": pa.array(texts, pa.string()),
        }
    )


def write_corpus(folder: Path) -> Path:
    """Three files in two folders; with `unit.text_mb=0.001` eight or more units."""
    (folder / "news item").mkdir(parents=True)
    pq.write_table(table(0, 40), folder / "a.parquet", row_group_size=25)
    pq.write_table(table(40, 30), folder / "news item" / "b.parquet")
    pq.write_table(table(70, 12), folder / "news item" / "ü.parquet")
    return folder


def options(bundle: Path, *more: str) -> list[str]:
    """--set options of a test scan: float32 on the torch engine, so that equal means equal to the bit."""
    sets = ["engine=torch", "precision=float32", f"model={bundle}", "workers=1", "unit.text_mb=0.001", "input.id=key"]
    sets.append("report.enabled=false")  # ten times the cost of such a scan; it has tests of its own
    return [part for option in (*sets, *more) for part in ("--set", option)]


@dataclass(frozen=True)
class Ran:
    """A command that ended.

    Attributes:
        status: Exit status.
        out, err: What it said.
    """

    status: int
    out: str
    err: str

    @property
    def told(self) -> str:
        """The one line on stderr."""
        (line,) = self.err.splitlines()
        assert line.startswith("rtdscan: ")
        return line

    @property
    def json(self) -> dict[str, Any]:
        """The one line on stdout, an object."""
        (line,) = self.out.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found


def run_here(
    units: Sequence[WorkUnit],
    job: Job,
    *,
    workers: int,
    on_done: Callable[[Done], None] = lambda done: None,
    on_tokens: Callable[[int], None] = lambda tokens: None,
) -> list[Done]:
    """`run_local` without child processes: the same graph, in this process."""
    done = run_units(units, job)
    for one in done:
        on_done(one)
    return done


def metrics_of(output: Path) -> str:
    """metrics.prom without the label that all series of an OUTPUT have."""
    label = re.compile(r',?output="[^"]*"')
    told = (output / "metrics.prom").read_text()
    series = [line for line in told.splitlines() if not line.startswith("#")]
    assert series
    assert all(label.search(line) for line in series), "the node exporter would refuse it beside that of another OUTPUT"
    return label.sub("", told).replace("{}", "").replace("{,", "{")


def shards(output: Path) -> dict[str, bytes]:
    """Every shard's bytes, by path below OUTPUT."""
    found = sorted((output / "attributes").rglob("*.parquet"))
    return {str(path.relative_to(output)): path.read_bytes() for path in found if path.is_file()}


def attributes(output: Path) -> pa.Table:
    """All rows, in the order of the shards' paths."""
    paths = sorted(path for path in (output / "attributes").rglob("*.parquet") if path.is_file())
    return pa.concat_tables(pq.read_table(path, partitioning=None) for path in paths)
