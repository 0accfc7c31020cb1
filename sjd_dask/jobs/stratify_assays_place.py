"""All samples among the groups that landmarks made of several assays: one more pass over each assay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sjd_dask.jobs.normalise_reference import ClusterReference, Phases
from sjd_dask.jobs.normalise_source import Source
from sjd_dask.jobs.stratify_assays_tasks import AssaysWork, Grouped
from sjd_dask.jobs.stratify_features import Chosen
from sjd_dask.normalise.method import Block, Partial
from sjd_dask.stratify.assay_landmarks import Everybody, Neighbourhood, handed_on, neighbourhoods, place_everybody
from sjd_dask.stratify.choose import COMBINED
from sjd_dask.stratify.fusion import Fusion
from sjd_dask.stratify.strata import mean_with_groups


def place_block(block: Block, common: tuple[Any, Neighbourhood]) -> Partial:
    """What the samples of a block take from the landmarks."""
    index, near = common
    taken, sums = near.place(np.ascontiguousarray(block.values[:, index]), block.sample_ids)
    return Partial(rows={"taken": taken, "sums": sums})


def place_samples(
    phases: Phases,
    work: AssaysWork,
    grouped: Grouped,
    sources: Sequence[Source],
    chosen: Sequence[Chosen],
    sample_ids: tuple[str, ...],
) -> Everybody:
    """Place every sample by the assays that took part and have it.

    Parameters
    ----------
    phases : Phases
    work : AssaysWork
        Of the landmarks.
    grouped : Grouped
    sources : sequence of Source
        Every assay with all its samples.
    chosen : sequence of Chosen
    sample_ids : tuple of str
        All, sorted.
    """
    found, recipe = grouped.strata, work.recipe
    k = int(grouped.groups.max()) + 1
    table = found.table.assign(ambiguous=found.ambiguous).set_index("sample_id", drop=False)
    stratum = table["stratum"].to_numpy(dtype=object)
    titles = [str(stratum[np.argmax(grouped.groups == g)]) for g in range(k)]
    memberships = np.stack([table[f"membership_{name}"].to_numpy(float) for name in titles], axis=1)
    means = mean_with_groups(found.matrix, grouped.groups, k)
    groups_of = {size: grouped.choice.groups[COMBINED, size] for size in recipe.k}
    near = neighbourhoods(
        work.assays,
        work.sample_ids,
        recipe.distance,
        work.fusion or Fusion(),
        handed_on(groups_of, memberships, means),
        grouped.groups,
    )
    place = {one: i for i, one in enumerate(sample_ids)}
    # An assay that took no part still places those that are in no other.
    heard = np.zeros(len(sample_ids), dtype=bool)
    for source, voice in zip(sources, grouped.voices, strict=True):
        if voice:
            heard[[place[one] for one in source.reader.sample_ids]] = True
    parts = []
    for source, own, one, voice in zip(sources, near, chosen, grouped.voices, strict=True):
        rows = np.array([place[name] for name in source.reader.sample_ids], dtype=np.int64)
        some = np.ones(len(rows), dtype=bool) if voice else ~heard[rows]
        if some.any():
            made = ClusterReference(source, phases).by_samples(place_block, (one.index, own)).rows
            parts.append((rows[some], made["taken"][some], made["sums"][some]))
    return place_everybody(sample_ids, table, titles, groups_of, parts)
