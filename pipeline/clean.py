"""`rtdscan clean OUTPUT CLEANED`: keep and reject rows of a scanned corpus, without running the network again."""

import argparse
import signal
from typing import Annotated, Literal

from pydantic import Field

from rtdscan.pipeline.config import load_config
from rtdscan.transforms.cleaning.settings import CleanSettings

HELP = (
    "Split a scanned corpus into CLEANED/kept and CLEANED/rejected: columns and types as in the input, rows in order.\n"
    "By decision, or by an expression on attribute columns: --keep \"score < 0.05 and status == 'ok'\"\n"
    "(comparisons, in, is None, and, or, not, + - * /; a comparison with null does not keep a row)."
)


class CleanConfig(CleanSettings):
    """All options of `rtdscan clean`."""

    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="worker processes; auto: as many as cores and memory allow"
    )


CONFIG = CleanConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """OUTPUT CLEANED [--keep EXPRESSION]."""
    parser.add_argument("output", metavar="OUTPUT", help="folder that `rtdscan scan` wrote")
    parser.add_argument("cleaned", metavar="CLEANED", help="folder for kept/, rejected/, changes/ and clean.json")
    parser.add_argument("--moved", action="store_true", help="OUTPUT has moved or is spelled otherwise: same CLEANED")
    parser.add_argument("--keep", metavar="EXPRESSION", help="which rows are kept; short for the option `keep`")


def run(args: argparse.Namespace) -> int:
    """Clean, show the summary on stderr."""
    from rich.console import Console

    from rtdscan.pipeline.cleaning.run import clean
    from rtdscan.pipeline.cleaning.summary import print_clean_summary
    from rtdscan.pipeline.printing import after_work, print_json

    extra = {} if args.keep is None else {"keep": args.keep}
    config = load_config(CleanConfig, files=args.config, sets=args.set, extra=extra)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: children end, nothing is half written
    settings = CleanSettings.model_validate(config.model_dump(exclude={"workers"}))
    workers = None if config.workers == "auto" else config.workers
    summary = clean(args.output, args.cleaned, settings=settings, workers=workers, moved=args.moved)
    with after_work():
        if args.json:
            print_json(summary.to_json())
        else:
            print_clean_summary(summary, Console(stderr=True))
    return 0 if summary.finished else 1
