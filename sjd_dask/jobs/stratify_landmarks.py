"""Groups over landmarks on the cluster: some samples make them, one pass over ranges of samples places all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.jobs.arrays_table import from_table, to_table
from sjd_dask.jobs.normalise_reference import COLUMN_STRIPE_BYTES, ClusterReference, Phases, sample_ranges
from sjd_dask.jobs.normalise_source import RAW_BYTES, Source
from sjd_dask.jobs.stratify_companions import companion_tables
from sjd_dask.jobs.stratify_features import Chosen, choose_features
from sjd_dask.jobs.stratify_judge import cluster_judge, judge_bytes
from sjd_dask.jobs.stratify_kmeans import cluster_kmeans
from sjd_dask.jobs.stratify_ranges import PLACE_ROWS, chosen_values, place_ranges
from sjd_dask.jobs.stratify_tables import (
    agreement_table,
    arrow,
    choice_table,
    combined_consensus,
    curve_table,
    grouping_facts,
    heat_order,
    heat_rows,
    label_table,
)
from sjd_dask.normalise.method import Block, Partial
from sjd_dask.runtime.plan import PROCESS_BYTES, Partition, size
from sjd_dask.stratify.agreement import adjusted_rand_index
from sjd_dask.stratify.choose import COMBINED, Choice, choose_k
from sjd_dask.stratify.consensus import pairs_never_drawn
from sjd_dask.stratify.landmarks import RULE_BYTES, Landmarks, Placed, draw_landmarks
from sjd_dask.stratify.placing import BLOCK, rule_bytes
from sjd_dask.stratify.strata import strata_table

if TYPE_CHECKING:
    from sjd_dask.jobs.stratify import StratifyJob

# Fewer samples than this tell little of agreement.
FEWEST_CHECKED = 50


@dataclass(frozen=True)
class TakeWork:
    """What the tasks that take the chosen features share.

    Attributes
    ----------
    source : Source
        Samples in the order of storage, so that a range of them lies in few chunks.
    index : ndarray of int64 (p,)
        Places of the chosen features.
    landmarks : Landmarks or None
        To place the samples; None: their values are wanted.
    """

    source: Source
    index: NDArray[np.int64]
    landmarks: Landmarks | None = None


def take_task(work: TakeWork, partition: Partition) -> pa.Table:
    """Values of one range of samples."""
    return to_table({"rows": {"values": chosen_values(work.source, work.index, *partition.extras["samples"])}})


def place_task(work: TakeWork, partition: Partition) -> pa.Table:
    """One range of samples among the groups of the landmarks."""
    start, stop = partition.extras["samples"]
    assert work.landmarks is not None
    values = chosen_values(work.source, work.index, start, stop)
    placed = work.landmarks.place(values, work.source.reader.sample_ids[start:stop])
    return to_table({"rows": vars(placed)})


def count_missing(block: Block, _: Any) -> Partial:
    """Missing values of each feature."""
    return Partial({"missing": np.isnan(block.values).sum(axis=0)})


def of_samples(source: Source, places: NDArray[np.int64]) -> Source:
    """The source with these samples, in this order."""
    matrix = replace(source.matrix, reader=source.reader.subset(places))
    return replace(source, matrix=matrix, sheet=source.sheet.iloc[places])


def group_by_landmarks(job: StratifyJob, phases: Phases) -> tuple[Chosen, dict[str, pa.Table], dict[str, Any]]:
    """Choose features, group landmarks, judge, place every sample.

    Returns
    -------
    chosen : Chosen
    tables, facts
        See `grouping_tables`.
    """
    from sjd_dask.jobs.stratify import GroupingWork

    assert job.stored is not None and job.n_landmarks is not None
    stored, recipe = job.stored, job.recipe
    ids = job.source.reader.sample_ids
    place = {name: i for i, name in enumerate(stored.reader.sample_ids)}
    in_storage = np.array([place[name] for name in ids], dtype=np.int64)
    marks, check = draw_landmarks(ids, job.n_landmarks, recipe.seed)

    missing = ClusterReference(stored, phases).by_samples(count_missing).sums["missing"] > 0
    scored = ClusterReference(of_samples(stored, in_storage[marks]), phases)
    chosen = choose_features(job.spec.features, job.wanted, scored, missing)

    taken = _taken(phases, stored, chosen.index, np.sort(in_storage[np.concatenate([marks, check])]))
    values = np.ascontiguousarray([taken[ids[i]] for i in marks])
    work = GroupingWork(values, tuple(ids[i] for i in marks), recipe)
    labels = job.resampled(phases, work)
    null = job.null(phases, work)
    wanted = None if job.spec.choose_k == "auto" else job.spec.choose_k
    judge = cluster_judge(phases, labels, recipe.k)
    choice = choose_k(values, work.sample_ids, recipe, labels, null, wanted, judge)
    k = choice.k if choice.k > 1 else recipe.k[0]
    # The groups are those of the algorithms that found some.
    recipe, labels = choice.trusted(recipe, labels)
    landmarks = Landmarks(values, work.sample_ids, recipe, labels, choice.groups, k)
    placed = _placed(phases, TakeWork(stored, chosen.index, landmarks), in_storage)

    facts: dict[str, Any] = {"kind": "landmarks", "landmarks": len(marks), "samples_scored": len(marks)}
    if choice.k > 1 and len(check) >= max(FEWEST_CHECKED, 4 * k):
        other = GroupingWork(
            np.ascontiguousarray([taken[ids[i]] for i in check]),
            tuple(ids[i] for i in check),
            replace(recipe, k=(k,)),
        )
        (voted,) = cluster_judge(phases, job.resampled(phases, other), (k,))(
            [(tuple(range(len(recipe.algorithms))), 0)]
        )
        there = placed.groups[check, recipe.k.index(k)]
        facts["check"] = {"samples": len(check), "ari": adjusted_rand_index(voted.groups.tolist(), there.tolist())}
    if choice.k > 1:
        found, nearest = cluster_kmeans(phases, stored, chosen.index, values[0], k, recipe.seed)
        own = placed.groups[:, recipe.k.index(k)]
        facts["kmeans"] = {
            "ari": adjusted_rand_index(nearest[in_storage].tolist(), own.tolist()),
            # Sums of partitions, whose last digits hang on where they are cut.
            "inertia": float(f"{found.inertia:.9g}"),
            "rounds": found.rounds,
        }
    tables, told = _tables(job, landmarks, choice, placed, marks, chosen)
    return chosen, tables, {**told, "consensus": facts}


def _taken(
    phases: Phases, stored: Source, index: NDArray[np.int64], places: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Chosen features of some samples, by id."""
    source = of_samples(stored, places)
    ranges = sample_ranges(len(places), source.reader.n_features, source.reader.chunk_samples)
    partitions = [
        Partition(i, 0, source.reader.n_features, {"phase": "take", "samples": list(one)})
        for i, one in enumerate(ranges)
    ]
    parts = phases.run(take_task, TakeWork(source, index), partitions)
    rows = np.concatenate([from_table(part)["rows"]["values"] for part in parts])
    return dict(zip(source.reader.sample_ids, rows, strict=True))


def _placed(phases: Phases, work: TakeWork, in_storage: NDArray[np.int64]) -> Placed:
    """All samples, in the order of their ids."""
    reader = work.source.reader
    partitions = [
        Partition(i, 0, reader.n_features, {"phase": "place", "samples": list(one)})
        for i, one in enumerate(place_ranges(reader.n_samples, reader.chunk_samples))
    ]
    parts = [from_table(part)["rows"] for part in phases.run(place_task, work, partitions)]
    return Placed(**{name: np.concatenate([part[name] for part in parts])[in_storage] for name in parts[0]})


def _tables(
    job: StratifyJob,
    landmarks: Landmarks,
    choice: Choice,
    placed: Placed,
    marks: NDArray[np.int64],
    chosen: Chosen,
) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    import pandas as pd

    recipe = landmarks.recipe
    ids = np.array(job.source.reader.sample_ids, dtype=object)
    n, at = len(ids), recipe.k.index(landmarks.k)
    if choice.k > 1:
        groups, separate = placed.groups[:, at].astype(np.int64), placed.separate.T.astype(np.int64)
        means, widths = placed.means, placed.silhouette
    else:
        groups, separate = np.zeros(n, dtype=np.int64), np.zeros((len(recipe.algorithms), n), dtype=np.int64)
        means, widths = np.ones((n, 1)), np.full(n, np.nan)
    previous = job.previous.labels_of(ids[marks], chosen.ids, landmarks.values) if job.previous else None
    table, ambiguous, _, matched = strata_table(
        ids.tolist(), recipe.algorithms, groups, separate, means, widths, previous
    )
    table = table.assign(ambiguous=ambiguous)
    stratum = table["stratum"].to_numpy(dtype=object)
    shown, made = landmarks.labels[:, :, at], choice.groups[COMBINED, landmarks.k]
    own = table["consensus"].to_numpy()[marks]
    order = heat_order(ids[marks], stratum[marks], own, made)
    heat = combined_consensus(np.ascontiguousarray(shown[:, :, order]))
    principal = pd.DataFrame({names.SAMPLE_ID: ids})
    for i in range(placed.components.shape[1]):
        principal[f"component_{i + 1}"] = placed.components[:, i]
    by_k = {k: placed.groups[:, j].astype(np.int64) for j, k in enumerate(recipe.k)}
    frame = job.source.sheet.loc[ids.tolist()]
    tables = {
        "table": arrow(table),
        "choice": arrow(choice_table(choice)),
        "cdf": arrow(curve_table(choice)),
        "labels": arrow(label_table(choice, ids, stratum, by_k)),
        "features": arrow(pd.DataFrame({names.FEATURE_ID: chosen.ids, "score": chosen.scores})),
        "principal": arrow(principal),
        "heat": heat_rows(heat, ids[marks[order]], stratum[marks[order]]),
        "cross": arrow(agreement_table(frame, job.spec.compare, stratum)),
        **companion_tables(job.spec, frame, stratum, chosen.ids, landmarks.values, stratum[marks], None),
    }
    never = pairs_never_drawn(landmarks.labels[:, 0, 0])
    return tables, grouping_facts(job, choice, table, never, landmarks.k, landmarks.explained, matched)


def landmark_bytes(job: StratifyJob, width: int) -> tuple[int, int]:
    """Peak bytes of a task, the process included, and of the driver.

    Parameters
    ----------
    job : StratifyJob
    width : int
        Features of a stripe that is scored.
    """
    assert job.stored is not None and job.n_landmarks is not None
    reader, recipe, chosen = job.stored.reader, job.recipe, job.n_chosen
    n, m, p = reader.n_samples, min(job.n_landmarks, reader.n_samples), reader.n_features
    raw = RAW_BYTES + reader.chunk_samples * min(p, reader.chunk_features) * reader.dtype.itemsize
    scoring = 3 * m * width * 8 + raw
    counting = job.stored.read_rows * p * reader.dtype.itemsize + 3 * job.stored.block_rows * p * 8
    grouping = 5 * m * chosen * 8 + 5 * 8 * m * m + job.labels_bytes(m)
    judging = judge_bytes(m, job.labels_bytes(m), job.labels_bytes(m) // len(recipe.k))
    columns = sum(recipe.k)
    rounds = max(1, min(recipe.resamples, RULE_BYTES // rule_bytes(m, chosen, recipe)))
    rules = rounds * (rule_bytes(m, chosen, recipe) + 2 * 8 * m * columns)
    rows = max(reader.chunk_samples, PLACE_ROWS)
    placing = (
        (4 * m + 2 * rows) * chosen * 8
        + 8 * m * m
        + rules
        + 3 * BLOCK * 8 * rounds * columns
        + 2 * rows * recipe.resamples * len(recipe.algorithms) * len(recipe.k)
        + job.labels_bytes(m)
        + raw
    )
    table = n * (400 + 8 * (2 * max(recipe.k) + len(recipe.k) + 8))
    driver = (320 << 20) + 8 * 4 * m * chosen + 4 * job.labels_bytes(m) + 28 * m * m + table + 48 * p
    return PROCESS_BYTES + max(scoring, counting, grouping, placing, judging), driver


def landmark_partitions(job: StratifyJob) -> tuple[list[Partition], int]:
    """Partitions for a plan, and the features of a stripe."""
    assert job.stored is not None and job.n_landmarks is not None
    reader = job.stored.reader
    n, p = reader.n_samples, reader.n_features
    m = min(job.n_landmarks, n)
    width = min(p, max(1, COLUMN_STRIPE_BYTES // (8 * m)))
    ranges = [
        *sample_ranges(n, p, reader.chunk_samples),
        *sample_ranges(min(n, 2 * m), p, reader.chunk_samples),
        *place_ranges(n, reader.chunk_samples),
    ]
    stripes = [Partition(i, start, min(p, start + width)) for i, start in enumerate(range(0, p, width))]
    return [*stripes, *(Partition(i, 0, p, {"samples": list(one)}) for i, one in enumerate(ranges))], width


def landmark_note(job: StratifyJob) -> str:
    """How many samples make the groups, in words."""
    n, m = len(job.source.reader.sample_ids), job.n_landmarks or 0
    return (
        f"{min(m, n):,} of {n:,} samples are landmarks, which make the groups (a consensus of all pairs would be "
        f"{size(4 * n * n)}); all are placed among them by one pass"
    )
