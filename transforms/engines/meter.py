"""Watches what goes into the linear layers of a network, in float32 on OpenVINO.

Key: B windows, T tokens of the longest window, C channels of an input.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.bundle import Bundle
from rtdscan.transforms.engines.openvino import watch_inputs
from rtdscan.transforms.engines.quantised import input_sizes


class RangeMeter:
    """An engine whose results are zeros: `ranges` is what it is run for.

    Attributes:
        name, precision, dims: As of any engine.
    """

    name = "openvino"
    precision = "float32"

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        """Build and compile the graph."""
        self.dims = bundle.config.dims
        sizes = input_sizes(bundle.config)
        self._request: Any = watch_inputs(bundle, threads=threads)
        self._tokens = 0
        self._low = {name: np.full(size, np.inf, np.float32) for name, size in sizes.items()}
        self._high = {name: np.full(size, -np.inf, np.float32) for name, size in sizes.items()}
        self._sum = {name: np.zeros(size, np.float64) for name, size in sizes.items()}

    def forward(
        self, ids_BT: NDArray[np.int32], lengths_B: NDArray[np.int32], weights_BT: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Watch a batch; special tokens too, padding not."""
        there_BT = np.arange(ids_BT.shape[1]) < lengths_B[:, None]
        mask_B11T = np.where(there_BT, np.float32(0), np.float32(-np.inf))[:, None, None, :]
        results = self._request.infer([np.where(there_BT, ids_BT, 0), mask_B11T])
        self._tokens += int(there_BT.sum())
        for at, name in enumerate(self._sum):
            seen_NC = results[at][there_BT]
            self._low[name] = np.minimum(self._low[name], seen_NC.min(0))
            self._high[name] = np.maximum(self._high[name], seen_NC.max(0))
            self._sum[name] += seen_NC.sum(0, dtype=np.float64)
        return np.zeros(ids_BT.shape, np.float32), np.zeros((len(ids_BT), self.dims), np.float32)

    def ranges(self) -> dict[str, NDArray[np.float32]]:
        """[3, C] by input: lowest, highest, mean."""
        return {
            name: np.stack([self._low[name], self._high[name], (self._sum[name] / self._tokens).astype(np.float32)])
            for name in self._sum
        }

    def close(self) -> None:
        """Give back the network's memory."""
        self._request = None
