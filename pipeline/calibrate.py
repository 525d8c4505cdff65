"""`rtdscan calibrate LABELLED`: probabilities and thresholds that mean what they say, written into a bundle."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from rtdscan.pipeline.config import load_config
from rtdscan.pipeline.detection.arguments import add_data_arguments, share
from rtdscan.pipeline.detection.settings import CalibrateConfig

if TYPE_CHECKING:
    from rich.console import Console

    from rtdscan.pipeline.detection.calibration import Calibrated

HELP = (
    "Fit a model's readout, probabilities and thresholds to labelled text, and write them into a bundle.\n\n"
    "LABELLED as for `rtdscan evaluate`; any clean corpus serves with --corrupt, but made-up errors are easier to\n"
    "find than real ones: a few labelled texts of your own are worth more. Words are flagged where flags are right as\n"
    "often as --precision says. Precision and probabilities depend on how frequent errors are: --expected-rate says\n"
    "what to expect in the corpus to be scanned."
)
CONFIG = CalibrateConfig
SYNTHETIC_RATE = 0.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """LABELLED, how to read it, and where to write."""
    add_data_arguments(parser)
    parser.add_argument("--output", metavar="DIRECTORY", help="bundle to make")
    parser.add_argument("--in-place", action="store_true", help="change the model where it is")
    parser.add_argument(
        "--precision", type=share, default=0.8, metavar="P", help="precision that flags are to have; default: 0.8"
    )
    parser.add_argument(
        "--expected-rate",
        type=share,
        metavar="R",
        help=f"share of wrong words to expect in a scan; default: as in LABELLED, with --corrupt {SYNTHETIC_RATE}",
    )
    parser.add_argument("--keep-readout", action="store_true", help="fit probabilities and thresholds only")
    parser.add_argument("--plot", metavar="FILE.png", help="draw reliability before and after")


def run(args: argparse.Namespace) -> int:
    """Fit, show, write."""
    config = load_config(CalibrateConfig, files=args.config, sets=args.set)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from rich.console import Console

    from rtdscan.pipeline.detection.bundles import check_output, write_bundle
    from rtdscan.pipeline.detection.calibration import calibrate, section
    from rtdscan.pipeline.detection.measuring import EASIER, measure_model
    from rtdscan.pipeline.detection.plots import check_plot, plot_reliability
    from rtdscan.pipeline.printing import after_work, print_json
    from rtdscan.transforms.bundle import load_bundle

    check_plot(args.plot)
    path = check_output(load_bundle(args.model), args.output, in_place=args.in_place)
    measured = measure_model(args, config)
    synthetic = measured.labelled.synthetic
    expected = args.expected_rate or (SYNTHETIC_RATE if synthetic else None)
    found = calibrate(
        measured, config=config, precision=args.precision, expected=expected, seed=args.seed, keep=args.keep_readout
    )
    heading = ("Calibration", section(found, synthetic=synthetic))
    bundle = write_bundle(measured.scorer.bundle, path, card=found.card, files={}, section=heading)
    if args.plot:
        tables = {"before": found.before, "after": found.after}
        plot_reliability(args.plot, tables, title=f"{bundle.name}, {found.rate:.2%} errors expected")
    notes = [*bundle.warnings, *measured.notes, *found.notes, *([EASIER] if synthetic else [])]
    with after_work():
        if args.json:
            print_json({"output": str(path), "digest": bundle.digest, "bundle": found.card, "notes": notes})
            return 0
        console = Console() if sys.stdout.isatty() else Console(width=140)
        _show(found, console)
        for note in notes:
            console.print(f"note: {note}", highlight=False, markup=False)
        console.print(f"{path}: written", highlight=False, markup=False)
    return 0


def _show(found: "Calibrated", console: "Console") -> None:
    from rich.table import Table

    from rtdscan.pipeline.detection.calibration import HELD_OUT
    from rtdscan.pipeline.detection.metrics import told
    from rtdscan.pipeline.detection.reliability import CANDIDATE

    fit = found.fit
    figures = Table("readout", "AUROC", "average precision", "best F0.5", title="cross-validated", title_justify="left")
    for name, values in (("as it was", fit.before), ("fitted anew", fit.after)):
        shown = ("–",) * 3 if values is None else (values.auroc, values.average_precision, values.f05)
        figures.add_row(name, *(v if isinstance(v, str) else f"{v:.4f}" for v in shown))
    console.print(figures)
    console.print("the readout is " + ("kept as it was" if fit.kept else "the one fitted anew"))
    if not fit.kept:
        console.print(", ".join(f"{name} {weight:+.3g}" for name, weight in fit.coefficients.items()))
    errors = Table(
        "probabilities", "all words", f"candidates: {CANDIDATE:g} or more",
        title=f"expected calibration error at {found.rate:.2%} errors", title_justify="left",
    )  # fmt: skip
    for name, reliability in (("before", found.before), ("after", found.after)):
        errors.add_row(name, f"{reliability.error:.4f}", reliability.candidates.told())
    console.print(errors)
    names = ("wanted precision", "threshold", "precision (95 %)", "held out", "recall", "words flagged")
    thresholds = Table(*names, title="thresholds", title_justify="left", caption=HELD_OUT, caption_justify="left")
    for row in found.thresholds:
        if row.threshold is None:
            thresholds.add_row(f"{row.wanted:g}", "not reached")
            continue
        precision = told(row.precision, row.interval)
        held_out = "–" if row.held_out is None else f"{row.held_out:.3f}"
        thresholds.add_row(
            f"{row.wanted:g}", f"{row.threshold:g}", precision, held_out, f"{row.recall:.3f}", f"{row.flagged:.3%}"
        )
    console.print(thresholds)
    chosen = found.card["thresholds"]
    console.print(", ".join(f"thresholds.{name} {value:g}" for name, value in chosen.items()))
