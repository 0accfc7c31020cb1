"""How far a sample is from the common pattern of its features, row by row.

Each row is worked out alone in a fixed order of operations: the same to the last bit alone, in any batch and layout.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@numba.njit(cache=True, nogil=True)
def _least_squares(axes: FloatArray, z: FloatArray, seen: NDArray[np.bool_]) -> FloatArray:
    """Coordinates on the axes (q, m) that fit the seen entries of z best: Cholesky on the normal equations, (m,)."""
    q, m = axes.shape
    a = np.zeros((m, m))
    b = np.zeros(m)
    for j in range(q):
        if seen[j]:
            for r in range(m):
                b[r] += axes[j, r] * z[j]
                for c in range(r + 1):
                    a[r, c] += axes[j, r] * axes[j, c]
    for r in range(m):
        for c in range(r + 1):
            s = a[r, c]
            for i in range(c):
                s -= a[r, i] * a[c, i]
            # An axis that the seen features hardly have stays near zero, not undefined.
            a[r, c] = math.sqrt(max(s, 1e-6)) if r == c else s / a[c, c]
    for r in range(m):
        for i in range(r):
            b[r] -= a[r, i] * b[i]
        b[r] /= a[r, r]
    for r in range(m - 1, -1, -1):
        for i in range(r + 1, m):
            b[r] -= a[i, r] * b[i]
        b[r] /= a[r, r]
    return b


@numba.njit(cache=True, nogil=True)
def distances(
    values: FloatArray,
    centre: FloatArray,
    scale: FloatArray,
    shift: FloatArray,
    limit: float,
    axes: FloatArray,
    variance: FloatArray,
    noise: FloatArray,
    least: float,
) -> FloatArray:
    """Logarithms of the mean squared distance along the leading axes, and off them, in units of variance, (n, 2).

    Parameters
    ----------
    values
        (n, q); NaN is missing: the axes are fitted to what is there.
    centre, scale, shift
        (q,): z = clip((value - centre) / scale, -limit, limit) - shift; an infinite scale leaves the feature out.
    limit
        How far one feature may count.
    axes, variance
        (q, m) orthonormal, and (m,) the variance along each.
    noise
        (q,) variance of what each feature has off the axes.
    least
        Distances below it count as it.

    Returns
    -------
    ndarray
        log of the mean over axes of t^2 / variance, and over seen features of r^2 / noise (at most limit^2 each); NaN
        where fewer than two features per axis are seen.
    """
    n = values.shape[0]
    q, m = axes.shape
    out = np.empty((n, 2))
    z = np.empty(q)
    seen = np.empty(q, dtype=np.bool_)
    for i in range(n):
        t = np.zeros(m)
        n_seen = 0
        for j in range(q):
            v = values[i, j]
            seen[j] = not math.isnan(v)
            z[j] = 0.0
            if seen[j]:
                n_seen += 1
                if not math.isinf(scale[j]):
                    z[j] = min(max((v - centre[j]) / scale[j], -limit), limit) - shift[j]
                for r in range(m):
                    t[r] += axes[j, r] * z[j]
        if n_seen < min(2 * m, q):
            out[i, 0] = out[i, 1] = np.nan
            continue
        if n_seen < q:
            t = _least_squares(axes, z, seen)
        along = 0.0
        for r in range(m):
            along += t[r] * t[r] / variance[r]
        off = 0.0
        for j in range(q):
            if seen[j]:
                rest = z[j]
                for r in range(m):
                    rest -= axes[j, r] * t[r]
                off += min(rest * rest / noise[j], limit * limit)
        out[i, 0] = math.log(max(along / m, least))
        out[i, 1] = math.log(max(off / n_seen, least))
    return out
