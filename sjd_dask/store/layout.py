"""How a matrix is cut into chunks and how its numbers are stored.

A stored number is raw; the number it stands for is ``raw * scale_factor`` (CF convention), and one raw value, the fill
value, stands for missing. Floats are stored as they are and missing is NaN.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError

BETA_SCALE: Final = 1.0 / 65534.0
BETA_FILL: Final = 65535

# The range of each quantity, ends included; None is open.
RANGES: Final[dict[str, tuple[float | None, float | None]]] = {
    names.COUNTS: (0.0, None),
    names.EXPRESSION: (None, None),
    names.BETA: (0.0, 1.0),
    names.M_VALUE: (None, None),
    names.CONCENTRATION: (0.0, None),
    names.PROPORTION: (0.0, 1.0),
    names.DOSAGE: (0.0, 2.0),
}


@dataclass(frozen=True)
class Layout:
    """Chunk shape of a matrix: (samples, features). A smaller matrix has smaller chunks."""

    chunk_samples: int = 64
    chunk_features: int = 16384

    def __post_init__(self) -> None:
        if self.chunk_samples < 1 or self.chunk_features < 1:
            raise SpecError(f"chunk sizes must be at least 1, got {self.chunk_samples} x {self.chunk_features}")

    def chunks(self, n_samples: int, n_features: int) -> tuple[int, int]:
        """Chunk shape for a matrix of that size."""
        return max(1, min(n_samples, self.chunk_samples)), max(1, min(n_features, self.chunk_features))


@dataclass(frozen=True)
class Encoding:
    """How raw numbers stand for real ones.

    Attributes
    ----------
    dtype : str
        NumPy name of the stored type.
    scale_factor : float or None
        Real value of one raw step; None means the raw value is the value.
    fill_value : int or None
        The raw code of missing; None for floats, where NaN is missing.
    """

    dtype: str
    scale_factor: float | None = None
    fill_value: int | None = None

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The stored type."""
        return np.dtype(self.dtype)

    @property
    def is_float(self) -> bool:
        """Whether raw values are floats, with NaN for missing."""
        return self.numpy_dtype.kind == "f"

    @property
    def fill(self) -> float | int:
        """The raw value of a missing cell."""
        return float("nan") if self.fill_value is None else self.fill_value

    def to_json(self) -> dict[str, Any]:
        """Plain data, for the catalogue."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Encoding:
        """The encoding that `to_json` described."""
        return Encoding(str(data["dtype"]), data.get("scale_factor"), data.get("fill_value"))

    def decode(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Real values as float64, missing as NaN; any shape."""
        values = raw.astype(np.float64)
        if self.scale_factor is not None:
            values *= self.scale_factor
        if self.fill_value is not None:
            values[raw == self.fill_value] = np.nan
        return values

    def encode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Raw values of real ones; NaN is missing.

        Raises
        ------
        DataError
            A value does not fit the stored type: negative or too large for an unsigned type, or not a whole number
            where no scale factor is used.
        """
        target = self.numpy_dtype
        if self.is_float:
            return np.asarray(values, dtype=target)
        given = np.asarray(values)
        missing: NDArray[np.bool_] | None = None
        if given.dtype.kind == "f":
            missing = np.isnan(given)
            if not missing.any():
                missing = None
        steps = given
        if self.scale_factor is not None:
            steps = np.rint(given.astype(np.float64) / self.scale_factor)
        elif given.dtype.kind == "f":
            steps = np.rint(given)
            unequal = steps != given
            if missing is not None:
                unequal &= ~missing
            if unequal.any():
                raise DataError(f"{given[unequal].flat[0]!s} is not a whole number; {self.dtype} cannot store it")
        if missing is not None:
            steps = np.where(missing, 0, steps)
        if steps.size:
            limits = np.iinfo(target)
            smallest, largest = steps.min(), steps.max()
            top = limits.max - 1 if self.fill_value == limits.max else limits.max
            if smallest < limits.min or largest > top:
                raise DataError(f"values from {smallest} to {largest} steps do not fit {self.dtype} (0 to {top})")
        raw = steps.astype(target)
        if missing is not None:
            raw[missing] = self.fill_value
        return np.asarray(raw)


def check_quantity(quantity: str) -> str:
    """The quantity's name, or SpecError with the known ones."""
    if quantity not in names.QUANTITIES:
        raise SpecError(f"unknown quantity {quantity!r}; use one of {', '.join(names.QUANTITIES)}")
    return quantity


def smallest_unsigned(maximum: float) -> np.dtype[Any]:
    """The smallest unsigned type whose largest code, kept for missing, lies above the maximum."""
    for kind in (np.uint8, np.uint16, np.uint32, np.uint64):
        if maximum < np.iinfo(kind).max:
            return np.dtype(kind)
    raise DataError(f"counts up to {maximum:g} do not fit an unsigned integer of 64 bits")


def encoding_for(
    quantity: str,
    source_dtype: DTypeLike,
    minimum: float,
    maximum: float,
    dtype_option: str | None = None,
) -> Encoding:
    """How a matrix is stored.

    Parameters
    ----------
    quantity : str
        One of `names.QUANTITIES`.
    source_dtype : dtype
        Type of the source's numbers.
    minimum, maximum : float
        Range of the non-missing values (NaN for a matrix without any).
    dtype_option : str, optional
        ``"source"`` or ``"keep"`` keeps the source's type, ``"float32"`` or ``"float64"`` stores that; ``"uint16"`` is
        for beta, and ``"uint8"``, ``"uint16"``, ``"uint32"`` for counts.

    Returns
    -------
    Encoding
        Beta: uint16 in steps of 1/65534 (error at most 7.7e-6). Counts: smallest unsigned integer that holds them.
        All else: the source's float type (float64 for integers).

    Raises
    ------
    DataError
        Values outside the quantity's range, or that do not fit the asked type.
    SpecError
        An unknown quantity or type.
    """
    check_quantity(quantity)
    low, high = RANGES[quantity]
    if (low is not None and minimum < low) or (high is not None and maximum > high):
        span = f"{'-inf' if low is None else f'{low:g}'} to {'inf' if high is None else f'{high:g}'}"
        raise DataError(f"{quantity} must lie within {span}; these values go from {minimum:g} to {maximum:g}")
    source = np.dtype(source_dtype)
    plain = source if source.kind == "f" and source.itemsize in (4, 8) else np.dtype(np.float64)
    if source.kind == "f" and source.itemsize == 2:
        plain = np.dtype(np.float32)
    option = None if dtype_option in (None, "auto") else dtype_option
    if option in ("source", "keep"):
        option = plain.name
    if option in ("float32", "float64"):
        return Encoding(str(option))
    if quantity == names.BETA and option in (None, "uint16"):
        return Encoding("uint16", BETA_SCALE, BETA_FILL)
    if quantity == names.COUNTS and option in (None, "uint8", "uint16", "uint32", "uint64"):
        needed = smallest_unsigned(0.0 if np.isnan(maximum) else maximum)
        chosen = needed if option is None else np.dtype(option)
        if chosen.itemsize < needed.itemsize:
            raise DataError(f"counts up to {maximum:g} do not fit {chosen.name}; use --dtype {needed.name} or none")
        return Encoding(chosen.name, None, int(np.iinfo(chosen).max))
    if option is not None:
        raise SpecError(f"{quantity} cannot be stored as {option!r}; use float32, float64 or leave --dtype out")
    return Encoding(plain.name)


def common_encoding(encodings: list[Encoding]) -> Encoding:
    """The encoding in which raw values of all the given ones can be said without loss.

    Whole numbers of different width take the widest; anything else that differs is decoded to float64.
    """
    first = encodings[0]
    if all(one == first for one in encodings):
        return first
    if all(one.is_float for one in encodings):
        return Encoding("float64")
    whole = all(not one.is_float and one.scale_factor is None and one.numpy_dtype.kind == "u" for one in encodings)
    if whole:
        widest = max(encodings, key=lambda one: one.numpy_dtype.itemsize)
        return Encoding(widest.dtype, None, int(np.iinfo(widest.numpy_dtype).max))
    return Encoding("float64")


def convert(raw: NDArray[Any], source: Encoding, target: Encoding) -> NDArray[Any]:
    """Raw values of one encoding said in another that `common_encoding` gave."""
    if source == target:
        return raw
    if target.is_float:
        if source.is_float:
            return raw.astype(target.numpy_dtype)
        return source.decode(raw).astype(target.numpy_dtype, copy=False)
    wide = raw.astype(target.numpy_dtype)
    if source.fill_value is not None:
        wide[raw == source.fill_value] = target.fill_value
    return wide
