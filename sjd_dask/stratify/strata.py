"""Final groups of a chosen k: names that stay, a robust core, and soft memberships for everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.stratify.consensus import consensus_groups, consensus_matrix
from sjd_dask.stratify.distances import silhouette_widths
from sjd_dask.stratify.recipe import Recipe, check_values

# A sample is core where all algorithms agree on its group and its mean consensus with the group is at least this.
CORE_CONSENSUS = 0.8
# A sample is ambiguous where its two largest memberships are closer than this.
AMBIGUOUS_MARGIN = 0.2


@dataclass(frozen=True)
class Strata:
    """Groups of samples.

    Attributes
    ----------
    table : DataFrame
        A row for each sample in the order given: ``sample_id``, ``stratum`` ("C1"...), ``core`` (bool), ``consensus``
        (mean consensus with the own group, 0..1), ``silhouette`` (in the distance of the recipe; NaN for one group),
        ``membership_C1``... (sum to 1).
    ambiguous : ndarray of bool (n,)
        The two largest memberships are closer than `AMBIGUOUS_MARGIN`.
    matrix : ndarray of float32 (n, n)
        Mean consensus of the algorithms, in the order given.
    by_algorithm : DataFrame
        Index sample_id; the group of each algorithm, in the names of the strata.
    matched : dict of str to int
        Samples that a group shares with the previous version's group of the same name; empty without one.
    """

    table: pd.DataFrame
    ambiguous: NDArray[np.bool_]
    matrix: NDArray[np.float32]
    by_algorithm: pd.DataFrame
    matched: dict[str, int]


def strata(
    values: NDArray[np.float64],
    sample_ids: Sequence[str],
    recipe: Recipe,
    labels: NDArray[np.int8],
    k: int,
    previous: Mapping[str, str] | None = None,
) -> Strata:
    """Groups of the chosen k by consensus over resamples and algorithms.

    Parameters
    ----------
    values : ndarray (n, p)
    sample_ids : sequence of str (n,)
    recipe : Recipe
    labels : ndarray of int8 (R, n_algorithms, n_k, n)
        All rounds of `resample_labels`.
    k : int
        One of ``recipe.k``, or 1: then all samples are C1 and the matrix is 1.
    previous : mapping of sample id to stratum, optional
        Labels of an earlier version. Groups take the names of the earlier groups that they share most samples with
        (one to one, most samples in all: Hungarian method); a group without a counterpart gets the next free number.

    Notes
    -----
    Without `previous` groups are named C1..Ck by size, of equal size by smallest sample id. A membership is the mean
    consensus of the sample with a group (not counting itself), divided by the sum over groups. Columns of memberships
    are in order of the numbers of the groups.
    """
    check_values(values, sample_ids, recipe)
    n = len(sample_ids)
    if k != 1 and k not in recipe.k:
        raise SpecError(f"k = {k} is not among the k that were tried, {list(recipe.k)}, nor 1.")
    # In one order for all callers, so that sums and ties fall the same way whatever the order of the samples.
    order = np.asarray(sorted(range(n), key=lambda i: sample_ids[i]), dtype=np.int64)
    ids = [sample_ids[i] for i in order]
    if k == 1:
        matrix = np.ones((n, n), dtype=np.float32)
        groups = np.zeros(n, dtype=np.int64)
        separate = np.zeros((len(recipe.algorithms), n), dtype=np.int64)
        widths = np.full(n, np.nan)
    else:
        chosen = np.ascontiguousarray(labels[:, :, recipe.k.index(k)][:, :, order])
        matrix, separate = _over_algorithms(chosen, k)
        groups = consensus_groups(matrix, k)
        (widths,) = silhouette_widths(np.ascontiguousarray(values[order]), [groups], recipe.distance)
    means = mean_with_groups(matrix, groups, k)
    back = np.argsort(order)
    table, ambiguous, by_algorithm, matched = strata_table(
        ids, recipe.algorithms, groups, separate, means, widths, previous
    )
    return Strata(
        table.iloc[back].reset_index(drop=True),
        ambiguous[back],
        matrix[np.ix_(back, back)] if not np.array_equal(back, np.arange(n)) else matrix,
        by_algorithm.iloc[back],
        matched,
    )


def strata_table(
    sample_ids: Sequence[str],
    algorithms: Sequence[str],
    groups: NDArray[np.int64],
    separate: NDArray[np.int64],
    means: NDArray[np.float64],
    widths: NDArray[np.float64],
    previous: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, NDArray[np.bool_], pd.DataFrame, dict[str, int]]:
    """Name groups, and say how sure each sample's is.

    Parameters
    ----------
    sample_ids : sequence of str (n,)
        In order: of groups of equal size the one of the first sample is named first.
    algorithms : sequence of str
    groups : ndarray of int64 (n,)
        From 0.
    separate : ndarray of int64 (n_algorithms, n)
        Groups of each algorithm, in its own numbers.
    means : ndarray (n, k)
        Mean consensus of each sample with each group, itself not counted.
    widths : ndarray (n,)
        Silhouettes.
    previous : mapping of sample id to stratum, optional

    Returns
    -------
    table, ambiguous, by_algorithm, matched
        See `Strata`.
    """
    n, k = means.shape
    rank = _by_size(groups, k)
    groups, means = rank[groups], means[:, np.argsort(rank)]
    separate = np.stack([_as(groups, one, k) for one in separate])
    titles, matched = _titles(groups, sample_ids, k, previous)
    own = means[np.arange(n), groups]
    totals = means.sum(axis=1)
    shares = means / np.where(totals > 0, totals, 1.0)[:, None]
    shares[totals == 0, groups[totals == 0]] = 1.0
    top = np.sort(shares, axis=1)
    margin = top[:, -1] - top[:, -2] if k > 1 else np.ones(n)
    agreed = (separate == groups).all(axis=0)
    named = np.array(titles, dtype=object)
    table = pd.DataFrame(
        {
            names.SAMPLE_ID: list(sample_ids),
            "stratum": named[groups],
            "core": agreed & (own >= CORE_CONSENSUS),
            "consensus": own,
            "silhouette": widths,
            **{f"membership_{titles[g]}": shares[:, g] for g in sorted(range(k), key=lambda g: _number(titles[g]))},
        }
    )
    by_algorithm = pd.DataFrame(
        {name: named[one] for name, one in zip(algorithms, separate, strict=True)},
        index=pd.Index(sample_ids, name=names.SAMPLE_ID),
    )
    return table, margin < AMBIGUOUS_MARGIN, by_algorithm, matched


def _over_algorithms(labels: NDArray[np.int8], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Mean consensus of the algorithms, and the groups of each, (n_algorithms, n)."""
    total: NDArray[np.float32] | None = None
    separate = []
    for a in range(labels.shape[1]):
        matrix = consensus_matrix(labels[:, a])
        separate.append(consensus_groups(matrix, k))
        if total is None:
            total = matrix
        else:
            total += matrix
    assert total is not None
    total /= np.float32(labels.shape[1])
    return total, np.stack(separate)


def _by_size(groups: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The rank of each group by size, of equal size by first sample (samples are sorted by id), (k,)."""
    counts = np.bincount(groups, minlength=k)
    first = np.full(k, len(groups), dtype=np.int64)
    np.minimum.at(first, groups, np.arange(len(groups)))
    rank = np.empty(k, dtype=np.int64)
    rank[np.lexsort((first, -counts))] = np.arange(k)
    return rank


def _as(groups: NDArray[np.int64], other: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The groups of another clustering in the numbers of the groups that they share most samples with."""
    shared = np.zeros((k, k), dtype=np.int64)
    np.add.at(shared, (other, groups), 1)
    rows, columns = linear_sum_assignment(-shared)
    return np.asarray(columns[np.argsort(rows)][other])


def _titles(
    groups: NDArray[np.int64], ids: Sequence[str], k: int, previous: Mapping[str, str] | None
) -> tuple[list[str], dict[str, int]]:
    if not previous:
        return [f"C{g + 1}" for g in range(k)], {}
    earlier = sorted({str(name) for name in previous.values()}, key=lambda name: (_number(name), name))
    place = {name: i for i, name in enumerate(earlier)}
    shared = np.zeros((k, len(earlier)), dtype=np.int64)
    for group, sample in zip(groups, ids, strict=True):
        if sample in previous:
            shared[group, place[str(previous[sample])]] += 1
    titles = [""] * k
    matched: dict[str, int] = {}
    for group, column in zip(*linear_sum_assignment(-shared), strict=True):
        if shared[group, column] > 0:
            titles[group] = earlier[column]
            matched[earlier[column]] = int(shared[group, column])
    number = max(_number(name) for name in earlier)
    for group in range(k):
        if not titles[group]:
            number += 1
            titles[group] = f"C{number}"
    return titles, matched


def _number(title: str) -> int:
    digits = title.removeprefix("C")
    return int(digits) if digits.isdigit() else 0


def mean_with_groups(matrix: NDArray[np.float32], groups: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Mean consensus of each sample with each group, itself not counted, (n, k); 1 alone in its group."""
    n = len(groups)
    every = np.arange(n)
    counts = np.bincount(groups, minlength=k).astype(np.float64)
    # float64 sums of columns, group by group: no copy of the matrix.
    sums = np.stack([matrix[:, groups == g].sum(axis=1, dtype=np.float64) for g in range(k)], axis=1)
    sums[every, groups] -= 1.0  # itself
    members = np.broadcast_to(counts, (n, k)).copy()
    members[every, groups] -= 1.0
    means = np.where(members > 0, sums / np.maximum(members, 1.0), 0.0)
    means[every, groups] = np.where(members[every, groups] > 0, means[every, groups], 1.0)
    return means
