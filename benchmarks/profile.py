"""Where the CPU time of a scan goes: what a worker does with its units, step by step, in one process.

    python -m benchmarks.profile SAMPLE OUTPUT --model MODEL --engine openvino --precision int8

Prints JSON: CPU seconds by step. Starting, and Beam's own 0.2 s a list of units, are not in it.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from time import process_time
from typing import Any

from rtdscan.pipeline.config import ScanConfig
from rtdscan.pipeline.scanning import prepare
from rtdscan.transforms import pieces
from rtdscan.transforms.infer import load_scorer, score_documents
from rtdscan.transforms.read import read_documents
from rtdscan.transforms.records import UnitResult
from rtdscan.transforms.write import write_attributes

STEPS = ("read", "tokenise", "batch", "forward", "readout", "write")


class Clock:
    """CPU seconds within calls, those of inner calls taken out."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._inner = [0.0]

    def around(self, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            started = process_time()
            self._inner.append(0.0)
            try:
                return call(*args, **named)
            finally:
                took = process_time() - started
                self.spent[step] += took - self._inner.pop()  # type: ignore[assignment]
                self._inner[-1] += took

        return timed


class Timed:
    """An engine whose `forward` is timed."""

    def __init__(self, engine: Any, clock: Clock) -> None:
        self.name, self.precision, self.dims = engine.name, engine.precision, engine.dims
        self.forward = clock.around("forward", engine.forward)
        self.close = engine.close


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample")
    parser.add_argument("output")
    parser.add_argument("--model", default="default")
    parser.add_argument("--engine", required=True)
    parser.add_argument("--precision", required=True)
    args = parser.parse_args()
    config = ScanConfig(model=args.model, engine=args.engine, precision=args.precision)
    prepared = prepare([args.sample], args.output, config)
    job, clock = prepared.job, Clock()
    complete = load_scorer(job.settings.model_dump_json(), job.bundle_digest, job.ranges)
    complete.score_rows(read_documents(prepared.plan.units[0], job).table.slice(0, 1))  # kernels are made ready
    scorer = replace(complete, engine=Timed(complete.engine, clock))  # type: ignore[arg-type]
    pieces.make_chunk = clock.around("tokenise", pieces.make_chunk)  # type: ignore[attr-defined]
    pieces.run_windows = clock.around("batch", pieces.run_windows)  # type: ignore[attr-defined]
    read, write = clock.around("read", read_documents), clock.around("write", write_attributes)
    readout = clock.around("readout", score_documents)
    tokens = 0
    for unit in prepared.plan.units:
        documents = read(unit, job)
        if isinstance(documents, UnitResult):
            raise RuntimeError(f"{unit.shard}: nothing was read: {documents.outcome}")
        scored = readout(documents, scorer=scorer, job=job)
        tokens += scored.tally.tokens
        write(scored, job)
    print(json.dumps({"tokens": tokens, **{step: clock.spent[step] for step in STEPS}}))


if __name__ == "__main__":
    main()
