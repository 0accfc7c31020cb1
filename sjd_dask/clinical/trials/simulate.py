"""Trials drawn person by person, many at once: what a design finds, and how often it is wrong.

A trial is kept as sums over the persons of each call and arm; every analysis is made from them, for all trials at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sjd_dask.clinical.trials.comparisons import analyses, group_matrix
from sjd_dask.clinical.trials.enrichment import Population
from sjd_dask.clinical.trials.outcomes import Outcome
from sjd_dask.clinical.trials.sample_size import ratio_or_limit

FloatArray = NDArray[np.float64]

_DESIGN_KEYS = {"pure": 0, "all_comers": 1, "stratified": 2, "enriched": 3}
_BLOCK = 400_000  # persons drawn together, a few megabytes an endpoint


@dataclass(frozen=True)
class Sums:
    """Sums over persons with an outcome, each (trials, calls, 2); the last axis is control, treatment.

    Attributes
    ----------
    n, y, yy : ndarray of float64
        Persons, sum of the endpoint, sum of its squares (``y`` is responders for a binary endpoint).
    x, xx, xy : ndarray of float64
        The same of the baseline; zeros where it isn't a covariate.
    """

    n: FloatArray
    y: FloatArray
    yy: FloatArray
    x: FloatArray
    xx: FloatArray
    xy: FloatArray

    def grouped(self, groups: FloatArray) -> Sums:
        """Calls taken together to the groups of an analysis, ``groups`` being (calls, groups)."""
        return Sums(*(np.einsum("tca,cg->tga", values, groups) for values in
                      (self.n, self.y, self.yy, self.x, self.xx, self.xy)))  # fmt: skip


@dataclass(frozen=True)
class Tested:
    """Estimate and p-value of a comparison in each trial, (trials,). NaN where a trial couldn't be analysed."""

    estimate: FloatArray
    p: FloatArray


def draw(
    population: Population,
    outcomes: list[Outcome],
    design: str,
    *,
    n: int,
    allocation: tuple[int, int],
    dropout: float,
    correlation: FloatArray,
    trials: int,
    seed: int,
) -> list[tuple[Sums, Sums]]:
    """Trials of one design, as sums, for each endpoint as designed and without an effect of treatment.

    Parameters
    ----------
    outcomes
        Endpoints; shares of responders as they are before persons are lost.
    n
        Persons enrolled in each trial. Arms are allocated in turn from a random start: within each call in a stratified
        design, over everyone in the others.
    dropout
        Chance of each person to be lost, whatever the arm or the outcome.
    correlation
        Of the endpoints within stratum and arm, given the baseline.
    trials, seed
        The first trials of a seed are the same however many are asked for; the same persons serve every endpoint, with
        and without effect.

    Returns
    -------
    list of (Sums, Sums)
        By endpoint: as designed, and under the null hypothesis.
    """
    size = int(np.clip(_BLOCK // n, 1, 1000))
    factor = np.linalg.cholesky(correlation)
    joint = population.enrolled(design)
    blocks = []
    for block in range(-(-trials // size)):
        rng = np.random.default_rng([seed, _DESIGN_KEYS[design], n, block])
        blocks.append(_block(rng, joint, outcomes, design, size, n, allocation, dropout, factor))
    return [
        tuple(Sums(*(np.concatenate([getattr(b[e][v], f) for b in blocks])[:trials] for f in Sums.__annotations__))
              for v in (0, 1))
        for e in range(len(outcomes))
    ]  # type: ignore[misc]  # fmt: skip


def _block(
    rng: np.random.Generator, joint: FloatArray, outcomes: list[Outcome], design: str, trials: int, n: int,
    allocation: tuple[int, int], dropout: float, factor: FloatArray,
) -> list[tuple[Sums, Sums]]:  # fmt: skip
    """Sums of a block of trials. Persons are summed by stratum too: expectations are then added to whole cells."""
    strata, calls = joint.shape
    kind = np.searchsorted(np.cumsum(joint.ravel())[:-1], rng.random((trials, n)), side="right")
    stratum, call = np.divmod(kind, calls)
    arm = _arms(rng, call if design == "stratified" else None, (trials, n), allocation)
    kept = rng.random((trials, n)) >= dropout if dropout > 0 else None
    # Without an endpoint tied to it the baseline isn't drawn.
    baseline = rng.standard_normal((trials, n)) if any(one.correlation.any() for one in outcomes) else None
    draws = np.tensordot(factor, rng.standard_normal((len(factor), trials, n)), axes=1)
    cell = (np.arange(trials)[:, None] * (strata * calls) + kind) * 2 + arm
    shape = (trials, strata, calls, 2)

    def total(weights: FloatArray | None, use: NDArray[np.bool_] | None) -> FloatArray:
        where = cell.ravel() if use is None else cell[use]
        values = None if weights is None else weights.ravel() if use is None else weights[use]
        return np.bincount(where, values, minlength=math.prod(shape)).astype(float).reshape(shape)

    everyone, completers = total(None, None), None if kept is None else total(None, kept)
    x = xx = zero = np.zeros((trials, calls, 2))
    if baseline is not None and any(one.ancova for one in outcomes):
        x, xx = total(baseline, kept), total(baseline**2, kept)
    found = []
    for e, one in enumerate(outcomes):
        z = _latent(e, outcomes, draws, baseline, stratum)
        n_cell = everyone if one.non_responder or completers is None else completers
        count = n_cell.sum(axis=1)
        versions = (one, one.without_effect())
        if one.binary:
            limits = [special.ndtri(1.0 - np.stack([v.control, v.treatment], axis=1)) for v in versions]
            yes = [z > limit[stratum, arm] for limit in limits]
            answers = [total(None, hit if kept is None else hit & kept).sum(axis=1) for hit in yes]
            found.append(
                (Sums(count, answers[0], zero, zero, zero, zero), Sums(count, answers[1], zero, zero, zero, zero))
            )
            continue
        sd = one.sd[:, None, None]
        z_sum, zz = sd * total(z, kept), sd**2 * total(z * z, kept)
        xz = sd * total(baseline * z, kept) if one.ancova and baseline is not None else None
        both = []
        for version in versions:
            mean = np.stack([version.control, version.treatment], axis=1)[:, None, :]
            y = n_cell * mean + z_sum
            yy = n_cell * mean**2 + 2 * mean * z_sum + zz
            if xz is None:
                both.append(Sums(count, y.sum(axis=1), yy.sum(axis=1), zero, zero, zero))
            else:
                xy = (mean * x + xz).sum(axis=1)
                both.append(Sums(count, y.sum(axis=1), yy.sum(axis=1), x.sum(axis=1), xx.sum(axis=1), xy))
        found.append((both[0], both[1]))
    return found


def _latent(
    e: int, outcomes: list[Outcome], draws: FloatArray, baseline: FloatArray | None, stratum: NDArray[np.int64]
) -> FloatArray:
    """Standard normal within stratum and arm; a responder by an endpoint's drop has that endpoint's."""
    at = outcomes[e].base if outcomes[e].base >= 0 else e
    tie = outcomes[at].correlation
    if baseline is None or not tie.any():
        return draws[at]
    return tie[stratum] * baseline + np.sqrt(1 - tie**2)[stratum] * draws[at]


def _arms(
    rng: np.random.Generator, group: NDArray[np.int64] | None, shape: tuple[int, int], allocation: tuple[int, int]
) -> NDArray[np.int64]:
    """1 for treatment: persons of a group in turn, in a random order of the arms for each trial and group.

    Persons of a group are exchangeable, so turns from a random order have the law of permuted blocks of that length.
    """
    pattern = np.repeat([1, 0], allocation)
    length = len(pattern)
    if group is None:
        order = rng.permuted(np.broadcast_to(pattern, (shape[0], length)), axis=1)
        return order[:, np.arange(shape[1]) % length]
    arm = np.zeros(shape, dtype=np.int64)
    for g in range(int(group.max(initial=0)) + 1):
        member = group == g
        place = np.cumsum(member, axis=1, dtype=np.int32) % length
        order = rng.permuted(np.broadcast_to(pattern, (shape[0], length)), axis=1)
        if length == 2:
            arm |= member & (place == order[:, :1])
        else:
            arm |= np.where(member, np.take_along_axis(order, place.astype(np.int64), axis=1), 0)
    return arm


def analyse(
    sums: Sums, outcome: Outcome, population: Population, design: str, analysis: str, *, sided: int = 2,
    direction: float = 1.0,
) -> Tested:  # fmt: skip
    """One comparison in every trial.

    A continuous endpoint by least squares on treatment, with the groups of the analysis as indicators and the baseline
    where it is a covariate; a binary one by the difference of shares, over groups weighted as Mantel and Haenszel do.
    The interaction is the difference of the effects of two groups, each with its own variance (and slope).

    Parameters
    ----------
    sided, direction
        With one side, the sign of the effect that is looked for.
    """
    grouped = sums.grouped(group_matrix(population, design, analysis))
    if outcome.binary:
        estimate, error, df = _shares(grouped, outcome.test, analysis == "interaction")
    elif analysis == "interaction":
        estimate, error, df = _difference_of_effects(grouped, outcome.ancova)
    else:
        estimate, error, df = _common_effect(grouped, outcome.ancova)
    statistic = ratio_or_limit(estimate, error)
    if not outcome.binary:
        statistic = np.where(df > 0, statistic, np.nan)
    beyond = np.abs(statistic) if sided == 2 else np.sign(direction) * statistic
    tail = special.stdtr(np.maximum(df, 1.0), -beyond) if outcome.test == "t" else special.ndtr(-beyond)
    return Tested(estimate, np.minimum(1.0, sided * tail))


def _around(n: FloatArray, a: FloatArray, b: FloatArray, ab: FloatArray) -> FloatArray:
    """Products around the means of each cell, summed over the cells of a trial, (trials,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        at_mean = np.where(n > 0, a * b / n, 0.0)
    return (ab - at_mean).reshape(len(n), -1).sum(axis=1)


def _common_effect(s: Sums, ancova: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    control, treated = s.n[..., 0], s.n[..., 1]
    size = control + treated
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(size > 0, control * treated / size, 0.0)
        gap_y = np.where(weight > 0, s.y[..., 1] / treated - s.y[..., 0] / control, 0.0)
        gap_x = np.where(weight > 0, s.x[..., 1] / treated - s.x[..., 0] / control, 0.0)
    tt, ty, tx = weight.sum(axis=1), (weight * gap_y).sum(axis=1), (weight * gap_x).sum(axis=1)
    x, y = s.x.sum(axis=2), s.y.sum(axis=2)
    yy = _around(size, y, y, s.yy.sum(axis=2))
    df = size.sum(axis=1) - (size > 0).sum(axis=1) - 1.0 - ancova
    with np.errstate(divide="ignore", invalid="ignore"):
        if not ancova:
            estimate = ty / tt
            return estimate, np.sqrt((yy - estimate * ty) / df / tt), df
        xx, xy = _around(size, x, x, s.xx.sum(axis=2)), _around(size, x, y, s.xy.sum(axis=2))
        determinant = tt * xx - tx * tx
        estimate = (xx * ty - tx * xy) / determinant
        slope = (tt * xy - tx * ty) / determinant
        rest = yy - estimate * ty - slope * xy
        return estimate, np.sqrt(rest / df * xx / determinant), df


def _difference_of_effects(s: Sums, ancova: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Effect in the first group less that in the second, each analysed alone; degrees of freedom by Satterthwaite."""
    first, second = (
        _common_effect(Sums(*(getattr(s, name)[:, [g]] for name in Sums.__annotations__)), ancova) for g in (0, 1)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = first[1] ** 2, second[1] ** 2
        df = np.where((first[2] > 0) & (second[2] > 0), (a + b) ** 2 / (a**2 / first[2] + b**2 / second[2]), 0.0)
    return first[0] - second[0], np.sqrt(a + b), df


def _shares(s: Sums, method: str, interaction: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    control, treated = s.n[..., 0], s.n[..., 1]
    size = control + treated
    with np.errstate(divide="ignore", invalid="ignore"):
        p0, p1 = s.y[..., 0] / control, s.y[..., 1] / treated
        own = p0 * (1 - p0) / control + p1 * (1 - p1) / treated
        if interaction:
            gap = p1 - p0
            return gap[:, 0] - gap[:, 1], np.sqrt(own.sum(axis=1)), np.full(len(gap), np.inf)
        weight = np.where(size > 0, control * treated / size, 0.0)
        share = s.y.sum(axis=2) / size
        variance = share * (1 - share) * (1 / control + 1 / treated) if method == "pooled" else own
        if method == "pooled" and size.shape[1] > 1:  # as Cochran, Mantel and Haenszel have it
            variance = variance * size / (size - 1)
        used = weight > 0
        whole = weight.sum(axis=1)
        estimate = np.where(used, weight * (p1 - p0), 0.0).sum(axis=1) / whole
        error = np.sqrt(np.where(used, weight**2 * variance, 0.0).sum(axis=1)) / whole
    return estimate, error, np.full(len(whole), np.inf)


def p_values(
    drawn: list[tuple[Sums, Sums]], outcomes: list[Outcome], population: Population, design: str, *, sided: int,
    directions: list[float],
) -> dict[tuple[int, str], tuple[FloatArray, FloatArray]]:  # fmt: skip
    """p-values of every endpoint and analysis of a design: as designed and under the null, (trials,) each."""
    return {
        (e, analysis): tuple(
            analyse(sums, one, population, design, analysis, sided=sided, direction=directions[e]).p
            for sums in drawn[e]
        )
        for e, one in enumerate(outcomes)
        for analysis in analyses(population, design)
    }  # type: ignore[misc]


def monte_carlo_error(share: float, trials: int) -> float:
    """Standard error of a share of simulated trials; of none or all of them, that of half a trial."""
    inner = min(max(share, 0.5 / trials), 1 - 0.5 / trials)
    return float(np.sqrt(inner * (1 - inner) / trials))
