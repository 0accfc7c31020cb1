"""Weighted linear models per feature, from sums that are taken up block by block (limma's lmFit with weights).

``linear_design`` -> ``new_weighted_sums`` -> ``accumulate_weighted`` (each block of samples with its weights) ->
``finish_weighted`` -> ``refit_weighted`` (the few features in ``needs_columns``) -> ``weighted_contrasts``.

Each feature's weights are divided by their mean. That leaves its tests as they are and its sums near those of the
orthonormal design without weights, so that the solver of features with missing cells serves here too: what weights take
from the identity stands where missing samples do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.kernels import linear_fit
from sjd_dask.kernels import linear_solve as solve
from sjd_dask.kernels.linear_contrasts import ContrastFit, NaContrasts, contrast_fit
from sjd_dask.kernels.linear_fit import REST_TOLERANCE, LinearFit, OwnFit
from sjd_dask.kernels.linear_sums import PILOT_ROWS, Floats, LinearDesign
from sjd_dask.kernels.linear_tiles import pilot_mean
from sjd_dask.kernels.weighted_tiles import add_weighted


@dataclass
class WeightedSums:
    """Running sums of one stripe of F features; see `weighted_tiles.add_weighted`.

    Attributes
    ----------
    pilot : ndarray of float64, (F,)
        What was subtracted from a feature's values: about its mean if the design holds the constant, else zero.
    gram : ndarray of float64, (p (p + 1) / 2, F)
    products : ndarray of float64, (p, F)
    squares, weight_sum, total : ndarray of float64, (F,)
    n_used, n_values : ndarray of int64, (F,)
    rows : int
        Samples seen.
    """

    pilot: Floats
    gram: Floats
    products: Floats
    squares: Floats
    weight_sum: Floats
    total: Floats
    n_used: NDArray[np.int64]
    n_values: NDArray[np.int64]
    rows: int = 0

    @property
    def n_features(self) -> int:
        return int(self.squares.shape[0])

    def copy(self) -> WeightedSums:
        arrays = {k: v.copy() for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return WeightedSums(**arrays, rows=self.rows)


@dataclass(frozen=True)
class WeightedFit:
    """Weighted least squares of F features.

    Attributes
    ----------
    scaled : LinearFit
        The fit under weights whose mean is one in each feature.
    scale : ndarray of float64, (F,)
        The mean weight of each feature.
    """

    scaled: LinearFit
    scale: Floats

    @property
    def coefficients(self) -> Floats:
        """(p, F)."""
        return self.scaled.coefficients

    @property
    def stdev_unscaled(self) -> Floats:
        """(p, F) standard errors over the residual standard deviation."""
        found: Floats = self.scaled.stdev_unscaled / np.sqrt(self.scale)
        return found

    @property
    def sigma2(self) -> Floats:
        """(F,) residual variance of an observation of weight one."""
        found: Floats = self.scaled.sigma2 * self.scale
        return found

    @property
    def needs_columns(self) -> NDArray[np.int64]:
        """Features that `refit_weighted` must work out."""
        return self.scaled.needs_columns


def new_weighted_sums(design: LinearDesign, n_features: int) -> WeightedSums:
    """Sums before the first sample."""
    p = design.p
    size = p * (p + 1) // 2
    squares, weight_sum, total = (np.zeros(n_features) for _ in range(3))
    n_used, n_values = (np.zeros(n_features, dtype=np.int64) for _ in range(2))
    gram, products = np.zeros((size, n_features)), np.zeros((p, n_features))
    return WeightedSums(np.zeros(n_features), gram, products, squares, weight_sum, total, n_used, n_values)


def accumulate_weighted(
    sums: WeightedSums, q_rows: NDArray[Any], values: NDArray[Any], weights: NDArray[Any], *, has_intercept: bool
) -> None:
    """Add the next samples to the sums, in place.

    Parameters
    ----------
    sums : WeightedSums
    q_rows : ndarray of float64, (rows, p)
        Rows of `LinearDesign.q` of these samples.
    values : ndarray, (rows, F)
        A cell that is not finite is missing.
    weights : ndarray of float64, (rows, F), or (rows,) or (rows, 1) for one weight a sample
        A cell whose weight is zero, negative or not finite is left out of the fit, as in limma.
    has_intercept : bool
        Of the design. The first block must then hold `PILOT_ROWS` samples or all there are.
    """
    block = np.ascontiguousarray(values, dtype=np.float64)
    q = np.ascontiguousarray(q_rows, dtype=np.float64)
    w = np.ascontiguousarray(weights, dtype=np.float64)
    w = w[:, None] if w.ndim == 1 else w
    rows, n_features = block.shape
    if n_features != sums.n_features or q.shape != (rows, sums.products.shape[0]):
        raise DataError(f"a block {block.shape} with design rows {q.shape} doesn't fit {sums.products.shape} sums")
    if w.shape not in ((rows, n_features), (rows, 1)):
        raise DataError(f"weights of shape {w.shape} don't fit a block of {rows} samples and {n_features} features")
    if rows == 0 or n_features == 0:
        sums.rows += rows
        return
    if sums.rows == 0 and has_intercept:
        pilot_mean(block, min(rows, PILOT_ROWS), None, None, sums.pilot)
    add_weighted(
        block, w, q, sums.pilot, sums.gram, sums.products, sums.squares, sums.weight_sum, sums.total, sums.n_used,
        sums.n_values,
    )  # fmt: skip
    sums.rows += rows


def finish_weighted(sums: WeightedSums, design: LinearDesign, cov_unscaled: Floats | None = None) -> WeightedFit:
    """Fit of every feature of a stripe whose samples have all been accumulated.

    Parameters
    ----------
    sums : WeightedSums
    design : LinearDesign
    cov_unscaled : ndarray of float64, (p, p), optional
        Covariance whose correlations ``na_contrasts='limma'`` takes: that of the design without weights by default, as
        limma for a weight in every cell; limma takes the weighted design for weights of samples and complete data.

    Raises
    ------
    DataError
        If the sums have not seen exactly the samples of the design.

    Notes
    -----
    Missing rule: as `linear.finish`; a cell of weight zero counts as missing in the fit, yet stays in the mean, as
    limma's Amean has it.
    """
    if sums.rows != design.n:
        raise DataError(f"the sums have seen {sums.rows} samples and the design has {design.n}")
    p, n_features = sums.products.shape
    n_samples = sums.n_used
    empty = n_samples == 0
    scale = np.where(empty, 1.0, sums.weight_sum / np.maximum(n_samples, 1))
    gram = np.ascontiguousarray((sums.gram / -scale).T)
    gram[:, np.cumsum([0, *range(p, 1, -1)])] += 1.0
    squares = sums.squares / scale
    whitened, coefficients, stdev = (np.empty((p, n_features)) for _ in range(3))
    rest, smallest = np.empty(n_features), np.empty(n_features)
    solve.solve_missing(
        gram, sums.products / scale, squares, design.r_inverse, whitened, coefficients, stdev, rest, smallest
    )
    df = n_samples.astype(np.float64) - p
    coefficients += design.constant[:, None] * sums.pilot
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.pilot + sums.total / sums.n_values
        sigma2 = np.where(df > 0, np.maximum(rest, 0.0) / df, np.nan)
    close = (rest < REST_TOLERANCE["double"] * squares) & (squares > 0) & (df > 0)
    lost = (smallest <= solve.PIVOT_TOLERANCE) | close | empty
    coefficients[:, lost] = stdev[:, lost] = np.nan
    sigma2[lost] = np.nan
    df[empty] = 0.0
    fit = LinearFit(
        coefficients=coefficients,
        stdev_unscaled=stdev,
        sigma2=sigma2,
        df_residual=df,
        mean=mean,
        n_samples=n_samples,
        cov_unscaled=design.cov_unscaled if cov_unscaled is None else cov_unscaled,
        needs_columns=np.flatnonzero(lost & ~empty),
        pilot=sums.pilot,
        whitened=whitened,
        gram_missing=gram,
    )
    return WeightedFit(fit, scale)


def refit_weighted(fit: WeightedFit, design: LinearDesign, columns: NDArray[Any], weights: NDArray[Any]) -> WeightedFit:
    """Work out the features in `fit.needs_columns` from their values, by Householder QR as R's lm.wfit does.

    Parameters
    ----------
    fit : WeightedFit
    design : LinearDesign
    columns : ndarray, (n samples in the order of the design, len(fit.needs_columns)), NaN where missing
    weights : ndarray, the shape of `columns`, or (n,) or (n, 1)
    """
    needed, scaled = fit.needs_columns, fit.scaled
    if columns.shape != (design.n, needed.size):
        raise DataError(f"refit needs columns of shape {(design.n, needed.size)}, not {columns.shape}")
    w = np.asarray(weights, dtype=np.float64)
    w = np.broadcast_to(w[:, None] if w.ndim == 1 else w, columns.shape)
    coefficients, stdev = scaled.coefficients.copy(), scaled.stdev_unscaled.copy()
    sigma2, df, own = scaled.sigma2.copy(), scaled.df_residual.copy(), dict[int, OwnFit](scaled.own)
    for position, feature in enumerate(needed.tolist()):
        values = np.asarray(columns[:, position], dtype=np.float64)
        there = np.isfinite(values) & (w[:, position] > 0) & np.isfinite(w[:, position])
        root = np.sqrt(w[there, position] / fit.scale[feature])
        beta, variance, rank, result = linear_fit.own_fit(design.matrix[there] * root[:, None], values[there] * root)
        coefficients[:, feature] = beta
        stdev[:, feature] = np.sqrt(np.diag(result.covariance))
        sigma2[feature] = variance
        df[feature] = there.sum() - rank
        own[feature] = result
    done = replace(
        scaled,
        coefficients=coefficients,
        stdev_unscaled=stdev,
        sigma2=sigma2,
        df_residual=df,
        needs_columns=np.zeros(0, dtype=np.int64),
        own=own,
    )
    return WeightedFit(done, fit.scale)


def weighted_contrasts(
    fit: WeightedFit, design: LinearDesign, contrasts: Floats, na_contrasts: NaContrasts = "exact"
) -> ContrastFit:
    """Contrasts of a weighted fit; see `linear.contrast_fit`.

    'exact' takes each feature's own covariance. 'limma' takes its deviations with the correlations of one design for
    all features, an approximation that limma's contrasts.fit makes wherever weights differ between features.
    """
    found = contrast_fit(fit.scaled, design, contrasts, na_contrasts)
    return ContrastFit(
        found.effects, found.stdev_unscaled / np.sqrt(fit.scale), found.f_quadratic * fit.scale, found.f_rank
    )


def fit_weighted(
    values: NDArray[Any], weights: NDArray[Any], design: LinearDesign, cov_unscaled: Floats | None = None
) -> WeightedFit:
    """Weighted fit of a matrix (n, F) held in memory; weights (n, F) or (n,)."""
    sums = new_weighted_sums(design, values.shape[1])
    accumulate_weighted(sums, design.q, values, weights, has_intercept=design.has_intercept)
    fit = finish_weighted(sums, design, cov_unscaled)
    needed = fit.needs_columns
    if not needed.size:
        return fit
    return refit_weighted(fit, design, values[:, needed], weights if weights.ndim == 1 else weights[:, needed])
