"""`rtdscan accept OUTPUT`: this run is the baseline that later runs are compared with."""

import argparse
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from rtdscan.pipeline.config import ScanConfig

if TYPE_CHECKING:
    from rtdscan.pipeline.judging import Judgement

HELP = (
    "Make this run the one that later runs are compared with (drift). It is kept in OUTPUT/baseline.json.\n"
    "A run that is unfinished or failed its gates is refused; the gates can be changed as for `rtdscan gate`."
)
CONFIG = ScanConfig
ACTING = ("gates",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """OUTPUT, --force."""
    parser.add_argument("output", metavar="OUTPUT", help="folder that `rtdscan scan` wrote")
    parser.add_argument("--force", action="store_true", help="accept a run in which files were bad, or gates failed")


def run(args: argparse.Namespace) -> int:
    """Judge once more, then write baseline.json."""
    from rtdscan.pipeline.gate import gate_config
    from rtdscan.pipeline.judging import judge_run
    from rtdscan.pipeline.output import BASELINE, RUN, finished_run, is_output, read_run, summed_shards, write_baseline
    from rtdscan.pipeline.printing import after_work, print_json
    from rtdscan.transforms import storage
    from rtdscan.transforms.drift import Baseline
    from rtdscan.transforms.errors import UserError

    output, now = args.output, datetime.now(timezone.utc).isoformat(timespec="seconds")
    if not is_output(output):
        raise UserError(f"{output} is not an rtdscan output; expected a folder that `rtdscan scan` wrote")
    with storage.lock(output):
        if args.force and not storage.exists(storage.join(output, RUN)):
            tally, scoring = summed_shards(output)
            baseline = Baseline(now, None, None, None, scoring, tally)
        else:
            record = read_run(output)
            run = finished_run(record)
            if not args.force:
                config = gate_config(record, files=args.config, sets=args.set)
                if _refused(judge_run(run, config, output=output), output):
                    return 3
            baseline = Baseline(now, record["finished_at"], run.model, run.model_digest, run.scoring, run.tally)
        write_baseline(output, baseline)
    told = {"baseline": storage.join(output, BASELINE), "accepted_at": now, "finished_at": baseline.finished_at}
    counts = {"rows": baseline.tally.rows, "documents": baseline.tally.documents}
    with after_work():
        if args.json:
            print_json({**told, "model": baseline.model, "model_digest": baseline.model_digest, **counts})
        else:
            of = f"the run of {baseline.finished_at}" if baseline.finished_at else "the unfinished run"
            print(f"accepted: {of}, {counts['rows']:,} rows, {counts['documents']:,} with a score: {told['baseline']}")
    return 0


def _refused(judgement: "Judgement", output: str) -> bool:
    """Whether a gate says no; says so."""
    failed = dict.fromkeys(verdict.gate for verdict in judgement.verdicts if verdict.verdict == "failed")
    if failed:
        why = f"{output} failed its gates ({', '.join(failed)}), see `rtdscan gate`; --force accepts it all the same"
        print(f"rtdscan: not accepted: {why}", file=sys.stderr)
    return bool(failed)
