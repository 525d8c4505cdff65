"""What embeddings are good for: `python -m benchmarks.embeddings CORPUS.parquet [--label source] [--model DIR …]`.

Two numbers a model: how often the majority of a document's five nearest neighbours is of its own kind (`--label`), and
whether near duplicates are found: a copy of each document with 5 % of its words changed (for words of the corpus, seed
7) looks for its original among all; recall is given at precision .95 over all pairs by one threshold on the cosine.
"""

import argparse
import random
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import OutputSettings, ScoreSettings, SuggestSettings

NEIGHBOURS = 5
CHANGED = 0.05
PRECISION = 0.95


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--label", default="source")
    parser.add_argument("--model", action="append")
    args = parser.parse_args()
    rows = pq.read_table(args.corpus, columns=["text", args.label])
    texts, labels = rows["text"].to_pylist(), np.array(rows[args.label].to_pylist())
    rng = random.Random(7)
    words = sorted({word for text in texts for word in text.split()})
    copies = [changed(text, words, rng) for text in texts]
    largest = np.unique(labels, return_counts=True)[1].max() / len(labels)
    table = Table(title=f"{args.corpus}: {len(texts):,} documents, largest {args.label} {largest:.3f}")
    for name in ("model", "neighbours' accuracy", "mean cosine", "recall at precision .95", "at cosine"):
        table.add_column(name)
    for model in args.model or ["default"]:
        scorer = Scorer.load(
            model, settings=ScoreSettings(output=OutputSettings(embedding="float32"), suggest=SuggestSettings(top_k=0))
        )
        there_UD, copy_UD = embedded(scorer, texts), embedded(scorer, copies)
        cosine_UU = there_UD @ there_UD.T
        recall, at = found(copy_UD @ there_UD.T)
        mean = cosine_UU[~np.eye(len(texts), dtype=bool)].mean()
        table.add_row(scorer.bundle.name, *(f"{x:.3f}" for x in (neighbours(cosine_UU, labels), mean, recall, at)))
    Console(width=120).print(table)


def changed(text: str, words: Sequence[str], rng: random.Random) -> str:
    """The text with some of its words, one at least, replaced by others."""
    own = text.split(" ")
    for at in rng.sample(range(len(own)), min(len(own), max(1, round(CHANGED * len(own))))):
        own[at] = rng.choice(words)
    return " ".join(own)


def embedded(scorer: Scorer, texts: Sequence[str]) -> NDArray[np.float32]:
    """A row a text."""
    column = scorer.score(pa.table({"text": pa.array(texts, pa.string())}))["embedding"].combine_chunks()
    return np.asarray(column.flatten(), np.float32).reshape(len(texts), -1)


def neighbours(cosine_UU: NDArray[np.float32], labels: NDArray[np.str_]) -> float:
    """Share of documents whose nearest neighbours are mostly of their own label."""
    cosine_UU = cosine_UU.copy()
    np.fill_diagonal(cosine_UU, -np.inf)
    right = 0
    for row, near in enumerate(np.argsort(-cosine_UU, axis=1)[:, :NEIGHBOURS]):
        kinds, counts = np.unique(labels[near], return_counts=True)
        right += kinds[counts.argmax()] == labels[row]
    return right / len(labels)


def found(cosine_UU: NDArray[np.float32]) -> tuple[float, float]:
    """Recall of pairs (i, i) among all, by the lowest threshold at which precision holds, and that threshold."""
    order = np.argsort(-cosine_UU, axis=None)
    true = np.cumsum(np.eye(len(cosine_UU), dtype=bool).ravel()[order])
    holds = np.flatnonzero(true / np.arange(1, len(order) + 1) >= PRECISION)
    if not len(holds):
        return 0.0, 1.0
    return float(true[holds[-1]] / len(cosine_UU)), float(cosine_UU.ravel()[order[holds[-1]]])


if __name__ == "__main__":
    main()
