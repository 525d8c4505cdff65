"""Kinds of errors by share and rate: `Mixture(settings).corrupt(text, seed=0, index=17)`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from rtdscan.transforms.corruption import REGISTRY, Corrupt, Corrupted, compose
from rtdscan.transforms.corruption.generator import Sample, generated
from rtdscan.transforms.corruption.wording import synonym
from rtdscan.transforms.settings import GENERATOR, MixtureSettings


@dataclass(frozen=True, slots=True)
class Step:
    """A kind that will happen to a text, and at what rate."""

    kind: str
    rate: float


class Mixture:
    """Errors of several kinds, as configured."""

    def __init__(
        self,
        settings: MixtureSettings | None = None,
        *,
        sample: Sample | None = None,
        near: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Prepare.

        Args:
            settings: Kinds, weights and rates.
            sample: The generator, where `kinds` has "generator" in it.
            near: Neighbours for synonyms (`wordlist.nearest` of some embedding); default: the shipped table.

        Raises:
            ValueError: `kinds` has "generator" and there is none.
        """
        self.settings = settings or MixtureSettings()
        self._sample = sample
        weights = {kind: weight for kind, weight in self.settings.kinds.items() if weight > 0}
        if GENERATOR in weights and sample is None:
            raise ValueError(
                f"corruption kinds have {GENERATOR!r}, but there is no generator: leave it out or give one"
            )
        order = [GENERATOR, *REGISTRY]
        self._kinds = sorted(weights, key=order.index)
        self._edges = np.cumsum([weights[kind] for kind in self._kinds]) / sum(weights.values())
        self._corrupt: dict[str, Corrupt] = {kind: REGISTRY[kind].corrupt for kind in weights if kind in REGISTRY}
        if near is not None and "synonym" in self._corrupt:
            self._corrupt["synonym"] = partial(synonym, near=near)

    def corrupt(self, text: str, *, seed: int, index: int = 0) -> Corrupted:
        """One text; a function of the text, `seed` (>= 0) and `index` (>= 0: the text's number) alone."""
        return self.corrupt_all([text], seed=seed, first=index)[0]

    def corrupt_all(self, texts: Sequence[str], *, seed: int, first: int = 0) -> list[Corrupted]:
        """Texts numbered from `first`: the same as one by one, but the generator sees them together."""
        rngs = [np.random.default_rng((seed, first + at)) for at in range(len(texts))]
        plans = [self._plan(rng) for rng in rngs]
        done = [Corrupted(text) for text in texts]
        sampled = [at for at, plan in enumerate(plans) if plan and plan[0].kind == GENERATOR]
        if sampled and self._sample is not None:
            seeds = [int(rngs[at].integers(2**62)) for at in sampled]
            made = generated([texts[at] for at in sampled], sample=self._sample, seeds=seeds)
            for at, corrupted in zip(sampled, made, strict=True):
                done[at] = corrupted
        for at, plan in enumerate(plans):
            for step in plan:
                if step.kind != GENERATOR:
                    made_now = self._corrupt[step.kind](done[at].text, rngs[at], step.rate)
                    done[at] = compose(done[at], made_now)
        return done

    def _plan(self, rng: np.random.Generator) -> list[Step]:
        """What will happen to a text, in the order of the registry; the rate is shared among the kinds."""
        settings = self.settings
        if rng.random() < settings.clean:
            return []
        count = 1 + int(rng.random() * settings.most)
        chosen = sorted(set(np.searchsorted(self._edges, rng.random(count), "right").tolist()))
        by_word, by_sentence = _between(settings.rate, rng), _between(settings.sentence_rate, rng)
        kinds = [self._kinds[min(at, len(self._kinds) - 1)] for at in chosen]
        return [
            Step(kind, by_sentence if kind in REGISTRY and REGISTRY[kind].level == "document" else by_word / len(kinds))
            for kind in kinds
        ]


def _between(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = bounds
    return low * math.exp(float(rng.random()) * math.log(high / low))
