"""The coefficients of transforms/slips.py: `python -m benchmarks.slips [--model MODEL]`.

Words of the model's lexicon, drawn by how many documents hold them, are misspelt as people do it (`corruption`). Each
that is not listed then gives a case: which of the listed words near it was meant. Half of the shipped misspellings are
hidden, for nobody lists all. A softmax is fitted on half of the cases and tried on the others.
"""

import argparse
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.softmax import softmax
from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.corruption import REGISTRY
from rtdscan.transforms.lexicon import LEXICON_FILE
from rtdscan.transforms.lexicon_file import read_counts
from rtdscan.transforms.near import FEATURES, NearWords, folded
from rtdscan.transforms.settings import DEFAULT_KINDS

KINDS = ("spelling", "keyboard", "phonetic", "letters", "apostrophe")
"""By the shares of the default mixture."""

CASES = 8000
SEED = 5
SHORTEST = 3
"""Letters of a word that is misspelt."""


def main() -> None:
    """Make cases, fit, try, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    bundle = load_bundle(parser.parse_args().model)
    lexicon = bundle.lexicon()
    if lexicon is None:
        raise SystemExit(f"{bundle.name} has no lexicon")
    table, _ = read_counts(bundle.path / LEXICON_FILE)
    table = table.filter(pc.invert(pc.match_substring(table["word"], " ")))
    features, right = make_cases(
        half_known(lexicon.slips.near), table["word"].to_pylist(), table["documents"].to_numpy().astype(float)
    )
    half = len(features) // 2
    weights = softmax(features[:half], right[:half])
    told = Table(title=f"{len(features)} made-up misspellings of listed words, {bundle.name}")
    for name in (*FEATURES, "none"):
        told.add_column(name, justify="right")
    told.add_row(*(f"{weight:.2f}" for weight in weights))
    console = Console(width=140)
    console.print(told)
    found = [int(np.argmax(case @ weights[:-1])) == at for case, at in zip(features[half:], right[half:], strict=True)]
    console.print(f"meant was the best of those near: {np.mean(found):.3f} of the half that was not fitted on")


def half_known(words: NearWords) -> NearWords:
    """The same words, with every other known misspelling hidden."""
    known = sorted(words.corrections)
    kept = np.random.default_rng((SEED, 1)).permutation(len(known))[: len(known) // 2]
    return replace(words, corrections={known[at]: words.corrections[known[at]] for at in kept.tolist()})


def make_cases(
    near: NearWords, words: list[str], documents_E: NDArray[np.float64]
) -> tuple[list[NDArray[np.float64]], list[int]]:
    """Features of the words near each misspelling, and which of them was meant (-1: none)."""
    rng = np.random.default_rng((SEED, 0))
    share_E = documents_E * [len(word) >= SHORTEST and word.replace("'", "").isalpha() for word in words]
    share_K = np.array([DEFAULT_KINDS[kind] for kind in KINDS])
    features: list[NDArray[np.float64]] = []
    right: list[int] = []
    while len(features) < CASES:
        word = words[int(rng.choice(len(words), p=share_E / share_E.sum()))]
        kind = KINDS[int(rng.choice(len(KINDS), p=share_K / share_K.sum()))]
        wrong = folded(REGISTRY[kind].corrupt(word, rng, 1.0).text)
        found = near.near(wrong) if wrong != word and wrong not in near.rarity else []
        if found:
            texts = [one.text for one in found]
            features.append(np.array([one.features for one in found]))
            right.append(texts.index(word) if word in texts else -1)
    return features, right


if __name__ == "__main__":
    main()
