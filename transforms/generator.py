"""The generator of a bundle: an ELECTRA masked language model, which tells how well words fill a gap.

    generator/config.json  generator/model.safetensors

What its file leaves out is the discriminator's. A *tied* generator has no embeddings of its own. One of *low rank*
(LoRA, Hu et al. 2021) has only changes to the discriminator's linear layers: for a layer NAME two thin matrices,
NAME.lora_A [r, inputs] and NAME.lora_B [outputs, r], and its weight is NAME.weight + lora_B @ lora_A. So a generator as
deep and wide as the discriminator takes a twentieth of its room.

Its layers run on any engine: summed with a weight of 1 at the gap and 0 elsewhere, hidden states are those of the gap.

Shapes: N gaps, D hidden, E embedding, V vocabulary.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.bundle import Bundle
from rtdscan.transforms.electra import ElectraShape, generator_shapes, parse_shape, read_tensors, tensor_shapes
from rtdscan.transforms.engines import Engine, load_engine
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.settings import Precision, ScoreSettings

FOLDER = "generator"
"""In a bundle."""

DOWN, UP = "lora_A", "lora_B"
"""Names of the two matrices, those of the paper and its libraries."""

BATCH = 64
"""Gaps that run together."""

_PIECES = "embeddings.word_embeddings.weight"
_OUTPUT = "generator_lm_head.weight"
"""The output layer's weight is the piece embeddings'."""

_erf = np.frompyfunc(math.erf, 1, 1)


def complete(own: Mapping[str, Any], above: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """All tensors of a generator.

    Args:
        own: Those of its file, numpy arrays or torch tensors by ELECTRA's names; float32 where they are thin.
        above: Those of the discriminator; needed where the generator shares some.
        prefix: Of the encoder's names: "electra." or nothing.

    Raises:
        KeyError: What is shared is not there.
    """
    thin = {name for name in own if name.endswith((DOWN, UP))}
    whole = {name: tensor for name, tensor in own.items() if name not in thin}
    if thin:
        shared = {name: tensor for name, tensor in above.items() if not name.startswith("discriminator_predictions.")}
        whole = shared | whole
        for down in sorted(name for name in thin if name.endswith(DOWN)):
            layer = down.removesuffix(DOWN)
            whole[f"{layer}weight"] = above[f"{layer}weight"] + own[f"{layer}{UP}"] @ own[down]
    elif f"{prefix}{_PIECES}" not in whole:
        whole |= {name: tensor for name, tensor in above.items() if name.startswith(f"{prefix}embeddings.")}
    whole.setdefault(_OUTPUT, whole[f"{prefix}{_PIECES}"])
    return whole


@dataclass(frozen=True, slots=True)
class Body:
    """The generator without its head, as an engine runs it."""

    config: ElectraShape
    tensors: Mapping[str, NDArray[Any]]

    @property
    def embedding_layer(self) -> int:
        """The last one: what the head reads."""
        return -1

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The encoder's tensors, and zeros where an engine expects a discriminator's head."""
        shapes = tensor_shapes(self.config)
        return {
            name: self.tensors[name] if name in self.tensors else np.zeros(shape, np.float32)
            for name, shape in shapes.items()
        }


class Gap(NamedTuple):
    """A token that is asked for.

    Attributes:
        ids: The window, special tokens included, with [MASK] in the gap.
        at: Which of them it is.
        wanted: Pieces whose log p is asked for.
    """

    ids: Sequence[int]
    at: int
    wanted: Sequence[int]


class Filled(NamedTuple):
    """What may stand in a gap: log p of the pieces that were asked for, and the best of all with theirs."""

    log_p: NDArray[np.float32]
    best: tuple[int, ...]
    best_log_p: NDArray[np.float32]


@dataclass(frozen=True)
class Generator:
    """Fills gaps.

    Attributes:
        engine: Runs its layers.
        tensors: Of the head, float32, by the names of electra.generator_shapes.
        epsilon: Of layer norm.
    """

    engine: Engine
    tensors: Mapping[str, NDArray[np.float32]]
    epsilon: float

    def fill(self, gaps: Sequence[Gap], *, best: int) -> list[Filled]:
        """How well pieces of the vocabulary fill gaps. What is said of a gap does not depend on the others.

        Args:
            gaps: The gaps.
            best: How many pieces to name that fill one best.
        """
        found: list[Filled] = []
        for at in range(0, len(gaps), BATCH):
            some = gaps[at : at + BATCH]
            log_p_NV = self._log_p(self._hidden(some))
            for gap, log_p_V in zip(some, log_p_NV, strict=True):
                top = _largest(log_p_V, best)
                found.append(Filled(log_p_V[list(gap.wanted)], tuple(top.tolist()), log_p_V[top]))
        return found

    def _hidden(self, gaps: Sequence[Gap]) -> NDArray[np.float32]:
        lengths_N = np.array([len(gap.ids) for gap in gaps], np.int32)
        ids_NT = np.zeros((len(gaps), lengths_N.max()), np.int32)
        weights_NT = np.zeros(ids_NT.shape, np.float32)
        for at, gap in enumerate(gaps):
            ids_NT[at, : len(gap.ids)] = gap.ids
            weights_NT[at, gap.at] = 1.0
        return self.engine.forward(ids_NT, lengths_N, weights_NT)[1]

    def _log_p(self, hidden_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        # einsum, not @: a gap's sums must depend neither on how many there are nor on numpy's threads.
        head, weights = "generator_predictions", self.tensors
        inner_NE = np.einsum("nd,ed->ne", hidden_ND, weights[f"{head}.dense.weight"]) + weights[f"{head}.dense.bias"]
        # ELECTRA's head has this activation whatever the layers have (transformers: ElectraGeneratorPredictions).
        inner_NE = inner_NE * (0.5 + 0.5 * _erf(inner_NE * 0.5**0.5).astype(np.float32))
        inner_NE = inner_NE - inner_NE.mean(1, keepdims=True)
        inner_NE = inner_NE / np.sqrt(np.square(inner_NE).mean(1, keepdims=True) + np.float32(self.epsilon))
        inner_NE = inner_NE * weights[f"{head}.LayerNorm.weight"] + weights[f"{head}.LayerNorm.bias"]
        logits_NV = np.einsum("ne,ve->nv", inner_NE, weights[_OUTPUT]) + weights["generator_lm_head.bias"]
        top_N1 = logits_NV.max(1, keepdims=True)
        return np.asarray(logits_NV - top_N1 - np.log(np.exp(logits_NV - top_N1).sum(1, keepdims=True)))


def _largest(values_V: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Where the largest values are, the largest first, and the earlier one first of two that are equal."""
    count = min(count, len(values_V))
    at = np.flatnonzero(values_V >= np.partition(values_V, -count)[-count])
    return at[np.argsort(-values_V[at], kind="stable")][:count]


def has_generator(bundle: Bundle) -> bool:
    """Whether a bundle holds one."""
    return (bundle.path / FOLDER / "model.safetensors").is_file()


def generator_digest(bundle: Bundle) -> str | None:
    """blake2b-128 hex digest of a bundle's generator; None where it has none."""
    if not has_generator(bundle):
        return None
    digest = hashlib.blake2b(digest_size=16)
    for name in ("config.json", "model.safetensors"):
        digest.update((bundle.path / FOLDER / name).read_bytes())
    return digest.hexdigest()


def load_generator(bundle: Bundle, *, settings: ScoreSettings) -> Generator | None:
    """A bundle's generator on the engine of the settings, in bfloat16 where they say int8; None where there is none.

    Raises:
        UserError: Its files are damaged, or belong to another model.
    """
    if not has_generator(bundle):
        return None
    shape, tensors = read_generator(bundle)
    precision: Precision = settings.precision
    body = Body(shape, tensors)
    if precision == "int8":  # it has no ranges
        precision = "auto"
    engine = load_engine(
        body, engine=settings.engine, precision=precision, threads=settings.threads, device=settings.device
    )
    head = {name: np.asarray(array, np.float32) for name, array in tensors.items() if name.startswith("generator_")}
    return Generator(engine, head, shape.epsilon)


def read_generator(bundle: Bundle) -> tuple[ElectraShape, dict[str, NDArray[Any]]]:
    """Shape and all tensors of a bundle's generator, those that it shares included.

    Raises:
        UserError: Its files are damaged, or belong to another model.
    """
    folder = bundle.path / FOLDER
    where = folder / "config.json"
    try:
        config = json.loads(where.read_text(encoding="utf-8"))
        shape = parse_shape(config, where=where)
        own = read_tensors(folder / "model.safetensors")
        thin = {name: array.astype(np.float32) for name, array in own.items() if name.endswith((DOWN, UP))}
        tensors = complete(own | thin, bundle.arrays())
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"generator {folder}: damaged, or of another model ({error!r})") from error
    if shape.vocab != bundle.config.vocab:
        raise UserError(
            f"generator {folder}: has {shape.vocab} pieces, the discriminator above it {bundle.config.vocab}: they "
            "belong to different models"
        )
    for name, expected in generator_shapes(shape).items():
        if name not in tensors or tensors[name].shape != expected:
            found = list(tensors[name].shape) if name in tensors else "missing"
            raise UserError(f"generator {folder}: {name} is {found}, by config.json it should be {list(expected)}")
    return shape, tensors
