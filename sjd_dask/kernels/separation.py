"""Groups that are far apart in units of their own common covariance, whatever the covariance of all samples."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]

# Samples that are compared with the centres at a time: their values stay in the nearest cache.
BLOCK = 256
# Of a determinant that is 0: groups without any spread in some direction.
LEAST = 1e-300
# Rounds of bringing far samples in.
REINING = 30


def whitened(table: Floats) -> Floats:
    """Columns turned and scaled to mean 0, variance 1 and no correlation, (n, d).

    Parameters
    ----------
    table : ndarray (n, d)
        Of full rank, n > d.

    Notes
    -----
    By the inverse of the Cholesky factor of the covariance (division by n); another choice would only turn the result.
    """
    centred = table - table.mean(axis=0)
    factor = np.linalg.cholesky(centred.T @ centred / len(centred))
    return np.ascontiguousarray(np.linalg.solve(factor, centred.T).T)


def reined(table: Floats, radius: float) -> Floats:
    """Samples, those farther than `radius` from the mean brought there, (n, d).

    A sample that is far from all others would make a direction of its own, and be a group there.

    Parameters
    ----------
    table : ndarray (n, d)
        Of full rank, n > d.
    radius : float
        In standard deviations, above sqrt(d).

    Notes
    -----
    Once the far are nearer, the mean moves and the others spread more in units of the new covariance, and so again
    until none is more than a tenth too far: in the manner of Huber's mean and covariance (Maronna 1976).
    """
    table = table - table.mean(axis=0)
    for _ in range(REINING):
        white = whitened(table)
        far = np.sqrt(np.einsum("ij,ij->i", white, white))
        if far.max() <= 1.1 * radius:
            break
        table = table * np.minimum(1.0, radius / np.maximum(far, LEAST))[:, None]
        table -= table.mean(axis=0)
    return table


def by_kurtosis(white: Floats) -> Floats:
    """Whitened samples turned to their invariant coordinates, those of least kurtosis first, (n, d).

    Notes
    -----
    Eigenvectors of the mean of r^2 z z', r = |z| (Cardoso's FOBI; Tyler et al. 2009: invariant coordinate selection).
    In a mixture of groups with one covariance the directions that tell groups of some size apart come first.
    """
    squares = np.einsum("ij,ij->i", white, white)
    _, vectors = np.linalg.eigh((white * squares[:, None]).T @ white / len(white))
    return np.ascontiguousarray(white @ vectors)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _centres(white: Floats, labels: Groups, k: int) -> tuple[Floats, Floats]:
    n, d = white.shape
    counts = np.zeros(k)
    centres = np.zeros((k, d))
    for i in range(n):
        c = labels[i]
        counts[c] += 1.0
        for f in range(d):
            centres[c, f] += white[i, f]
    for c in range(k):
        if counts[c] > 0.0:
            for f in range(d):
                centres[c, f] /= counts[c]
    return counts, centres


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _eliminate(matrix: Floats, right: Floats) -> float:
    """Solve matrix @ x = right in place of `right` (Gaussian elimination, rows exchanged); the determinant.

    Both are overwritten. They have as many rows as there are groups: a call of LAPACK would take longer, and longest
    to compile.
    """
    k = matrix.shape[0]
    width = right.shape[1]
    determinant = 1.0
    for step in range(k):
        pivot = step
        for row in range(step + 1, k):
            if abs(matrix[row, step]) > abs(matrix[pivot, step]):
                pivot = row
        if matrix[pivot, step] == 0.0:
            return 0.0
        if pivot != step:
            determinant = -determinant
            for column in range(k):
                matrix[step, column], matrix[pivot, column] = matrix[pivot, column], matrix[step, column]
            for column in range(width):
                right[step, column], right[pivot, column] = right[pivot, column], right[step, column]
        determinant *= matrix[step, step]
        for row in range(step + 1, k):
            factor = matrix[row, step] / matrix[step, step]
            for column in range(step, k):
                matrix[row, column] -= factor * matrix[step, column]
            for column in range(width):
                right[row, column] -= factor * right[step, column]
    for step in range(k - 1, -1, -1):
        for column in range(width):
            value = right[step, column]
            for row in range(step + 1, k):
                value -= matrix[step, row] * right[row, column]
            right[step, column] = value / matrix[step, step]
    return determinant


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _system(counts: Floats, centres: Floats, n: int) -> Floats:
    """I - M M' diag(n_c / n), (k, k): its determinant is that of W / n = I - sum of n_c m_c m_c' / n."""
    k = counts.size
    out = np.empty((k, k))
    for a in range(k):
        for b in range(k):
            product = 0.0
            for f in range(centres.shape[1]):
                product += centres[a, f] * centres[b, f]
            out[a, b] = (1.0 if a == b else 0.0) - product * counts[b] / n
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _log_ratio(counts: Floats, centres: Floats, n: int) -> float:
    """log det(W) / det(T) of whitened samples."""
    none = np.empty((counts.size, 0))
    return float(np.log(max(_eliminate(_system(counts, centres, n), none), LEAST)))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def log_ratio(white: Floats, labels: Groups) -> float:
    """log det(W) / det(T) of groups (Wilks' lambda): 0 for one group, the lower the farther apart they are.

    Parameters
    ----------
    white : ndarray (n, d)
        Whitened samples.
    labels : ndarray of int64 (n,)
        Groups from 0.
    """
    k = int(labels.max()) + 1
    counts, centres = _centres(white, labels, k)
    return _log_ratio(counts, centres, white.shape[0])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _assign(turned: Floats, directions: Floats, offsets: Floats, labels: Groups) -> int:
    """Nearest centre: the least offset - 2 x'direction; how many samples moved. `turned` is (d, n)."""
    d, n = turned.shape
    k = offsets.size
    least = np.empty(BLOCK)
    value = np.empty(BLOCK)
    to = np.empty(BLOCK, dtype=np.int64)
    moved = 0
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        for j in range(m):
            least[j] = np.inf
            to[j] = 0
        for c in range(k):
            if offsets[c] == np.inf:
                continue
            for j in range(m):
                value[j] = offsets[c]
            for f in range(d):
                weight = 2.0 * directions[c, f]
                line = turned[f, start : start + m]
                for j in range(m):
                    value[j] -= weight * line[j]
            for j in range(m):
                if value[j] < least[j]:
                    least[j] = value[j]
                    to[j] = c
        for j in range(m):
            if labels[start + j] != to[j]:
                labels[start + j] = to[j]
                moved += 1
    return moved


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _improve(white: Floats, turned: Floats, labels: Groups, k: int, passes: int) -> float:
    """Lower log det(W) by moving samples to the centre that is nearest in the metric of W; the last value."""
    n, d = white.shape
    counts, centres = _centres(white, labels, k)
    for _ in range(passes):
        # n W^-1 m_c for every c: (I - G)^-1 M' = M' (I - diag(n_c / n) M M')^-1, G = M' diag(n_c / n) M.
        directions = centres.copy()
        if abs(_eliminate(_system(counts, centres, n), directions)) < LEAST:
            break
        offsets = np.full(k, np.inf)
        for c in range(k):
            if counts[c] > 0.0:
                offsets[c] = 0.0
                for f in range(d):
                    offsets[c] += directions[c, f] * centres[c, f]
        if _assign(turned, directions, offsets, labels) == 0:
            break
        counts, centres = _centres(white, labels, k)
    return _log_ratio(counts, centres, n)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _from_samples(turned: Floats, starts: Groups, labels: Groups) -> None:
    """Groups of the nearest of some samples."""
    d = turned.shape[0]
    k = starts.size
    centres = np.empty((k, d))
    offsets = np.zeros(k)
    for c in range(k):
        for f in range(d):
            centres[c, f] = turned[f, starts[c]]
            offsets[c] += centres[c, f] * centres[c, f]
    _assign(turned, centres, offsets, labels)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def least_log_ratio(table: Floats, starts: Groups, passes: int) -> tuple[float, Groups]:
    """Groups of low det(W) / det(T): k-means in the metric of the groups' own covariance (Friedman and Rubin 1967).

    Parameters
    ----------
    table : ndarray (n, d)
        Whitened samples, the coordinates that likely tell groups apart first (`by_kurtosis`).
    starts : ndarray of int64 (n_starts, k)
        Samples that are the first centres of each start.
    passes : int
        At most so many passes over the samples for each start, and again for the best.

    Returns
    -------
    value : float
        log det(W) / det(T).
    labels : ndarray of int64 (n,)

    Notes
    -----
    The starts are made in the first k - 1 coordinates, where k groups fit; the best goes on in all.
    """
    n, d = table.shape
    n_starts, k = starts.shape
    q = min(d, k - 1)
    few = np.ascontiguousarray(table[:, :q])
    few_turned = np.ascontiguousarray(few.T)
    best = np.zeros(n, dtype=np.int64)
    least = np.inf
    labels = np.zeros(n, dtype=np.int64)
    for s in range(n_starts):
        labels[:] = 0
        _from_samples(few_turned, starts[s], labels)
        value = _improve(few, few_turned, labels, k, passes)
        if value < least:
            least = value
            best[:] = labels
    least = _improve(table, np.ascontiguousarray(table.T), best, k, passes)
    return least, best


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _lloyd(table: Floats, turned: Floats, labels: Groups, k: int, passes: int) -> float:
    """Lloyd's passes; the sum over groups of n_c |m_c|^2, which is the total less the inertia."""
    d = table.shape[1]
    counts, centres = _centres(table, labels, k)
    for _ in range(passes):
        offsets = np.full(k, np.inf)
        for c in range(k):
            if counts[c] > 0.0:
                offsets[c] = 0.0
                for f in range(d):
                    offsets[c] += centres[c, f] * centres[c, f]
        if _assign(turned, centres, offsets, labels) == 0:
            break
        counts, centres = _centres(table, labels, k)
    between = 0.0
    for c in range(k):
        for f in range(d):
            between += counts[c] * centres[c, f] * centres[c, f]
    return between


@numba.njit(cache=True, nogil=True, error_model="numpy")
def least_inertia(table: Floats, starts: Groups, passes: int) -> float:
    """Share of the sum of squares that is left around the own centres, as far down as k-means comes.

    Parameters
    ----------
    table : ndarray (n, d)
        Columns of mean 0, those of most variance first.
    starts : ndarray of int64 (n_starts, k)
        Samples that are the first centres of each start.
    passes : int
        At most so many passes over the samples for each start, and again for the best.

    Notes
    -----
    As in `least_log_ratio` the starts are made in the first k - 1 coordinates, and the best goes on in all.
    """
    n, d = table.shape
    n_starts, k = starts.shape
    few = np.ascontiguousarray(table[:, : min(d, k - 1)])
    few_turned = np.ascontiguousarray(few.T)
    best = np.zeros(n, dtype=np.int64)
    most = -np.inf
    labels = np.zeros(n, dtype=np.int64)
    for s in range(n_starts):
        labels[:] = 0
        _from_samples(few_turned, starts[s], labels)
        between = _lloyd(few, few_turned, labels, k, passes)
        if between > most:
            most = between
            best[:] = labels
    between = _lloyd(table, np.ascontiguousarray(table.T), best, k, passes)
    total = 0.0
    for i in range(n):
        for f in range(d):
            total += table[i, f] * table[i, f]
    return 1.0 - between / max(total, LEAST)
