"""Samples on their way through a chain: read in blocks, put through the steps, and collected into rows to write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.normalise_masks import N_MASKED, Masks
from sjd_dask.normalise.method import Arrays, Block, Method
from sjd_dask.normalise.reference import refuse_pending
from sjd_dask.store.layer_writing import LayerSegment, RowsWritten, write_rows
from sjd_dask.store.layout import Layout
from sjd_dask.store.region import RegionReader

if TYPE_CHECKING:
    from sjd_dask.store.files import Files

# Decoded values that a task holds at a time; rows are taken in blocks of about this size.
BLOCK_BYTES = 24 << 20
# Raw values read at a time; chunks of more rows than fit are decoded more than once.
RAW_BYTES = 112 << 20
# Rows of a layer that a task collects before it writes them.
GROUP_BYTES = 64 << 20


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


def in_order(blocks_rows: list[tuple[tuple[str, ...], Arrays]], wanted: tuple[str, ...]) -> Arrays:
    """Per-sample arrays of blocks in any order, put into the order of these sample ids."""
    ids = [one for block_ids, _ in blocks_rows for one in block_ids]
    place = {one: i for i, one in enumerate(ids)}
    index = np.array([place[one] for one in wanted], dtype=np.int64)
    names = list(dict.fromkeys(name for _, rows in blocks_rows for name in rows))
    return {name: np.concatenate([rows[name] for _, rows in blocks_rows], axis=0)[index] for name in names}


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
