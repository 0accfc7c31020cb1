"""k-means of samples that are never in memory together: seeding and Lloyd's rounds as passes that leave sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.stratify.draws import id_keys

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]
# Rounds of seeding, and candidates of each for a group: Bahmani et al. 2012 find these enough.
SEED_ROUNDS = 5
OVERSAMPLING = 2
# Lloyd's rounds end where the inertia falls by less than this share.
TOLERANCE = 1e-4
MOST_ROUNDS = 20
BLOCK = 512
# Squared distances below this share of the squared norms are rounding.
NOTHING = 1e-12

# Runs a function of (values, sample ids, common) on blocks that hold every sample once, and gives what it leaves of
# each, in any order of blocks.
Pass = Callable[[Callable[[Floats, Sequence[str], Any], Arrays], Any], Sequence[Arrays]]


@dataclass(frozen=True)
class KMeans:
    """k-means over all samples.

    Attributes
    ----------
    centres : ndarray (k, p)
    inertia : float
        Sum of squared distances to the own centre.
    counts : ndarray of int64 (k,)
    rounds : int
        Lloyd's, until the inertia stood still.
    """

    centres: Floats
    inertia: float
    counts: NDArray[np.int64]
    rounds: int


@dataclass(frozen=True)
class Seeding:
    """What a pass of seeding knows: the centres so far, how many more are wanted, and the names of the draw."""

    centres: Floats
    wanted: int
    seed: int
    round: int


def kmeans(run: Pass, first: Floats, k: int, seed: int) -> KMeans:
    """Seed by k-means|| with weights, then Lloyd's rounds.

    Parameters
    ----------
    run : callable
        One pass over all samples, see `Pass`.
    first : ndarray (p,)
        The first centre: the values of one sample.
    k : int
    seed : int

    Raises
    ------
    DataError
        Fewer than k different samples.

    Notes
    -----
    Method: Bahmani et al. 2012. In each round of seeding candidates are drawn in proportion to their squared distance
    to the nearest centre, here without replacement and a fixed number of them (exponential keys, Efraimidis and
    Spirakis 2006) named by (seed, sample id, round), so that the draw doesn't depend on chunks or order. Candidates
    weigh as many samples as are nearest to them and are grouped by scikit-learn's weighted k-means.
    """
    centres = first[None, :]
    for round_ in range(SEED_ROUNDS):
        parts = run(seeding_pass, Seeding(centres, OVERSAMPLING * k, seed, round_))
        ids = np.concatenate([part["ids"].astype(str) for part in parts])
        keys = np.concatenate([part["keys"] for part in parts])
        best = np.lexsort((ids, keys))[: OVERSAMPLING * k]
        rows = np.concatenate([part["rows"] for part in parts])
        centres = np.concatenate([centres, rows[best]])
    if len(centres) < k:
        raise DataError(f"{len(centres)} different samples can't make k = {k} groups by k-means. Lower k.")
    weights = np.sum([part["counts"] for part in run(nearest_pass, centres)], axis=0)
    centres = _grouped(centres, weights, k, seed)
    before, rounds = np.inf, 0
    while rounds < MOST_ROUNDS:
        rounds += 1
        parts = run(lloyd_pass, centres)
        counts = np.sum([part["counts"] for part in parts], axis=0)
        inertia = float(np.sum([part["inertia"][0] for part in parts]))
        if before - inertia <= TOLERANCE * before and np.isfinite(before):
            break
        sums = np.sum([part["sums"] for part in parts], axis=0)
        # A centre without samples stays where it is.
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
        before = inertia
    parts = run(lloyd_pass, centres)
    counts = np.sum([part["counts"] for part in parts], axis=0)
    return KMeans(centres, float(np.sum([part["inertia"][0] for part in parts])), counts.astype(np.int64), rounds)


def seeding_pass(values: Floats, sample_ids: Sequence[str], common: Seeding) -> Arrays:
    """The samples of a block that come first in a draw in proportion to squared distance."""
    _, distances = nearest_centres(values, common.centres)
    bits = id_keys([f"{common.seed}/{common.round}/{one}" for one in sample_ids])
    uniform = (bits.astype(np.float64) + 0.5) * 2.0**-64
    apart = np.flatnonzero(distances > 0)
    keys = -np.log(uniform[apart]) / distances[apart]
    ids = np.asarray(sample_ids, dtype=str)[apart]
    best = np.lexsort((ids, keys))[: common.wanted]
    return {"keys": keys[best], "rows": values[apart[best]], "ids": ids[best]}


def nearest_pass(values: Floats, _: Sequence[str], centres: Floats) -> Arrays:
    """How many samples of a block are nearest to each centre."""
    labels, _distances = nearest_centres(values, centres)
    return {"counts": np.bincount(labels, minlength=len(centres))}


def lloyd_pass(values: Floats, _: Sequence[str], centres: Floats) -> Arrays:
    """Sums, counts and inertia of a block's samples by nearest centre."""
    labels, distances = nearest_centres(values, centres)
    members = np.zeros((len(centres), len(values)))
    members[labels, np.arange(len(values))] = 1.0
    return {
        "sums": members @ values,
        "counts": np.bincount(labels, minlength=len(centres)),
        "inertia": np.array([distances.sum()]),
    }


def label_pass(values: Floats, _: Sequence[str], centres: Floats) -> Arrays:
    """The nearest centre of each sample of a block."""
    return {"labels": nearest_centres(values, centres)[0].astype(np.int8)}


def nearest_centres(values: Floats, centres: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The nearest centre of each sample (of equals the first), and its squared distance (0 where it is rounding)."""
    labels = np.empty(len(values), dtype=np.int64)
    squared = np.empty(len(values))
    # From the first centre, so that large means don't eat the digits.
    base = centres[0]
    moved = centres - base
    norms = np.einsum("ij,ij->i", moved, moved)
    for start in range(0, len(values), BLOCK):
        rows = values[start : start + BLOCK] - base
        own = np.einsum("ij,ij->i", rows, rows)
        distances = own[:, None] + norms - 2.0 * (rows @ moved.T)
        limit = NOTHING * (own[:, None] + norms)
        distances = np.where(distances <= limit, 0.0, distances)
        least = distances.min(axis=1)
        labels[start : start + BLOCK] = (distances <= (least + limit.max(axis=1))[:, None]).argmax(axis=1)
        squared[start : start + BLOCK] = least
    return labels, squared


def _grouped(candidates: Floats, weights: Floats, k: int, seed: int) -> Floats:
    """Weighted k-means of the candidates, (k, p)."""
    from sklearn.cluster import KMeans as Fit

    kept = weights > 0
    if int(kept.sum()) <= k:
        kept = np.argsort(-weights, kind="stable")[:k]
    table, mass = candidates[kept], np.maximum(np.asarray(weights, dtype=np.float64)[kept], 1.0)
    if len(table) <= k:
        return np.asarray(table)
    fit = Fit(k, n_init=10, random_state=seed % (1 << 32)).fit(table, sample_weight=mass)
    return np.asarray(fit.cluster_centers_, dtype=np.float64)
