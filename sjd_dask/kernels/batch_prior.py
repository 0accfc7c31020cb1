"""Priors of batch effects over features, and what they make of each feature's effect (ComBat; Johnson and others 2007).

The numbers are those of sva 3.46. A batch has one mean z and one sum of squares around it for each feature, in units of
the feature's pooled standard deviation; no sample is needed any more, since
``sum((z_i - g)^2) = squares + count * (mean - g)^2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sjd_dask.errors import DataError

Floats = NDArray[np.float64]

CONVERGENCE = 1e-4  # sva's
MOST_ROUNDS = 10_000
_TILE = 1024
# A term this far (natural logarithm) below the largest adds nothing to a float64 sum of a billion such terms.
_NEGLIGIBLE = 64.0

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


@dataclass(frozen=True)
class BatchPrior:
    """Normal prior of a batch's location, inverse gamma prior of its scale.

    Attributes
    ----------
    gamma_bar, t2 : float
        Mean and variance over features of the batch's standardised level.
    a_prior, b_prior : float
        Shape and scale of the inverse gamma, by moments; NaN when only means are adjusted.
    """

    gamma_bar: float
    t2: float
    a_prior: float
    b_prior: float


def estimate_prior(mean: Floats, scale: Floats | None, batch: str) -> BatchPrior:
    """Moments over the features of one batch.

    Parameters
    ----------
    mean : ndarray, (F,)
        Standardised level of each feature.
    scale : ndarray, (F,), or None
        Variance of the standardised values within the batch; None: means only.

    Raises
    ------
    DataError
        Fewer than two features, or features that are all alike: a prior has no width then.
    """
    if mean.size < 2:
        raise DataError(
            f"batch effects borrow strength between features, and only {mean.size} can be adjusted here: two at least "
            "are needed, many are better; check constant features and missing values"
        )
    gamma_bar, t2 = float(mean.mean()), float(mean.var(ddof=1))
    a, b = np.nan, np.nan
    if scale is not None:
        m, s2 = float(scale.mean()), float(scale.var(ddof=1))
        if s2 > 0:
            a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    if not np.isfinite(t2) or t2 <= 0 or (scale is not None and not np.isfinite(a)):
        raise DataError(
            f"batch {batch!r} has the same level or the same variance in all {mean.size} features, so there is no "
            "spread to learn a prior from: check that the features are not copies of one another"
        )
    return BatchPrior(gamma_bar, t2, a, b)


def shrink_means(mean: Floats, prior: BatchPrior) -> Floats:
    """Posterior levels when scales are not adjusted, (F,): sva counts one sample of variance one for any batch."""
    shrunk: Floats = (prior.t2 * mean + prior.gamma_bar) / (prior.t2 + 1)
    return shrunk


def shrink_parametric(
    mean: Floats, squares: Floats, scale: Floats, count: Floats, prior: BatchPrior, batch: str
) -> tuple[Floats, Floats]:
    """Posterior location and scale of one batch by alternating conditional means.

    Parameters
    ----------
    mean, squares, scale, count : ndarray of float64, (F,)
        Standardised level, sum of squares around it, variance (where the iteration begins), and number of values.

    Returns
    -------
    gamma, delta : ndarray of float64, (F,)

    Notes
    -----
    All features go on until the largest relative change is at most 1e-4, as in sva, whose relative change of a negative
    location is negative, and so never the largest. The number of rounds is part of the result's eighth digit, hence the
    rule is kept.

    Raises
    ------
    DataError
        No convergence in 10,000 rounds.
    """
    gamma, delta = mean.copy(), scale.copy()
    rounds = _alternate(
        mean, squares, count, prior.gamma_bar, prior.t2, prior.a_prior, prior.b_prior, CONVERGENCE, MOST_ROUNDS,
        gamma, delta,
    )  # fmt: skip
    if rounds >= MOST_ROUNDS or not (np.isfinite(gamma).all() and np.isfinite(delta).all()):
        raise DataError(
            f"the effects of batch {batch!r} did not settle in {rounds} rounds (priors: {prior}): look for features "
            "with extreme values, or adjust means only (mean_only: true)"
        )
    return gamma, delta


@njit(**_OPTIONS)
def _alternate(mean, squares, count, bar, t2, a, b, tolerance, most, gamma, delta):  # type: ignore[no-untyped-def]
    for done in range(most):
        change = 0.0
        for f in range(mean.size):
            n, old_g, old_d = count[f], gamma[f], delta[f]
            g = (t2 * n * mean[f] + old_d * bar) / (t2 * n + old_d)
            away = mean[f] - g
            d = (0.5 * (squares[f] + n * away * away) + b) / (0.5 * n + a - 1.0)
            for one in (abs(g - old_g) / old_g, abs(d - old_d) / old_d):
                if one > change:  # not max(): zero over zero is no change
                    change = one
            gamma[f], delta[f] = g, d
        if change <= tolerance:
            return done + 1
    return most


def shrink_nonparametric(
    start: int, stop: int, mean: Floats, squares: Floats, scale: Floats, count: Floats
) -> tuple[Floats, Floats]:
    """Posterior location and scale of features start ... stop - 1 of one batch, without a family of priors.

    Parameters
    ----------
    mean, squares, scale, count : ndarray of float64, (F,)
        Of all features; `scale` is one everywhere when only means are adjusted.

    Returns
    -------
    gamma, delta : ndarray of float64, (stop - start,)
        Means of all other features' location and scale, weighted by the likelihood of this feature's values.

    Notes
    -----
    sva computes likelihoods, which vanish for batches of several hundred samples and leave NaN; their logarithms are
    used here, so large batches work too. A pair of features costs a few nanoseconds.
    """
    gamma, delta = np.empty(stop - start), np.empty(stop - start)
    with np.errstate(divide="ignore"):
        half_log = np.where(scale > 0, 0.5 * np.log(scale), np.inf)
        half_inverse = np.where(scale > 0, 0.5 / scale, 0.0)
    floats = (np.ascontiguousarray(one, dtype=np.float64) for one in (mean, squares, scale, count))
    _weighted(start, stop, *floats, half_log, half_inverse, gamma, delta)
    return gamma, delta


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def _three_sums(weight, g, d, size):  # type: ignore[no-untyped-def]
    total = first = second = 0.0
    for j in range(size):
        total += weight[j]
        first += weight[j] * g[j]
        second += weight[j] * d[j]
    return total, first, second


@njit(**_OPTIONS)
def _largest(x, size):  # type: ignore[no-untyped-def]
    """Largest of some numbers, 32 lanes at a time: a plain loop waits for each comparison."""
    lanes = np.full(32, -np.inf)
    whole = size // 32 * 32
    for j in range(0, whole, 32):
        for lane in range(32):
            value = x[j + lane]
            lanes[lane] = value if value > lanes[lane] else lanes[lane]
    best = -np.inf
    for lane in range(32):
        best = max(best, lanes[lane])
    for j in range(whole, size):
        best = max(best, x[j])
    return best


@njit(**_OPTIONS)
def _exponentials(x, top, bits, power, out, size):  # type: ignore[no-untyped-def]
    """exp(x - top) for x <= top, to about one unit in the last place; zero below exp(-700).

    Written so that a compiler makes vectors of it: the integer part of x / log 2 is read off the bits of a number to
    which 3 * 2**51 was added, and put into the exponent of a float. `bits` and `power` are views of the same memory.
    """
    magic = 6755399441055744.0
    for j in range(size):
        v = x[j] - top
        v = v if v > -700.0 else -700.0
        t = v * 1.4426950408889634 + magic
        power[j] = t
        n = t - magic
        r = (v - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10
        # Taylor's series of exp(r), |r| <= log(2) / 2, in short chains.
        r2 = r * r
        r4 = r2 * r2
        high = (1.6059043836821613e-10 * r + 2.08767569878681e-09) * r2
        high += 2.505210838544172e-08 * r + 2.755731922398589e-07
        middle = (2.7557319223985893e-06 * r + 2.48015873015873e-05) * r2
        middle += 1.984126984126984e-04 * r + 1.388888888888889e-03
        low = (8.333333333333333e-03 * r + 4.1666666666666664e-02) * r2
        low += 1.6666666666666666e-01 * r + 0.5
        out[j] = ((high * r4 + middle) * r4 + low) * r2 + r + 1.0
    for j in range(size):
        bits[j] = (bits[j] << 52) + 4607182418800017408
    for j in range(size):
        out[j] *= power[j]


@njit(**_OPTIONS)
def _weighted(  # type: ignore[no-untyped-def]
    start, stop, mean, squares, scale, count, half_log, half_inverse, gamma, delta
):
    n_features = mean.size
    logs, weight, power = np.empty(_TILE), np.empty(_TILE), np.empty(_TILE)
    bits = power.view(np.int64)
    for i in range(start, stop):
        own_mean, own_squares, n = mean[i], squares[i], count[i]
        top = -np.inf
        total = first = second = 0.0
        for low in range(0, n_features, _TILE):
            size = min(_TILE, n_features - low)
            g, d = mean[low : low + size], scale[low : low + size]
            h, w = half_log[low : low + size], half_inverse[low : low + size]
            for j in range(size):
                away = own_mean - g[j]
                logs[j] = -n * h[j] - (own_squares + n * (away * away)) * w[j]
            if low <= i < low + size:
                logs[i - low] = -np.inf  # a feature says nothing about itself
            best = _largest(logs, size)
            if best == -np.inf or best < top - _NEGLIGIBLE:
                continue
            if best > top:
                shrink = np.exp(top - best)
                total *= shrink
                first *= shrink
                second *= shrink
                top = best
            _exponentials(logs, top, bits, power, weight, size)
            a, b, c = _three_sums(weight, g, d, size)
            total += a
            first += b
            second += c
        gamma[i - start] = first / total
        delta[i - start] = second / total
