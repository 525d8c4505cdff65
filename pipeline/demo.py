"""`rtdscan demo`: scan the corpus that ships inside and show the worst spans."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rtdscan.pipeline.config import ScanConfig, load_config

HELP = "Scan the sample corpus that ships inside (English prose, some of it with planted errors) and show the result."
CONFIG = ScanConfig
SPANS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[OUTPUT]."""
    parser.add_argument(
        "output", nargs="?", default="demo-output", metavar="OUTPUT", help="where to write; default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    """Scan, show the summary, the worst spans and how to look at the output."""
    from rich.console import Console
    from rich.text import Text

    import rtdscan.transforms
    from rtdscan.pipeline.contexts import worst_spans
    from rtdscan.pipeline.planning import make_plan
    from rtdscan.pipeline.scanning import scan
    from rtdscan.pipeline.summary import print_summary

    corpus = str(Path(rtdscan.transforms.__file__).parent / "data" / "demo")
    config = load_config(ScanConfig, files=args.config, sets=["input.id=id", "input.text=text", *args.set])
    summary = scan([corpus], args.output, config=config)
    units = make_plan([corpus], text="text", text_mb=config.unit.text_mb).units
    spans = worst_spans(args.output, units, text="text", n=SPANS)
    if args.json:
        print(json.dumps({**summary.to_json(), "spans": [asdict(span) for span in spans]}, ensure_ascii=False))
        return 0
    console = Console()
    print_summary(summary, console)
    console.print("worst spans:")
    for span in spans:
        line = Text(f"  {span.score:.2f}  …{_one_line(span.before)}")
        line.append(f"[{_one_line(span.words)}]", style="bold red")
        line.append(f"{_one_line(span.after)}…  ({span.file} row {span.row})")
        console.print(line, soft_wrap=True)
    console.print(
        f"\nlook at it:  python -c \"import pyarrow.parquet as pq; print(pq.read_table('{args.output}/attributes')"
        ".to_pandas())\"\nscan your own:  rtdscan scan FOLDER-OF-PARQUET OUTPUT",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _one_line(text: str) -> str:
    """Text for a terminal: no line breaks, no control characters."""
    return "".join(c if c.isprintable() else "␣" if c.isspace() else "�" for c in text)
