"""Contrasts of the coefficients, each feature with its own covariance, or as limma's contrasts.fit does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sjd_dask.errors import DesignError, SpecError
from sjd_dask.kernels import linear_solve as solve
from sjd_dask.kernels.linear_fit import LinearFit, OwnFit, complete_features
from sjd_dask.kernels.linear_sums import Floats, LinearDesign

NaContrasts = Literal["exact", "limma"]

# Directions of the contrasts with a smaller share of variance than this count as combinations of the others (limma's
# F-test).
SPAN_TOLERANCE = 1e-8
# How far a contrast may lean, relative to its length, on coefficients a feature's own samples can't tell apart.
ESTIMABLE_TOLERANCE = 1e-7
# limma gives coefficients that can't be estimated this unscaled deviation, and calls a contrast missing beyond the
# second.
_UNKNOWN, _UNKNOWN_LIMIT = 1e30, 1e20


@dataclass(frozen=True)
class ContrastFit:
    """Effects of k contrasts on F features.

    Attributes
    ----------
    effects, stdev_unscaled : ndarray of float64, (k, F)
    f_quadratic : ndarray of float64, (F,)
        e' C^-1 e with C the unscaled covariance of the effects: F = f_quadratic / (f_rank * variance). NaN if an
        effect is NaN.
    f_rank : int
        Number of independent contrasts.
    """

    effects: Floats
    stdev_unscaled: Floats
    f_quadratic: Floats
    f_rank: int


def contrast_fit(
    fit: LinearFit, design: LinearDesign, contrasts: Floats, na_contrasts: NaContrasts = "exact"
) -> ContrastFit:
    """Effects of contrasts, their unscaled standard deviation, and the quadratic form of the overall F-test.

    Parameters
    ----------
    fit : LinearFit with nothing left in `needs_columns`
    design : LinearDesign
    contrasts : ndarray of float64, (p, k)
        One contrast in each column.
    na_contrasts : {'exact', 'limma'}
        For features with missing values: 'exact' takes the covariance of the coefficients over the feature's own
        samples; a contrast these can't estimate is NaN. 'limma' takes the feature's own deviations with the
        correlations of the full design, as contrasts.fit and the F-test of limma 3.54 do. For complete features both
        are the same.

    Raises
    ------
    DesignError
        If a contrast has no weight that is not zero, or the shape does not fit.
    """
    weights = np.array(contrasts, dtype=np.float64, ndmin=2)
    if weights.shape[0] != design.p or weights.shape[1] == 0:
        raise DesignError(f"contrasts need {design.p} rows (one a coefficient) and a column; got {weights.shape}")
    if not np.isfinite(weights).all():
        raise DesignError("contrast weights must be finite numbers")
    if not np.abs(weights).max(axis=0).all():
        raise DesignError("a contrast whose weights are all zero tests nothing; leave it out")
    if fit.needs_columns.size:
        raise SpecError(f"{fit.needs_columns.size} features wait for refit_columns before contrasts can be taken")
    if na_contrasts == "limma":
        return _as_limma(fit, weights)
    if na_contrasts != "exact":
        raise SpecError(f"na_contrasts is 'exact' or 'limma', not {na_contrasts!r}")
    return _exact(fit, design, weights)


def _exact(fit: LinearFit, design: LinearDesign, contrasts: Floats) -> ContrastFit:
    k, n_features = contrasts.shape[1], fit.n_features
    weights = np.ascontiguousarray(contrasts.T @ design.r_inverse)
    basis = _span(weights)
    shift = contrasts.T @ design.constant
    basis_shift = basis @ (design.r @ design.constant)
    basis_shift[np.abs(basis_shift) < 1e-12 * np.sqrt(design.n)] = 0.0
    if fit.has_missing:
        effects, stdev, quadratic = (np.empty((k, n_features)), np.empty((k, n_features)), np.zeros(n_features))
        given = (weights, shift, basis, basis_shift)
        solve.contrast_missing(fit.gram_missing, fit.whitened, fit.pilot, *given, effects, stdev, quadratic)
        lost = fit.n_samples == 0
        effects[:, lost] = stdev[:, lost] = quadratic[lost] = np.nan
        # A complete feature has the same bits whether or not a neighbour of its stripe lacks a cell. Weights take from
        # the identity too, so that the number of samples alone doesn't tell whose covariance is the design's.
        whole = complete_features(fit.gram_missing)
        effects[:, whole], stdev[:, whole], quadratic[whole] = _complete(
            np.ascontiguousarray(fit.whitened[:, whole]), fit.pilot[whole], weights, shift, basis, basis_shift
        )
    else:
        effects, stdev, quadratic = _complete(fit.whitened, fit.pilot, weights, shift, basis, basis_shift)
    for feature, own in fit.own.items():
        effects[:, feature], stdev[:, feature], quadratic[feature] = _own_contrasts(
            own, fit.coefficients[:, feature], contrasts, basis.shape[0]
        )
    return ContrastFit(effects, stdev, quadratic, basis.shape[0])


def _complete(
    whitened: Floats, pilot: Floats, weights: Floats, shift: Floats, basis: Floats, basis_shift: Floats
) -> tuple[Floats, Floats, Floats]:
    """Effects, deviations and quadratic form of features without missing cells, by the covariance of the design."""
    n_features = whitened.shape[1]
    effects, quadratic = np.empty((len(weights), n_features)), np.zeros(n_features)
    solve.multiply(weights, whitened, effects)
    effects += shift[:, None] * pilot
    stdev = np.repeat(np.sqrt(np.square(weights).sum(axis=1))[:, None], n_features, axis=1)
    projected = np.empty((basis.shape[0], n_features))
    solve.multiply(basis, whitened, projected)
    projected += basis_shift[:, None] * pilot
    solve.subtract_squares(projected, quadratic)
    return effects, stdev, -quadratic


def _span(weights: Floats) -> Floats:
    """Orthonormal rows that span the rows of `weights` (k, p)."""
    unit = weights / np.sqrt(np.square(weights).sum(axis=1))[:, None]
    _, singular, right = np.linalg.svd(unit, full_matrices=False)
    return np.ascontiguousarray(right[np.square(singular) > SPAN_TOLERANCE * singular[0] ** 2])


def _own_contrasts(own: OwnFit, coefficients: Floats, contrasts: Floats, rank: int) -> tuple[Floats, Floats, float]:
    """Contrasts of one feature that was fitted from its own column; NaN where they can't be estimated."""
    known = np.isfinite(coefficients)
    lean = np.abs(own.null.T @ contrasts) if own.null.shape[1] else np.zeros((1, contrasts.shape[1]))
    reach = np.abs(own.null).T @ np.abs(contrasts) if own.null.shape[1] else np.ones((1, contrasts.shape[1]))
    estimable = (lean <= ESTIMABLE_TOLERANCE * reach).all(axis=0)
    part = contrasts[known]
    covariance = part.T @ own.covariance[np.ix_(known, known)] @ part
    effects = np.where(estimable, part.T @ coefficients[known], np.nan)
    stdev = np.where(estimable, np.sqrt(np.diag(covariance)), np.nan)
    if not estimable.all():
        return effects, stdev, np.nan
    scale = 1.0 / np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance * scale[:, None] * scale)
    top = values.argsort()[::-1][:rank]
    turned = vectors[:, top].T @ (effects * scale)
    return effects, stdev, float((np.square(turned) / values[top]).sum())


def _as_limma(fit: LinearFit, contrasts: Floats) -> ContrastFit:
    used = np.abs(contrasts).sum(axis=1) > 0
    contrasts = contrasts[used]
    covariance = fit.cov_unscaled[np.ix_(used, used)]
    coefficients, deviations = fit.coefficients[used], fit.stdev_unscaled[used]
    unknown = np.isnan(coefficients)
    coefficients = np.where(unknown, 0.0, coefficients)
    deviations = np.where(unknown, _UNKNOWN, deviations)
    k, n_features = contrasts.shape[1], fit.n_features
    effects, stdev = np.empty((k, n_features)), np.empty((k, n_features))
    solve.multiply(np.ascontiguousarray(contrasts.T), coefficients, effects)
    upper = np.ascontiguousarray(np.linalg.cholesky(_correlation(covariance)).T)
    for c in range(k):
        turned, squares = np.empty_like(deviations), np.zeros(n_features)
        solve.multiply(upper, deviations * contrasts[:, c, None], turned)
        solve.subtract_squares(turned, squares)
        stdev[c] = np.sqrt(-squares)
    lost = stdev > _UNKNOWN_LIMIT
    effects[lost] = stdev[lost] = np.nan
    values, vectors = np.linalg.eigh(_correlation(contrasts.T @ covariance @ contrasts))
    kept = values > SPAN_TOLERANCE * values[-1]
    turn = np.ascontiguousarray((vectors[:, kept] / np.sqrt(values[kept])).T)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = effects / stdev
    projected, quadratic = np.empty((turn.shape[0], n_features)), np.zeros(n_features)
    # `multiply` skips weights of zero, which would hide a NaN.
    solve.multiply(turn, ratios, projected)
    solve.subtract_squares(projected, quadratic)
    return ContrastFit(effects, stdev, np.where(np.isnan(ratios).any(axis=0), np.nan, -quadratic), int(kept.sum()))


def _correlation(covariance: Floats) -> Floats:
    scale = 1.0 / np.sqrt(np.diag(covariance))
    correlation: Floats = covariance * scale[:, None] * scale
    return correlation
