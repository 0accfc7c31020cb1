"""Tests of groups per feature: Wilcoxon rank sum, Kruskal-Wallis, and Welch's tests of means.

They need whole columns (all samples of a feature at once). Each feature uses the samples it has: NaN are left out.
A test that can't be made (an empty or too small group, no variation) is NaN, never a number.
The definitions are those of R's wilcox.test, kruskal.test, t.test and oneway.test.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numba
import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike, NDArray

from sjd_dask.errors import DesignError
from sjd_dask.kernels import tails

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_TILE = 64
# R's rule: exact p-values where both groups have fewer samples than this, and no ties.
_EXACT_BELOW = 50


@dataclass(frozen=True)
class GroupTest:
    """One test per feature; arrays (F,).

    `effect` is for `wilcoxon` the probability that a value of the second group exceeds one of the first (ties count
    half), for `welch` with two groups the difference of means, second less first, with its `standard_error`; else NaN.
    `df` is NaN where the test has none; `df_numerator` is that of an F test or chi-squared. `n_samples` counts the
    values used.
    """

    statistic: FloatArray
    p_value: FloatArray
    effect: FloatArray
    standard_error: FloatArray
    df: FloatArray
    df_numerator: FloatArray
    n_samples: IntArray


def wilcoxon(
    block: ArrayLike, groups: ArrayLike, *, correct: bool = True, exact: Literal["auto"] | bool = "auto"
) -> GroupTest:
    """Wilcoxon rank sum (Mann-Whitney) test, two-sided.

    Parameters
    ----------
    block
        (n, F) values.
    groups
        (n,) 0 for the first group, 1 for the second.
    correct
        Continuity correction of the normal approximation.
    exact
        ``auto``: the exact distribution where both groups have fewer than 50 values and there are no ties, else the
        normal approximation with tie correction (R's default); True: wherever there are no ties; False: nowhere.

    Returns
    -------
    GroupTest
        `statistic` is W: the rank sum of the second group less its minimum, so the number of pairs in which the second
        group has the larger value. NaN where a group is empty; p is NaN where all values are equal.
    """
    values, codes = _checked(block, groups, 2)
    if codes.max(initial=0) > 1:
        raise DesignError("a Wilcoxon test compares two groups, coded 0 and 1; for more use kruskal")
    count, rank_sum, ties = _ranks(values, codes, 2)
    n1, n2 = count[:, 0].astype(np.float64), count[:, 1].astype(np.float64)
    n = n1 + n2
    usable = (n1 > 0) & (n2 > 0)
    w = np.where(usable, rank_sum[:, 1] - n2 * (n2 + 1) / 2, np.nan)
    z = w - n1 * n2 / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        sigma = np.sqrt(n1 * n2 / 12 * ((n + 1) - ties / (n * (n - 1))))
        if correct:
            z = z - np.sign(z) * 0.5
        p = np.where(sigma > 0, 2 * sc.ndtr(-np.abs(z / sigma)), np.nan)
        effect = w / (n1 * n2)
    if exact is not False:
        chosen = usable & (ties == 0)
        if exact == "auto":
            chosen &= (n1 < _EXACT_BELOW) & (n2 < _EXACT_BELOW)
        for pair in np.unique(count[chosen], axis=0):
            at = chosen & np.all(count == pair, axis=1)
            p[at] = _exact_p(w[at].astype(np.int64), int(pair[0]), int(pair[1]))
    nothing = np.full(w.shape, np.nan)
    return GroupTest(w, p, effect, nothing, nothing, nothing, count.sum(axis=1))


def kruskal(block: ArrayLike, codes: ArrayLike, n_groups: int | None = None) -> GroupTest:
    """Kruskal-Wallis rank test with tie correction; p from the chi-squared distribution.

    Parameters
    ----------
    block
        (n, F) values.
    codes
        (n,) group of each sample, 0 to n_groups - 1.

    Returns
    -------
    GroupTest
        `statistic` is H, `df_numerator` its degrees of freedom: groups that have values, less one. NaN with values in
        fewer than two groups, or all equal.
    """
    values, groups = _checked(block, codes, n_groups)
    k = _n_groups(groups, n_groups)
    count, rank_sum, ties = _ranks(values, groups, k)
    n = count.sum(axis=1).astype(np.float64)
    df = (count > 0).sum(axis=1) - 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        # About the mean rank, so that nothing cancels.
        away = rank_sum - count * ((n + 1) / 2)[:, None]
        between = np.where(count > 0, away**2 / count, 0.0).sum(axis=1)
        tie_factor = 1 - ties / (n**3 - n)
        h = 12 * between / (n * (n + 1)) / tie_factor
    usable = (df >= 1) & (tie_factor > 0)
    h = np.where(usable, h, np.nan)
    df = np.where(df >= 1, df, np.nan)
    nothing = np.full(h.shape, np.nan)
    return GroupTest(h, tails.chi2_upper(h, df), nothing, nothing, nothing, df, count.sum(axis=1))


def welch(block: ArrayLike, codes: ArrayLike, n_groups: int | None = None, *, threads: int = 1) -> GroupTest:
    """Welch's test of equal means with unequal variances: t for two groups, analysis of variance for more.

    Parameters
    ----------
    block
        (n, F) values.
    codes
        (n,) group of each sample, 0 to n_groups - 1.
    threads
        Threads for the tail probabilities.

    Returns
    -------
    GroupTest
        With two groups `statistic` is t of second less first, with `effect`, `standard_error` and `df`. With more it is
        F, with `df_numerator` and denominator `df`; groups without values are left out. NaN where a group has a single
        value, or where there is no variation (for t: a standard error below ten ulp of the means, as R refuses it; for
        F: any group without variance).
    """
    values, groups = _checked(block, codes, n_groups)
    k = _n_groups(groups, n_groups)
    count, mean, variance = _moments(values, groups, k)
    total = count.sum(axis=1)
    number = count.astype(np.float64)
    nothing = np.full(total.shape, np.nan)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if k == 2:
            share = variance / number
            error2 = share.sum(axis=1)
            error = np.sqrt(error2)
            usable = (count >= 2).all(axis=1)
            usable &= error >= 10 * np.finfo(np.float64).eps * np.abs(mean).max(axis=1)
            usable &= error > 0
            df = np.where(usable, error2**2 / (share**2 / (number - 1)).sum(axis=1), np.nan)
            effect = np.where(usable, mean[:, 1] - mean[:, 0], np.nan)
            error = np.where(usable, error, np.nan)
            t = effect / error
            return GroupTest(t, tails.t_two_sided(t, df, threads=threads), effect, error, df, nothing, total)
        present = count > 0
        levels = present.sum(axis=1).astype(np.float64)
        usable = (levels >= 2) & (~present | ((count >= 2) & (variance > 0))).all(axis=1)
        weight = np.where(present, number / variance, 0.0)
        weights = weight.sum(axis=1)
        spread = np.where(present, (1 - weight / weights[:, None]) ** 2 / (number - 1), 0.0).sum(axis=1)
        spread /= levels**2 - 1
        centre = np.where(present, weight * mean, 0.0).sum(axis=1) / weights
        between = np.where(present, weight * (mean - centre[:, None]) ** 2, 0.0).sum(axis=1)
        f = np.where(usable, between / ((levels - 1) * (1 + 2 * (levels - 2) * spread)), np.nan)
        df = np.where(usable, 1 / (3 * spread), np.nan)
    df_numerator = np.where(usable, levels - 1, np.nan)
    return GroupTest(f, tails.f_upper(f, df_numerator, df, threads=threads), nothing, nothing, df, df_numerator, total)


def _checked(block: ArrayLike, groups: ArrayLike, n_groups: int | None) -> tuple[FloatArray, IntArray]:
    values = np.asarray(block, dtype=np.float64)
    codes = np.asarray(groups)
    if values.ndim != 2 or codes.shape != values.shape[:1]:
        raise ValueError(f"values of shape {values.shape} and {codes.shape} group codes don't match")
    whole = codes.astype(np.int64)
    if np.any(whole != codes) or np.any(whole < 0):
        raise ValueError("group codes must be whole numbers from 0")
    if np.unique(whole).size < 2:
        raise DesignError("all samples are in one group: there is nothing to compare")
    return values, whole


def _n_groups(codes: IntArray, n_groups: int | None) -> int:
    found = int(codes.max()) + 1
    if n_groups is None:
        return found
    if found > n_groups:
        raise ValueError(f"a group code of {found - 1} with {n_groups} groups")
    return n_groups


def _ranks(values: FloatArray, codes: IntArray, k: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Values per group (F, k), sum of their mid-ranks (F, k), and sum of t^3 - t over ties (F,)."""
    n_features = values.shape[1]
    count = np.zeros((n_features, k), dtype=np.int64)
    rank_sum = np.zeros((n_features, k))
    ties = np.zeros(n_features)
    for start in range(0, n_features, _TILE):
        stop = min(start + _TILE, n_features)
        tile = np.ascontiguousarray(values[:, start:stop].T)
        # NaN sort last; the order among equal values does not matter.
        order = np.argsort(tile, axis=1)
        _rank_tile(tile, order, codes, count[start:stop], rank_sum[start:stop], ties[start:stop])
    return count, rank_sum, ties


@numba.njit(nogil=True, cache=True)
def _rank_tile(
    tile: FloatArray, order: NDArray[np.intp], codes: IntArray, count: IntArray, rank_sum: FloatArray, ties: FloatArray
) -> None:
    n = tile.shape[1]
    for f in range(tile.shape[0]):
        i = 0
        while i < n:
            value = tile[f, order[f, i]]
            if np.isnan(value):
                break
            j = i + 1
            while j < n and tile[f, order[f, j]] == value:
                j += 1
            rank = 0.5 * (i + 1 + j)
            for m in range(i, j):
                g = codes[order[f, m]]
                count[f, g] += 1
                rank_sum[f, g] += rank
            if j - i > 1:
                t = float(j - i)
                ties[f] += t * t * t - t
            i = j


def _moments(values: FloatArray, codes: IntArray, k: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Values, mean and variance per group: arrays (F, k); the variance of fewer than two values is NaN."""
    n_features = values.shape[1]
    count = np.zeros((n_features, k), dtype=np.int64)
    mean = np.zeros((n_features, k))
    variance = np.zeros((n_features, k))
    for start in range(0, n_features, _TILE):
        stop = min(start + _TILE, n_features)
        tile = np.ascontiguousarray(values[:, start:stop].T)
        _moments_tile(tile, codes, count[start:stop], mean[start:stop], variance[start:stop])
    return count, mean, variance


@numba.njit(nogil=True, cache=True)
def _moments_tile(tile: FloatArray, codes: IntArray, count: IntArray, mean: FloatArray, variance: FloatArray) -> None:
    n = tile.shape[1]
    k = count.shape[1]
    rest = np.empty(k)
    for f in range(tile.shape[0]):
        for i in range(n):
            if not np.isnan(tile[f, i]):
                count[f, codes[i]] += 1
                mean[f, codes[i]] += tile[f, i]
        for g in range(k):
            mean[f, g] = mean[f, g] / count[f, g] if count[f, g] > 0 else np.nan
        # The second pass also mends what rounding left in the mean.
        rest[:] = 0.0
        for i in range(n):
            if not np.isnan(tile[f, i]):
                g = codes[i]
                away = tile[f, i] - mean[f, g]
                rest[g] += away
                variance[f, g] += away * away
        for g in range(k):
            if count[f, g] > 1:
                variance[f, g] = (variance[f, g] - rest[g] * rest[g] / count[f, g]) / (count[f, g] - 1)
                mean[f, g] += rest[g] / count[f, g]
            else:
                variance[f, g] = np.nan


def _exact_p(w: IntArray, n1: int, n2: int) -> FloatArray:
    """Two-sided exact p: twice the smaller tail, both of which hold the observed W; at most 1."""
    lower = _cumulative(min(n1, n2), max(n1, n2))
    # The distribution is symmetric: P(W >= w) = P(W <= n1 n2 - w).
    tail = np.minimum(w, n1 * n2 - w)
    return np.asarray(np.minimum(1.0, 2 * lower[tail]), dtype=np.float64)


@lru_cache(maxsize=256)
def _cumulative(n1: int, n2: int) -> FloatArray:
    """P(W <= w) for w = 0, ..., n1 n2 under the null hypothesis."""
    cumulative: FloatArray = np.cumsum(_probabilities(n1, n2))
    cumulative.setflags(write=False)
    return cumulative


@numba.njit(nogil=True, cache=True)
def _probabilities(n1: int, n2: int) -> FloatArray:
    """P(W = w) by the recursion of Mann and Whitney (1947), in probabilities so that nothing overflows."""
    size = n1 * n2 + 1
    table = np.zeros((n2 + 1, size))
    table[:, 0] = 1.0
    for m in range(1, n1 + 1):
        fresh = np.zeros((n2 + 1, size))
        fresh[0, 0] = 1.0
        for j in range(1, n2 + 1):
            # The largest value is one of the first group's m, and beats all j of the other, or one of the j.
            for w in range(m * j + 1):
                value = fresh[j - 1, w] * (j / (m + j))
                if w >= j:
                    value += table[j, w - j] * (m / (m + j))
                fresh[j, w] = value
        table = fresh
    last: FloatArray = table[n2]
    return last
