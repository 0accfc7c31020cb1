"""How far new values lie from a frozen reference: counts in fixed bins, and distances between such counts."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

# A merged bin holds at least this part of its even share of the reference: 20 fine bins of 145 values are of 7 or 8.
_NEARLY = 0.9


@numba.njit(cache=True, nogil=True)
def bin_counts(
    values: NDArray[np.float64], edges: NDArray[np.float64], groups: NDArray[np.int64], n_groups: int
) -> NDArray[np.int64]:
    """Counts of each column's values in its bins, by group of rows.

    Bin ``i`` holds the values above ``edges[i - 1]`` and up to ``edges[i]``; the first and the last bin are open.
    Integer counts of parts add up to those of the whole, so they don't depend on how the rows were cut.

    Parameters
    ----------
    values : ndarray of float64 (n, p)
        NaN is missing, and counted as such; infinite values lie in the outer bins.
    edges : ndarray of float64 (p, b - 1)
        Inner edges of each column, not falling.
    groups : ndarray of int64 (n,)
        Group of each row, from 0; a negative one leaves the row out.
    n_groups : int

    Returns
    -------
    ndarray of int64 (n_groups, p, b + 1)
        Counts; the last column counts what is missing.
    """
    n, p = values.shape
    n_edges = edges.shape[1]
    out = np.zeros((n_groups, p, n_edges + 2), dtype=np.int64)
    for i in range(n):
        g = groups[i]
        if g < 0:
            continue
        for j in range(p):
            x = values[i, j]
            if np.isnan(x):
                out[g, j, n_edges + 1] += 1
                continue
            low, high = 0, n_edges
            while low < high:
                middle = (low + high) // 2
                if edges[j, middle] < x:
                    low = middle + 1
                else:
                    high = middle
            out[g, j, low] += 1
    return out


def quantile_edges(values: NDArray[np.float64], n_bins: int) -> NDArray[np.float64]:
    """Inner edges of bins that hold equal shares of each column's values.

    Parameters
    ----------
    values : ndarray of float64 (n, p)
        NaN is left out; ties make bins that are empty.
    n_bins : int

    Returns
    -------
    ndarray of float64 (p, n_bins - 1)
        Zeros for a column without values.
    """
    edges = np.zeros((values.shape[1], n_bins - 1))
    for j in range(values.shape[1]):
        column = values[:, j]
        column = np.sort(column[~np.isnan(column)])
        if column.size:
            # A value of the data, not one between two: a bin ends where its last value lies.
            edges[j] = column[(np.arange(1, n_bins) * column.size - 1) // n_bins]
    return edges


@numba.njit(cache=True, nogil=True)
def merged_bins(reference: NDArray[np.int64], n_merged: int) -> NDArray[np.int64]:
    """Merge neighbouring bins until each holds about an even share of the reference.

    Parameters
    ----------
    reference : ndarray of int64 (b,)
        Counts of the reference, without missing ones.
    n_merged : int
        At most so many bins; fewer where ties fill one of them.

    Returns
    -------
    ndarray of int64 (b,)
        Merged bin of each bin, from 0. No merged bin is empty of reference values.
    """
    least = _NEARLY * reference.sum() / n_merged
    merged = np.zeros(reference.size, dtype=np.int64)
    now, held = 0, 0
    for i in range(reference.size):
        if held > 0 and held >= least and now < n_merged - 1:
            now, held = now + 1, 0
        merged[i] = now
        held += reference[i]
    if held < least and now > 0:
        merged[merged == now] = now - 1
    return merged


def stability_index(found: NDArray[np.int64], reference: NDArray[np.int64], n_merged: int) -> tuple[float, int]:
    """Population stability index, and in how many bins it was taken.

    The sum over bins of (f - r) ln(f / r), with f and r the shares of both sides (Siddiqi, Credit Risk Scorecards,
    2006; Kullback and Leibler's divergence, both ways). Half a count is added to each bin of each side, so that an
    empty one leaves the index finite.

    Parameters
    ----------
    found, reference : ndarray of int64 (b,)
        Counts, without missing ones.
    n_merged : int
        See :func:`merged_bins`.

    Returns
    -------
    index : float
        NaN where a side has no values.
    n_bins : int
    """
    if not found.sum() or not reference.sum():
        return float("nan"), 0
    merged = merged_bins(reference, n_merged)
    n_bins = int(merged[-1]) + 1
    shares = [
        (np.bincount(merged, weights=side, minlength=n_bins) + 0.5) / (side.sum() + 0.5 * n_bins)
        for side in (found, reference)
    ]
    return float(np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1]))), n_bins


def stability_limit(n_bins: int, n_found: int, n_reference: int, alpha: float) -> float:
    """What the population stability index stays below with probability 1 - alpha if nothing has moved.

    (1 / n + 1 / m) times a chi-square of n_bins - 1 degrees of freedom (Yurdakul, Statistical Properties of Population
    Stability Index, 2018). It wants about five expected values a bin and more.
    """
    if n_bins < 2:
        return 0.0
    return float((1 / n_found + 1 / n_reference) * special.chdtri(n_bins - 1, alpha))


def kolmogorov(found: NDArray[np.int64], reference: NDArray[np.int64]) -> tuple[float, float]:
    """Largest differences of the two cumulative shares, at the edges of the bins; NaN where a side has no values.

    Parameters
    ----------
    found, reference : ndarray of int64 (b,)
        Counts, without missing ones.

    Returns
    -------
    lower, higher : float
        The two one-sided statistics: by how much more values found, than values of the reference, lie below some edge,
        and above some edge. The larger one is never larger than the Kolmogorov-Smirnov statistic of the values, and
        smaller by at most the share of one bin.
    """
    if not found.sum() or not reference.sum():
        return float("nan"), float("nan")
    apart = np.cumsum(found) / found.sum() - np.cumsum(reference) / reference.sum()
    return max(0.0, float(np.max(apart))), max(0.0, float(np.max(-apart)))


def kolmogorov_limit(n_found: int, n_reference: int, alpha: float) -> float:
    """What the statistic stays below with probability 1 - alpha if nothing has moved: Kolmogorov's limiting law."""
    return float(special.kolmogi(alpha) * np.sqrt(1 / n_found + 1 / n_reference))


def excess_p(k_found: int, n_found: int, k_reference: int, n_reference: int) -> float:
    """Fisher's one-sided exact p-value that a share is larger than in the reference; 1 where a side is empty."""
    if not n_found or not n_reference:
        return 1.0
    return float(stats.hypergeom.sf(k_found - 1, n_found + n_reference, k_found + k_reference, n_found))
