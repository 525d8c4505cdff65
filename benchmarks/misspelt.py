"""The weight of `misspelt` in the bundled readout: `python -m benchmarks.misspelt ARTICLES.parquet`.

`misspelt.csv` names 200 words in small letters that the shipped list of misspellings has, drawn from 685 in 37,876
encyclopedia articles (10.5 million words; ARTICLES has their `id` and `text`), and tells whether each is wrong there,
as somebody read it: foreign, old and technical words are right. No model was trained on these articles. The rest of
the readout stays as it is; its weight for `misspelt` is that under which the labels are most likely.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize_scalar

from rtdscan.pipeline.detection.evidence import gather
from rtdscan.pipeline.detection.metrics import measure
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import ScoreSettings

Floats = NDArray[np.float64]

LABELS = Path(__file__).with_suffix(".csv")

AROUND = 700
"""Characters on each side that are scored along: some windows of the network."""

LENGTHS = ((1, 5), (6, 8), (9, 99))


def main() -> None:
    """Score the words in their articles, fit, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("articles", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with LABELS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    texts, start_H, end_H = excerpts(arguments.articles, rows)
    settings = ScoreSettings(precision="float32", threads=arguments.threads)
    scorer = Scorer.load("default", settings=settings)
    evidence = gather(scorer, texts, lexicon=scorer.lexicon)
    word_H = [
        int(np.flatnonzero((evidence.document_W == at) & (evidence.start_W < end) & (evidence.end_W > start))[0])
        for at, (start, end) in enumerate(zip(start_H, end_H, strict=True))
    ]
    card = scorer.bundle.card
    own = {name: weight for name, weight in card.readout.coefficients.items() if name != "misspelt"}
    others_H = card.calibration.slope * evidence.logit(own, card.readout.intercept)[word_H] + card.calibration.intercept
    sure_H = card.calibration.slope * evidence.column("misspelt")[word_H]
    wrong_H = np.array([row["wrong"] == "1" for row in rows])
    weight = likeliest(others_H, sure_H, wrong_H)
    letters_H = np.array(end_H) - start_H
    told = Table(title=f"{len(rows)} words that are on the list of misspellings")
    for name in ("letters", "words", "wrong", "AUROC without", "AUROC with `misspelt`"):
        told.add_column(name, justify="right")
    for low, high in (*LENGTHS, (1, 99)):
        some_H = (letters_H >= low) & (letters_H <= high)
        before, after = (measure(z_H[some_H], wrong_H[some_H]).auroc for z_H in (others_H, others_H + weight * sure_H))
        share = wrong_H[some_H].mean()
        told.add_row(f"{low} to {high}", str(some_H.sum()), f"{share:.2f}", f"{before:.3f}", f"{after:.3f}")
    console = Console(width=120)
    console.print(told)
    before, after = (unlikely(others_H + w * sure_H, wrong_H) for w in (0.0, weight))
    console.print(f"weight of misspelt {weight:.2f}; negative log-likelihood {before:.1f} without, {after:.1f} with it")


def excerpts(articles: Path, rows: Sequence[Mapping[str, str]]) -> tuple[list[str], list[int], list[int]]:
    """The text around each word, and where in it the word begins and ends."""
    wanted = sorted({row["id"] for row in rows})
    found = pq.read_table(articles, columns=["id", "text"], filters=pc.field("id").isin(wanted))
    text_of = dict(zip(found["id"].to_pylist(), found["text"].to_pylist(), strict=True))
    texts, starts, ends = [], [], []
    for row in rows:
        text, start = text_of.get(row["id"], ""), int(row["start"])
        end = start + len(row["word"])
        if text[start:end] != row["word"]:
            raise SystemExit(f"{articles}: {row['id']} has no {row['word']!r} at {start}; these are other articles")
        first = max(0, start - AROUND)
        texts.append(text[first : end + AROUND])
        starts.append(start - first)
        ends.append(end - first)
    return texts, starts, ends


def likeliest(others_H: Floats, sure_H: Floats, wrong_H: NDArray[np.bool_]) -> float:
    """The weight under which the labels of H words are most likely, all else as it is."""
    found = minimize_scalar(lambda w: unlikely(others_H + w * sure_H, wrong_H), bounds=(0, 20), method="bounded")
    return float(found.x)


def unlikely(logit_H: Floats, wrong_H: NDArray[np.bool_]) -> float:
    """Negative log-likelihood."""
    return float(np.logaddexp(0, np.where(wrong_H, -logit_H, logit_H)).sum())


if __name__ == "__main__":
    main()
