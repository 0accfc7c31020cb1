"""Weights of log counts from the trend of their variance with their size: limma's voom (Law and others 2014)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sjd_dask.errors import DataError
from sjd_dask.kernels import linear
from sjd_dask.kernels.linear_sums import Floats, LinearDesign
from sjd_dask.kernels.linear_tiles import fused
from sjd_dask.kernels.lowess import lowess
from sjd_dask.kernels.weighted import fit_weighted

_BUCKETS = 4096
# How far the line may pass from a point, as a share of its largest value: rounding, not shape.
_BEND = 1e-13
# log2(count + 0.5) below which a count was zero, whatever rounding a stored value went through: it is -1 for 0, 0.58
# for 1.
_ZERO = -0.5


@dataclass(frozen=True)
class VoomLine:
    """Square root of the standard deviation against log2 count: straight lines between points, flat beyond them.

    Attributes
    ----------
    x : ndarray of float64, (k,)
        Ascending, no two equal: log2(count + 0.5).
    y : ndarray of float64, (k,)
        Above zero.
    notes : tuple of str
        What could not be estimated, in words.
    """

    x: Floats
    y: Floats
    notes: tuple[str, ...] = ()

    def __call__(self, log_count: ArrayLike) -> Floats:
        """The line at some log2 counts."""
        found: Floats = np.interp(np.asarray(log_count, dtype=np.float64), self.x, self.y)
        return found


def log_offset(library_size: ArrayLike) -> Floats:
    """What turns log2 counts per million into log2 counts, a sample: log2(library_size + 1) - log2(10**6)."""
    found: Floats = np.log2(np.asarray(library_size, dtype=np.float64) + 1.0) - math.log2(1e6)
    return found


def voom_expression(counts: ArrayLike, library_size: ArrayLike) -> Floats:
    """log2 counts per million as voom has them, (n, F): log2((count + 0.5) / (library_size + 1) * 10**6).

    Missing counts stay missing. `library_size` (n,) is the effective one.
    """
    values = np.asarray(counts, dtype=np.float64) + 0.5
    values /= (np.asarray(library_size, dtype=np.float64) + 1.0)[:, None]
    values *= 1e6
    return np.log2(values, out=values)


def largest_log_count(expression: Floats, offset: Floats) -> Floats:
    """(F,) largest log2(count + 0.5) among the samples (n,) of a block; -inf where all are missing."""
    shifted = expression + offset[:, None]
    largest: Floats = np.where(np.isfinite(shifted), shifted, -np.inf).max(axis=0, initial=-np.inf)
    return largest


def voom_line(
    mean: ArrayLike,
    sigma: ArrayLike,
    library_size: ArrayLike,
    largest: ArrayLike | None = None,
    *,
    span: float = 0.5,
) -> VoomLine:
    """The mean-variance trend from the fits of all features.

    Parameters
    ----------
    mean, sigma : (F,)
        Mean log2 counts per million, and residual standard deviation. Features without one are left out.
    library_size : (n,)
        Effective library sizes of the samples fitted.
    largest : (F,), optional
        `largest_log_count` over all samples: features without a count take no part.
    span : float
        Share of the features in each local line of `lowess`.

    Raises
    ------
    DataError
        When the line falls to zero.

    Notes
    -----
    Missing rule: with fewer than two features that have a variance the line is flat at one, as limma gives weights of
    one. Source: voom of limma 3.54.
    """
    x = np.asarray(mean, dtype=np.float64) + float(np.mean(log_offset(library_size)))
    y = np.sqrt(np.asarray(sigma, dtype=np.float64))
    kept = np.isfinite(x) & np.isfinite(y)
    if int(kept.sum()) < 2:
        note = "fewer than two features have a residual variance: voom weights are one"
        return VoomLine(np.zeros(1), np.ones(1), (note,))
    if largest is not None:
        kept &= np.asarray(largest) > _ZERO
    if not kept.any():
        raise DataError("every count of the samples used is zero: there is no trend for voom weights")
    x, y = x[kept], y[kept]
    smooth = lowess(x, y, span=span)
    order = np.argsort(x, kind="stable")
    x, smooth = x[order], smooth[order]
    first = np.flatnonzero(np.concatenate(([True], x[1:] > x[:-1])))
    smooth = np.add.reduceat(smooth, first) / np.diff(np.append(first, x.size))
    if not smooth.min() > 0:
        raise DataError(
            f"the voom trend of {x.size} features falls to {smooth.min():.3g}, so weights can't be taken from it: a "
            "larger `span`, or fewer features that hardly vary, would keep it above zero"
        )
    kept = _corners(x[first], smooth, _BEND * np.abs(smooth).max())
    return VoomLine(x[first][kept], smooth[kept])


@numba.njit(nogil=True, cache=True)
def _corners(x: Floats, y: Floats, tolerance: float) -> NDArray[np.bool_]:
    """The points that straight lines need to pass within `tolerance` of all: lowess interpolates most of them."""
    keep = np.zeros(x.size, np.bool_)
    keep[0] = keep[x.size - 1] = True
    anchor = 0
    low, high = -np.inf, np.inf
    for i in range(1, x.size):
        run = x[i] - x[anchor]
        slope = (y[i] - y[anchor]) / run
        if not low <= slope <= high:
            anchor = i - 1
            keep[anchor] = True
            low, high = -np.inf, np.inf
            run = x[i] - x[anchor]
        low = max(low, (y[i] - y[anchor] - tolerance) / run)
        high = min(high, (y[i] - y[anchor] + tolerance) / run)
    return keep


def voom_weights(line: VoomLine, coefficients: Floats, design_rows: Floats, offset: Floats) -> Floats:
    """Weights (rows, F) of some samples: one over the fourth power of the line at the fitted log2 count.

    Parameters
    ----------
    line : VoomLine
    coefficients : ndarray of float64, (p, F)
        Of the fit the line was made from. NaN (not estimable) counts as zero, as the dropped column it is.
    design_rows : ndarray of float64, (rows, p)
        Rows of the design matrix.
    offset : ndarray of float64, (rows,)
        `log_offset` of the samples' effective library sizes.
    """
    known = np.ascontiguousarray(np.nan_to_num(coefficients, nan=0.0))
    out = np.empty((design_rows.shape[0], known.shape[1]))
    # Where the search of a bucket of x begins.
    edges = np.linspace(line.x[0], line.x[-1], _BUCKETS + 1)
    starts = np.searchsorted(line.x, edges, side="right") - 1
    _fill_weights(
        line.x, line.y, np.maximum(starts, 0).astype(np.int64), known, np.ascontiguousarray(design_rows), offset, out
    )
    return out


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _fill_weights(
    x: Floats, y: Floats, starts: NDArray[np.int64], coefficients: Floats, rows: Floats, offset: Floats, out: Floats
) -> None:
    p, features = coefficients.shape
    last = x.size - 1
    span = x[last] - x[0]
    rate = (starts.size - 1) / span if span > 0.0 else 0.0
    for r in range(rows.shape[0]):
        row = out[r]
        row[:] = offset[r]
        for j in range(p):
            weight = rows[r, j]
            if weight != 0.0:
                own = coefficients[j]
                for f in range(features):
                    row[f] = fused(weight, own[f], row[f])
        for f in range(features):
            at = row[f]
            if at <= x[0]:
                value = y[0]
            elif at >= x[last]:
                value = y[last]
            elif at == at:
                bucket = min(int((at - x[0]) * rate), starts.size - 2)
                # One bucket either way: its edges and this product are rounded apart.
                low = starts[max(bucket - 1, 0)]
                high = min(starts[min(bucket + 2, starts.size - 1)] + 1, last)
                while high - low > 1:
                    middle = (low + high) // 2
                    if x[middle] <= at:
                        low = middle
                    else:
                        high = middle
                value = y[low] + (y[low + 1] - y[low]) * ((at - x[low]) / (x[low + 1] - x[low]))
            else:
                value = np.nan
            value *= value
            row[f] = 1.0 / (value * value)


@dataclass(frozen=True)
class Voom:
    """voom of a matrix held in memory: expression and weights (n, F), the line they come from."""

    expression: Floats
    weights: Floats
    line: VoomLine
    library_size: Floats


def voom(
    counts: ArrayLike,
    design: LinearDesign,
    library_size: ArrayLike | None = None,
    *,
    span: float = 0.5,
    sample_weights: NDArray[Any] | None = None,
) -> Voom:
    """voom of counts (n samples, F features) held in memory.

    Parameters
    ----------
    counts : (n, F)
        Not negative; NaN is missing.
    design : LinearDesign
    library_size : (n,), optional
        Effective library sizes (library size times normalisation factor); default the sums of the counts.
    span : float
        See `voom_line`.
    sample_weights : (n,), optional
        Weights of the fit that the trend is made from.
    """
    table = np.asarray(counts, dtype=np.float64)
    if np.nanmin(table, initial=0.0) < 0:
        raise DataError("counts below zero can't have voom weights")
    library = np.nansum(table, axis=1) if library_size is None else np.asarray(library_size, dtype=np.float64)
    expression = voom_expression(table, library)
    offset = log_offset(library)
    if sample_weights is None:
        sums = linear.new_sums(design, table.shape[1])
        linear.accumulate(sums, design.q, expression, has_intercept=design.has_intercept)
        fit = linear.finish(sums, design)
        if fit.needs_columns.size:
            fit = linear.refit_columns(fit, design, expression[:, fit.needs_columns])
        coefficients, sigma2, mean = fit.coefficients, fit.sigma2, fit.mean
    else:
        weighted = fit_weighted(expression, np.asarray(sample_weights, dtype=np.float64), design)
        coefficients, sigma2, mean = weighted.coefficients, weighted.sigma2, weighted.scaled.mean
    line = voom_line(mean, np.sqrt(sigma2), library, largest_log_count(expression, offset), span=span)
    weights = voom_weights(line, coefficients, design.matrix, offset)
    return Voom(expression, weights, line, library)
