"""The ceiling: the engine alone, fed with the very batches that a scan would feed it, made ready beforehand.

Prints JSON: tokens, seconds and CPU seconds of all calls of `engine.forward`, the share of padding in the batches and
how many tokens a token's attention sees on average.

    python -m benchmarks.bare SAMPLE --model MODEL --engine torch --precision float32 --unit-mb 4
"""

import argparse
import json
from dataclasses import dataclass, field, replace
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray

from rtdscan.pipeline.planning import make_plan
from rtdscan.transforms.batches import Filled
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import ScoreSettings
from rtdscan.transforms.units import read_unit


@dataclass
class Recorder:
    """An engine without a network: keeps what it is asked."""

    dims: int
    name: str = "none"
    precision: str = "float32"
    batches: list[Filled] = field(default_factory=list)

    def forward(
        self, ids_BT: NDArray[np.int32], lengths_B: NDArray[np.int32], weights_BT: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.batches.append(Filled(ids_BT, lengths_B, weights_BT))
        return np.zeros(ids_BT.shape, np.float32), np.ones((len(ids_BT), self.dims), np.float32)

    def close(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample")
    parser.add_argument("--model", default="default")
    parser.add_argument("--engine", required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--unit-mb", type=float, required=True)
    args = parser.parse_args()

    settings = ScoreSettings(engine=args.engine, precision=args.precision, threads=1)
    complete = Scorer.load(args.model, settings=settings)
    engine = complete.engine
    plan = make_plan([args.sample], text_mb=args.unit_mb)
    recorder = Recorder(dims=engine.dims)
    scorer = replace(complete, engine=recorder)
    tables = [scorer.score_rows(read_unit(unit, text=plan.text)) for unit in plan.units]
    batches = recorder.batches

    engine.forward(*batches[-1])
    wall, cpu = perf_counter(), process_time()
    for batch in batches:
        engine.forward(*batch)
    wall, cpu = perf_counter() - wall, process_time() - cpu

    shown = sum(int(batch.lengths_B.sum()) for batch in batches)
    told = {
        "tokens": sum(sum(table["n_tokens"].to_pylist()) for table in tables),
        "seconds": wall,
        "cpu": cpu,
        "padding": 1 - shown / sum(batch.ids_BT.size for batch in batches),
        "context": sum(int((batch.lengths_B.astype(np.int64) ** 2).sum()) for batch in batches) / shown,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
