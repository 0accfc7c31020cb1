"""Scaled inverse chi-squared prior of residual variances, estimated by moments of log variances (Smyth 2004)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike, NDArray

from sjd_dask.errors import DataError
from sjd_dask.kernels.linear_fit import own_fit
from sjd_dask.kernels.natural_spline import natural_spline

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Prior:
    """Prior variance and prior degrees of freedom: var / s2_prior ~ F(df, df_prior).

    `s2_prior` is one number, or one a feature when it follows a covariate; `df_prior` is one number, or one a feature
    when it was estimated robustly. `df_prior` may be infinite: all features share the variance `s2_prior`.
    `notes` says in words what had to be done about unusual variances.
    """

    s2_prior: float | FloatArray
    df_prior: float | FloatArray
    notes: tuple[str, ...] = ()


def fit_f_dist(var: ArrayLike, df: ArrayLike, covariate: ArrayLike | None = None) -> Prior:
    """Estimate the prior of variances by the method of moments on their logarithms.

    Parameters
    ----------
    var
        (features,) residual variances.
    df
        Their residual degrees of freedom: one number, or (features,).
    covariate
        (features,) what the prior variance may depend on, usually the mean; its logarithm then follows a natural cubic
        spline with up to 4 degrees of freedom (fewer below 30 and 6 features, or with few distinct values).

    Returns
    -------
    Prior
        With a covariate, `s2_prior` has a value for every feature, also the excluded ones.

    Notes
    -----
    Features with a missing variance or no residual degrees of freedom are left out of the estimate, and so are those
    with a missing covariate, whose prior variance is NaN. Variances below 1e-5 of the median are raised to that.
    With one usable feature there is no prior: `s2_prior` is its variance and `df_prior` is 0.

    Method: Smyth (2004), section 6.2, and its trended form as in limma up to 3.54 (Ritchie and others 2015). Under
    unequal residual degrees of freedom the log variances are weighted equally, as there; newer limma (from 3.56 on)
    can fit such data otherwise. The older rule is followed because published results rest on it.

    Raises
    ------
    DataError
        When no feature has a usable variance.
    """
    values, dof, trend = as_features(var, df, covariate)
    n = values.size
    ok = np.isfinite(dof) & (dof > 1e-15) & np.isfinite(values) & (values > -1e-15)
    if trend is not None:
        trend = _finite_covariate(trend)
        ok &= ~np.isnan(trend)
    n_ok = int(np.count_nonzero(ok))
    if n_ok == 0:
        raise DataError(
            f"none of {n} features has a residual variance with residual degrees of freedom: nothing to estimate a "
            "prior from"
        )
    all_ok = n_ok == n
    x = values if all_ok else values[ok]
    d = dof if all_ok else dof[ok]
    if n_ok == 1:
        return Prior(float(x[0]), 0.0)
    x, notes = _raise_zeros(x)
    log_x = np.log(x)
    digamma, trigamma = _polygammas(d)
    log_x -= digamma
    basis_df = 1
    if trend is not None:
        inside = trend if all_ok else trend[ok]
        basis_df = min(1 + (n_ok >= 3) + (n_ok >= 6) + (n_ok >= 30), np.unique(inside).size)
    if trend is None or basis_df < 2:
        centre: float | FloatArray = float(np.mean(log_x))
        spread = float(np.sum((log_x - centre) ** 2)) / (n_ok - 1)
        flat = True
    else:
        centre, spread = _trend(log_x, inside, basis_df, None if all_ok else trend, ok)
        flat = False
    excess = spread - float(np.mean(trigamma))
    if excess > 0:
        df_prior = 2.0 * trigamma_inverse(excess)
        s2_prior = np.exp(centre + sc.digamma(df_prior / 2) - math.log(df_prior / 2))
    else:
        df_prior = math.inf
        s2_prior = np.float64(np.mean(x)) if flat else np.exp(centre)
    if flat:
        scalar = float(s2_prior)
        return Prior(scalar if trend is None else np.full(n, scalar), df_prior, notes)
    return Prior(np.asarray(s2_prior, dtype=np.float64), df_prior, notes)


def trigamma_inverse(x: float) -> float:
    """The y > 0 whose trigamma is x, by Newton's iteration of Smyth (2004), appendix.

    Beyond 1e7 and below 1e-6 the leading terms 1/sqrt(x) and 1/x stand for it.
    """
    if math.isnan(x) or x < 0:
        return math.nan
    if x > 1e7:
        return 1 / math.sqrt(x)
    if x < 1e-6:
        return math.inf if x == 0 else 1 / x
    y = 0.5 + 1 / x
    for _ in range(50):
        value = float(sc.polygamma(1, y))
        step = value * (1 - value / x) / float(sc.polygamma(2, y))
        y += step
        if -step / y < 1e-12:
            break
    return y


def as_features(
    var: ArrayLike, df: ArrayLike, covariate: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    values = np.atleast_1d(np.asarray(var, dtype=np.float64))
    dof = np.asarray(df, dtype=np.float64)
    if dof.ndim == 0:
        dof = np.broadcast_to(dof, values.shape)
    trend = None if covariate is None else np.asarray(covariate, dtype=np.float64)
    if values.ndim != 1 or dof.shape != values.shape or (trend is not None and trend.shape != values.shape):
        raise ValueError("variances, degrees of freedom and covariate must be vectors of the same length")
    return values, dof, trend


def _finite_covariate(covariate: FloatArray) -> FloatArray:
    """Infinite covariates (logarithm of zero) are put just outside the range of the finite ones."""
    infinite = np.isinf(covariate)
    if not infinite.any():
        return covariate
    finite = covariate[np.isfinite(covariate)]
    if finite.size == 0:
        return np.sign(covariate)
    out = covariate.copy()
    out[covariate == -np.inf] = finite.min() - 1
    out[covariate == np.inf] = finite.max() + 1
    return out


def _raise_zeros(x: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
    x = np.maximum(x, 0.0)
    median = float(np.median(x))
    if median == 0:
        zeros = int(np.count_nonzero(x == 0))
        note = f"{zeros} of {x.size} residual variances are exactly zero: the moderated tests are unreliable"
        return np.maximum(x, 1e-5), (note,)
    # Constant features, whose variance is zero or what rounding made of it.
    zeros = int(np.count_nonzero(x < 1e-12 * median))
    notes: tuple[str, ...] = ()
    if zeros:
        notes = (f"{zeros} residual variances are zero; raised to 1e-5 of the median to estimate the prior",)
    return np.maximum(x, 1e-5 * median), notes


def _polygammas(df: FloatArray) -> tuple[FloatArray | float, FloatArray | float]:
    """digamma(df/2) - log(df/2) and trigamma(df/2), each computed once for every distinct df."""
    first = float(df[0])
    if df.strides == (0,) or np.all(df == first):
        half = first / 2
        return float(sc.digamma(half)) - math.log(half), float(sc.polygamma(1, half))
    whole = df.astype(np.int64)
    if np.all(whole == df) and whole.max() < 10_000_000:
        half_table = np.arange(whole.max() + 1) / 2
        used = np.flatnonzero(np.bincount(whole))
        table = np.full((2, half_table.size), np.nan)
        table[0, used] = sc.digamma(half_table[used]) - np.log(half_table[used])
        table[1, used] = sc.polygamma(1, half_table[used])
        return table[0][whole], table[1][whole]
    halves = df / 2
    return sc.digamma(halves) - np.log(halves), sc.polygamma(1, halves)


def _trend(
    y: FloatArray, x: FloatArray, basis_df: int, everywhere: FloatArray | None, ok: BoolArray
) -> tuple[FloatArray, float]:
    """Least squares on a natural spline of x: fitted values for every feature, and the residual mean square.

    Few values far out make the columns of the basis nearly dependent; own_fit drops those that R's lm.fit would.
    """
    basis = natural_spline(x, basis_df)
    design = basis(x)
    beta, spread, _, _ = own_fit(design, y)
    coefficients = np.nan_to_num(beta)
    fitted = design @ coefficients
    if everywhere is None:
        return fitted, spread
    out = np.full(ok.shape, np.nan)
    out[ok] = fitted
    rest = ~ok & ~np.isnan(everywhere)
    out[rest] = basis(everywhere[rest]) @ coefficients
    return out, spread
