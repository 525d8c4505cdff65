"""The shape of an ELECTRA discriminator, and its tensors as numpy arrays. Needs neither torch nor transformers.

Key: V vocabulary, E embedding, D hidden, I inner (feed forward), P positions.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from rtdscan.transforms.errors import UserError

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
"""Values of `hidden_act` that the engines know; the second and third name one function."""

SAFETENSORS_ONLY = (
    "only safetensors is read, never pickle; to convert, load it with transformers' ElectraForPreTraining and save it "
    "with save_pretrained(NEW_DIRECTORY)"
)

_NUMBERS = {
    "dims": ("hidden_size", 256),
    "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 4),
    "inner": ("intermediate_size", 1024),
    "embedding": ("embedding_size", 128),
    "vocab": ("vocab_size", 30522),
    "positions": ("max_position_embeddings", 512),
    "types": ("type_vocab_size", 2),
}
"""Field of ElectraShape: key of config.json and its default in transformers, since a config may leave it out."""

MOST_LAYERS = 1000
"""Far more than any network has; the names of all tensors are listed, so something has to end the list."""

_NUMPY_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True, slots=True)
class ElectraShape:
    """The fields of config.json that decide what is computed.

    Attributes:
        dims: D, hidden size.
        layers, heads: Of the encoder.
        inner: I, size of the feed-forward layer.
        embedding: E, size of the embeddings; where it is not D, a linear map follows them.
        vocab: V.
        positions: P, tokens of the longest window.
        types: Rows of the token type table, of which row 0 is used.
        activation: One of ACTIVATIONS.
        epsilon: Of layer norm.
    """

    dims: int
    layers: int
    heads: int
    inner: int
    embedding: int
    vocab: int
    positions: int
    types: int
    activation: str
    epsilon: float


class Network(Protocol):
    """What an engine runs: a bundle's discriminator, or the body of its generator.

    Attributes:
        config: The shape.
        embedding_layer: Whose hidden states `Engine.forward` sums up.
    """

    @property
    def config(self) -> ElectraShape: ...  # noqa: D102
    @property
    def embedding_layer(self) -> int: ...  # noqa: D102

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The tensors, by the names of electra.tensor_shapes."""


def parse_config(config: dict[str, Any], *, where: Path) -> ElectraShape:
    """The shape that a Hugging Face config.json describes.

    Args:
        config: The parsed file.
        where: The file, for messages.

    Raises:
        UserError: It is not an ELECTRA discriminator's, or one that the engines can't run.
    """
    kind = config.get("model_type")
    if kind != "electra":
        raise UserError(f"{where}: model_type is {kind!r}, expected 'electra': give an ELECTRA discriminator")
    if "ElectraForMaskedLM" in (config.get("architectures") or ()):
        raise UserError(f"{where}: this is an ELECTRA generator (ElectraForMaskedLM): give its discriminator")
    return parse_shape(config, where=where)


def parse_shape(config: dict[str, Any], *, where: Path) -> ElectraShape:
    """As `parse_config`, of either network.

    Raises:
        UserError: Numbers that make no network, or one that the engines can't run.
    """
    activation = config.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise UserError(f"{where}: hidden_act is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(
            f"{where}: position_embedding_type is {config['position_embedding_type']!r}, expected 'absolute'"
        )
    epsilon = config.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, int | float) or not 0 <= epsilon < 1:
        raise UserError(f"{where}: layer_norm_eps is {epsilon!r}, expected a number from 0 to 1")
    numbers = {field: config.get(key, default) for field, (key, default) in _NUMBERS.items()}
    for field, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise UserError(f"{where}: {_NUMBERS[field][0]} is {number!r}, expected a whole number above 0")
    if numbers["layers"] > MOST_LAYERS:
        raise UserError(f"{where}: num_hidden_layers is {numbers['layers']}, expected {MOST_LAYERS} at most")
    if numbers["dims"] % numbers["heads"]:
        raise UserError(
            f"{where}: hidden_size {numbers['dims']} can't be split among {numbers['heads']} num_attention_heads"
        )
    return ElectraShape(**numbers, activation=activation, epsilon=float(epsilon))


def tensor_shapes(shape: ElectraShape) -> dict[str, tuple[int, ...]]:
    """Names (without the prefix `electra.`) and shapes of all tensors of a discriminator."""
    size = shape.dims
    return {
        **encoder_shapes(shape),
        **_linear("discriminator_predictions.dense", size, size),
        **_linear("discriminator_predictions.dense_prediction", size, 1),
    }


def generator_shapes(shape: ElectraShape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of a generator, those that it shares with the discriminator included."""
    return {
        **encoder_shapes(shape),
        **_linear("generator_predictions.dense", shape.dims, shape.embedding),
        **_norm("generator_predictions.LayerNorm", shape.embedding),
        **_linear("generator_lm_head", shape.embedding, shape.vocab),
    }


def encoder_shapes(shape: ElectraShape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that both networks have."""
    size, inner, embedding = shape.dims, shape.inner, shape.embedding
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (shape.vocab, embedding),
        "embeddings.position_embeddings.weight": (shape.positions, embedding),
        "embeddings.token_type_embeddings.weight": (shape.types, embedding),
        **_norm("embeddings.LayerNorm", embedding),
    }
    if embedding != size:
        shapes |= _linear("embeddings_project", embedding, size)
    for layer in range(shape.layers):
        name = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{name}.attention.self.{part}", size, size)
        shapes |= _linear(f"{name}.attention.output.dense", size, size)
        shapes |= _norm(f"{name}.attention.output.LayerNorm", size)
        shapes |= _linear(f"{name}.intermediate.dense", size, inner)
        shapes |= _linear(f"{name}.output.dense", inner, size)
        shapes |= _norm(f"{name}.output.LayerNorm", size)
    return shapes


def check_weights(path: Path, shape: ElectraShape) -> None:
    """Look at the header of a checkpoint: everything is there, in the shapes that the config tells.

    Args:
        path: model.safetensors.
        shape: From config.json.

    Raises:
        UserError: The file is damaged, is another model's, or disagrees with config.json.
    """
    try:
        with safe_open(path, framework="numpy") as opened:
            found = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged or not a safetensors file ({error}): copy it again") from error
    plain = {_plain(name): size for name, size in found.items()}
    heads = {name.split(".")[0] for name in plain}
    if "discriminator_predictions" not in heads:
        _check_prefix(path, plain, "discriminator_predictions.dense.weight")
        if "generator_predictions" in heads or "generator_lm_head" in heads:
            raise UserError(f"{path}: holds an ELECTRA generator's weights: give its discriminator")
        raise UserError(f"{path}: holds no discriminator_predictions.* weights, so it can't tell replaced tokens")
    for name, expected in tensor_shapes(shape).items():
        if name not in plain:
            _check_prefix(path, plain, name)
            raise UserError(f"{path}: holds no {name}, which config.json asks for: they belong to different models")
        if plain[name] != expected:
            raise UserError(
                f"{path}: {name} is {list(plain[name])}, by config.json it should be {list(expected)}: they belong to "
                "different models"
            )


def _check_prefix(path: Path, names: Iterable[str], missing: str) -> None:
    """Tell what a wrapper (`DataParallel`, a trainer's module) put before the names."""
    longer = next((name for name in names if name.endswith(f".{missing}")), None)
    if longer is not None:
        prefix = longer.removesuffix(missing).removesuffix("electra.")
        raise UserError(f"{path}: the names of its weights begin with `{prefix}`: save it without")


def read_weights(path: Path, shape: ElectraShape) -> dict[str, NDArray[Any]]:
    """The tensors of a checkpoint that `check_weights` has passed.

    Args:
        path: model.safetensors.
        shape: From config.json.

    Returns:
        Arrays by the names of `tensor_shapes`, in the file's type (float16, float32, float64); bfloat16 as float32,
        since numpy has none. All conversions are exact.

    Raises:
        UserError: A tensor is not of a floating-point type, or a number of it is not finite.
    """
    return read_tensors(path, tensor_shapes(shape))


def read_tensors(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """As `read_weights`, by name; all that are there where none are given."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = {_plain(name): entry for name, entry in json.loads(file.read(size)).items() if name != "__metadata__"}
        wanted = header if names is None else names
        return {name: _read(file, header[name], 8 + size, f"{path}: {name}") for name in wanted}


def _read(file: Any, entry: dict[str, Any], start: int, where: str) -> NDArray[Any]:
    kind = entry["dtype"]
    if kind not in _NUMPY_TYPES:
        raise UserError(f"{where} is of type {kind}, expected one of {', '.join(_NUMPY_TYPES)}")
    first, end = entry["data_offsets"]
    file.seek(start + first)
    array: NDArray[Any] = np.frombuffer(bytearray(file.read(end - first)), _NUMPY_TYPES[kind]).reshape(entry["shape"])
    if kind == "BF16":  # the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{where} holds numbers that are not finite: the training went wrong, or the file is damaged")
    return array


def _plain(name: str) -> str:
    # Checkpoints converted from TensorFlow call a norm's weight gamma and its bias beta.
    name = name.removeprefix("electra.")
    if name.endswith("LayerNorm.gamma"):
        return name.removesuffix("gamma") + "weight"
    return name.removesuffix("beta") + "bias" if name.endswith("LayerNorm.beta") else name


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}
