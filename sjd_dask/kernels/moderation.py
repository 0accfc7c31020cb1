"""Moderated t and F statistics: empirical Bayes shrinkage of residual variances (Smyth 2004).

Each feature's residual variance is drawn towards a prior shared by all features, which steadies tests on few samples.
The numbers are those of limma 3.54 (Ritchie and others 2015): see `squeeze_var` for where later versions differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sjd_dask.errors import DataError, DesignError
from sjd_dask.kernels import tails
from sjd_dask.kernels.prior import Prior, fit_f_dist
from sjd_dask.kernels.robust_prior import fit_f_dist_robust

FloatArray = NDArray[np.float64]

# Prior degrees of freedom above this count as infinite in the log-odds.
_INFINITE_DF = 1e6


@dataclass(frozen=True)
class Moderated:
    """Moderated tests of k contrasts on F features.

    Attributes
    ----------
    s2_prior, df_prior
        Prior variance and degrees of freedom: a number, or one a feature (trend; robust).
    s2_post, df_total
        (F,) moderated variance, and the degrees of freedom of the t statistics: residual plus prior, at most the sum
        of all residual degrees of freedom.
    df_f
        (F,) denominator degrees of freedom of the F test: residual plus prior, not capped.
    statistic, p_value, log_odds
        (k, F) t, its two-sided p-value, and the natural log-odds that the effect is not zero (limma's B).
    var_prior
        (k,) prior variance of non-zero effects, in units of the residual variance.
    notes
        What had to be done about unusual variances, in words.
    """

    s2_prior: float | FloatArray
    df_prior: float | FloatArray
    s2_post: FloatArray
    df_total: FloatArray
    df_f: FloatArray
    statistic: FloatArray
    p_value: FloatArray
    log_odds: FloatArray
    var_prior: FloatArray
    notes: tuple[str, ...] = ()


def estimate_prior(
    sigma2: ArrayLike,
    df_residual: ArrayLike,
    mean: ArrayLike | None = None,
    *,
    trend: bool = False,
    robust: bool = False,
    winsor: tuple[float, float] = (0.05, 0.1),
) -> Prior:
    """Prior of the residual variances of all features of a run; see `moderate` for the parameters.

    Raises
    ------
    DesignError
        When no feature has residual degrees of freedom.
    DataError
        When no residual variance is finite, or `robust` meets variances that are mostly zero.
    """
    values = np.asarray(sigma2, dtype=np.float64)
    dof = np.broadcast_to(np.asarray(df_residual, dtype=np.float64), values.shape)
    if values.size == 0:
        raise DataError("there are no features to moderate")
    if not np.any(dof > 0):
        raise DesignError(
            "no feature has residual degrees of freedom: the design has as many columns as there are samples with "
            "data. Use fewer covariates or more samples"
        )
    if not np.any(np.isfinite(values)):
        raise DataError("no feature has a finite residual variance: nothing to moderate")
    if trend and mean is None:
        raise ValueError("trend=True needs the mean of each feature")
    covariate = mean if trend else None
    # Without residual degrees of freedom there is no variance; a zero marks it as known to carry no weight.
    values = np.where(dof == 0, 0.0, values)
    if robust:
        return fit_f_dist_robust(values, dof, covariate, winsor=winsor)
    return fit_f_dist(values, dof, covariate)


def squeeze_var(sigma2: ArrayLike, df_residual: ArrayLike, prior: Prior) -> FloatArray:
    """Posterior variances: the mean of residual and prior variance, weighted by their degrees of freedom.

    Parameters
    ----------
    sigma2, df_residual
        (features,) residual variances and degrees of freedom. A feature without residual degrees of freedom gets the
        prior variance; one with an infinite prior likewise.
    prior
        From `estimate_prior`.

    Notes
    -----
    limma from version 3.56 on may estimate the prior by another rule when residual degrees of freedom differ between
    features (missing values). Version 3.54 is followed here, because published results rest on it; with equal degrees
    of freedom they agree.
    """
    values = np.asarray(sigma2, dtype=np.float64)
    dof = np.broadcast_to(np.asarray(df_residual, dtype=np.float64), values.shape)
    values = np.where(dof == 0, 0.0, values)
    df_prior = np.broadcast_to(np.asarray(prior.df_prior, dtype=np.float64), values.shape)
    s2_prior = np.broadcast_to(np.asarray(prior.s2_prior, dtype=np.float64), values.shape)
    infinite = np.isinf(df_prior)
    if not infinite.any():
        with np.errstate(invalid="ignore"):
            squeezed: FloatArray = (dof * values + df_prior * s2_prior) / (dof + df_prior)
        return squeezed
    out = np.array(s2_prior)
    f = ~infinite
    with np.errstate(invalid="ignore"):
        out[f] = (dof[f] * values[f] + df_prior[f] * s2_prior[f]) / (dof[f] + df_prior[f])
    return out


def moderate(
    effects: ArrayLike,
    stdev_unscaled: ArrayLike,
    sigma2: ArrayLike,
    df_residual: ArrayLike,
    mean: ArrayLike | None = None,
    *,
    trend: bool = False,
    robust: bool = False,
    proportion: float = 0.01,
    stdev_coef_lim: tuple[float, float] = (0.1, 4.0),
    winsor: tuple[float, float] = (0.05, 0.1),
    prior: Prior | None = None,
    threads: int = 1,
) -> Moderated:
    """Moderated t statistics, p-values and log-odds for every contrast and feature.

    Parameters
    ----------
    effects, stdev_unscaled
        (k, F) estimates, and their standard errors over the residual standard deviation. NaN where not estimable.
    sigma2, df_residual
        (F,) residual variances and degrees of freedom.
    mean
        (F,) mean of each feature; needed for `trend`.
    trend
        Let the prior variance follow the mean.
    robust
        Let features with outlying variances have fewer prior degrees of freedom (Phipson and others 2016).
    proportion
        Share of features assumed to have an effect, for the log-odds.
    stdev_coef_lim
        Limits for the standard deviation of non-zero effects, for the log-odds.
    winsor
        Shares of the smallest and largest variances drawn in when `robust`.
    prior
        A prior from `estimate_prior`, in place of estimating it from these features.
    threads
        Threads for the tail probabilities; the result does not depend on it.

    Returns
    -------
    Moderated

    Raises
    ------
    DesignError, DataError
        See `estimate_prior`.

    Notes
    -----
    Missing rule: a missing effect gives a missing test. A feature without residual degrees of freedom is tested on the
    prior alone, as limma does. Where the moderated variance is zero (a constant feature, and no prior) the tests are
    missing. The sources are Smyth (2004) and limma 3.54's eBayes.
    """
    coef = np.atleast_2d(np.asarray(effects, dtype=np.float64))
    stdev = np.broadcast_to(np.asarray(stdev_unscaled, dtype=np.float64), coef.shape)
    values = np.asarray(sigma2, dtype=np.float64)
    dof = np.broadcast_to(np.asarray(df_residual, dtype=np.float64), values.shape)
    if coef.shape[1:] != values.shape:
        raise ValueError(f"effects of shape {coef.shape} don't match {values.shape} variances")
    if not 0 < proportion < 1:
        raise ValueError("proportion must lie between 0 and 1")
    if prior is None:
        prior = estimate_prior(values, dof, mean, trend=trend, robust=robust, winsor=winsor)
    s2_post = squeeze_var(values, dof, prior)
    df_f = dof + prior.df_prior
    df_total = np.minimum(df_f, np.nansum(dof))
    scale = np.sqrt(np.where(s2_post > 0, s2_post, np.nan))
    t = coef / stdev / scale
    # One df for all features is the common case, and is then passed as one number.
    one_df: float | FloatArray = float(df_total[0]) if np.all(df_total == df_total[0]) else df_total
    p = tails.t_two_sided(t, one_df, threads=threads)
    limits = np.asarray(stdev_coef_lim, dtype=np.float64) ** 2 / np.nanmedian(prior.s2_prior)
    var_prior = np.array([
        _effect_variance(t[j], p[j], stdev[j], df_total, proportion, (limits[0], limits[1])) for j in range(len(t))
    ])  # fmt: skip
    default = 1 / float(np.nanmedian(prior.s2_prior))
    var_prior = np.where(np.isnan(var_prior), default, var_prior)
    log_odds = _log_odds(t, stdev, df_total, prior.df_prior, var_prior, proportion)
    return Moderated(
        s2_prior=prior.s2_prior,
        df_prior=prior.df_prior,
        s2_post=s2_post,
        df_total=df_total,
        df_f=df_f,
        statistic=t,
        p_value=p,
        log_odds=log_odds,
        var_prior=var_prior,
        notes=prior.notes,
    )


def unmoderated(
    effects: ArrayLike,
    stdev_unscaled: ArrayLike,
    sigma2: ArrayLike,
    df_residual: ArrayLike,
    *,
    threads: int = 1,
) -> Moderated:
    """Ordinary t statistics on each feature's own residual variance, in the same form as `moderate`.

    `log_odds`, `s2_prior` and `var_prior` are NaN and `df_prior` is 0. Features whose residual variance is zero or
    missing have missing tests.
    """
    coef = np.atleast_2d(np.asarray(effects, dtype=np.float64))
    stdev = np.broadcast_to(np.asarray(stdev_unscaled, dtype=np.float64), coef.shape)
    values = np.asarray(sigma2, dtype=np.float64)
    dof = np.array(np.broadcast_to(np.asarray(df_residual, dtype=np.float64), values.shape))
    usable = (values > 0) & (dof > 0)
    t = coef / stdev / np.sqrt(np.where(usable, values, np.nan))
    one_df: float | FloatArray = float(dof[0]) if dof.size and np.all(dof == dof[0]) else dof
    nothing = np.full(t.shape[0], np.nan)
    return Moderated(
        s2_prior=math.nan,
        df_prior=0.0,
        s2_post=values,
        df_total=dof,
        df_f=dof,
        statistic=t,
        p_value=tails.t_two_sided(t, one_df, threads=threads),
        log_odds=np.full(t.shape, np.nan),
        var_prior=nothing,
    )


def f_test(
    f_quadratic: ArrayLike, rank: ArrayLike, s2_post: ArrayLike, df: ArrayLike, *, threads: int = 1
) -> tuple[FloatArray, FloatArray]:
    """F statistic and p-value that all contrasts are zero.

    Parameters
    ----------
    f_quadratic
        (F,) e' C^-1 e: effects over their unscaled covariance.
    rank
        Rank of that covariance: one number or (F,).
    s2_post
        (F,) moderated (or residual) variance.
    df
        (F,) denominator degrees of freedom: `Moderated.df_f` for limma's numbers.
    """
    rank = np.asarray(rank, dtype=np.float64)
    variance = np.asarray(s2_post, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        f = np.asarray(f_quadratic, dtype=np.float64) / rank / np.where(variance > 0, variance, np.nan)
    return f, tails.f_upper(f, rank, df, threads=threads)


def _effect_variance(
    t: FloatArray,
    p: FloatArray,
    stdev: FloatArray,
    df: FloatArray,
    proportion: float,
    limits: tuple[float, float],
) -> float:
    """Prior variance of non-zero effects, from the features with the largest statistics (Smyth 2004, section 6.3).

    The largest t statistics are compared with the quantiles they would have if a share `proportion` of effects had
    this variance; the answer is the mean over half that share of the features. Statistics on fewer degrees of freedom
    are first moved to the largest by equal tail probability. NaN when there are no statistics.
    """
    known = ~np.isnan(t)
    n = int(np.count_nonzero(known))
    if n == 0:
        return math.nan
    n_top = math.ceil(proportion / 2 * n)
    share = max(n_top / n, proportion)
    known_at = np.flatnonzero(known)
    df_known = df[known_at]
    df_max = float(df_known.max())
    size = np.abs(t[known_at])
    equal_df = bool(np.all(df_known == df_max))
    if equal_df:
        top = _largest(size, n_top)
        t_top = size[top]
        p_top = p[known_at[top]]
    else:
        # Rank by tail probability, in logarithms where it underflows.
        with np.errstate(divide="ignore"):
            log_p = np.log(p[known_at])
        far = log_p < math.log(1e-290)
        log_p[far] = tails.log_t_two_sided(size[far], df_known[far])
        top = _largest(-log_p, n_top)
        t_top = size[top].copy()
        move = (df_known[top] < df_max) & (t_top > 0)
        t_top[move] = tails.t_from_log_two_sided(log_p[top][move], df_max, t_top[move])
        p_top = np.exp(log_p[top])
    variance = stdev[known_at[top]] ** 2
    target = ((np.arange(1, n_top + 1) - 0.5) / n - (1 - share) * p_top) / share
    above = target > p_top
    v0 = np.zeros(n_top)
    if above.any():
        expected = tails.t_from_two_sided(target[above], df_max)
        v0[above] = variance[above] * ((t_top[above] / expected) ** 2 - 1)
    return float(np.mean(np.clip(v0, *limits)))


def _largest(values: FloatArray, count: int) -> NDArray[np.intp]:
    """Indices of the `count` largest values in descending order; equal values in their original order."""
    if count < values.size:
        cut = np.partition(values, values.size - count)[values.size - count]
        at = np.flatnonzero(values >= cut)
    else:
        at = np.arange(values.size)
    order = np.argsort(-values[at], kind="stable")
    return at[order[:count]]


def _log_odds(
    t: FloatArray,
    stdev: FloatArray,
    df_total: FloatArray,
    df_prior: float | FloatArray,
    var_prior: FloatArray,
    proportion: float,
) -> FloatArray:
    """Natural log-odds of a non-zero effect (Smyth 2004, section 3)."""
    ratio = 1 + var_prior[:, None] / stdev**2
    t2 = t**2
    prior_odds = math.log(proportion / (1 - proportion))
    half = (1 + df_total) / 2
    with np.errstate(invalid="ignore"):
        kernel = half * (np.log1p(t2 / df_total) - np.log1p(t2 / ratio / df_total))
        infinite = np.asarray(df_prior) > _INFINITE_DF
        if infinite.any():
            kernel = np.where(infinite, t2 * (1 - 1 / ratio) / 2, kernel)
    result: FloatArray = prior_odds - np.log(ratio) / 2 + kernel
    return result
