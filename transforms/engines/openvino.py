"""ELECTRA on OpenVINO, for CPUs. Such a worker imports neither torch nor transformers.

Key: B windows, T tokens of the longest window, n windows that run together, W their width, D hidden, H heads.

The graph is built here from the checkpoint's tensors, which takes as long as reading a converted file would, so none is
kept. Windows run with others of the same width, a multiple of `STEP`: their numbers can't depend on what else is in the
batch, little is padded, and OpenVINO, which prepares kernels for each new shape (3 to 5 ms), meets few of them.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.electra import ElectraShape, Network
from rtdscan.transforms.engines.quantised import COPIES, InputMap, Ranges, input_of, input_sizes, map_input, quantise
from rtdscan.transforms.errors import EngineError

# Importing openvino tells a web service that it was imported, unless this package is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

STEP = 16
"""Widths are multiples of this many tokens: a register of float32, and what attention kernels handle without a rest."""

TOKENS = 1024
"""Tokens that run together at most: what goes from layer to layer then stays in a core's second-level cache (1 MiB
here). Per CPU second int8 ran 5 % more tokens of the bundled model than with 4096, bfloat16 2 %."""

_HINTS = {"float32": ("f32",), "bfloat16": ("bf16",), "int8": ("bf16", "f32")}
"""What runs all that is not a linear layer of int8: attention, norms, activations; the first that this CPU has."""

Linear = Callable[[Any, str], Any]
"""Rows and a linear layer's name -> its output."""

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": partial(ops.gelu, approximation_mode="erf"),
    "gelu_new": partial(ops.gelu, approximation_mode="tanh"),
    "gelu_pytorch_tanh": partial(ops.gelu, approximation_mode="tanh"),
    "relu": ops.relu,
}


class OpenVinoEngine:
    """Runs a bundle's network on OpenVINO, in float32, bfloat16 or int8 (its linear layers)."""

    name = "openvino"

    def __init__(self, bundle: Network, *, precision: str, threads: int, ranges: Ranges | None = None) -> None:
        """Build and compile the graph.

        Args:
            bundle: The model.
            precision: "float32", "bfloat16" or "int8".
            threads: Threads of this engine.
            ranges: For int8.

        Raises:
            EngineError: Another precision, or one that OpenVINO would replace by another on this CPU.
        """
        if precision not in _HINTS:
            raise EngineError(f"engine openvino: can't run {precision}; choose `precision` from {', '.join(_HINTS)}")
        self.precision = precision
        self.dims = bundle.config.dims
        self._positions = bundle.config.positions
        shape, weights = bundle.config, bundle.arrays()
        linear: Linear = partial(exact_linear, weights)
        if precision == "int8":
            if ranges is None:
                raise EngineError("engine openvino: int8 needs ranges of activations, but none were given")
            linear = _Int8Layers(weights, ranges.inputs(shape))
        model = build_model(weights, shape, embedding_layer=bundle.embedding_layer, linear=linear)
        compiled = compile_model(model, precision=precision, threads=threads)
        if precision == "int8":
            mapped = input_sizes(shape)
            names = (name.removesuffix(".weight") for name in weights if name.endswith(".weight"))
            _check_int8(compiled, expected=sum(input_of(name) in mapped for name in names))
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
        for width, rows_n in _alike(widths_B):
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


def _alike(widths_B: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Rows that run together, with their width."""
    for width in np.unique(widths_B).tolist():
        rows_n = np.flatnonzero(widths_B == width)
        most = max(1, TOKENS // width)
        yield from ((width, rows_n[at : at + most]) for at in range(0, len(rows_n), most))


def compile_model(model: Any, *, precision: str, threads: int) -> Any:
    """Prepare a graph for this CPU.

    Raises:
        EngineError: OpenVINO would run another precision.
    """
    core = ov.Core()
    there = {"f32"} | ({"bf16"} & {name.lower() for name in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")})
    hint = next((hint for hint in _HINTS[precision] if hint in there), None)
    if hint is None:
        raise EngineError(f"engine openvino: was asked for {precision}, which this CPU has no instructions for")
    options = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Pinned, the engines of all worker processes would share the first core.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core.compile_model(model, "CPU", options)
    runs = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if runs != hint:
        raise EngineError(f"engine openvino: was asked for {precision}, but would run {runs} on this CPU")
    return compiled


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


def watch_inputs(bundle: Network, *, threads: int) -> Any:
    """The network in float32, with the inputs of the int8 layers as results, in the order of `input_sizes`.

    Returns:
        An openvino.InferRequest: ids_BT and mask_B11T to arrays [B, T, C].
    """
    weights, sizes = bundle.arrays(), input_sizes(bundle.config)
    inputs: dict[str, Any] = {}

    def linear(rows: Any, name: str) -> Any:
        inputs.setdefault(input_of(name), rows)
        return exact_linear(weights, rows, name)

    model = build_model(weights, bundle.config, embedding_layer=-1, linear=linear)
    watching = ov.Model([ops.result(inputs[name]) for name in sizes], model.get_parameters(), "inputs")
    return compile_model(watching, precision="float32", threads=threads).create_infer_request()


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
    split, swap = _ints(0, 0, shape.heads, shape.dims // shape.heads), _ints(0, 2, 1, 3)
    query, key, value = (
        ops.transpose(ops.reshape(linear(hidden_BTD, f"{name}.{part}"), split, True), swap)
        for part in ("query", "key", "value")
    )
    attended = ops.scaled_dot_product_attention(query, key, value, mask_B11T)
    return ops.reshape(ops.transpose(attended, swap), _ints(0, 0, shape.dims), True)


def exact_linear(weights: dict[str, NDArray[Any]], rows: Any, name: str) -> Any:
    """A linear layer as the checkpoint has it."""
    matrix, bias = (ops.constant(_float32(weights[f"{name}.{part}"])) for part in ("weight", "bias"))
    return ops.add(ops.matmul(rows, matrix, False, True), bias)


class _Int8Layers:
    """Makes linear layers of int8, where their input has a range."""

    def __init__(self, weights: dict[str, NDArray[Any]], ranges: dict[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self._mapped: dict[str, Any] = {}
        self._maps: dict[str, InputMap] = {}
        for name, range_3C in ranges.items():
            readers = [n for n in weights if n.endswith(".weight") and input_of(n.removesuffix(".weight")) == name]
            weight_OC = np.concatenate([_float32(weights[reader]) for reader in readers])
            inner = name.endswith(".output.dense") and ".attention." not in name
            self._maps[name] = map_input(range_3C, weight_OC, copies=COPIES if inner else 0)

    def __call__(self, rows: Any, name: str) -> Any:
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
            scaled = ops.multiply(rows, ops.constant((1 / mapped.half_C)[channel_J]))
            moved = ops.add(scaled, ops.constant((-mapped.centre_C / mapped.half_C)[channel_J]))
            low, high = ops.constant(np.float32(-1)), ops.constant(np.float32(1))
            self._mapped[name] = ops.fake_quantize(moved, low, high, low, high, 256)
        return self._mapped[name]


def _check_int8(compiled: Any, *, expected: int) -> None:
    """See that OpenVINO does what it was asked for: it says nothing where it does not."""
    infos = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    kinds = [i["runtimePrecision"].astype(str) for i in infos if i["layerType"].astype(str) == "FullyConnected"]
    if kinds.count("u8") != expected:
        raise EngineError(
            f"engine openvino: was asked for int8, but would run {kinds.count('u8')} of {expected} layers in it here"
        )
    if any(info["layerType"].astype(str) == "FakeQuantize" for info in infos):
        # Seen in 2026.4 with a linear layer before a map: the map's scale is merged into it, and ranges are wrong.
        raise EngineError(
            "engine openvino: int8 would be wrong with this version of OpenVINO; choose another precision"
        )


def _norm(weights: dict[str, NDArray[Any]], epsilon: float, rows: Any, name: str) -> Any:
    scale, bias = (ops.constant(_float32(weights[f"{name}.{part}"])) for part in ("weight", "bias"))
    return ops.add(ops.multiply(ops.mvn(rows, _ints(-1), True, epsilon, "INSIDE_SQRT"), scale), bias)


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, np.int32))


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return array.astype(np.float32)
