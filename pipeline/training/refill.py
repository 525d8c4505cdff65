"""Texts refilled by a model's generator, as ELECTRA's discriminator sees them in training: the kind `generator`.

15 % of a text's pieces are hidden at once, 85 % of these behind [MASK], and drawn anew from what the generator thinks
of each place (ELECTRA, section 3). A piece that goes on a word is replaced by one that does, so that the text still
falls into the same pieces.

Shapes: N pieces of a text, P of them picked in a window, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rtdscan.pipeline.training.models import load_generator
from rtdscan.transforms.bundle import Bundle
from rtdscan.transforms.candidates import like
from rtdscan.transforms.corruption.generator import Replacement
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.generator import FOLDER, has_generator

HIDDEN = 0.15
AS_MASK = 0.85


@dataclass(frozen=True)
class Refill:
    """Draws replacements: a `corruption.generator.Sample`.

    Attributes:
        network: transformers' ElectraForMaskedLM.
        tokenizer: The bundle's.
        bundle: Whose generator it is.
        goes_on_V: Pieces that go on a word.
        word_V: Pieces that may be drawn: neither special nor unused ones.
    """

    network: Any
    tokenizer: Tokenizer
    bundle: Bundle
    goes_on_V: NDArray[np.bool_]
    word_V: NDArray[np.bool_]

    @staticmethod
    def of(bundle: Bundle) -> "Refill":
        """A bundle's generator.

        Raises:
            UserError: It has none.
        """
        if not has_generator(bundle):
            raise UserError(
                f"corruption kinds have 'generator', but model {bundle.name} has none (a folder `{FOLDER}` in the "
                "bundle, see configs/pretrain-generator.yaml): leave it out, or name a model that has one"
            )
        tokenizer = bundle.tokenizer()
        pieces = [tokenizer.id_to_token(at) or "[no piece]" for at in range(bundle.config.vocab)]
        return Refill(
            load_generator(bundle.path / FOLDER).eval(),
            tokenizer,
            bundle,
            np.array([piece.startswith("##") for piece in pieces]),
            np.array([len(piece) == 1 or not piece.startswith("[") for piece in pieces]),
        )

    def __call__(self, texts: Sequence[str], seeds: Sequence[int]) -> list[list[Replacement]]:
        """Replacements for each text; they depend on it and its seed alone."""
        return [self._one(text, np.random.default_rng(seed)) for text, seed in zip(texts, seeds, strict=True)]

    def _one(self, text: str, rng: np.random.Generator) -> list[Replacement]:
        found = self.tokenizer.encode(text, add_special_tokens=False)
        ids_N, special = np.array(found.ids, np.int64), self.bundle.special
        offsets = found.offsets  # made anew each time one asks
        picked_N = (rng.random(len(ids_N)) < HIDDEN) & (ids_N != special.unk)
        shown_N = np.where(picked_N & (rng.random(len(ids_N)) < AS_MASK), special.mask, ids_N)
        room = min(self.bundle.card.window, self.bundle.config.positions) - 2
        made: list[Replacement] = []
        end = 0
        for start in range(0, len(ids_N), room):
            picks_P = np.flatnonzero(picked_N[start : start + room])
            if not len(picks_P):
                continue
            logits_PV = self._logits(shown_N[start : start + room], picks_P)
            same_PV = self.goes_on_V[None] == self.goes_on_V[ids_N[start + picks_P]][:, None]
            gumbel_PV = -np.log(-np.log(rng.random(logits_PV.shape).clip(1e-12, 1 - 1e-12)))
            drawn_P = np.where(same_PV & self.word_V, logits_PV + gumbel_PV, -np.inf).argmax(1)
            for at, id_ in zip((start + picks_P).tolist(), drawn_P.tolist(), strict=True):
                low, high = offsets[at]
                if id_ != ids_N[at] and low >= end:
                    end = high
                    piece = (self.tokenizer.id_to_token(id_) or "").removeprefix("##")
                    made.append((low, high, like(text[low:high], piece)))
        return made

    def _logits(self, shown_N: NDArray[np.int64], picks_P: NDArray[np.int64]) -> NDArray[np.float64]:
        special = self.bundle.special
        ids = torch.tensor([[special.cls, *shown_N.tolist(), special.sep]])
        with torch.inference_mode():
            hidden = self.network.electra(input_ids=ids).last_hidden_state[0, 1 + picks_P]
            logits = self.network.generator_lm_head(self.network.generator_predictions(hidden))
        return np.asarray(logits.double().numpy())
