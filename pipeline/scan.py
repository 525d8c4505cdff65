"""`rtdscan scan INPUT... OUTPUT`: the main job."""

import argparse
import signal
import sys

from rtdscan.pipeline.config import ScanConfig, load_config
from rtdscan.pipeline.launchers import Submitted
from rtdscan.transforms.errors import RtdscanError

HELP = "Read a corpus from Parquet, find the words that do not belong, write what was found to Parquet, row for row."
CONFIG = ScanConfig

MOVED = "INPUT has moved or is spelled otherwise: what OUTPUT has of files by the same paths below INPUT stays"

STOPPED_SECONDS = 3.0
"""What the webhook, and then the program, get of a scan that was asked to stop; Kubernetes kills after 30 s, others
sooner."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """INPUT... OUTPUT."""
    parser.add_argument("input", nargs="+", metavar="INPUT", help="Parquet file, directory or glob; several of them")
    parser.add_argument("output", metavar="OUTPUT", help="directory for attributes, manifest.parquet and run.json")
    parser.add_argument("--moved", action="store_true", help=MOVED)


def run(args: argparse.Namespace) -> int:
    """Scan, show the summary."""
    config = load_config(ScanConfig, files=args.config, sets=args.set)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: children end, nothing is half written
    try:  # with the imports, which take seconds
        from rich.console import Console

        from rtdscan.pipeline.notify import message, notify
        from rtdscan.pipeline.printing import after_work, print_json
        from rtdscan.pipeline.report.writing import print_report
        from rtdscan.pipeline.scanning import scan
        from rtdscan.pipeline.summary import print_summary

        summary = scan(args.input, args.output, config=config, beam_args=args.beam_args, moved=args.moved)
    except Submitted as job:
        return _submitted(str(job), as_json=args.json)
    except BaseException as error:
        _tell(error, config, output=args.output)
        raise
    if summary.exit_status:  # before anything is printed: a full disk or a closed pipe must keep nobody from being told
        told = message(
            "gate" if summary.finished else "unfinished",
            output=summary.output,
            model=summary.model,
            tally=summary.tally,
            verdicts=summary.judgement.verdicts,
            bad=len(summary.bad),
        )
        notify(config.notify, told)
    with after_work():
        if args.json:
            print_json(summary.to_json())
        else:
            print_summary(summary, Console())
            if summary.finished and config.report.enabled:
                print_report(args.output)
    return summary.exit_status


def _tell(error: BaseException, config: ScanConfig, *, output: str) -> None:
    """Send `failed` for every end but a job that was handed over (0), a gate that said no (3), a busy OUTPUT (4)."""
    from rtdscan.pipeline.notify import message, notify

    if isinstance(error, RtdscanError) and error.exit_status in (0, 3, 4):
        return
    settings = config.notify
    if not isinstance(error, Exception):  # Ctrl-C, SIGTERM: who asks for an end kills soon after
        settings = settings.model_copy(update={"timeout": min(settings.timeout, STOPPED_SECONDS)})
    notify(settings, message("failed", output=output))


def _submitted(job: str, *, as_json: bool) -> int:
    from rtdscan.pipeline.printing import after_work, print_json

    with after_work():
        if as_json:
            print_json({"submitted": job})
    print(f"rtdscan: {job} is submitted; once it has ended, run the same command again to finish", file=sys.stderr)
    return 0
