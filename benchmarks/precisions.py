"""How well a model finds known errors in each precision, beside float32: one table from `rtdscan evaluate`.

    python -m benchmarks.precisions LABELLED.parquet … [--model DIRECTORY]
    python -m benchmarks.precisions CLEAN.parquet --corrupt --documents 400
    python -m benchmarks.precisions LABELLED.parquet --model DIRECTORY --write

--write puts int8 ranges into DIRECTORY (int8.safetensors) and into its bundle.json whether int8 serves, so that nobody
has to find that out again, and every machine has the same ranges.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import python, run, table
from rtdscan.transforms.bundle import DEFAULT, RANGES_FILE, load_bundle
from rtdscan.transforms.engines import has_bfloat16, has_int8
from rtdscan.transforms.ranges import RANGE_BYTES, measure_ranges, packaged_texts

LOSS = 0.002
"""Of AUROC and of average precision, at most, for int8 to serve."""

MEASURES = ("auroc", "average_precision")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", nargs="+", help="Parquet with `text` and `spans`; any clean corpus with --corrupt")
    parser.add_argument("--corrupt", action="store_true", help="make errors in it first, seed 1")
    parser.add_argument("--documents", type=int, help="documents that are read at most")
    parser.add_argument("--model", default="default")
    parser.add_argument("--write", action="store_true", help="write ranges and the verdict into the model's directory")
    args = parser.parse_args()
    there = {"float32": True, "bfloat16": has_bfloat16(), "int8": has_int8()}
    found = {precision: evaluate(args, precision) for precision in there if there[precision]}
    print(report(found))
    serves = "int8" in found and all(found["float32"][m] - found["int8"][m] <= LOSS for m in MEASURES)
    print(f"int8 {'serves' if serves else 'does not serve'}: {' and '.join(MEASURES)} lower by {LOSS} at most")
    if args.write:
        write(args.model, serves=serves)


def evaluate(args: argparse.Namespace, precision: str) -> dict[str, float]:
    """AUROC and average precision of words."""
    sets = {"engine": "openvino", "precision": precision, "threads": 1, "draws": 0}
    if args.documents:
        sets["input.documents"] = args.documents
    command = python("rtdscan.pipeline", "evaluate", *args.labelled, "--model", args.model, "--json")
    command += [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    usage = run([*command, *(["--corrupt", "--seed", "1"] if args.corrupt else [])])
    measured = json.loads(usage.stdout)["words"]["model"]["all"]
    return {name: float(measured[name]) for name in (*MEASURES, "words")}


def report(found: dict[str, dict[str, float]]) -> str:
    """The table, differences from float32 beside the values."""
    rows: list[Sequence[object]] = [("precision", "AUROC", "", "average precision", "", "words")]
    exact = found["float32"]
    for precision, measured in found.items():
        away = [f"{measured[m] - exact[m]:+.5f}" if precision != "float32" else "" for m in MEASURES]
        values = [f"{measured[m]:.4f}" for m in MEASURES]
        rows.append((precision, values[0], away[0], values[1], away[1], f"{measured['words']:,.0f}"))
    return table(rows)


def write(model: str, *, serves: bool) -> None:
    """Add ranges and the verdict to a bundle."""
    directory = DEFAULT if model == "default" else Path(model)
    card = directory / "bundle.json"
    (directory / RANGES_FILE).unlink(missing_ok=True)
    ranges = measure_ranges(load_bundle(str(directory)), packaged_texts(0, RANGE_BYTES))
    (directory / RANGES_FILE).write_bytes(ranges.data)
    card.write_text(json.dumps(json.loads(card.read_text()) | {"int8": serves}, indent=2, ensure_ascii=False) + "\n")
    print(f"written: {directory / RANGES_FILE} ({ranges.digest}), int8: {serves} in {card}")


if __name__ == "__main__":
    main()
