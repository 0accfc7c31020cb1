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
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from sjd_dask.errors import DataError, DesignError
from sjd_dask.kernels import batch_sums as sums
from sjd_dask.kernels.batch_sums import (
    ADJUSTED,
    CONSTANT_IN_BATCH,
    INFINITE,
    NO_VARIANCE,
    NOT_ESTIMABLE,
    TOO_FEW_VALUES,
)

__all__ = [
    "ADJUSTED",
    "CONSTANT_IN_BATCH",
    "INFINITE",
    "NOT_ESTIMABLE",
    "NO_VARIANCE",
    "STATUS_WORDS",
    "TOO_FEW_VALUES",
    "BatchDesign",
    "BatchFit",
    "batch_design",
    "fit_batches",
]

Floats = NDArray[np.float64]

STATUS_WORDS = {
    ADJUSTED: "adjusted",
    CONSTANT_IN_BATCH: "all values of a batch are equal",
    TOO_FEW_VALUES: "too few values in a batch",
    NOT_ESTIMABLE: "its missing values leave a covariate confounded",
    NO_VARIANCE: "no variance is left after batch and covariates",
}

# Where covariates leave less than this share of the sum of squares within batches, subtraction has lost too many
# digits, and residuals are formed one by one; below the second share those are rounding too.
CLOSE = 1e-5
NO_REST = 1e-24


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
    sums.complete(values, design.order, design.starts, design.q, level, within, cross, coefficients)
    sums.rests(within, cross, coefficients, design.gram, rest)
    solved = np.zeros(width, dtype=np.int8)
    with np.errstate(invalid="ignore", over="ignore"):
        odd = np.flatnonzero(~np.isfinite(within.sum(axis=0)))
    if odd.size:
        arguments = (design.order, design.starts, design.q, design.gram, int(least))
        sums.missing(values, odd, *arguments, count, level, within, rest, coefficients, solved)
    status = solved.copy()
    uniform = ((within == 0) & (count == design.size[:, None]) & (design.size[:, None] > 1)).any(axis=0)
    status[uniform & (status != INFINITE)] = CONSTANT_IN_BATCH
    with np.errstate(invalid="ignore", over="ignore"):
        close = np.flatnonzero((rest.sum(axis=0) < CLOSE * within.sum(axis=0)) & (status == ADJUSTED))
        if close.size and k:
            sums.direct(values, close, design.order, design.starts, design.q, level, coefficients, rest)
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
