"""Hierarchical trees of a square matrix of distances, merge for merge those of SciPy, several times faster."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

AVERAGE, COMPLETE, WARD = 0, 1, 2
METHODS = {"average": AVERAGE, "complete": COMPLETE, "ward": WARD}
# Above it SciPy makes trees of triangles: with tens of MB less, where a plan counts them.
MOST_SQUARE = 1500
# Rows are as long as machines take many at a time without a rest.
BLOCK = 8
# Bits of +inf: where a cluster is merged away.
GONE = np.int64(0x7FF0_0000_0000_0000)


@numba.njit(cache=True, nogil=True)
def square_of(matrix: NDArray[np.float64], rows: NDArray[np.int64]) -> Floats:
    """Entries of a square matrix among some rows, (m, m)."""
    m = rows.size
    out = np.empty((m, m))
    for a in range(m):
        line = matrix[rows[a]]
        own = out[a]
        for b in range(m):
            own[b] = line[rows[b]]
    return out


@numba.njit(cache=True, nogil=True)
def _first_least(bits: NDArray[np.int64], row: int, gone: NDArray[np.int64]) -> int:
    """Position of the first smallest entry of a row, of the clusters that are left."""
    least = GONE
    for j in range(bits.shape[1]):
        least = min(least, max(bits[row, j], gone[j]))
    where = 0
    while max(bits[row, where], gone[where]) != least:
        where += 1
    return where


def tree_of(distances: NDArray[np.float64], rows: NDArray[np.int64], method: int) -> tuple[NDArray[np.int64], Floats]:
    """Tree of some rows of a matrix of distances.

    Parameters
    ----------
    distances : ndarray (n, n)
        Symmetric, finite, not negative.
    rows : ndarray of int64 (m,)
        Which rows, and columns, are meant.
    method : int
        AVERAGE, COMPLETE or WARD (Ward's criterion on the distances as they are, R's ward.D2).

    Returns
    -------
    merges : ndarray of int64 (m - 1, 2)
        In order of height: leaves are 0..m-1, merge i makes node m + i; the smaller node first.
    heights : ndarray (m - 1,)

    Notes
    -----
    The nearest-neighbour chain (Murtagh 1983; Müllner 2011) as SciPy walks it, ties included, so that merges and
    heights are those of ``scipy.cluster.hierarchy.linkage`` bit for bit. Faster because rows of a square matrix lie
    together in memory, and because doubles that aren't negative compare as their bits do, which machines do many at a
    time.
    """
    left, right, heights = _chain(distances, rows, method)
    # By height, of equal height in the order they were found.
    order = np.argsort(heights, kind="stable")
    return _numbered(left[order], right[order]), heights[order]


def average_merges(triangle: NDArray[np.float64]) -> NDArray[np.int64]:
    """Merges of average linkage, (n - 1, 2) as in `tree_of`, of the distances above the diagonal, row after row.

    Parameters
    ----------
    triangle : ndarray (n (n - 1) / 2,)
        Finite, not negative.
    """
    n = round((1.0 + np.sqrt(1.0 + 8.0 * len(triangle))) / 2.0)
    if n > MOST_SQUARE:
        from scipy.cluster.hierarchy import linkage

        return np.asarray(linkage(triangle, method="average")[:, :2].astype(np.int64))
    return tree_of(_square(triangle, n), np.arange(n), AVERAGE)[0]


@numba.njit(cache=True, nogil=True)
def _square(triangle: NDArray[np.float64], n: int) -> Floats:
    out = np.empty((n, n))
    at = 0
    for a in range(n):
        out[a, a] = 0.0
        for b in range(a + 1, n):
            out[a, b] = out[b, a] = triangle[at]
            at += 1
    return out


@numba.njit(cache=True, nogil=True)
def _chain(
    distances: NDArray[np.float64], rows: NDArray[np.int64], method: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Merges as the chain finds them, a cluster by its last leaf, and their heights."""
    m = rows.size
    width = -(-m // BLOCK) * BLOCK
    table = np.empty((m, width))
    for a in range(m):
        line = distances[rows[a]]
        own = table[a]
        for b in range(m):
            own[b] = line[rows[b]] + 0.0  # a zero without a sign
        own[a] = np.inf
    bits = table.view(np.int64)
    gone = np.full(width, GONE)  # where there is no cluster any more
    gone[:m] = 0
    size = np.ones(m, dtype=np.int64)
    seen = np.zeros(m, dtype=np.int64)  # merges that a row knows of
    chain = np.empty(m, dtype=np.int64)
    length = 0
    first = 0  # no cluster before it is left
    left = np.empty(m - 1, dtype=np.int64)
    right = np.empty(m - 1, dtype=np.int64)
    heights = np.empty(m - 1)
    for step in range(m - 1):
        if length == 0:
            while size[first] == 0:
                first += 1
            chain[0] = first
            length = 1
        while True:
            x = chain[length - 1]
            _catch_up(table, x, right[seen[x] : step])
            seen[x] = step
            y = _first_least(bits, x, gone)
            # Of equals the one it came from, or the chain might go round in circles.
            if length > 1 and bits[x, chain[length - 2]] == bits[x, y]:
                y = chain[length - 2]
                break
            chain[length] = y
            length += 1
        length -= 2
        _catch_up(table, y, right[seen[y] : step])
        if x > y:
            x, y = y, x
        least = table[x, y]
        left[step], right[step], heights[step] = x, y, least
        nx, ny = size[x], size[y]
        size[x], size[y] = 0, nx + ny
        gone[x] = GONE
        seen[y] = step + 1
        if method == AVERAGE:
            _average(table[x], table[y], nx, ny)
        elif method == COMPLETE:
            _complete(table[x], table[y])
        else:
            _ward(table[x], table[y], nx, ny, least, size)
        table[y, y] = np.inf
    return left, right, heights


@numba.njit(cache=True, nogil=True)
def _catch_up(table: Floats, row: int, merged: NDArray[np.int64]) -> None:
    """Take over what merges wrote to their own rows only: most rows never need to know."""
    for other in merged:
        table[row, other] = table[other, row]
    table[row, row] = np.inf


@numba.njit(cache=True, nogil=True)
def _average(one: Floats, other: Floats, n_one: int, n_other: int) -> None:
    for i in range(other.size):
        other[i] = (n_one * one[i] + n_other * other[i]) / (n_one + n_other)


@numba.njit(cache=True, nogil=True)
def _complete(one: Floats, other: Floats) -> None:
    for i in range(other.size):
        other[i] = one[i] if one[i] > other[i] else other[i]


@numba.njit(cache=True, nogil=True)
def _ward(one: Floats, other: Floats, n_one: int, n_other: int, apart: float, size: NDArray[np.int64]) -> None:
    for i in range(size.size):
        t = 1.0 / (n_one + n_other + size[i])
        other[i] = np.sqrt(
            (size[i] + n_one) * t * one[i] * one[i]
            + (size[i] + n_other) * t * other[i] * other[i]
            - size[i] * t * apart * apart
        )


@numba.njit(cache=True, nogil=True)
def _numbered(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Merges with the numbers of the nodes they join, the smaller first."""
    n_merges = left.size
    merges = np.empty((n_merges, 2), dtype=np.int64)
    parent = np.arange(2 * n_merges + 1)
    for step in range(n_merges):
        a, b = _top(parent, left[step]), _top(parent, right[step])
        merges[step, 0], merges[step, 1] = min(a, b), max(a, b)
        parent[a] = parent[b] = n_merges + 1 + step
    return merges


@numba.njit(cache=True, nogil=True)
def _top(parent: NDArray[np.int64], node: int) -> int:
    top = node
    while parent[top] != top:
        top = parent[top]
    while parent[node] != top:
        node, parent[node] = parent[node], top
    return top
