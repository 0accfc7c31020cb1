"""How many groups, and whether there are any: every criterion shown, the choice with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import SpecError
from sjd_dask.kernels.grouping import rand_indices
from sjd_dask.stratify.consensus import consensus_of_rounds
from sjd_dask.stratify.distances import silhouette_widths
from sjd_dask.stratify.null import components_of, data_statistics, group_separation, null_statistics, valley
from sjd_dask.stratify.recipe import Recipe, check_values

COMBINED = "combined"
# Level of the test of no groups: 5 of 100 layers without groups is the most that may be cut, so 2 of 100 are.
LEVEL = 0.02
# Above this p-value for no valley the reason says that the groups may be parts of a continuum.
VALLEY_LEVEL = 0.05
# Criteria that vote on k; more is better. Area and PAC are shown and don't vote: in noise they improve with every k,
# while stability measures the same thing with chance taken off. The gap of k-means looks where most variance is, and
# doesn't vote either: separation measures the groups that were found, whatever lies beside them.
VOTES = ("silhouette", "separation_z", "stability")
TABLE_COLUMNS = (
    "algorithm",
    "k",
    "area",
    "relative_gain",
    "pac",
    "silhouette",
    "gap",
    "gap_z",
    "stability",
    "smallest_group",
    "separation",
    "separation_z",
    "valley_p",
    "trusted",
)


@dataclass(frozen=True)
class Judged:
    """Consensus of some rounds at one k.

    Attributes
    ----------
    groups : ndarray of int64 (n,)
        From 0 in order of the first sample.
    curves : dict
        See `consensus_curves`.
    stability : float
        Mean adjusted Rand index of the rounds with the groups.
    """

    groups: NDArray[np.int64]
    curves: dict[str, Any]
    stability: float


# Judges (numbers of algorithms, number of the k in the recipe), for all of a list.
Judge = Callable[[Sequence[tuple[tuple[int, ...], int]]], list[Judged]]


@dataclass(frozen=True)
class Choice:
    """The number of groups and what speaks for it.

    Attributes
    ----------
    k : int
        1: no groups.
    reason : str
        In words, with the figures.
    table : DataFrame
        A row for each (algorithm, k) and for the trusted algorithms combined: ``area`` under the consensus CDF and its
        ``relative_gain`` over the k before, ``pac``, mean ``silhouette`` (in the distance of the recipe), ``gap`` (mean
        log inertia of the null - that of the data) and ``gap_z`` (in standard deviations of the null; both of k-means,
        the same for all algorithms), ``stability`` (mean adjusted Rand index of the resamples with the consensus
        groups), ``smallest_group``, ``separation`` (mean log det(W) / det(T) of what is found in the null - that of the
        groups, in nats: above 0 they are farther apart than cuts of data without groups) and ``separation_z`` (in
        standard deviations of the null), ``valley_p`` (see `valley`: small where samples get fewer between groups, and
        not in a continuum, skewed or not), ``trusted`` (bool: takes part in the combination).
    p_value : float
        Of the null of no groups.
    groups : dict of (algorithm, k) to ndarray of int64 (n,)
        Consensus groups, from 0 in order of the smallest sample id; samples in the order given.
    curves : dict of (algorithm, k) to dict
        `consensus_curves` of each.
    algorithms : tuple of str
        Those trusted: their groups are farther apart than the farthest cuts of data without groups. All of the recipe
        where none is.
    """

    k: int
    reason: str
    table: pd.DataFrame
    p_value: float
    groups: dict[tuple[str, int], NDArray[np.int64]]
    curves: dict[tuple[str, int], dict[str, Any]]
    algorithms: tuple[str, ...] = ()

    def trusted(self, recipe: Recipe, labels: NDArray[np.int8]) -> tuple[Recipe, NDArray[np.int8]]:
        """The recipe and the rounds (R, n_algorithms, n_k, n) of the trusted algorithms, which make the groups."""
        kept = [a for a, name in enumerate(recipe.algorithms) if name in (self.algorithms or recipe.algorithms)]
        return replace(recipe, algorithms=tuple(recipe.algorithms[a] for a in kept)), labels[:, kept]


def judge_rounds(labels: NDArray[np.int8], k: int) -> Judged:
    """Consensus of the rounds of one or several algorithms.

    Parameters
    ----------
    labels : ndarray of int8 (R, n_algorithms, n)
        Groups at this k; -1: not drawn. Algorithms have the same weight.
    k : int
    """
    groups, curves = consensus_of_rounds(labels, k)
    rounds = np.ascontiguousarray(labels.reshape(-1, labels.shape[-1]))
    return Judged(groups, curves, float(np.mean(rand_indices(rounds, groups))))


def choose_k(
    values: NDArray[np.float64],
    sample_ids: Sequence[str],
    recipe: Recipe,
    labels: NDArray[np.int8],
    null: NDArray[np.float64] | None = None,
    k: int | None = None,
    judge: Judge | None = None,
) -> Choice:
    """Judge every k, and k = 1.

    Parameters
    ----------
    values : ndarray (n, p)
    sample_ids : sequence of str (n,)
    recipe : Recipe
    labels : ndarray of int8 (R, n_algorithms, n_k, n)
        All rounds of `resample_labels`.
    null : ndarray (draws, columns), optional
        All draws of `null_statistics`; default they are made here.
    k : int, optional
        The user's choice: the table is made all the same, and the reason says that it was given. 1 is allowed.
    judge : callable, optional
        Makes what `judge_rounds` does for several (algorithms, number of the k) at a time, somewhere else. Samples are
        those of `labels` in order of their ids.

    Raises
    ------
    SpecError
        A given k that is not 1 nor one of the recipe.

    Notes
    -----
    No groups (k = 1) where groups found in the data are not farther apart than those found in Gaussian draws with the
    same covariance: of log det(W) / det(T) over all k and depths (see `null_statistics`) the largest deviation from the
    mean of the draws is ranked among theirs. An algorithm is trusted where its own groups, at the k where they stand
    out most, are farther apart than those that were looked for in the draws at the k where *they* stand out most (the
    same level). Algorithms that aren't would only cut a continuous factor, here and there in each resample, and hide
    what the others see: the combination is made of those trusted. Where no groups that were found stand out so, neither
    those of an algorithm nor of all together, what deviates from a Gaussian is not what was found, and there are no
    groups either.

    Of the k whose groups are farther apart than chance at the same level (against the draws at this k) the one with
    the best mean rank by silhouette, separation_z and stability of the combination; of equals the larger separation_z.
    """
    check_values(values, sample_ids, recipe)
    if k is not None and k != 1 and k not in recipe.k:
        raise SpecError(f"choose_k: {k} is not among the k that were tried, {list(recipe.k)}, nor 1 (no groups).")
    draws = null_statistics(values, sample_ids, recipe) if null is None else np.asarray(null, dtype=np.float64)
    # In one order for all callers, so that sums and ties fall the same way whatever the order of the samples.
    order = np.asarray(sorted(range(len(sample_ids)), key=lambda i: sample_ids[i]), dtype=np.int64)
    back = np.argsort(order)
    values, ids = np.ascontiguousarray(values[order]), [sample_ids[i] for i in order]
    against = Null(values, ids, recipe, draws)
    if judge is None:
        sorted_labels = labels[..., order]

        def judge(wanted: Sequence[tuple[tuple[int, ...], int]]) -> list[Judged]:
            return [judge_rounds(sorted_labels[:, list(some), j], recipe.k[j]) for some, j in wanted]

    found, trusted = _judged(recipe, judge, against)
    table = _criteria(values, recipe, found, trusted, against)
    auto, reason = _vote(table[table["algorithm"] == COMBINED], recipe, trusted, against, len(draws))
    if k is not None and k != auto:
        reason = f"k = {k} was asked for. Without that, k = {auto}: {reason}"
    elif k is not None:
        reason = f"k = {k} was asked for, and would be chosen: {reason}"
    return Choice(
        auto if k is None else k,
        reason,
        table,
        against.p_value,
        {key: one.groups[back] for key, one in found.items()},
        {key: one.curves for key, one in found.items()},
        trusted or recipe.algorithms,
    )


class Null:
    """The draws, and where the data and their groups are among them."""

    def __init__(self, values: NDArray[np.float64], ids: Sequence[str], recipe: Recipe, draws: NDArray[np.float64]):
        self.base = components_of(values, ids, recipe)
        observed = data_statistics(self.base, recipe)
        n_k = len(recipe.k)
        # For the rank the data are standardised with the draws, as one of them: then all are exchangeable.
        together = np.vstack([observed, draws])[:, n_k:]
        spread = together.std(axis=0)
        beyond = (together.mean(axis=0) - together) / np.where(spread > 0, spread, np.inf)
        best = beyond.max(axis=1, initial=-np.inf)
        self.p_value = float(np.mean(best >= best[0]))
        self.gap = (draws.mean(axis=0) - observed)[:n_k]
        scale = draws.std(axis=0, ddof=1)
        self.gap_z = self.gap / np.where(scale > 0, scale, np.inf)[:n_k]
        ratios = draws[:, n_k:].reshape(len(draws), -1, n_k)  # draws, depths, k
        self.mean = ratios.mean(axis=0)
        scale = ratios.std(axis=0, ddof=1)
        self.scale = np.where(scale > 0, scale, np.inf)
        # The depth where a draw stands out most, for each k.
        self.highest = (
            ((self.mean - ratios) / self.scale).max(axis=1) if ratios.shape[1] else np.zeros((len(draws), n_k))
        )

    def separation(self, groups: NDArray[np.int64], j: int) -> tuple[float, float]:
        """In nats and in standard deviations, at the depth where the groups stand out most."""
        if not self.base.depths:
            return 0.0, 0.0
        gap = self.mean[:, j] - group_separation(self.base, [groups])[0]
        at = int(np.argmax(gap / self.scale[:, j]))
        return float(gap[at]), float(gap[at] / self.scale[at, j])

    def chance(self, z: float, j: int | None = None) -> float:
        """Share of the draws (and the data) that stand out as much, at one k or at the best of all."""
        reached = self.highest.max(axis=1) if j is None else self.highest[:, j]
        return float((1 + np.count_nonzero(reached >= z)) / (1 + len(reached)))


def _judged(recipe: Recipe, judge: Judge, against: Null) -> tuple[dict[tuple[str, int], Judged], tuple[str, ...]]:
    """Every algorithm, those trusted, and their combination."""
    n_k = len(recipe.k)
    wanted = [((a,), j) for a in range(len(recipe.algorithms)) for j in range(n_k)]
    found = {
        (recipe.algorithms[some[0]], recipe.k[j]): one for (some, j), one in zip(wanted, judge(wanted), strict=True)
    }
    trusted = tuple(
        name
        for name in recipe.algorithms
        if against.chance(max(against.separation(found[name, k].groups, j)[1] for j, k in enumerate(recipe.k))) <= LEVEL
    )
    voices = tuple(recipe.algorithms.index(name) for name in trusted or recipe.algorithms)
    together = judge([(voices, j) for j in range(n_k)])
    return found | {(COMBINED, k): one for k, one in zip(recipe.k, together, strict=True)}, trusted


def _criteria(
    values: NDArray[np.float64],
    recipe: Recipe,
    found: dict[tuple[str, int], Judged],
    trusted: tuple[str, ...],
    against: Null,
) -> pd.DataFrame:
    widths = silhouette_widths(values, [one.groups for one in found.values()], recipe.distance)
    rows = []
    for ((algorithm, k), one), width in zip(found.items(), widths, strict=True):
        j = recipe.k.index(k)
        area = one.curves["area"]
        earlier = found[algorithm, recipe.k[j - 1]].curves["area"] if j else 0.0
        separation, separation_z = against.separation(one.groups, j)
        rows.append(
            {
                "algorithm": algorithm,
                "k": k,
                "area": area,
                "relative_gain": (area - earlier) / earlier if earlier > 0 else area,
                "pac": one.curves["pac"],
                "silhouette": float(np.mean(width)),
                "gap": float(against.gap[j]),
                "gap_z": float(against.gap_z[j]),
                "stability": one.stability,
                "smallest_group": int(np.bincount(one.groups).min()),
                "separation": separation,
                "separation_z": separation_z,
                "valley_p": valley(against.base, one.groups),
                "trusted": algorithm in trusted or (algorithm == COMBINED and bool(trusted)),
            }
        )
    return pd.DataFrame(rows, columns=list(TABLE_COLUMNS))


def _vote(
    table: pd.DataFrame, recipe: Recipe, trusted: tuple[str, ...], against: Null, n_draws: int
) -> tuple[int, str]:
    """The k of the combined rows, and why."""
    test = (
        f"p = {against.p_value:.3g} for no groups (how far apart groups are that can be found, against {n_draws} "
        f"Gaussian draws with the same covariance; level {LEVEL:g})"
    )
    if against.p_value > LEVEL:
        return 1, f"no groups: {test}."
    apart = [against.chance(z, j) <= LEVEL for j, z in enumerate(table["separation_z"])]
    if not any(apart):
        return 1, (
            f"no groups: {test}, so that the data are not of one Gaussian; but no groups that "
            f"{_and(recipe.algorithms)} found are farther apart than cuts of data without groups."
        )
    table = table[apart]
    sizes = table["k"].to_numpy()
    ranks = np.zeros(len(sizes))
    best = {}
    for name in VOTES:
        column = table[name].round(6)
        ranks += (-column).rank(method="average").to_numpy()
        best[name] = int(sizes[np.argmax(column)])
    ranks /= len(VOTES)
    at = int(np.lexsort((-table["separation_z"].to_numpy(), ranks.round(9)))[0])
    row = table.iloc[at]
    untrusted = [name for name in recipe.algorithms if trusted and name not in trusted]
    return int(sizes[at]), (
        f"{test}; k = {int(sizes[at])} has the best mean rank ({ranks[at]:.2f}): silhouette {row['silhouette']:.3f}, "
        f"separation {row['separation_z']:.1f} standard deviations of the null, stability {row['stability']:.3f}; its "
        f"PAC is {row['pac']:.3f}. Each alone would choose k = {best['silhouette']} (silhouette), "
        f"{best['separation_z']} (separation), {best['stability']} (stability)."
        + (
            f" Made without {_and(untrusted)}, whose groups are no farther apart than cuts of data without groups."
            if untrusted
            else ""
        )
        + (
            f" Samples don't get fewer between neighbouring groups (p = {row['valley_p']:.2g}): they may be parts of a "
            "continuum that isn't Gaussian, or overlap much."
            if row["valley_p"] > VALLEY_LEVEL
            else ""
        )
    )


def _and(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
