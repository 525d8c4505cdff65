"""The steps that evaluate and calibrate share: load the model, read the texts, run the network once."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rtdscan.pipeline.config import load_config
from rtdscan.pipeline.detection.evidence import Evidence, gather
from rtdscan.pipeline.detection.labels import Labelled, corrupt_corpus, read_labelled, some_of
from rtdscan.pipeline.detection.settings import MeasuringConfig
from rtdscan.pipeline.detection.truth import Truth, label_words
from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.cgroups import usable_cores
from rtdscan.transforms.corruption.generator import Sample
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import GENERATOR, MixtureSettings, ScoreSettings

EASIER = (
    "these errors were made by a program, and real ones are harder to find: expect lower figures and a lower precision "
    "on real text, and use labelled text where there is any"
)

JUDGED = (
    "some labels are verdicts on words that were flagged: figures hold for such words only, and recall does not count "
    "errors that were missed"
)

LOG_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Labelled texts with all evidence about their words."""

    scorer: Scorer
    labelled: Labelled
    evidence: Evidence
    truth: Truth

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to know of the texts."""
        doubt = self.evidence.doubt
        return (*([doubt] if doubt else []), *self.labelled.notes)


def measure_model(args: argparse.Namespace, config: MeasuringConfig) -> Measured:
    """Read what the arguments name and run the network on it.

    Args:
        args: `labelled`, `model`, `corrupt`, `seed`.
        config: Everything else.

    Raises:
        UserError: Something that was named is not there or can't serve, or no word is wrong.
    """
    labelled = read_or_corrupt(args, config)
    settings = ScoreSettings(
        engine=config.engine,
        precision=config.precision,
        window=config.window,
        batch_tokens=config.batch_tokens,
        threads=config.threads or usable_cores(),
    )
    scorer = Scorer.load(args.model, settings=settings)
    progress = _telling(len(labelled.texts))
    evidence = gather(scorer, labelled.texts, lexicon=scorer.lexicon, on_progress=progress)
    truth = label_words(labelled, evidence)
    wrong = int((truth.wrong_W & truth.counted_W).sum())
    if not wrong or wrong == int(truth.counted_W.sum()):
        raise UserError(
            f"{', '.join(args.labelled)}: {wrong:,} of {int(truth.counted_W.sum()):,} words are labelled wrong; "
            "expected some and not all (to measure on a clean corpus add --corrupt)"
        )
    return Measured(scorer, labelled, evidence, truth)


def read_or_corrupt(args: argparse.Namespace, config: MeasuringConfig) -> Labelled:
    """LABELLED as it is, or with --corrupt a clean corpus with errors made in it."""
    if args.corrupt is None:
        labelled = read_labelled(args.labelled, text=config.input.text)
        documents = config.input.documents
        return labelled if documents is None else some_of(labelled, documents, seed=args.seed)
    mixture = MixtureSettings()
    if args.corrupt != "default":
        if args.corrupt.endswith(".parquet"):
            raise UserError(f"--corrupt {args.corrupt}: takes a MIXTURE.yaml or `default`; name the corpus before it")
        mixture = load_config(MixtureSettings, files=[Path(args.corrupt)])
    sample: Sample | None = None
    if mixture.kinds.get(GENERATOR):
        from rtdscan.pipeline.training.refill import Refill

        sample = Refill.of(load_bundle(args.model))
    return corrupt_corpus(
        args.labelled,
        mixture,
        seed=args.seed,
        text=config.input.text,
        documents=config.input.documents,
        sample=sample,
    )


def _telling(documents: int) -> Callable[[int], None]:
    last = time.monotonic()

    def tell(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_SECONDS:
            last = time.monotonic()
            print(f"rtdscan: {done:,}/{documents:,} documents", file=sys.stderr, flush=True)

    return tell
