"""`rtdscan gate OUTPUT`: the quality gates again, without scanning."""

import argparse
from collections.abc import Sequence
from typing import Any

from rtdscan.pipeline.config import ScanConfig, load_config

HELP = (
    "Print the quality gates of a finished scan with value, bound and verdict; exit status 3 when one fails.\n"
    "The gates are those of the scan, or of --config where it names some; --set changes them."
)
CONFIG = ScanConfig
ACTING = ("gates", "notify")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """OUTPUT."""
    parser.add_argument("output", metavar="OUTPUT", help="folder that `rtdscan scan` wrote")


def run(args: argparse.Namespace) -> int:
    """Judge, show the table, tell whom `notify` names."""
    from rich.console import Console

    from rtdscan.pipeline.judging import judge_run, print_judgement, warn
    from rtdscan.pipeline.notify import message, notify
    from rtdscan.pipeline.output import finished_run, read_run
    from rtdscan.pipeline.printing import after_work, print_json
    from rtdscan.transforms.errors import UserError

    record = read_run(args.output)
    finished = finished_run(record)
    config = gate_config(record, files=args.config, sets=args.set)
    judgement = judge_run(finished, config, output=args.output)
    if not judgement.verdicts:
        raise UserError(f"there are no gates to put {args.output} to; give some by --config (see configs/nightly.yaml)")
    if not judgement.passed:  # before anything is printed, as a scan does
        told = message(
            "gate", output=args.output, model=finished.model, tally=finished.tally, verdicts=judgement.verdicts
        )
        notify(config.notify, told)
    with after_work():
        if args.json:
            print_json({"output": args.output, **judgement.to_json()})
        else:
            print_judgement(judgement, Console())
    warn(judgement)
    return 0 if judgement.passed else 3


def gate_config(record: dict[str, Any], *, files: Sequence[Any], sets: Sequence[str]) -> ScanConfig:
    """The gates of a scan, or those of config files instead where these speak of gates, changed by `--set`."""
    named = "gates" in load_config(ScanConfig, files=files).model_fields_set
    recorded = {} if named else {"gates": record["config"].get("gates", {})}
    return load_config(ScanConfig, files=files, sets=sets, base=recorded)
