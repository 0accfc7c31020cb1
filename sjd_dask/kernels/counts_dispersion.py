"""Dispersion of each feature's counts under a negative binomial model: DESeq2's gene-wise estimates.

The maximum of the Cox-Reid adjusted profile likelihood is searched along log dispersion from a start by moments, with
steps by the Armijo rule; where that fails, on a grid. The method is that of Love, Huber and Anders (2014); start,
bounds, tolerances and stopping rule are those of DESeq2 1.38's estimateDispersionsGeneEst, so that the estimates stop
where DESeq2's stop.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sjd_dask.errors import DesignError
from sjd_dask.kernels.counts_means import fitted_means

FloatArray = NDArray[np.float64]

# DESeq2's constants: smallest dispersion, change of the log likelihood that ends the search, most steps, Armijo's
# constant, bounds of log dispersion, points of the grid.
MINIMUM = 1e-8
_TOLERANCE = 1e-6
_STEPS = 100
_ARMIJO = 1e-4
_LOWEST, _HIGHEST = -30.0, 10.0
_GRID = 20


def gene_dispersions(counts: FloatArray, size_factors: FloatArray, design: FloatArray) -> FloatArray:
    """Gene-wise dispersion of each feature, from all samples.

    Parameters
    ----------
    counts
        (n, g) counts of all samples; finite, not negative.
    size_factors
        (n,) above 0.
    design
        (n, k) design matrix of full rank, k < n.

    Returns
    -------
    ndarray, shape (g,)
        Variance is mean + dispersion * mean^2. Between 1e-8 and max(10, n); NaN for features without any count.

    Raises
    ------
    DesignError
        No sample is left over for the dispersion, or the design's columns depend on each other.
    """
    n, k = design.shape
    if n <= k:
        raise DesignError(
            f"dispersions need more samples than design columns, and there are {n} samples and {k} columns: use more "
            "reference samples or a smaller design"
        )
    if int(np.linalg.matrix_rank(design)) < k:
        raise DesignError(f"the {k} columns of the design depend on each other: leave one out")
    out = np.full(counts.shape[1], np.nan)
    some = np.flatnonzero((counts > 0).any(axis=0))
    if not some.size:
        return out
    y = np.ascontiguousarray(counts[:, some].T)
    x = np.ascontiguousarray(design, dtype=np.float64)
    highest = max(10.0, float(n))
    start = np.clip(_start(y, size_factors, x), MINIMUM, highest)
    mu = fitted_means(y, size_factors, x, start)
    # One feature at a time, so that a feature's estimate doesn't depend on which others come with it.
    found = np.empty(len(y))
    for g in range(len(y)):
        log_alpha, steps, first, last = _search(y[g], mu[g], x, math.log(start[g]), math.log(MINIMUM / 10))
        alpha = min(math.exp(log_alpha), highest)
        if last < first + abs(first) / 1e6:
            alpha = float(start[g])
        if (steps >= _STEPS or steps == 1) and alpha > MINIMUM * 10:
            alpha = math.exp(_grid(y[g], mu[g], x, math.log(MINIMUM), math.log(highest)))
        found[g] = alpha
    out[some] = np.clip(found, MINIMUM, highest)
    return out


def _start(y: FloatArray, size_factors: FloatArray, x: FloatArray) -> FloatArray:
    """The smaller of two estimates by moments: around a linear model, and of the plain variance."""
    n, k = x.shape
    normal = y / size_factors
    q, _ = np.linalg.qr(x)
    mu = np.maximum(1.0, _by_rows(normal, q) @ q.T)
    rough = np.maximum((((normal - mu) ** 2 - mu) / mu**2).sum(axis=1) / (n - k), 0.0)
    mean, variance = normal.mean(axis=1), normal.var(axis=1, ddof=1)
    moments = (variance - np.mean(1 / size_factors) * mean) / mean**2
    result: FloatArray = np.minimum(rough, moments)
    return result


def _by_rows(a: FloatArray, b: FloatArray) -> FloatArray:
    """a @ b row by row, so that a row does not depend on how many others there are: BLAS goes by the shape."""
    return np.stack([row @ b for row in a])


@njit(nogil=True, cache=True, error_model="numpy")
def _digamma(x: float) -> float:
    """Derivative of log gamma, for x > 0, to about 1e-15: recurrence up to 10, then the asymptotic series."""
    out = 0.0
    while x < 10.0:
        out -= 1.0 / x
        x += 1.0
    r = 1.0 / (x * x)
    series = r * (
        1 / 12.0
        - r * (1 / 120.0 - r * (1 / 252.0 - r * (1 / 240.0 - r * (1 / 132.0 - r * (691 / 32760.0 - r / 12.0)))))
    )
    return out + math.log(x) - 0.5 / x - series


@njit(nogil=True, cache=True, error_model="numpy")
def _information(mu: FloatArray, x: FloatArray, alpha: float, slope: bool, b: FloatArray, db: FloatArray) -> None:
    """X'WX, and its derivative by the dispersion; lower triangles."""
    n, k = x.shape
    b[:] = 0.0
    db[:] = 0.0
    for i in range(n):
        w = 1.0 / (1.0 / mu[i] + alpha)
        for r in range(k):
            wx = w * x[i, r]
            for c in range(r + 1):
                b[r, c] += wx * x[i, c]
                if slope:
                    db[r, c] -= w * wx * x[i, c]


@njit(nogil=True, cache=True, error_model="numpy")
def _factorise(b: FloatArray) -> float:
    """Cholesky factor into the lower triangle; log determinant."""
    k = b.shape[0]
    log_det = 0.0
    for r in range(k):
        for c in range(r + 1):
            s = b[r, c]
            for j in range(c):
                s -= b[r, j] * b[c, j]
            b[r, c] = math.sqrt(s) if r == c else s / b[c, c]
        log_det += 2.0 * math.log(b[r, r])
    return log_det


@njit(nogil=True, cache=True, error_model="numpy")
def _trace_solved(b: FloatArray, db: FloatArray, work: FloatArray) -> float:
    """Trace of B^-1 dB, B given by its Cholesky factor."""
    k = b.shape[0]
    trace = 0.0
    for column in range(k):
        for r in range(k):
            s = db[r, column] if r >= column else db[column, r]
            for j in range(r):
                s -= b[r, j] * work[j]
            work[r] = s / b[r, r]
        for r in range(k - 1, column - 1, -1):
            s = work[r]
            for j in range(r + 1, k):
                s -= b[j, r] * work[j]
            work[r] = s / b[r, r]
        trace += work[column]
    return trace


@njit(nogil=True, cache=True, error_model="numpy")
def _likelihood(log_alpha: float, y: FloatArray, mu: FloatArray, x: FloatArray, b: FloatArray, db: FloatArray) -> float:
    """Log likelihood with the Cox-Reid term, up to a constant."""
    alpha = math.exp(log_alpha)
    r = 1.0 / alpha
    log_gamma_r = math.lgamma(r)
    total = 0.0
    for i in range(y.size):
        total += math.lgamma(y[i] + r) - log_gamma_r - y[i] * math.log(mu[i] + r) - r * math.log(1.0 + mu[i] * alpha)
    _information(mu, x, alpha, False, b, db)
    return total - 0.5 * _factorise(b)


@njit(nogil=True, cache=True, error_model="numpy")
def _slope(
    log_alpha: float, y: FloatArray, mu: FloatArray, x: FloatArray, b: FloatArray, db: FloatArray, work: FloatArray
) -> float:
    """Derivative of `_likelihood` by log dispersion."""
    alpha = math.exp(log_alpha)
    r = 1.0 / alpha
    psi = _digamma(r)
    total = 0.0
    for i in range(y.size):
        m = mu[i] * alpha
        total += psi + math.log(1.0 + m) - m / (1.0 + m) - _digamma(y[i] + r) + y[i] / (mu[i] + r)
    _information(mu, x, alpha, True, b, db)
    _factorise(b)
    return (total * r * r - 0.5 * _trace_solved(b, db, work)) * alpha


@njit(nogil=True, cache=True, error_model="numpy")
def _search(
    y: FloatArray, mu: FloatArray, x: FloatArray, start: float, lowest: float
) -> tuple[float, int, float, float]:
    """Line search from `start`: log dispersion, steps tried, first and last log likelihood."""
    k = x.shape[1]
    b, db, work = np.empty((k, k)), np.empty((k, k)), np.empty(k)
    a = start
    value = _likelihood(a, y, mu, x, b, db)
    slope = _slope(a, y, mu, x, b, db, work)
    first = value
    step = 1.0
    steps = accepted = 0
    for _ in range(_STEPS):
        steps += 1
        proposed = a + step * slope
        if proposed < _LOWEST:
            step = (_LOWEST - a) / slope
        if proposed > _HIGHEST:
            step = (_HIGHEST - a) / slope
        new = _likelihood(a + step * slope, y, mu, x, b, db)
        if -new <= -value - step * _ARMIJO * slope * slope:
            accepted += 1
            a = a + step * slope
            change = new - value
            if change < _TOLERANCE:
                value = new
                break
            if a < lowest:
                break
            value = new
            slope = _slope(a, y, mu, x, b, db, work)
            step = min(step * 1.1, 1.0)
            if accepted % 5 == 0:
                step /= 2.0
        else:
            step /= 2.0
    return a, steps, first, value


@njit(nogil=True, cache=True, error_model="numpy")
def _grid(y: FloatArray, mu: FloatArray, x: FloatArray, low: float, high: float) -> float:
    """Best log dispersion of a coarse grid, then of a fine one around it."""
    k = x.shape[1]
    b, db = np.empty((k, k)), np.empty((k, k))
    apart = (high - low) / (_GRID - 1)
    best = low
    for level in range(2):
        base = low if level == 0 else best - apart
        width = apart if level == 0 else 2 * apart / (_GRID - 1)
        top = -np.inf
        for t in range(_GRID):
            value = _likelihood(base + t * width, y, mu, x, b, db)
            if value > top:
                top = value
                best = base + t * width
    return best
