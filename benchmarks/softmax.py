"""A softmax over candidates and "none of them", fitted."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

RIDGE = 0.0005
"""Penalty on squared coefficients, per case."""


def softmax(features: Sequence[NDArray[np.float64]], right: Sequence[int]) -> NDArray[np.float64]:
    """Coefficients and the score of "none", by maximum likelihood with a small ridge.

    Args:
        features: Of each case, candidates by features.
        right: Which candidate of each case is the right one; -1: none.
    """
    wide = max(one.shape[1] for one in features if len(one))
    x = [torch.tensor(one, dtype=torch.float64).reshape(-1, wide) for one in features]
    weights = torch.zeros(wide + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        total = RIDGE * weights.square().sum()
        for one, at in zip(x, right, strict=True):
            scores = torch.cat([one @ weights[:-1], weights[-1:]])
            total = total - torch.log_softmax(scores, 0)[at] / len(x)
        total.backward()
        return total

    optimiser.step(loss)
    return weights.detach().numpy()
