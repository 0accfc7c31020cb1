"""Machine code that turns sums into fits: triangular solves, small Cholesky factors, Householder QR.

Features lie side by side in memory, `LANES` of them go through every step together, and no step mixes features: so
the bits of one feature don't depend on its neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sjd_dask.kernels.linear_lanes import (
    LANES,
    add_lanes,
    divide_lanes,
    least_lanes,
    safe_root_lanes,
    scale_lanes,
    take_lanes,
)
from sjd_dask.kernels.linear_tiles import fused

Floats = NDArray[np.float64]

# Below this, a pivot of the observed share of the basis is too small for the sums to answer with ten digits, and the
# feature is worked out from its own column.
PIVOT_TOLERANCE = 1e-5

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def multiply(matrix, vectors, out):  # type: ignore[no-untyped-def]
    """out (m, F) = matrix (m, p) @ vectors (p, F), one feature like another: BLAS rounds by the shape."""
    m, p = matrix.shape
    features = vectors.shape[1]
    for i in range(m):
        target = out[i]
        target[:] = 0.0
        for j in range(p):
            weight = matrix[i, j]
            if weight != 0.0:
                row = vectors[j]
                for f in range(features):
                    target[f] = fused(weight, row[f], target[f])


@njit(**_OPTIONS)
def subtract_squares(vectors, rest):  # type: ignore[no-untyped-def]
    """rest (F,) -= sum over rows of vectors (p, F) squared, in place."""
    for j in range(vectors.shape[0]):
        row = vectors[j]
        for f in range(rest.shape[0]):
            rest[f] = fused(-row[f], row[f], rest[f])


@njit(**_OPTIONS)
def places(p):  # type: ignore[no-untyped-def]
    """Where each number of a packed upper triangle goes in `lower`, and one where it lies on the diagonal."""
    at = np.empty(p * (p + 1) // 2, np.int64)
    unit = np.zeros(p * (p + 1) // 2)
    m = 0
    for i in range(p):
        unit[m] = 1.0
        for j in range(i, p):
            at[m] = (j * p + i) * LANES
            m += 1
    return at, unit


@njit(**_OPTIONS)
def factor_lanes(gram, start, p, at, unit, constants, lower, inverse, smallest):  # type: ignore[no-untyped-def]
    """Cholesky factor of I - gram for the LANES features from `start`, into `lower` (p * p * LANES, flat).

    `inverse` (p * LANES) holds one over the diagonal, `smallest` (LANES,) the smallest squared pivot; where a pivot is
    not above PIVOT_TOLERANCE it is taken as one, so that the lane goes on with finite numbers nobody uses. `constants`
    holds LANES times one, then LANES times PIVOT_TOLERANCE.
    """
    smallest[:] = 1.0
    count = min(LANES, gram.shape[0] - start)
    if count < LANES:
        lower[:] = 0.0
        for m in range(at.shape[0]):
            lower[at[m] : at[m] + LANES] = unit[m]
    for lane in range(count):  # a feature's own row at a time: in the order it lies in memory
        row = gram[start + lane]
        for m in range(at.shape[0]):
            lower[at[m] + lane] = unit[m] - row[m]
    for j in range(p):
        pivot = (j * p + j) * LANES
        least_lanes(smallest, 0, lower, pivot, smallest, 0)
        safe_root_lanes(lower, pivot, lower, pivot, constants, LANES)
        divide_lanes(inverse, j * LANES, constants, 0, lower, pivot)
        for i in range(j + 1, p):
            scale_lanes(lower, (i * p + j) * LANES, lower, (i * p + j) * LANES, inverse, j * LANES)
        for i in range(j + 1, p):
            for k in range(j + 1, i + 1):
                take_lanes(lower, (i * p + k) * LANES, lower, (i * p + j) * LANES, lower, (k * p + j) * LANES)


@njit(**_OPTIONS)
def solve_lower(lower, inverse, p, first, work, base):  # type: ignore[no-untyped-def]
    """work <- lower^-1 work for the (p, LANES) vectors at `base`, which are zero above row `first`."""
    for k in range(first, p):
        at = base + k * LANES
        scale_lanes(work, at, work, at, inverse, k * LANES)
        for i in range(k + 1, p):
            take_lanes(work, base + i * LANES, lower, (i * p + k) * LANES, work, at)


@njit(**_OPTIONS)
def _solve_missing(gram, padded, qty, rest, r_inverse, whitened, coefficients, stdev, smallest):  # type: ignore[no-untyped-def]
    """`solve_missing` on arrays that are flat, with `padded` features, a multiple of LANES, in a row."""
    p = r_inverse.shape[0]
    at, unit = places(p)
    constants = np.repeat(np.array([1.0, PIVOT_TOLERANCE, 0.0]), LANES)
    lower = np.empty(p * p * LANES)
    inverse = np.empty(p * LANES)
    work = np.zeros(p * LANES)
    answer = np.zeros(p * LANES)
    total = np.empty(LANES)
    spread = np.repeat(r_inverse.copy().reshape(-1), LANES)
    for start in range(0, padded, LANES):
        factor_lanes(gram, start, p, at, unit, constants, lower, inverse, smallest[start : start + LANES])
        for j in range(p):
            scale_lanes(work, j * LANES, qty, j * padded + start, constants, 0)
        solve_lower(lower, inverse, p, 0, work, 0)
        for j in range(p):
            take_lanes(rest, start, work, j * LANES, work, j * LANES)
            scale_lanes(whitened, j * padded + start, work, j * LANES, constants, 0)
        # L' w = z, then coefficients = r_inverse w.
        for j in range(p - 1, -1, -1):
            scale_lanes(work, j * LANES, work, j * LANES, inverse, j * LANES)
            for i in range(j):
                take_lanes(work, i * LANES, lower, (j * p + i) * LANES, work, j * LANES)
        answer[:] = 0.0
        for i in range(p):
            for j in range(i, p):
                add_lanes(answer, i * LANES, spread, (i * p + j) * LANES, work, j * LANES)
            scale_lanes(coefficients, i * padded + start, answer, i * LANES, constants, 0)
        for i in range(p):
            work[:] = spread[i * p * LANES : (i + 1) * p * LANES]
            solve_lower(lower, inverse, p, i, work, 0)
            total[:] = 0.0
            for j in range(i, p):
                add_lanes(total, 0, work, j * LANES, work, j * LANES)
            safe_root_lanes(stdev, i * padded + start, total, 0, constants, 2 * LANES)


@njit(**_OPTIONS)
def _contrast_missing(gram, padded, whitened, pilot, weights, shift, basis, basis_shift, effects, stdev, quadratic):  # type: ignore[no-untyped-def]
    """`contrast_missing` on flat arrays, as in `_solve_missing`."""
    k, p = weights.shape
    g = basis.shape[0]
    step = p * LANES
    at, unit = places(p)
    constants = np.repeat(np.array([1.0, PIVOT_TOLERANCE, 0.0]), LANES)
    lower = np.empty(p * step)
    inverse = np.empty(step)
    small = np.empty(LANES)
    total = np.empty(LANES)
    value = np.empty(LANES)
    spread = np.repeat(weights.copy().reshape(-1), LANES)
    spread_shift = np.repeat(shift, LANES)
    spread_basis = np.repeat(basis.copy().reshape(-1), LANES)
    work = np.zeros(step)
    rows = np.zeros(g * step)
    right = np.zeros(g * LANES)
    offset = np.zeros(g * LANES)
    for start in range(0, padded, LANES):
        factor_lanes(gram, start, p, at, unit, constants, lower, inverse, small)
        for c in range(k):
            work[:] = spread[c * step : (c + 1) * step]
            solve_lower(lower, inverse, p, 0, work, 0)
            total[:] = 0.0
            value[:] = 0.0
            for j in range(p):
                add_lanes(value, 0, work, j * LANES, whitened, j * padded + start)
                add_lanes(total, 0, work, j * LANES, work, j * LANES)
            add_lanes(value, 0, spread_shift, c * LANES, pilot, start)
            scale_lanes(effects, c * padded + start, value, 0, constants, 0)
            safe_root_lanes(stdev, c * padded + start, total, 0, constants, 2 * LANES)
        # |projection of whitened on the span of L^-1 basis|**2, by Gram-Schmidt over the g rows.
        rows[:] = spread_basis
        right[:] = 0.0
        total[:] = 0.0
        for c in range(g):
            own = c * step
            solve_lower(lower, inverse, p, 0, rows, own)
            offset[c * LANES : (c + 1) * LANES] = basis_shift[c]
            for before in range(c):
                value[:] = 0.0
                for j in range(0, step, LANES):
                    add_lanes(value, 0, rows, before * step + j, rows, own + j)
                for j in range(0, step, LANES):
                    take_lanes(rows, own + j, value, 0, rows, before * step + j)
                take_lanes(offset, c * LANES, value, 0, offset, before * LANES)
            value[:] = 0.0
            for j in range(p):
                add_lanes(value, 0, rows, own + j * LANES, rows, own + j * LANES)
                add_lanes(right, c * LANES, rows, own + j * LANES, whitened, j * padded + start)
            add_lanes(right, c * LANES, offset, c * LANES, pilot, start)
            safe_root_lanes(value, 0, value, 0, constants, 2 * LANES)
            for j in range(0, step, LANES):
                divide_lanes(rows, own + j, rows, own + j, value, 0)
            divide_lanes(offset, c * LANES, offset, c * LANES, value, 0)
            divide_lanes(right, c * LANES, right, c * LANES, value, 0)
            add_lanes(total, 0, right, c * LANES, right, c * LANES)
        scale_lanes(quadratic, start, total, 0, constants, 0)


def solve_missing(
    gram: Floats,
    qty: Floats,
    squares: Floats,
    r_inverse: Floats,
    whitened: Floats,
    coefficients: Floats,
    stdev: Floats,
    rest: Floats,
    smallest: Floats,
) -> None:
    """Least squares for features with missing cells, from the sums alone; the last five arrays are filled.

    With M = I - gram = L L': whitened (p, F) = L^-1 Q'y; coefficients (p, F) = r_inverse M^-1 Q'y; stdev (p, F) =
    root of the diagonal of r_inverse M^-1 r_inverse'; rest (F,) = squares - |whitened|**2; smallest (F,) is the
    smallest pivot.
    """
    p, n_features = qty.shape
    padded = _padded(n_features)
    wide = [np.empty((p, padded)) for _ in range(3)]
    left, least = _pad(squares, padded).copy(), np.empty(padded)
    _solve_missing(gram, padded, _pad(qty, padded).reshape(-1), left, r_inverse, *(w.reshape(-1) for w in wide), least)
    for target, source in zip((whitened, coefficients, stdev, rest, smallest), (*wide, left, least), strict=True):
        target[...] = source[..., :n_features]


def contrast_missing(
    gram: Floats,
    whitened: Floats,
    pilot: Floats,
    weights: Floats,
    shift: Floats,
    basis: Floats,
    basis_shift: Floats,
    effects: Floats,
    stdev: Floats,
    quadratic: Floats,
) -> None:
    """Contrasts of features with missing cells, each with its own covariance; the last three arrays are filled.

    `weights` (k, p) are contrasts in the orthonormal basis (contrast' r_inverse), `basis` (g, p) an orthonormal basis
    of their span; `shift` (k,) and `basis_shift` (g,) are what a constant of one adds to them. With u = L^-1 weight:
    effect = u . whitened + shift * pilot, stdev = |u|; quadratic = e' C^-1 e over the basis, with C = U U'.
    """
    n_features = whitened.shape[1]
    padded = _padded(n_features)
    wide = [np.empty((weights.shape[0], padded)) for _ in range(2)]
    form = np.empty(padded)
    given = (_pad(whitened, padded).reshape(-1), _pad(pilot, padded), weights, shift, basis, basis_shift)
    _contrast_missing(gram, padded, *given, *(w.reshape(-1) for w in wide), form)
    for target, source in zip((effects, stdev, quadratic), (*wide, form), strict=True):
        target[...] = source[..., :n_features]


def _padded(n_features: int) -> int:
    """The number of features rounded up to whole lanes."""
    return -(-n_features // LANES) * LANES


def _pad(values: Floats, padded: int) -> Floats:
    """Zeros after the last feature, up to `padded`; the array itself where it has that many."""
    missing = padded - values.shape[-1]
    if missing == 0:
        return np.ascontiguousarray(values)
    return np.concatenate([values, np.zeros((*values.shape[:-1], missing))], axis=-1)


@njit(**_OPTIONS)
def householder(design, values, tolerance, triangle, order):  # type: ignore[no-untyped-def]
    """Householder QR of a design (n, p) with R's limited pivoting: a column that hangs on others goes to the end.

    Both arguments are overwritten: `values` (n,) by Q'y, `triangle` (p, p) gets R in the order of `order` (p,).
    Returns the rank.
    """
    n, p = design.shape
    norms = np.empty(p)
    for j in range(p):
        order[j] = j
        total = 0.0
        for i in range(n):
            total += design[i, j] * design[i, j]
        norms[j] = np.sqrt(total)
    rank = 0
    last = p
    while rank < min(last, n):
        total = 0.0
        for i in range(rank, n):
            total += design[i, rank] * design[i, rank]
        length = np.sqrt(total)
        if not (length > tolerance * norms[rank]):
            moved = order[rank]
            norm = norms[rank]
            column = design[:, rank].copy()
            for j in range(rank, p - 1):
                order[j] = order[j + 1]
                norms[j] = norms[j + 1]
                design[:, j] = design[:, j + 1]
            order[p - 1] = moved
            norms[p - 1] = norm
            design[:, p - 1] = column
            last -= 1
            continue
        head = design[rank, rank]
        alpha = -length if head >= 0.0 else length
        # v = x - alpha e1, |v|**2 = 2 (length**2 - alpha head)
        reach = length * length - alpha * head
        design[rank, rank] = head - alpha
        for j in range(rank + 1, p):
            dot = 0.0
            for i in range(rank, n):
                dot += design[i, rank] * design[i, j]
            dot /= reach
            for i in range(rank, n):
                design[i, j] -= dot * design[i, rank]
        dot = 0.0
        for i in range(rank, n):
            dot += design[i, rank] * values[i]
        dot /= reach
        for i in range(rank, n):
            values[i] -= dot * design[i, rank]
        for i in range(rank):
            triangle[i, rank] = design[i, rank]
        triangle[rank, rank] = alpha
        rank += 1
    for j in range(rank, p):
        for i in range(rank):
            triangle[i, j] = design[i, j]
    return rank
