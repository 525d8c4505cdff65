"""ELECTRA as a graph of OpenVINO, built from a checkpoint's tensors.

Key: B windows, T tokens of the longest window, D hidden, H heads, C channels of a layer's input, J of them with copies,
O outputs of a linear layer.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.electra import ElectraShape
from rtdscan.transforms.engines.quantised import COPIES, InputMap, input_of, map_input, quantise

# Importing openvino tells a web service that it was imported, unless this package is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

__all__ = ["Int8Layers", "Linear", "build_model", "exact_linear", "ops", "ov"]  # ov: its usage reports are off

Linear = Callable[[Any, str], Any]
"""Rows and a linear layer's name -> its output."""

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": partial(ops.gelu, approximation_mode="erf"),
    "gelu_new": partial(ops.gelu, approximation_mode="tanh"),
    "gelu_pytorch_tanh": partial(ops.gelu, approximation_mode="tanh"),
    "relu": ops.relu,
}


def build_model(weights: dict[str, NDArray[Any]], shape: ElectraShape, *, embedding_layer: int, linear: Linear) -> Any:
    """The graph of an ELECTRA discriminator.

    Args:
        weights: As `electra.read_weights` gives them.
        shape: Of the network.
        embedding_layer: Whose hidden states are the second result: 0 the embeddings, 1 the first layer …, -1 the last.
        linear: Makes linear layers.

    Returns:
        An openvino.Model: ids_BT int32 and mask_B11T float32 (0 or -inf, added to attention scores) to logits_BT and
        hidden_BTD, for any B and T.
    """
    norm = partial(_norm, weights, shape.epsilon)
    act = _ACTIVATIONS[shape.activation]
    ids_BT = ops.parameter([-1, -1], np.int32, name="ids")
    mask_B11T = ops.parameter([-1, 1, 1, -1], np.float32, name="mask")
    hidden_BTD = norm(_embed(ids_BT, weights), "embeddings.LayerNorm")
    if shape.embedding != shape.dims:
        hidden_BTD = linear(hidden_BTD, "embeddings_project")
    states = [hidden_BTD]
    for number in range(shape.layers):
        name = f"encoder.layer.{number}"
        attended_BTD = _attend(hidden_BTD, mask_B11T, linear, f"{name}.attention.self", shape)
        attended_BTD = linear(attended_BTD, f"{name}.attention.output.dense")
        hidden_BTD = norm(ops.add(hidden_BTD, attended_BTD), f"{name}.attention.output.LayerNorm")
        inner = act(linear(hidden_BTD, f"{name}.intermediate.dense"))
        hidden_BTD = norm(ops.add(hidden_BTD, linear(inner, f"{name}.output.dense")), f"{name}.output.LayerNorm")
        states.append(hidden_BTD)
    head_BTD = act(linear(hidden_BTD, "discriminator_predictions.dense"))
    logits_BT1 = linear(head_BTD, "discriminator_predictions.dense_prediction")
    results = [ops.result(ops.squeeze(logits_BT1, _ints(-1))), ops.result(states[embedding_layer])]
    return ov.Model(results, [ids_BT, mask_B11T], "electra")


def _embed(ids_BT: Any, weights: dict[str, NDArray[Any]]) -> Any:
    words = ops.constant(weights["embeddings.word_embeddings.weight"])  # as stored: float16 is half the size
    # All tokens are of type 0: its row is added to the positions here once.
    types = _float32(weights["embeddings.token_type_embeddings.weight"])
    positions = _float32(weights["embeddings.position_embeddings.weight"]) + types[0]
    zero, one = ops.constant(np.int32(0)), ops.constant(np.int32(1))
    width = ops.gather(ops.shape_of(ids_BT, "i32"), one, zero)
    positions_TE = ops.gather(ops.constant(positions), ops.range(zero, width, one, "i32"), zero)
    return ops.add(ops.convert(ops.gather(words, ids_BT, zero), "f32"), positions_TE)


def _attend(hidden_BTD: Any, mask_B11T: Any, linear: Linear, name: str, shape: ElectraShape) -> Any:
    # Not as one scaled_dot_product_attention: OpenVINO would transpose keys in memory, and scale them in a pass of its
    # own. Of the bundled model that took 2 % of the time in float32, 9 % in bfloat16 and 4 % in int8.
    size = shape.dims // shape.heads
    split, swap = _ints(0, 0, shape.heads, size), _ints(0, 2, 1, 3)
    query, key, value = (linear(hidden_BTD, f"{name}.{part}") for part in ("query", "key", "value"))
    query = ops.multiply(query, ops.constant(np.float32(size**-0.5)))
    query, key, value = (ops.transpose(ops.reshape(rows, split, True), swap) for rows in (query, key, value))
    scores_BHTT = ops.add(ops.matmul(query, key, False, True), mask_B11T)
    attended = ops.matmul(ops.softmax(scores_BHTT, -1), value, False, False)
    return ops.reshape(ops.transpose(attended, swap), _ints(0, 0, shape.dims), True)


def exact_linear(weights: dict[str, NDArray[Any]], rows: Any, name: str) -> Any:
    """A linear layer as the checkpoint has it."""
    matrix, bias = (ops.constant(_float32(weights[f"{name}.{part}"])) for part in ("weight", "bias"))
    return ops.add(ops.matmul(rows, matrix, False, True), bias)


class Int8Layers:
    """Makes linear layers of int8, where their input has a range."""

    def __init__(self, weights: dict[str, NDArray[Any]], ranges: dict[str, NDArray[np.float32]]) -> None:
        """Map the inputs that `ranges` [3, C] tell of; layers with another input stay exact."""
        self._weights = weights
        self._mapped: dict[str, Any] = {}
        self._maps: dict[str, InputMap] = {}
        for name, range_3C in ranges.items():
            readers = [n for n in weights if n.endswith(".weight") and input_of(n.removesuffix(".weight")) == name]
            weight_OC = np.concatenate([_float32(weights[reader]) for reader in readers])
            self._maps[name] = map_input(range_3C, weight_OC, copies=COPIES if _is_activated(name) else 0)

    def __call__(self, rows: Any, name: str) -> Any:
        """A linear layer, by its name in the checkpoint."""
        source = input_of(name)
        if source not in self._maps:
            return exact_linear(self._weights, rows, name)
        mapped = self._maps[source]
        layer = quantise(_float32(self._weights[f"{name}.weight"]), _float32(self._weights[f"{name}.bias"]), mapped)
        # What the next layer wants copied is computed twice: in the graph, copying would cost more.
        after = self._maps.get(name.replace(".intermediate.dense", ".output.dense")) if "intermediate" in name else None
        chosen = slice(None) if after is None else after.channel_J
        weight = ops.multiply(
            ops.convert(ops.constant(layer.weight_OJ[chosen]), "f32"), ops.constant(layer.scale_O[chosen][:, None])
        )
        product = ops.matmul(self._input(rows, source), weight, False, True)
        return ops.add(product, ops.constant(layer.bias_O[chosen]))

    def _input(self, rows: Any, name: str) -> Any:
        """Rows mapped to [-1, 1] and rounded to 8 bits; once for all that read them."""
        if name not in self._mapped:
            mapped, channel_J = self._maps[name], self._maps[name].channel_J
            first, last = ops.constant(np.float32(-1)), ops.constant(np.float32(1))
            if _is_activated(name):  # rounding becomes a part of the layer before, which can take a range a channel
                low = ops.constant((mapped.centre_C - mapped.half_C)[channel_J])
                high = ops.constant((mapped.centre_C + mapped.half_C)[channel_J])
            else:  # it stands alone, with one range for all
                rows = ops.multiply(rows, ops.constant((1 / mapped.half_C)[channel_J]))
                rows = ops.add(rows, ops.constant((-mapped.centre_C / mapped.half_C)[channel_J]))
                low, high = first, last
            self._mapped[name] = ops.fake_quantize(rows, low, high, first, last, 256)
        return self._mapped[name]


def _is_activated(name: str) -> bool:
    """Whether a layer's input comes out of an activation, in a layer just before."""
    return name.endswith(".output.dense") and ".attention." not in name


def _norm(weights: dict[str, NDArray[Any]], epsilon: float, rows: Any, name: str) -> Any:
    scale, bias = (ops.constant(_float32(weights[f"{name}.{part}"])) for part in ("weight", "bias"))
    return ops.add(ops.multiply(ops.mvn(rows, _ints(-1), True, epsilon, "INSIDE_SQRT"), scale), bias)


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, np.int32))


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return array.astype(np.float32)
