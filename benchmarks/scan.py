"""Speed of `rtdscan scan` beside a stock Beam pipeline and the bare engine: one network, one sample, one table.

    python -m benchmarks.scan CORPUS [--rows 600] [--repeats 3] [--model DIR | --shape electra-small] [--quick]
    python -m benchmarks.scan CORPUS --rows 18938 --precisions int8 --no-stock    # what a second core gives

CORPUS is a Parquet file with a text column. See README.md for what each row and column is.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from statistics import median

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.corpora import sample_rows, write_rows
from benchmarks.measure import MB, Usage, machine, python, run, table
from benchmarks.models import SHAPES, make_model
from benchmarks.profile import STEPS
from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.electra import ElectraShape
from rtdscan.transforms.engines import resolve
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.settings import EngineName, Precision

CANDIDATES: tuple[tuple[EngineName, Precision], ...] = (
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("openvino", "int8"),
)

TARGETS = {"float32": 1.6, "bfloat16": 5.0}
"""Of the torch engine: tokens per CPU second of `scan`, one worker, over those of stock."""

UNIT_MB = 4.0
"""The default of `unit.text_mb`."""

UNITS = (4, 10)
"""Of a sample, for each of several workers: at least, and where they are then `LARGE_MB` or more."""

LARGE_MB = 1.0
"""Text of a unit that takes ten seconds or so, of which Beam's .2 are little."""

SHARE_OF_BARE = 0.9
PADDING = 0.05
REST = 0.08
"""Share of a worker's CPU time that is not the network's, in int8."""

OVER_STOCK = 10.0
"""Of int8: tokens per CPU second of `scan`, one worker, over those of stock."""

SHARE_OF_CEILING = 0.68
"""Of int8: operations of the network, per CPU second of `scan`, over those of one large product of int8 matrices."""

SECOND_CORE = 1.9
"""Tokens a second with two workers over those with one."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured with.

    Attributes:
        folder: For models, samples and outputs.
        model: Bundle directory.
        tokens: Tokens of the sample: word pieces of whole documents, special tokens not counted.
        megabytes: MiB of text of the sample.
        cores: Workers of "all cores".
    """

    folder: Path
    model: Path
    tokens: int
    megabytes: float
    cores: int

    def unit_mb(self, workers: int) -> float:
        """`unit.text_mb`: the default; with several workers no more than gives each of them `UNITS` units."""
        if workers == 1:
            return UNIT_MB
        # 5 % over an even share: a text's size is counted with its offset, and one unit more would leave cores idle.
        few, many = (1.05 * self.megabytes / (units * workers) for units in UNITS)
        return min(UNIT_MB, few if many < LARGE_MB else many)

    def sample(self, *, small: bool) -> Path:
        """The folder to scan; the small one holds a single document for each core, a file each."""
        return self.folder / ("small" if small else "sample")


@dataclass(slots=True)
class Runs:
    """All runs of one configuration, and what they scored.

    Attributes:
        name: As the table shows it.
        whole: Of the sample.
        start: Of a single document for each core: what starting costs.
        tokens: Tokens of the corpus that a run of the sample scored; `start_tokens`: of the single documents.
        padding: Share of padding in the batches; None where it is not known.
        context: Tokens that a token's attention sees, on average, in the bare engine's batches.
        ceiling: Operations per CPU second of one large product of int8 matrices, measured in turn with these; 0: not.
    """

    name: str
    whole: list[Usage] = field(default_factory=list)
    start: list[Usage] = field(default_factory=list)
    tokens: int = 0
    start_tokens: int = 0
    padding: float | None = None
    context: float = 0.0
    ceiling: float = 0.0

    def steady(self, what: str) -> float:
        """Tokens a second, or a CPU second, once started; not a number where the sample is too small to tell."""
        cost = median(getattr(usage, what) for usage in self.whole)
        if self.start:
            cost -= median(getattr(usage, what) for usage in self.start)
        return (self.tokens - self.start_tokens) / cost if cost > 0 else nan


def main() -> None:
    args = _parser().parse_args()
    if args.quick:
        args.rows, args.repeats, args.shape = 20, 1, "tiny"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="rtdscan-bench-") as temporary:
        setup = prepare(args, Path(temporary))
        bundle = load_bundle(str(setup.model))
        shape = bundle.config
        print(f"machine: {machine()}")
        print(
            f"model: {bundle.name}, {shape.layers} layers x {shape.dims}, {shape.heads} heads, window "
            f"{bundle.card.window}\nsample: {args.rows} rows of {args.corpus.name}, {setup.tokens:,} tokens, "
            f"{setup.megabytes:.2f} MiB; {args.repeats} interleaved repeats, medians; {setup.cores} cores",
            flush=True,
        )
        chosen = [pair for pair in CANDIDATES if _asked(pair, args) and _there(pair)]
        workers = [1] if args.quick else sorted({1, setup.cores})
        stock = None if args.no_stock else Runs("stock Beam pipeline, float32")
        bare, scans = measure(setup, chosen, stock=stock, workers=workers, repeats=args.repeats)
        profiles = {pair: run_profile(setup, pair) for pair in chosen}
        ceiling = max((runs.ceiling for runs in bare.values()), default=0.0)
    print(report(setup, stock=stock, bare=bare, scans=scans))
    print(where_time_goes(profiles))
    print("\n".join(int8_verdicts(shape, stock=stock, bare=bare, scans=scans, ceiling=ceiling)))


def prepare(args: argparse.Namespace, folder: Path) -> Setup:
    """Make the sample, the single document, the model and the stock pipeline's weights; count tokens."""
    model = make_model(args.shape, folder / "model") if args.shape else load_bundle(args.model).path
    texts = sample_rows(args.corpus, folder / "sample" / "sample.parquet", rows=args.rows, text=args.text)
    shortest = min(texts, key=len)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for number in range(cores):
        write_rows(folder / "small" / f"{number}.parquet", [shortest])
    tokenizer = load_bundle(str(model)).tokenizer()
    counts = {text: len(tokenizer.encode(text, add_special_tokens=False)) for text in texts}
    run(python("benchmarks.stock", "state-dict", model, folder / "stock.pt"))
    size = sum(len(text.encode()) for text in texts) / 2**20
    return Setup(
        folder=folder,
        model=model,
        tokens=sum(counts[text] for text in texts),
        megabytes=size,
        cores=cores,
    )


Pair = tuple[EngineName, Precision]


def measure(
    setup: Setup, pairs: Sequence[Pair], *, stock: Runs | None, workers: Sequence[int], repeats: int
) -> tuple[dict[Pair, Runs], dict[tuple[Pair, int], Runs]]:
    """Run everything, `repeats` times in turn, so that a slow minute of the machine hits all alike.

    Args:
        setup: What is measured with.
        pairs: Engines and precisions.
        stock: Gets the runs of the stock pipeline; None: it does not run.
        workers: Of the scans.
        repeats: How often.

    Returns:
        Runs of the bare engine, and of scans, by engine, precision and workers.
    """
    bare = {pair: Runs(f"bare engine, {' '.join(pair)}") for pair in pairs}
    scans = {
        (pair, n): Runs(f"rtdscan scan, {' '.join(pair)}, {n} worker{'s' * (n > 1)}") for pair in pairs for n in workers
    }
    for _ in range(repeats):
        if stock:
            for small in (True, False):
                usage, tokens = run_stock(setup, small=small)
                _add(stock, usage, tokens, small=small)
        for pair in pairs:
            run_bare(setup, pair, bare[pair])
            for n in workers:
                for small in (True, False):
                    usage, tokens = run_scan(setup, pair, workers=n, small=small)
                    _add(scans[pair, n], usage, tokens, small=small)
            scans[pair, 1].padding = bare[pair].padding
    return bare, scans


def _add(runs: Runs, usage: Usage, tokens: int, *, small: bool) -> None:
    if small:
        runs.start.append(usage)
        runs.start_tokens = tokens
    else:
        runs.whole.append(usage)
        runs.tokens = tokens


def run_stock(setup: Setup, *, small: bool) -> tuple[Usage, int]:
    """Run the stock pipeline.

    Returns:
        What it used, and the tokens that it scored.
    """
    with tempfile.TemporaryDirectory(dir=setup.folder) as output:
        model = ("--model", setup.model, "--state-dict", setup.folder / "stock.pt")
        usage = run(
            python("benchmarks.stock", "run", f"{setup.sample(small=small)}/*.parquet", f"{output}/scores", *model)
        )
        return usage, pc.sum(pq.read_table(output)["tokens"]).as_py()


def run_bare(setup: Setup, pair: Pair, runs: Runs) -> None:
    """Run the bare engine and add what it used: of its time only that within `forward` counts."""
    engine = ("--model", setup.model, "--engine", pair[0], "--precision", pair[1], "--unit-mb", setup.unit_mb(1))
    usage = run(python("benchmarks.bare", setup.sample(small=False), *engine))
    told = json.loads(usage.stdout)
    runs.whole.append(Usage(seconds=told["seconds"], cpu=told["cpu"], tree=usage.tree))
    runs.tokens, runs.padding, runs.context = told["tokens"], told["padding"], told["context"]
    if pair[1] == "int8":
        runs.ceiling = max(runs.ceiling, json.loads(run(python("benchmarks.ceiling")).stdout)["operations"])


def run_scan(setup: Setup, pair: Pair, *, workers: int, small: bool) -> tuple[Usage, int]:
    """Run `rtdscan scan`.

    Returns:
        What it used, and the tokens that it scored.
    """
    options = {"model": setup.model, "engine": pair[0], "precision": pair[1], "workers": workers}
    options["unit.text_mb"] = setup.unit_mb(workers)
    with tempfile.TemporaryDirectory(dir=setup.folder) as output:
        sets = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
        command = python("rtdscan.pipeline", "scan", setup.sample(small=small), f"{output}/out", "--json", *sets)
        usage = run(command)
        return usage, json.loads(usage.stdout)["metrics"]["tokens"]


def run_profile(setup: Setup, pair: Pair) -> dict[str, float]:
    """CPU seconds of a worker's steps."""
    with tempfile.TemporaryDirectory(dir=setup.folder) as output:
        engine = ("--model", setup.model, "--engine", pair[0], "--precision", pair[1])
        told = json.loads(run(python("benchmarks.profile", setup.sample(small=False), f"{output}/out", *engine)).stdout)
    return {step: told[step] for step in STEPS}


def where_time_goes(profiles: dict[Pair, dict[str, float]]) -> str:
    """The profiles as a table of shares, and whether all but the network is little."""
    rows: list[Sequence[object]] = [("share of a worker's CPU time", *STEPS, "all but forward")]
    lines = []
    for pair, spent in profiles.items():
        total = sum(spent.values())
        rest = 1 - spent["forward"] / total
        rows.append((" ".join(pair), *(f"{spent[step] / total:.1%}" for step in STEPS), f"{rest:.1%}"))
        if pair[1] == "int8":
            met = "met   " if rest <= REST else "MISSED"
            lines.append(f"{met}  {' '.join(pair)}, all but forward: {rest:.1%} (at most {REST:.0%})")
    return "\n".join(["", table(rows), "", *lines])


def operations(shape: ElectraShape, context: float) -> float:
    """Of the network for one token: two for each weight of the linear layers, and attention over `context` tokens."""
    layer = 4 * shape.dims**2 + 2 * shape.dims * shape.inner
    projection = shape.embedding * shape.dims if shape.embedding != shape.dims else 0
    return 2.0 * (shape.layers * (layer + 2 * context * shape.dims) + projection + shape.dims**2 + shape.dims)


def int8_verdicts(
    shape: ElectraShape,
    *,
    stock: Runs | None,
    bare: dict[Pair, Runs],
    scans: dict[tuple[Pair, int], Runs],
    ceiling: float,
) -> Iterator[str]:
    """How int8 does beside stock and beside the processor, and what a second core gives."""
    pair: Pair = ("openvino", "int8")
    if pair not in bare:
        return
    one = scans[pair, 1].steady("cpu")
    values = [("over stock, per CPU second", one / stock.steady("cpu"), OVER_STOCK)] if stock else []
    flops = operations(shape, bare[pair].context)
    yield f"ceiling: {ceiling / 1e9:,.0f} int8 GOP per CPU second; {flops / 1e6:.1f} M operations a token"
    values += [("bare engine, share of the ceiling", bare[pair].steady("cpu") * flops / ceiling, SHARE_OF_CEILING)]
    values += [("scan, share of the ceiling", one * flops / ceiling, SHARE_OF_CEILING)]
    if (pair, 2) in scans:
        both = scans[pair, 2].steady("seconds") / scans[pair, 1].steady("seconds")
        values.append(("two workers over one, tokens a second", both, SECOND_CORE))
    for name, value, target in values:
        yield f"{'met   ' if value >= target else 'MISSED'}  openvino int8, {name}: {value:.3g} (at least {target})"


def report(setup: Setup, *, stock: Runs | None, bare: dict[Pair, Runs], scans: dict[tuple[Pair, int], Runs]) -> str:
    """The table, and how the targets were met."""
    head = ("", "tok/s", "tok/CPU s", "spread", "whole run: tok/s", "tok/CPU s", "start s", "scored", "peak MB")
    rows: list[Sequence[object]] = [(*head, "padding", "x stock", "x bare")]
    rows += [_row(setup, stock, stock=stock, bare=None)] if stock else []
    for pair, runs in bare.items():
        rows.append(_row(setup, runs, stock=stock, bare=None))
        rows += [_row(setup, scan, stock=stock, bare=runs) for (of, _), scan in scans.items() if of == pair]
    return "\n".join(["", table(rows), "", *_verdicts(stock=stock, bare=bare, scans=scans)])


def _row(setup: Setup, runs: Runs, *, stock: Runs | None, bare: Runs | None) -> Sequence[object]:
    cpu = runs.steady("cpu")
    used = [usage.cpu for usage in runs.whole]

    def whole(what: str) -> str:
        return f"{runs.tokens / median(getattr(u, what) for u in runs.whole):,.0f}" if runs.start else "-"

    return (
        runs.name,
        f"{runs.steady('seconds'):,.0f}",
        f"{cpu:,.0f}",
        f"{max(used) / min(used) - 1:.0%}",
        whole("seconds"),
        whole("cpu"),
        f"{median(usage.seconds for usage in runs.start):.1f}" if runs.start else "-",
        f"{runs.tokens / setup.tokens:.1%}",
        f"{max(usage.tree for usage in runs.whole) / MB:,.0f}",
        "-" if runs.padding is None else f"{runs.padding:.1%}",
        f"{cpu / stock.steady('cpu'):.2f}" if stock else "-",
        f"{cpu / bare.steady('cpu'):.2f}" if bare else "-",
    )


def _verdicts(*, stock: Runs | None, bare: dict[Pair, Runs], scans: dict[tuple[Pair, int], Runs]) -> Iterator[str]:
    say: Callable[[str, float, str, bool], str] = lambda name, value, target, met: (  # noqa: E731
        f"{'met   ' if met else 'MISSED'}  {name}: {value:.3g} ({target})"
    )
    for pair, runs in bare.items():
        scan = scans[pair, 1].steady("cpu")
        if stock and pair[0] == "torch":
            ratio, target = scan / stock.steady("cpu"), TARGETS[pair[1]]
            yield say(f"{' '.join(pair)} over stock, per CPU second", ratio, f"at least {target}", ratio >= target)
        share = scan / runs.steady("cpu")
        yield say(
            f"{' '.join(pair)} over bare, per CPU second", share, f"at least {SHARE_OF_BARE}", share >= SHARE_OF_BARE
        )
        padding = runs.padding or 0.0
        yield say(f"{' '.join(pair)}, share of padding", padding, f"below {PADDING}", padding < PADDING)


def _asked(pair: Pair, args: argparse.Namespace) -> bool:
    return (not args.engines or pair[0] in args.engines) and (not args.precisions or pair[1] in args.precisions)


def _there(pair: Pair) -> bool:
    try:
        return resolve(engine=pair[0], precision=pair[1]) == pair
    except RtdscanError:
        return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a Parquet file")
    parser.add_argument("--text", help="its text column, if there are several")
    parser.add_argument("--rows", type=int, default=600, help="documents of the sample, taken evenly (default 600)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precisions", nargs="*", choices=sorted({p for _, p in CANDIDATES}), default=[])
    parser.add_argument("--engines", nargs="*", choices=sorted({engine for engine, _ in CANDIDATES}), default=[])
    parser.add_argument("--no-stock", action="store_true", help="without the stock pipeline, for larger samples")
    parser.add_argument("--quick", action="store_true", help="20 rows, a tiny network: does it run, not how fast it is")
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--model", default="default", help="bundle directory (default: the bundled model)")
    network.add_argument("--shape", choices=sorted(SHAPES), help="a random network of this shape")
    return parser


if __name__ == "__main__":
    main()
