"""Gaussian mixtures with diagonal covariances, from groups to groups."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]

# As scikit-learn's GaussianMixture has them.
MAX_ROUNDS = 100
TOLERANCE = 1e-3
# Added to each variance, in shares of the largest variance of a feature: a group of equal samples keeps a width.
LEAST_VARIANCE = 1e-3


@numba.njit(cache=True, nogil=True)
def mixture_groups(values: Floats, labels: Labels, k: int) -> Labels:
    """Most likely component of each sample, of a Gaussian mixture fitted from groups by EM.

    Parameters
    ----------
    values : ndarray (m, p)
    labels : ndarray of int8 (m,)
        Groups 0..k-1 that the fit starts from. They are given back as they are where one of them is empty.
    k : int

    Returns
    -------
    ndarray of int8 (m,)

    Notes
    -----
    EM of Dempster, Laird and Rubin (1977) until the mean log likelihood of a sample changes by less than 0.001, step
    by step as scikit-learn's ``GaussianMixture(covariance_type="diag", reg_covar=..., weights_init=..., means_init=...,
    precisions_init=...)`` takes it.
    """
    m, p = values.shape
    across = np.empty((p, m))
    for i in range(m):
        for f in range(p):
            across[f, i] = values[i, f]
    share = np.zeros((k, m))
    for i in range(m):
        share[labels[i], i] = 1.0
    weights, means, variances = np.empty(k), np.empty((k, p)), np.empty((k, p))
    for c in range(k):
        count = 0.0
        for i in range(m):
            count += share[c, i]
        if count == 0.0:
            return labels
    least = LEAST_VARIANCE * _largest_variance(across)
    _maximise(across, share, weights, means, variances, least, 0.0)
    before = -np.inf
    tiny = 10.0 * np.finfo(np.float64).eps
    for _ in range(MAX_ROUNDS):
        likelihood: float = _expect(across, share, weights, means, variances)
        _maximise(across, share, weights, means, variances, least, tiny)
        if abs(likelihood - before) < TOLERANCE:
            break
        before = likelihood
    _expect(across, share, weights, means, variances)
    out = np.empty(m, dtype=np.int8)
    for i in range(m):
        best = 0
        for c in range(1, k):
            if share[c, i] > share[best, i]:
                best = c
        out[i] = best
    return out


@numba.njit(cache=True, nogil=True)
def _largest_variance(across: Floats) -> float:
    largest = 0.0
    for f in range(across.shape[0]):
        largest = max(largest, across[f].var())
    return largest


@numba.njit(cache=True, nogil=True)
def _expect(across: Floats, share: Floats, weights: Floats, means: Floats, variances: Floats) -> float:
    """Fill `share` with the probability of each component for each sample; the mean log likelihood."""
    p, m = across.shape
    k = share.shape[0]
    for c in range(k):
        constant = np.log(weights[c]) - 0.5 * p * np.log(2.0 * np.pi)
        for f in range(p):
            constant -= 0.5 * np.log(variances[c, f])
        for i in range(share.shape[1]):
            share[c, i] = constant
        for f in range(p):
            middle, width = means[c, f], 0.5 / variances[c, f]
            for i in range(share.shape[1]):
                away = across[f, i] - middle
                share[c, i] -= away * away * width
    total = 0.0
    for i in range(m):
        most = share[0, i]
        for c in range(1, k):
            most = max(most, share[c, i])
        norm = 0.0
        for c in range(k):
            share[c, i] = np.exp(share[c, i] - most)
            norm += share[c, i]
        for c in range(k):
            share[c, i] /= norm
        total += most + np.log(norm)
    return float(total / m)


@numba.njit(cache=True, nogil=True)
def _maximise(
    across: Floats, share: Floats, weights: Floats, means: Floats, variances: Floats, least: float, tiny: float
) -> None:
    """Weights, means and variances of the components."""
    p, m = across.shape
    k = share.shape[0]
    for c in range(k):
        weights[c] = tiny
        for i in range(m):
            weights[c] += share[c, i]
        for f in range(p):
            total = 0.0
            for i in range(m):
                total += share[c, i] * across[f, i]
            means[c, f] = total / weights[c]
            # Around the mean, not as a difference of squares.
            total = 0.0
            for i in range(m):
                away = across[f, i] - means[c, f]
                total += share[c, i] * away * away
            variances[c, f] = total / weights[c] + least
    whole = weights.sum()
    for c in range(k):
        weights[c] /= whole
