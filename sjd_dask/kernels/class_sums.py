"""Weighted sums of features by class, which add up over samples: for an F-test that never needs the whole matrix."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@njit(nogil=True, cache=True)
def add_class_sums(values: Floats, classes: NDArray[np.int64], weights: Floats, pilot: Floats, sums: Floats) -> None:
    """Add samples to sums by class: weight, weight x, weight x^2 and a count, of each feature.

    Parameters
    ----------
    values : ndarray (n, p)
        Anything not finite is left out.
    classes : ndarray of int64 (n,)
    weights : ndarray (n,)
    pilot : ndarray (p,)
        About the mean of each feature; x is the difference from it, which keeps the squares small.
    sums : ndarray (4, k, p)
        Changed in place. Each feature is summed by itself and in the order of the samples.
    """
    n, p = values.shape
    for i in range(n):
        c = classes[i]
        w = weights[i]
        for j in range(p):
            x = values[i, j] - pilot[j]
            if math.isfinite(x):
                sums[0, c, j] += w
                sums[1, c, j] += w * x
                sums[2, c, j] += w * x * x
                sums[3, c, j] += 1.0
