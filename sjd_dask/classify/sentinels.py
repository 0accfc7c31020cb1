"""Features beside the panel that tell whether a sample looks like the training samples at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sjd_dask.classify.prefilter import rounded
from sjd_dask.classify.recipe import Recipe
from sjd_dask.classify.splits import draw_keys

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def choose_sentinels(values: Floats, feature_ids: NDArray[np.object_], panel: Ints, recipe: Recipe) -> Ints:
    """Positions of at most ``recipe.sentinels`` features outside the panel, ascending.

    Half are those of the largest variance: they move together, and what moves otherwise is seen. The others are drawn
    by their ids: they show level and spread of everything else, which a panel of one pathway doesn't. No label is
    looked at.

    Parameters
    ----------
    values : ndarray (n, p)
        Training samples, NaN = missing.
    feature_ids : ndarray of object (p,)
    panel : ndarray of int64
        Positions that are taken already.
    recipe : Recipe
    """
    known = np.isfinite(values)
    held = np.where(known, values, 0.0)
    count = np.maximum(known.sum(axis=0), 1)
    mean = held.sum(axis=0) / count
    variance = rounded((np.where(known, held - mean, 0.0) ** 2).sum(axis=0) / count)
    allowed = (known.mean(axis=0) >= 1.0 - recipe.max_missing - 1e-12) & (variance > 0)
    allowed[panel] = False
    candidates = np.flatnonzero(allowed)
    moving = candidates[np.argsort(-variance[candidates], kind="stable")][: (recipe.sentinels + 1) // 2]
    rest = np.setdiff1d(candidates, moving)
    numbers = draw_keys([str(feature_ids[j]) for j in rest], recipe.seed, "sentinel")
    drawn = rest[np.argsort(numbers, kind="stable")][: recipe.sentinels - len(moving)]
    return np.sort(np.concatenate([moving, drawn]))
