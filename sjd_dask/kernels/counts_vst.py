"""Variance-stabilising transform of counts: the trend of dispersion over the mean, and the closed form that it gives.

Anders and Huber (2010), Love, Huber and Anders (2014); the numbers are those of DESeq2 1.38's vst.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.kernels.counts_dispersion import MINIMUM

FloatArray = NDArray[np.float64]
TrendType = Literal["parametric", "mean"]


@dataclass(frozen=True)
class Trend:
    """Dispersion as a function of the mean normalised count.

    Attributes
    ----------
    kind
        ``parametric``: asymptotic + extra / mean; ``mean``: asymptotic everywhere.
    asymptotic, extra
        Coefficients; `extra` is 0 for ``mean``.
    note
        What had to be done, in words; empty when all went as asked.
    """

    kind: TrendType
    asymptotic: float
    extra: float
    note: str = ""


def spread_over_means(base_mean: FloatArray, n_sub: int, above: float = 5.0) -> NDArray[np.intp]:
    """Features from which the trend is learnt: `n_sub` of those with a mean above 5, evenly by rank of the mean.

    Parameters
    ----------
    base_mean
        (p,) mean normalised counts.
    n_sub
        How many; at least 1.

    Returns
    -------
    ndarray of int, shape (n_sub,)
        In order of the mean; equal means in order of the features.

    Raises
    ------
    DataError
        When fewer have such a mean.
    """
    high = np.flatnonzero(base_mean > above)
    if high.size < n_sub:
        raise DataError(
            f"the trend of dispersion is learnt from n_sub = {n_sub:,} features with a mean normalised count above "
            f"{above:g}, and only {high.size:,} of {base_mean.size:,} have one: set n_sub to at most {high.size:,}, or "
            "to 0 to use every feature that has counts"
        )
    order = high[np.argsort(base_mean[high], kind="stable")]
    result: NDArray[np.intp] = order[np.rint(np.linspace(1, order.size, n_sub)).astype(np.intp) - 1]
    return result


def fit_trend(means: FloatArray, dispersions: FloatArray, kind: TrendType = "parametric") -> Trend:
    """Trend of gene-wise dispersions over means.

    Parameters
    ----------
    means
        (g,) mean normalised counts, above 0.
    dispersions
        (g,) from `gene_dispersions`; NaN takes no part.
    kind
        ``parametric``, or ``mean``: the mean of the dispersions without the largest and smallest thousandth.

    Returns
    -------
    Trend
        ``mean`` where the parametric form does not fit, and then `note` says why. (DESeq2 takes a local regression
        there, which has no closed form to freeze.)

    Raises
    ------
    DataError
        When (almost) all dispersions are at the lower limit.
    """
    known = ~np.isnan(dispersions)
    means, dispersions = means[known], dispersions[known]
    used = dispersions > 100 * MINIMUM
    if not used.any():
        raise DataError(
            f"all {dispersions.size:,} gene-wise dispersions lie at their lower limit of {MINIMUM:g}: the counts vary "
            "no more than by chance, so there is no trend to fit. Use log_cpm, or give `dispersion`"
        )
    if kind == "parametric":
        found = _parametric(means[used], dispersions[used])
        if isinstance(found, tuple):
            return Trend("parametric", *found)
        note = f"the trend asymptotic + extra / mean does not fit the dispersions ({found}); their mean is used"
    else:
        note = ""
    ordered = np.sort(dispersions[dispersions > 10 * MINIMUM])
    cut = math.floor(ordered.size * 0.001)
    return Trend("mean", float(np.mean(ordered[cut : ordered.size - cut])), 0.0, note)


def _parametric(means: FloatArray, dispersions: FloatArray) -> tuple[float, float] | str:
    """DESeq2's iterated fit without outliers: coefficients, or why there are none."""
    coefficients = np.array([0.1, 1.0])
    for _ in range(11):
        ratio = dispersions / (coefficients[0] + coefficients[1] / means)
        good = (ratio > 1e-4) & (ratio < 15)
        fit = _gamma_regression(1 / means[good], dispersions[good], coefficients)
        if fit is None:
            return "its regression broke down"
        before, (coefficients, converged) = coefficients, fit
        if not np.all(coefficients > 0):
            return f"its coefficients are {coefficients[0]:.3g} and {coefficients[1]:.3g}, not both positive"
        if float(np.sum(np.log(coefficients / before) ** 2)) < 1e-6 and converged:
            return float(coefficients[0]), float(coefficients[1])
    return "its fit did not settle"


def _gamma_regression(
    x: FloatArray, y: FloatArray, start: FloatArray, *, tolerance: float = 1e-8, rounds: int = 25
) -> tuple[FloatArray, bool] | None:
    """Gamma regression of y on (1, x) with identity link, as R's glm does it; None where R stops with an error."""
    design = np.column_stack([np.ones_like(x), x])
    if len(x) < 2 or np.ptp(x) == 0:
        return None
    old = start
    mu = design @ start
    deviance = _deviance(y, mu)
    for _ in range(rounds):
        # Identity link: the working response is y itself, the weight 1 / mu.
        q, r = np.linalg.qr(design / mu[:, None])
        new = np.linalg.solve(r, q.T @ (y / mu))
        if not np.all(np.isfinite(new)):
            return new, False
        mu = design @ new
        halvings = 0
        while not (np.all(mu > 0) and np.all(np.isfinite(mu)) and math.isfinite(_deviance(y, mu))):
            halvings += 1
            if halvings > rounds:
                return None
            new = (new + old) / 2
            mu = design @ new
        last, deviance = deviance, _deviance(y, mu)
        if abs(deviance - last) / (0.1 + abs(deviance)) < tolerance:
            return new, True
        old = new
    return old, False


def _deviance(y: FloatArray, mu: FloatArray) -> float:
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(-2 * np.sum(np.log(y / mu) - (y - mu) / mu))


def transform(values: FloatArray, size_factors: FloatArray, trend: Trend) -> FloatArray:
    """Stabilised values on a log2-like scale.

    Parameters
    ----------
    values
        (n, p) counts.
    size_factors
        (n,) above 0.
    trend
        From `fit_trend`, its asymptotic dispersion above 0.

    Returns
    -------
    ndarray, shape (n, p)
    """
    q = values / size_factors[:, None]
    a, e = trend.asymptotic, trend.extra
    if trend.kind == "mean":
        q *= a
        np.sqrt(q, out=q)
        np.arcsinh(q, out=q)
        q *= 2
        q -= math.log(a) + math.log(4)
    else:
        q *= a
        root = q + (1 + e)
        root *= q
        np.sqrt(root, out=root)
        q += root
        q *= 2
        q += 1 + e
        q /= 4 * a
        np.log(q, out=q)
    q /= math.log(2)
    return q
