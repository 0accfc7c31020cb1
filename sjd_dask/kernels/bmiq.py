"""Beta-mixture quantile adjustment of type II probes to the distribution of type I probes.

Infinium type II probes read unmethylated and methylated states less far apart than type I probes. Teschendorff and
others (2013, Bioinformatics 29:189, BMIQ) fit a mixture of three beta distributions (unmethylated U, half H,
methylated M) to the probes of each type, give a type II value of state U or M the type I value of the same quantile in
its state, and stretch the values between on a straight line. Type I values stay.

Here the type I mixture may be a frozen one, from the pooled values of a reference set; the type II mixture is always
that of the sample alone. Other choices:

- Values are counted in 65,535 bins at the codes in which betas are stored, and the mixture is fitted to the counts:
  all probes are used, nothing is drawn at random, and the pooled reference costs no more than one sample.
- A component's parameters are its maximum likelihood estimates given the weights (Newton's method on the means of
  log x and log (1 - x)), the estimates RPMM looks for by BFGS.
- A threshold between states is where the likelier state changes between the two means. It is the same number as in
  BMIQ, unless a broad middle component also wins some value in a far tail.
- The quantile map of a state is one smooth curve on the logit scale, so it is computed at fixed knots with its exact
  slope and read between them: within 1e-9 of the two beta functions it stands for, at a hundredth of their cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.special as sc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_BINS = 65535
_TOP = N_BINS - 1
# Thresholds at which Teschendorff and others start the type I fit.
START = (0.2, 0.75)
# A state with less than this share of the probes was not found.
_LEAST_SHARE = 0.01
_KNOT = 1.0 / 64.0
_TINY = 1e-300
_MODE_BINS = 1024


@dataclass(frozen=True)
class BetaMixture:
    """Three beta distributions: U, H, M.

    Attributes
    ----------
    a, b : ndarray of float64, shape (3,)
        Parameters of each state.
    share : ndarray of float64, shape (3,)
        Share of the probes.
    threshold : ndarray of float64, shape (2,)
        Betas below the first are U, above the second M.
    mode : ndarray of float64, shape (2,)
        Where the density of U and of M values is highest.
    """

    a: Floats
    b: Floats
    share: Floats
    threshold: Floats
    mode: Floats

    @property
    def mean(self) -> Floats:
        """Mean beta of each state."""
        means: Floats = self.a / (self.a + self.b)
        return means


def beta_histogram(values: Floats) -> Ints:
    """Counts of betas at k / 65534, (65535,) int64; NaN are left out.

    Exact zeros are counted with the smallest positive value, ones with the largest below one, as BMIQ does: a beta
    density is zero or infinite there.
    """
    known = values[~np.isnan(values)]
    codes = np.rint(np.clip(known, 0.0, 1.0) * _TOP).astype(np.int64)
    counts = np.bincount(codes, minlength=N_BINS).astype(np.int64)
    inner = np.flatnonzero(counts[1:_TOP]) + 1
    if inner.size:
        counts[inner[0]] += counts[0]
        counts[inner[-1]] += counts[_TOP]
    counts[0] = counts[_TOP] = 0
    return counts


def fit_mixture(
    counts: Ints, start: tuple[float, float], *, iterations: int = 5, tolerance: float = 1e-3
) -> BetaMixture | None:
    """Fit the three states to counted betas by expectation and maximisation.

    Parameters
    ----------
    counts : ndarray of int64, shape (65535,)
        From `beta_histogram`; those of several samples may be added.
    start : tuple of float
        Betas up to the first start as U, above the second as M.
    iterations, tolerance : int, float
        At most so many rounds, fewer once no mean moves by `tolerance`. BMIQ's defaults: further rounds let the
        middle state spread over the others' flanks.

    Returns
    -------
    BetaMixture or None
        None when three states in ascending order are not to be found.
    """
    bins = np.flatnonzero(counts)
    weight = counts[bins].astype(np.float64)
    n = float(weight.sum())
    x = bins / _TOP
    if bins.size < 6 or not 0.0 < start[0] < start[1] < 1.0:
        return None
    logs = np.log(x), np.log1p(-x)
    state = np.zeros((3, x.size))
    state[0, x <= start[0]] = 1.0
    state[2, x > start[1]] = 1.0
    state[1] = 1.0 - state[0] - state[2]
    a, b, share = np.empty(3), np.empty(3), np.empty(3)
    means = np.full(3, np.inf)
    for _ in range(iterations):
        before = means
        for k in range(3):
            own = weight * state[k]
            share[k] = own.sum() / n
            if share[k] < _LEAST_SHARE:
                return None
            found = _fit_beta(x, logs, own / own.sum())
            if found is None:
                return None
            a[k], b[k] = found
        means = a / (a + b)
        log_density = (a - 1.0)[:, None] * logs[0] + (b - 1.0)[:, None] * logs[1]
        log_density += (np.log(share) - sc.betaln(a, b))[:, None]
        log_density -= log_density.max(axis=0)
        np.exp(log_density, out=state)
        state /= state.sum(axis=0)
        if np.abs(means - before).max() < tolerance:
            break
    threshold = _thresholds(x, np.argmax(state, axis=0), means)
    if threshold is None:
        return None
    modes = np.array([density_mode(counts, 0.0, threshold[0]), density_mode(counts, threshold[1], 1.0)])
    if not np.isfinite(modes).all():
        return None
    return BetaMixture(a, b, share, threshold, modes)


def _fit_beta(x: Floats, logs: tuple[Floats, Floats], weight: Floats) -> tuple[float, float] | None:
    """Maximum likelihood of one beta distribution from weights that add up to one."""
    mean = float((weight * x).sum())
    variance = float((weight * (x - mean) ** 2).sum())
    if variance <= 0.0:
        return None
    log_x, log_rest = float((weight * logs[0]).sum()), float((weight * logs[1]).sum())
    size = max(1e-6, mean * (1.0 - mean) / variance - 1.0)
    a, b = mean * size, (1.0 - mean) * size
    for _ in range(100):
        both = float(sc.digamma(a + b))
        slope_a, slope_b = log_x - float(sc.digamma(a)) + both, log_rest - float(sc.digamma(b)) + both
        cross = float(sc.polygamma(1, a + b))
        aa, bb = cross - float(sc.polygamma(1, a)), cross - float(sc.polygamma(1, b))
        determinant = aa * bb - cross * cross
        step_a = (bb * slope_a - cross * slope_b) / determinant
        step_b = (aa * slope_b - cross * slope_a) / determinant
        shrink = 1.0
        while a - shrink * step_a <= 0.0 or b - shrink * step_b <= 0.0:
            shrink *= 0.5
        a, b = a - shrink * step_a, b - shrink * step_b
        if abs(step_a) < 1e-12 * a and abs(step_b) < 1e-12 * b:
            break
    return (a, b) if math.isfinite(a) and math.isfinite(b) else None


def _thresholds(x: Floats, state: NDArray[np.intp], means: Floats) -> Floats | None:
    """Where the likelier state changes from U, and to M, between the means."""
    if not means[0] < means[1] < means[2]:
        return None
    lower = np.flatnonzero((x >= means[0]) & (x <= means[1]))
    upper = np.flatnonzero((x >= means[1]) & (x <= means[2]))
    leaves = lower[state[lower] != 0]
    enters = upper[state[upper] != 2]
    if not leaves.size or not enters.size:
        return None
    left, right = leaves[0], enters[-1]
    if left == 0 or right + 1 >= x.size or state[left - 1] != 0 or state[right + 1] != 2:
        return None
    found = np.array([0.5 * (x[left - 1] + x[left]), 0.5 * (x[right] + x[right + 1])])
    return found if found[0] < found[1] else None


def density_mode(counts: Ints, low: float, high: float) -> float:
    """Where a Gaussian kernel density of the betas between `low` and `high` is highest; NaN without values.

    The bandwidth is Silverman's (R's bw.nrd0), and never less than one of 1024 cells.
    """
    x = np.arange(N_BINS) / _TOP
    weight = np.where((x > low) & (x < high), counts, 0).astype(np.float64)
    n = float(weight.sum())
    if n < 2:
        return math.nan
    mean = float((weight * x).sum()) / n
    spread = math.sqrt(float((weight * (x - mean) ** 2).sum()) / (n - 1.0))
    quartiles = x[np.searchsorted(np.cumsum(weight), [0.25 * n, 0.75 * n])]
    between = float(quartiles[1] - quartiles[0]) / 1.34
    bandwidth = 0.9 * min(spread, between or spread) * n**-0.2
    cells = np.bincount((x * (_MODE_BINS - 1) + 0.5).astype(np.int64), weights=weight, minlength=_MODE_BINS)
    width = max(1.0, bandwidth * (_MODE_BINS - 1))
    reach = np.arange(-math.ceil(4 * width), math.ceil(4 * width) + 1)
    density = np.convolve(cells, np.exp(-0.5 * (reach / width) ** 2))
    return float(np.clip((int(np.argmax(density)) + reach[0]) / (_MODE_BINS - 1), 0.0, 1.0))


def fit_type_two(
    values: Floats, type_one: BetaMixture, *, iterations: int = 5, tolerance: float = 1e-3
) -> BetaMixture | None:
    """The mixture of a sample's type II probes, started from the type I thresholds moved by the modes' distance."""
    counts = beta_histogram(values)
    modes = density_mode(counts, 0.0, 0.4), density_mode(counts, 0.6, 1.0)
    if not (math.isfinite(modes[0]) and math.isfinite(modes[1])):
        return None
    start = (
        float(type_one.threshold[0] + modes[0] - type_one.mode[0]),
        float(type_one.threshold[1] + modes[1] - type_one.mode[1]),
    )
    return fit_mixture(counts, start, iterations=iterations, tolerance=tolerance)


def adjust_type_two(values: Floats, type_two: BetaMixture, type_one: BetaMixture) -> Floats | None:
    """Adjusted betas of a sample's type II probes.

    Parameters
    ----------
    values : ndarray of float64, shape (m,)
        Betas; NaN stays NaN, 0 and 1 become the smallest and largest values between them.
    type_two : BetaMixture
        Of these values.
    type_one : BetaMixture
        What they shall look like.

    Returns
    -------
    ndarray of float64, shape (m,), or None
        Ascending wherever the values are. None when a state has no values, or no room is left between U and M.
    """
    inside = values[(values > 0.0) & (values < 1.0)]
    if inside.size == 0:
        return None
    beta = np.clip(values, inside.min(), inside.max())
    low = beta < type_two.threshold[0]
    high = (beta > type_two.threshold[1]) & (beta > type_two.mean[2])
    # The left flank of M is no beta distribution: it goes with H.
    middle = ~(low | high | np.isnan(beta))
    if not (low.any() and middle.any() and high.any()):
        return None
    result = np.full_like(beta, np.nan)
    result[low] = _quantile_map(beta[low], type_two, type_one, 0)
    result[high] = _quantile_map(beta[high], type_two, type_one, 2)
    least, most = float(beta[middle].min()), float(beta[middle].max())
    new_least = float(result[low].max()) + least - float(beta[low].max())
    new_most = float(result[high].min()) - (float(beta[high].min()) - most)
    if most <= least or new_most <= new_least:
        return None
    result[middle] = new_least + (beta[middle] - least) * ((new_most - new_least) / (most - least))
    return result


def _quantile_map(x: Floats, source: BetaMixture, target: BetaMixture, k: int) -> Floats:
    """The target state's value at the quantile each value has in the source state, by cubics on the logit scale."""
    y = np.log(x) - np.log1p(-x)
    # Knots lie on a fixed lattice, so the curve depends on the two states alone, not on the values read from it.
    first, last = math.floor(y.min() / _KNOT), math.floor(y.max() / _KNOT) + 1
    height, slope = _logit_map(np.arange(first, last + 1) * _KNOT, source, target, k)
    at = y / _KNOT - first
    left = np.minimum(at.astype(np.int64), last - first - 1)
    t = at - left
    s = 1.0 - t
    found = height[left] * s * s * (1.0 + 2.0 * t) + height[left + 1] * t * t * (1.0 + 2.0 * s)
    found += _KNOT * (slope[left] * t * s * s - slope[left + 1] * t * t * s)
    mapped: Floats = sc.expit(found)
    return mapped


def _logit_map(y: Floats, source: BetaMixture, target: BetaMixture, k: int) -> tuple[Floats, Floats]:
    """Logit of the mapped value and its slope, at logits `y`; each tail is computed from its own side."""
    a, b, new_a, new_b = (float(one[k]) for one in (source.a, source.b, target.a, target.b))
    x, rest = sc.expit(y), sc.expit(-y)
    upper = x > source.mean[k]
    share = np.where(upper, sc.betainc(b, a, rest), sc.betainc(a, b, x))
    share = np.maximum(share, _TINY)
    tail = np.where(upper, sc.betaincinv(new_b, new_a, share), sc.betaincinv(new_a, new_b, share))
    tail = np.maximum(tail, _TINY)
    log_tail, log_rest = np.log(tail), np.log1p(-tail)
    height = np.where(upper, log_rest - log_tail, log_tail - log_rest)
    log_new, log_new_rest = np.where(upper, log_rest, log_tail), np.where(upper, log_tail, log_rest)
    log_slope = a * np.log(x) + b * np.log(rest) - sc.betaln(a, b)
    log_slope -= new_a * log_new + new_b * log_new_rest - sc.betaln(new_a, new_b)
    slope = np.where(share > _TINY, np.exp(np.minimum(log_slope, 700.0)), 0.0)
    return height, slope
