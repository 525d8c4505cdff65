"""`rtdscan plan INPUT... [OUTPUT]`: what a scan would do, from footers only."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rtdscan.pipeline.config import ScanConfig, load_config
from rtdscan.pipeline.scan import MOVED

if TYPE_CHECKING:
    from rtdscan.pipeline.planning import Plan

HELP = "Tell what a scan would read: files, units, rows, tokens, time. Reads footers only."
CONFIG = ScanConfig

TOKENS_PER_SECOND = {"int8": 10_000.0, "bfloat16": 7_000.0, "float32": 2_500.0}
"""What --speed assumes of one core with the bundled model, by precision: a server CPU of 2023 (README, "How fast"); in
float32, which `auto` comes to where there is nothing better, one with AVX2 alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """INPUT... [OUTPUT]."""
    parser.add_argument(
        "input", nargs="+", metavar="INPUT", help="as for scan; of several, the last is OUTPUT if scan wrote it"
    )
    parser.add_argument("--moved", action="store_true", help=MOVED)
    parser.add_argument(
        "--speed",
        type=float,
        metavar="TOKENS",
        help="tokens a second of one worker, for the estimate of time; default: what this kind of CPU usually does",
    )


def run(args: argparse.Namespace) -> int:
    """Plan, show the summary."""
    from rich.console import Console

    from rtdscan.pipeline.forecast import forecast, render
    from rtdscan.pipeline.launchers.cores import default_workers
    from rtdscan.pipeline.output import is_output
    from rtdscan.pipeline.owned import check
    from rtdscan.pipeline.printing import after_work, print_json
    from rtdscan.pipeline.scanning import foreseen_units, prepare
    from rtdscan.transforms.engines import usual_precision
    from rtdscan.transforms.errors import UserError

    config = load_config(ScanConfig, files=args.config, sets=args.set)
    precision = usual_precision() if config.precision == "auto" else config.precision
    speed = TOKENS_PER_SECOND[precision] if args.speed is None else args.speed
    if not 0 < speed < math.inf:
        raise UserError(f"--speed is {speed}; expected tokens a second, more than 0")
    inputs, foreseen = args.input, None
    if len(inputs) > 1 and is_output(inputs[-1]):
        check(inputs[-1], inputs[:-1], moved=args.moved)
        prepared = prepare(inputs[:-1], inputs[-1], config)
        plan, foreseen = prepared.plan, foreseen_units(prepared)
    else:
        plan = _plan_all(inputs, config)
    workers = default_workers() if config.workers == "auto" else config.workers
    summary = forecast(
        plan, tokens_per_second=speed, workers=workers, foreseen=foreseen, in_context=config.suggest.reads
    )
    with after_work(kept=False):
        if args.json:
            print_json(asdict(summary))
        else:
            render(summary, Console())
    return 0


def _plan_all(inputs: Sequence[str], config: ScanConfig) -> "Plan":
    """The plan where no OUTPUT is known; the last path may have been meant as one that is still to be made."""
    from rtdscan.pipeline.scanning import plan_input
    from rtdscan.transforms import storage
    from rtdscan.transforms.errors import UserError

    try:
        return plan_input(inputs, config)
    except UserError:
        if len(inputs) > 1:
            try:
                storage.expand(inputs[-1])
            except UserError as error:
                raise UserError(f"{error}; if it is to be the OUTPUT of a first scan, leave it out") from error
        raise
