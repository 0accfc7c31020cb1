"""Partitioning around medoids, all candidates at a time."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]

# Swaps after which a search ends even if another would help.
MAX_SWAPS = 1000


@numba.njit(cache=True, nogil=True)
def build_medoids(distances: Floats, k: int) -> NDArray[np.int64]:
    """First medoids (BUILD of Kaufman and Rousseeuw 1990): each lowers the sum of distances most, (k,).

    Greedy, so the medoids for fewer groups are the first of them. Of equals the first sample is taken.

    Parameters
    ----------
    distances : ndarray (m, m)
        Symmetric, 0 on the diagonal.
    k : int
        In 1..m.
    """
    m = len(distances)
    medoids = np.empty(k, dtype=np.int64)
    nearest = np.full(m, np.inf)
    gain = np.zeros(m)
    for i in range(m):
        line = distances[i]
        for x in range(m):
            gain[x] -= line[x]
    for which in range(k):
        if which > 0:
            gain[:] = 0.0
            for i in range(m):
                line, own = distances[i], nearest[i]
                for x in range(m):
                    gain[x] += max(own - line[x], 0.0)
            # A medoid would gain nothing, and neither does a copy of one: the first that is none yet.
            for j in range(which):
                gain[medoids[j]] = -np.inf
        best = np.argmax(gain)
        medoids[which] = best
        line = distances[best]
        for i in range(m):
            nearest[i] = min(nearest[i], line[i])
    return medoids


@numba.njit(cache=True, nogil=True)
def swap_medoids(distances: Floats, medoids: NDArray[np.int64]) -> tuple[Labels, NDArray[np.int64]]:
    """Swaps of a medoid with another sample, the best of all each time, until none lowers the sum of distances.

    Parameters
    ----------
    distances : ndarray (m, m)
        Symmetric, 0 on the diagonal.
    medoids : ndarray of int64 (k,)
        Where to start, k < 128.

    Returns
    -------
    labels : ndarray of int8 (m,)
        Groups from 0; of medoids at the same distance the first.
    medoids : ndarray of int64 (k,)

    Notes
    -----
    SWAP of Kaufman and Rousseeuw 1990 with the removal of all medoids valued in one go (FastPAM1; Schubert and
    Rousseeuw 2021). Here the candidates are the inner loop: rows of the distances are read as they lie, and many
    candidates are valued by one instruction.
    """
    m, k = len(distances), medoids.size
    medoids = medoids.copy()
    labels = np.empty(m, dtype=np.int8)
    nearest, second = np.empty(m), np.empty(m)
    shared = np.empty(m)
    removal = np.empty((k, m))
    for _ in range(MAX_SWAPS):
        base = _assign(distances, medoids, labels, nearest, second)
        if k == m:
            break
        # What the sum changes by if x becomes a medoid and none leaves, and what is added if that of group c leaves.
        shared[:] = 0.0
        removal[:] = 0.0
        for i in range(m):
            line, extra, own, next_ = distances[i], removal[labels[i]], nearest[i], second[i]
            for x in range(m):
                near = min(line[x], own)
                shared[x] += near - own
                extra[x] += min(line[x], next_) - near
        for c in range(k):
            for d in range(k):
                removal[d, medoids[c]] = np.inf
        best, group, candidate = -1e-12 * base, -1, -1
        for c in range(k):
            for x in range(m):
                change = shared[x] + removal[c, x]
                if change < best:
                    best, group, candidate = change, c, x
        if group < 0:
            break
        medoids[group] = candidate
    return labels, medoids


@numba.njit(cache=True, nogil=True)
def _assign(distances: Floats, medoids: NDArray[np.int64], labels: Labels, nearest: Floats, second: Floats) -> float:
    """Nearest and second nearest medoid of each sample; the sum of distances to the nearest."""
    m = len(distances)
    nearest[:] = np.inf
    second[:] = np.inf
    for c in range(medoids.size):
        line = distances[medoids[c]]
        for i in range(m):
            if line[i] < nearest[i]:
                second[i] = nearest[i]
                nearest[i] = line[i]
                labels[i] = c
            elif line[i] < second[i]:
                second[i] = line[i]
    # A medoid is in its own group, also where another lies at distance 0 of it.
    for c in range(medoids.size):
        labels[medoids[c]] = c
    total = 0.0
    for i in range(m):
        total += nearest[i]
    return total
