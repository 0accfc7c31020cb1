"""Order statistics of each row: what a box plot of a sample needs."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SUMMARIES: Final = ("minimum", "q1", "median", "q3", "maximum", "mean", "iqr", "mad")


def summarise_rows(values: Floats, columns: NDArray[np.int64] | None = None) -> dict[str, Floats]:
    """Summaries of each row over its observed values.

    Parameters
    ----------
    values : ndarray (n, p)
        NaN = missing.
    columns : ndarray of int, optional
        Columns to look at; all by default.

    Returns
    -------
    dict of ndarray (n,)
        ``minimum``, ``q1``, ``median``, ``q3``, ``maximum``, ``mean``, ``iqr``, ``mad`` (median absolute deviation
        times 1.4826, as R's mad), quartiles as R's quantile type 7; NaN for a row without a value.

    Notes
    -----
    One row is sorted at a time, so the working memory is that of two rows whatever n, and a row's summaries don't
    depend on the other rows.
    """
    n = values.shape[0]
    p = values.shape[1] if columns is None else columns.size
    found = {name: np.full(n, np.nan) for name in SUMMARIES}
    row = np.empty(p)
    for i in range(n):
        row[:] = values[i] if columns is None else values[i, columns]
        row.sort()  # NaN last
        size = int(np.searchsorted(row, np.nan)) if p and np.isnan(row[-1]) else p
        if size == 0:
            continue
        known = row[:size]
        q1, middle, q3 = (_quantile(known, share) for share in (0.25, 0.5, 0.75))
        summary = (known[0], q1, middle, q3, known[-1], known.mean(), q3 - q1, 1.4826 * _deviation(known, middle))
        for name, value in zip(SUMMARIES, summary, strict=True):
            found[name][i] = value
    return found


def row_medians(values: Floats) -> Floats:
    """Median of each row over its observed values, (n,); NaN for a row without a value."""
    return summarise_rows(values)["median"]


@njit(cache=True, nogil=True)
def count_missing(values):  # type: ignore[no-untyped-def]
    """Number of NaN in each row of a matrix (n, p): ndarray (n,) of float64."""
    n, p = values.shape
    found = np.zeros(n)
    for i in range(n):
        count = 0
        for j in range(p):
            count += values[i, j] != values[i, j]
        found[i] = count
    return found


def _quantile(ordered: Floats, share: float) -> float:
    place = (ordered.size - 1) * share
    low = int(place)
    high = min(low + 1, ordered.size - 1)
    return float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))


def _deviation(ordered: Floats, middle: float) -> float:
    """Median of the distances from `middle`, (the middle two averaged), without computing them all."""
    n = ordered.size
    low = float(_nearest(ordered, middle, (n - 1) // 2))
    return low if n % 2 else (low + float(_nearest(ordered, middle, n // 2))) / 2


@njit(cache=True, nogil=True)
def _nearest(ordered, middle, k):  # type: ignore[no-untyped-def]
    """The k-th smallest of abs(ordered - middle), from 0.

    To the left and to the right of the median the distances are two sorted lists; their k-th together is found by
    bisection over how many come from the left.
    """
    n = ordered.size
    split = np.searchsorted(ordered, middle)  # left: split-1 down to 0, right: split up to n-1
    low, high = max(0, k + 1 - (n - split)), min(k + 1, split)
    while low < high:
        left = (low + high) // 2
        right = k + 1 - left
        # Too few from the left if its next is nearer than the last that was taken from the right.
        if right > 0 and middle - ordered[split - left - 1] < ordered[split + right - 1] - middle:
            low = left + 1
        else:
            high = left
    left, right = low, k + 1 - low
    found = -np.inf
    if left > 0:
        found = max(found, middle - ordered[split - left])
    if right > 0:
        found = max(found, ordered[split + right - 1] - middle)
    return found
