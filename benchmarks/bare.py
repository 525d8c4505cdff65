"""The ceiling: the engine alone, fed with the very batches that a scan would feed it, made ready beforehand.

Prints JSON: seconds and CPU seconds of all calls of `engine.forward`, and of all that a Scorer does besides them.

    python -m benchmarks.bare SAMPLE --model MODEL --engine torch --precision float32 --unit-mb 4
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rtdscan.pipeline.planning import make_plan
from rtdscan.transforms.batches import Filled
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import ScoreSettings
from rtdscan.transforms.units import read_unit


@dataclass
class Recorder:
    """An engine without a network: keeps what it is asked, or answers what it was told."""

    dims: int
    name: str = "none"
    precision: str = "float32"
    batches: list[Filled] = field(default_factory=list)
    answers: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=list)

    def forward(
        self, ids_BT: NDArray[np.int32], lengths_B: NDArray[np.int32], weights_BT: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self.answers:
            return self.answers.pop(0)
        self.batches.append(Filled(ids_BT, lengths_B, weights_BT))
        return np.zeros(ids_BT.shape, np.float32), np.ones((len(ids_BT), self.dims), np.float32)

    def close(self) -> None:
        pass


class Timed(NamedTuple):
    """Wall and CPU seconds of this process."""

    seconds: float
    cpu: float


def timed(call: Callable[[], None]) -> Timed:
    wall, cpu = perf_counter(), process_time()
    call()
    return Timed(perf_counter() - wall, process_time() - cpu)


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
    units = [read_unit(unit, text=plan.text) for unit in plan.units]
    recorder = Recorder(dims=engine.dims)
    scorer = replace(complete, engine=recorder)

    def score() -> list[pa.Table]:
        return [scorer.score_rows(rows) for rows in units]

    scored = sum(sum(table["n_tokens"].to_pylist()) for table in score())
    batches, answers = recorder.batches, []
    engine.forward(*batches[-1])

    def forward() -> None:
        answers.extend(engine.forward(*batch) for batch in batches)

    network = timed(forward)
    recorder.answers = list(answers)
    rest = timed(lambda: score() and None)
    shown = sum(int(batch.lengths_B.sum()) for batch in batches)
    places = sum(batch.ids_BT.size for batch in batches)
    own = sum(int(batch.weights_BT.sum()) for batch in batches)
    print(
        json.dumps(
            {
                "tokens": scored,
                "seconds": network.seconds,
                "cpu": network.cpu,
                "rest_cpu": rest.cpu,
                "padding": 1 - shown / places,
                "context": sum(int((batch.lengths_B.astype(np.int64) ** 2).sum()) for batch in batches) / shown,
                "overlap": 1 - own / (shown - 2 * sum(len(batch.lengths_B) for batch in batches)),
                "windows": sum(len(batch.lengths_B) for batch in batches),
                "batches": len(batches),
            }
        )
    )


if __name__ == "__main__":
    main()
