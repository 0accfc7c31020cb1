"""The same as a Dask graph: samples stream through each stripe's sums, and one small reduction sees all features.

Nothing is computed while the graph is built, and features are never rechunked.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import dask
import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.associate import model as models
from sjd_dask.associate import weights as weighing
from sjd_dask.errors import PlanRefused
from sjd_dask.kernels.correlation import consensus_correlation

Variables = dict[str, NDArray[Any]]
Reduce = Callable[[list[Any]], Variables]
# Of each variable: its first dimension if that is contrasts, and its type.
Shapes = dict[str, tuple[tuple[str, ...], Any]]


class Stripe:
    """Stored values of one stripe, read again only if a feature needs its own column.

    A plain object, so that Dask hands it to a task as it is; the columns are computed inside that task.
    """

    def __init__(self, array: Any, rows: NDArray[np.int64]) -> None:
        self.array = array
        self.rows = rows

    def __call__(self, features: NDArray[np.int64]) -> NDArray[Any]:
        with dask.config.set(scheduler="synchronous"):
            picked: NDArray[Any] = np.asarray(self.array[:, features])
        return picked[self.rows]


def linear_stripes(array: Any, rows: NDArray[np.int64], model: models.LinearModel, cells: Any = None) -> list[Delayed]:
    """Delayed fits of each chunk of features; `rows` are the samples used, ascending; `cells` their weights if any."""
    if model.blocks is not None:
        return _block_stripes(array, rows, model)
    if cells is not None or model.sample_weights is not None:
        return _weighted_stripes(array, rows, model, cells)
    shared = delayed(model, traverse=False)
    grid = array.to_delayed()
    edges = np.cumsum((0, *array.chunks[1]))
    stripes = []
    for k in range(grid.shape[1]):
        stream = delayed(models.new_stream)(shared, int(array.chunks[1][k]))
        for block, wanted in zip(grid[:, k], _rows_of_chunks(array.chunks[0], rows), strict=True):
            if wanted is None or wanted.size:
                stream = delayed(_step)(stream, shared, block, wanted)
        own = delayed(Stripe(array[:, edges[k] : edges[k + 1]], rows), traverse=False)
        stripes.append(delayed(models.finish_stream)(shared, stream, own))
    return stripes


def _weighted_stripes(array: Any, rows: NDArray[np.int64], model: models.LinearModel, cells: Any) -> list[Delayed]:
    """As `linear_stripes`; weights of cells have the chunks of the data, or are a NumPy array cut by them."""
    shared = delayed(model, traverse=False)
    grid = array.to_delayed()
    edges = [np.cumsum((0, *sizes)) for sizes in array.chunks]
    picked = _rows_of_chunks(array.chunks[0], rows)
    lazy = None if cells is None or isinstance(cells, np.ndarray) else cells.to_delayed()
    streams, readers = [], []
    for k, (start, stop) in enumerate(pairwise(edges[1])):
        stream = delayed(weighing.new_weighted_stream)(shared, int(stop - start))
        for i, wanted in enumerate(picked):
            if wanted is not None and not wanted.size:
                continue
            given: Any = None
            if lazy is not None:
                given = lazy[i, k]
            elif cells is not None:
                given = delayed(cells[edges[0][i] : edges[0][i + 1], start:stop], traverse=False)
            stream = delayed(_weighted_step)(stream, shared, grid[i, k], given, wanted)
        own = delayed(Stripe(array[:, start:stop], rows), traverse=False)
        weights = None if cells is None else delayed(Stripe(cells[:, start:stop], rows), traverse=False)
        streams.append(stream)
        readers.append((own, weights))
    complete: Any = False
    if weighing.takes_weighted_design(model):
        complete = delayed(all)([delayed(weighing.is_complete)(stream) for stream in streams])
    return [
        delayed(weighing.finish_weighted_stream)(shared, stream, own, weights, complete)
        for stream, (own, weights) in zip(streams, readers, strict=True)
    ]


def group_stripes(array: Any, rows: NDArray[np.int64], model: models.GroupModel) -> list[Delayed]:
    """Delayed tests between groups of each chunk of features."""
    shared = delayed(model, traverse=False)
    return [
        delayed(models.compare_groups)(shared, values) for values in _whole_columns(array, rows, f"test={model.test!r}")
    ]


def reduce_stripes(
    stripes: list[Delayed], reduce: Reduce, chunks: tuple[int, ...], shapes: Shapes, k: int
) -> dict[str, Any]:
    """Dask arrays of each variable, chunked as the features are, from one reduction over all stripes."""
    whole = delayed(reduce)(stripes)
    # Dask's own functions carry no types.
    from_delayed, concatenate = cast(Any, da.from_delayed), cast(Any, da.concatenate)
    edges = np.cumsum((0, *chunks))
    arrays: dict[str, Any] = {}
    for name, (dims, dtype) in shapes.items():
        if names.FEATURES not in dims:
            arrays[name] = from_delayed(delayed(_whole)(whole, name), shape=(k,), dtype=dtype)
            continue
        lead = (k,) if names.CONTRASTS in dims else ()
        pieces = [
            from_delayed(
                delayed(_piece)(whole, name, int(start), int(stop)), shape=(*lead, int(stop - start)), dtype=dtype
            )
            for start, stop in pairwise(edges)
        ]
        arrays[name] = concatenate(pieces, axis=len(lead))
    return arrays


def _block_stripes(array: Any, rows: NDArray[np.int64], model: models.LinearModel) -> list[Delayed]:
    shared = delayed(model, traverse=False)
    columns = _whole_columns(array, rows, "block")
    rho = delayed(_consensus)([delayed(models.block_correlations)(shared, values) for values in columns])
    return [delayed(models.fit_blocks)(shared, values, rho) for values in columns]


def _whole_columns(array: Any, rows: NDArray[np.int64], what: str) -> list[Delayed]:
    if array.numblocks[0] > 1:
        raise PlanRefused(
            f"{what} needs all {array.shape[0]:,} samples of a feature at once, and the data are cut into "
            f"{array.numblocks[0]} chunks along samples, which are not joined silently. Remedy: "
            f'data.chunk({{"{names.SAMPLES}": -1, "{names.FEATURES}": {_width(array)}}})'
        )
    wanted = None if rows.size == array.shape[0] else rows
    return [delayed(_rows)(block, wanted) for block in array.to_delayed()[0]]


def _width(array: Any, limit: int = 128 << 20) -> int:
    """Features whose whole columns stay below `limit` bytes."""
    return int(max(1, min(array.chunks[1][0], limit // max(1, array.shape[0] * array.dtype.itemsize))))


def _rows_of_chunks(chunks: tuple[int, ...], rows: NDArray[np.int64]) -> list[NDArray[np.int64] | None]:
    """The wanted rows of each chunk, counted from its start; None for all of them."""
    edges = np.cumsum((0, *chunks))
    parts = [rows[(rows >= a) & (rows < b)] - a for a, b in pairwise(edges)]
    return [None if part.size == size else part for part, size in zip(parts, chunks, strict=True)]


def _step(
    stream: models.Stream, model: models.LinearModel, block: Any, wanted: NDArray[np.int64] | None
) -> models.Stream:
    return stream.step(model, _rows(block, wanted))


def _weighted_step(
    stream: weighing.WeightedStream, model: models.LinearModel, block: Any, given: Any, wanted: Any
) -> weighing.WeightedStream:
    return stream.step(model, _rows(block, wanted), None if given is None else _rows(given, wanted))


def _rows(block: Any, wanted: NDArray[np.int64] | None) -> NDArray[Any]:
    values: NDArray[Any] = np.asarray(block)
    return values if wanted is None else values[wanted]


def _consensus(parts: list[NDArray[np.float64]]) -> float:
    return consensus_correlation(np.concatenate(parts))


def _piece(variables: Variables, name: str, start: int, stop: int) -> NDArray[Any]:
    return variables[name][..., start:stop]


def _whole(variables: Variables, name: str) -> NDArray[Any]:
    return variables[name]
