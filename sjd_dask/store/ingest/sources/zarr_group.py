"""A Zarr group as xarray writes it: one variable with two dimensions, and ids as coordinates. Or one without names of
dimensions, with the arrays of an NPZ matrix: values, features, samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.codec import use_fast_pipeline
from sjd_dask.store.ingest.sources.base import (
    BLOCK_BYTES,
    Block,
    MatrixSource,
    Orientation,
    SourceOptions,
    as_text,
    check_shape,
    orient,
    square_warning,
)

_SAMPLE_DIMENSIONS = (names.SAMPLES, names.SAMPLE_ID, "sample", "obs")
_FEATURE_DIMENSIONS = (names.FEATURES, names.FEATURE_ID, "feature", "var")


class ZarrSource(MatrixSource):
    """One variable of a Zarr group; see `open_zarr`."""

    def __init__(
        self,
        path: Path,
        variable: xr.DataArray | zarr.Array[Any],
        chunk_rows: int,
        orientation: Orientation,
        major_ids: list[str],
        minor_ids: list[str],
    ) -> None:
        attributes: dict[str, Any] = {str(key): value for key, value in variable.attrs.items()}
        self._factor = attributes.get("scale_factor")
        self._offset = attributes.get("add_offset")
        self._fills = [float(attributes[k]) for k in ("_FillValue", "missing_value") if k in attributes]
        self._fills = [f for f in self._fills if not np.isnan(f)]
        stored = variable.dtype
        scaled = self._factor is not None or self._offset is not None
        if stored.kind == "f" and not scaled:
            dtype = np.dtype(np.float64 if stored.itemsize == 8 else np.float32)
        else:
            dtype = np.dtype(np.float64) if scaled or self._fills else stored
        super().__init__(path=path, orientation=orientation, minor_ids=minor_ids, dtype=dtype, major_ids=major_ids)
        self._variable = variable
        self._chunk_rows = chunk_rows

    def _decode(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.dtype.kind != "f":
            return raw
        values = raw.astype(self.dtype)
        if self._factor is not None:
            values *= float(self._factor)
        if self._offset is not None:
            values += float(self._offset)
        for fill in self._fills:
            values[raw == fill] = np.nan
        return values

    def blocks(self) -> Iterator[Block]:
        assert self.major_ids is not None
        n, width = len(self.major_ids), len(self.minor_ids)
        # Whole chunks at a time, else each would be decoded again for every block that cuts it.
        step = max(1, BLOCK_BYTES // (width * 8))
        step = max(self._chunk_rows, step // self._chunk_rows * self._chunk_rows)
        for start in range(0, n, step):
            stop = min(n, start + step)
            try:
                raw = np.asarray(self._variable[start:stop])
            except (OSError, RuntimeError, ValueError) as error:
                raise DataError(f"{self.path}: rows {start + 1:,} to {stop:,} can't be read ({error}).") from None
            yield Block(self.major_ids[start:stop], self._decode(raw))

    def close(self) -> None:
        if isinstance(self._variable, xr.DataArray):
            self._variable.close()


def _ids(data: xr.Dataset, dimension: str, options: tuple[str, ...], path: Path) -> list[str]:
    for name in options:
        if name in data.variables and data[name].dims == (dimension,):
            return as_text(list(data[name].values))
    raise DataError(
        f"{path}: there is no coordinate {options[0]!r} along the dimension {dimension!r}; it holds the ids."
    )


def open_zarr(path: Path, options: SourceOptions) -> ZarrSource:
    """Open a Zarr group (format 2 or 3), such as xarray writes, or a segment of a cohort.

    The variable is ``options.layer``, else the one named like the quantity, else the only one with two dimensions. Its
    dimensions are `samples` and `features`, in either order, with coordinates `sample_id` and `feature_id`.
    `scale_factor`, `add_offset` and `_FillValue` are applied in float64. Arrays without names of dimensions are read by
    name: `values` (or ``options.layer``, or the quantity), `features` and `samples`, as in an NPZ file.

    Raises
    ------
    DataError
        Not a Zarr group, no or several candidate variables, no ids.
    """
    use_fast_pipeline()
    try:
        data = xr.open_zarr(path, chunks=None, consolidated=False, mask_and_scale=False, decode_times=False)
    except Exception as error:
        # xarray says so by a KeyError, whose text differs between versions and formats.
        if isinstance(error, KeyError) and (plain := _open_plain(path, options)) is not None:
            return plain
        raise DataError(f"{path} can't be opened as a Zarr group ({type(error).__name__}: {error}).") from None
    matrices = sorted(str(n) for n, v in data.data_vars.items() if v.ndim == 2)
    wanted = options.layer or (options.quantity if options.quantity in matrices else None)
    if wanted is None:
        if len(matrices) != 1:
            raise DataError(
                f"{path} holds {len(matrices)} variables with two dimensions ({', '.join(matrices) or 'none'}); "
                "name one with --layer."
            )
        wanted = matrices[0]
    if wanted not in matrices:
        raise DataError(
            f"{path}: there is no variable {wanted!r} with two dimensions; there are: {', '.join(matrices)}."
        )
    variable = data[wanted]
    check_shape(path, variable.shape, wanted)
    if variable.dtype.kind not in "iuf":
        raise DataError(f"{path}: {wanted!r} is {variable.dtype}, not numbers.")
    first, second = (str(d) for d in variable.dims)
    says: Orientation | None = None
    if first in _SAMPLE_DIMENSIONS or second in _FEATURE_DIMENSIONS:
        says = "samples"
    elif first in _FEATURE_DIMENSIONS or second in _SAMPLE_DIMENSIONS:
        says = "features"
    if says is not None and options.rows is not None and options.rows != says:
        raise DataError(f"{path}: the first dimension of {wanted!r} is {first!r}: leave out --rows {options.rows}.")
    orientation = says or options.rows
    if orientation is None:
        raise DataError(f"{path}: the dimensions of {wanted!r} are {first!r} and {second!r}; say which with --rows.")
    sample_dimension, feature_dimension = (first, second) if orientation == "samples" else (second, first)
    samples = _ids(data, sample_dimension, (names.SAMPLE_ID, sample_dimension), path)
    features = _ids(data, feature_dimension, (names.FEATURE_ID, feature_dimension), path)
    major, minor = (samples, features) if orientation == "samples" else (features, samples)
    chunk_rows = int((variable.encoding.get("chunks") or (1,))[0])
    return ZarrSource(path, variable, chunk_rows, orientation, major, minor)


def _open_plain(path: Path, options: SourceOptions) -> ZarrSource | None:
    """A group of arrays without names of dimensions; None where it isn't one."""
    try:
        group = zarr.open_group(str(path), mode="r")
    except (OSError, ValueError, KeyError):
        return None
    arrays = {name: member for name, member in group.arrays() if member.ndim <= 2}
    wanted = options.layer or ("values" if "values" in arrays else str(options.quantity))
    if not {wanted, "features", "samples"} <= set(arrays):
        raise DataError(
            f"{path}: its arrays ({', '.join(sorted(arrays)) or 'none'}) have no names of dimensions. Write it with "
            "xarray (dimensions samples and features, coordinates sample_id and feature_id), or as arrays values, "
            "features and samples."
        )
    values = arrays[wanted]
    shape = check_shape(path, values.shape, wanted)
    if values.dtype.kind not in "iuf":
        raise DataError(f"{path}: {wanted!r} is {values.dtype}, not numbers.")
    if "scale" in arrays:
        raise DataError(f"{path}: an array 'scale' is not read: say it as the attribute scale_factor of {wanted!r}.")
    features, samples = (as_text(list(np.asarray(arrays[name][:]).reshape(-1))) for name in ("features", "samples"))
    orientation = orient(path, shape, len(features), len(samples), options.rows)
    major, minor = (features, samples) if orientation == "features" else (samples, features)
    source = ZarrSource(path, values, int(values.chunks[0]), orientation, major, minor)
    source.warnings = square_warning(path, shape, options.rows)
    return source
