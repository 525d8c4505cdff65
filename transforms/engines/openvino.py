"""Runs ELECTRA on OpenVINO, for CPUs. Such a worker imports neither torch nor transformers.

Key: B windows, T tokens of the longest window, n windows that run together, W their width, D hidden.

The graph is built here from the checkpoint's tensors, which takes as long as reading a converted file would, so none is
kept. Windows run with others of the same width, a multiple of `STEP`: their numbers can't depend on what else is in the
batch, little is padded, and OpenVINO, which prepares kernels for each new shape (3 to 5 ms), meets few of them.
"""

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.electra import Network
from rtdscan.transforms.engines.openvino_graph import Int8Layers, Linear, build_model, exact_linear, ops, ov
from rtdscan.transforms.engines.quantised import Ranges, input_of, input_sizes
from rtdscan.transforms.errors import EngineError

STEP = 16
"""Widths are multiples of this many tokens: a register of float32, and what attention kernels handle without a rest."""

TOKENS = 1024
"""Tokens that run together at most: what goes from layer to layer then stays in a core's second-level cache (1 MiB
here). Per CPU second int8 ran 5 % more tokens of the bundled model than with 4096, bfloat16 2 %."""

_HINTS = {"float32": ("f32",), "bfloat16": ("bf16",), "int8": ("bf16", "f32")}
"""What runs all that is not a linear layer of int8: attention, norms, activations; the first that this CPU has."""


class OpenVinoEngine:
    """Runs a bundle's network on OpenVINO, in float32, bfloat16 or int8 (its linear layers).

    Calls from several threads wait for each other.
    """

    name = "openvino"

    def __init__(self, bundle: Network, *, precision: str, threads: int, ranges: Ranges | None = None) -> None:
        """Build and compile the graph.

        Args:
            bundle: The model.
            precision: "float32", "bfloat16" or "int8".
            threads: So many groups of windows run at a time, each in one thread: no number depends on it.
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
            linear = Int8Layers(weights, ranges.inputs(shape))
        model = build_model(weights, shape, embedding_layer=bundle.embedding_layer, linear=linear)
        compiled = compile_model(model, precision=precision, threads=threads, streams=threads)
        if precision == "int8":
            mapped = input_sizes(shape)
            names = (name.removesuffix(".weight") for name in weights if name.endswith(".weight"))
            _check_int8(compiled, expected=sum(input_of(name) in mapped for name in names))
        self._requests: list[Any] = [compiled.create_infer_request() for _ in range(threads)]
        self._running = threading.Lock()
        self._process = os.getpid()

    def forward(
        self, ids_BT: NDArray[np.int32], lengths_B: NDArray[np.int32], weights_BT: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the network on a batch; see `Engine.forward`.

        Raises:
            EngineError: It was closed, or loaded before this process was forked.
        """
        if os.getpid() != self._process:  # OpenVINO's threads stayed behind: it would wait for them for ever
            raise EngineError(
                "engine openvino: does not outlive a fork; load the model in the child, or start children by spawn"
            )
        with self._running:
            return self._forward(ids_BT, lengths_B, weights_BT)

    def _forward(
        self, ids_BT: NDArray[np.int32], lengths_B: NDArray[np.int32], weights_BT: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if not self._requests:
            raise EngineError("engine openvino: was closed")
        if len(lengths_B) and lengths_B.max() > self._positions:
            raise ValueError(f"a window of {lengths_B.max()} tokens; the network has {self._positions} positions")
        logits_BT = np.zeros(ids_BT.shape, np.float32)
        pooled_BD = np.zeros((len(ids_BT), self.dims), np.float32)
        widths_B = np.minimum(-(-lengths_B // STEP) * STEP, self._positions)
        groups = (_lay_out(rows_n, width, ids_BT, lengths_B, weights_BT) for width, rows_n in _alike(widths_B))
        for group, logits_nW, hidden_nWD in self._infer(groups):
            kept = min(logits_nW.shape[1], ids_BT.shape[1])
            logits_BT[group.rows_n, :kept] = logits_nW[:, :kept]
            # Not a matrix product: numpy's would start threads of its own.
            pooled_BD[group.rows_n] = np.einsum("nw,nwd->nd", group.weights_nW, hidden_nWD)
        return logits_BT, pooled_BD

    def close(self) -> None:
        """Give back the network's memory."""
        self._requests = []

    def _infer(self, groups: Iterable["_Group"]) -> Iterator[tuple["_Group", Any, Any]]:
        """Each group with its logits and hidden states, in order; both are only good until the next."""
        free, running = list(self._requests), deque[tuple[_Group, Any]]()
        try:
            for group in groups:
                if not free:
                    yield _finished(*running[0])
                    free.append(running.popleft()[1])
                request = free.pop()
                request.start_async([group.ids_nW, group.mask_n11W], share_inputs=True)
                running.append((group, request))
            while running:
                yield _finished(*running[0])
                running.popleft()
        finally:  # where one failed the others are still at work
            for _, request in running:
                with suppress(RuntimeError):
                    request.wait()


@dataclass(frozen=True, slots=True)
class _Group:
    """Windows of one width that run together.

    Attributes:
        rows_n: Their rows in the batch.
        ids_nW: Token ids, 0 past a window's length.
        weights_nW: What each token counts, 0 past a window's length.
        mask_n11W: 0, past a window's length -inf.
    """

    rows_n: NDArray[np.int64]
    ids_nW: NDArray[np.int32]
    weights_nW: NDArray[np.float32]
    mask_n11W: NDArray[np.float32]


def _lay_out(
    rows_n: NDArray[np.int64],
    width: int,
    ids_BT: NDArray[np.int32],
    lengths_B: NDArray[np.int32],
    weights_BT: NDArray[np.float32],
) -> _Group:
    kept = min(width, ids_BT.shape[1])
    there_nW = np.arange(width) < lengths_B[rows_n, None]
    ids_nW, weights_nW = np.zeros(there_nW.shape, np.int32), np.zeros(there_nW.shape, np.float32)
    ids_nW[:, :kept], weights_nW[:, :kept] = ids_BT[rows_n, :kept], weights_BT[rows_n, :kept]
    mask_nW = np.where(there_nW, np.float32(0), np.float32(-np.inf))
    return _Group(rows_n, np.where(there_nW, ids_nW, 0), np.where(there_nW, weights_nW, 0), mask_nW[:, None, None, :])


def _finished(group: _Group, request: Any) -> tuple[_Group, Any, Any]:
    """Wait for a group's numbers."""
    try:
        request.wait()
    except RuntimeError as error:
        if "alloc" in str(error):  # OpenVINO has no type of its own for it
            raise MemoryError(f"{group.ids_nW.size} tokens at once are too many for this machine") from error
        raise
    return group, request.get_output_tensor(0).data, request.get_output_tensor(1).data


def _alike(widths_B: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Rows that run together, with their width."""
    for width in np.unique(widths_B).tolist():
        rows_n = np.flatnonzero(widths_B == width)
        most = max(1, TOKENS // width)
        yield from ((width, rows_n[at : at + most]) for at in range(0, len(rows_n), most))


def compile_model(model: Any, *, precision: str, threads: int, streams: int = 1) -> Any:
    """Prepare a graph for this CPU.

    Args:
        model: The graph.
        precision: "float32", "bfloat16" or "int8".
        threads: Of all requests together.
        streams: Requests that run at a time. Several threads of one request share out its sums, which changes its
            numbers.

    Raises:
        EngineError: OpenVINO would run another precision, or can't run the graph.
    """
    core = ov.Core()
    there = {"f32"} | ({"bf16"} & {name.lower() for name in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")})
    hint = next((hint for hint in _HINTS[precision] if hint in there), None)
    if hint is None:
        raise EngineError(f"engine openvino: was asked for {precision}, which this CPU has no instructions for")
    options = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        # Pinned, the engines of all worker processes would share the first core.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        compiled = core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise EngineError(
            f"engine openvino: OpenVINO {ov.__version__} can't prepare this network in {precision} ({reason}); choose "
            "another precision, or engine torch"
        ) from error
    runs = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if runs != hint:
        raise EngineError(f"engine openvino: was asked for {precision}, but would run {runs} on this CPU")
    return compiled


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
