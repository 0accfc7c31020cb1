"""Samples that join groups made of others: the nearest group in every round, and how often they share it with whom."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@numba.njit(cache=True, nogil=True)
def nearest_groups(
    scores: Floats, sizes: NDArray[np.int64], tolerance: Floats, out: NDArray[np.int8], first: int
) -> None:
    """The group of the least score, for each sample, round and number of groups.

    Parameters
    ----------
    scores : ndarray (n, rounds * sum(sizes))
        Round after round, in each the groups of the first number of groups, of the second, ... Infinite: the group is
        empty.
    sizes : ndarray of int64 (n_k,)
        The numbers of groups.
    tolerance : ndarray (n,)
        Scores that are at most so far above the least count as equal, and the first of them wins: what rounding
        makes of a tie must not decide.
    out : ndarray of int8 (n, n_k, R)
        Where the groups go, at rounds `first` and on.
    first : int
    """
    total = sizes.sum()
    rounds = scores.shape[1] // total
    for i in range(scores.shape[0]):
        line = scores[i]
        at = 0
        for r in range(rounds):
            for j in range(sizes.size):
                least = np.inf
                for c in range(sizes[j]):
                    least = min(least, line[at + c])
                limit = least + tolerance[i]
                for c in range(sizes[j]):
                    if line[at + c] <= limit:
                        out[i, j, first + r] = c
                        break
                at += sizes[j]


@numba.njit(cache=True, nogil=True)
def summed_shares(labels: NDArray[np.int8], table: Floats) -> Floats:
    """Sum over rounds of what a table says of the group that a sample joined.

    Parameters
    ----------
    labels : ndarray of int8 (n, R)
    table : ndarray (R, k, g)

    Returns
    -------
    ndarray (n, g)
        Rounds are added in their order, sample by sample: samples don't depend on their neighbours.
    """
    n, rounds = labels.shape
    out = np.zeros((n, table.shape[2]))
    for i in range(n):
        for r in range(rounds):
            line = table[r, labels[i, r]]
            for g in range(line.size):
                out[i, g] += line[g]
    return out
