"""Quantile normalisation to a target, and scaling to a common median: one sample at a time.

Quantile normalisation gives every sample the same distribution, the mean of the sorted reference samples (Bolstad and
others 2003, Bioinformatics 19:185). Numbers are those of limma 3.54 (normalizeQuantiles) and preprocessCore 1.60.

Tied values take the target at their mean rank. preprocessCore's rule, the mean of two neighbours at a half rank, is
the same number, with missing values too, so both names share one way. Without ties (limma's ``ties=FALSE``) equal
values take different targets, in the order in which R's quicksort leaves them; see `sjd_dask.kernels.singleton_sort`.

A row of p values is ranked by sorting 64-bit keys: an order-preserving image of the value whose last bits give way to
the position. NumPy sorts them with vector instructions, three times faster than an indirect sort; values that agree in
the bits that are left are put in order afterwards.
"""

from __future__ import annotations

from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.kernels.singleton_sort import singleton_argsort

Floats = NDArray[np.float64]
Ties = Literal["limma", "limma_noties", "preprocesscore"]

_SIGN = np.uint64(1 << 63)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


def sorted_quantiles(row: Floats) -> Floats | None:
    """A sample's values in ascending order, stretched to all p features when some are missing.

    Parameters
    ----------
    row : ndarray of float64, shape (p,)
        NaN is missing. With m < p values, the k-th of p is read at rank k (m - 1) / (p - 1), between neighbours on
        a straight line, as R's approx does.

    Returns
    -------
    ndarray, shape (p,), or None when fewer than two values are there (one, if p is 1).
    """
    ordered = np.sort(row)
    missing = int(np.count_nonzero(np.isnan(row)))
    p = len(row)
    there = p - missing
    if missing == 0:
        return ordered
    if there < 2:
        return None
    at = np.arange(p, dtype=np.float64) * ((there - 1) / (p - 1))
    # The last rank may come out a rounding error too high.
    low = np.minimum(at.astype(np.int64), there - 2)
    share = at - low
    stretched: Floats = ordered[low] + share * (ordered[low + 1] - ordered[low])
    return stretched


def add_quantiles(total: Floats, values: Floats) -> NDArray[np.bool_]:
    """Add every row's `sorted_quantiles` to `total` (p,), in place; the mask (n,) of the rows that were added."""
    added = np.zeros(len(values), dtype=np.bool_)
    for i, row in enumerate(values):
        ordered = sorted_quantiles(row)
        if ordered is not None:
            total += ordered
            added[i] = True
    return added


def to_target(values: Floats, target: Floats, ties: Ties = "limma") -> tuple[Floats, NDArray[np.bool_]]:
    """Give each row the distribution of the target.

    Parameters
    ----------
    values : ndarray of float64, shape (n, p)
        One sample a row. Missing values (NaN) stay missing; the others are spread over the whole target.
    target : ndarray of float64, shape (p,)
        Ascending.
    ties : {"limma", "limma_noties", "preprocesscore"}
        How equal values are treated; the first and the last are the same numbers.

    Returns
    -------
    values : ndarray of float64, shape (n, p)
    possible : ndarray of bool, shape (n,)
        False where a row has fewer than two values: all its values are NaN.

    Raises
    ------
    DataError
        The target has another length than the rows.
    """
    n, p = values.shape
    if target.shape != (p,):
        raise DataError(
            f"the target has {target.shape[0]} quantiles and the samples have {p} features: quantile normalisation "
            "needs the features it was fitted on"
        )
    result = np.empty_like(values)
    possible = np.ones(n, dtype=np.bool_)
    bits = max(1, int(p - 1).bit_length())
    keys = np.empty(p, dtype=np.uint64)
    for i in range(n):
        row = np.ascontiguousarray(values[i])
        if ties == "limma_noties":
            known = np.flatnonzero(~np.isnan(row))
            there = len(known)
            if there >= 2 or there == p == 1:
                order = known[singleton_argsort(row[known])]
        else:
            there = _pack(row.view(np.uint64), row, np.uint64(bits), keys)
            if there >= 2 or there == p == 1:
                keys.sort()
                order = _order(keys, row, np.uint64(bits), there)
        if there < 2 and p > 1:
            result[i] = np.nan
            possible[i] = False
        elif ties == "limma_noties":
            _spread(row, order, there, target, False, result[i])
        else:
            _spread(row, order, there, target, True, result[i])
    return result, possible


@numba.njit(cache=True, nogil=True)
def _pack(raw: NDArray[np.uint64], row: Floats, bits: np.uint64, keys: NDArray[np.uint64]) -> int:  # pragma: no cover
    """Fill the keys; NaN come last. The count of values that are not NaN."""
    one = np.uint64(1)
    low = (one << bits) - one
    high = _ALL ^ low
    there = 0
    for i in range(row.size):
        value = row[i]
        if np.isnan(value):
            key = _ALL
        else:
            there += 1
            key = raw[i]
            if value == 0.0:
                key = np.uint64(0)  # minus zero is zero
            # Doubles compare like integers once negative ones are turned round.
            key = key ^ _ALL if key & _SIGN else key | _SIGN
        keys[i] = (key & high) | np.uint64(i)
    return there


@numba.njit(cache=True, nogil=True)
def _order(keys: NDArray[np.uint64], row: Floats, bits: np.uint64, there: int) -> NDArray[np.int64]:  # pragma: no cover
    """Positions of the values in ascending order, from sorted keys; repairs values that share a key."""
    low = (np.uint64(1) << bits) - np.uint64(1)
    order = np.empty(there, dtype=np.int64)
    for k in range(there):
        order[k] = np.int64(keys[k] & low)
    start = 0
    while start < there:
        stop = start + 1
        mixed = False
        top = keys[start] >> bits
        while stop < there and (keys[stop] >> bits) == top:
            if row[order[stop]] < row[order[stop - 1]]:
                mixed = True
            stop += 1
        if mixed:
            part = order[start:stop].copy()
            by = np.argsort(row[part], kind="mergesort")
            for k in range(part.size):
                order[start + k] = part[by[k]]
        start = stop
    return order


@numba.njit(cache=True, nogil=True)
def _spread(
    row: Floats, order: NDArray[np.int64], there: int, target: Floats, ties: bool, out: Floats
) -> None:  # pragma: no cover
    """Write the target at each value's (mean) rank; a rank between two quantiles is read on a straight line."""
    p = row.size
    if there < p:
        for i in range(p):
            out[i] = np.nan
    stretch = 1.0
    if there < p:
        stretch = (p - 1) / (there - 1)
    start = 0
    while start < there:
        stop = start + 1
        if ties:
            value = row[order[start]]
            while stop < there and row[order[stop]] == value:
                stop += 1
        at = 0.5 * (start + stop - 1) * stretch
        low = min(int(at), p - 1)
        share = at - low
        found = target[low]
        if share > 0.0 and low + 1 < p:
            found += share * (target[low + 1] - found)
        for k in range(start, stop):
            out[order[k]] = found
        start = stop


def medians(values: Floats, absolute: bool = False) -> Floats:
    """Median of each row without its missing values, (n,); of the sizes when `absolute`. NaN for an empty row."""
    found = np.full(len(values), np.nan)
    for i, row in enumerate(values):
        known = row[~np.isnan(row)]
        if known.size:
            found[i] = np.median(np.abs(known) if absolute else known)
    return found


def scale_to_median(values: Floats, log_centre: float, absolute: bool = False) -> tuple[Floats, NDArray[np.bool_]]:
    """Multiply each row so that its median is exp(`log_centre`).

    limma's normalizeMedianValues, or normalizeMedianAbsValues when `absolute`, where `log_centre` is the mean over the
    samples of the logarithms of their medians.

    Parameters
    ----------
    values : ndarray of float64, shape (n, p)
        NaN is missing and stays so.
    log_centre : float
        Natural logarithm of the median that all samples get.

    Returns
    -------
    values : ndarray of float64, shape (n, p)
    possible : ndarray of bool, shape (n,)
        False where the median is not positive: no factor exists, and the values are NaN.
    """
    centre = medians(values, absolute)
    possible = centre > 0
    factor = np.exp(log_centre - np.log(np.where(possible, centre, 1.0)))
    factor[~possible] = np.nan
    return values * factor[:, None], possible
