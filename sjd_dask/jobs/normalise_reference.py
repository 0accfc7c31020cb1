"""A reference set on the cluster: the passes of a fit as partitions, each leaving one small part."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask.errors import PlanRefused
from sjd_dask.jobs.arrays_table import from_table, partial_table, table_partial, to_table
from sjd_dask.jobs.associate_tasks import Matrix
from sjd_dask.jobs.normalise_masks import N_MASKED, Masks
from sjd_dask.normalise.method import Arrays, Block, Method, Partial, Stripe
from sjd_dask.normalise.reference import refuse_pending, total
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
    write_rows,
)
from sjd_dask.store.layout import Encoding, Layout
from sjd_dask.store.region import Piece, RegionReader

if TYPE_CHECKING:
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.store.files import Files

# Decoded values that a task holds at a time; rows are taken in blocks of about this size.
BLOCK_BYTES = 24 << 20
# Raw values read at a time; chunks of more rows than fit are decoded more than once.
RAW_BYTES = 112 << 20
TASK_CELLS = 30_000_000
MOST_PARTS = 256
COLUMN_STRIPE_BYTES = 80 << 20
# Rows of a layer that a task collects before it writes them.
GROUP_BYTES = 64 << 20
MOST_DECODES = 16


@dataclass(frozen=True)
class Source:
    """Samples of an assay, a layer or a staged matrix, and the steps that they pass.

    Attributes
    ----------
    matrix : Matrix
        Where values come from; its reader's samples are the samples here, in order.
    scale : str
        What they are before the steps.
    sheet : DataFrame
        Sample columns, one row a sample in the reader's order.
    feature_ids, annotation : ndarray, DataFrame
        Of the reader.
    order : ndarray of int64 or None
        Where the steps' features stand among the reader's; None where they are the same.
    context : dict
        Per-sample arrays that are known already.
    steps : tuple
    masks : Masks or None
        Which values are missing before the first step.
    """

    matrix: Matrix
    scale: str
    sheet: pd.DataFrame
    feature_ids: NDArray[Any]
    annotation: pd.DataFrame
    order: NDArray[np.int64] | None = None
    context: Arrays = field(default_factory=dict)
    steps: tuple[tuple[Method, Arrays], ...] = ()
    masks: Masks | None = None

    @property
    def reader(self) -> RegionReader:
        """The reader of the matrix."""
        return self.matrix.reader

    @property
    def block_rows(self) -> int:
        """Rows of a decoded block."""
        return int(np.clip(BLOCK_BYTES // (8 * max(1, self.reader.n_features)), 1, 64))

    @property
    def read_rows(self) -> int:
        """Rows read at a time: whole chunks if they fit."""
        step = self.reader.chunk_samples
        fit = RAW_BYTES // max(1, self.reader.dtype.itemsize * self.reader.n_features)
        return max(1, fit // step * step if fit >= step else fit) if fit < 64 else max(64 // step * step, step)

    def raw_blocks(self, start: int, stop: int) -> Iterator[Block]:
        """Decoded blocks of the samples from `start` to `stop`, before any step, in the order of storage."""
        reader = self.reader
        chosen = reader.subset(np.arange(start, stop))
        matrix = replace(self.matrix, reader=chosen)
        feature_ids, annotation = self.feature_ids, self.annotation
        if self.order is not None:
            feature_ids, annotation = feature_ids[self.order], annotation.iloc[self.order]
        for positions, raw, encoding in chosen.row_blocks(0, reader.n_features, rows=self.read_rows, reuse=True):
            mask = None if self.masks is None else self.masks.read(start + positions)
            for at in range(0, len(raw), self.block_rows):
                places = start + positions[at : at + self.block_rows]
                values = matrix.values(raw[at : at + self.block_rows], encoding)
                context = {name: value[places] for name, value in self.context.items()}
                if mask is not None:
                    values, context[N_MASKED] = mask(values, at)
                if self.order is not None:
                    values = np.ascontiguousarray(values[:, self.order])
                yield Block(
                    values,
                    tuple(reader.sample_ids[i] for i in places),
                    feature_ids,
                    annotation,
                    self.sheet.iloc[places],
                    self.scale,
                    context,
                )

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """The same after the steps."""
        for block in self.raw_blocks(start, stop):
            for method, parameters in self.steps:
                block = method.apply(block, parameters)
                refuse_pending(block, method)
            yield block


@dataclass(frozen=True)
class _Work:
    source: Source
    function: Callable[..., Partial]
    common: Any


def in_order(blocks_rows: list[tuple[tuple[str, ...], Arrays]], wanted: tuple[str, ...]) -> Arrays:
    """Per-sample arrays of blocks in any order, put into the order of these sample ids."""
    ids = [one for block_ids, _ in blocks_rows for one in block_ids]
    place = {one: i for i, one in enumerate(ids)}
    index = np.array([place[one] for one in wanted], dtype=np.int64)
    names = list(dict.fromkeys(name for _, rows in blocks_rows for name in rows))
    return {name: np.concatenate([rows[name] for _, rows in blocks_rows], axis=0)[index] for name in names}


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


class GroupWriter:
    """Collects rows until whole chunk rows are there, then writes and forgets them: a task holds few of them at a time.

    Parameters
    ----------
    row_start : int
        Where the rows begin in the segment.
    sample_ids : tuple of str
        The samples of all rows to come, in the segment's order.
    durable : bool
        Whether rows are on disk once they are written; see `RowsWriter`.
    """

    def __init__(
        self, files: Files, segment: LayerSegment, row_start: int, sample_ids: tuple[str, ...], durable: bool
    ) -> None:
        self.files, self.segment, self.row_start, self.durable = files, segment, row_start, durable
        self._place = {one: i for i, one in enumerate(sample_ids)}
        row_bytes = segment.n_features * segment.encoding.numpy_dtype.itemsize
        chunk = segment.chunks[0]
        self._size = max(1, GROUP_BYTES // max(1, row_bytes * chunk)) * chunk
        self._open: dict[int, NDArray[Any]] = {}
        self._missing: dict[int, int] = {}
        self._done: list[RowsWritten] = []

    def put(self, sample_ids: tuple[str, ...], values: NDArray[np.float64]) -> None:
        """Take the rows of some samples."""
        places = np.array([self._place[one] for one in sample_ids], dtype=np.int64)
        for group in np.unique(places // self._size).tolist():
            mine = places // self._size == group
            first = group * self._size
            if group not in self._open:
                n = min(self._size, len(self._place) - first)
                self._open[group] = np.empty((n, self.segment.n_features), self.segment.encoding.numpy_dtype)
                self._missing[group] = n
            self._open[group][places[mine] - first] = values if mine.all() else values[mine]
            self._missing[group] -= int(mine.sum())
            if not self._missing[group]:
                raw = self._open.pop(group)
                start = self.row_start + first
                self._done.append(write_rows(self.files, self.segment, start, raw, durable=self.durable))

    def written(self) -> RowsWritten:
        """What was written, as one."""
        if self._open or not self._done:
            raise ValueError("rows of this range are missing")
        parts = sorted(self._done, key=lambda part: part.row_start)
        return RowsWritten(
            self.row_start,
            sum(part.n_rows for part in parts),
            tuple(one for part in parts for one in part.row_hashes),
            {key: entry for part in parts for key, entry in part.entries.items()},
        )


def row_layout(layout: Layout, n_features: int, itemsize: int) -> Layout:
    """The cohort's layout, with fewer rows in a chunk where a chunk row of so many features would fill the memory."""
    fit = max(8, GROUP_BYTES // max(1, n_features * itemsize))
    return replace(layout, chunk_samples=min(layout.chunk_samples, 1 << (fit.bit_length() - 1)))


@dataclass(frozen=True)
class _StageWork:
    source: Source
    segments: tuple[LayerSegment, ...]
    files: Files
    durable: bool


def stage_task(work: _StageWork, partition: Partition) -> pa.Table:
    """Write some samples after the steps, for passes by features that come next."""
    segment = work.segments[partition.extras["segment"]]
    start, stop = partition.extras["samples"]
    base = partition.extras["row_start"] - start
    writer = GroupWriter(work.files, segment, start + base, work.source.reader.sample_ids[start:stop], work.durable)
    rows: list[tuple[tuple[str, ...], Arrays]] = []
    for block in work.source.blocks(start, stop):
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
        source, phases = self.source, self.phases
        space = FeatureSpace.of(self.feature_ids, self.annotation)
        phases.n_stages += 1
        # The name of a layer may be as long as names can be.
        name = f"{phases.name[:160]}.stage{phases.n_stages}"
        key = layer_key(name, phases.token)
        encoding = Encoding("float64")
        segments = plan_segments(
            phases.runner.session.run_id,
            key,
            name,
            list(self.sample_ids),
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
        work = _StageWork(source, tuple(segments), phases.files, phases.durable)
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
        reader = RegionReader(phases.files, key, name, list(self.sample_ids), space.n_features, pieces, phases.token)
        return Source(
            Matrix(reader, name), self.scale, self.samples, self.feature_ids, self.annotation,
            context=total(contexts).rows,
        )  # fmt: skip


def _rows_written(part: pa.Table) -> RowsWritten:
    return RowsWritten.from_json(json.loads(str(from_table(part)["written"]["json"][0])))


def _context_only(block: Block, common: Any) -> Partial:
    return Partial({}, dict(block.context))
