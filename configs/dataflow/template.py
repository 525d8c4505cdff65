"""The Flex Template's program: turns its parameters into a scan that is submitted and not waited for.

Dataflow's launcher starts it in the image with `--input=… --output=… --project=… --temp_location=…`. What it does not
know goes to Beam. Once the job has ended, the same scan (`rtdscan scan INPUT OUTPUT --config configs/dataflow.yaml`)
finds nothing to score and writes manifest.parquet and run.json.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rtdscan.pipeline.__main__ import main

CONFIG = Path(__file__).with_name("dataflow.yaml")


def scan_arguments(argv: Sequence[str]) -> list[str]:
    """The arguments of `rtdscan` for those of the template."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--set", default="")
    parser.add_argument("--config", default=str(CONFIG))
    parser.add_argument("--runner")  # the launcher says DataflowRunner; so does the config
    own, beam = parser.parse_known_args(argv)
    sets = [*(part for part in own.set.split(";") if part), "wait=false"]
    options = [word for one in sets for word in ("--set", one)]
    return ["scan", *own.input.split(","), own.output, "--config", own.config, *options, "--", *beam]


if __name__ == "__main__":
    sys.exit(main(scan_arguments(sys.argv[1:])))
