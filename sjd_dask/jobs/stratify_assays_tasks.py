"""Resamples, judgement and support of several assays as partitions on the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask.jobs.arrays_table import from_table, to_table
from sjd_dask.jobs.normalise_reference import Phases
from sjd_dask.runtime.plan import Partition
from sjd_dask.stratify.assay_choice import (
    AssayVerdict,
    Separation,
    assay_verdict,
    choose_over_assays,
    separation,
    speaking,
)
from sjd_dask.stratify.assay_strata import Support, assay_strata, assay_support
from sjd_dask.stratify.assays import JointDistances, Judged, Voice, judge, pooled_consensus
from sjd_dask.stratify.choose import LEVEL, Choice
from sjd_dask.stratify.consensus import consensus_groups
from sjd_dask.stratify.draws import id_keys
from sjd_dask.stratify.fusion import (
    AssayTable,
    Fusion,
    check_assays,
    fused_labels,
    fused_network,
    spectral_groups,
    spectral_starts,
)
from sjd_dask.stratify.null import NULL_DRAWS, null_statistics
from sjd_dask.stratify.recipe import Recipe
from sjd_dask.stratify.resampling import resample_labels
from sjd_dask.stratify.strata import Strata

# Work of a task, about: some tenths of a second. Of distances, as operations; of networks, as exchanged values.
TASK_WORK = 4e9
EXCHANGED = 1e8
MOST_TASKS = 128
NULL_TASKS = 8
SNF = "snf"


@dataclass(frozen=True)
class AssaysWork:
    """What all tasks share.

    Attributes
    ----------
    assays : tuple of AssayTable
    sample_ids : tuple of str
        Of all samples, sorted.
    recipe : Recipe
    fusion : Fusion or None
        None: consensus over the assays.
    token : str
        Hash of the values.
    """

    assays: tuple[AssayTable, ...]
    sample_ids: tuple[str, ...]
    recipe: Recipe
    fusion: Fusion | None
    token: str

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Whose labels the resamples have."""
        return self.recipe.algorithms if self.fusion is None else (SNF,)


@dataclass(frozen=True)
class _Alone:
    work: AssaysWork
    labels: tuple[NDArray[np.int8], ...]
    draws: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class _Judging:
    work: AssaysWork
    voices: tuple[Voice, ...]  # of all k: labels are (R, n_algorithms, n_k, m)
    heard: tuple[bool, ...]  # which of the assays took part
    draws: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class _Supporting:
    work: AssaysWork
    voices: tuple[Voice, ...]  # of the chosen k, by assay
    heard: tuple[bool, ...]  # which of the assays took part
    groups: NDArray[np.int64]


@dataclass(frozen=True)
class Grouped:
    """What came of it.

    Attributes
    ----------
    choice : Choice
    verdicts : dict of AssayVerdict
        What each assay finds alone.
    voices : list of tuple of int
        Algorithms of each assay that took part.
    separations : Separation or None
        Of the chosen k; None for one group.
    strata : Strata
    groups : ndarray of int64 (n,)
        The strata as numbers.
    supports : list of Support
        By assay; empty with one group.
    heat_k : int
        The number of groups that the map of the consensus shows.
    heat : ndarray of float32 (n, n)
    """

    choice: Choice
    verdicts: dict[str, AssayVerdict]
    voices: list[tuple[int, ...]]
    separations: Separation | None
    strata: Strata
    groups: NDArray[np.int64]
    supports: list[Support]
    heat_k: int
    heat: NDArray[np.float32]


def round_blocks(
    sizes: Sequence[int], n: int, recipe: Recipe, fusion: Fusion | None
) -> list[tuple[int, tuple[int, int]]]:
    """Blocks of rounds of each assay, then (number of assays) of all fused: a function of the data alone.

    Parameters
    ----------
    sizes : sequence of int
        Samples of each assay.
    n : int
        All samples.
    """
    made = []
    every = [*enumerate(sizes), *([(len(sizes), n)] if fusion is not None else [])]
    for a, m in every:
        if fusion is None:
            width = TASK_WORK / max(1.0, float(m) * m * (1000 + 50 * len(recipe.k)) * len(recipe.algorithms))
        else:
            networks = len(sizes) * fusion.iterations if a == len(sizes) else 1
            width = EXCHANGED / max(1.0, float(m) * m * (networks + 10 * len(recipe.k)))
        total = recipe.resamples
        step = max(1, int(np.clip(width, -(-total // MOST_TASKS), -(-total // 8))))
        made += [(a, (start, min(total, start + step))) for start in range(0, total, step)]
    return made


def n_draws(n_assays: int) -> int:
    """Draws without groups of each assay: p-values are multiplied by the number of assays, and must get below LEVEL."""
    return max(NULL_DRAWS, int(np.ceil(2 * n_assays / LEVEL)) - 1)


def rounds_task(work: AssaysWork, partition: Partition) -> pa.Table:
    """Labels of some rounds of one assay, or of all fused."""
    (start, stop), a = partition.extras["rounds"], partition.extras["assay"]
    if a == len(work.assays):
        assert work.fusion is not None
        labels = fused_labels(work.assays, work.sample_ids, work.recipe, work.fusion, start, stop)
        return to_table({"labels": {"labels": labels}})
    one = work.assays[a]
    ids = [work.sample_ids[i] for i in one.rows]
    if work.fusion is None:
        labels = resample_labels(one.values, ids, work.recipe, start, stop)
    else:
        alone = AssayTable(one.name, one.values, np.arange(len(ids), dtype=np.int64))
        labels = fused_labels([alone], ids, work.recipe, work.fusion, start, stop)
    return to_table({"labels": {"labels": labels}})


def null_task(work: AssaysWork, partition: Partition) -> pa.Table:
    """What the search for groups finds in some draws of one assay without groups."""
    one = work.assays[partition.extras["assay"]]
    ids = [work.sample_ids[i] for i in one.rows]
    return to_table({"null": {"draws": null_statistics(one.values, ids, work.recipe, *partition.extras["draws"])}})


def alone_task(common: _Alone, partition: Partition) -> pa.Table:
    """What one assay finds alone."""
    work, a = common.work, partition.extras["assay"]
    found = assay_verdict(work.assays[a], work.sample_ids, work.recipe, common.labels[a], common.draws[a])
    return to_table(
        {
            "alone": {
                "p_value": np.array([found.p_value]),
                "gap": found.gap,
                "gap_z": found.gap_z,
                "trusted": np.array(found.trusted, dtype=np.int64),
                "k": np.array([found.k]),
            }
        }
    )


def judge_task(common: _Judging, partition: Partition) -> pa.Table:
    """Groups of one k and what speaks for them."""
    work, j = common.work, partition.extras["k"]
    voices = _at(common.voices, j)
    distances = JointDistances(_heard(work, common.heard), len(work.sample_ids), work.recipe.distance)
    found = judge(voices, work.recipe.k[j], distances, id_keys(work.sample_ids), work.recipe.seed)
    apart = separation(work.assays, work.sample_ids, work.recipe, common.draws, found.groups, j)
    return to_table(
        {
            "judged": {
                "groups": found.groups,
                "stability": found.stability,
                "silhouettes": found.silhouettes,
                "points": found.curves[0]["consensus"],
                "cdf": np.stack([one["cdf"] for one in found.curves]),
                "area": np.array([one["area"] for one in found.curves]),
                "pac": np.array([one["pac"] for one in found.curves]),
            },
            "apart": {"nats": apart.nats, "z": apart.z, "chance": apart.chance},
        }
    )


def support_task(common: _Supporting, partition: Partition) -> pa.Table:
    """What one assay says of the groups."""
    work, a = common.work, partition.extras["assay"]
    found = assay_support(
        work.assays[a],
        common.voices[a],
        common.groups,
        _others(common, a),
        work.sample_ids,
        work.recipe.distance,
        work.recipe.seed,
    )
    return pa.Table.from_pandas(
        found.table.assign(own_ari=found.own_ari, ari_without=found.ari_without), preserve_index=False
    )


def _others(common: _Supporting, a: int) -> NDArray[np.int64]:
    """Groups that the assays but one make of the samples that they have; -1 for the others."""
    work, k = common.work, int(common.groups.max()) + 1
    rest = [i for i in range(len(work.assays)) if i != a]
    rest = [i for i in rest if common.heard[i]] or rest
    there = np.unique(np.concatenate([work.assays[i].rows for i in rest]))
    out = np.full(len(work.sample_ids), -1, dtype=np.int64)
    places = [np.searchsorted(there, work.assays[i].rows) for i in rest]
    if work.fusion is None:
        voices = [replace(common.voices[i], rows=rows) for i, rows in zip(rest, places, strict=True)]
        out[there] = consensus_groups(pooled_consensus(voices, len(there))[0], k)
    else:
        tables = [replace(work.assays[i], rows=rows) for i, rows in zip(rest, places, strict=True)]
        network = fused_network(tables, len(there), work.recipe, work.fusion)
        keys = id_keys([work.sample_ids[i] for i in there])
        starts = spectral_starts(keys, replace(work.recipe, k=(k,)), 0)
        out[there] = spectral_groups(network, starts)[0]
    return out


def _heard(work: AssaysWork, heard: Sequence[bool]) -> tuple[AssayTable, ...]:
    return tuple(one for one, spoke in zip(work.assays, heard, strict=True) if spoke)


def _at(voices: Sequence[Voice], j: int) -> tuple[Voice, ...]:
    """Rounds of one k."""
    return tuple(replace(one, labels=np.ascontiguousarray(one.labels[:, :, j])) for one in voices)


def group_assays(phases: Phases, work: AssaysWork, given: int | None, previous: Mapping[str, str] | None) -> Grouped:
    """Resample every assay, judge every k, make the groups, and ask each assay what it says of them.

    Parameters
    ----------
    phases : Phases
    work : AssaysWork
    given : int or None
        The user's number of groups.
    previous : mapping of sample id to stratum or None
    """
    check_assays(work.assays, work.sample_ids, work.recipe)
    recipe, n = work.recipe, len(work.sample_ids)
    every, draws = _rounds(phases, work), tuple(_nulls(phases, work))
    separate = every[: len(work.assays)]
    verdicts = _verdicts(phases, work, separate, draws)
    whole = tuple(range(len(work.algorithms)))
    if work.fusion is None:
        heard = speaking(list(verdicts.values()), work.assays, n, len(whole))
        voices = tuple(
            Voice(one.rows, labels, own) for one, labels, own in zip(work.assays, separate, heard, strict=True) if own
        )
    else:
        heard = [whole for _ in work.assays]
        voices = (Voice(np.arange(n, dtype=np.int64), every[-1], whole),)
    took_part = tuple(map(bool, heard))
    judged, apart = _judged(phases, work, voices, took_part, draws)
    choice = choose_over_assays(judged, apart, work.algorithms, verdicts, heard, given)
    at = recipe.k.index(choice.k) if choice.k > 1 else 0
    chosen = _at(voices, at)
    found, groups = assay_strata(
        chosen, work.algorithms, _heard(work, took_part), work.sample_ids, choice.k, recipe.distance, previous
    )
    alone = tuple(
        Voice(one.rows, np.ascontiguousarray(labels[:, :, at]), own or whole)
        for one, labels, own in zip(work.assays, separate, heard, strict=True)
    )
    return Grouped(
        choice,
        verdicts,
        heard,
        apart[choice.k] if choice.k > 1 else None,
        found,
        groups,
        _supports(phases, work, alone, took_part, groups) if choice.k > 1 else [],
        recipe.k[at],
        found.matrix if choice.k > 1 else pooled_consensus(chosen, n)[0],
    )


def _rounds(phases: Phases, work: AssaysWork) -> list[NDArray[np.int8]]:
    recipe, n = work.recipe, len(work.sample_ids)
    sizes = [len(one.rows) for one in work.assays]
    partitions = [
        Partition(i, 0, 0, {"phase": "resamples", "assay": a, "rounds": list(span), "values": work.token})
        for i, (a, span) in enumerate(round_blocks(sizes, n, recipe, work.fusion))
    ]
    shape = (recipe.resamples, len(work.algorithms), len(recipe.k))
    every = [np.empty((*shape, m), dtype=np.int8) for m in (*sizes, *([n] if work.fusion is not None else []))]
    for partition, part in zip(partitions, phases.run(rounds_task, work, partitions), strict=True):
        start, stop = partition.extras["rounds"]
        every[partition.extras["assay"]][start:stop] = from_table(part)["labels"]["labels"]
    return every


def _nulls(phases: Phases, work: AssaysWork) -> list[NDArray[np.float64]]:
    total = n_draws(len(work.assays))
    step = -(-total // NULL_TASKS)
    partitions = [
        Partition(
            0, 0, 0, {"phase": "null", "assay": a, "draws": [start, min(total, start + step)], "values": work.token}
        )
        for a in range(len(work.assays))
        for start in range(0, total, step)
    ]
    made: list[list[NDArray[np.float64]]] = [[] for _ in work.assays]
    for partition, part in zip(partitions, phases.run(null_task, work, partitions), strict=True):
        made[partition.extras["assay"]].append(from_table(part)["null"]["draws"])
    return [np.concatenate(one) for one in made]


def _verdicts(
    phases: Phases, work: AssaysWork, labels: list[NDArray[np.int8]], draws: tuple[NDArray[np.float64], ...]
) -> dict[str, AssayVerdict]:
    partitions = [
        Partition(a, 0, 0, {"phase": "alone", "assay": a, "values": work.token}) for a in range(len(work.assays))
    ]
    made = {}
    for one, part in zip(
        work.assays, phases.run(alone_task, _Alone(work, tuple(labels), draws), partitions), strict=True
    ):
        found = from_table(part)["alone"]
        trusted = tuple(int(a) for a in found["trusted"])
        made[one.name] = AssayVerdict(
            float(found["p_value"][0]), found["gap"], found["gap_z"], trusted, int(found["k"][0])
        )
    return made


def _judged(
    phases: Phases,
    work: AssaysWork,
    voices: tuple[Voice, ...],
    heard: tuple[bool, ...],
    draws: tuple[NDArray[np.float64], ...],
) -> tuple[dict[int, Judged], dict[int, Separation]]:
    partitions = [
        Partition(j, 0, 0, {"phase": "judge", "k": j, "values": work.token}) for j in range(len(work.recipe.k))
    ]
    judged, apart = {}, {}
    parts = phases.run(judge_task, _Judging(work, voices, heard, draws), partitions)
    for k, part in zip(work.recipe.k, parts, strict=True):
        groups = from_table(part)
        found = groups["judged"]
        curves = [
            {"consensus": found["points"], "cdf": cdf, "area": float(area), "pac": float(pac)}
            for cdf, area, pac in zip(found["cdf"], found["area"], found["pac"], strict=True)
        ]
        judged[k] = Judged(found["groups"], curves, found["stability"], found["silhouettes"])
        apart[k] = Separation(**groups["apart"])
    return judged, apart


def _supports(
    phases: Phases, work: AssaysWork, voices: tuple[Voice, ...], heard: tuple[bool, ...], groups: NDArray[np.int64]
) -> list[Support]:
    k = int(groups.max()) + 1
    partitions = [
        Partition(a, 0, 0, {"phase": "support", "assay": a, "k": k, "values": work.token})
        for a in range(len(work.assays))
    ]
    made = []
    for part in phases.run(support_task, _Supporting(work, voices, heard, groups), partitions):
        table = part.to_pandas()
        own, without = float(table["own_ari"].iloc[0]), float(table["ari_without"].iloc[0])
        made.append(Support(table.drop(columns=["own_ari", "ari_without"]), own, without))
    return made
