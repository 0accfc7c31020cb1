"""Location and scale of each batch, feature by feature, from one look at a stripe (ComBat; Johnson and others 2007).

A feature is modelled as ``y = batch level + covariates + error``. What ComBat needs of it afterwards is, for each
batch, the number of values, their level and the sum of squares around the fit: nothing of size samples x features is
kept.
The covariates are centred within batches and made orthonormal first, so a complete feature's coefficients are plain
products, and a feature with missing values has a small system of its own.

Rounding: a feature's sums run over its own samples, batch after batch, from the first value of each batch as pilot;
they don't depend on the width of the stripe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from sjd_dask.errors import DataError, DesignError

Floats = NDArray[np.float64]

# What became of a feature: adjusted, or left as it is, and why.
ADJUSTED, CONSTANT_IN_BATCH, TOO_FEW_VALUES, NOT_ESTIMABLE, NO_VARIANCE = range(5)
INFINITE = -1
STATUS_WORDS = {
    ADJUSTED: "adjusted",
    CONSTANT_IN_BATCH: "all values of a batch are equal",
    TOO_FEW_VALUES: "too few values in a batch",
    NOT_ESTIMABLE: "its missing values leave a covariate confounded",
    NO_VARIANCE: "no variance is left after batch and covariates",
}

_TILE = 512
_COLUMNS = 32
# A pivot below this share of its diagonal: the covariate says nothing more over the samples a feature has.
_PIVOT = 1e-10
# Where covariates leave less than this share of the sum of squares within batches, subtraction has lost too many
# digits, and residuals are formed one by one; below the second share those are rounding too.
CLOSE = 1e-5
NO_REST = 1e-24

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


@dataclass(frozen=True)
class BatchDesign:
    """Samples sorted into B batches, with k covariates in an orthonormal basis within batches.

    Attributes
    ----------
    order, starts : ndarray of int64, (n,), (B + 1,)
        Samples batch after batch, and where each batch begins.
    size : ndarray of int64, (B,)
    q : ndarray of float64, (n, k)
        In that order; columns orthonormal, and each sums to zero in each batch.
    r_inverse : ndarray of float64, (k, k)
        Coefficients of the covariates = r_inverse @ coefficients of q.
    centre : ndarray of float64, (B, k)
        Mean of each covariate in each batch.
    gram : ndarray of float64, (B, k, k)
        q'q of each batch.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    size: NDArray[np.int64]
    q: Floats
    r_inverse: Floats
    centre: Floats
    gram: Floats

    @property
    def df_batch(self) -> Floats:
        """Degrees of freedom that a batch's residuals have, (B,): zero if the fit goes through all its values."""
        rest: Floats = self.size - 1.0 - np.trace(self.gram, axis1=1, axis2=2)
        return rest


@dataclass(frozen=True)
class BatchFit:
    """Levels and residual sums of F features in B batches.

    Attributes
    ----------
    count : ndarray of int32, (B, F)
        Values that are not missing.
    level : ndarray of float64, (B, F)
        Coefficient of the batch, where all covariates are zero.
    rest : ndarray of float64, (B, F)
        Sum of squares around the fit.
    coefficients : ndarray of float64, (k, F)
        Of the covariates as given.
    status : ndarray of int8, (F,)
        `ADJUSTED`, or why the feature is left alone; its numbers then mean nothing.
    """

    count: NDArray[np.int32]
    level: Floats
    rest: Floats
    coefficients: Floats
    status: NDArray[np.int8]


def batch_design(codes: NDArray[Any], n_batches: int, covariates: Floats | None = None) -> BatchDesign:
    """Prepare the design of a reference set.

    Parameters
    ----------
    codes : ndarray of int, (n,)
        Batch of each sample, 0 ... n_batches - 1; every batch has one sample at least.
    covariates : ndarray of float64, (n, k), optional
        Without a constant column.

    Raises
    ------
    DesignError
        A covariate is a combination of batches and other covariates.
    """
    codes = np.asarray(codes, dtype=np.int64)
    size = np.bincount(codes, minlength=n_batches).astype(np.int64)
    if size.size != n_batches or (size == 0).any():
        raise DesignError(f"{n_batches} batches are named and their sizes are {size.tolist()}: leave out empty ones")
    order = np.argsort(codes, kind="stable").astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    given = np.zeros((codes.size, 0)) if covariates is None else np.asarray(covariates, dtype=np.float64)
    sorted_codes = codes[order]
    given = given[order]
    k = given.shape[1]
    centre = np.zeros((n_batches, k))
    for b in range(n_batches):
        centre[b] = given[starts[b] : starts[b + 1]].mean(axis=0)
    within = given - centre[sorted_codes]
    q, r = np.linalg.qr(within) if k else (np.zeros((codes.size, 0)), np.zeros((0, 0)))
    length = np.sqrt(np.square(given).sum(axis=0))
    if q.shape[1] < k or (np.abs(np.diag(r)) <= 1e-7 * length).any():
        raise DesignError("a covariate is a combination of the batches and the other covariates")
    q = np.ascontiguousarray(q)
    gram = np.zeros((n_batches, k, k))
    for b in range(n_batches):
        part = q[starts[b] : starts[b + 1]]
        gram[b] = part.T @ part
    return BatchDesign(
        order=order,
        starts=starts,
        size=size,
        q=q,
        r_inverse=np.ascontiguousarray(np.triu(solve_triangular(r, np.eye(k)))) if k else np.zeros((0, 0)),
        centre=centre,
        gram=gram,
    )


def fit_batches(values: Floats, design: BatchDesign, least: int) -> BatchFit:
    """Fit batches and covariates to each feature of a stripe.

    Parameters
    ----------
    values : ndarray of float64, (n, F)
        Samples in rows; NaN is missing.
    design : BatchDesign
    least : int
        Values a feature must have in every batch: 2 if scales are adjusted, 1 for means.

    Returns
    -------
    BatchFit
        Status `INFINITE` marks a feature with an infinite value: the caller knows its name.

    Notes
    -----
    As in sva, a feature whose values are all equal in a complete batch of two samples or more is left alone.
    """
    values = np.ascontiguousarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != design.order.size:
        raise DataError(f"the design has {design.order.size} samples and the stripe has shape {values.shape}")
    n_batches, width, k = design.size.size, values.shape[1], design.q.shape[1]
    count = np.empty((n_batches, width), dtype=np.int32)
    count[:] = design.size[:, None]
    level, within, rest = (np.empty((n_batches, width)) for _ in range(3))
    coefficients = np.zeros((k, width))
    cross = np.empty((n_batches, k, width))
    _complete(values, design.order, design.starts, design.q, level, within, cross, coefficients)
    _rests(within, cross, coefficients, design.gram, rest)
    solved = np.zeros(width, dtype=np.int8)
    with np.errstate(invalid="ignore", over="ignore"):
        odd = np.flatnonzero(~np.isfinite(within.sum(axis=0)))
    if odd.size:
        arguments = (design.order, design.starts, design.q, design.gram, int(least))
        _missing(values, odd, *arguments, count, level, within, rest, coefficients, solved)
    status = solved.copy()
    uniform = ((within == 0) & (count == design.size[:, None]) & (design.size[:, None] > 1)).any(axis=0)
    status[uniform & (status != INFINITE)] = CONSTANT_IN_BATCH
    with np.errstate(invalid="ignore", over="ignore"):
        close = np.flatnonzero((rest.sum(axis=0) < CLOSE * within.sum(axis=0)) & (status == ADJUSTED))
        if close.size and k:
            _direct(values, close, design.order, design.starts, design.q, level, coefficients, rest)
        gone = (rest.sum(axis=0) <= NO_REST * within.sum(axis=0)) & (status == ADJUSTED)
    status[gone] = NO_VARIANCE
    with np.errstate(invalid="ignore", over="ignore"):
        coefficients = _combine(design.r_inverse, coefficients)
        for b in range(n_batches):
            for j in range(k):
                level[b] -= design.centre[b, j] * coefficients[j]
    return BatchFit(count=count, level=level, rest=rest, coefficients=coefficients, status=status)


def _combine(matrix: Floats, columns: Floats) -> Floats:
    """matrix @ columns, one column after another: a library's product may round by the width of the stripe."""
    out = np.zeros_like(columns)
    for i in range(matrix.shape[0]):
        for j in range(i, matrix.shape[1]):
            out[i] += matrix[i, j] * columns[j]
    return out


@njit(**_OPTIONS)
def _complete(values, order, starts, q, mean, within, cross, coefficients):  # type: ignore[no-untyped-def]
    """Sums of every feature as if it were complete; one with missing values gets NaN in `within`."""
    width = values.shape[1]
    k = q.shape[1]
    pilot, away, first, second = np.empty(_TILE), np.empty(_TILE), np.empty(_TILE), np.empty(_TILE)
    products = np.empty((k, _TILE))
    for low in range(0, width, _TILE):
        size = min(_TILE, width - low)
        for b in range(starts.size - 1):
            start, stop = starts[b], starts[b + 1]
            row = values[order[start], low : low + size]
            for f in range(size):
                pilot[f] = row[f]
                first[f] = row[f] - row[f]
                second[f] = row[f] - row[f]
            products[:] = 0.0
            for i in range(start + 1, stop):
                row = values[order[i], low : low + size]
                for f in range(size):
                    step = row[f] - pilot[f]
                    away[f] = step
                    first[f] += step
                    second[f] += step * step
                for j in range(k):
                    weight = q[i, j]
                    line = products[j]
                    for f in range(size):
                        line[f] += weight * away[f]
            n = stop - start
            for f in range(size):
                mean[b, low + f] = pilot[f] + first[f] / n
                square = second[f] - first[f] * first[f] / n
                # Zero means that all values are equal, and nothing else does.
                if second[f] > 0.0 and square <= 0.0:
                    square = 1e-300
                within[b, low + f] = square
            for j in range(k):
                for f in range(size):
                    cross[b, j, low + f] = products[j, f]
                    coefficients[j, low + f] += products[j, f]


@njit(**_OPTIONS)
def _rests(within, cross, coefficients, gram, rest):  # type: ignore[no-untyped-def]
    """Sums of squares around the fit, batch by batch, of complete features."""
    n_batches, k, width = cross.shape
    for b in range(n_batches):
        for f in range(width):
            rest[b, f] = within[b, f]
        for j in range(k):
            for f in range(width):
                rest[b, f] -= 2.0 * coefficients[j, f] * cross[b, j, f]
            for i in range(k):
                weight = gram[b, i, j]
                for f in range(width):
                    rest[b, f] += weight * coefficients[i, f] * coefficients[j, f]
        for f in range(width):
            rest[b, f] = max(rest[b, f], 0.0)


@njit(**_OPTIONS)
def _direct(values, which, order, starts, q, level, coefficients, rest):  # type: ignore[no-untyped-def]
    """Sums of squares of residuals formed one by one, for a few features."""
    for f in which:
        for b in range(starts.size - 1):
            total = 0.0
            for i in range(starts[b], starts[b + 1]):
                left = values[order[i], f] - level[b, f]
                for j in range(q.shape[1]):
                    left -= q[i, j] * coefficients[j, f]
                if not np.isnan(left):
                    total += left * left
            rest[b, f] = total


@njit(**_OPTIONS)
def _missing(  # type: ignore[no-untyped-def]
    values, which, order, starts, q, gram, least, count, level, within, rest, coefficients, status
):
    """The same for features that lack values, each over the samples it has."""
    n, k = q.shape
    n_batches = starts.size - 1
    columns = np.empty((_COLUMNS, n))
    for begin in range(0, which.size, _COLUMNS):
        held = min(_COLUMNS, which.size - begin)
        for i in range(n):  # columns of a wide stripe fall on the same lines of the cache: copy some side by side
            row = values[order[i]]
            for c in range(held):
                columns[c, i] = row[which[begin + c]]
        for c in range(held):
            f = which[begin + c]
            status[f] = _own(
                columns[c], starts, q, gram, least, n_batches, k, count, level, within, rest, coefficients, f
            )


@njit(**_OPTIONS)
def _own(  # type: ignore[no-untyped-def]
    y, starts, q, gram, least, n_batches, k, count, level, within, rest, coefficients, f
):
    """One feature; gives its status."""
    total = np.zeros((k, k))
    right = np.zeros(k)
    sums = np.zeros((n_batches, k))  # of q over the samples the feature has
    cross = np.zeros((n_batches, k))
    own = gram.copy()
    few = False
    for b in range(n_batches):
        seen = 0
        pilot = first = second = 0.0
        for i in range(starts[b], starts[b + 1]):
            if np.isinf(y[i]):
                return INFINITE
            if np.isnan(y[i]):
                for j in range(k):
                    sums[b, j] -= q[i, j]  # those of the whole batch are zero
                    for m in range(k):
                        own[b, j, m] -= q[i, j] * q[i, m]
                continue
            if seen == 0:
                pilot = y[i]
            seen += 1
            step = y[i] - pilot
            first += step
            second += step * step
            for j in range(k):
                cross[b, j] += q[i, j] * step
        count[b, f] = seen
        few = few or seen < least
        if seen == 0:
            level[b, f], within[b, f] = np.nan, 0.0
            continue
        level[b, f] = pilot + first / seen
        square = second - first * first / seen
        if second > 0.0 and square <= 0.0:
            square = 1e-300
        within[b, f] = square
        for j in range(k):
            cross[b, j] -= sums[b, j] * first / seen
            right[j] += cross[b, j]
            for m in range(k):
                own[b, j, m] -= sums[b, j] * sums[b, m] / seen
                total[j, m] += own[b, j, m]
    for j in range(k):
        coefficients[j, f] = 0.0
    if few:
        return TOO_FEW_VALUES
    for j in range(k):  # Cholesky in place, and the right-hand side along with it
        diagonal = total[j, j]
        for m in range(j):
            diagonal -= total[j, m] * total[j, m]
        if not diagonal > _PIVOT * max(1.0, total[j, j]):
            return NOT_ESTIMABLE
        diagonal = np.sqrt(diagonal)
        total[j, j] = diagonal
        for i in range(j + 1, k):
            rest_of = total[i, j]
            for m in range(j):
                rest_of -= total[i, m] * total[j, m]
            total[i, j] = rest_of / diagonal
        for m in range(j):
            right[j] -= total[j, m] * right[m]
        right[j] /= diagonal
    for j in range(k - 1, -1, -1):
        for m in range(j + 1, k):
            right[j] -= total[m, j] * right[m]
        right[j] /= total[j, j]
        coefficients[j, f] = right[j]
    for b in range(n_batches):
        left = within[b, f]
        for j in range(k):
            left -= 2.0 * right[j] * cross[b, j]
            level[b, f] -= sums[b, j] / count[b, f] * right[j]
            for m in range(k):
                left += own[b, j, m] * right[j] * right[m]
        rest[b, f] = max(left, 0.0)
    return ADJUSTED
