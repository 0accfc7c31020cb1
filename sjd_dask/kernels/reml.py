"""Restricted likelihood of a within-block correlation, feature by feature: the machine code of `correlation`.

With V = I + g Z Z' and g = rho / (1 - rho), a block of m samples has the inverse I - c J, c = g / (1 + g m), and the
determinant 1 + g m. So everything the restricted likelihood needs is a sum over blocks of each size, and one feature
costs a few small Cholesky factors whatever the number of samples.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Points of the scan over the range of the correlation.
_GRID = 21


@numba.njit(nogil=True, cache=True)
def reml_tile(
    tile: FloatArray, q: FloatArray, starts: IntArray, largest: int, low: float, high: float, out: FloatArray
) -> None:
    """Correlation of each row of `tile` (features, samples sorted by block), on the orthonormal design q."""
    n, p = q.shape
    n_blocks = starts.size - 1
    full_gram = np.zeros((largest + 1, p, p))
    full_count = np.zeros(largest + 1, np.int64)
    sums = np.zeros((n_blocks, p))
    for b in range(n_blocks):
        for i in range(starts[b], starts[b + 1]):
            for j in range(p):
                sums[b, j] += q[i, j]
        size = starts[b + 1] - starts[b]
        full_count[size] += 1
        add_outer(full_gram[size], sums[b], 1.0)
    gram = np.empty((p, p))
    class_gram = np.empty((largest + 1, p, p))
    class_dot = np.empty((largest + 1, p))
    class_square = np.empty(largest + 1)
    count = np.empty(largest + 1, np.int64)
    partial = np.empty(p)
    rest = np.empty(n)
    theta = np.empty(p)
    kept = np.empty(p, np.bool_)
    work = np.empty((p, p))
    for f in range(tile.shape[0]):
        y = tile[f]
        gram[:] = np.eye(p)
        class_gram[:] = full_gram
        count[:] = full_count
        n_seen = n
        blocks_seen = n_blocks
        for b in range(n_blocks):
            seen = 0
            for i in range(starts[b], starts[b + 1]):
                if np.isfinite(y[i]):
                    seen += 1
            size = starts[b + 1] - starts[b]
            if seen == size:
                continue
            n_seen -= size - seen
            count[size] -= 1
            add_outer(class_gram[size], sums[b], -1.0)
            partial[:] = sums[b]
            for i in range(starts[b], starts[b + 1]):
                if not np.isfinite(y[i]):
                    add_outer(gram, q[i], -1.0)
                    partial -= q[i]
            if seen == 0:
                blocks_seen -= 1
            else:
                count[seen] += 1
                add_outer(class_gram[seen], partial, 1.0)
        out[f] = np.nan
        if not (n_seen > p + 2 and 1 < blocks_seen < n_seen - 1):
            continue
        rank = factor(gram, work, kept)
        # Residuals of ordinary least squares, taken twice so that a large mean leaves no rounding behind.
        total = 0.0
        for i in range(n):
            rest[i] = y[i] if np.isfinite(y[i]) else 0.0
            total += rest[i] * rest[i]
        for _ in range(2):
            theta[:] = 0.0
            for i in range(n):
                for j in range(p):
                    theta[j] += q[i, j] * rest[i]
            solve_factored(work, kept, theta)
            for i in range(n):
                if np.isfinite(y[i]):
                    for j in range(p):
                        rest[i] -= q[i, j] * theta[j]
        squares = 0.0
        for i in range(n):
            squares += rest[i] * rest[i]
        if not squares > 1e-24 * total:
            continue
        class_dot[:] = 0.0
        class_square[:] = 0.0
        for b in range(n_blocks):
            seen = 0
            block_sum = 0.0
            partial[:] = 0.0
            for i in range(starts[b], starts[b + 1]):
                if np.isfinite(y[i]):
                    seen += 1
                    block_sum += rest[i]
                    for j in range(p):
                        partial[j] += q[i, j]
            class_square[seen] += block_sum * block_sum
            for j in range(p):
                class_dot[seen, j] += partial[j] * block_sum
        out[f] = _maximise(gram, class_gram, class_dot, class_square, count, squares, n_seen - rank, kept, low, high)


@numba.njit(nogil=True, cache=True)
def add_outer(matrix: FloatArray, vector: FloatArray, sign: float) -> None:
    for i in range(vector.size):
        for j in range(i + 1):
            matrix[i, j] += sign * vector[i] * vector[j]


@numba.njit(nogil=True, cache=True)
def factor(matrix: FloatArray, lower: FloatArray, kept: NDArray[np.bool_]) -> int:
    """Cholesky factor from the lower triangle; columns that hang on the ones before are left out. Returns the rank."""
    p = matrix.shape[0]
    rank = 0
    for j in range(p):
        pivot = matrix[j, j]
        for k in range(j):
            if kept[k]:
                pivot -= lower[j, k] * lower[j, k]
        kept[j] = pivot > 1e-10 * matrix[j, j] and pivot > 1e-14
        if not kept[j]:
            continue
        rank += 1
        lower[j, j] = math.sqrt(pivot)
        for i in range(j + 1, p):
            value = matrix[i, j]
            for k in range(j):
                if kept[k]:
                    value -= lower[i, k] * lower[j, k]
            lower[i, j] = value / lower[j, j]
    return rank


@numba.njit(nogil=True, cache=True)
def solve_factored(lower: FloatArray, kept: NDArray[np.bool_], vector: FloatArray) -> None:
    """vector <- (L L')^-1 vector in place; zero at the columns left out."""
    p = vector.size
    for j in range(p):
        if not kept[j]:
            vector[j] = 0.0
            continue
        for k in range(j):
            vector[j] -= lower[j, k] * vector[k]
        vector[j] /= lower[j, j]
    for j in range(p - 1, -1, -1):
        if kept[j]:
            for i in range(j + 1, p):
                if kept[i]:
                    vector[j] -= lower[i, j] * vector[i]
            vector[j] /= lower[j, j]


@numba.njit(nogil=True, cache=True)
def _criterion(
    rho: float,
    gram: FloatArray,
    class_gram: FloatArray,
    class_dot: FloatArray,
    class_square: FloatArray,
    count: IntArray,
    squares: float,
    df: int,
    kept: NDArray[np.bool_],
    work: FloatArray,
    vector: FloatArray,
) -> float:
    """Minus twice the restricted log likelihood at rho, up to a constant; residuals are orthogonal to the design."""
    p = gram.shape[0]
    g = rho / (1.0 - rho)
    value = 0.0
    rss = squares
    for i in range(p):
        vector[i] = 0.0
        for j in range(i + 1):
            work[i, j] = gram[i, j]
    for m in range(1, count.size):
        if count[m] == 0:
            continue
        c = g / (1.0 + g * m)
        value += count[m] * math.log1p(g * m)
        rss -= c * class_square[m]
        for i in range(p):
            vector[i] -= c * class_dot[m, i]
            for j in range(i + 1):
                work[i, j] -= c * class_gram[m, i, j]
    # Cholesky factor over the lower triangle, in place, with the forward substitution of the vector.
    for j in range(p):
        if not kept[j]:
            continue
        pivot = work[j, j]
        for k in range(j):
            if kept[k]:
                pivot -= work[j, k] * work[j, k]
        if not pivot > 0.0:
            return np.inf
        root = math.sqrt(pivot)
        work[j, j] = root
        value += 2.0 * math.log(root)
        for k in range(j):
            if kept[k]:
                vector[j] -= work[j, k] * vector[k]
        vector[j] /= root
        rss -= vector[j] * vector[j]
        for i in range(j + 1, p):
            if kept[i]:
                for k in range(j):
                    if kept[k]:
                        work[i, j] -= work[i, k] * work[j, k]
                work[i, j] /= root
    if not rss > 0.0:
        return np.inf
    return value + df * math.log(rss)


@numba.njit(nogil=True, cache=True)
def _maximise(
    gram: FloatArray,
    class_gram: FloatArray,
    class_dot: FloatArray,
    class_square: FloatArray,
    count: IntArray,
    squares: float,
    df: int,
    kept: NDArray[np.bool_],
    low: float,
    high: float,
) -> float:
    """Best rho in [low, high]: a scan, then Brent's minimisation (1973, chapter 5) around its best point."""
    p = gram.shape[0]
    work = np.empty((p, p))
    vector = np.empty(p)
    best = np.inf
    worst = -np.inf
    at = 0
    step = (high - low) / (_GRID - 1)
    for i in range(_GRID):
        value = _criterion(
            low + i * step, gram, class_gram, class_dot, class_square, count, squares, df, kept, work, vector
        )
        if value < best:
            best = value
            at = i
        if value < np.inf and value > worst:
            worst = value
    if best == np.inf or worst - best < 1e-9 * df:
        return np.nan
    a = low + max(at - 1, 0) * step
    b = low + min(at + 1, _GRID - 1) * step
    golden = 0.5 * (3.0 - math.sqrt(5.0))
    x = low + at * step
    if at == 0 or at == _GRID - 1:
        x = a + golden * (b - a)
    fx = _criterion(x, gram, class_gram, class_dot, class_square, count, squares, df, kept, work, vector)
    w = v = x
    fw = fv = fx
    move = before = b - a
    for _ in range(100):
        middle = 0.5 * (a + b)
        tolerance = 1e-9 + 1e-9 * abs(x)
        if abs(x - middle) <= 2.0 * tolerance - 0.5 * (b - a):
            break
        parabola = False
        if abs(before) > tolerance:
            r = (x - w) * (fx - fv)
            s = (x - v) * (fx - fw)
            top = (x - v) * s - (x - w) * r
            bottom = 2.0 * (s - r)
            if bottom > 0.0:
                top = -top
            bottom = abs(bottom)
            if abs(top) < abs(0.5 * bottom * before) and bottom * (a - x) < top < bottom * (b - x):
                before = move
                move = top / bottom
                parabola = True
        if not parabola:
            before = b - x if x < middle else a - x
            move = golden * before
        u = x + (move if abs(move) >= tolerance else (tolerance if move > 0.0 else -tolerance))
        u = min(max(u, a), b)
        fu = _criterion(u, gram, class_gram, class_dot, class_square, count, squares, df, kept, work, vector)
        if fu <= fx:
            if u < x:
                b = x
            else:
                a = x
            v, fv = w, fw
            w, fw = x, fx
            x, fx = u, fu
        else:
            if u < x:
                a = u
            else:
                b = u
            if fu <= fw or w == x:
                v, fv = w, fw
                w, fw = u, fu
            elif fu <= fv or v in (x, w):
                v, fv = u, fu
    # At an end of the range the minimum is the end itself.
    if (at == 0 or at == _GRID - 1) and best <= fx:
        return low if at == 0 else high
    return x
