"""An assay as a lazy xarray Dataset. The graph holds one small task a block; nothing is read while it is built."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.store.region import RegionReader


class LazyMatrix:
    """Looks like an array to Dask; reads and decodes a region when it is indexed by slices."""

    ndim = 2

    def __init__(self, reader: RegionReader) -> None:
        self.reader = reader
        self.shape = (reader.n_samples, reader.n_features)
        # Integers become float64, so that missing can be NaN.
        self.dtype = reader.dtype if reader.encoding.is_float else np.dtype(np.float64)

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[Any]:
        rows, features = key
        row_start, row_stop, row_step = rows.indices(self.shape[0])
        start, stop, step = features.indices(self.shape[1])
        part = self.reader
        wanted = np.arange(row_start, row_stop, row_step)
        if len(wanted) == 0 or stop <= start:
            return np.empty((len(wanted), max(0, len(range(start, stop, step)))), dtype=self.dtype)
        if len(wanted) != self.shape[0]:
            part = part.subset(wanted)
        raw, encoding = part.columns(start, stop)
        values = raw if encoding.is_float else encoding.decode(raw)
        return values if step == 1 else values[:, ::step]


def dataset(reader: RegionReader, feature_ids: NDArray[Any]) -> xr.Dataset:
    """The reader's samples as a lazy Dataset, dims (samples, features)."""
    import dask.array as da

    matrix = LazyMatrix(reader)
    data = da.from_array(  # type: ignore[no-untyped-call]
        matrix,
        chunks=(_row_chunks(reader), reader.chunk_features),
        name=f"{reader.assay}-{reader.content_hash()}",
        meta=np.empty((0, 0), dtype=matrix.dtype),
        lock=False,
    )
    return xr.Dataset(
        {reader.quantity: ((names.SAMPLES, names.FEATURES), data)},
        coords={
            names.SAMPLE_ID: (names.SAMPLES, np.array(reader.sample_ids, dtype=object)),
            names.FEATURE_ID: (names.FEATURES, np.asarray(feature_ids, dtype=object)),
        },
    )


def _row_chunks(reader: RegionReader) -> tuple[int, ...]:
    # Blocks end where segments end, so that no chunk is read twice; small segments share a block.
    limit = max(256, reader.chunk_samples)
    sizes: list[int] = []
    for piece in reader.pieces:
        left = len(piece.rows)
        if sizes and sizes[-1] + left <= limit:
            sizes[-1] += left
            continue
        while left:
            sizes.append(min(left, limit))
            left -= sizes[-1]
    return tuple(sizes)
