"""A reference set on the cluster: the passes of a fit as partitions, each leaving one small part."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sjd_dask.errors import PlanRefused
from sjd_dask.jobs.arrays_table import from_table, partial_table, table_partial, to_table
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.normalise_source import GroupWriter, Source, in_order, row_layout
from sjd_dask.normalise.chain import Chain
from sjd_dask.normalise.method import Arrays, Block, Method, Partial, Stripe
from sjd_dask.normalise.reference import total
from sjd_dask.runtime.plan import Partition
from sjd_dask.store.features import FeatureSpace
from sjd_dask.store.layer import layer_key
from sjd_dask.store.layer_writing import (
    LayerSegment,
    RowsWritten,
    create_segment,
    existing_rows,
    finish_segment,
    plan_segments,
)
from sjd_dask.store.layout import Encoding, Layout
from sjd_dask.store.region import Piece, RegionReader

if TYPE_CHECKING:
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.store.files import Files

TASK_CELLS = 30_000_000
MOST_PARTS = 256
COLUMN_STRIPE_BYTES = 80 << 20
MOST_DECODES = 16
# Context of a staged sample: why it has no values, or nothing.
PENDING = "pending"


@dataclass(frozen=True)
class _Work:
    source: Source
    function: Callable[..., Partial]
    common: Any


def samples_task(work: _Work, partition: Partition) -> pa.Table:
    """A pass by samples: blocks of one range of samples."""
    start, stop = partition.extras["samples"]
    sums: list[Partial] = []
    rows: list[tuple[tuple[str, ...], Arrays]] = []
    for block in work.source.blocks(start, stop):
        partial = work.function(block, work.common)
        sums.append(Partial(partial.sums))
        rows.append((block.sample_ids, partial.rows))
    whole = total(sums)
    if rows and rows[0][1]:
        whole.rows = in_order(rows, work.source.reader.sample_ids[start:stop])
    return partial_table(whole)


def stripe_task(work: _Work, partition: Partition) -> pa.Table:
    """A pass by features: all samples of one stripe."""
    start, stop = partition.feature_start, partition.feature_stop
    raw, encoding = work.source.reader.columns(start, stop)
    values = work.source.matrix.values(raw, encoding)
    stripe = Stripe(
        np.ascontiguousarray(values),
        start,
        work.source.feature_ids[start:stop],
        work.source.annotation.iloc[start:stop],
    )
    return partial_table(work.function(stripe, work.common))


def range_task(work: tuple[Callable[..., Partial], Any], partition: Partition) -> pa.Table:
    """A piece of a range; nothing is read."""
    function, common = work
    return partial_table(function(*partition.extras["range"], common))


@dataclass(frozen=True)
class _StageWork:
    source: Source
    segments: tuple[LayerSegment, ...]
    files: Files
    durable: bool
    chain: Chain | None = None

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """After the source's own steps, which all must pass; or after a chain: who can't pass has no values."""
        if self.chain is None:
            yield from self.source.blocks(start, stop)
            return
        for block in self.source.raw_blocks(start, stop):
            done = self.chain.apply(block)
            values = np.where((done.pending != "")[:, None], np.nan, done.values)
            yield done.with_(values=values, context={PENDING: done.pending})


def stage_task(work: _StageWork, partition: Partition) -> pa.Table:
    """Write some samples after the steps, for passes by features that come next."""
    segment = work.segments[partition.extras["segment"]]
    start, stop = partition.extras["samples"]
    base = partition.extras["row_start"] - start
    writer = GroupWriter(work.files, segment, start + base, work.source.reader.sample_ids[start:stop], work.durable)
    rows: list[tuple[tuple[str, ...], Arrays]] = []
    for block in work.blocks(start, stop):
        writer.put(block.sample_ids, block.values)
        rows.append((block.sample_ids, block.context))
    written = writer.written()
    context = in_order(rows, work.source.reader.sample_ids[start:stop]) if rows[0][1] else {}
    return to_table({"rows": context, "written": {"json": np.array([json.dumps(written.to_json())])}})


class Phases:
    """Numbers the partitions of phase after phase, so that a resumed run meets the parts of the one before."""

    def __init__(self, runner: Runner, files: Files, layout: Layout, name: str, token: str) -> None:
        self.runner = runner
        self.files = files
        self.layout = layout
        self.name = name
        self.token = token
        self.next_index = 0
        self.n_stages = 0
        self.staged: list[LayerSegment] = []
        # Rows that workers of this machine wrote are forced to disk by the driver, at the end: the disk works beside
        # the computation. From elsewhere only the worker can do it.
        self.durable = not runner.cluster.is_local

    def run(
        self, function: Callable[[Any, Partition], pa.Table], common: Any, partitions: list[Partition]
    ) -> Iterator[pa.Table]:
        """Run partitions, renumbered to follow those of earlier phases; their parts in order."""
        numbered = [replace(one, index=self.next_index + i) for i, one in enumerate(partitions)]
        self.next_index += len(numbered)
        return self.runner.run(function, common, numbered)

    def write(
        self,
        function: Callable[[Any, Partition], pa.Table],
        common: Any,
        partitions: list[Partition],
        segments: Sequence[LayerSegment],
        rows_of: Callable[[pa.Table], RowsWritten],
    ) -> list[pa.Table]:
        """Run partitions that write rows of segments (`extras["segment"]` says which); their parts in order.

        A part of an earlier attempt may speak of chunks that are gone since; those partitions run again.
        """
        parts = list(self.run(function, common, partitions))
        following = self.next_index + len(partitions)
        lost = [
            i
            for i, (partition, part) in enumerate(zip(partitions, parts, strict=True))
            if not existing_rows(
                self.files,
                segments[partition.extras["segment"]],
                rows_of(part),
                content=not self.durable and self.runner.session.attempt > 1,
            )
        ]
        if lost:
            attempt = self.runner.session.attempt
            again = [replace(partitions[i], extras={**partitions[i].extras, "again": attempt}) for i in lost]
            for i, part in zip(lost, self.run(function, common, again), strict=True):
                parts[i] = part
        # Later phases have the same numbers whether or not anything was lost.
        self.next_index = following
        return parts

    def clean(self) -> None:
        """Remove what was staged. Only after publication: a resumed run needs it again."""
        for key in dict.fromkeys(segment.assay for segment in self.staged):
            self.files.delete_tree(f"segments/{key}")


def sample_ranges(n: int, n_features: int, step: int) -> list[tuple[int, int]]:
    """Ranges of samples for tasks: a function of the data alone, borders on multiples of `step`."""
    rows = max(TASK_CELLS // max(1, n_features), -(-n // MOST_PARTS), 1)
    rows = max(step, rows // step * step)
    return [(start, min(n, start + rows)) for start in range(0, n, rows)]


class ClusterReference:
    """The declared reference set of a job; see `sjd_dask.normalise.method.Reference`.

    Parameters
    ----------
    source : Source
        Samples and the steps before.
    phases : Phases or None
        Runs the passes; None for checks that need none.
    """

    def __init__(self, source: Source, phases: Phases | None) -> None:
        self.source = source
        self.phases = phases
        self.sample_ids = source.reader.sample_ids
        self.samples = source.sheet
        feature_ids, annotation, scale = source.feature_ids, source.annotation, source.scale
        for method, parameters in source.steps:
            scale = method.out_scale(scale)
            kept = method.out_features(parameters, feature_ids)
            if kept is not None:
                feature_ids, annotation = feature_ids[kept], annotation.loc[kept]
        self.feature_ids, self.annotation, self.scale = feature_ids, annotation, scale

    @property
    def n_features(self) -> int:
        """Features at this step."""
        return len(self.feature_ids)

    @cached_property
    def context(self) -> Arrays:
        """Per-sample arrays of the steps before."""
        if not self.source.steps:
            return self.source.context
        if "_stage" in self.__dict__:
            return self._stage.context
        return self.by_samples(_context_only).rows

    def by_samples(self, function: Callable[[Block, Any], Partial], common: Any = None) -> Partial:
        """See `Reference`."""
        ranges = sample_ranges(len(self.sample_ids), self.source.reader.n_features, self.source.reader.chunk_samples)
        partitions = [
            Partition(i, 0, self.source.reader.n_features, {"phase": "samples", "samples": list(one)})
            for i, one in enumerate(ranges)
        ]
        parts = self.phases.run(samples_task, _Work(self.source, function, common), partitions)
        return total(table_partial(part) for part in parts)

    def by_features(self, function: Callable[[Stripe, Any], Partial], common: Any = None) -> Partial:
        """See `Reference`.

        Raises
        ------
        PlanRefused
            So many samples that each chunk would be decoded many times.
        """
        source = self._direct()
        reader = source.reader
        most = max(1, COLUMN_STRIPE_BYTES // (8 * reader.n_samples))
        chunk = min(reader.chunk_features, reader.n_features)
        if -(-chunk // most) > MOST_DECODES:
            raise PlanRefused(
                f"this step needs all {reader.n_samples:,} reference samples of a feature at once, and only {most:,} "
                f"features of them fit in {COLUMN_STRIPE_BYTES / 1e6:.0f} MB, so each chunk of {chunk:,} features "
                f"would be decoded {-(-chunk // most)} times. Choose a smaller reference set with `fit_on`."
            )
        return self._stripes(stripe_task, source, most, function, common)

    def by_stripes(self, function: Callable[[Stripe, Any], Partial], common: Any, width: int) -> Partial:
        """As `by_features`, in stripes of about this width, however often chunks are decoded for them.

        The samples must be stored as they are wanted: no steps, no masks.
        """
        return self._stripes(stripe_task, self.source, width, function, common)

    def _stripes(
        self, task: Callable[..., pa.Table], source: Source, width: int, function: Callable[..., Partial], common: Any
    ) -> Partial:
        reader = source.reader
        chunk = min(reader.chunk_features, reader.n_features)
        width = width // chunk * chunk if width >= chunk else -(-chunk // -(-chunk // width))
        # A matrix of few chunks still gives every worker something to do.
        if reader.n_features <= chunk and reader.n_features * reader.n_samples > TASK_CELLS // 8:
            width = min(width, -(-reader.n_features // 4))
        partitions = [
            Partition(i, start, min(reader.n_features, start + width), {"phase": task.__name__})
            for i, start in enumerate(range(0, reader.n_features, width))
        ]
        parts = self.phases.run(task, _Work(source, function, common), partitions)
        return total(table_partial(part) for part in parts)

    def by_range(self, function: Callable[[int, int, Any], Partial], common: Any, n: int) -> Partial:
        """See `Reference`."""
        width = max(64, -(-n // 64))
        partitions = [
            Partition(i, 0, 0, {"phase": "range", "range": [start, min(n, start + width)]})
            for i, start in enumerate(range(0, n, width))
        ]
        return total(table_partial(part) for part in self.phases.run(range_task, (function, common), partitions))

    def after(self, method: Method, parameters: Arrays) -> ClusterReference:
        """See `Reference`."""
        base = self._stage if "_stage" in self.__dict__ else self.source
        following = ClusterReference(replace(base, steps=(*base.steps, (method, parameters))), self.phases)
        return following

    def _direct(self) -> Source:
        """A source without steps and masks, whose stripes can be read as they are."""
        if not self.source.steps and self.source.order is None and self.source.masks is None:
            return self.source
        return self._stage

    @cached_property
    def _stage(self) -> Source:
        """The reference set after its steps, written once: passes by features read stripes of it."""
        space = FeatureSpace.of(self.feature_ids, self.annotation)
        return stage(self.source, self.phases, space, self.annotation, self.scale)


def stage(
    source: Source,
    phases: Phases,
    space: FeatureSpace,
    annotation: pd.DataFrame,
    scale: str,
    chain: Chain | None = None,
) -> Source:
    """Write samples after their steps once, as float64: passes by features read stripes of what comes back.

    Parameters
    ----------
    source : Source
    phases : Phases
        `Phases.clean` removes the copy.
    space : FeatureSpace
        Features after the steps.
    annotation : DataFrame
        Their columns, in the same order.
    scale : str
        What the values are then.
    chain : Chain, optional
        Frozen steps in place of the source's own; a sample that can't pass them now has missing values, and the reason
        is in the context ``pending``.
    """
    phases.n_stages += 1
    # The name of a layer may be as long as names can be.
    name = f"{phases.name[:160]}.stage{phases.n_stages}"
    key = layer_key(name, phases.token)
    encoding = Encoding("float64")
    segments = plan_segments(
        phases.runner.session.run_id,
        key,
        name,
        list(source.reader.sample_ids),
        space,
        encoding,
        row_layout(phases.layout, space.n_features, encoding.numpy_dtype.itemsize),
    )
    for segment in segments:
        create_segment(phases.files, segment, space)
    phases.staged += segments
    partitions, first = [], 0
    for k, segment in enumerate(segments):
        rows = max(1, TASK_CELLS // max(1, source.reader.n_features))
        for start, stop in segment.row_ranges(min(rows, 512)):
            extras = {"phase": name, "segment": k, "row_start": start, "samples": [first + start, first + stop]}
            partitions.append(Partition(len(partitions), 0, source.reader.n_features, extras))
        first += len(segment.sample_ids)
    contexts: list[Partial] = []
    written: dict[int, list[RowsWritten]] = {}
    work = _StageWork(source, tuple(segments), phases.files, phases.durable, chain)
    parts = phases.write(stage_task, work, partitions, segments, _rows_written)
    for partition, part in zip(partitions, parts, strict=True):
        contexts.append(Partial({}, from_table(part).get("rows", {})))
        written.setdefault(partition.extras["segment"], []).append(_rows_written(part))
    pieces, first = [], 0
    for k, segment in enumerate(segments):
        record, _ = finish_segment(phases.files, segment, written[k], space)
        n = len(segment.sample_ids)
        pieces.append(
            Piece(
                segment.segment_id, encoding, record.chunks, record.manifest_hash,
                np.arange(n, dtype=np.int64), np.arange(first, first + n, dtype=np.int64),
            )
        )  # fmt: skip
        first += n
    reader = RegionReader(
        phases.files, key, name, list(source.reader.sample_ids), space.n_features, pieces, phases.token
    )
    return Source(
        Matrix(reader, name), scale, source.sheet, space.feature_ids, annotation, context=total(contexts).rows,
    )  # fmt: skip


def _rows_written(part: pa.Table) -> RowsWritten:
    return RowsWritten.from_json(json.loads(str(from_table(part)["written"]["json"][0])))


def _context_only(block: Block, common: Any) -> Partial:
    return Partial({}, dict(block.context))
