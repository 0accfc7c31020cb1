"""Order statistics of each row: what a box plot of a sample needs."""

from __future__ import annotations

from typing import Final

import numpy as np
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


def _quantile(ordered: Floats, share: float) -> float:
    place = (ordered.size - 1) * share
    low = int(place)
    high = min(low + 1, ordered.size - 1)
    return float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))


def _deviation(ordered: Floats, middle: float) -> float:
    away = np.abs(ordered - middle)
    half = away.size // 2
    if away.size % 2:
        return float(np.partition(away, half)[half])
    pair = np.partition(away, (half - 1, half))
    return float((pair[half - 1] + pair[half]) / 2)
