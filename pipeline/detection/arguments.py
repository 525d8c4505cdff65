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
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the errors and of the draws; default: 0")
