"""Scores of classes for one sample after another: what a frozen classifier says of a row never hangs on its neighbours.

Every loop runs over the rows of a C-contiguous matrix and sums in the order of the columns, with no BLAS and no
reassociation, so a row has the same bits alone, in a batch and in any order.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@njit(nogil=True, cache=True)
def standardised(values: Floats, fill: Floats, mean: Floats, scale: Floats) -> Floats:
    """(x - mean) / scale with missing values filled, (n, p).

    Parameters
    ----------
    values : ndarray (n, p)
        Anything not finite is missing.
    fill, mean, scale : ndarray (p,)
    """
    n, p = values.shape
    out = np.empty((n, p))
    for i in range(n):
        for j in range(p):
            x = values[i, j]
            if not math.isfinite(x):
                x = fill[j]
            out[i, j] = (x - mean[j]) / scale[j]
    return out


@njit(nogil=True, cache=True)
def linear_scores(rows: Floats, weights: Floats, intercepts: Floats) -> Floats:
    """Sum of weights times values, and the intercept, (n, k); `weights` is (k, p)."""
    n, p = rows.shape
    k = intercepts.size
    out = np.empty((n, k))
    for i in range(n):
        for c in range(k):
            total = 0.0
            for j in range(p):
                total += rows[i, j] * weights[c, j]
            out[i, c] = total + intercepts[c]
    return out


@njit(nogil=True, cache=True)
def centroid_scores(rows: Floats, centroids: Floats, spread: Floats, log_prior: Floats) -> Floats:
    """Discriminant scores of nearest shrunken centroids, (n, k).

    log prior - 1/2 sum((x - centroid)^2 / spread^2): half of -delta in eq. (3) of Tibshirani et al. 2002, so that the
    softmax is their class probability.
    """
    n, p = rows.shape
    k = log_prior.size
    out = np.empty((n, k))
    for i in range(n):
        for c in range(k):
            total = 0.0
            for j in range(p):
                far = (rows[i, j] - centroids[c, j]) / spread[j]
                total += far * far
            out[i, c] = log_prior[c] - 0.5 * total
    return out


@njit(nogil=True, cache=True)
def tree_sums(
    rows: Floats, roots: Ints, feature: Ints, threshold: Floats, left: Ints, right: Ints, value: Floats
) -> Floats:
    """Sum over trees of the value of the leaf that a row falls in, (n, k).

    Parameters
    ----------
    rows : ndarray (n, p)
        Compared as float32, as scikit-learn's trees do.
    roots : ndarray of int64 (trees,)
        Node of each tree's root; nodes of all trees are in one list.
    feature, left, right : ndarray of int64 (nodes,)
        `left` is negative at a leaf.
    threshold : ndarray (nodes,)
        A row goes left if its value is not above it.
    value : ndarray (nodes, k)
    """
    n = rows.shape[0]
    k = value.shape[1]
    out = np.zeros((n, k))
    for i in range(n):
        for root in roots:
            node = root
            while left[node] >= 0:
                node = left[node] if np.float32(rows[i, feature[node]]) <= threshold[node] else right[node]
            for c in range(k):
                out[i, c] += value[node, c]
    return out


@njit(nogil=True, cache=True)
def top_class(probabilities: Floats) -> Ints:
    """Position of the largest of each row, of equals the first, (n,); -1 for a row with a missing value."""
    n, k = probabilities.shape
    out = np.zeros(n, dtype=np.int64)
    for i in range(n):
        for c in range(k):
            if math.isnan(probabilities[i, c]):
                out[i] = -1
                break
            if probabilities[i, c] > probabilities[i, out[i]]:
                out[i] = c
    return out


@njit(nogil=True, cache=True)
def missing_per_row(values: Floats, start: int, stop: int) -> Ints:
    """How many of the columns start..stop-1 are not finite, (n,)."""
    out = np.zeros(values.shape[0], dtype=np.int64)
    for i in range(values.shape[0]):
        for j in range(start, stop):
            out[i] += not math.isfinite(values[i, j])
    return out
