"""Within-block correlation as limma estimates it: a damped gamma regression of squared residual contrasts.

Rotate the residual space of the design so that the block structure is diagonal: the squared contrasts then have means
s1 + s2 d, d being the eigenvalues, and scaled chi-squared distributions with one degree of freedom. Regressing them on
(1, d) with a gamma likelihood and identity link is restricted maximum likelihood (Smyth, Huele, Verbyla 2001). limma
(through statmod) takes damped Fisher scoring steps, floors the variances at a thousandth of the largest, and stops
early; published correlations carry the mark of all three, so they are kept here, as the constants below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numba
import numpy as np
from numpy.typing import NDArray

from sjd_dask.kernels.linear_sums import aliased_columns

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_STEPS = 20
_TOLERANCE = 1e-6
_VARIANCE_FLOOR = 1e-3
_DAMPING_LIMIT = 1e15

_CACHE_BYTES = 64_000_000


@dataclass
class Spectra:
    """Eigendecompositions by pattern of missing samples, kept while they are small enough together."""

    known: dict[bytes, tuple[FloatArray, FloatArray, FloatArray]] = field(default_factory=dict)
    room: int = _CACHE_BYTES

    def get(self, there: BoolArray, design: FloatArray, starts: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Orthonormal design, eigenvalues and map to contrasts for the samples that are there."""
        key = np.packbits(there).tobytes()
        if key in self.known:
            return self.known[key]
        basis = _orthonormal(design[there])
        found = (basis, *_spectrum(basis, starts))
        size = sum(part.nbytes for part in found)
        if size <= self.room:
            self.room -= size
            self.known[key] = found
        return found


def gamma_correlations(tile: FloatArray, design: FloatArray, starts: IntArray, spectra: Spectra) -> FloatArray:
    """Correlation of every feature, not yet limited to a range; NaN where it can't be told.

    Parameters
    ----------
    tile
        (features, n) values of samples sorted by block; NaN are missing.
    design
        (n, p) in the same order.
    starts
        First row of every block, and n at the end.
    spectra
        What earlier calls with the same design and blocks have decomposed.

    Notes
    -----
    Features with the same missing samples share one eigendecomposition of a matrix as large as there are blocks.
    """
    out = np.full(tile.shape[0], np.nan)
    seen = np.isfinite(tile)
    block_of = np.repeat(np.arange(starts.size - 1), np.diff(starts))
    patterns, which = np.unique(np.packbits(seen, axis=1), axis=0, return_inverse=True)
    which = which.reshape(-1)
    for pattern in range(len(patterns)):
        features = np.flatnonzero(which == pattern)
        there = seen[features[0]]
        n = int(there.sum())
        sizes = np.bincount(block_of[there])
        sizes = sizes[sizes > 0]
        if not (n > design.shape[1] + 2 and 1 < sizes.size < n - 1):
            continue
        own_starts = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        basis, d, turn = spectra.get(there, design, own_starts)
        rows = np.ascontiguousarray(tile[features][:, there])
        part = np.empty(features.size)
        _gamma_tile(rows, basis, own_starts, d, turn, part)
        out[features] = part
    return out


def _orthonormal(design: FloatArray) -> FloatArray:
    aliased = aliased_columns(design)
    kept = [j for j in range(design.shape[1]) if j not in aliased]
    q, _ = np.linalg.qr(design[:, kept])
    return np.ascontiguousarray(q)


def _spectrum(q: FloatArray, starts: IntArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues d > 0 of the block structure in the residual space, and the map from block sums to contrasts."""
    sums = np.add.reduceat(q, starts[:-1], axis=0)
    inner = np.diag(np.diff(starts).astype(np.float64)) - sums @ sums.T
    d, vectors = np.linalg.eigh(inner)
    kept = d > 1e-10 * max(float(d[-1]), 1e-300)
    return np.ascontiguousarray(d[kept]), np.ascontiguousarray((vectors[:, kept] / np.sqrt(d[kept])).T)


@numba.njit(nogil=True, cache=True)
def _gamma_tile(
    tile: FloatArray, q: FloatArray, starts: IntArray, d: FloatArray, turn: FloatArray, out: FloatArray
) -> None:
    n, p = q.shape
    n_blocks = starts.size - 1
    rest = np.empty(n)
    theta = np.empty(p)
    sums = np.empty(n_blocks)
    squares = np.empty(d.size)
    for f in range(tile.shape[0]):
        total = 0.0
        for i in range(n):
            rest[i] = tile[f, i]
            total += rest[i] * rest[i]
        # Residuals, taken twice so that a large mean leaves no rounding behind.
        for _ in range(2):
            theta[:] = 0.0
            for i in range(n):
                for j in range(p):
                    theta[j] += q[i, j] * rest[i]
            for i in range(n):
                for j in range(p):
                    rest[i] -= q[i, j] * theta[j]
        rss = 0.0
        for b in range(n_blocks):
            sums[b] = 0.0
            for i in range(starts[b], starts[b + 1]):
                sums[b] += rest[i]
                rss += rest[i] * rest[i]
        out[f] = np.nan
        if not rss > 1e-24 * total:
            continue
        within = rss
        for k in range(d.size):
            value = 0.0
            for b in range(n_blocks):
                value += turn[k, b] * sums[b]
            squares[k] = value * value
            within -= squares[k]
        s1, s2 = _components(squares, d, max(within, 0.0), n - p - d.size)
        out[f] = s2 / (s1 + s2)


@numba.njit(nogil=True, cache=True)
def _components(squares: FloatArray, d: FloatArray, within: float, n_within: int) -> tuple[float, float]:
    """Residual and block variance from squared contrasts at eigenvalues d, and `n_within` of sum `within` at 0."""
    n = d.size + n_within
    mean_d = 0.0
    mean_y = within
    for k in range(d.size):
        mean_d += d[k]
        mean_y += squares[k]
    mean_d /= n
    mean_y /= n
    sdd = n_within * mean_d * mean_d
    sdy = -mean_d * (within - n_within * mean_y)
    for k in range(d.size):
        sdd += (d[k] - mean_d) ** 2
        sdy += (d[k] - mean_d) * (squares[k] - mean_y)
    # With one eigenvalue there is nothing to regress on.
    if not sdd > 1e-15 * (n - 1):
        return np.nan, np.nan
    s2 = sdy / sdd
    s1 = mean_y - s2 * mean_d
    if n <= 2 or d.size <= 1:
        return s1, s2
    if math.isinf(_deviance(s1, s2, squares, d, within, n_within)):
        s1, s2 = mean_y, 0.0
    deviance = _deviance(s1, s2, squares, d, within, n_within)
    damping = 0.0
    for step in range(_STEPS + 1):
        # Information and score with variances mu^2, floored.
        largest = s1 * s1 if n_within > 0 else 0.0
        for k in range(d.size):
            largest = max(largest, (s1 + s2 * d[k]) ** 2)
        floor = largest * _VARIANCE_FLOOR
        i11 = i12 = i22 = g1 = g2 = 0.0
        if n_within > 0:
            weight = 1.0 / max(s1 * s1, floor)
            i11 = n_within * weight
            g1 = (within - n_within * s1) * weight
        for k in range(d.size):
            mu = s1 + s2 * d[k]
            weight = 1.0 / max(mu * mu, floor)
            i11 += weight
            i12 += weight * d[k]
            i22 += weight * d[k] * d[k]
            g1 += (squares[k] - mu) * weight
            g2 += (squares[k] - mu) * weight * d[k]
        top = max(i11, i22)
        if step == 0:
            damping = (i11 + i22) / 4.0
        tries = 0
        while True:
            tries += 1
            a, c = i11 + damping, i22 + damping
            determinant = a * c - i12 * i12
            move1 = (c * g1 - i12 * g2) / determinant
            move2 = (a * g2 - i12 * g1) / determinant
            new = _deviance(s1 + move1, s2 + move2, squares, d, within, n_within)
            if new <= deviance:
                break
            if damping / top > _DAMPING_LIMIT:
                return s1, s2
            damping *= 2.0
        s1 += move1
        s2 += move2
        deviance = new
        if damping / top > _DAMPING_LIMIT:
            break
        if tries == 1:
            damping /= 10.0
        if g1 * move1 + g2 * move2 < _TOLERANCE:
            break
    return s1, s2


@numba.njit(nogil=True, cache=True)
def _deviance(s1: float, s2: float, squares: FloatArray, d: FloatArray, within: float, n_within: int) -> float:
    """Gamma deviance up to a constant; infinite where a mean is negative."""
    value = 0.0
    if n_within > 0:
        if s1 < 0.0:
            return np.inf
        value += within / s1 + n_within * math.log(s1) if s1 > 0.0 else np.inf
    for k in range(d.size):
        mu = s1 + s2 * d[k]
        if mu < 0.0:
            return np.inf
        value += squares[k] / mu + math.log(mu) if mu > 0.0 else np.inf
    return 2.0 * value
