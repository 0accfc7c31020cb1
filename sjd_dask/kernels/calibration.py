"""Calibrated probabilities from scores, row by row.

Each row is worked out alone in a fixed order of operations, so a sample has the same probabilities to the last bit
alone, in any batch and in any layout of memory.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@numba.njit(cache=True, nogil=True)
def softmax_rows(scores: FloatArray, inverse_temperature: float) -> FloatArray:
    """exp(b s_k) / sum_j exp(b s_j) in each row, (n, k); NaN in a row makes it NaN."""
    n, k = scores.shape
    out = np.empty((n, k))
    for i in range(n):
        top = scores[i, 0]
        for j in range(1, k):
            top = max(top, scores[i, j])
        total = 0.0
        for j in range(k):
            out[i, j] = math.exp(inverse_temperature * (scores[i, j] - top))
            total += out[i, j]
        for j in range(k):
            out[i, j] /= total
    return out


@numba.njit(cache=True, nogil=True)
def log_rows(probabilities: FloatArray, added: float) -> FloatArray:
    """log(p + added), element by element, (n, k)."""
    n, k = probabilities.shape
    out = np.empty((n, k))
    for i in range(n):
        for j in range(k):
            out[i, j] = math.log(probabilities[i, j] + added)
    return out


@numba.njit(cache=True, nogil=True)
def log_odds_rows(logits: FloatArray) -> FloatArray:
    """Log-odds of each class against the rest: s_k - log(sum over others of exp(s_j)), (n, k)."""
    n, k = logits.shape
    out = np.empty((n, k))
    for i in range(n):
        for j in range(k):
            top = -np.inf
            for other in range(k):
                if other != j:
                    top = max(top, logits[i, other])
            total = 0.0
            for other in range(k):
                if other != j:
                    total += math.exp(logits[i, other] - top)
            out[i, j] = logits[i, j] - top - math.log(total)
    return out


@numba.njit(cache=True, nogil=True)
def sigmoid_columns(
    scores: FloatArray, slope: FloatArray, intercept: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """1 / (1 + exp(a_c s_c + b_c)) of each column (Platt's form), the score held within its limits, (n, c)."""
    n, c = scores.shape
    out = np.empty((n, c))
    for i in range(n):
        for j in range(c):
            z = slope[j] * min(max(scores[i, j], low[j]), high[j]) + intercept[j]
            # The form that cannot overflow on either side.
            if z >= 0:
                e = math.exp(-z)
                out[i, j] = e / (1.0 + e)
            else:
                out[i, j] = 1.0 / (1.0 + math.exp(z))
    return out


@numba.njit(cache=True, nogil=True)
def isotonic_columns(scores: FloatArray, x: FloatArray, y: FloatArray, starts: NDArray[np.int64]) -> FloatArray:
    """Straight lines between the knots of each column, flat outside them; NaN stays NaN, (n, c).

    Column j has the knots ``x[starts[j]:starts[j + 1]]``, ascending and distinct, with the values `y` there.
    """
    n, c = scores.shape
    out = np.empty((n, c))
    for i in range(n):
        for j in range(c):
            s = scores[i, j]
            low, high = starts[j], starts[j + 1] - 1
            if math.isnan(s):
                out[i, j] = s
            elif s <= x[low]:
                out[i, j] = y[low]
            elif s >= x[high]:
                out[i, j] = y[high]
            else:
                while high - low > 1:
                    middle = (low + high) // 2
                    if x[middle] <= s:
                        low = middle
                    else:
                        high = middle
                out[i, j] = y[low] + (y[high] - y[low]) * ((s - x[low]) / (x[high] - x[low]))
    return out


@numba.njit(cache=True, nogil=True)
def one_against_rest(columns: FloatArray, n_classes: int) -> FloatArray:
    """Probabilities that sum to 1 from one per class, or for two classes from that of the second alone, (n, k)."""
    n = columns.shape[0]
    out = np.empty((n, n_classes))
    for i in range(n):
        if n_classes == 2:
            out[i, 1] = columns[i, 0]
            out[i, 0] = 1.0 - columns[i, 0]
            continue
        total = 0.0
        for j in range(n_classes):
            total += columns[i, j]
        for j in range(n_classes):
            # Where every class is ruled out nothing is known.
            out[i, j] = columns[i, j] / total if total != 0 else 1.0 / n_classes
    return out
