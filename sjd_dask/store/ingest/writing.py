"""From the spool to a segment: stripes of features in the assay's order, in tiles of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sjd_dask.store.hashing import RowHasher
from sjd_dask.store.ingest.sources.base import Orientation
from sjd_dask.store.layout import Encoding, Layout
from sjd_dask.store.segment import SegmentWriter

# One tile is at most this, or one chunk where a chunk is larger.
TILE_BYTES = 64 << 20


@dataclass(frozen=True)
class Spooled:
    """A spooled matrix and how to read it.

    Parameters
    ----------
    array : ndarray, shape (major, minor)
        Raw values in the order of arrival.
    orientation : {'features', 'samples'}
        What the major axis is.
    encoding : Encoding
        Of the spooled raw values.
    order : ndarray of int64
        Place of each of the assay's features; -1 for absent ones.
    """

    array: npt.NDArray[Any]
    orientation: Orientation
    encoding: Encoding
    order: npt.NDArray[np.int64]

    def take(self, samples: npt.NDArray[np.int64], features: slice) -> npt.NDArray[Any]:
        """Raw values of some samples and a range of the assay's features, shape (samples, features), C order."""
        order = self.order[features]
        present = order >= 0
        places = order if present.all() else order[present]
        if self.orientation == "features":
            found = _select(self.array, places, samples).T
        else:
            found = _select(self.array, samples, places)
        if len(places) == len(order):
            return np.ascontiguousarray(found)
        tile = np.full((len(samples), len(order)), self.encoding.fill, dtype=self.array.dtype)
        tile[:, present] = found
        return tile


def _run(places: npt.NDArray[np.int64]) -> slice | None:
    """The places as a slice where they follow one another."""
    if len(places) and places[-1] - places[0] == len(places) - 1 and (np.diff(places) == 1).all():
        return slice(int(places[0]), int(places[-1]) + 1)
    return None


def _select(array: npt.NDArray[Any], major: npt.NDArray[np.int64], minor: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    rows, columns = _run(major), _run(minor)
    if rows is not None:
        part = array[rows]
        return np.asarray(part[:, columns] if columns is not None else part[:, minor])
    if columns is not None:
        return np.asarray(array[:, columns][major])
    return np.asarray(array[np.ix_(major, minor)])


def tiles(
    spooled: Spooled, samples: npt.NDArray[np.int64], layout: Layout
) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
    """Pairs of corners and raw tiles that cover the samples in the given order and all features; features of a
    sample in order.

    Memory: three tiles of `TILE_BYTES` (or of one chunk, where that is larger), whatever the shape of the matrix.
    """
    n_features = len(spooled.order)
    chunk_samples, chunk_features = layout.chunks(len(samples), n_features)
    row_bytes = chunk_features * spooled.array.dtype.itemsize
    step = max(1, TILE_BYTES // (row_bytes * chunk_samples)) * chunk_samples
    stripes = [(start, min(n_features, start + chunk_features)) for start in range(0, n_features, chunk_features)]
    rows = [(start, min(len(samples), start + step)) for start in range(0, len(samples), step)]
    # The outer loop follows the order of the file, so that it is read from disk once.
    if spooled.orientation == "features":
        corners = [(r, f) for f in stripes for r in rows]
    else:
        corners = [(r, f) for r in rows for f in stripes]
    for (row, row_stop), (feature, feature_stop) in corners:
        yield row, feature, spooled.take(samples[row:row_stop], slice(feature, feature_stop))


def narrow(raw: npt.NDArray[Any], source: Encoding, target: Encoding) -> npt.NDArray[Any]:
    """Raw whole numbers of one width said in another that holds them all; the code for missing changes with it."""
    if source == target:
        return raw
    result = raw.astype(target.numpy_dtype)
    if source.fill_value is not None and target.fill_value is not None:
        result[raw == source.fill_value] = target.fill_value
    return result


def hash_rows(
    spooled: Spooled,
    samples: npt.NDArray[np.int64],
    layout: Layout,
    encoding: Encoding,
    writer: SegmentWriter | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Hash each sample's row, and write it where a writer is given.

    Parameters
    ----------
    spooled : Spooled
    samples : ndarray of int64
        Places of the samples in the source, in the order of the segment.
    layout : Layout
    encoding : Encoding
        Of the stored values.
    writer : SegmentWriter, optional
    progress : callable, optional
        Called with the number of cells done.

    Returns
    -------
    list of str
        One hash for each sample, as `sjd_dask.store.hashing` defines it.
    """
    hasher = RowHasher(len(samples), encoding)
    done = 0
    for row, feature, tile in tiles(spooled, samples, layout):
        raw = narrow(tile, spooled.encoding, encoding)
        hasher.update(row, raw)
        if writer is not None:
            writer.write(row, feature, raw)
        done += raw.size
        if progress is not None:
            progress(done)
    return hasher.hexdigests()


def count_missing(spooled: Spooled, n_samples: int, layout: Layout) -> npt.NDArray[np.int64]:
    """Missing values of each sample among the assay's features."""
    count: npt.NDArray[np.int64] = np.zeros(n_samples, dtype=np.int64)
    for row, _, tile in tiles(spooled, np.arange(n_samples, dtype=np.int64), layout):
        gone = np.isnan(tile) if spooled.encoding.is_float else tile == spooled.encoding.fill_value
        count[row : row + len(tile)] += gone.sum(axis=1)
    return count
