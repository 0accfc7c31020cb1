"""Machine code of `array_weights`: features in rows, one scoring step or one term of a sum each."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sjd_dask.kernels.linear_sums import Floats
from sjd_dask.kernels.reml import factor, solve_factored

# Features whose residual variance is below this say nothing.
SMALLEST_VARIANCE = 1e-15


@numba.njit(nogil=True, cache=True)
def _least_squares(
    y: Floats,
    w: Floats,
    q: Floats,
    gram: Floats,
    lower: Floats,
    kept: NDArray[np.bool_],
    theta: Floats,
    rest: Floats,
    free: Floats,
) -> tuple[float, int]:
    """Weighted fit of one feature on the cells of weight above zero: residuals and 1 - leverage of each sample.

    Returns the residual sum of squares and the rank; `lower` holds the Cholesky factor of q' W q.
    """
    n, p = q.shape
    gram[:] = 0.0
    for i in range(n):
        if w[i] > 0.0:
            for j in range(p):
                a = w[i] * q[i, j]
                for k in range(j + 1):
                    gram[j, k] += a * q[i, k]
    rank = factor(gram, lower, kept)
    for i in range(n):
        rest[i] = y[i] if w[i] > 0.0 else 0.0
    # Twice: the second round takes out the rounding that a large mean left in the residuals.
    for _ in range(2):
        theta[:] = 0.0
        for i in range(n):
            if w[i] > 0.0:
                a = w[i] * rest[i]
                for j in range(p):
                    theta[j] += q[i, j] * a
        solve_factored(lower, kept, theta)
        for i in range(n):
            if w[i] > 0.0:
                for j in range(p):
                    rest[i] -= q[i, j] * theta[j]
    squares = 0.0
    for i in range(n):
        free[i] = 0.0
        if w[i] > 0.0:
            squares += w[i] * rest[i] * rest[i]
            _forward(lower, kept, q[i], theta)
            length = 0.0
            for j in range(p):
                length += theta[j] * theta[j]
            free[i] = 1.0 - w[i] * length
    return squares, rank


@numba.njit(nogil=True, cache=True)
def _forward(lower: Floats, kept: NDArray[np.bool_], vector: Floats, out: Floats) -> None:
    """out = L^-1 vector; zero at the columns left out."""
    for j in range(vector.size):
        out[j] = 0.0
        if kept[j]:
            value = vector[j]
            for k in range(j):
                value -= lower[j, k] * out[k] if kept[k] else 0.0
            out[j] = value / lower[j, j]


@numba.njit(nogil=True, cache=True)
def gene_by_gene(values: Floats, weights: Floats, q: Floats, log_weights: Floats, information: Floats) -> None:
    """One step a feature, in their order: `log_weights` (n,) and `information` (n, n) are changed in place."""
    n, p = q.shape
    gram, lower = np.zeros((p, p)), np.zeros((p, p))
    kept = np.ones(p, np.bool_)
    theta = np.empty(p)
    rest, free, w, z = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    work = np.empty((5, n))
    for f in range(values.shape[0]):
        y = values[f]
        seen = 0
        for i in range(n):
            w[i] = 0.0
            if np.isfinite(y[i]) and (weights.shape[0] == 0 or weights[f, i] > 0.0):
                w[i] = np.exp(log_weights[i]) * (1.0 if weights.shape[0] == 0 else weights[f, i])
                seen += 1
        if seen <= 2:
            continue
        squares, rank = _least_squares(y, w, q, gram, lower, kept, theta, rest, free)
        if seen - rank < (2 if seen < n else 1):
            continue
        variance = squares / (seen - rank)
        if not variance >= SMALLEST_VARIANCE:
            continue
        total = 0.0
        mean = 0.0
        for i in range(n):
            total += free[i]
            z[i] = w[i] * rest[i] * rest[i] / variance - free[i]
            mean += z[i]
        mean /= n
        for i in range(n):
            information[i, i] += free[i]
            share = free[i] / total
            for k in range(n):
                information[i, k] -= share * free[k]
            z[i] -= mean
        _descend(information, z, work)
        for i in range(n):
            log_weights[i] -= z[i]


@numba.njit(nogil=True, cache=True)
def _descend(matrix: Floats, z: Floats, work: Floats) -> None:
    """z <- matrix^-1 z for z of sum zero, by conjugate gradients: the matrix is near its diagonal off the ones."""
    n = z.size
    x, r, s, d, q = work[0], work[1], work[2], work[3], work[4]
    x[:] = 0.0
    r[:] = z
    size = 0.0
    for i in range(n):
        size += z[i] * z[i]
    before = 0.0
    for turn in range(4 * n):
        mean = 0.0
        for i in range(n):
            s[i] = r[i] / matrix[i, i]
            mean += s[i]
        mean /= n
        now = 0.0
        for i in range(n):
            s[i] -= mean
            now += r[i] * s[i]
        if not now > 0.0:
            break
        share = 0.0 if turn == 0 else now / before
        for i in range(n):
            d[i] = s[i] + (share * d[i] if turn else 0.0)
        bend = 0.0
        for i in range(n):
            value = 0.0
            for k in range(n):
                value += matrix[i, k] * d[k]
            q[i] = value
            bend += d[i] * value
        if not bend > 0.0:
            break
        step = now / bend
        rest = 0.0
        for i in range(n):
            x[i] += step * d[i]
            r[i] -= step * q[i]
            rest += r[i] * r[i]
        before = now
        if rest <= 1e-30 * size:
            break
    z[:] = x


@numba.njit(nogil=True, cache=True)
def plain_sums(values: Floats, basis: Floats, root: Floats, excess: Floats) -> int:
    """One weight a sample: squared weighted residuals over the variance of each feature (a row), less expectation."""
    n, p = basis.shape
    rest, theta = np.empty(n), np.empty(p)
    free = np.empty(n)
    for i in range(n):
        free[i] = 1.0
        for j in range(p):
            free[i] -= basis[i, j] * basis[i, j]
    used = 0
    for f in range(values.shape[0]):
        for i in range(n):
            rest[i] = root[i] * values[f, i]
        for _ in range(2):
            theta[:] = 0.0
            for i in range(n):
                for j in range(p):
                    theta[j] += basis[i, j] * rest[i]
            for i in range(n):
                for j in range(p):
                    rest[i] -= basis[i, j] * theta[j]
        squares = 0.0
        for i in range(n):
            squares += rest[i] * rest[i]
        variance = squares / (n - p)
        if not variance >= SMALLEST_VARIANCE:
            continue
        used += 1
        for i in range(n):
            excess[i] += rest[i] * rest[i] / variance - free[i]
    return used


@numba.njit(nogil=True, cache=True)
def weighted_sums(
    values: Floats, weights: Floats, q: Floats, sample_weights: Floats, excess: Floats, information: Floats
) -> int:
    """As `plain_sums` with weights of cells (F, n), and the information of each feature."""
    n, p = q.shape
    gram, lower = np.zeros((p, p)), np.zeros((p, p))
    kept = np.ones(p, np.bool_)
    theta = np.empty(p)
    rest, free, w = np.empty(n), np.empty(n), np.empty(n)
    basis = np.empty((n, p))
    for f in range(values.shape[0]):
        for i in range(n):
            w[i] = sample_weights[i] * weights[f, i]
        squares, rank = _least_squares(values[f], w, q, gram, lower, kept, theta, rest, free)
        variance = squares / (n - rank)
        for i in range(n):
            _forward(lower, kept, q[i], theta)
            for j in range(p):
                basis[i, j] = np.sqrt(w[i]) * theta[j]
        for i in range(n):
            information[i, i] += 2.0 * free[i] - 1.0
            for k in range(n):
                dot = 0.0
                for j in range(p):
                    dot += basis[i, j] * basis[k, j]
                information[i, k] += dot * dot - free[i] * free[k] / (n - rank)
        if variance > SMALLEST_VARIANCE:
            for i in range(n):
                excess[i] += w[i] * rest[i] * rest[i] / variance - free[i]
    used: int = values.shape[0]
    return used
