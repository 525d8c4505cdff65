"""`rtdscan scan INPUT... OUTPUT`: the main job."""

import argparse
import json
import signal
import sys

from rtdscan.pipeline.config import ScanConfig, load_config

HELP = "Read a corpus from Parquet, find the words that do not belong, write what was found to Parquet, row for row."
CONFIG = ScanConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """INPUT... OUTPUT."""
    parser.add_argument("input", nargs="+", metavar="INPUT", help="Parquet file, directory or glob; several of them")
    parser.add_argument("output", metavar="OUTPUT", help="directory for attributes, manifest.parquet and run.json")


def run(args: argparse.Namespace) -> int:
    """Scan, show the summary."""
    from rich.console import Console

    from rtdscan.pipeline.scanning import scan
    from rtdscan.pipeline.summary import print_summary

    config = load_config(ScanConfig, files=args.config, sets=args.set)
    signal.signal(signal.SIGTERM, _interrupt)
    summary = scan(args.input, args.output, config=config, beam_args=args.beam_args)
    if args.json:
        print(json.dumps(summary.to_json(), ensure_ascii=False))
    else:
        print_summary(summary, Console())
    return 0 if summary.finished else 1


def _interrupt(*_: object) -> None:
    """SIGTERM ends a scan as Ctrl-C does: children are stopped, nothing is half written."""
    print("rtdscan: asked to stop", file=sys.stderr)
    raise KeyboardInterrupt
