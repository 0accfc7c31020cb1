"""Batch effects taken out of a block of samples, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sjd_dask.errors import DataError

Floats = NDArray[np.float64]

_TILE = 1024
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def _adjust(values, codes, covariates, mean, coefficients, shift, ratio, out):  # type: ignore[no-untyped-def]
    n, width = values.shape
    k = coefficients.shape[0]
    centre = np.empty(_TILE)
    for low in range(0, width, _TILE):
        high = min(_TILE, width - low) + low
        plain = mean[low:high]
        for i in range(n):
            row, target = values[i, low:high], out[i, low:high]
            if codes[i] < 0:
                for f in range(high - low):
                    target[f] = row[f]
                continue
            off, scale = shift[codes[i], low:high], ratio[codes[i], low:high]
            if k == 0:
                for f in range(high - low):
                    target[f] = (row[f] - plain[f] - off[f]) * scale[f] + plain[f]
                continue
            for f in range(high - low):
                centre[f] = plain[f]
            for j in range(k):
                weight = covariates[i, j]
                line = coefficients[j, low:high]
                for f in range(high - low):
                    centre[f] += weight * line[f]
            for f in range(high - low):
                target[f] = (row[f] - centre[f] - off[f]) * scale[f] + centre[f]


def adjust_batches(
    values: Floats,
    codes: NDArray[Any],
    covariates: Floats,
    mean: Floats,
    coefficients: Floats,
    shift: Floats,
    ratio: Floats,
    untouched: NDArray[np.bool_],
) -> Floats:
    """Adjusted values: ``(y - m - shift) * ratio + m``, with ``m = mean + covariates @ coefficients``.

    Parameters
    ----------
    values : ndarray of float64, (n, F)
    codes : ndarray of int64, (n,)
        Row of `shift` and `ratio` for each sample; negative: its values are copied.
    covariates : ndarray of float64, (n, k)
    mean, coefficients : ndarray of float64, (F,), (k, F)
    shift, ratio : ndarray of float64, (B, F)
        Additive effect in the units of the values, and one over the multiplicative effect.
    untouched : ndarray of bool, (F,)
        Features that are copied.

    Returns
    -------
    ndarray of float64, (n, F)
        NaN stays NaN. A row's bits depend on that row alone.
    """
    values = np.ascontiguousarray(values, dtype=np.float64)
    codes = np.ascontiguousarray(codes, dtype=np.int64)
    n, width = values.shape
    k = coefficients.shape[0]
    shapes_ok = codes.shape == (n,) and covariates.shape == (n, k) and mean.shape == (width,)
    if not shapes_ok or shift.shape != ratio.shape or shift.shape[1] != width or coefficients.shape[1] != width:
        raise DataError(f"values have shape {values.shape}; mean {mean.shape}, shift {shift.shape} don't fit")
    if codes.size and codes.max() >= shift.shape[0]:
        raise DataError(f"batch {int(codes.max())} is asked for and there are {shift.shape[0]}")
    out = np.empty_like(values)
    arrays = (np.ascontiguousarray(one, dtype=np.float64) for one in (covariates, mean, coefficients, shift, ratio))
    _adjust(values, codes, *arrays, out)
    if untouched.any():
        at = np.flatnonzero(untouched)
        out[:, at] = values[:, at]
    return out


@njit(**_OPTIONS)
def _subtract(values, rows, coefficients, out):  # type: ignore[no-untyped-def]
    n, width = values.shape
    for low in range(0, width, _TILE):
        high = min(_TILE, width - low) + low
        for i in range(n):
            target = out[i, low:high]
            target[:] = values[i, low:high]
            for j in range(coefficients.shape[0]):
                weight = rows[i, j]
                if weight == 0.0:
                    continue
                line = coefficients[j, low:high]
                for f in range(high - low):
                    target[f] -= weight * line[f]


def subtract_terms(values: Floats, rows: Floats, coefficients: Floats) -> Floats:
    """``values - rows @ coefficients``, one column of the design after another, so a row's bits are its own.

    Parameters
    ----------
    values : ndarray of float64, (n, F)
    rows : ndarray of float64, (n, k)
        The batch columns of each sample's design.
    coefficients : ndarray of float64, (k, F)

    Returns
    -------
    ndarray of float64, (n, F)
        NaN stays NaN.
    """
    values = np.ascontiguousarray(values, dtype=np.float64)
    if rows.shape != (values.shape[0], coefficients.shape[0]) or coefficients.shape[1] != values.shape[1]:
        raise DataError(f"values {values.shape}, rows {rows.shape} and coefficients {coefficients.shape} don't fit")
    out = np.empty_like(values)
    _subtract(values, np.ascontiguousarray(rows, dtype=np.float64), np.ascontiguousarray(coefficients), out)
    return out
