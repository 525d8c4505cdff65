"""`rtdscan demo`: scan the corpus that ships inside and show the worst spans."""

import argparse
from pathlib import Path

from rtdscan.pipeline.config import ScanConfig, load_config

HELP = "Scan the sample corpus that ships inside (English prose, some of it with planted errors) and show the result."
CONFIG = ScanConfig
OUTPUT = "demo-output"

OWN = {
    "input": {"id": "id", "text": "text"},
    "log": {"text": True},
    "unit": {"text_mb": 0.1},
    "output": {"columns": ["source"]},
    "report": {"by": ["source"]},
    "suggest": {"in_context": True},
}
"""Options that differ from a scan's defaults; files and --set win over them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[OUTPUT]."""
    parser.add_argument(
        "output", nargs="?", default=OUTPUT, metavar="OUTPUT", help=f"where to write; default: {OUTPUT}"
    )


def run(args: argparse.Namespace) -> int:
    """Scan, show the summary with the worst spans, and how to look at the output."""
    from rich.console import Console

    import rtdscan.transforms
    from rtdscan.pipeline.printing import after_work, print_json
    from rtdscan.pipeline.report.writing import print_report
    from rtdscan.pipeline.scanning import scan
    from rtdscan.pipeline.summary import print_summary

    corpus = str(Path(rtdscan.transforms.__file__).parent / "data" / "demo")
    config = load_config(ScanConfig, files=args.config, sets=args.set, base=OWN)
    summary = scan([corpus], args.output, config=config, beam_args=args.beam_args)
    with after_work():
        if args.json:
            print_json(summary.to_json())
            return summary.exit_status
        console = Console()
        print_summary(summary, console)
        print_report(args.output)
        look = f"import pyarrow.parquet as pq; print(pq.read_table('{args.output}/attributes').to_pylist()[0])"
        console.print(f'look at it:  python -c "{look}"', markup=False, highlight=False, soft_wrap=True)
        yours = "scan yours:  rtdscan scan FOLDER-OF-PARQUET OUTPUT"
        console.print(yours, markup=False, highlight=False, soft_wrap=True)
    return summary.exit_status
