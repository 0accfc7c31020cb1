"""Final groups of several assays, and which assay supports which group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sjd_dask.stratify.agreement import adjusted_rand_index
from sjd_dask.stratify.assays import JointDistances, Voice, assay_consensus, pooled_consensus
from sjd_dask.stratify.consensus import consensus_groups
from sjd_dask.stratify.distances import silhouette_widths
from sjd_dask.stratify.draws import id_keys, ranking
from sjd_dask.stratify.fusion import AssayTable, Floats
from sjd_dask.stratify.strata import Strata, mean_with_groups, strata_table

# Permutations of samples behind a p-value of support.
PERMUTATIONS = 199
PERMUTED = 5


@dataclass(frozen=True)
class Support:
    """What one assay says of the groups.

    Attributes
    ----------
    table : DataFrame
        A row for each group: ``assay``, ``group`` (number), ``n_samples`` of the group in the assay, ``silhouette``
        (mean of the assay alone), ``positive`` (share of samples nearer to their own group than to another),
        ``consensus`` (mean with the own group over the resamples of this assay), ``consensus_other`` (with the next
        best group), ``jaccard`` (with the assay's own group that overlaps most), ``held_out_silhouette`` and
        ``p_value`` (of the group as the other assays make it), ``supports``.
    own_ari : float
        Adjusted Rand index of the groups that the assay makes alone with the groups of all.
    ari_without : float
        The same of the groups that the other assays make.
    """

    table: pd.DataFrame
    own_ari: float
    ari_without: float


def assay_strata(
    voices: Sequence[Voice],
    algorithms: Sequence[str],
    assays: Sequence[AssayTable],
    sample_ids: Sequence[str],
    k: int,
    distance: str,
    previous: Mapping[str, str] | None = None,
) -> tuple[Strata, NDArray[np.int64]]:
    """Groups of the chosen k over several assays; see `sjd_dask.stratify.strata.strata`.

    Parameters
    ----------
    voices : sequence of Voice
        Of this k (of any, where k is 1).
    algorithms : sequence of str
    assays : sequence of AssayTable
        Those whose distances make the silhouettes.
    sample_ids : sequence of str (n,)
        Sorted.
    k : int
    distance : str
        Of the silhouettes, over all assays.
    previous : mapping of sample id to stratum, optional

    Returns
    -------
    strata : Strata
    groups : ndarray of int64 (n,)
        The same as numbers, from 0.
    """
    n = len(sample_ids)
    if k == 1:
        matrix = np.ones((n, n), dtype=np.float32)
        groups = np.zeros(n, dtype=np.int64)
        separate = np.zeros((len(algorithms), n), dtype=np.int64)
        widths = np.full(n, np.nan)
    else:
        matrix, _ = pooled_consensus(voices, n)
        groups = consensus_groups(matrix, k)
        heard = sorted({a for one in voices for a in one.algorithms})
        algorithms = [algorithms[a] for a in heard]
        separate = np.stack([_alone(voices, a, groups, k) for a in heard])
        (widths,) = JointDistances(assays, n, distance).silhouettes(groups[None])
    means = mean_with_groups(matrix, groups, k)
    table, ambiguous, by_algorithm, matched = strata_table(
        sample_ids, algorithms, groups, separate, means, widths, previous
    )
    return Strata(table, ambiguous, matrix, by_algorithm, matched), groups


def _alone(voices: Sequence[Voice], a: int, groups: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Groups of one algorithm by the assays where it counts; of a sample that none of them has, those of all."""
    voices = [one for one in voices if a in one.algorithms]
    there = np.unique(np.concatenate([one.rows for one in voices]))
    placed = [Voice(np.searchsorted(there, one.rows), one.labels, (a,)) for one in voices]
    own = consensus_groups(pooled_consensus(placed, len(there))[0], k)
    out = groups.copy()
    shared = np.zeros((k, k), dtype=np.int64)
    np.add.at(shared, (own, groups[there]), 1)
    out[there] = linear_sum_assignment(-shared)[1][own]
    return out


def assay_support(
    assay: AssayTable,
    voice: Voice,
    groups: NDArray[np.int64],
    others: NDArray[np.int64],
    sample_ids: Sequence[str],
    distance: str,
    seed: int,
) -> Support:
    """What one assay says of groups that several made.

    Parameters
    ----------
    assay : AssayTable
    voice : Voice
        Resamples of this assay alone, of the chosen k.
    groups : ndarray of int64 (n,)
        Final groups, from 0.
    others : ndarray of int64 (n,)
        Groups that the other assays make; negative: the sample is in none of them.
    sample_ids : sequence of str (n,)
    distance : str
    seed : int

    Notes
    -----
    The groups were made of this assay too, so its silhouette for them flatters it. The held-out figures don't: they are
    of the groups that the other assays make, in the values of this one, against permutations of the samples. An assay
    supports a group where its resamples put the group's samples rather with each other than with any other group, and
    most of them lie nearer to it in its values, by a silhouette that is positive in the mean.
    """
    k = int(groups.max()) + 1
    own = groups[assay.rows]
    matrix, _ = assay_consensus(voice.labels, voice.algorithms)
    alone = consensus_groups(matrix, k)
    (widths,) = silhouette_widths(assay.values, [own], distance)
    held, p_values = _held_out(assay, groups, others, sample_ids, distance, seed)
    inside = own[:, None] == np.arange(k)
    cross = np.zeros((k, k))
    np.add.at(cross, (own, alone), 1.0)
    union = cross.sum(axis=1)[:, None] + cross.sum(axis=0) - cross
    jaccard = (cross / np.maximum(union, 1.0)).max(axis=1)
    rows = []
    for g in range(k):
        members = inside[:, g]
        n = int(members.sum())
        nearer = float((widths[members] > 0).mean()) if n else np.nan
        within, between = _company(matrix, own, g, k)
        silhouette = float(widths[members].mean()) if n else np.nan
        rows.append(
            {
                "assay": assay.name,
                "group": g,
                "n_samples": n,
                "silhouette": silhouette,
                "positive": nearer,
                "consensus": within,
                "consensus_other": between,
                "jaccard": float(jaccard[g]) if n else np.nan,
                "held_out_silhouette": held[g],
                "p_value": p_values[g],
                "supports": bool(within > between and silhouette > 0 and nearer > 0.5),
            }
        )
    known = others >= 0
    return Support(
        pd.DataFrame(rows),
        adjusted_rand_index(list(own), list(alone)),
        adjusted_rand_index(list(groups[known]), list(others[known])) if known.any() else np.nan,
    )


def _company(matrix: NDArray[np.float32], own: NDArray[np.int64], g: int, k: int) -> tuple[float, float]:
    """Mean consensus of the members of a group with each other, and with the group that is next."""
    members = own == g
    n = int(members.sum())
    block = matrix[members]
    within = np.nan if n < 2 else float((block[:, members].sum(dtype=np.float64) - n) / (n * (n - 1)))
    means = [float(block[:, own == h].mean(dtype=np.float64)) for h in range(k) if h != g and n and (own == h).any()]
    return within, max(means, default=np.nan)


def _held_out(
    assay: AssayTable,
    groups: NDArray[np.int64],
    others: NDArray[np.int64],
    sample_ids: Sequence[str],
    distance: str,
    seed: int,
) -> tuple[Floats, Floats]:
    """Silhouette in this assay of the groups that the others make, and how often a permutation has as much."""
    k = int(groups.max()) + 1
    rows = assay.rows[others[assay.rows] >= 0]
    known = others >= 0
    if k < 2 or len(rows) < 3 or len(np.unique(others[rows])) < 2:
        return np.full(k, np.nan), np.full(k, np.nan)
    # In the numbers of the final groups, by the samples they share.
    size = max(k, int(others.max()) + 1)
    shared = np.zeros((size, size), dtype=np.int64)
    np.add.at(shared, (others[known], groups[known]), 1)
    _, columns = linear_sum_assignment(-shared)
    labels = columns[others[rows]]
    keys = id_keys([sample_ids[i] for i in rows])
    values = assay.values[np.isin(assay.rows, rows)]
    permuted = [labels[ranking(keys, seed, PERMUTED, i)] for i in range(PERMUTATIONS)]
    widths = np.stack(silhouette_widths(values, [labels, *permuted], distance))
    every = np.stack([labels, *permuted])
    found, p_values = np.full(k, np.nan), np.full(k, np.nan)
    for g in range(k):
        members = every == g
        if members[0].any():
            means = np.where(members, widths, 0.0).sum(axis=1) / members.sum(axis=1)
            found[g] = means[0]
            p_values[g] = float(np.mean(means >= means[0]))
    return found, p_values
