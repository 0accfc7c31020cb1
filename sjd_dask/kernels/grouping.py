"""Cutting trees, k-means from inner products, co-assignment counts, silhouettes: what consensus clustering repeats."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]

# Passes over the samples after which a k-means stops even if samples still move.
MAX_PASSES = 100
# A move must lower the criterion by more than rounding does, or two equal groups would trade a sample for ever.
LEAST_GAIN = 1e-10


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
def condensed(distances: NDArray[np.float64], rows: NDArray[np.int64]) -> Floats:
    """Upper triangle of `distances` among some rows, as SciPy's ``linkage`` takes it: (m (m - 1) / 2,) float64."""
    m = rows.size
    out = np.empty(m * (m - 1) // 2)
    at = 0
    for a in range(m):
        line = distances[rows[a]]
        for b in range(a + 1, m):
            out[at] = line[rows[b]]
            at += 1
    return out


@numba.njit(cache=True, nogil=True)
def kmeans_gram(gram: Floats, starts: NDArray[np.int64]) -> tuple[Labels, float]:
    """k-means of samples given by their inner products: the best of several starts.

    Parameters
    ----------
    gram : ndarray (m, m)
        Inner products of the samples, features centred.
    starts : ndarray of int64 (n_starts, k)
        Samples that are the first centres of each start.

    Returns
    -------
    labels : ndarray of int8 (m,)
        Groups from 0. There can be fewer than k of them where there are fewer than k different samples.
    inertia : float
        Sum of squared distances to the own centre.

    Notes
    -----
    Samples move one by one, as soon as that lowers the inertia, counting what the move does to both centres (Hartigan
    1975; the optimal transfer of Hartigan and Wong 1979). With inner products a move costs m operations whatever the
    number of features, and looking at a sample k.
    """
    m = gram.shape[0]
    k = starts.shape[1]
    best = np.zeros(m, dtype=np.int8)
    best_inertia = np.inf
    labels = np.empty(m, dtype=np.int8)
    total = 0.0
    for i in range(m):
        total += gram[i, i]
    for start in range(starts.shape[0]):
        counts = np.zeros(k)
        sums = np.zeros((k, m))  # of the inner products of each sample with the members of each group
        within = np.zeros(k)  # of the inner products among the members of each group
        for i in range(m):
            nearest, least = 0, np.inf
            for c in range(k):
                centre = starts[start, c]
                distance = gram[centre, centre] - 2.0 * gram[centre, i]
                if distance < least:
                    nearest, least = c, distance
            labels[i] = nearest
            counts[nearest] += 1.0
            line = gram[i]
            for j in range(m):
                sums[nearest, j] += line[j]
        for i in range(m):
            within[labels[i]] += sums[labels[i], i]
        since = 0  # samples looked at since the last move
        for _ in range(MAX_PASSES):
            for i in range(m):
                since += 1
                a = labels[i]
                if counts[a] <= 1.0:
                    continue
                own = gram[i, i] - 2.0 * sums[a, i] / counts[a] + within[a] / (counts[a] * counts[a])
                loss = own * counts[a] / (counts[a] - 1.0)
                to, least = -1, np.inf
                for c in range(k):
                    if c == a:
                        continue
                    if counts[c] == 0.0:
                        gain = 0.0
                    else:
                        there = gram[i, i] - 2.0 * sums[c, i] / counts[c] + within[c] / (counts[c] * counts[c])
                        gain = there * counts[c] / (counts[c] + 1.0)
                    if gain < least:
                        to, least = c, gain
                if to >= 0 and loss - least > LEAST_GAIN * (loss + gram[i, i]):
                    within[a] += gram[i, i] - 2.0 * sums[a, i]
                    within[to] += gram[i, i] + 2.0 * sums[to, i]
                    line = gram[i]
                    for j in range(m):
                        sums[a, j] -= line[j]
                        sums[to, j] += line[j]
                    counts[a] -= 1.0
                    counts[to] += 1.0
                    labels[i] = to
                    since = 0
                elif since >= m:
                    break
            if since >= m:
                break
        inertia = total
        for c in range(k):
            if counts[c] > 0.0:
                inertia -= within[c] / counts[c]
        if inertia < best_inertia * (1.0 - LEAST_GAIN) or start == 0:
            best_inertia = inertia
            best[:] = labels
    return best, best_inertia


@numba.njit(cache=True, nogil=True)
def kmeans_values(values: Floats, starts: NDArray[np.int64]) -> tuple[Labels, float]:
    """`kmeans_gram` from the values (m, p): for so many samples that m x m inner products are too many."""
    m, p = values.shape
    k = starts.shape[1]
    best = np.zeros(m, dtype=np.int8)
    best_inertia = np.inf
    labels = np.empty(m, dtype=np.int8)
    distances = np.empty(k)
    for start in range(starts.shape[0]):
        counts = np.zeros(k)
        centres = np.zeros((k, p))
        for i in range(m):
            nearest, least = 0, np.inf
            for c in range(k):
                distance = 0.0
                for f in range(p):
                    apart = values[i, f] - values[starts[start, c], f]
                    distance += apart * apart
                if distance < least:
                    nearest, least = c, distance
            labels[i] = nearest
            counts[nearest] += 1.0
            for f in range(p):
                centres[nearest, f] += (values[i, f] - centres[nearest, f]) / counts[nearest]
        since = 0
        for _ in range(MAX_PASSES):
            for i in range(m):
                since += 1
                a = labels[i]
                if counts[a] <= 1.0:
                    continue
                for c in range(k):
                    distance = 0.0
                    for f in range(p):
                        apart = values[i, f] - centres[c, f]
                        distance += apart * apart
                    distances[c] = distance
                loss = distances[a] * counts[a] / (counts[a] - 1.0)
                to, least = -1, np.inf
                for c in range(k):
                    if c == a:
                        continue
                    gain = distances[c] * counts[c] / (counts[c] + 1.0)
                    if gain < least:
                        to, least = c, gain
                if to >= 0 and loss - least > LEAST_GAIN * loss:
                    for f in range(p):
                        centres[a, f] -= (values[i, f] - centres[a, f]) / (counts[a] - 1.0)
                        centres[to, f] += (values[i, f] - centres[to, f]) / (counts[to] + 1.0)
                    counts[a] -= 1.0
                    counts[to] += 1.0
                    labels[i] = to
                    since = 0
                elif since >= m:
                    break
            if since >= m:
                break
        inertia = 0.0
        for i in range(m):
            for f in range(p):
                apart = values[i, f] - centres[labels[i], f]
                inertia += apart * apart
        if inertia < best_inertia * (1.0 - LEAST_GAIN) or start == 0:
            best_inertia = inertia
            best[:] = labels
    return best, best_inertia


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
