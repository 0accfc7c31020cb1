"""Locally weighted regression with robustness iterations (Cleveland 1979; 1981 for the points skipped by `delta`)."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def lowess(
    x: ArrayLike, y: ArrayLike, *, span: float = 2 / 3, iterations: int = 3, delta: float | None = None
) -> FloatArray:
    """Smooth y against x by local straight lines; equals R's ``lowess`` apart from rounding.

    Parameters
    ----------
    x, y
        (n,) finite values in any order.
    span
        Share of the points used for each local line.
    iterations
        Robustness iterations after the first fit: points with large residuals lose weight (bisquare).
    delta
        Lines are fitted at points at least this far apart, and values between are interpolated; default 1 % of the
        range of x.

    Returns
    -------
    ndarray
        (n,) fitted values in the order of the input.
    """
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    if x.size == 0:
        return np.empty(0)
    order = np.argsort(x, kind="stable")
    xs, ys = x[order], y[order]
    if delta is None:
        delta = 0.01 * float(xs[-1] - xs[0])
    window = max(2, min(x.size, int(span * x.size + 1e-7)))
    out = np.empty(x.size)
    if x.size < 2:
        return y.copy()
    weights = np.ones(x.size)
    fitted = _smooth(xs, ys, window, delta, weights, False)
    for _ in range(iterations):
        residual = np.abs(ys - fitted)
        # Six times the median absolute residual; nothing more to gain when that is rounding beside the mean.
        scale = 6.0 * float(np.median(residual))
        if scale < 1e-7 * float(residual.mean()):
            break
        weights = (1.0 - (residual / scale) ** 2) ** 2
        weights[residual <= 0.001 * scale] = 1.0
        weights[residual > 0.999 * scale] = 0.0
        fitted = _smooth(xs, ys, window, delta, weights, True)
    out[order] = fitted
    return out


@numba.njit(nogil=True, cache=True)
def _smooth(
    x: FloatArray, y: FloatArray, window: int, delta: float, robustness: FloatArray, use_robustness: bool
) -> FloatArray:
    """One pass over ascending x: local lines at points `delta` apart, straight lines between them."""
    n = x.size
    fitted = np.empty(n)
    work = np.empty(n)
    left = 0
    right = window - 1
    last = -1
    i = 0
    while True:
        # The window slides right while the next point is nearer than the leftmost one.
        while right < n - 1 and x[i] - x[left] > x[right + 1] - x[i]:
            left += 1
            right += 1
        fitted[i] = _local_line(x, y, x[i], y[i], left, right, robustness, use_robustness, work)
        if last < i - 1:
            share = x[i] - x[last]
            for j in range(last + 1, i):
                alpha = (x[j] - x[last]) / share
                fitted[j] = alpha * fitted[i] + (1.0 - alpha) * fitted[last]
        last = i
        if last >= n - 1:
            break
        cut = x[last] + delta
        i = last + 1
        while i < n:
            if x[i] > cut:
                break
            if x[i] == x[last]:
                fitted[i] = fitted[last]
                last = i
            i += 1
        i = max(last + 1, i - 1)
        if last >= n - 1:
            break
    return fitted


@numba.njit(nogil=True, cache=True)
def _local_line(
    x: FloatArray,
    y: FloatArray,
    at: float,
    fallback: float,
    left: int,
    right: int,
    robustness: FloatArray,
    use_robustness: bool,
    work: FloatArray,
) -> float:
    """Weighted straight line around `at`, read there. Tricube weights; equal x beyond the window belong to it."""
    n = x.size
    spread = x[n - 1] - x[0]
    reach = max(at - x[left], x[right] - at)
    near = 0.001 * reach
    far = 0.999 * reach
    total = 0.0
    stop = left
    for j in range(left, n):
        distance = abs(x[j] - at)
        weight = 0.0
        if distance <= far:
            if distance <= near:
                weight = 1.0
            else:
                q = distance / reach
                q = 1.0 - q * q * q
                weight = q * q * q
            if use_robustness:
                weight *= robustness[j]
            total += weight
        elif x[j] > at:
            break
        work[j] = weight
        stop = j + 1
    if total <= 0.0:
        return fallback
    centre = 0.0
    for j in range(left, stop):
        work[j] /= total
        centre += work[j] * x[j]
    tilt = 0.0
    if reach > 0.0:
        square = 0.0
        for j in range(left, stop):
            square += work[j] * (x[j] - centre) ** 2
        if np.sqrt(square) > 0.001 * spread:
            tilt = (at - centre) / square
    value = 0.0
    for j in range(left, stop):
        value += work[j] * (1.0 + tilt * (x[j] - centre)) * y[j]
    return value
