"""Kinds of errors by share and rate: `Mixture(settings).corrupt(text, seed=0, index=17)`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator, model_validator

from rtdscan.transforms.corruption import REGISTRY, Corrupt, Corrupted, compose
from rtdscan.transforms.corruption.generator import Sample, generated
from rtdscan.transforms.corruption.wording import synonym
from rtdscan.transforms.settings import Section, Share

GENERATOR = "generator"

DEFAULT_KINDS: dict[str, float] = {
    "spelling": 4, "keyboard": 2, "phonetic": 2, "letters": 3,
    "agreement": 2, "article": 2, "preposition": 2, "tense": 2, "confusable": 2, "apostrophe": 1,
    "wrong_word": 3, "synonym": 2, "repeated": 1, "swapped": 1, "missing": 1, "split": 1, "joined": 1,
    "shuffled": 0.5, "foreign": 0.3, "gibberish": 0.3, "boilerplate": 0.7,
    "ocr_light": 1.5, "ocr_medium": 1.5, "ocr_heavy": 1,
    "mojibake": 0.7, "entities": 0.5, "replacement": 0.5, "markup": 0.7,
}  # fmt: skip
"""Shares by which kinds are drawn. Weighted to what people do; a third is machines' damage."""


class MixtureSettings(Section):
    """How texts are corrupted for training and measuring."""

    kinds: dict[str, Annotated[float, Field(ge=0)]] = Field(
        DEFAULT_KINDS, description=f"weight of each kind of error; kinds: {', '.join(REGISTRY)}, {GENERATOR}"
    )
    clean: Share = Field(0.1, description="share of texts that are left as they are")
    most: int = Field(3, ge=1, description="kinds of errors in one text at most")
    rate: tuple[Share, Share] = Field(
        (0.005, 0.1), description="share of a text's words that goes wrong: drawn between these, evenly by logarithm"
    )
    sentence_rate: tuple[Share, Share] = Field(
        (0.05, 0.4), description="the same for kinds that act on sentences (shuffled, foreign, gibberish, boilerplate)"
    )

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, kinds: dict[str, float]) -> dict[str, float]:
        unknown = [kind for kind in kinds if kind not in REGISTRY and kind != GENERATOR]
        if unknown:
            raise ValueError(
                f"no such kind of error: {', '.join(unknown)}; there are {', '.join(REGISTRY)}, {GENERATOR}"
            )
        if not any(kinds.values()):
            raise ValueError("at least one kind needs a weight above 0")
        return kinds

    @model_validator(mode="after")
    def _ranges(self) -> "MixtureSettings":
        for name in ("rate", "sentence_rate"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: {low} to {high} is no range above 0")
        return self


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
