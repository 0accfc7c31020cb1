"""Choosing the panel: at most so many features that tell the classes apart, among those with the largest F."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sjd_dask.classify.conformal import person_weights
from sjd_dask.classify.prefilter import class_sums
from sjd_dask.classify.recipe import Recipe
from sjd_dask.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def select_panels(
    values: Floats, y: Ints, persons: NDArray[np.str_], n_classes: int, recipe: Recipe, *purpose: int | str
) -> list[Ints]:
    """Positions of the features of the panel of each of ``recipe.sizes``, ascending.

    Parameters
    ----------
    values : ndarray (n, p)
        Training samples of one fold, NaN = missing.
    y : ndarray of int64 (n,)
        Classes.
    persons : array of str (n,)
        Each person counts for one in the prefilter and in every method.
    n_classes : int
    recipe : Recipe
    purpose : int or str
        Together with the seed the key of random draws: the fold.

    Returns
    -------
    list of ndarray
        A panel is what it would be if its size alone were asked for.

    Raises
    ------
    DataError
        No feature that varies, with enough values.
    """
    weights = training_weights(y, persons, recipe)
    kept = class_sums(values, y, n_classes, weights).top(recipe.prefilter, recipe.max_missing, len(y))
    if not len(kept):
        raise DataError(
            f"none of {values.shape[1]} features varies over the {len(y)} training samples with at most "
            f"{recipe.max_missing:.0%} missing: no panel can be chosen. Raise max_missing or bring other features."
        )
    if recipe.panel_method == "none":
        return [kept]
    rows, sizes = scaled(values[:, kept], weights), recipe.sizes
    if recipe.panel_method == "elastic_net":
        from sjd_dask.classify.panel_elastic_net import elastic_net_order

        order = elastic_net_order(rows, y, weights, n_classes, sizes[-1])
        chosen = [order[:size] for size in sizes]
    elif recipe.panel_method == "stability":
        from sjd_dask.classify.panel_stability import stability_panels

        chosen = stability_panels(rows, y, weights, persons, n_classes, sizes, recipe.seed, *purpose)
    else:
        from sjd_dask.classify.panel_all_relevant import all_relevant_order

        order = all_relevant_order(rows, y, weights, recipe.seed, *purpose)
        chosen = [order[:size] for size in sizes]
    return [np.asarray(kept[np.sort(one)]) for one in chosen]


def select_panel(
    values: Floats, y: Ints, persons: NDArray[np.str_], n_classes: int, recipe: Recipe, *purpose: int | str
) -> Ints:
    """The largest of `select_panels`: of a recipe with a fixed size the only one."""
    return select_panels(values, y, persons, n_classes, recipe, *purpose)[-1]


def training_weights(y: Ints, persons: NDArray[np.str_], recipe: Recipe) -> Floats:
    """Weight of each sample, (n,): every person has 1 in all, or with balanced classes every class the same."""
    weights = person_weights(persons)
    if recipe.class_weight == "balanced":
        sums = np.bincount(y, weights=weights)
        weights = weights * (weights.sum() / (np.count_nonzero(sums) * sums[y]))
    return weights


def scaled(values: Floats, weights: Floats) -> Floats:
    """Features with weighted mean 0 and variance 1, missing values at the mean, Fortran order, (n, p)."""
    known = np.isfinite(values)
    held = np.where(known, values, 0.0)
    share = weights @ known
    mean = (weights @ held) / share
    out = np.where(known, held - mean, 0.0)
    spread = np.sqrt((weights @ out**2) / share)
    return np.asfortranarray(out / np.where(spread > 0, spread, 1.0))
