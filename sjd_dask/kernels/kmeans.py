"""k-means that moves samples one by one, from values or from inner products."""

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
# Samples whose distances to the centres are made at a time, many by one instruction; a move makes those of two centres
# anew.
BLOCK = 16


@numba.njit(cache=True, nogil=True)
def kmeans_gram(gram: Floats, drawn: NDArray[np.bool_], starts: NDArray[np.int64]) -> tuple[Labels, float]:
    """k-means of samples given by their inner products: the best of several starts.

    Parameters
    ----------
    gram : ndarray (n, n)
        Inner products of the samples, features centred (by any centre).
    drawn : ndarray of bool (n,)
        The samples that are to be grouped.
    starts : ndarray of int64 (n_starts, k)
        Drawn samples that are the first centres of each start.

    Returns
    -------
    labels : ndarray of int8 (n,)
        Groups from 0, -1 for samples that aren't drawn. There can be fewer than k groups where there are fewer than k
        different samples.
    inertia : float
        Sum of squared distances to the own centre.

    Notes
    -----
    Samples move one by one, as soon as that lowers the inertia, counting what the move does to both centres (Hartigan
    1975; the optimal transfer of Hartigan and Wong 1979). With inner products a move costs n operations whatever the
    number of features, and looking at a sample k.
    """
    n = len(gram)
    k = starts.shape[1]
    best = np.full(n, -1, dtype=np.int8)
    best_inertia = np.inf
    labels = np.full(n, -1)
    squares = np.empty(n)
    total = 0.0
    n_drawn = 0
    for i in range(n):
        squares[i] = gram[i, i]
        if drawn[i]:
            total += gram[i, i]
            n_drawn += 1
    apart, gain, loss = np.empty((k, BLOCK)), np.empty(BLOCK), np.empty(BLOCK)
    leave, join = np.empty(k), np.empty(k)
    nearest = np.empty(n)
    for start in range(len(starts)):
        counts = np.zeros(k)
        sums = np.zeros((k, n))  # of the inner products of each sample with the members of each group
        within = np.zeros(k)  # of the inner products among the members of each group
        nearest[:] = np.inf
        for c in range(k):
            centre = starts[start, c]
            line = gram[centre]
            for i in range(n):
                distance = squares[centre] - 2.0 * line[i]
                if distance < nearest[i] and drawn[i]:
                    nearest[i] = distance
                    labels[i] = c
        for i in range(n):
            if drawn[i]:
                counts[labels[i]] += 1.0
                _add(sums, labels[i], gram, i)
        for i in range(n):
            if drawn[i]:
                within[labels[i]] += sums[labels[i], i]
        for c in range(k):
            _weigh(leave, join, c, counts[c])
        groups = labels.astype(np.float64)  # compared with numbers that are doubles too
        since = 0  # samples looked at since the last move
        for _ in range(MAX_PASSES):
            for begin in range(0, n, BLOCK):
                width = min(n - begin, BLOCK)
                for c in range(k):
                    _apart_gram(apart, c, squares, sums, counts[c], within[c], begin, width)
                at = 0
                while True:
                    _gains(gain, loss, apart, groups, begin, leave, join, width)
                    while at < width and gain[at] <= LEAST_GAIN * squares[begin + at]:
                        at += 1
                        since += 1
                    if at == width:
                        break
                    i = begin + at
                    a, to = labels[i], _best(apart, at, labels[i], join)
                    within[a] += squares[i] - 2.0 * sums[a, i]
                    within[to] += squares[i] + 2.0 * sums[to, i]
                    _move(sums, gram, i, a, to)
                    counts[a] -= 1.0
                    counts[to] += 1.0
                    labels[i] = groups[i] = to
                    for c in (a, to):
                        _weigh(leave, join, c, counts[c])
                        _apart_gram(apart, c, squares, sums, counts[c], within[c], begin, width)
                    at += 1
                    since = 0
                if since >= n:
                    break
            if since >= n:
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
    """`kmeans_gram` of all samples from their values (m, p): where p is small, or m x m inner products are too many."""
    m, p = values.shape
    k = starts.shape[1]
    best = np.zeros(m, dtype=np.int8)
    best_inertia = np.inf
    labels = np.empty(m, dtype=np.int64)
    # Features in rows, so that the samples of a block lie together.
    across = np.empty((-(-m // BLOCK), p, BLOCK))
    for i in range(m):
        for f in range(p):
            across[i // BLOCK, f, i % BLOCK] = values[i, f]
    for i in range(m, len(across) * BLOCK):
        across[i // BLOCK, :, i % BLOCK] = 0.0
    apart, gain, loss = np.empty((k, BLOCK)), np.empty(BLOCK), np.empty(BLOCK)
    leave, join = np.empty(k), np.empty(k)
    for start in range(len(starts)):
        counts = np.zeros(k)
        centres = np.zeros((k, p))
        for b in range(len(across)):
            for c in range(k):
                _apart_values(apart, c, across, b, values, starts[start, c])
            for i in range(b * BLOCK, min(m, (b + 1) * BLOCK)):
                nearest = 0
                for c in range(1, k):
                    if apart[c, i - b * BLOCK] < apart[nearest, i - b * BLOCK]:
                        nearest = c
                labels[i] = nearest
                counts[nearest] += 1.0
                for f in range(p):
                    centres[nearest, f] += (values[i, f] - centres[nearest, f]) / counts[nearest]
        for c in range(k):
            _weigh(leave, join, c, counts[c])
        groups = labels.astype(np.float64)
        since = 0
        for _ in range(MAX_PASSES):
            for b in range(len(across)):
                begin, width = b * BLOCK, min(m - b * BLOCK, BLOCK)
                for c in range(k):
                    _apart_values(apart, c, across, b, centres, c)
                at = 0
                while True:
                    _gains(gain, loss, apart, groups, begin, leave, join, width)
                    while at < width and gain[at] <= 0.0:
                        at += 1
                        since += 1
                    if at == width:
                        break
                    i = begin + at
                    a, to = labels[i], _best(apart, at, labels[i], join)
                    for f in range(p):
                        centres[a, f] -= (values[i, f] - centres[a, f]) / (counts[a] - 1.0)
                        centres[to, f] += (values[i, f] - centres[to, f]) / (counts[to] + 1.0)
                    counts[a] -= 1.0
                    counts[to] += 1.0
                    labels[i] = groups[i] = to
                    for c in (a, to):
                        _weigh(leave, join, c, counts[c])
                        _apart_values(apart, c, across, b, centres, c)
                    at += 1
                    since = 0
                if since >= m:
                    break
            if since >= m:
                break
        inertia = 0.0
        for i in range(m):
            for f in range(p):
                away = values[i, f] - centres[labels[i], f]
                inertia += away * away
        if inertia < best_inertia * (1.0 - LEAST_GAIN) or start == 0:
            best_inertia = inertia
            best[:] = labels
    return best, best_inertia


# Loops as machines do many at a time: rows by index, since a view of a row costs as much as the loop, and ends that
# are not known beforehand, since short loops of a known length are written out one by one.


@numba.njit(cache=True, nogil=True)
def _add(sums: Floats, c: int, gram: Floats, i: int) -> None:
    """Add sample i to the sums of group c."""
    for j in range(gram.shape[1]):
        sums[c, j] += gram[i, j]


@numba.njit(cache=True, nogil=True)
def _move(sums: Floats, gram: Floats, i: int, a: int, to: int) -> None:
    """Take sample i out of the sums of one group and into those of another."""
    for j in range(gram.shape[1]):
        sums[a, j] -= gram[i, j]
        sums[to, j] += gram[i, j]


@numba.njit(cache=True, nogil=True)
def _apart_gram(
    out: Floats, c: int, squares: Floats, sums: Floats, count: float, within: float, begin: int, width: int
) -> None:
    """Squared distances of `width` samples to the centre of group c."""
    share = 1.0 / count if count > 0.0 else 0.0
    middle = within * share * share
    for j in range(width):
        out[c, j] = squares[begin + j] - 2.0 * sums[c, begin + j] * share + middle


@numba.njit(cache=True, nogil=True)
def _apart_values(out: Floats, c: int, across: Floats, b: int, centres: Floats, which: int) -> None:
    """Squared distances of the samples of block b to a centre."""
    for j in range(across.shape[2]):
        out[c, j] = 0.0
    for f in range(across.shape[1]):
        at = centres[which, f]
        for j in range(across.shape[2]):
            away = across[b, f, j] - at
            out[c, j] += away * away


@numba.njit(cache=True, nogil=True)
def _weigh(leave: Floats, join: Floats, c: int, count: float) -> None:
    """What a squared distance to the centre counts when a sample leaves group c, and when one joins it.

    The last sample of a group gains nothing by leaving, and an empty group takes one for nothing.
    """
    leave[c] = count / (count - 1.0) if count > 1.0 else 0.0
    join[c] = count / (count + 1.0)


@numba.njit(cache=True, nogil=True)
def _gains(
    gain: Floats, loss: Floats, apart: Floats, groups: Floats, begin: int, leave: Floats, join: Floats, width: int
) -> None:
    """By how much more than rounding the best move of each sample lowers the inertia; not above 0: it stays."""
    for j in range(width):
        gain[j] = np.inf
        loss[j] = 0.0
    for c in range(len(apart)):
        out, in_, here = leave[c], join[c], float(c)
        for j in range(width):
            own = groups[begin + j] == here
            distance = apart[c, j]
            there = np.inf if own else distance * in_
            loss[j] = distance * out if own else loss[j]
            gain[j] = there if there < gain[j] else gain[j]
    for j in range(width):
        gain[j] = loss[j] * (1.0 - LEAST_GAIN) - gain[j]


@numba.njit(cache=True, nogil=True)
def _best(apart: Floats, j: int, own: int, join: Floats) -> int:
    """The group that a sample had best move to."""
    to, least = -1, np.inf
    for c in range(len(apart)):
        if c != own and apart[c, j] * join[c] < least:
            to, least = c, apart[c, j] * join[c]
    return to
