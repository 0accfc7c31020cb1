"""NPZ: `values`, `features` and `samples`, read from the archive block by block."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.ingest.sources.base import (
    Block,
    MatrixSource,
    Orientation,
    SourceOptions,
    as_text,
    check_shape,
    orient,
    rows_per_block,
    square_warning,
)

_MISSING_KEYS = ("missing", "missing_code", "fill_value")


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        try:
            array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        except ValueError as error:
            raise DataError(
                f"{path}: {name!r} can't be read without pickle ({error}). Save it as a plain array, "
                f"e.g. {name}.astype(str)."
            ) from None
    return array


def _number(archive: zipfile.ZipFile, path: Path, name: str) -> float:
    array = _member(archive, path, name)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise DataError(f"{path}: {name!r} must be one number, and is {array.dtype} of shape {array.shape}.")
    return float(array.reshape(-1)[0])


def _header(stream: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    except ValueError as error:
        raise DataError(f"{path}: 'values' is not a NumPy array ({error}).") from None
    return shape, fortran, dtype


class NpzSource(MatrixSource):
    """Values of an NPZ archive; see `open_npz`."""

    def __init__(
        self,
        path: Path,
        archive: zipfile.ZipFile,
        orientation: Orientation,
        major_ids: list[str],
        minor_ids: list[str],
        stored: np.dtype[Any],
        divide: float | None,
        multiply: float | None,
        missing: float | None,
    ) -> None:
        decoded = divide is not None or multiply is not None or missing is not None or stored.kind == "f"
        kept = stored.kind == "f" and stored.itemsize == 4 and divide is None and multiply is None
        dtype = np.dtype(np.float32 if kept else np.float64) if decoded else stored
        super().__init__(path=path, orientation=orientation, minor_ids=minor_ids, dtype=dtype, major_ids=major_ids)
        self._archive = archive
        self._stored = stored
        self._divide, self._multiply, self._missing = divide, multiply, missing

    def _decode(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.dtype.kind != "f":
            return raw
        values = raw.astype(self.dtype)
        if self._divide is not None:
            values /= self._divide
        if self._multiply is not None:
            values *= self._multiply
        if self._missing is not None:
            values[raw == self._missing] = np.nan
        return values

    def blocks(self) -> Iterator[Block]:
        assert self.major_ids is not None
        n, width = len(self.major_ids), len(self.minor_ids)
        step = rows_per_block(width)
        row_bytes = width * self._stored.itemsize
        with self._archive.open("values.npy") as stream:
            _header(stream, self.path)
            for start in range(0, n, step):
                rows = min(step, n - start)
                try:
                    data = stream.read(rows * row_bytes)
                except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                    raise DataError(f"{self.path}: 'values' is damaged near row {start + 1:,} ({error}).") from None
                if len(data) != rows * row_bytes:
                    raise DataError(f"{self.path}: 'values' ends early, in row {start + len(data) // row_bytes + 1:,}.")
                raw = np.frombuffer(data, dtype=self._stored).reshape(rows, width)
                yield Block(self.major_ids[start : start + rows], self._decode(raw))

    def close(self) -> None:
        self._archive.close()


def open_npz(path: Path, options: SourceOptions) -> NpzSource:
    """Open an NPZ archive.

    Members: `values` (two axes), `features`, `samples`; optional `scale` (stored = value * scale), `scale_factor`
    (value = stored * scale_factor, as CF has it), and a code for missing under `missing`, `missing_code` or
    `fill_value`. ``options.scale`` and ``options.missing`` override the file. Signed integers with a scale and no
    code: the type's smallest value is missing. The orientation follows the lengths; a square matrix is samples x
    features unless ``options.rows`` says otherwise. Pickled members are never read.

    Raises
    ------
    DataError
        A missing member, lengths that don't fit, values that aren't numbers, a damaged archive.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is not an NPZ archive, or is cut off ({error}).") from None
    try:
        members = {n.removesuffix(".npy") for n in archive.namelist()}
        for name in ("values", "features", "samples"):
            if name not in members:
                raise DataError(f"{path}: there is no {name!r}; an NPZ matrix holds values, features and samples.")
        features = as_text(_member(archive, path, "features").reshape(-1).tolist())
        samples = as_text(_member(archive, path, "samples").reshape(-1).tolist())
        with archive.open("values.npy") as stream:
            shape, fortran, stored = _header(stream, path)
        n_rows, n_columns = check_shape(path, shape, "values")
        if stored.kind not in "iuf":
            raise DataError(f"{path}: values are {stored}, not numbers.")
        orientation = orient(path, (n_rows, n_columns), len(features), len(samples), options.rows)
        if fortran:
            # Column after column on disk: the columns are what can be read one by one.
            orientation = "samples" if orientation == "features" else "features"
        divide = options.scale
        if divide is None and "scale" in members:
            divide = _number(archive, path, "scale")
        multiply = _number(archive, path, "scale_factor") if "scale_factor" in members else None
        if divide is not None and multiply is not None:
            if options.scale is None:
                raise DataError(f"{path} holds both scale and scale_factor; keep one.")
            multiply = None
        for name, number in (("scale", divide), ("scale_factor", multiply)):
            if number is not None and not (np.isfinite(number) and number > 0):
                raise DataError(f"{path}: {name} is {number}; a positive number is needed.")
        missing = options.missing
        if missing is None:
            found = [k for k in _MISSING_KEYS if k in members]
            if found:
                missing = _number(archive, path, found[0])
        if missing is None and stored.kind == "i" and (divide is not None or multiply is not None):
            missing = float(np.iinfo(stored).min)
        if missing is not None and np.isnan(missing):
            missing = None
        major, minor = (features, samples) if orientation == "features" else (samples, features)
        source = NpzSource(path, archive, orientation, major, minor, stored, divide, multiply, missing)
        source.warnings = square_warning(path, (n_rows, n_columns), options.rows)
        return source
    except KeyError as error:
        archive.close()
        raise SpecError(f"{path}: {error}") from None
    except BaseException:
        archive.close()
        raise
