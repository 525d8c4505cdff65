"""Arguments that evaluate and calibrate share."""

import argparse


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """LABELLED, --model, --corrupt, --seed."""
    parser.add_argument(
        "labelled",
        metavar="LABELLED",
        nargs="+",
        help="Parquet files, folders or globs with text and spans; with --corrupt any clean corpus",
    )
    parser.add_argument("--model", default="default", metavar="M", help="bundle or model; default: the one that ships")
    parser.add_argument(
        "--corrupt",
        nargs="?",
        const="default",
        metavar="MIXTURE.yaml",
        help="make errors in LABELLED, as a file of kinds and rates says, or `default`",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of the errors and of the draws; default: 0")


def seed(text: str) -> int:
    """An integer, 0 or more: numpy's generators take no other."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number, 0 or more")
    return int(text)


def share(text: str) -> float:
    """A number between 0 and 1, both excluded."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
