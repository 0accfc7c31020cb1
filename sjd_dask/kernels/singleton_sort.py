"""Singleton's quicksort (1969, Communications of the ACM 12:185, algorithm 347), for its order of equal values.

R's ``sort(method = "quick")`` is this algorithm, and limma's quantile normalisation without ties hands each of several
equal values another quantile, in the order in which the sort leaves them. The order is of no meaning, but it is one a
published result may rest on, and it depends on nothing but the sample's own values.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_SHORT = 10


def singleton_argsort(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of the values in ascending order, (m,); equal values in the order of Singleton's exchanges.

    Parameters
    ----------
    values : ndarray of float64, shape (m,)
        No NaN.
    """
    keys = np.array(values, dtype=np.float64)
    order = np.arange(len(keys), dtype=np.int64)
    _sort(keys, order)
    return order


@numba.njit(cache=True, nogil=True)
def _swap(keys: NDArray[np.float64], order: NDArray[np.int64], a: int, b: int) -> None:  # pragma: no cover
    key, at = keys[a], order[a]
    keys[a], order[a] = keys[b], order[b]
    keys[b], order[b] = key, at


@numba.njit(cache=True, nogil=True)
def _split(
    keys: NDArray[np.float64], order: NDArray[np.int64], first: int, last: int, share: float
) -> tuple[int, int]:  # pragma: no cover
    """Part a stretch at the median of three; (last of the lower part, first of the upper part)."""
    middle = first + int((last - first) * share)
    if keys[first] > keys[middle]:
        _swap(keys, order, first, middle)
    if keys[last] < keys[middle]:
        _swap(keys, order, last, middle)
        if keys[first] > keys[middle]:
            _swap(keys, order, first, middle)
    pivot = keys[middle]
    low, high = first, last
    while True:
        high -= 1
        while keys[high] > pivot:
            high -= 1
        low += 1
        while keys[low] < pivot:
            low += 1
        if low > high:
            return high, low
        _swap(keys, order, low, high)


@numba.njit(cache=True, nogil=True)
def _sort(keys: NDArray[np.float64], order: NDArray[np.int64]) -> None:  # pragma: no cover
    # The longer part waits, so its stack is never deeper than the logarithm of the length.
    waiting = np.empty((64, 2), dtype=np.int64)
    depth = 0
    first, last = 0, keys.size - 1
    # The place of the pivot moves, to meet no bad case twice; only a stretch at the very start moves it.
    share = 0.375
    moved = False
    while True:
        split = last - first > _SHORT and moved
        if not split and first == 0 and first < last:
            share += 0.0390625 if share < 0.5898437 else -0.21875
            moved = True
            split = True
        if split:
            high, low = _split(keys, order, first, last, share)
            if high - first <= last - low:
                waiting[depth, 0], waiting[depth, 1] = low, last
                last = high
            else:
                waiting[depth, 0], waiting[depth, 1] = first, high
                first = low
            depth += 1
            continue
        for i in range(first + 1, last + 1):
            key, at = keys[i], order[i]
            k = i - 1
            while k >= first and key < keys[k]:
                keys[k + 1], order[k + 1] = keys[k], order[k]
                k -= 1
            keys[k + 1], order[k + 1] = key, at
        if depth == 0:
            return
        depth -= 1
        first, last = waiting[depth, 0], waiting[depth, 1]
