"""A stored matrix and what its codes stand for: where the values of every job come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.kernels import methylation
from sjd_dask.store.layout import Encoding
from sjd_dask.store.region import RegionReader

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Matrix:
    """Where the values come from and what they are turned into."""

    reader: RegionReader
    quantity: str  # what is tested: the stored quantity, or m_value decoded from betas

    def table(self, encoding: Encoding, single: bool = False) -> NDArray[np.floating[Any]] | None:
        """Look-up table from codes to values; None where the raw numbers are the values."""
        return _table(encoding, self.reader.quantity, self.quantity, single)

    def values(self, raw: NDArray[Any], encoding: Encoding) -> Floats:
        """Decoded values, NaN for missing."""
        return decoded(raw, encoding, self.reader.quantity, self.quantity)

    def block(self, raw: NDArray[Any], encoding: Encoding, single: bool) -> tuple[NDArray[Any], Any, int | None]:
        """A block as the kernel takes it: values or codes, look-up table, fill code."""
        table = self.table(encoding, single)
        if table is not None:
            return raw, table, None
        if encoding.scale_factor is not None or self.quantity != self.reader.quantity:
            return self.values(raw, encoding), None, None
        return raw, None, encoding.fill_value


def decoded(raw: NDArray[Any], encoding: Encoding, stored: str, wanted: str) -> Floats:
    """Values of raw numbers, NaN for missing.

    Parameters
    ----------
    raw : ndarray
        Any shape.
    encoding : Encoding
    stored, wanted : str
        Quantity of the raw numbers, and of the values: the same, or M-values of betas.
    """
    table = _table(encoding, stored, wanted, False)
    if table is not None:
        taken: Floats = np.take(table, raw)
        return taken
    values = encoding.decode(raw)
    return methylation.beta_to_m(values) if (stored, wanted) == (names.BETA, names.M_VALUE) else values


@lru_cache(maxsize=8)
def _table(encoding: Encoding, stored: str, wanted: str, single: bool) -> NDArray[np.floating[Any]] | None:
    if encoding.scale_factor is None or encoding.fill_value is None:
        return None
    if encoding.numpy_dtype not in (np.dtype("uint16"), np.dtype("uint8")):
        return None
    n_codes = 2 ** (8 * encoding.numpy_dtype.itemsize)
    make = methylation.beta_to_m_table if (stored, wanted) == (names.BETA, names.M_VALUE) else methylation.beta_table
    table = make(encoding.scale_factor, encoding.fill_value, n_codes)
    return table.astype(np.float32) if single else table
