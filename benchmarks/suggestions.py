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
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rtdscan.transforms.near import FEATURES, Near, folded, near_words
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import ScoreSettings, SuggestSettings
from rtdscan.transforms.suggest import IN_CONTEXT, JUDGED, Suggester, in_place, like

RIDGE = 0.0005
"""Penalty on squared coefficients, per span."""


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
    scorer = Scorer.load(args.model, settings=ScoreSettings())
    if args.fit:
        _fit(scorer, read_slips(args.fit))
    slips = read_slips(args.labelled)
    table = Table(title=f"{args.labelled}: {len(slips)} errors, {scorer.bundle.name}")
    for name in ("ranked by", "top 1", "top 3", "top 5", "none made"):
        table.add_column(name, justify="left" if name == "ranked by" else "right")
    for name, in_context in (("letters and frequency", False), ("and the discriminator, in context", True)):
        ranks = _ranks(scorer, slips, in_context=in_context)
        shares = [f"{np.mean([0 <= rank < top for rank in ranks]):.3f}" for top in (1, 3, 5)]
        table.add_row(name, *shares, f"{np.mean([rank == -2 for rank in ranks]):.3f}")
    Console(width=120).print(table)


def _ranks(scorer: Scorer, slips: Sequence[Slip], *, in_context: bool) -> list[int]:
    """Place of the right word from 0; -1: not among five; -2: nothing was suggested."""
    words = near_words(scorer.bundle)
    assert words is not None
    suggester = Suggester(words, SuggestSettings(top_k=5, in_context=in_context, least=0.0), judge=scorer.judge)
    found = suggester.suggest([(slip.text, slip.start, slip.end) for slip in slips])
    ranks = []
    for slip, those in zip(slips, found, strict=True):
        texts = [folded(one.text) for one in those]
        right = folded(slip.correct)
        ranks.append(texts.index(right) if right in texts else -1 if texts else -2)
    return ranks


def _fit(scorer: Scorer, slips: Sequence[Slip]) -> None:
    words = near_words(scorer.bundle)
    assert words is not None
    cases = [words.near(slip.text[slip.start : slip.end]) for slip in slips]
    letters = _softmax([_features(found) for found in cases], [_right(f, s) for f, s in zip(cases, slips, strict=True)])
    print("BY_LETTERS", *(f"{name} {value:.2f}" for name, value in zip((*FEATURES, "none"), letters, strict=True)))
    best = []
    for found in cases:
        score = _features(found) @ letters[:-1] if found else np.zeros(0)
        best.append([found[at] for at in np.argsort(-score)[:JUDGED].tolist()])
    there = [
        in_place(s.text, s.start, s.end, like(s.text[s.start : s.end], near.text))
        for found, s in zip(best, slips, strict=True)
        for near in found
    ]
    judged = np.split(
        scorer.judge([text for text, _ in there], [place for _, place in there]),
        np.cumsum([len(found) for found in best])[:-1],
    )
    features = [
        np.hstack([_features(found), one]) if found else _features(found)
        for found, one in zip(best, judged, strict=True)
    ]
    both = _softmax(features, [_right(found, slip) for found, slip in zip(best, slips, strict=True)])
    names = (*FEATURES, *IN_CONTEXT, "none")
    print("BY_CONTEXT", *(f"{name} {value:.2f}" for name, value in zip(names, both, strict=True)))


def _features(found: Sequence[Near]) -> NDArray[np.float64]:
    return np.array([near.features for near in found]).reshape(len(found), len(FEATURES))


def _right(found: Sequence[Near], slip: Slip) -> int:
    """Which candidate was meant; -1: none."""
    texts = [near.text for near in found]
    return texts.index(folded(slip.correct)) if folded(slip.correct) in texts else -1


def _softmax(features: Sequence[NDArray[np.float64]], right: Sequence[int]) -> NDArray[np.float64]:
    """Coefficients and the score of "none", by maximum likelihood with a small ridge."""
    wide = max(one.shape[1] for one in features if len(one))
    x = [torch.tensor(one, dtype=torch.float64).reshape(-1, wide) for one in features]
    weights = torch.zeros(wide + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        total = RIDGE * weights.square().sum()
        for one, at in zip(x, right, strict=True):
            scores = torch.cat([one @ weights[:-1], weights[-1:]])
            total = total - torch.log_softmax(scores, 0)[at] / len(x)
        total.backward()
        return total

    optimiser.step(loss)
    return weights.detach().numpy()


if __name__ == "__main__":
    main()
