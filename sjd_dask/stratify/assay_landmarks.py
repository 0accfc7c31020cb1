"""Samples placed among the groups that landmarks made of several assays, at a cost linear in the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.stratify.fusion import AssayTable, Floats, Fusion
from sjd_dask.stratify.landmarks import DECIMALS
from sjd_dask.stratify.placing import at_distance, sample_table
from sjd_dask.stratify.strata import AMBIGUOUS_MARGIN, CORE_CONSENSUS

# Samples that are placed at a time.
BLOCK = 512


@dataclass(frozen=True)
class Neighbourhood:
    """Landmarks of one assay, and what each has to hand on to its neighbours.

    Parameters
    ----------
    values : ndarray (m, p)
    sample_ids : tuple of str (m,)
    distance : str
    fusion : Fusion
        Its neighbours and kernel width are used.
    handed : ndarray (m, c)
        What a sample takes from the landmarks it is near to: a weighted mean of these.
    groups : ndarray of int64 (m,)
        Groups of the chosen k, from 0.
    k : int
    """

    values: Floats
    sample_ids: tuple[str, ...]
    distance: str
    fusion: Fusion
    handed: Floats
    groups: NDArray[np.int64]
    k: int

    def place(self, values: Floats, sample_ids: Sequence[str]) -> tuple[Floats, Floats]:
        """What samples take from the landmarks, and their distances to the groups.

        Parameters
        ----------
        values : ndarray (n, p)
        sample_ids : sequence of str (n,)
            A landmark among them doesn't count as its own neighbour.

        Returns
        -------
        taken : ndarray (n, c)
        sums : ndarray (n, 2 k)
            Sums of the distances to the landmarks of each group, divided by the mean distance of landmarks, and how
            many there are.

        Notes
        -----
        Weights are the similarities of `sjd_dask.stratify.fusion.similarity` to the nearest landmarks, to sum 1 within
        the assay, so that assays can be averaged (NEMO; Rappoport and Shamir 2019).
        """
        table = sample_table(self.values, self.distance)
        between = at_distance(table, table, self.distance)
        m = len(table)
        size = min(self.fusion.neighbours, m - 1)
        near = np.sort(between, axis=1)[:, 1 : size + 1].mean(axis=1)
        unit = between.sum() / max(1, m * (m - 1))
        members = (self.groups[:, None] == np.arange(self.k)).astype(np.float64)
        own = {name: i for i, name in enumerate(self.sample_ids)}
        taken = np.empty((len(values), self.handed.shape[1]))
        sums = np.empty((len(values), 2 * self.k))
        least = np.finfo(np.float64).tiny
        for start in range(0, len(values), BLOCK):
            block = slice(start, min(len(values), start + BLOCK))
            away = at_distance(sample_table(values[block], self.distance), table, self.distance)
            there = np.ones_like(away)
            for i, name in enumerate(sample_ids[block]):
                if name in own:
                    there[i, own[name]] = 0.0
            sums[block, : self.k] = (away * there) @ members / max(unit, least)
            sums[block, self.k :] = there @ members
            away = np.where(there > 0, away, np.inf)
            nearest = np.argpartition(away, size - 1, axis=1)[:, :size]
            d = np.take_along_axis(away, nearest, axis=1)
            scale = self.fusion.width * np.maximum((d.mean(axis=1)[:, None] + near[nearest] + d) / 3.0, least)
            # The nearest has weight 1 before scaling: far from all landmarks no sample is without a place.
            power = -0.5 * (d / scale) ** 2 - np.log(scale)
            weights = np.exp(power - power.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            taken[block] = np.einsum("ij,ijc->ic", weights, self.handed[nearest])
        return np.round(taken, DECIMALS) + 0.0, np.round(sums, DECIMALS) + 0.0


def handed_on(groups_of: Mapping[int, NDArray[np.int64]], memberships: Floats, means: Floats) -> Floats:
    """What landmarks hand on: their groups at every k (one column a group), then of the chosen k memberships and mean
    consensus with each group, (m, sum of k + 2 k)."""
    parts = [(groups[:, None] == np.arange(k)).astype(np.float64) for k, groups in groups_of.items()]
    return np.hstack([*parts, memberships, means])


@dataclass(frozen=True)
class Everybody:
    """All samples among the groups of the landmarks.

    Attributes
    ----------
    table : DataFrame
        As `Strata.table`, with ``ambiguous``; in the order of the samples.
    labels : dict of k to ndarray of int64 (n,)
        Groups at every k that was tried.
    placed : ndarray of int64 (m,)
        Groups that the landmarks themselves would get from their neighbours.
    """

    table: pd.DataFrame
    labels: dict[int, NDArray[np.int64]]
    placed: NDArray[np.int64]


def place_everybody(
    sample_ids: Sequence[str],
    landmarks: pd.DataFrame,
    titles: Sequence[str],
    groups_of: Mapping[int, NDArray[np.int64]],
    assays: Sequence[tuple[NDArray[np.int64], Floats, Floats]],
) -> Everybody:
    """Join what the assays say of every sample.

    Parameters
    ----------
    sample_ids : sequence of str (n,)
    landmarks : DataFrame
        Their own rows, index sample id: `Strata.table` with ``ambiguous``.
    titles : sequence of str (k,)
        Names of the groups of the chosen k.
    groups_of : mapping of k to ndarray of int64 (m,)
        Groups of the landmarks for every k, in their order.
    assays : sequence of (rows, taken, sums)
        Places of the samples that the assay has, and `Neighbourhood.place` of them.

    Notes
    -----
    A sample takes the mean over its assays. Landmarks keep what the resamples say of them.
    """
    n, k = len(sample_ids), len(titles)
    width = assays[0][1].shape[1]
    total, count = np.zeros((n, width)), np.zeros(n)
    distances, numbers = np.zeros((n, k)), np.zeros((n, k))
    at = width - 2 * k
    votes = np.full((len(assays), n), -1, dtype=np.int64)
    for a, (rows, taken, sums) in enumerate(assays):
        total[rows] += taken
        count[rows] += 1
        distances[rows] += sums[:, :k]
        numbers[rows] += sums[:, k:]
        votes[a, rows] = taken[:, at : at + k].argmax(axis=1)
    mean = total / np.maximum(count, 1.0)[:, None]
    shares, company = mean[:, at : at + k], mean[:, at + k :]
    shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    group, every = shares.argmax(axis=1), np.arange(n)
    own = company[every, group]
    agreed = ((votes == group) | (votes < 0)).all(axis=0)
    top = np.sort(shares, axis=1)
    far = np.where(numbers > 0, distances / np.maximum(numbers, 1.0), np.inf)
    inside = far[every, group].copy()
    far[every, group] = np.inf
    outside = far.min(axis=1)
    usable = np.isfinite(inside) & np.isfinite(outside) & (np.maximum(inside, outside) > 0)
    widths = np.where(usable, outside - inside, 0.0) / np.where(usable, np.maximum(inside, outside), 1.0)
    named = np.array(titles, dtype=object)
    table = pd.DataFrame(
        {
            names.SAMPLE_ID: list(sample_ids),
            "stratum": named[group],
            "core": agreed & (own >= CORE_CONSENSUS),
            "consensus": own,
            "silhouette": np.where(usable, widths, np.nan),
            **{
                f"membership_{titles[g]}": shares[:, g]
                for g in sorted(range(k), key=lambda g: (len(titles[g]), titles[g]))
            },
            "ambiguous": (top[:, -1] - top[:, -2] < AMBIGUOUS_MARGIN) if k > 1 else np.zeros(n, dtype=bool),
        },
        index=pd.Index(list(sample_ids)),
    )
    place = {name: i for i, name in enumerate(sample_ids)}
    where = np.array([place[name] for name in landmarks.index], dtype=np.int64)
    made = table[list(landmarks.columns)].copy()
    made.loc[landmarks.index] = landmarks
    labels, start = {}, 0
    for size, groups in groups_of.items():
        labels[size] = mean[:, start : start + size].argmax(axis=1)
        labels[size][where] = groups
        start += size
    return Everybody(made.reset_index(drop=True), labels, group[where])


def neighbourhoods(
    assays: Sequence[AssayTable],
    sample_ids: Sequence[str],
    distance: str,
    fusion: Fusion,
    handed: Floats,
    groups: NDArray[np.int64],
) -> list[Neighbourhood]:
    """Landmarks of each assay."""
    k = int(groups.max()) + 1
    return [
        Neighbourhood(
            one.values, tuple(sample_ids[i] for i in one.rows), distance, fusion, handed[one.rows], groups[one.rows], k
        )
        for one in assays
    ]
