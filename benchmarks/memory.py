"""Peak memory of `rtdscan scan` on corpora of several sizes and shapes, one worker each.

    python -m benchmarks.memory CORPUS [--text COLUMN] [--engine torch] [--folder DIR] [--quick]

CORPUS is a Parquet file with a text column; its prose is repeated with edits. See README.md.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.corpora import read_texts, repeated, write_document, write_files, write_rows
from benchmarks.measure import MB, Usage, machine, python, run, table
from benchmarks.models import make_model

GROWTH = 0.05
"""Peak memory of any corpus over that of the 1x corpus, at most."""

DOCUMENT_FACTOR = 6.0
"""Bytes of memory a byte of one huge document, on top of the 1x corpus' peak, at most."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Megabytes (10^6 bytes) of text of each corpus.

    Attributes:
        base: The 1x corpus.
        factor: How many times larger the large one is.
        row_group: One file with a single row group.
        row_group_share: Share of its units that is scanned: memory is a matter of one unit, wherever it lies.
        document: A single document.
        unit: `unit.text_mb`; small for quick runs, so that there are several units.
    """

    base: float = 20
    factor: int = 20
    row_group: float = 1000
    row_group_share: float = 0.2
    document: float = 200
    unit: float = 4.0


QUICK = Sizes(base=0.5, factor=4, row_group=4, row_group_share=0.5, document=1, unit=0.125)

Case = tuple[str, Callable[[Path, Sequence[str], Sizes], None], float]
"""Name, what makes its files, and the share of it that is scanned."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a Parquet file whose prose is used")
    parser.add_argument("--text", help="its text column, if there are several")
    parser.add_argument("--engine", default="torch", help="engine of the scan (default torch)")
    parser.add_argument("--folder", type=Path, help="where to make the corpora, 1.5 GB (default: the temporary folder)")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run, not how much it takes")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these corpora only, and 1x")
    args = parser.parse_args()
    sizes = QUICK if args.quick else Sizes()
    chosen = [case for case in cases(sizes) if not args.only or case[0] in ("1x", *args.only)]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"machine: {machine()}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="rtdscan-bench-", dir=args.folder) as temporary:
        folder = Path(temporary)
        model = make_model("tiny", folder / "model")
        measured: dict[str, Usage] = {}
        for name, make, share in chosen:
            corpus = folder / name.replace(" ", "-") / "corpus"
            # In a process of its own: what making it takes is given back.
            _apart(_make, make, corpus, args.corpus, args.text, sizes)
            measured[name] = scan(corpus, model=model, engine=args.engine, unit_mb=sizes.unit, share=share)
            peak = measured[name].tree / MB  # said at once, for the next one may be cut off
            print(f"done: {name} in {measured[name].seconds:.0f} s, peak of the tree {peak:,.0f} MB", flush=True)
    print(report(measured, sizes))


def cases(sizes: Sizes) -> list[Case]:
    """The corpora, by name."""
    return [
        ("1x", lambda folder, texts, s: write_files(folder, texts, size=int(s.base * MB), files=5), 1.0),
        (f"{sizes.factor}x", _make_large, 1.0),
        ("one row group", _make_row_group, sizes.row_group_share),
        ("one document", _make_document, 1.0),
    ]


def _make_large(folder: Path, texts: Sequence[str], sizes: Sizes) -> None:
    write_files(folder, texts, size=int(sizes.base * sizes.factor * MB), files=5 * sizes.factor)


def _make_row_group(folder: Path, texts: Sequence[str], sizes: Sizes) -> None:
    write_rows(folder / "corpus.parquet", list(repeated(texts, size=int(sizes.row_group * MB), seed=0)))


def _make_document(folder: Path, texts: Sequence[str], sizes: Sizes) -> None:
    write_document(folder / "corpus.parquet", texts, size=int(sizes.document * MB))


def _make(
    make: Callable[[Path, Sequence[str], Sizes], None], folder: Path, source: Path, text: str | None, sizes: Sizes
) -> None:
    make(folder, list(read_texts(source, text=text, limit=int(sizes.base * MB))), sizes)


def _apart(call: Callable[..., None], *arguments: object) -> None:
    process = multiprocessing.get_context("fork").Process(target=call, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"making a corpus ended with {process.exitcode}")


def scan(corpus: Path, *, model: Path, engine: str, unit_mb: float, share: float) -> Usage:
    """Scan a corpus with one worker and see what it takes."""
    options = {
        "model": model,
        "engine": engine,
        "precision": "float32",
        "workers": 1,
        "unit.text_mb": unit_mb,
        "input.sample": share,
    }
    sets = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    usage = run(python("rtdscan.pipeline", "scan", corpus, corpus.parent / "out", "--json", *sets))
    told = json.loads(usage.stdout)
    if not told["finished"] or told["statuses"].keys() - {"ok", "truncated"}:
        raise RuntimeError(f"the scan did not score everything: {told}")
    return usage


def report(measured: dict[str, Usage], sizes: Sizes) -> str:
    """The table, and which bounds hold."""
    head = (
        "corpus",
        "text MB",
        "documents",
        "units",
        "MB/s",
        "launcher MB",
        "worker MB",
        "tree MB",
        "over 1x",
        "bytes/byte",
    )
    text = {"1x": sizes.base, "one row group": sizes.row_group, "one document": sizes.document}
    base = measured["1x"]
    rows: list[Sequence[object]] = [head]
    for name, usage in measured.items():
        told = json.loads(usage.stdout)
        size = text.get(name, sizes.base * sizes.factor)
        scanned = size * (sizes.row_group_share if name == "one row group" else 1)
        extra = f"{(usage.tree - base.tree) / (size * MB):.2f}" if name == "one document" else "-"
        rows.append(
            (
                name,
                f"{size:,.0f}",
                f"{told['metrics']['documents']:,}",
                sum(told["units"].values()),
                f"{scanned / usage.seconds:.2f}",
                f"{usage.processes['main'] / MB:,.0f}",
                f"{usage.processes['child'] / MB:,.0f}",
                f"{usage.tree / MB:,.0f}",
                f"{usage.tree / base.tree - 1:+.1%}",
                extra,
            )
        )
    verdicts = ["quick: the bounds are not judged"] if sizes == QUICK else _verdicts(measured, sizes)
    return "\n".join(["", table(rows), "", *verdicts])


def _verdicts(measured: dict[str, Usage], sizes: Sizes) -> Iterator[str]:
    base = measured["1x"]
    for name in [name for name in measured if name not in ("1x", "one document")]:
        growth = measured[name].tree / base.tree - 1
        yield f"{'met   ' if growth <= GROWTH else 'MISSED'}  {name} over 1x: {growth:+.1%} (at most {GROWTH:+.0%})"
    if "one document" in measured:
        factor = (measured["one document"].tree - base.tree) / (sizes.document * MB)
        met = "met   " if factor <= DOCUMENT_FACTOR else "MISSED"
        yield f"{met}  one document: {factor:.2f} bytes a byte on top of 1x (at most {DOCUMENT_FACTOR:g})"


if __name__ == "__main__":
    main()
