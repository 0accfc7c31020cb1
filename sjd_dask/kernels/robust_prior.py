"""Robust estimate of the prior of residual variances (Phipson, Lee, Majewski, Alexander, Smyth 2016).

A few features with very large (or small) variances would widen the prior for all. Here log variances are winsorised
before their moments are matched, and features whose variance stands out keep fewer prior degrees of freedom.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.optimize
import scipy.special as sc
from numpy.typing import ArrayLike, NDArray

from sjd_dask.errors import DataError
from sjd_dask.kernels import tails
from sjd_dask.kernels.lowess import lowess
from sjd_dask.kernels.prior import Prior, as_features, fit_f_dist

FloatArray = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


def _rank(values: FloatArray) -> FloatArray:
    """Ranks, ties at their mean. scipy.stats takes half a second to import, and only the robust prior needs it."""
    from scipy.stats import rankdata

    ranks: FloatArray = rankdata(values)
    return ranks


def fit_f_dist_robust(
    var: ArrayLike,
    df: ArrayLike,
    covariate: ArrayLike | None = None,
    *,
    winsor: tuple[float, float] = (0.05, 0.1),
) -> Prior:
    """Robust counterpart of `fit_f_dist`: `df_prior` has a value for every feature.

    Parameters
    ----------
    var, df, covariate
        As in `fit_f_dist`. With a covariate the log variances are centred by `lowess` (span 0.4).
    winsor
        Shares of the smallest and largest log variances that are drawn in to their quantiles.

    Notes
    -----
    Features without a variance, without residual degrees of freedom or with a missing covariate are left out; they get
    the prior of the others (interpolated over the covariate), at full prior degrees of freedom. With fewer than 3
    usable features, or so few that the winsorised shares hold none, the plain estimate is returned. Under unequal
    residual degrees of freedom each variance is first moved to the largest by equal tail probability, as limma 3.54
    does. The root of the moment equation is found to 1e-13 on the scale d / (1 + d), limma's to 1e-8: prior degrees of
    freedom differ by up to about 1e-8 (1 + d)^2.

    Raises
    ------
    DataError
        When no feature has a usable variance, or more than half of them are zero.
    """
    values, dof, trend = as_features(var, df, covariate)
    n = values.size
    ok = ~np.isnan(values) & np.isfinite(dof) & (dof > 1e-6)
    if trend is not None:
        ok &= np.isfinite(trend)
    if not ok.any():
        return fit_f_dist(values, dof, trend)  # which says why it can't
    if ok.all():
        return _fit(values, dof, trend, winsor)[0]
    inner = None if trend is None else trend[ok]
    prior, df_common = _fit(values[ok], dof[ok], inner, winsor)
    df_prior = np.full(n, df_common)
    df_prior[ok] = prior.df_prior
    if trend is None or inner is None:
        return Prior(prior.s2_prior, df_prior, prior.notes)
    s2_inner = np.broadcast_to(np.asarray(prior.s2_prior, dtype=np.float64), inner.shape)
    s2_prior = np.full(n, math.nan)
    s2_prior[ok] = s2_inner
    rest = ~ok & ~np.isnan(trend)
    s2_prior[rest] = _interpolate(inner, s2_inner, trend[rest])
    return Prior(s2_prior, df_prior, prior.notes)


def _fit(
    x: FloatArray, df: FloatArray, covariate: FloatArray | None, winsor: tuple[float, float]
) -> tuple[Prior, float]:
    """The estimate from features that are all usable, and the degrees of freedom before outliers are discounted."""
    n = x.size
    if n < 3:
        return _each(fit_f_dist(x, df, covariate), n)
    x, notes = _raise_tiny(x)
    plain = fit_f_dist(x, df, covariate)
    plain = Prior(plain.s2_prior, plain.df_prior, notes + plain.notes)
    if winsor[0] < 1 / n and winsor[1] < 1 / n:
        return _each(plain, n)
    df1 = float(df.max())
    if np.any(df < df1 - 1e-14):
        x = _same_df(x, df, df1, plain)
    z = np.log(x)
    if covariate is None:
        centre: float | FloatArray = _trimmed_mean(z, winsor[1])
    else:
        centre = lowess(covariate, z, span=0.4, iterations=3)
    residual = z - centre
    low, high = np.quantile(residual, [winsor[0], 1 - winsor[1]])
    drawn_in = np.clip(residual, low, high)
    mean = float(np.mean(drawn_in))
    variance = float(np.mean((drawn_in - mean) ** 2)) * n / (n - 1)

    def excess(link: float) -> float:
        """Observed over expected variance, in logarithms, at d / (1 + d) = link."""
        df2 = math.inf if link >= 1 else link / (1 - link)
        return math.log(variance / _winsorised_moments(df1, df2, winsor)[1])

    if variance <= 0 or excess(1.0) <= 0:
        centre = centre + mean - _winsorised_moments(df1, math.inf, winsor)[0]
        s2_prior, df_prior = _with_infinite_df(z, centre, df1)
        return Prior(s2_prior, df_prior, plain.notes), math.inf
    df_plain = float(np.asarray(plain.df_prior))
    if math.isinf(df_plain):
        return _each(plain, n)
    df2 = df_plain
    start = df_plain / (1 + df_plain)
    if excess(start) < 0:
        link = float(scipy.optimize.brentq(excess, start, 1.0, xtol=1e-14, rtol=1e-13))
        df2 = math.inf if link >= 1 else link / (1 - link)
    centre = centre + mean - _winsorised_moments(df1, df2, winsor)[0]
    return Prior(_exp(centre), _discount_outliers(z - centre, df1, df2), plain.notes), df2


def _exp(value: float | FloatArray) -> float | FloatArray:
    if isinstance(value, float):
        return math.exp(value)
    return np.asarray(np.exp(value), dtype=np.float64)


def _each(prior: Prior, n: int) -> tuple[Prior, float]:
    df = float(np.asarray(prior.df_prior))
    return Prior(prior.s2_prior, np.full(n, df), prior.notes), df


def _raise_tiny(x: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
    median = float(np.median(x))
    if median <= 0:
        raise DataError(
            "more than half of the residual variances are zero, so a robust prior can't be estimated: drop constant "
            "features, or use robust: false"
        )
    tiny = x < median * 1e-12
    if not tiny.any():
        return x, ()
    note = f"{int(tiny.sum())} residual variances are zero; raised to 1e-12 of the median for the robust prior"
    return np.where(tiny, median * 1e-12, x), (note,)


def _trimmed_mean(z: FloatArray, share: float) -> float:
    """Mean without the floor(n * share) smallest and largest values."""
    cut = int(z.size * share)
    return float(np.mean(np.sort(z)[cut : z.size - cut]))


def _winsorised_moments(df1: float, df2: float, winsor: tuple[float, float]) -> tuple[float, float]:
    """Mean and variance of a log F variable winsorised at its own quantiles.

    Gauss-Legendre quadrature with 128 nodes on u = f / (1 + f), between the two quantiles.
    """
    low, high = winsor
    if math.isinf(df2):
        ends = 2 * sc.gammaincinv(df1 / 2, [low, 1 - high]) / df1
    else:
        ends = np.array([sc.fdtri(df1, df2, low), sc.fdtri(df1, df2, 1 - high)])
    first, last = ends / (1 + ends)
    u = first + (last - first) * _NODES
    f = u / (1 - u)
    log_f = np.log(f)
    mass = (last - first) * _WEIGHTS * np.exp(tails.log_f_density(f, df1, df2)) / (1 - u) ** 2
    z_ends = np.log(ends)
    shares = np.array([low, high])
    mean = float(mass @ log_f + shares @ z_ends)
    variance = float(mass @ (log_f - mean) ** 2 + shares @ (z_ends - mean) ** 2)
    return mean, variance


def _same_df(x: FloatArray, df: FloatArray, df1: float, prior: Prior) -> FloatArray:
    """Move variances on fewer degrees of freedom to the value of equal tail probability on `df1`.

    Without this a variance on few degrees of freedom, which scatters more, would look like an outlier.
    """
    df2 = float(np.asarray(prior.df_prior))
    s2 = np.broadcast_to(np.asarray(prior.s2_prior, dtype=np.float64), x.shape)
    out = np.array(x)
    for d in np.unique(df):
        if d >= df1 - 1e-14:
            continue
        at = np.flatnonzero(df == d)
        out[at] = tails.match_f(x[at] / s2[at], float(d), df1, df2) * s2[at]
    return out


def _with_infinite_df(z: FloatArray, centre: float | FloatArray, df1: float) -> tuple[float | FloatArray, FloatArray]:
    """Prior with infinite degrees of freedom; outliers get finite ones by how unlikely they are."""
    n = z.size
    f = np.exp(z - centre)
    tail = tails.chi2_upper(f * df1, df1)
    empirical = (n - _rank(f) + 0.5) / n
    not_outlier = np.minimum(tail / empirical, 1.0)
    df_prior = np.full(n, math.inf)
    outlier = not_outlier < 1
    if outlier.any():
        df_prior[outlier] = not_outlier[outlier] * n * df1
        order = np.argsort(tail, kind="stable")
        df_prior[order] = np.maximum.accumulate(df_prior[order])
    return _exp(centre), df_prior


def _discount_outliers(residual: FloatArray, df1: float, df2: float) -> FloatArray:
    """Prior degrees of freedom of each feature, smaller the more its variance exceeds what the prior allows.

    A feature is an outlier with the probability by which its tail falls short of its empirical tail. Sure outliers get
    the degrees of freedom at which the largest variance would be a median one; they are kept ascending in the tail.
    """
    n = residual.size
    f = np.exp(residual)
    log_tail = tails.log_f_upper(f, df1, df2)
    log_empirical = np.log(n - _rank(f) + 0.5) - math.log(n)
    log_not_outlier = np.minimum(log_tail - log_empirical, 0.0)
    if not np.any(log_not_outlier < 0):
        return np.full(n, df2)
    keep = np.exp(log_not_outlier)
    smallest = float(log_tail.min())
    if smallest == -math.inf:
        df_prior = keep * df2
    else:
        df_outlier = math.log(0.5) / smallest * df2
        again = float(tails.log_f_upper(f.max(), df1, df_outlier))
        df_outlier *= math.log(0.5) / again
        df_prior = keep * df2 - np.expm1(log_not_outlier) * df_outlier
    order = np.argsort(log_tail, kind="stable")
    ascending = df_prior[order]
    running = np.cumsum(ascending) / np.arange(1, n + 1)
    lowest = int(np.argmin(running))
    ascending[: lowest + 1] = running[lowest]
    df_prior[order] = np.maximum.accumulate(ascending)
    return np.asarray(df_prior, dtype=np.float64)


def _interpolate(x: FloatArray, s2: FloatArray, at: FloatArray) -> FloatArray:
    """Prior variance at other covariates: log-linear between the known ones, constant beyond them."""
    distinct, which = np.unique(x, return_inverse=True)
    log_s2 = np.bincount(which, weights=np.log(s2)) / np.bincount(which)
    result: FloatArray = np.exp(np.interp(at, distinct, log_s2))
    return result
