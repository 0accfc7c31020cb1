"""What the search for groups finds in Gaussian data without groups that have the covariance of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, chdtri

from sjd_dask.kernels.principal import principal_components
from sjd_dask.kernels.separation import by_kurtosis, least_inertia, least_log_ratio, log_ratio, reined, whitened
from sjd_dask.stratify.draws import NULL, STARTS, id_keys, ranking
from sjd_dask.stratify.recipe import Recipe

Floats = NDArray[np.float64]
# Draws of data without groups: the smallest p-value is 1 / 200.
NULL_DRAWS = 199
# Starts for each k, and passes over the samples from each, in the data and in every draw alike: what is found needn't
# be the best there is, as long as both are looked through in the same way.
NULL_STARTS = 3
NULL_PASSES = 10
# Whitened components at most, and samples to each of them at least.
MOST_COMPONENTS = 30
SAMPLES_PER_COMPONENT = 6
# Groups may lie within the first few of many components, where the others only hide them.
FEW_COMPONENTS = 10
# Samples farther out than this share of Gaussian ones are brought in: one that is far from all makes no groups.
REIN = 0.99

# Samples that a group needs for a look at what lies between it and others.
FEWEST_BESIDE = 5


@dataclass(frozen=True)
class Components:
    """Leading principal components of samples, all that the test of no groups looks at.

    Attributes
    ----------
    vectors : ndarray (n, m)
        Orthonormal, orthogonal to 1; samples in order of their ids.
    spread : ndarray (m,)
        Singular values.
    depths : tuple of int
        How many of them are whitened: each of these.
    starts : tuple of ndarray of int64 (starts, k)
        First centres for every k of the recipe.
    order : ndarray of int64 (n,)
        Places of the samples in the order given.
    """

    vectors: Floats
    spread: Floats
    depths: tuple[int, ...]
    starts: tuple[NDArray[np.int64], ...]
    order: NDArray[np.int64]


def components_of(values: NDArray[np.float64], sample_ids: Sequence[str], recipe: Recipe) -> Components:
    """Components, and what else the data and all draws share.

    Parameters
    ----------
    values : ndarray (n, p)
    sample_ids : sequence of str (n,)
    recipe : Recipe
        `k`, `seed` and `mixture_components` (components that k-means works on) are used.
    """
    n, p = values.shape
    order = np.asarray(sorted(range(n), key=lambda i: sample_ids[i]), dtype=np.int64)
    most = max(recipe.mixture_components, min(MOST_COMPONENTS, max(1, n // SAMPLES_PER_COMPONENT)))
    scores, explained = principal_components(values[order], min(most, max(1, n - 2)))
    scores = scores[:, ~np.isnan(scores).any(axis=0)]
    spread = np.sqrt(np.einsum("ij,ij->j", scores, scores))
    depths: tuple[int, ...] = ()
    if spread.size:
        total = float(spread[0] ** 2 / explained[0])
        deep = min(n_beyond_noise(spread**2, total, n, p), max(1, n // SAMPLES_PER_COMPONENT), MOST_COMPONENTS)
        deep = max(min(2, spread.size), min(deep, spread.size))
        depths = tuple(sorted({deep, min(deep, FEW_COMPONENTS)}))
        width = max(deep, min(recipe.mixture_components, spread.size))
        scores, spread = scores[:, :width], spread[:width]
    keys = id_keys([sample_ids[i] for i in order])
    starts = tuple(
        np.stack([ranking(keys, recipe.seed, NULL, STARTS, k, s)[:k] for s in range(NULL_STARTS)]) for k in recipe.k
    )
    return Components(scores / np.where(spread > 0, spread, 1.0), spread, depths, starts, order)


def n_beyond_noise(squares: Floats, total: float, n: int, p: int) -> int:
    """How many leading components have more variance than independent noise would give any.

    Parameters
    ----------
    squares : ndarray (m,)
        Squared singular values of the centred data (n, p), the largest first; all of them or the leading ones.
    total : float
        Sum of all of them.

    Notes
    -----
    Noise of variance s^2 in what is left after r components, (n - 1 - r) x (p - r), has no squared singular value
    above s^2 (sqrt(n - 1 - r) + sqrt(p - r))^2 (Marchenko and Pastur 1967); s^2 is the mean of what is left. From r = 0
    upwards until r is the number above. Where the noise isn't independent, too many are counted: the caller caps them.
    """
    found = 0
    while found < min(len(squares), n - 2, p - 1):
        rows, columns = n - 1 - found, p - found
        noise = (total - float(squares[:found].sum())) / (rows * columns)
        above = int(np.count_nonzero(squares > noise * (np.sqrt(rows) + np.sqrt(columns)) ** 2))
        if above <= found:
            break
        found = above
    return found


def null_statistics(
    values: NDArray[np.float64],
    sample_ids: Sequence[str],
    recipe: Recipe,
    start: int = 0,
    stop: int = NULL_DRAWS,
    base: Components | None = None,
) -> Floats:
    """How far apart groups are that are found in draws without groups.

    Parameters
    ----------
    values : ndarray (n, p)
    sample_ids : sequence of str (n,)
    recipe : Recipe
        See `components_of`.
    start, stop : int
        Draws, from 0.
    base : Components, optional
        `components_of` the same, where it is there already.

    Returns
    -------
    ndarray (stop - start, n_k x (1 + n_depths))
        For every k the log of the share of inertia that k-means leaves on the leading components, then for each depth
        and every k the log of det(W) / det(T) (groups within, total) of groups of as many whitened components.

    Notes
    -----
    With X = U S V' the centred data, a draw is Q S V' with Q a random orthonormal matrix orthogonal to 1. For
    independent Gaussian samples of any covariance U is distributed as Q is, independently of S and V, so the data and
    the draws are exchangeable where there are no groups, and ranks among them are exact p-values whatever is computed
    of U and S. (Draws of a Gaussian with the sample covariance would not be: their own covariance spreads more than
    that of the data.) The determinants don't change with the scale of any direction, so they find groups that lie
    beside continuous factors of far more variance, and far samples are brought in before. Inertia looks where most
    variance is; it is for the gap that is shown, and takes no part in the test: one sample far from all others, or
    tails heavier than Gaussian, would pass for groups.
    """
    base = components_of(values, sample_ids, recipe) if base is None else base
    out = np.empty((stop - start, len(recipe.k) * (1 + len(base.depths))))
    for at, draw in enumerate(range(start, stop)):
        bits = np.random.Philox(key=[recipe.seed & 0xFFFF_FFFF_FFFF_FFFF, (NULL << 32) + draw])
        normal = np.random.Generator(bits).standard_normal(base.vectors.shape)
        turned, _ = np.linalg.qr(normal - normal.mean(axis=0))
        out[at] = _statistics(turned, base, recipe)
    return out


def data_statistics(base: Components, recipe: Recipe) -> Floats:
    """The same of the data themselves, (n_k x (1 + n_depths),)."""
    return _statistics(base.vectors, base, recipe)


def group_separation(base: Components, labellings: Sequence[NDArray[np.int64]]) -> Floats:
    """log det(W) / det(T) of given groups for each depth, (n_labellings, n_depths).

    Parameters
    ----------
    base : Components
    labellings : sequence of ndarray of int64 (n,)
        Groups from 0, samples in the order given to `components_of`.
    """
    tables = [_whitened(base.vectors, depth) for depth in base.depths]
    return np.array([[log_ratio(table, one[base.order]) for table in tables] for one in labellings])


def valley(base: Components, groups: NDArray[np.int64]) -> float:
    """P-value for no valley: that the samples nowhere get fewer between a group and the nearest other.

    Parameters
    ----------
    base : Components
    groups : ndarray of int64 (n,)
        From 0, samples in the order given to `components_of`.

    Returns
    -------
    float
        1 where no two groups have `FEWEST_BESIDE` samples.

    Notes
    -----
    Samples of two neighbours are projected on the direction that tells them apart best (Fisher's). Where one hill
    covers both, the density half-way is no less than the smaller one at the two medians, so of the samples within an
    eighth of the way from the middle and from the poorer median at least half are expected in the middle: a binomial
    test for each pair of neighbours, the smallest p-value times their number. Neither a skewed continuum nor heavy
    tails have a valley, and a Gaussian test rejects both; groups that overlap much have none either.
    """
    if not base.depths:
        return 1.0
    table = _whitened(base.vectors, base.depths[-1])
    labels = groups[base.order]
    counts = np.bincount(labels)
    large = np.flatnonzero(counts >= FEWEST_BESIDE)
    if len(large) < 2:
        return 1.0
    centres = np.stack([table[labels == g].mean(axis=0) for g in large])
    within = np.eye(table.shape[1]) - (centres.T * (counts[large] / len(table))) @ centres
    metric = np.linalg.pinv(within, hermitian=True)
    apart = centres[:, None] - centres
    distances = np.einsum("abi,ij,abj->ab", apart, metric, apart)
    np.fill_diagonal(distances, np.inf)
    pairs = {tuple(sorted((a, int(b)))) for a, b in enumerate(distances.argmin(axis=1))}
    values = []
    for a, b in sorted(pairs):
        line = table @ (metric @ apart[b, a])
        first, second = line[labels == large[a]], line[labels == large[b]]
        low, high = float(np.median(first)), float(np.median(second))
        both, reach = np.concatenate([first, second]), abs(high - low) / 8
        middle, *ends = (int(np.count_nonzero(np.abs(both - at) <= reach)) for at in ((low + high) / 2, low, high))
        values.append(float(bdtr(middle, middle + min(ends), 0.5)))
    return min(1.0, len(values) * min(values))


def _statistics(vectors: Floats, base: Components, recipe: Recipe) -> Floats:
    if not base.spread.size:
        return np.zeros(len(recipe.k))
    width = min(recipe.mixture_components, base.spread.size)
    scores = np.ascontiguousarray(vectors[:, :width] * base.spread[:width])
    found = [np.log(max(least_inertia(scores, first, NULL_PASSES), np.finfo(np.float64).tiny)) for first in base.starts]
    for depth in base.depths:
        table = by_kurtosis(_whitened(vectors, depth))
        found += [least_log_ratio(table, first, NULL_PASSES)[0] for first in base.starts]
    return np.asarray(found)


def _whitened(vectors: Floats, depth: int) -> Floats:
    return whitened(reined(vectors[:, :depth], _radius(depth)))


def _radius(width: int) -> float:
    """Of a ball that holds the share `REIN` of Gaussian samples."""
    return float(np.sqrt(chdtri(width, 1.0 - REIN)))
