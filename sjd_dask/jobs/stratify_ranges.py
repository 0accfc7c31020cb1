"""Ranges of samples in the order of storage, and their chosen features: what every pass over all samples reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sjd_dask.jobs.normalise_source import RAW_BYTES, Source

# Samples of a task: some seconds where they are placed.
PLACE_ROWS = 4096


def chosen_values(source: Source, index: NDArray[np.int64], start: int, stop: int) -> NDArray[np.float64]:
    """The chosen features of the samples from `start` to `stop`, (stop - start, p); only their chunks are read."""
    reader = source.reader.subset(np.arange(start, stop))
    width = reader.chunk_features
    out = np.empty((stop - start, len(index)))
    for column in np.unique(index // width).tolist():
        here = np.flatnonzero(index // width == column)
        first, last = column * width, min(reader.n_features, (column + 1) * width)
        rows = RAW_BYTES // max(1, reader.dtype.itemsize * (last - first))
        step = reader.chunk_samples
        for places, raw, encoding in reader.row_blocks(first, last, max(step, rows // step * step), reuse=True):
            taken = np.ascontiguousarray(raw[:, index[here] - first])
            out[np.ix_(places, here)] = source.matrix.values(taken, encoding)
    return out


def place_ranges(n: int, chunk: int) -> list[tuple[int, int]]:
    """Ranges of samples for the tasks that place them: whole chunks."""
    rows = max(chunk, PLACE_ROWS // chunk * chunk)
    return [(start, min(n, start + rows)) for start in range(0, n, rows)]
