"""ELECTRA on OpenVINO, for CPUs. Such a worker imports neither torch nor transformers.

Key: B windows, T tokens of the longest window, n windows that run together, W their width, D hidden, H heads.

The graph is built here from the checkpoint's tensors, which takes as long as reading a converted file would, so none is
kept. Windows run with others of the same width, a multiple of `STEP`: their numbers can't depend on what else is in the
batch, little is padded, and OpenVINO, which prepares kernels for each new shape (3 to 5 ms), meets few of them.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.bundle import Bundle
from rtdscan.transforms.electra import ElectraShape, read_weights
from rtdscan.transforms.errors import EngineError

# Importing openvino tells a web service that it was imported, unless this package is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

STEP = 16
"""Widths are multiples of this many tokens: a register of float32, and what attention kernels handle without a rest."""

_HINTS = {"float32": "f32", "bfloat16": "bf16"}

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": partial(ops.gelu, approximation_mode="erf"),
    "gelu_new": partial(ops.gelu, approximation_mode="tanh"),
    "gelu_pytorch_tanh": partial(ops.gelu, approximation_mode="tanh"),
    "relu": ops.relu,
}


class OpenVinoEngine:
    """Runs a bundle's network on OpenVINO, in float32 or bfloat16."""

    name = "openvino"

    def __init__(self, bundle: Bundle, *, precision: str, threads: int) -> None:
        """Build and compile the graph.

        Args:
            bundle: The model.
            precision: "float32" or "bfloat16".
            threads: Threads of this engine.

        Raises:
            EngineError: Another precision, or bfloat16 on a CPU without it (OpenVINO would run float32 instead).
        """
        if precision not in _HINTS:
            raise EngineError(f"engine openvino: can't run {precision}; choose `precision` from {', '.join(_HINTS)}")
        self.precision = precision
        self.dims = bundle.config.dims
        self._positions = bundle.config.positions
        model = build_model(
            read_weights(bundle.weights, bundle.config), bundle.config, embedding_layer=bundle.card.embedding_layer
        )
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Pinned, the engines of all worker processes would share the first core.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = ov.Core().compile_model(model, "CPU", options)
        runs = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if runs != _HINTS[precision]:
            raise EngineError(f"engine openvino: was asked for {precision}, but would run {runs} on this CPU")
        self._request: Any = compiled.create_infer_request()

    def forward(
        self, ids_BT: NDArray[np.int32], lengths_B: NDArray[np.int32], weights_BT: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the network on a batch; see `Engine.forward`."""
        if self._request is None:
            raise EngineError("engine openvino: was closed")
        if len(lengths_B) and lengths_B.max() > self._positions:
            raise ValueError(f"a window of {lengths_B.max()} tokens; the network has {self._positions} positions")
        logits_BT = np.zeros(ids_BT.shape, np.float32)
        pooled_BD = np.zeros((len(ids_BT), self.dims), np.float32)
        widths_B = np.minimum(-(-lengths_B // STEP) * STEP, self._positions)
        for width in np.unique(widths_B).tolist():
            rows_n = np.flatnonzero(widths_B == width)
            kept = min(width, ids_BT.shape[1])
            there_nW = np.arange(width) < lengths_B[rows_n, None]
            ids_nW, weights_nW = np.zeros(there_nW.shape, np.int32), np.zeros(there_nW.shape, np.float32)
            ids_nW[:, :kept], weights_nW[:, :kept] = ids_BT[rows_n, :kept], weights_BT[rows_n, :kept]
            logits_nW, hidden_nWD = self._infer(np.where(there_nW, ids_nW, 0), there_nW)
            logits_BT[rows_n, :kept] = logits_nW[:, :kept]
            # Not a matrix product: numpy's would start threads of its own.
            pooled_BD[rows_n] = np.einsum("nw,nwd->nd", np.where(there_nW, weights_nW, 0), hidden_nWD)
        return logits_BT, pooled_BD

    def close(self) -> None:
        """Give back the network's memory."""
        self._request = None

    def _infer(self, ids_nW: NDArray[np.int32], there_nW: NDArray[np.bool_]) -> tuple[Any, Any]:
        """Logits and hidden states; both are only good until the next call."""
        mask_n11W = np.where(there_nW, np.float32(0), np.float32(-np.inf))[:, None, None, :]
        try:
            results = self._request.infer([ids_nW, mask_n11W], share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            if "alloc" in str(error):  # OpenVINO has no type of its own for it
                raise MemoryError(f"{ids_nW.size} tokens at once are too many for this machine") from error
            raise
        return results[0], results[1]


def build_model(weights: dict[str, NDArray[Any]], shape: ElectraShape, *, embedding_layer: int) -> Any:
    """The graph of an ELECTRA discriminator.

    Args:
        weights: As `electra.read_weights` gives them.
        shape: Of the network.
        embedding_layer: Whose hidden states are the second result: 0 the embeddings, 1 the first layer …, -1 the last.

    Returns:
        An openvino.Model: ids_BT int32 and mask_B11T float32 (0 or -inf, added to attention scores) to logits_BT and
        hidden_BTD, for any B and T.
    """
    linear, norm = partial(_linear, weights), partial(_norm, weights, shape.epsilon)
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


def _attend(hidden_BTD: Any, mask_B11T: Any, linear: Callable[..., Any], name: str, shape: ElectraShape) -> Any:
    split, swap = _ints(0, 0, shape.heads, shape.dims // shape.heads), _ints(0, 2, 1, 3)
    query, key, value = (
        ops.transpose(ops.reshape(linear(hidden_BTD, f"{name}.{part}"), split, True), swap)
        for part in ("query", "key", "value")
    )
    attended = ops.scaled_dot_product_attention(query, key, value, mask_B11T)
    return ops.reshape(ops.transpose(attended, swap), _ints(0, 0, shape.dims), True)


def _linear(weights: dict[str, NDArray[Any]], rows: Any, name: str) -> Any:
    matrix, bias = (ops.constant(_float32(weights[f"{name}.{part}"])) for part in ("weight", "bias"))
    return ops.add(ops.matmul(rows, matrix, False, True), bias)


def _norm(weights: dict[str, NDArray[Any]], epsilon: float, rows: Any, name: str) -> Any:
    scale, bias = (ops.constant(_float32(weights[f"{name}.{part}"])) for part in ("weight", "bias"))
    return ops.add(ops.multiply(ops.mvn(rows, _ints(-1), True, epsilon, "INSIDE_SQRT"), scale), bias)


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, np.int32))


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return array.astype(np.float32)
