"""What every reader of a matrix offers, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from sjd_dask.errors import DataError, SpecError

Orientation = Literal["features", "samples"]

# Upper bound of one block of values, so that memory stays the same whatever the matrix.
BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class SourceOptions:
    """Options a reader may use.

    Parameters
    ----------
    rows : {'features', 'samples'}, optional
        What the rows of the file are. Text defaults to features in rows.
    scale : float, optional
        NPZ: stored = value * scale. Overrides the file's own `scale`.
    missing : float, optional
        NPZ: the stored code that means missing. Overrides the file's own.
    layer : str, optional
        h5ad: the layer to read in place of X. Zarr: the variable to read.
    quantity : str, optional
        What the matrix holds; a Zarr group is asked for a variable of this name first.
    """

    rows: Orientation | None = None
    scale: float | None = None
    missing: float | None = None
    layer: str | None = None
    quantity: str | None = None

    def __post_init__(self) -> None:
        if self.rows not in (None, "features", "samples"):
            raise SpecError(f"rows must be 'features' or 'samples', not {self.rows!r}")
        if self.scale is not None and not (np.isfinite(self.scale) and self.scale > 0):
            raise SpecError(f"scale must be a positive number, not {self.scale!r}")


@dataclass
class Block:
    """Some whole rows of the file, in the order of the file.

    Parameters
    ----------
    ids : sequence of str
        Ids along the major axis (the rows of the file).
    values : ndarray, shape (len(ids), n_minor)
        Floats with NaN for missing, or integers without missing values.
    """

    ids: list[str]
    values: npt.NDArray[Any]


@dataclass
class MatrixSource(ABC):
    """A matrix that can be read once from its start, in blocks of bounded size.

    Attributes
    ----------
    path : Path
    orientation : {'features', 'samples'}
        What the major axis is: the rows of a text file, the axis along which blocks arrive.
    minor_ids : list of str
        Ids of the other axis, known before any block.
    major_ids : list of str or None
        Ids of the major axis where the format gives them before the values; else they arrive with the blocks.
    dtype : numpy dtype
        Type of the values as the file holds them, after decoding of a scale (text: float64).
    sample_columns, feature_columns : DataFrame or None
        Columns the file itself carries, indexed by id.
    warnings : list of str
        What the reader had to assume.
    """

    path: Path
    orientation: Orientation
    minor_ids: list[str]
    dtype: np.dtype[Any]
    major_ids: list[str] | None = None
    sample_columns: pd.DataFrame | None = None
    feature_columns: pd.DataFrame | None = None
    # Whether `rows` decides what the rows are; formats that say so themselves leave nothing to tell.
    rows_may_be_told: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def major(self) -> str:
        """Singular name of the major axis."""
        return "feature" if self.orientation == "features" else "sample"

    @property
    def minor(self) -> str:
        """Singular name of the minor axis."""
        return "sample" if self.orientation == "features" else "feature"

    @property
    def sample_ids(self) -> list[str] | None:
        """Sample ids if they are known before the values are read."""
        return self.minor_ids if self.orientation == "features" else self.major_ids

    @property
    def feature_ids(self) -> list[str] | None:
        """Feature ids if they are known before the values are read."""
        return self.major_ids if self.orientation == "features" else self.minor_ids

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """Blocks of rows from the start of the file. Can be asked for once."""

    def where(self, major_index: int) -> str:
        """Where the row with this number (from 0) is, in words of the format: `line 3`, `row 2`."""
        return f"row {major_index + 1}"

    @abstractmethod
    def close(self) -> None:
        """Let go of the file. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rows_per_block(n_minor: int, itemsize: int = 8) -> int:
    """How many rows make one block of at most `BLOCK_BYTES` (at least one row)."""
    return max(1, BLOCK_BYTES // max(1, n_minor * itemsize))


def check_shape(path: Path, shape: tuple[int, ...], what: str = "the values") -> tuple[int, int]:
    """The shape of a matrix, or a DataError when it isn't one or is empty."""
    if len(shape) != 2:
        raise DataError(f"{path}: {what} have shape {shape}; a matrix with two axes is needed.")
    if 0 in shape:
        raise DataError(f"{path}: {what} have shape {shape}: there is nothing to ingest.")
    return shape[0], shape[1]


def orient(
    path: Path, shape: tuple[int, int], n_features: int, n_samples: int, rows: Orientation | None
) -> Orientation:
    """What the rows of values are, by their lengths; a square matrix is samples x features, as everywhere here.

    Raises
    ------
    DataError
        Lengths that don't fit the ids, or not the `rows` that were said.
    """
    as_features = shape == (n_features, n_samples)
    as_samples = shape == (n_samples, n_features)
    if not (as_features or as_samples):
        raise DataError(
            f"{path}: values have shape {shape[0]:,} x {shape[1]:,}, but there are {n_features:,} features and "
            f"{n_samples:,} samples."
        )
    if rows is not None:
        if not (as_features if rows == "features" else as_samples):
            raise DataError(
                f"{path}: values have {shape[0]:,} rows, which are not the {rows} "
                f"({n_features:,} features, {n_samples:,} samples): leave --rows out or give the other."
            )
        return rows
    return "samples" if as_samples else "features"


def square_warning(path: Path, shape: tuple[int, int], rows: Orientation | None) -> list[str]:
    """What to tell of a matrix whose lengths don't say which way round it lies."""
    if shape[0] != shape[1] or shape[0] == 1 or rows is not None:
        return []
    return [
        f"{path}: {shape[0]:,} x {shape[1]:,} values don't say what their rows are: taken for samples. If they are "
        "features, say --rows features; if not, --rows samples"
    ]


def as_text(values: npt.NDArray[Any] | pd.Series[Any] | list[Any]) -> list[str]:
    """Ids of any stored type as `str`: bytes are decoded as UTF-8, whole numbers lose nothing, missing becomes ''."""
    result = []
    for value in values:
        if isinstance(value, bytes):
            result.append(value.decode("utf-8"))
        elif isinstance(value, str):
            result.append(str(value))
        elif value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
            result.append("")
        else:
            result.append(str(value))
    return result
