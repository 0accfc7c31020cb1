"""From the sums of a stripe to each feature's fit; the few features that need their own column get it here too."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from sjd_dask.errors import DataError
from sjd_dask.kernels import linear_solve as solve
from sjd_dask.kernels.linear_sums import RANK_TOLERANCE, Floats, LinearDesign, LinearSums, Precision

# Where the residual sum of squares is a smaller share of the centred sum of squares than this, subtraction has lost
# too many digits, and the feature is worked out from its own column. At the limit the variance is good to about 1e-8
# (double) or 1e-4.
REST_TOLERANCE: dict[Precision, float] = {"double": 1e-6, "single": 1e-3}


@dataclass(frozen=True)
class OwnFit:
    """The fit of one feature from its own column.

    `covariance` (p, p) is that of the coefficients over sigma**2, NaN in rows and columns of dropped ones; `null` (p,
    r) spans the coefficient vectors that leave the fitted values alone, so a contrast is estimable when it is
    orthogonal to them.
    """

    rank: int
    covariance: Floats
    null: Floats


@dataclass(frozen=True)
class LinearFit:
    """Least squares of one stripe of F features; p coefficients.

    Attributes
    ----------
    coefficients, stdev_unscaled : ndarray of float64, (p, F)
        Standard error = stdev_unscaled * sqrt(sigma2). NaN where a coefficient can't be estimated: as in R's lm.fit,
        of columns that coincide over a feature's own samples the later one is dropped.
    sigma2 : ndarray of float64, (F,)
        Residual variance; NaN without residual degrees of freedom.
    df_residual : ndarray of float64, (F,)
    mean : ndarray of float64, (F,)
        Mean of the values that are not missing (limma's Amean).
    n_samples : ndarray of int64, (F,)
    cov_unscaled : ndarray of float64, (p, p)
        Covariance over sigma**2 for the full design.
    needs_columns : ndarray of int64
        Features the sums can't answer: give their values to `refit_columns`. Until then their numbers are NaN.
    """

    coefficients: Floats
    stdev_unscaled: Floats
    sigma2: Floats
    df_residual: Floats
    mean: Floats
    n_samples: NDArray[np.int64]
    cov_unscaled: Floats
    needs_columns: NDArray[np.int64]
    # What contrasts need: the pilot, L^-1 Q'y, and the sums of q q' of missing cells.
    pilot: Floats
    whitened: Floats
    gram_missing: Floats
    own: dict[int, OwnFit] = field(default_factory=dict)

    @property
    def n_features(self) -> int:
        return int(self.sigma2.shape[0])

    @property
    def has_missing(self) -> bool:
        return bool(self.gram_missing.shape[0] > 0)


def finish(sums: LinearSums, design: LinearDesign) -> LinearFit:
    """Fit of every feature of a stripe whose samples have all been accumulated.

    Numbers follow limma's lmFit: an all-missing feature has NaN and n_samples 0; a constant feature has effects and
    variance zero.

    Raises
    ------
    DataError
        If the sums have not seen exactly the samples of the design.
    """
    if sums.rows != design.n:
        raise DataError(f"the sums have seen {sums.rows} samples and the design has {design.n}")
    products, squares = sums.flushed()
    qty = np.ascontiguousarray(products[:-1])
    p, n_features = qty.shape
    n_samples = sums.n
    df = n_samples.astype(np.float64) - p
    if sums.has_missing:
        whitened, coefficients, stdev = (np.empty((p, n_features)) for _ in range(3))
        rest, smallest = np.empty(n_features), np.empty(n_features)
        solve.solve_missing(
            sums.gram_missing, qty, squares, design.r_inverse, whitened, coefficients, stdev, rest, smallest
        )
        singular = smallest <= solve.PIVOT_TOLERANCE
        stdev[:, complete_features(sums.gram_missing)] = complete_stdev(design)[:, None]
    else:
        whitened = qty
        coefficients = np.empty((p, n_features))
        rest = squares.copy()
        solve.multiply(design.r_inverse, qty, coefficients)
        solve.subtract_squares(qty, rest)
        stdev = np.repeat(complete_stdev(design)[:, None], n_features, axis=1)
        singular = np.zeros(n_features, dtype=bool)
    coefficients += design.constant[:, None] * sums.pilot
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.pilot + products[-1] / n_samples
        sigma2 = np.where(df > 0, np.maximum(rest, 0.0) / df, np.nan)
    close = (rest < REST_TOLERANCE[sums.precision] * squares) & (squares > 0) & (df > 0)
    empty = n_samples == 0
    lost = singular | close
    for values in (coefficients, stdev):
        values[:, lost] = np.nan
    sigma2[lost] = np.nan
    df[empty] = 0.0
    return LinearFit(
        coefficients=coefficients,
        stdev_unscaled=stdev,
        sigma2=sigma2,
        df_residual=df,
        mean=mean,
        n_samples=n_samples,
        cov_unscaled=design.cov_unscaled,
        needs_columns=np.flatnonzero(lost & ~empty),
        pilot=sums.pilot,
        whitened=whitened,
        gram_missing=sums.gram_missing,
    )


def complete_stdev(design: LinearDesign) -> Floats:
    """Unscaled deviation of each coefficient (p,) of a feature without missing cells."""
    found: Floats = np.sqrt(np.square(design.r_inverse).sum(axis=1))
    return found


def complete_features(gram_missing: Floats) -> NDArray[np.int64]:
    """Features from which no cell, and no weight, takes anything: their bits are those of a stripe without holes."""
    return np.flatnonzero(~gram_missing.any(axis=1))


def refit_columns(fit: LinearFit, design: LinearDesign, columns: NDArray[Any]) -> LinearFit:
    """Work out the features in `fit.needs_columns` from their values, by Householder QR of the design rows they have.

    Parameters
    ----------
    fit : LinearFit
    design : LinearDesign
    columns : ndarray, (n samples in the order of the design, len(fit.needs_columns)), NaN where missing

    Returns
    -------
    LinearFit
        With those features filled in as R's lm.fit does (pivoting of later columns, tolerance 1e-7), and nothing left
        to do.
    """
    if columns.shape != (design.n, fit.needs_columns.size):
        raise DataError(f"refit needs columns of shape {(design.n, fit.needs_columns.size)}, not {columns.shape}")
    coefficients, stdev = fit.coefficients.copy(), fit.stdev_unscaled.copy()
    sigma2, df = fit.sigma2.copy(), fit.df_residual.copy()
    own = dict(fit.own)
    for position, feature in enumerate(int(i) for i in fit.needs_columns):
        values = np.asarray(columns[:, position], dtype=np.float64)
        there = np.isfinite(values)
        beta, variance, rank, result = own_fit(design.matrix[there], values[there])
        coefficients[:, feature] = beta
        stdev[:, feature] = np.sqrt(np.diag(result.covariance))
        sigma2[feature] = variance
        df[feature] = there.sum() - rank
        own[feature] = result
    return replace(
        fit,
        coefficients=coefficients,
        stdev_unscaled=stdev,
        sigma2=sigma2,
        df_residual=df,
        needs_columns=np.zeros(0, dtype=np.int64),
        own=own,
    )


def own_fit(matrix: Floats, values: Floats) -> tuple[Floats, float, int, OwnFit]:
    """Coefficients, variance, rank and covariance of one feature over the samples it has."""
    n, p = matrix.shape
    triangle = np.zeros((p, p))
    order = np.zeros(p, dtype=np.int64)
    effects = values.copy()
    rank = int(solve.householder(matrix.copy(), effects, RANK_TOLERANCE, triangle, order))
    kept, dropped = order[:rank], order[rank:]
    beta = np.full(p, np.nan)
    covariance = np.full((p, p), np.nan)
    null = np.zeros((p, p - rank))
    if rank:
        square = triangle[:rank, :rank]
        beta[kept] = solve_triangular(square, effects[:rank])
        inverse = solve_triangular(square, np.eye(rank))
        covariance[np.ix_(kept, kept)] = inverse @ inverse.T
        null[kept] = -solve_triangular(square, triangle[:rank, rank:]) if rank < p else 0.0
        # What rounding left of coefficients that have no part in a dependence would make them seem inestimable.
        share = np.abs(null) * np.sqrt(np.square(matrix).sum(axis=0))[:, None]
        null[share <= RANK_TOLERANCE * share.max(axis=0, initial=0.0)] = 0.0
    null[dropped, np.arange(p - rank)] = 1.0
    variance = float(np.square(effects[rank:]).sum() / (n - rank)) if n > rank else np.nan
    return beta, variance, rank, OwnFit(rank=rank, covariance=covariance, null=null)
