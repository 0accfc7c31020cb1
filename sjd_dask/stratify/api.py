"""Groups of the samples of a DataArray: the job's mathematics in a notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.stratify.choose import Choice, Judged, choose_k, judge_rounds
from sjd_dask.stratify.null import NULL_DRAWS, null_statistics
from sjd_dask.stratify.recipe import ALGORITHMS, Recipe
from sjd_dask.stratify.resampling import Resampling
from sjd_dask.stratify.strata import Strata, strata

if TYPE_CHECKING:
    import xarray as xr

# Pieces of work for each thread: the last ones end at about the same time.
PIECES = 4


@dataclass(frozen=True)
class Grouping:
    """What `find_groups` gives back: the groups, the choice of k with its reason, and the recipe."""

    strata: Strata
    choice: Choice
    recipe: Recipe


def find_groups(
    data: xr.DataArray,
    *,
    algorithms: Sequence[str] = ALGORITHMS,
    distance: str = "pearson",
    linkage: str = "average",
    k: tuple[int, int] = (1, 6),
    choose: str | int = "auto",
    resamples: int = 500,
    sample_fraction: float = 0.8,
    feature_fraction: float = 1.0,
    seed: int = 1,
    previous: Mapping[str, str] | None = None,
    threads: int | None = None,
) -> Grouping:
    """Consensus clustering of samples, and whether there are groups at all.

    Parameters
    ----------
    data : DataArray, dims (samples, features)
        With a coordinate ``sample_id`` along the samples. Loaded, in memory: choose features first.
    algorithms, distance, linkage, resamples, sample_fraction, feature_fraction, seed
        See `Recipe`.
    k : tuple of int
        Smallest and largest number of groups to try, inclusive; 1 is always judged.
    choose : "auto" or int
        `choose_k`, or the number of groups.
    previous : mapping of sample id to stratum, optional
        Labels whose names the groups keep.
    threads : int, optional
        How many work at the same time; default one for each processor. The result doesn't depend on it.

    Returns
    -------
    Grouping

    Raises
    ------
    SpecError, DataError
        See `Recipe`, `check_values` and `choose_k`.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> random = np.random.default_rng(0)
    >>> values = random.normal(size=(60, 40)) + np.repeat(random.normal(size=(2, 40)), 30, axis=0)
    >>> ids = [f"s{i:02}" for i in range(60)]
    >>> data = xr.DataArray(values, dims=("samples", "features"), coords={"sample_id": ("samples", ids)})
    >>> found = find_groups(data, algorithms=["hierarchical"], k=(1, 3), resamples=50)
    >>> found.choice.k
    2
    """
    if set(data.dims) != {names.SAMPLES, names.FEATURES}:
        raise DataError(f"the data have dims {tuple(data.dims)}; they must be ({names.SAMPLES}, {names.FEATURES}).")
    if names.SAMPLE_ID not in data.coords:
        raise DataError(f"the data have no coordinate {names.SAMPLE_ID!r}: draws are keyed by it. Assign it.")
    if choose != "auto" and not isinstance(choose, int):
        raise SpecError(f"choose is {choose!r}; it must be 'auto' or a number of groups.")
    lowest, highest = k
    if lowest < 1 or highest < lowest:
        raise SpecError(f"k is [{lowest}, {highest}]; it must be a smallest and a largest number of groups, from 1.")
    sizes = range(max(2, lowest), max(2, highest) + 1)
    recipe = Recipe(
        tuple(algorithms), distance, linkage, tuple(sizes), resamples, sample_fraction, feature_fraction, seed=seed
    )
    data = data.transpose(names.SAMPLES, names.FEATURES)
    values = np.ascontiguousarray(data.values, dtype=np.float64)
    ids = [str(name) for name in data[names.SAMPLE_ID].values]
    if threads is not None and threads < 1:
        raise SpecError(f"threads is {threads}; it must be at least 1.")
    resampling = Resampling(values, ids, recipe)
    # One BLAS thread for each of ours: more would wait for each other, and sum in another order.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads or _processors()) as pool:
        resampling.prepare()
        rounds = [pool.submit(resampling.labels, *one) for one in _pieces(recipe.resamples, threads)]
        draws = [pool.submit(null_statistics, values, ids, recipe, *one) for one in _pieces(NULL_DRAWS, threads)]
        labels = np.concatenate([one.result() for one in rounds])
        null = np.concatenate([one.result() for one in draws])
        in_order = labels[..., np.argsort(np.asarray(ids, dtype=object), kind="stable")]

        def judge(wanted: Sequence[tuple[tuple[int, ...], int]]) -> list[Judged]:
            return list(pool.map(lambda one: judge_rounds(in_order[:, list(one[0]), one[1]], recipe.k[one[1]]), wanted))

        choice = choose_k(values, ids, recipe, labels, null, None if choose == "auto" else int(choose), judge)
        return Grouping(strata(values, ids, *choice.trusted(recipe, labels), choice.k, previous), choice, recipe)


def _processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pieces(total: int, threads: int | None) -> list[tuple[int, int]]:
    """Ranges of rounds or draws for the threads."""
    width = -(-total // (PIECES * (threads or _processors())))
    return [(start, min(total, start + width)) for start in range(0, total, width)]
