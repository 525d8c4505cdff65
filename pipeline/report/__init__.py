"""`rtdscan report OUTPUT`: one self-contained HTML page about a scan. Read in this order, after `pipeline/finished`:

rows       one pass over attribute rows: groups, score distribution, sample of documents
words      the worst documents, and the words flagged most often
counts     files, units and time, from the manifest alone
collect    all of it, as one value
plots      figures as SVG that takes its colours from the page
page       the HTML (templates/report.html.j2)
writing    when a report is written, and where to
"""

import argparse

from rtdscan.pipeline.config import ScanConfig, load_config

HELP = (
    "Write one self-contained HTML page about a finished scan: scores, worst documents, words flagged most often,"
    " files, time.\nOptions are those of the scan; --config and --set change them."
)
CONFIG = ScanConfig
ACTING = ("report",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """OUTPUT and where to write."""
    parser.add_argument("output", metavar="OUTPUT", help="folder of a finished scan")
    parser.add_argument("--to", metavar="FILE", help="where to write; default: OUTPUT/report.html")


def run(args: argparse.Namespace) -> int:
    """Write it, say where."""
    from rtdscan.pipeline.finished.folder import read_finished
    from rtdscan.pipeline.printing import after_work, print_json
    from rtdscan.pipeline.report.writing import check_finished, report_path, write_report

    finished = read_finished(args.output)
    recorded = {"report": finished.run["config"].get("report", {})}  # a file that leaves `report.text` open keeps it
    config = load_config(ScanConfig, files=args.config, sets=args.set, base=recorded)
    check_finished(finished, config.report.by)
    path = args.to or report_path(args.output)
    written = write_report(args.output, config.report, path=path)
    with after_work():
        if args.json:
            print_json(written)
        else:
            print(f"report: {path}")
    return 0
