"""Weights given to `associate`: aligned by id, and streamed through a stripe beside its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.associate import model as models
from sjd_dask.associate.results import FeatureFits
from sjd_dask.errors import DataError, PlanRefused, SpecError
from sjd_dask.kernels import linear, weighted

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """Weights in the order of the data: `samples` (n,) or `cells` (n, F), NumPy or Dask; the other is None."""

    samples: Floats | None = None
    cells: Any = None


def aligned_weights(given: xr.DataArray | pd.Series[Any], sample_ids: pd.Index[Any], data: xr.DataArray) -> Weights:
    """Weights by sample id (and feature id) in the order of the data.

    Parameters
    ----------
    given : Series, index sample ids; or DataArray, dims (samples,) or (samples, features), with ids
    sample_ids : Index
        Of the data.
    data : DataArray, dims (samples, features)

    Raises
    ------
    SpecError
        Weights without ids, or of other dims.
    DataError
        A sample or feature without weights.
    PlanRefused
        Dask weights in other chunks than the data.
    """
    if isinstance(given, pd.Series):
        given = xr.DataArray(
            given.to_numpy(dtype=np.float64), dims=names.SAMPLES,
            coords={names.SAMPLE_ID: (names.SAMPLES, np.array([str(i) for i in given.index], dtype=object))},
        )  # fmt: skip
    if not isinstance(given, xr.DataArray) or set(given.dims) not in ({names.SAMPLES}, {names.SAMPLES, names.FEATURES}):
        found = given.dims if isinstance(given, xr.DataArray) else type(given).__name__
        raise SpecError(
            f"weights are a Series with sample ids as index, or a DataArray with dims ({names.SAMPLES},) or "
            f"({names.SAMPLES}, {names.FEATURES}) and their ids; these are {found}"
        )
    if given.dtype.kind not in "buif":
        raise SpecError(f"weights hold {given.dtype}; numbers are needed")
    own = _index(given, names.SAMPLES, names.SAMPLE_ID)
    if own is None:
        raise SpecError(
            "weights have no sample ids, and samples are never matched by position: "
            f'weights.assign_coords({names.SAMPLE_ID}=("{names.SAMPLES}", ids))'
        )
    rows = _places(own, sample_ids, "samples")
    if given.ndim == 1:
        return Weights(samples=np.asarray(given.to_numpy(), dtype=np.float64)[rows])
    table = given.transpose(names.SAMPLES, names.FEATURES)
    columns = np.arange(table.sizes[names.FEATURES])
    wanted, had = _index(data, names.FEATURES, names.FEATURE_ID), _index(table, names.FEATURES, names.FEATURE_ID)
    if wanted is not None and had is not None:
        columns = _places(had, wanted, "features")
    elif table.sizes[names.FEATURES] != data.sizes[names.FEATURES]:
        raise DataError(
            f"weights have {table.sizes[names.FEATURES]} features and the data {data.sizes[names.FEATURES]}"
        )
    cells = table.data
    in_order = all(np.array_equal(place, np.arange(n)) for place, n in zip((rows, columns), cells.shape, strict=True))
    if isinstance(cells, np.ndarray):
        cells = np.asarray(cells, dtype=np.float64)
        return Weights(cells=cells if in_order else cells[np.ix_(rows, columns)])
    if not in_order:
        raise PlanRefused(
            "Dask weights need the samples and features of the data in the same order: reordering would cut them into "
            "other chunks. Remedy: weights.isel(...) in the order of the data"
        )
    if getattr(data.data, "chunks", None) != cells.chunks:
        raise PlanRefused(
            "Dask weights need the chunks of the data, and they are not rechunked silently. Remedy: "
            "weights.chunk(data.chunksizes), or weights.compute() beside a NumPy matrix"
        )
    return Weights(cells=cells)


def _index(array: xr.DataArray, dim: str, name: str) -> pd.Index[Any] | None:
    for coordinate in (name, dim):
        if coordinate in array.coords and array.coords[coordinate].dims == (dim,):
            return pd.Index([str(i) for i in array.coords[coordinate].to_numpy()])
    return None


def _places(own: pd.Index[Any], wanted: pd.Index[Any], what: str) -> NDArray[np.int64]:
    if own.has_duplicates:
        raise DataError(f"{what} stand more than once in the weights: {', '.join(own[own.duplicated()].unique()[:5])}")
    places = own.get_indexer(wanted)
    absent = wanted[places < 0]
    if len(absent):
        raise DataError(f"{len(absent)} of {len(wanted)} {what} have no weight: {', '.join(map(str, absent[:5]))}")
    return np.asarray(places, dtype=np.int64)


@dataclass
class WeightedStream:
    """Weighted sums of a stripe while blocks of samples come in; a step gives a new one and leaves the old."""

    sums: weighted.WeightedSums
    # As in `model.Stream`: samples that wait for enough of them to give the pilot.
    waiting: tuple[NDArray[Any], NDArray[Any] | None] | None = None

    def step(self, model: models.LinearModel, block: NDArray[Any], given: NDArray[Any] | None = None) -> WeightedStream:
        """Add the next samples, as stored, with the weights of their cells unless `model` has those of samples."""
        values = np.asarray(model.values(block), dtype=np.float64)
        if self.sums.rows == 0:
            if self.waiting is not None:
                before, weights = self.waiting
                values = np.concatenate([before, values])
                given = None if given is None or weights is None else np.concatenate([weights, given])
            if values.shape[0] < min(model.basis.n, linear.PILOT_ROWS):
                return WeightedStream(self.sums, (values, given))
        sums = self.sums.copy()
        part = slice(sums.rows, sums.rows + values.shape[0])
        if given is None:
            assert model.sample_weights is not None
            given = model.sample_weights[part]
        rows = model.basis.q[part]
        weighted.accumulate_weighted(sums, rows, values, given, has_intercept=model.basis.has_intercept)
        return WeightedStream(sums)


def new_weighted_stream(model: models.LinearModel, n_features: int) -> WeightedStream:
    """Sums of a stripe before the first sample."""
    return WeightedStream(weighted.new_weighted_sums(model.basis, n_features))


def is_complete(stream: WeightedStream) -> bool:
    """Whether no value of the stripe is missing."""
    return bool((stream.sums.n_values == stream.sums.rows).all())


def takes_weighted_design(model: models.LinearModel) -> bool:
    """Whether limma's contrasts take the correlations of the weighted design, as long as no value at all is missing."""
    samples = model.sample_weights
    return model.na_contrasts == "limma" and samples is not None and bool(((samples > 0) & (samples < np.inf)).all())


def finish_weighted_stream(
    model: models.LinearModel,
    stream: WeightedStream,
    columns: models.Columns,
    cells: models.Columns | None = None,
    complete: bool = False,
) -> FeatureFits:
    """Fits and contrasts of a stripe; `columns` and `cells` give values and weights (n, few) where they are needed.

    `complete` says that no value of any stripe is missing; it matters where `takes_weighted_design`.
    """
    covariance = None
    if complete and takes_weighted_design(model):
        assert model.sample_weights is not None
        root = np.sqrt(model.sample_weights)[:, None]
        covariance = linear.linear_design(model.basis.matrix * root).cov_unscaled
    fit = weighted.finish_weighted(stream.sums, model.basis, covariance)
    needed = fit.needs_columns
    if needed.size:
        own = np.asarray(model.values(columns(needed)), dtype=np.float64)
        given = model.sample_weights if cells is None else cells(needed)
        assert given is not None
        fit = weighted.refit_weighted(fit, model.basis, own, given)
    return models.weighted_fits(fit, model)
