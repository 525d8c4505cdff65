"""How long it takes to find that there is nothing to do: `--help`, and a scan whose shards are all current.

    python -m benchmarks.idle [--shards 1000] [--repeats 5]

The corpus is that many files of one short text each, scanned once with a tiny random network before the clock runs.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.corpora import write_rows
from benchmarks.measure import machine, python, run, table
from benchmarks.models import make_model

HELP_SECONDS = 0.5
SCAN_SECONDS = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus, output = Path(folder) / "corpus", Path(folder) / "output"
        for number in range(args.shards):
            write_rows(corpus / f"{number:05d}.parquet", [f"Document {number} has one sentence."])
        model = make_model("tiny", Path(folder) / "model")
        scan = python("rtdscan.pipeline", "scan", corpus, output, "--set", f"model={model}", "--set", "input.text=text")
        run(scan)
        commands = {
            "python, which does nothing": ([sys.executable, "-c", ""], ""),
            "rtdscan --help": (python("rtdscan.pipeline", "--help"), f"{HELP_SECONDS:g}"),
            f"rtdscan scan, {args.shards:,} shards, all current": (scan, f"{SCAN_SECONDS:g}"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.repeats):  # interleaved: what else the machine does meets all of them
            for name, (command, _) in commands.items():
                seconds[name].append(run(command).seconds)
    print(f"machine: {machine()}")
    rows: list[tuple[object, ...]] = [("median of seconds", "s", "least", "bound")]
    rows += [(name, f"{median(s):.2f}", f"{min(s):.2f}", commands[name][1]) for name, s in seconds.items()]
    print(table(rows))


if __name__ == "__main__":
    main()
