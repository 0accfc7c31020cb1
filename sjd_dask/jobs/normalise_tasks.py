"""What one task of the last phase of a normalisation does: read samples, apply the frozen chain, write their rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask.jobs.arrays_table import from_table, to_table
from sjd_dask.jobs.normalise_source import GroupWriter, Source, in_order
from sjd_dask.normalise.chain import Chain
from sjd_dask.normalise.method import Arrays, Block, Partial
from sjd_dask.normalise.quality import sample_metrics, sample_sketches
from sjd_dask.runtime.plan import Partition
from sjd_dask.store.files import Files
from sjd_dask.store.layer_writing import LayerSegment, RowsWritten

PENDING = "pending"


@dataclass(frozen=True)
class ApplyWork:
    """The common part of the tasks that write a layer.

    Attributes
    ----------
    source : Source
        The samples to do, without steps.
    chain : Chain
    segments : tuple of LayerSegment
        Together they hold the samples of the source, in its order.
    quality : dict or None
        Frozen reference of the quality measures, where it is known already.
    sketched : frozenset of str or None
        Samples whose sketches are wanted; None for all.
    durable : bool
        Whether a task's rows are on disk when it ends.
    """

    source: Source
    chain: Chain
    segments: tuple[LayerSegment, ...]
    files: Files
    quality: Arrays | None
    sketched: frozenset[str] | None
    durable: bool = True


@dataclass(frozen=True)
class Written:
    """What a part of the last phase holds."""

    rows: RowsWritten
    metrics: Arrays
    sketches: Arrays
    sketched: NDArray[np.bool_]
    pending: NDArray[Any]


def apply_task(work: ApplyWork, partition: Partition) -> pa.Table:
    """Normalise and write one range of rows of one segment."""
    segment = work.segments[partition.extras["segment"]]
    start, stop = partition.extras["samples"]
    wanted = work.source.reader.sample_ids[start:stop]
    writer = GroupWriter(work.files, segment, partition.extras["row_start"], wanted, work.durable)
    found: list[tuple[tuple[str, ...], Arrays]] = []
    sketches: list[tuple[tuple[str, ...], Arrays]] = []
    for block in work.source.raw_blocks(start, stop):
        done = work.chain.apply(block)
        held = done.pending != ""
        writer.put(block.sample_ids, np.where(held[:, None], np.nan, done.values) if held.any() else done.values)
        found.append((block.sample_ids, {**measures(block, done, work.quality), PENDING: done.pending}))
        sketches += _sketch(block, done, work.sketched)
    written = writer.written()
    rows = in_order(found, wanted)
    is_sketched = np.array([work.sketched is None or one in work.sketched for one in wanted])
    chosen = tuple(one for one, keep in zip(wanted, is_sketched, strict=True) if keep)
    return to_table(
        {
            "metrics": rows,
            "sketches": in_order(sketches, chosen) if sketches else {},
            "written": {"json": np.array([json.dumps(written.to_json())]), "sketched": is_sketched},
        }
    )


def read_written(table: pa.Table) -> Written:
    """A part of `apply_task`."""
    groups = from_table(table)
    metrics = dict(groups["metrics"])
    return Written(
        rows=RowsWritten.from_json(json.loads(str(groups["written"]["json"][0]))),
        pending=metrics.pop(PENDING),
        metrics=metrics,
        sketches=groups.get("sketches", {}),
        sketched=groups["written"]["sketched"].astype(bool),
    )


def measures(before: Block, after: Block, quality: Arrays | None) -> Arrays:
    """Quality measures of each sample, and what the steps said of it."""
    context = {name: value for name, value in after.context.items() if np.ndim(value) == 1}
    return {**context, **sample_metrics(before, after, quality)}


def _sketch(before: Block, after: Block, wanted: frozenset[str] | None) -> list[tuple[tuple[str, ...], Arrays]]:
    if wanted is None:
        return [(before.sample_ids, dict(sample_sketches(before, after)))]
    keep = np.array([one in wanted for one in before.sample_ids])
    if not keep.any():
        return []
    ids = tuple(one for one, kept in zip(before.sample_ids, keep, strict=True) if kept)
    return [(ids, {name: value[keep] for name, value in sample_sketches(before, after).items()})]


def quality_pass(block: Block, work: tuple[Chain, NDArray[Any]]) -> Partial:
    """Measures and sketches of reference samples, before any row is written."""
    chain, wanted = work
    after = chain.apply(block)
    keep = np.isin(np.array(block.sample_ids, dtype=object), wanted)
    taken = {name: value[keep] for name, value in measures(block, after, None).items()}
    sketches = {f"sketch.{name}": value[keep] for name, value in sample_sketches(block, after).items()}
    return Partial({}, {**taken, **sketches})
