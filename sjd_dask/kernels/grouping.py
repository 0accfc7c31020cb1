"""Cutting trees, co-assignment counts, Rand indices, silhouettes: what consensus clustering repeats."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]


@numba.njit(cache=True, nogil=True)
def cut_merges(merges: NDArray[np.int64], sizes: NDArray[np.int64]) -> Labels:
    """Groups of a tree, cut where it has k branches, for several k at once.

    Parameters
    ----------
    merges : ndarray of int64 (n - 1, 2)
        Merges in order of height as SciPy's ``linkage`` gives them: leaves are 0..n-1, merge i makes node n + i.
    sizes : ndarray of int64 (n_k,)
        The k to cut at, each in 1..n.

    Returns
    -------
    ndarray of int8 (n_k, n)
        Groups from 0 in order of their first leaf.
    """
    n = merges.shape[0] + 1
    out = np.empty((sizes.size, n), dtype=np.int8)
    parent = np.empty(2 * n - 1, dtype=np.int64)
    root = np.empty(2 * n - 1, dtype=np.int64)
    name = np.empty(2 * n - 1, dtype=np.int64)
    for which in range(sizes.size):
        kept = n - sizes[which]
        for node in range(2 * n - 1):
            parent[node] = -1
            name[node] = -1
        for step in range(kept):
            parent[merges[step, 0]] = n + step
            parent[merges[step, 1]] = n + step
        # A parent has a larger number than its children, so one way down is enough.
        for back in range(n + kept):
            node = n + kept - 1 - back
            root[node] = node if parent[node] < 0 else root[parent[node]]
        found = 0
        for leaf in range(n):
            top = root[leaf]
            if name[top] < 0:
                name[top] = found
                found += 1
            out[which, leaf] = name[top]
    return out


@numba.njit(cache=True, nogil=True)
def co_assignment(labels: Labels, start: int, stop: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """How often pairs of samples were drawn together, and how often they then shared a group.

    Parameters
    ----------
    labels : ndarray of int8 (R, n)
        Groups in each of R < 65,536 resamples; negative: not drawn.
    start, stop : int
        The samples whose rows are wanted.

    Returns
    -------
    together, drawn : ndarray of uint16 (stop - start, n)
    """
    rounds, n = labels.shape
    together = np.zeros((stop - start, n), dtype=np.uint16)
    drawn = np.zeros((stop - start, n), dtype=np.uint16)
    for i in range(start, stop):
        same = together[i - start]
        both = drawn[i - start]
        for r in range(rounds):
            own = labels[r, i]
            if own >= 0:
                line = labels[r]
                for j in range(n):
                    same[j] += np.uint16(line[j] == own)
                    both[j] += np.uint16(line[j] >= 0)
    return together, drawn


@numba.njit(cache=True, nogil=True)
def rand_indices(labels: Labels, reference: NDArray[np.int64]) -> Floats:
    """Adjusted Rand index (Hubert and Arabie 1985) of each labelling with a reference, over the samples it has.

    Parameters
    ----------
    labels : ndarray of int8 (R, n)
        Groups; negative: not drawn.
    reference : ndarray of int64 (n,)
        Groups from 0.

    Returns
    -------
    ndarray (R,)
        1 where both have one group only, or each sample its own.
    """
    rounds, n = labels.shape
    width = reference.max() + 1
    out = np.empty(rounds)
    for r in range(rounds):
        table = np.zeros((128, width))
        rows = np.zeros(128)
        columns = np.zeros(width)
        drawn = 0
        for i in range(n):
            if labels[r, i] >= 0:
                table[labels[r, i], reference[i]] += 1.0
                rows[labels[r, i]] += 1.0
                columns[reference[i]] += 1.0
                drawn += 1
        both = (table * (table - 1.0)).sum() / 2.0
        first = (rows * (rows - 1.0)).sum() / 2.0
        second = (columns * (columns - 1.0)).sum() / 2.0
        pairs = drawn * (drawn - 1.0) / 2.0
        expected = first * second / pairs if pairs > 0.0 else 0.0
        most = (first + second) / 2.0
        out[r] = (both - expected) / (most - expected) if most != expected else 1.0
    return out


def silhouettes(sums: Floats, labels: NDArray[np.int64]) -> Floats:
    """Silhouette widths (Rousseeuw 1987), (n,); 0 for a sample alone in its group, NaN where there is one group only.

    Parameters
    ----------
    sums : ndarray (n, k)
        Sums of the distances of each sample to the members of each group.
    labels : ndarray of int64 (n,)
        Groups from 0.
    """
    n, k = sums.shape
    counts = np.bincount(labels, minlength=k)
    if np.count_nonzero(counts) < 2:
        return np.full(n, np.nan)
    every = np.arange(n)
    own_count = counts[labels]
    own = sums[every, labels] / np.maximum(own_count - 1, 1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    means[every, labels] = np.inf
    other = means.min(axis=1)
    larger = np.maximum(own, other)
    widths = np.where(larger > 0, (other - own) / np.where(larger > 0, larger, 1.0), 0.0)
    return np.asarray(np.where(own_count > 1, widths, 0.0))
