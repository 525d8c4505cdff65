"""ELECTRA on torch: CUDA where there is one, else the CPU. Does not import transformers.

Key: B windows, T tokens of the longest window, N tokens of all windows, n windows of one length L, D hidden, H heads.

Windows are packed without padding: linear layers see N tokens in a row, attention sees the n windows of each length
together. So no mask is needed, no time goes into padding, and a window's numbers can't depend on the width of its
batch. (With padding and a mask they do: torch's attention kernel sums a row in another order when it is wider.) What is
left is that a matrix product must give a row the same bits however many rows there are; MKL and oneDNN do from 4 rows
on, and `ROWS` sees to that. tests/test_engines.py holds all this to the bit, on the CPU that runs it. On CUDA it has
not been tried.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rtdscan.transforms.electra import ElectraShape, Network
from rtdscan.transforms.errors import EngineError

ROWS = 16
"""Tokens in a row are filled up to a multiple of this: with 1 to 3 rows MKL takes another kernel."""

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}

_Pair = tuple[Tensor, Tensor]
"""Weight and bias."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer of the encoder: matrices in the engine's precision, norms in float32."""

    query_key_value: _Pair
    attended: _Pair
    attended_norm: _Pair
    inner: _Pair
    outer: _Pair
    outer_norm: _Pair


@dataclass(frozen=True, slots=True)
class _Network:
    """All tensors. Word embeddings stay in the file's type (float16 is half the size), float32 once looked up."""

    words: Tensor
    positions: Tensor
    embedding_norm: _Pair
    project: _Pair | None
    layers: tuple[_Layer, ...]
    head: _Pair
    head_out: _Pair


@dataclass(frozen=True, slots=True)
class _Packed:
    """Windows of a batch, sorted by length, their tokens in one row.

    Attributes:
        order_B: Rows of the batch in the order they are packed.
        groups: (first token, n, L) of each run of windows of equal length.
        mask_BT: Which tokens of the sorted batch are there.
        tokens: N.
    """

    order_B: NDArray[np.int64]
    groups: tuple[tuple[int, int, int], ...]
    mask_BT: NDArray[np.bool_]
    tokens: int


class TorchEngine:
    """Runs a bundle's network on torch, in float32 or bfloat16.

    In bfloat16 the matrix products are; residual sums, layer norms and the embeddings are float32, which halves the
    error at no cost in time.
    """

    name = "torch"

    def __init__(self, bundle: Network, *, precision: str, threads: int, device: str | None = None) -> None:
        """Load the weights.

        Args:
            bundle: The model.
            precision: "float32" or "bfloat16".
            threads: Threads on a CPU; torch has one setting for the whole process.
            device: "cpu" or "cuda"; default: cuda where there is one.

        Raises:
            EngineError: Another precision, or a device that is not there.
        """
        if precision not in _TYPES:
            raise EngineError(f"engine torch: can't run {precision}; choose `precision` from {', '.join(_TYPES)}")
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineError("engine torch: there is no CUDA device; choose device cpu")
        torch.set_num_threads(threads)
        self.precision = precision
        self.dims = bundle.config.dims
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._shape = bundle.config
        self._pooled_layer = bundle.embedding_layer % (bundle.config.layers + 1)
        self._network: _Network | None = _build(bundle.arrays(), bundle.config, _TYPES[precision], self.device)

    def forward(
        self, ids_BT: NDArray[np.int32], lengths_B: NDArray[np.int32], weights_BT: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the network on a batch; see `Engine.forward`."""
        if self._network is None:
            raise EngineError("engine torch: was closed")
        if len(lengths_B) and lengths_B.max() > self._shape.positions:
            raise ValueError(f"a window of {lengths_B.max()} tokens; the network has {self._shape.positions} positions")
        packed = _pack(lengths_B, ids_BT.shape[1])
        ids_N, positions_N, weights_N = (
            torch.from_numpy(np.ascontiguousarray(rows_BT[packed.order_B][packed.mask_BT])).to(self.device)
            for rows_BT in (ids_BT, np.broadcast_to(np.arange(ids_BT.shape[1]), ids_BT.shape), weights_BT)
        )
        try:
            with torch.inference_mode():
                logits_N, pooled_BD = self._run(self._network, ids_N, positions_N, weights_N, packed)
                logits_N, pooled_BD = logits_N.cpu(), pooled_BD.cpu()
        except torch.OutOfMemoryError as error:
            raise MemoryError(f"{packed.tokens} tokens at once are too many for {self.device}") from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error):  # torch has no type of its own for it on a CPU
                raise MemoryError(f"{packed.tokens} tokens at once are too many for this machine") from error
            raise
        sorted_BT = np.zeros(ids_BT.shape, np.float32)
        sorted_BT[packed.mask_BT] = logits_N.numpy()
        logits_BT, summed_BD = np.empty_like(sorted_BT), np.empty((len(ids_BT), self.dims), np.float32)
        logits_BT[packed.order_B], summed_BD[packed.order_B] = sorted_BT, pooled_BD.numpy()
        return logits_BT, summed_BD

    def close(self) -> None:
        """Give back the network's memory."""
        self._network = None

    def _run(
        self, network: _Network, ids_N: Tensor, positions_N: Tensor, weights_N: Tensor, packed: _Packed
    ) -> tuple[Tensor, Tensor]:
        shape, kind = self._shape, network.head[0].dtype
        act = _ACTIVATIONS[shape.activation]
        spare = -packed.tokens % ROWS
        ids_N, positions_N = F.pad(ids_N, (0, spare)), F.pad(positions_N, (0, spare))
        hidden_ND = network.words[ids_N].float() + network.positions[positions_N]
        hidden_ND = _norm(hidden_ND, network.embedding_norm, shape)
        if network.project is not None:
            hidden_ND = F.linear(hidden_ND.to(kind), *network.project).float()
        pooled_BD = _pool(hidden_ND, weights_N, packed) if self._pooled_layer == 0 else None
        for number, layer in enumerate(network.layers, 1):
            query_key_value = F.linear(hidden_ND.to(kind), *layer.query_key_value)
            attended_ND = F.linear(_attend(query_key_value, packed, shape.heads), *layer.attended)
            hidden_ND = _norm(hidden_ND + attended_ND, layer.attended_norm, shape)
            inner = act(F.linear(hidden_ND.to(kind), *layer.inner))
            hidden_ND = _norm(hidden_ND + F.linear(inner, *layer.outer), layer.outer_norm, shape)
            if number == self._pooled_layer:
                pooled_BD = _pool(hidden_ND, weights_N, packed)
        head_ND = act(F.linear(hidden_ND.to(kind), *network.head)).float()
        # A sum of products, not a matrix product: that of one column depends on the number of rows.
        logits_N = (head_ND * network.head_out[0]).sum(-1) + network.head_out[1]
        assert pooled_BD is not None
        return logits_N[: packed.tokens], pooled_BD


def _pack(lengths_B: NDArray[np.int32], width: int) -> _Packed:
    order_B = np.argsort(lengths_B, kind="stable")
    sizes, counts = np.unique(lengths_B, return_counts=True)
    firsts = np.cumsum(sizes * counts) - sizes * counts
    groups = tuple(zip(firsts.tolist(), counts.tolist(), sizes.tolist(), strict=True))
    return _Packed(
        order_B=order_B,
        groups=groups,
        mask_BT=np.arange(width) < lengths_B[order_B][:, None],
        tokens=int(lengths_B.sum()),
    )


def _attend(query_key_value: Tensor, packed: _Packed, heads: int) -> Tensor:
    rows, width = query_key_value.shape
    dims = width // 3
    attended_ND = query_key_value.new_zeros(rows, dims)
    for first, count, length in packed.groups:
        end = first + count * length
        split = query_key_value[first:end].view(count, length, 3, heads, dims // heads).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(split[0], split[1], split[2])
        attended_ND[first:end] = out.transpose(1, 2).reshape(-1, dims)
    return attended_ND


def _pool(hidden_ND: Tensor, weights_N: Tensor, packed: _Packed) -> Tensor:
    sums = [hidden_ND.new_zeros(0, hidden_ND.shape[1])]
    for first, count, length in packed.groups:
        end = first + count * length
        hidden = hidden_ND[first:end].view(count, length, -1)
        sums.append(torch.bmm(weights_N[first:end].view(count, 1, length), hidden)[:, 0])
    return torch.cat(sums)


def _norm(hidden: Tensor, pair: _Pair, shape: ElectraShape) -> Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:], *pair, eps=shape.epsilon)


def _build(arrays: dict[str, NDArray[Any]], shape: ElectraShape, kind: torch.dtype, device: torch.device) -> _Network:
    def tensor(name: str, to: torch.dtype = torch.float32) -> Tensor:
        return torch.from_numpy(arrays[name]).to(device=device, dtype=to)

    def matrix(*names: str) -> _Pair:
        """Several linear layers of one input become one."""
        weights = torch.cat([tensor(f"{name}.weight", kind) for name in names])
        return weights, torch.cat([tensor(f"{name}.bias", kind) for name in names])

    def norm(name: str) -> _Pair:
        return tensor(f"{name}.weight"), tensor(f"{name}.bias")

    layers = []
    for number in range(shape.layers):
        name = f"encoder.layer.{number}"
        layers.append(
            _Layer(
                query_key_value=matrix(*(f"{name}.attention.self.{part}" for part in ("query", "key", "value"))),
                attended=matrix(f"{name}.attention.output.dense"),
                attended_norm=norm(f"{name}.attention.output.LayerNorm"),
                inner=matrix(f"{name}.intermediate.dense"),
                outer=matrix(f"{name}.output.dense"),
                outer_norm=norm(f"{name}.output.LayerNorm"),
            )
        )
    return _Network(
        words=torch.from_numpy(arrays["embeddings.word_embeddings.weight"]).to(device),
        # All tokens are of type 0: its row is added here once.
        positions=tensor("embeddings.position_embeddings.weight")
        + tensor("embeddings.token_type_embeddings.weight")[0],
        embedding_norm=norm("embeddings.LayerNorm"),
        project=matrix("embeddings_project") if shape.embedding != shape.dims else None,
        layers=tuple(layers),
        head=matrix("discriminator_predictions.dense"),
        head_out=(
            tensor("discriminator_predictions.dense_prediction.weight")[0],
            tensor("discriminator_predictions.dense_prediction.bias"),
        ),
    )
