"""How many groups, and whether there are any: every criterion shown, the choice with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import SpecError
from sjd_dask.kernels.grouping import rand_indices
from sjd_dask.stratify.consensus import consensus_curves, consensus_matrix, consensus_tree, consensus_tree_groups
from sjd_dask.stratify.distances import silhouette_widths
from sjd_dask.stratify.null import data_inertia, null_inertia
from sjd_dask.stratify.recipe import Recipe, check_values

COMBINED = "combined"
# Level of the test of no groups: 5 of 100 layers without groups is the most that may be cut, so 2 of 100 are.
LEVEL = 0.02
# Criteria that vote on k; more is better. Area and PAC are shown and don't vote: in noise they improve with every k,
# while stability measures the same thing with chance taken off.
VOTES = ("silhouette", "gap_z", "stability")
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
)


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
        A row for each (algorithm, k) and for the algorithms combined: ``area`` under the consensus CDF and its
        ``relative_gain`` over the k before, ``pac``, mean ``silhouette`` (in the distance of the recipe), ``gap`` (mean
        log inertia of the null - that of the data) and ``gap_z`` (in standard deviations of the null; both of k-means,
        the same for all algorithms), ``stability`` (mean adjusted Rand index of the resamples with the consensus
        groups), ``smallest_group``.
    p_value : float
        Of the null of no groups.
    groups : dict of (algorithm, k) to ndarray of int64 (n,)
        Consensus groups, from 0 in order of the smallest sample id; samples in the order given.
    curves : dict of (algorithm, k) to dict
        `consensus_curves` of each.
    """

    k: int
    reason: str
    table: pd.DataFrame
    p_value: float
    groups: dict[tuple[str, int], NDArray[np.int64]]
    curves: dict[tuple[str, int], dict[str, Any]]


def choose_k(
    values: NDArray[np.float64],
    sample_ids: Sequence[str],
    recipe: Recipe,
    labels: NDArray[np.int8],
    null: NDArray[np.float64] | None = None,
    k: int | None = None,
) -> Choice:
    """Judge every k, and k = 1.

    Parameters
    ----------
    values : ndarray (n, p)
    sample_ids : sequence of str (n,)
    recipe : Recipe
    labels : ndarray of int8 (R, n_algorithms, n_k, n)
        All rounds of `resample_labels`.
    null : ndarray (draws, n_k), optional
        All draws of `null_inertia`; default they are made here.
    k : int, optional
        The user's choice: the table is made all the same, and the reason says that it was given. 1 is allowed.

    Raises
    ------
    SpecError
        A given k that is not 1 nor one of the recipe.

    Notes
    -----
    No groups (k = 1) where the k-means inertia of the leading components is not below that of Gaussian draws with the
    same covariance: the largest ``gap_z`` over k is ranked among those of the draws. Otherwise the k with the best
    mean rank by silhouette, gap_z and stability of the algorithms combined; of equals the one with the larger
    gap_z.
    """
    check_values(values, sample_ids, recipe)
    if k is not None and k != 1 and k not in recipe.k:
        raise SpecError(f"choose_k: {k} is not among the k that were tried, {list(recipe.k)}, nor 1 (no groups).")
    draws = null_inertia(values, sample_ids, recipe) if null is None else np.asarray(null, dtype=np.float64)
    observed = data_inertia(values, sample_ids, recipe)
    gap, gap_z, p_value = _gap(observed, draws)
    # In one order for all callers, so that sums and ties fall the same way whatever the order of the samples.
    order = np.asarray(sorted(range(len(sample_ids)), key=lambda i: sample_ids[i]), dtype=np.int64)
    back = np.argsort(order)
    table, groups, curves = _criteria(np.ascontiguousarray(values[order]), recipe, labels[..., order], gap, gap_z)
    groups = {key: found[back] for key, found in groups.items()}
    auto, reason = _vote(table[table["algorithm"] == COMBINED], p_value, len(draws))
    if k is not None and k != auto:
        reason = f"k = {k} was asked for. Without that, k = {auto}: {reason}"
    elif k is not None:
        reason = f"k = {k} was asked for, and would be chosen: {reason}"
    return Choice(auto if k is None else k, reason, table, p_value, groups, curves)


def _gap(
    observed: NDArray[np.float64], draws: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    gap = draws.mean(axis=0) - observed
    scale = draws.std(axis=0, ddof=1)
    gap_z = gap / np.where(scale > 0, scale, np.inf)
    # For the rank the data are standardised with the draws, as one of them: then all are exchangeable.
    together = np.vstack([observed, draws])
    spread = together.std(axis=0)
    best = ((together.mean(axis=0) - together) / np.where(spread > 0, spread, np.inf)).max(axis=1)
    return gap, gap_z, float(np.mean(best >= best[0]))


def _criteria(
    values: NDArray[np.float64],
    recipe: Recipe,
    labels: NDArray[np.int8],
    gap: NDArray[np.float64],
    gap_z: NDArray[np.float64],
) -> tuple[pd.DataFrame, dict[tuple[str, int], NDArray[np.int64]], dict[tuple[str, int], dict[str, Any]]]:
    groups: dict[tuple[str, int], NDArray[np.int64]] = {}
    curves: dict[tuple[str, int], dict[str, Any]] = {}
    stability: dict[tuple[str, int], float] = {}
    n_algorithms = len(recipe.algorithms)
    for j, k in enumerate(recipe.k):
        total: NDArray[np.float32] | None = None
        for a, algorithm in enumerate([*recipe.algorithms, COMBINED]):
            if a < n_algorithms:
                matrix = consensus_matrix(labels[:, a, j])
                total = matrix if total is None else total + matrix
            else:
                assert total is not None
                matrix = total / np.float32(n_algorithms)
            key = (algorithm, k)
            curves[key] = consensus_curves(matrix)
            groups[key] = consensus_tree_groups(consensus_tree(matrix), (k,))[0]
            rounds = labels[:, a, j] if a < n_algorithms else labels[:, :, j].reshape(-1, labels.shape[-1])
            stability[key] = float(np.mean(rand_indices(np.ascontiguousarray(rounds), groups[key])))
    widths = silhouette_widths(values, list(groups.values()), recipe.distance)
    rows = []
    for (algorithm, k), width in zip(groups, widths, strict=True):
        key = (algorithm, k)
        before = recipe.k[recipe.k.index(k) - 1] if k != recipe.k[0] else None
        area = curves[key]["area"]
        earlier = curves[algorithm, before]["area"] if before else 0.0
        j = recipe.k.index(k)
        rows.append(
            {
                "algorithm": algorithm,
                "k": k,
                "area": area,
                "relative_gain": (area - earlier) / earlier if before and earlier > 0 else area,
                "pac": curves[key]["pac"],
                "silhouette": float(np.mean(width)),
                "gap": float(gap[j]),
                "gap_z": float(gap_z[j]),
                "stability": stability[key],
                "smallest_group": int(np.bincount(groups[key]).min()),
            }
        )
    order = {name: i for i, name in enumerate([*recipe.algorithms, COMBINED])}
    rows.sort(key=lambda row: (order[str(row["algorithm"])], row["k"]))
    return pd.DataFrame(rows, columns=list(TABLE_COLUMNS)), groups, curves


def _vote(table: pd.DataFrame, p_value: float, n_draws: int) -> tuple[int, str]:
    """The k of the combined rows, and why."""
    test = (
        f"p = {p_value:.3g} for no groups (k-means inertia against {n_draws} Gaussian draws with the same covariance; "
        f"level {LEVEL:g})"
    )
    if p_value > LEVEL:
        return 1, f"no groups: {test}."
    sizes = table["k"].to_numpy()
    ranks = np.zeros(len(sizes))
    best = {}
    for name in VOTES:
        column = table[name].round(6)
        ranks += (-column).rank(method="average").to_numpy()
        best[name] = int(sizes[np.argmax(column)])
    ranks /= len(VOTES)
    at = int(np.lexsort((-table["gap_z"].to_numpy(), ranks.round(9)))[0])
    row = table.iloc[at]
    return int(sizes[at]), (
        f"{test}; k = {int(sizes[at])} has the best mean rank ({ranks[at]:.2f}): silhouette {row['silhouette']:.3f}, "
        f"gap {row['gap_z']:.1f} standard deviations of the null, stability {row['stability']:.3f}; its PAC is "
        f"{row['pac']:.3f}. Each alone would choose k = {best['silhouette']} (silhouette), {best['gap_z']} (gap), "
        f"{best['stability']} (stability)."
    )
