"""h5ad: the file format of AnnData, read with h5py alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.ingest.sources.base import (
    Block,
    MatrixSource,
    Orientation,
    SourceOptions,
    as_text,
    check_shape,
    rows_per_block,
)


def _attr(node: Any, name: str) -> str:
    value = node.attrs.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)


def _plain(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Stored values with text as `str` objects, '' for none."""
    if data.dtype.kind in "OSU":
        result = np.empty(len(data), dtype=object)
        result[:] = as_text(list(data))
        return result
    return data


def _column(group: Any, name: str) -> pd.Series | None:  # type: ignore[type-arg]
    """A column of obs or var; None for kinds that aren't a simple column."""
    node = group[name]
    if isinstance(node, h5py.Group):
        kind = _attr(node, "encoding-type")
        if kind == "categorical":
            return _categories(node["codes"][:], node["categories"][:])
        if kind in ("nullable-integer", "nullable-boolean", "nullable-string-array"):
            values = pd.Series(_plain(node["values"][:]))
            mask = node["mask"][:].astype(bool)
            if kind == "nullable-integer":
                return values.astype(np.float64).mask(mask) if mask.any() else values
            return values.astype(object).mask(mask, None) if mask.any() else values
        return None
    if node.ndim != 1 or node.dtype.kind not in "biufOSU":
        return None
    if "categories" in node.attrs:  # files written before AnnData 0.7 or so
        return _categories(node[:], node.file[node.attrs["categories"]][:])
    if "__categories" in group and name in group["__categories"]:
        return _categories(node[:], group["__categories"][name][:])
    return pd.Series(_plain(node[:]))


def _categories(codes: npt.NDArray[Any], categories: npt.NDArray[Any]) -> pd.Series:  # type: ignore[type-arg]
    labels = _plain(categories)
    codes = codes.astype(np.int64)
    absent = codes < 0
    values = labels[np.where(absent, 0, codes)] if len(labels) else np.full(len(codes), None, dtype=object)
    series = pd.Series(values)
    if not absent.any():
        return series
    if series.dtype.kind in "iuf":
        return series.astype(np.float64).mask(absent)
    return series.astype(object).mask(absent, None)


def _frame(file: Any, axis: str, id_name: str, path: Path) -> tuple[list[str], pd.DataFrame]:
    if axis not in file:
        raise DataError(f"{path}: there is no {axis!r}: this is not an h5ad file.")
    node = file[axis]
    if isinstance(node, h5py.Dataset):
        raise DataError(
            f"{path}: {axis!r} has the layout of AnnData before 0.7. Write the file again with a newer anndata."
        )
    index = _attr(node, "_index") or "_index"
    if index not in node:
        raise DataError(f"{path}: {axis!r} has no index {index!r}.")
    ids = as_text(list(_column_values(node, index)))
    listed = node.attrs.get("column-order", [k for k in node if k not in (index, "__categories")])
    columns = {}
    for name in as_text(list(listed)):
        if name != index and name in node:
            column = _column(node, name)
            if column is not None and len(column) == len(ids):
                values = column.to_numpy()
                if name.endswith("_id") and values.dtype.kind != "O":
                    values = np.array([None if pd.isna(v) else str(v) for v in values], dtype=object)
                if values.dtype.kind == "O":
                    values = np.array([None if pd.isna(v) or v == "" else v for v in values], dtype=object)
                # Said as objects, text is not turned into another type of text by pandas.
                columns[name] = pd.Series(list(values), dtype=object) if values.dtype.kind == "O" else pd.Series(values)
    columns.pop(id_name, None)
    frame = pd.DataFrame(columns, index=pd.RangeIndex(len(ids)))
    return ids, frame.set_axis(pd.Index(ids, name=id_name, dtype=object), axis=0)


def _column_values(node: Any, name: str) -> npt.NDArray[Any]:
    column = _column(node, name)
    return np.array([], dtype=object) if column is None else column.to_numpy()


class H5adSource(MatrixSource):
    """X or a layer of an h5ad file; see `open_h5ad`."""

    def __init__(
        self,
        path: Path,
        file: Any,
        node: Any,
        orientation: Orientation,
        major_ids: list[str],
        minor_ids: list[str],
        dtype: np.dtype[Any],
    ) -> None:
        super().__init__(path=path, orientation=orientation, minor_ids=minor_ids, dtype=dtype, major_ids=major_ids)
        self._file = file
        self._node = node

    def blocks(self) -> Iterator[Block]:
        assert self.major_ids is not None
        n, step = len(self.major_ids), rows_per_block(len(self.minor_ids))
        indptr = self._node["indptr"][:] if isinstance(self._node, h5py.Group) else None
        for start in range(0, n, step):
            stop = min(n, start + step)
            try:
                values = self._node[start:stop] if indptr is None else self._dense(indptr, start, stop)
            except OSError as error:
                raise DataError(f"{self.path}: rows {start + 1:,} to {stop:,} can't be read ({error}).") from None
            yield Block(self.major_ids[start:stop], np.asarray(values, dtype=self.dtype))

    def _dense(self, indptr: npt.NDArray[Any], start: int, stop: int) -> npt.NDArray[Any]:
        low, high = int(indptr[start]), int(indptr[stop])
        values: npt.NDArray[Any] = np.zeros((stop - start, len(self.minor_ids)), dtype=self.dtype)
        columns = self._node["indices"][low:high]
        if len(columns) and (columns.min() < 0 or columns.max() >= len(self.minor_ids)):
            raise DataError(f"{self.path}: the sparse matrix has an index outside its {len(self.minor_ids):,} columns.")
        rows = np.repeat(np.arange(stop - start), np.diff(indptr[start : stop + 1]))
        # A cell stored twice counts twice, as scipy has it.
        np.add.at(values, (rows, columns), self._node["data"][low:high])
        return values

    def close(self) -> None:
        self._file.close()


def open_h5ad(path: Path, options: SourceOptions) -> H5adSource:
    """Open an h5ad file.

    Reads X, or the layer ``options.layer``; dense, CSR or CSC. obs are samples and var are features; their simple
    columns (numbers, text, bool, categories) become sample and feature columns. A CSC matrix is read feature by
    feature.

    Raises
    ------
    DataError
        Not HDF5, not h5ad, an unknown layer, values that aren't numbers.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is not an HDF5 file, or is cut off ({error}).") from None
    try:
        samples, obs = _frame(file, "obs", names.SAMPLE_ID, path)
        features, var = _frame(file, "var", names.FEATURE_ID, path)
        key = "X" if options.layer is None else f"layers/{options.layer}"
        if key not in file:
            layers = ", ".join(file["layers"]) if "layers" in file else ""
            raise DataError(f"{path}: there is no {key}. Layers: {layers or 'none'}.")
        node = file[key]
        orientation: Orientation = "samples"
        if isinstance(node, h5py.Group):
            kind = _attr(node, "encoding-type") or f"{_attr(node, 'h5sparse_format')}_matrix"
            if kind not in ("csr_matrix", "csc_matrix"):
                raise DataError(f"{path}: {key} is stored as {kind!r}; dense, CSR and CSC are read.")
            shape = tuple(int(s) for s in node.attrs.get("shape", node.attrs.get("h5sparse_shape", ())))
            orientation = "features" if kind == "csc_matrix" else "samples"
            dtype = node["data"].dtype
        else:
            shape, dtype = node.shape, node.dtype
        check_shape(path, shape, key)
        if shape != (len(samples), len(features)):
            raise DataError(f"{path}: {key} has shape {shape}, with {len(samples):,} obs and {len(features):,} var.")
        if dtype.kind not in "iuf":
            raise DataError(f"{path}: {key} is {dtype}, not numbers.")
        if options.rows == "features":
            raise DataError(f"{path}: an h5ad file has samples (obs) in rows; leave out --rows features.")
        if dtype == np.float16:
            dtype = np.dtype(np.float32)
        major, minor = (samples, features) if orientation == "samples" else (features, samples)
        source = H5adSource(path, file, node, orientation, major, minor, dtype)
        source.sample_columns = obs if len(obs.columns) else None
        source.feature_columns = var if len(var.columns) else None
        return source
    except BaseException:
        file.close()
        raise
