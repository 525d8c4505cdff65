"""How often suggestions hold the right word: `python -m benchmarks.suggestions LABELLED [--fit OTHER]`.

LABELLED is Parquet with `text` and `spans` of start, end and `correct`; spans without `correct` are left out. Every
span counts, whether a scan would flag it or not. `--fit` prints the coefficients of the ranking that OTHER, labelled
too, gives: those in transforms/suggest.py came from it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.softmax import softmax
from rtdscan.transforms.candidates import FILLED, IN_CONTEXT
from rtdscan.transforms.gaps import GapReader
from rtdscan.transforms.near import FEATURES, Near, folded
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import ScoreSettings, SuggestSettings
from rtdscan.transforms.suggest import Suggester, Suggestion

ALL = SuggestSettings(top_k=5, in_context=True, least=0.0)
"""Five for every span, however improbable."""


@dataclass(frozen=True, slots=True)
class Slip:
    """A word that went wrong: its text, where it stands, and what was meant."""

    text: str
    start: int
    end: int
    correct: str


def read_slips(path: str) -> list[Slip]:
    """The labelled spans that tell what was meant."""
    rows = pq.read_table(path, columns=["text", "spans"]).to_pylist()
    spans = ((row["text"], span) for row in rows for span in row["spans"] or ())
    return [Slip(text, s["start"], s["end"], s["correct"]) for text, s in spans if s.get("correct")]


def main() -> None:
    """Measure, and fit where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labelled")
    parser.add_argument("--fit", metavar="OTHER")
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    scorer = Scorer.load(args.model, settings=ScoreSettings(suggest=ALL))
    ways = {
        "letters and frequency": _suggester(scorer, in_context=False, gaps=None),
        "and the discriminator, in context": _suggester(scorer, in_context=True, gaps=None),
    }
    if scorer.gaps:
        ways["and the generator, in context"] = _suggester(scorer, in_context=True, gaps=scorer.gaps)
    if args.fit:
        slips = read_slips(args.fit)
        _fit_letters(slips, ways["letters and frequency"])
        for suggester in list(ways.values())[1:]:
            _fit_context(slips, suggester)
    slips = read_slips(args.labelled)
    table = Table(title=f"{args.labelled}: {len(slips)} errors, {scorer.bundle.name}")
    for name in ("ranked by", "top 1", "top 3", "top 5", "none made", "said of the top 1"):
        table.add_column(name, justify="left" if name == "ranked by" else "right")
    for name, suggester in ways.items():
        found = suggester.suggest([(slip.text, slip.start, slip.end) for slip in slips])
        ranks = [_rank(those, slip) for those, slip in zip(found, slips, strict=True)]
        shares = [f"{np.mean([0 <= rank < top for rank in ranks]):.3f}" for top in (1, 3, 5)]
        sure = np.mean([those[0].probability if those else 0.0 for those in found])
        table.add_row(name, *shares, f"{np.mean([rank == -2 for rank in ranks]):.3f}", f"{sure:.3f}")
    Console(width=120).print(table)


def _suggester(scorer: Scorer, *, in_context: bool, gaps: GapReader | None) -> Suggester:
    settings = ALL.model_copy(update={"in_context": in_context})
    words = scorer.lexicon.slips.near if scorer.lexicon else None
    return Suggester(words, settings, judge=scorer.judge, gaps=gaps)


def _rank(found: Sequence[Suggestion], slip: Slip) -> int:
    """Place of the right word from 0; -1: not among five; -2: nothing was suggested."""
    texts = [folded(one.text) for one in found]
    right = folded(slip.correct)
    return texts.index(right) if right in texts else -1 if texts else -2


def _fit_letters(slips: Sequence[Slip], suggester: Suggester) -> None:
    assert suggester.words is not None
    cases = [suggester.words.near(slip.text[slip.start : slip.end]) for slip in slips]
    features = [np.array([near.features for near in found]).reshape(-1, len(FEATURES)) for found in cases]
    weights = softmax(features, [_right(found, slip) for found, slip in zip(cases, slips, strict=True)])
    _tell("BY_LETTERS", FEATURES, weights)


def _fit_context(slips: Sequence[Slip], suggester: Suggester) -> None:
    """The candidates are those that the ranking by letters in transforms/suggest.py chooses."""
    cases = suggester.in_place([(slip.text, slip.start, slip.end) for slip in slips])
    right = [_right(case.found, slip) for case, slip in zip(cases, slips, strict=True)]
    weights = softmax([case.features_CF for case in cases], right)
    told = (*FILLED, *IN_CONTEXT) if suggester.gaps else IN_CONTEXT
    _tell("BY_GENERATOR" if suggester.gaps else "BY_CONTEXT", (*FEATURES, *told), weights)


def _tell(ranking: str, names: Sequence[str], weights: NDArray[np.float64]) -> None:
    print(ranking, *(f"{name} {value:.2f}" for name, value in zip((*names, "none"), weights, strict=True)))


def _right(found: Sequence[Near], slip: Slip) -> int:
    """Which candidate was meant; -1: none."""
    texts = [near.text for near in found]
    return texts.index(folded(slip.correct)) if folded(slip.correct) in texts else -1


if __name__ == "__main__":
    main()
