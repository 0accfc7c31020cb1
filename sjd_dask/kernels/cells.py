"""Cell fractions of bulk samples from reference profiles of the cell types.

A sample's profile y is modelled as W p: the columns of W are the profiles of k cell types over the features that tell
them apart, p the fractions. Each sample is solved alone, from its own values.
"""

from __future__ import annotations

from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError

FloatArray = NDArray[np.float64]
Total = Literal["at_most_one", "one", "free"]

_TOTALS: dict[str, int] = {"free": 0, "at_most_one": 1, "one": 2}
# Huber's constant (95 % efficiency for normal errors), and the median absolute deviation of a standard normal.
_HUBER = 1.345
_MAD = 0.6745
# Reference profiles are told apart if none has less than this share of its length outside the span of the others.
_DEPENDENT = 1e-6


def distinct(profiles: FloatArray) -> bool:
    """Whether no column is, but for rounding, a linear combination of the others."""
    size = np.linalg.norm(profiles, axis=0)
    if profiles.shape[0] < profiles.shape[1] or np.any(size == 0):
        return False
    return bool(np.min(np.abs(np.diag(np.linalg.qr(profiles / size, mode="r")))) > _DEPENDENT)


def constrained_fractions(values: FloatArray, profiles: FloatArray, total: Total = "at_most_one") -> FloatArray:
    """Least squares under the constraints that fractions are: no one negative, and their sum.

    Parameters
    ----------
    values
        (n, m) samples in rows, over the reference's features; NaN is missing, and its feature is left out for that
        sample.
    profiles
        (m, k) reference profiles, finite, with independent columns.
    total
        ``at_most_one``: sum <= 1, what is left is of no listed type; ``one``: sum = 1; ``free``: any sum.

    Returns
    -------
    ndarray
        (n, k) fractions, zero exactly where a bound holds. NaN for a sample whose present features don't tell the cell
        types apart.

    Notes
    -----
    The quadratic programme of Houseman and others (2012), as in minfi's ``projectCellType`` (there `total` is
    ``free``, or ``at_most_one`` with ``lessThanOne=TRUE``). Solved exactly by an active-set method (Lawson and Hanson
    1974), with the sum as a Lagrange term where it binds: the objective is convex, so a least-squares answer whose sum
    exceeds 1 means that the best one has sum 1.
    """
    y, w = _arrays(values, profiles)
    out = np.empty((y.shape[0], w.shape[1]))
    _constrained(y, w, _TOTALS[total], out)
    return out


def robust_fractions(
    values: FloatArray, profiles: FloatArray, *, max_iterations: int = 50, accuracy: float = 1e-4
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Fractions from a robust regression of each sample on the reference profiles.

    Parameters
    ----------
    values, profiles
        As for `constrained_fractions`.
    max_iterations, accuracy
        Reweighting ends when the residuals change by at most this share of their size.

    Returns
    -------
    ndarray
        (n, k) fractions that sum to 1. NaN where no coefficient is positive, or the present features don't tell the
        cell types apart.
    ndarray of bool
        (n,) whether reweighting ended by `accuracy`.

    Notes
    -----
    The robust partial correlations of EpiDISH (Teschendorff and others 2017): Huber's M-estimate with an intercept,
    scale by the median absolute residual (``MASS::rlm`` with its defaults, but 50 iterations), negative coefficients
    set to 0 and the rest divided by their sum.
    """
    y, w = _arrays(values, profiles)
    out = np.empty((y.shape[0], w.shape[1]))
    converged = np.empty(y.shape[0], dtype=np.bool_)
    design = np.column_stack((np.ones(w.shape[0]), w))
    _robust(y, design, max_iterations, accuracy, out, converged)
    return out, converged


def residual_rms(values: FloatArray, profiles: FloatArray, fractions: FloatArray) -> FloatArray:
    """(n,) root mean square of what the reported fractions leave unexplained, over each sample's present features."""
    y, w = _arrays(values, profiles)
    out = np.empty(y.shape[0])
    _rms(y, w, np.ascontiguousarray(fractions), out)
    return out


def _arrays(values: FloatArray, profiles: FloatArray) -> tuple[FloatArray, FloatArray]:
    y = np.ascontiguousarray(values, dtype=np.float64)
    w = np.ascontiguousarray(profiles, dtype=np.float64)
    if y.ndim != 2 or w.ndim != 2 or y.shape[1] != w.shape[0]:
        raise ValueError(f"values of shape {y.shape} don't match profiles of shape {w.shape}")
    if not np.isfinite(w).all():
        raise DataError("a reference profile has missing or infinite values: remove those features from the table")
    return y, w


@numba.njit(nogil=True, cache=True)
def _constrained(values: FloatArray, profiles: FloatArray, total: int, out: FloatArray) -> None:
    m, k = profiles.shape
    gram = np.empty((k, k))
    moment = np.empty(k)
    for i in range(values.shape[0]):
        gram[:] = 0.0
        moment[:] = 0.0
        for f in range(m):
            y = values[i, f]
            if np.isfinite(y):
                for a in range(k):
                    moment[a] += profiles[f, a] * y
                    for b in range(a + 1):
                        gram[a, b] += profiles[f, a] * profiles[f, b]
        for a in range(k):
            for b in range(a):
                gram[b, a] = gram[a, b]
        if not _independent(gram):
            out[i] = np.nan
            continue
        found = _bounded(gram, moment, total == 2)
        if total == 1 and found.sum() > 1.0:
            found = _bounded(gram, moment, True)
        out[i] = found


@numba.njit(nogil=True, cache=True)
def _independent(gram: FloatArray) -> bool:
    """Whether the Cholesky factor of the scaled matrix has no vanishing pivot."""
    k = gram.shape[0]
    scale = np.empty(k)
    for a in range(k):
        if gram[a, a] <= 0.0:
            return False
        scale[a] = 1.0 / np.sqrt(gram[a, a])
    factor = np.zeros((k, k))
    for a in range(k):
        for b in range(a + 1):
            rest = gram[a, b] * scale[a] * scale[b]
            for c in range(b):
                rest -= factor[a, c] * factor[b, c]
            if a == b:
                # Squares: rounding of 1e-16 hides what the profiles themselves would still show.
                if rest < 1e-13:
                    return False
                factor[a, a] = np.sqrt(rest)
            else:
                factor[a, b] = rest / factor[b, b]
    return True


@numba.njit(nogil=True, cache=True)
def _bounded(gram: FloatArray, moment: FloatArray, sum_one: bool) -> FloatArray:
    """Minimum of p'Gp / 2 - m'p over p >= 0, with sum(p) = 1 if `sum_one`; G positive definite."""
    k = moment.size
    p = np.zeros(k)
    free = np.zeros(k, dtype=np.bool_)
    scale = 0.0
    for a in range(k):
        scale = max(scale, gram[a, a], abs(moment[a]))
    tolerance = 1e-13 * scale * k
    multiplier = 0.0
    if sum_one:
        best = 0
        for a in range(k):
            if gram[a, a] / 2.0 - moment[a] < gram[best, best] / 2.0 - moment[best]:
                best = a
        p[best] = 1.0
        free[best] = True
        multiplier = moment[best] - gram[best, best]
    for _ in range(50 * k):
        enter = -1
        steepest = tolerance
        for a in range(k):
            if not free[a]:
                slope = moment[a] - multiplier
                for b in range(k):
                    slope -= gram[a, b] * p[b]
                if slope > steepest:
                    steepest = slope
                    enter = a
        if enter < 0:
            break
        free[enter] = True
        for _inner in range(k + 1):
            aim, multiplier = _stationary(gram, moment, free, sum_one, scale)
            step = 1.0
            leave = -1
            for a in range(k):
                if free[a] and aim[a] <= 0.0:
                    share = p[a] / (p[a] - aim[a]) if p[a] > aim[a] else 0.0
                    if share < step or leave < 0:
                        step = share
                        leave = a
            if leave < 0:
                p[:] = aim
                break
            for a in range(k):
                if free[a]:
                    p[a] += step * (aim[a] - p[a])
                    if a == leave or p[a] <= 0.0:
                        p[a] = 0.0
                        free[a] = False
    return p


@numba.njit(nogil=True, cache=True)
def _stationary(
    gram: FloatArray, moment: FloatArray, free: NDArray[np.bool_], sum_one: bool, scale: float
) -> tuple[FloatArray, float]:
    """The minimum with the bound fractions at zero, whatever the signs of the free ones; and the sum's multiplier."""
    at = np.flatnonzero(free)
    size = at.size + (1 if sum_one else 0)
    system = np.zeros((size, size))
    right = np.empty(size)
    for i in range(at.size):
        right[i] = moment[at[i]] / scale
        for j in range(at.size):
            system[i, j] = gram[at[i], at[j]] / scale
    if sum_one:
        last = at.size
        right[last] = 1.0
        for i in range(last):
            system[i, last] = 1.0
            system[last, i] = 1.0
    solved = np.linalg.solve(system, right)
    p = np.zeros(moment.size)
    for i in range(at.size):
        p[at[i]] = solved[i]
    return p, (solved[at.size] * scale if sum_one else 0.0)


@numba.njit(nogil=True, cache=True)
def _robust(
    values: FloatArray,
    design: FloatArray,
    max_iterations: int,
    accuracy: float,
    out: FloatArray,
    converged: NDArray[np.bool_],
) -> None:
    m, k = design.shape
    whole_q, whole_r = np.linalg.qr(design)
    whole = _full_rank(design, whole_r)
    for i in range(values.shape[0]):
        present = np.flatnonzero(np.isfinite(values[i]))
        converged[i] = False
        out[i] = np.nan
        if present.size <= k:
            continue
        if present.size == m:
            q, r, sound = whole_q, whole_r, whole
        else:
            part = design[present]
            q, r = np.linalg.qr(part)
            sound = _full_rank(part, r)
        if not sound:
            continue
        fit, converged[i] = _huber(q, values[i][present], max_iterations, accuracy)
        # Back from the orthonormal columns to the profiles; the intercept, which comes first, is not needed.
        for a in range(k - 1, 0, -1):
            for b in range(a + 1, k):
                fit[a] -= r[a, b] * fit[b]
            fit[a] /= r[a, a]
        total = 0.0
        for a in range(1, k):
            total += max(fit[a], 0.0)
        if total > 0.0:
            for a in range(1, k):
                out[i, a - 1] = max(fit[a], 0.0) / total


@numba.njit(nogil=True, cache=True)
def _full_rank(design: FloatArray, r: FloatArray) -> bool:
    for a in range(design.shape[1]):
        size = np.sqrt(np.sum(design[:, a] ** 2))
        if abs(r[a, a]) <= _DEPENDENT * size:
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _huber(q: FloatArray, y: FloatArray, max_iterations: int, accuracy: float) -> tuple[FloatArray, bool]:
    """Huber's M-estimate of the coefficients of orthonormal columns, by reweighted least squares."""
    n, k = q.shape
    fit = np.zeros(k)
    for f in range(n):
        for a in range(k):
            fit[a] += q[f, a] * y[f]
    rest = np.empty(n)
    old = np.empty(n)
    _residuals(q, y, fit, rest)
    system = np.empty((k, k))
    right = np.empty(k)
    for _ in range(max_iterations):
        old[:] = rest
        scale = np.median(np.abs(rest)) / _MAD
        if scale == 0.0:
            return fit, True
        system[:] = 0.0
        right[:] = 0.0
        for f in range(n):
            size = abs(rest[f]) / scale
            weight = 1.0 if size <= _HUBER else _HUBER / size
            for a in range(k):
                part = weight * q[f, a]
                right[a] += part * y[f]
                for b in range(a + 1):
                    system[a, b] += part * q[f, b]
        for a in range(k):
            for b in range(a):
                system[b, a] = system[a, b]
        fit[:] = np.linalg.solve(system, right)
        _residuals(q, y, fit, rest)
        moved = 0.0
        size2 = 0.0
        for f in range(n):
            moved += (rest[f] - old[f]) ** 2
            size2 += old[f] ** 2
        if np.sqrt(moved / max(1e-20, size2)) <= accuracy:
            return fit, True
    return fit, False


@numba.njit(nogil=True, cache=True)
def _residuals(q: FloatArray, y: FloatArray, fit: FloatArray, rest: FloatArray) -> None:
    for f in range(q.shape[0]):
        value = y[f]
        for a in range(q.shape[1]):
            value -= q[f, a] * fit[a]
        rest[f] = value


@numba.njit(nogil=True, cache=True)
def _rms(values: FloatArray, profiles: FloatArray, fractions: FloatArray, out: FloatArray) -> None:
    for i in range(values.shape[0]):
        total = 0.0
        count = 0
        for f in range(profiles.shape[0]):
            rest = values[i, f]
            if np.isfinite(rest):
                for a in range(profiles.shape[1]):
                    rest -= profiles[f, a] * fractions[i, a]
                total += rest * rest
                count += 1
        out[i] = np.sqrt(total / count) if count else np.nan
