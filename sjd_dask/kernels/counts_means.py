"""Expected counts of a negative binomial model with known dispersions, as DESeq2 1.38 fits them before dispersions."""

from __future__ import annotations

import math

import numpy as np
import scipy.optimize
import scipy.special as sc
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# DESeq2's constants: smallest expected count, ridge on log2 coefficients, tolerance on the deviance, most rounds, the
# largest coefficient.
_MINIMUM = 0.5
_RIDGE = 1e-6
_TOLERANCE = 1e-8
_ROUNDS = 100
_LARGE = 30.0


def fitted_means(y: FloatArray, size_factors: FloatArray, x: FloatArray, dispersions: FloatArray) -> FloatArray:
    """Expected counts, at least 0.5.

    Parameters
    ----------
    y
        (g, n) counts.
    size_factors
        (n,) above 0.
    x
        (n, k) design matrix of full rank.
    dispersions
        (g,) used where the design is not a set of groups.

    Returns
    -------
    ndarray, shape (g, n)

    Notes
    -----
    A design whose rows take as many different values as it has columns is a set of groups, and the means of the
    normalised counts are then the fit. Else the log-linear model is fitted by iteratively reweighted least squares
    (fitNbinomGLMs); features that don't settle are fitted by L-BFGS-B.
    """
    normal = y / size_factors
    if len(np.unique(x, axis=0)) == x.shape[1]:
        q, _ = np.linalg.qr(x)
        mu = np.stack([(row @ q) @ q.T for row in normal]) * size_factors
    else:
        mu = np.stack([
            _log_linear(y[g], normal[g], size_factors, x, float(dispersions[g])) for g in range(len(y))
        ])  # fmt: skip
    return np.maximum(mu, _MINIMUM)


def _log_linear(y: FloatArray, normal: FloatArray, size_factors: FloatArray, x: FloatArray, alpha: float) -> FloatArray:
    """Expected counts of one feature by a log-linear model, not bounded below."""
    n, k = x.shape
    q, r = np.linalg.qr(x)
    start = np.linalg.solve(r, q.T @ np.log(normal + 0.1))
    beta = start
    ridge = np.sqrt(_RIDGE) / math.log(2) * np.eye(k)
    mu = np.maximum(size_factors * np.exp(x @ beta), _MINIMUM)
    before = 0.0
    for t in range(_ROUNDS):
        root = np.sqrt(mu / (1 + alpha * mu))
        z = np.log(mu / size_factors) + (y - mu) / mu
        q, r = np.linalg.qr(np.vstack([root[:, None] * x, ridge]))
        beta = np.linalg.solve(r, q[:n].T @ (root * z))
        if not np.all(np.abs(beta) <= _LARGE):
            break
        mu = np.maximum(size_factors * np.exp(x @ beta), _MINIMUM)
        deviance = -2 * _log_likelihood(y, mu, alpha)
        change = abs(deviance - before) / (abs(deviance) + 0.1)
        if math.isnan(change):
            break
        if t > 0 and change < _TOLERANCE:
            fitted: FloatArray = size_factors * np.exp(x @ beta)
            return fitted
        before = deviance
    first = beta if np.all(np.abs(beta / math.log(2)) < _LARGE) else start
    return _by_optimiser(y, size_factors, x, alpha, first)


def _by_optimiser(y: FloatArray, size_factors: FloatArray, x: FloatArray, alpha: float, beta: FloatArray) -> FloatArray:
    def cost(p: FloatArray) -> float:
        with np.errstate(all="ignore"):
            value = -_log_likelihood(y, size_factors * np.exp2(x @ p), alpha) + 0.5 * _RIDGE * float(p @ p)
        return value if math.isfinite(value) else 1e300

    first = np.clip(beta / math.log(2), -_LARGE, _LARGE)
    found = scipy.optimize.minimize(cost, first, method="L-BFGS-B", bounds=[(-_LARGE, _LARGE)] * len(first))
    mu: FloatArray = size_factors * np.exp2(x @ found.x)
    return mu


def _log_likelihood(y: FloatArray, mu: FloatArray, alpha: float) -> float:
    r = 1 / alpha
    terms = (
        sc.gammaln(y + r) - sc.gammaln(r) - sc.gammaln(y + 1) - r * np.log1p(mu * alpha) + sc.xlogy(y, mu / (mu + r))
    )
    return float(terms.sum())
