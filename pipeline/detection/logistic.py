"""Ridge logistic regression around coefficients that there were before.

Minimises  sum_n log(1 + exp(-y_n z_n))  +  ridge / 2 * |s (b - b0)|^2,   z = X b + a,   y = +-1

where s are the standard deviations of the features: a coefficient is kept near its prior as measured in what it does to
the logit, whatever the feature's unit. The intercept a is free, since it says little but the share of errors.
Solved by Newton's method (iteratively reweighted least squares), halving a step that does not descend.

Shapes: N words, F features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.readout import sigmoid

Floats = NDArray[np.float64]

STEPS = 100
TOLERANCE = 1e-8


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients for features as they are (no mean taken off, no division) and the intercept."""

    coefficient_F: Floats
    intercept: float

    def logit(self, feature_NF: NDArray[np.floating]) -> Floats:
        """z of each row."""
        z_N: Floats = feature_NF @ self.coefficient_F + self.intercept
        return z_N


def fit(
    feature_NF: NDArray[np.floating],
    wrong_N: NDArray[np.bool_],
    *,
    prior_F: Floats | None = None,
    ridge: float = 0.0,
    least_scale: float = 0.0,
) -> Fit:
    """Fit a logistic regression.

    Args:
        feature_NF: Features in their own units.
        wrong_N: Labels; both kinds must be there.
        prior_F: Coefficients to stay near to; default: zero.
        ridge: How strongly, see above.
        least_scale: Deviations s below this count as this: a rare yes-or-no feature, seen a few times, would else get
            any coefficient at hardly a price.

    Raises:
        ValueError: All labels are the same.
    """
    if not wrong_N.any() or wrong_N.all():
        raise ValueError("a logistic regression needs rows of both kinds")
    mean_F = feature_NF.mean(axis=0, dtype=np.float64)
    scale_F = feature_NF.std(axis=0, dtype=np.float64)
    # A feature that is the same in all rows can tell nothing: it keeps its prior (its column is zero, ridge > 0).
    scale_F = np.where(scale_F > 1e-9 * (1 + np.abs(mean_F)), np.maximum(scale_F, least_scale), 1.0)
    x_NF = np.empty((len(feature_NF), feature_NF.shape[1] + 1))
    x_NF[:, :-1] = (feature_NF - mean_F) / scale_F
    x_NF[:, -1] = 1.0
    prior = np.append(np.zeros(len(mean_F)) if prior_F is None else prior_F * scale_F, 0.0)
    penalty = np.append(np.full(len(mean_F), max(ridge, 1e-9)), 0.0)
    share = float(wrong_N.mean())
    start = prior.copy()
    start[-1] = np.log(share / (1 - share))
    b = _minimise(x_NF, wrong_N, prior=prior, penalty=penalty, start=start)
    coefficient_F = b[:-1] / scale_F
    return Fit(coefficient_F, float(b[-1] - mean_F @ coefficient_F))


def _minimise(x_NF: Floats, wrong_N: NDArray[np.bool_], *, prior: Floats, penalty: Floats, start: Floats) -> Floats:
    sign_N = np.where(wrong_N, 1.0, -1.0)

    def loss(b: Floats) -> float:
        return float(np.logaddexp(0.0, -sign_N * (x_NF @ b)).sum() + 0.5 * penalty @ (b - prior) ** 2)

    b, now = start, loss(start)
    for _ in range(STEPS):
        p_N = sigmoid(x_NF @ b)
        gradient = x_NF.T @ (p_N - wrong_N) + penalty * (b - prior)
        curvature = (x_NF * (p_N * (1 - p_N))[:, None]).T @ x_NF + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (then := loss(b - size * step)) > now and size > 1e-6:
            size /= 2
        if then > now:
            return b
        b, fallen, now = b - size * step, now - then, then
        if fallen <= TOLERANCE * (1 + abs(now)):
            return b
    return b
