"""What k-means finds in Gaussian data without groups that has the covariance of the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sjd_dask.kernels.grouping import kmeans_values
from sjd_dask.kernels.principal import principal_components
from sjd_dask.stratify.draws import NULL, STARTS, id_keys, ranking
from sjd_dask.stratify.recipe import Recipe

Floats = NDArray[np.float64]
# Draws of data without groups: the smallest p-value is 1 / 200.
NULL_DRAWS = 199
# k-means starts for each k, in the data and in every draw alike.
NULL_STARTS = 5


def null_inertia(
    values: NDArray[np.float64], sample_ids: Sequence[str], recipe: Recipe, start: int = 0, stop: int = NULL_DRAWS
) -> Floats:
    """Inertia of k-means on the leading principal components of draws without groups.

    Parameters
    ----------
    values : ndarray (n, p)
    sample_ids : sequence of str (n,)
    recipe : Recipe
        `k`, `seed` and `mixture_components` (how many components) are used.
    start, stop : int
        Draws, from 0.

    Returns
    -------
    ndarray (stop - start, n_k)
        log of the sum of squared distances to the own centre.

    Notes
    -----
    With X = U S V' the centred data, a draw is Q S V' with Q a random orthonormal matrix orthogonal to 1. For
    independent Gaussian samples of any covariance U is distributed as Q is, independently of S and V, so the data and
    the draws are exchangeable where there are no groups, and ranks among them are exact p-values. (Draws of a Gaussian
    with the sample covariance would not be: their own covariance spreads more than that of the data.)
    """
    scores, order = _scores(values, sample_ids, recipe)
    starts = _starts(sample_ids, order, recipe)
    spread = np.sqrt(np.einsum("ij,ij->j", scores, scores))
    out = np.empty((stop - start, len(recipe.k)))
    for at, draw in enumerate(range(start, stop)):
        bits = np.random.Philox(key=[recipe.seed & 0xFFFF_FFFF_FFFF_FFFF, (NULL << 32) + draw])
        normal = np.random.Generator(bits).standard_normal(scores.shape)
        turned, _ = np.linalg.qr(normal - normal.mean(axis=0))
        out[at] = _log_inertia(turned * spread, starts)
    return out


def data_inertia(values: NDArray[np.float64], sample_ids: Sequence[str], recipe: Recipe) -> Floats:
    """The same of the data themselves, (n_k,)."""
    scores, order = _scores(values, sample_ids, recipe)
    return _log_inertia(scores, _starts(sample_ids, order, recipe))


def _scores(values: Floats, sample_ids: Sequence[str], recipe: Recipe) -> tuple[Floats, NDArray[np.int64]]:
    order = np.asarray(sorted(range(len(values)), key=lambda i: sample_ids[i]), dtype=np.int64)
    scores, _ = principal_components(values[order], recipe.mixture_components)
    return np.ascontiguousarray(scores[:, ~np.isnan(scores).any(axis=0)]), order


def _starts(sample_ids: Sequence[str], order: NDArray[np.int64], recipe: Recipe) -> list[NDArray[np.int64]]:
    """First centres for every k, (starts, k), the same for the data and all draws."""
    keys = id_keys([sample_ids[i] for i in order])
    return [
        np.stack([ranking(keys, recipe.seed, NULL, STARTS, k, s)[:k] for s in range(NULL_STARTS)]) for k in recipe.k
    ]


def _log_inertia(scores: Floats, starts: list[NDArray[np.int64]]) -> Floats:
    least = np.finfo(np.float64).tiny
    table = np.ascontiguousarray(scores)
    return np.log([max(kmeans_values(table, first)[1], least) for first in starts])
