"""`rtdscan evaluate LABELLED`: how well a model finds known errors, beside two simple detectors."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rtdscan.pipeline.config import load_config
from rtdscan.pipeline.detection.arguments import add_data_arguments
from rtdscan.pipeline.detection.settings import EvaluateConfig

if TYPE_CHECKING:
    from rtdscan.pipeline.detection.tables import Report

HELP = (
    "Measure how well a model finds known errors, by words, beside a spelling checker and the rarity of words.\n\n"
    "LABELLED has a text column and `spans`, a list<struct<start, end>> of character offsets of what is wrong, maybe\n"
    "with `kind`; words that overlap `ignore_spans` are not counted. Any clean corpus serves with --corrupt: errors\n"
    "are made in it first."
)
CONFIG = EvaluateConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """LABELLED and how to read it."""
    parser.add_argument("--plot", metavar="FILE.png", help="draw precision-recall curves")
    add_data_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, show, draw."""
    config = load_config(EvaluateConfig, files=args.config, sets=args.set)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from rtdscan.pipeline.detection.baselines import baseline_scores
    from rtdscan.pipeline.detection.measuring import EASIER, JUDGED, measure_model
    from rtdscan.pipeline.detection.metrics import FEW_DOCUMENTS
    from rtdscan.pipeline.detection.plots import check_plot, plot_precision_recall
    from rtdscan.pipeline.detection.tables import MODEL, NO_WORDS, make_report, word_rows
    from rtdscan.pipeline.detection.truth import ALL
    from rtdscan.pipeline.printing import after_work, print_json

    check_plot(args.plot)
    measured = measure_model(args, config)
    bundle, evidence, truth = measured.scorer.bundle, measured.evidence, measured.truth
    p_W = evidence.probability(bundle.card)
    baselines = baseline_scores(evidence, measured.labelled.texts, dictionary=config.dictionary)
    report = make_report(
        measured.labelled,
        evidence,
        truth,
        p_W=p_W,
        baselines=baselines.scores,
        flag=bundle.card.thresholds.flag,
        draws=config.draws,
        seed=args.seed,
    )
    if args.plot:
        right_W, rows = word_rows(truth)
        detectors = {MODEL: p_W, **baselines.scores}
        plot_precision_recall(args.plot, detectors=detectors, right_W=right_W, rows=rows, title=bundle.name)
    notes = [*bundle.warnings, *measured.notes, *baselines.notes]
    notes += [EASIER] if measured.labelled.synthetic else []
    notes += [] if ALL in report.words[MODEL] else [NO_WORDS]
    notes += [FEW_DOCUMENTS] if report.few_documents else []
    notes += [JUDGED] if measured.labelled.judged else []
    with after_work(kept=False):
        if args.json:
            settings = measured.scorer.settings
            model = {"model": bundle.name, "digest": bundle.digest}
            model |= {"engine": settings.engine, "precision": settings.precision}
            print_json({**model, "data": measured.labelled.source, "notes": notes, **report.to_json()})
        else:
            _show(report, notes, plot=args.plot)
    return 0


def _show(report: "Report", notes: Sequence[str], *, plot: str | None) -> None:
    from rich.console import Console

    from rtdscan.pipeline.detection.tables import MODEL, documents_table, flags_line, kinds_table, overall_table
    from rtdscan.pipeline.detection.truth import ALL

    console = Console() if sys.stdout.isatty() else Console(width=160)
    if ALL in report.words[MODEL]:
        console.print(overall_table(report))
    if len(report.words[MODEL]) > 2:
        console.print(kinds_table(report))
    if report.documents:
        console.print(documents_table(report))
    if ALL in report.words[MODEL]:
        console.print(flags_line(report.flags), highlight=False)
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    if plot:
        console.print(f"curves: {plot}", highlight=False, markup=False)
