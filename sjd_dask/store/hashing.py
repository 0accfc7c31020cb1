"""Hashes of what a row holds, independent of chunks, of the segment it lies in and of how wide its integers are stored.

The canonical bytes of a row, features in the assay's order, little endian: floats as float64 (every NaN the same one);
unsigned integers as uint32 (uint64 where stored so) with the largest code for missing; scaled integers as they are
stored. They are led by a tag of which of these was used.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.store.layout import Encoding

_CELLS = 1 << 17


def content_tag(encoding: Encoding) -> str:
    """What kind of canonical bytes rows of this encoding have. Rows with equal tags can share a segment."""
    if encoding.is_float:
        return "float64"
    if encoding.scale_factor is not None:
        return f"{encoding.dtype}*{encoding.scale_factor!r}/{encoding.fill_value}"
    return "uint64" if encoding.numpy_dtype.itemsize == 8 else "uint32"


def canonical(raw: NDArray[Any], encoding: Encoding) -> NDArray[Any]:
    """The canonical form of raw values, C-contiguous, same shape."""
    tag = content_tag(encoding)
    if tag == "float64":
        values = np.array(raw, dtype="<f8", order="C")
        missing = np.isnan(values)
        if missing.any():
            values[missing] = np.nan
        values += 0.0  # -0.0 and 0.0 are one number
        return values
    if encoding.scale_factor is not None:
        return np.ascontiguousarray(raw, dtype=encoding.numpy_dtype.newbyteorder("<"))
    wide = np.array(raw, dtype="<u8" if tag == "uint64" else "<u4", order="C")
    if encoding.fill_value is not None:
        wide[raw == encoding.fill_value] = np.iinfo(wide.dtype).max
    return wide


class RowHasher:
    """Running hashes of rows whose features arrive in order, stripe by stripe.

    Parameters
    ----------
    n_rows : int
        How many rows.
    encoding : Encoding
        Of the raw values.
    """

    def __init__(self, n_rows: int, encoding: Encoding) -> None:
        self.encoding = encoding
        tag = content_tag(encoding).encode()
        self._digests = [blake2b(tag, digest_size=16) for _ in range(n_rows)]

    def update(self, row_start: int, raw: NDArray[Any]) -> None:
        """Add the next features of some rows. raw: (rows, features); features follow those these rows have seen."""
        # Some rows at a time, so that their canonical form is still in the cache when it is hashed.
        step = max(1, _CELLS // max(1, raw.shape[1]))
        for start in range(0, len(raw), step):
            block = canonical(raw[start : start + step], self.encoding)
            for offset in range(len(block)):
                self._digests[row_start + start + offset].update(memoryview(block[offset]).cast("B"))

    def hexdigests(self) -> list[str]:
        """One blake2b-128 a row, as hexadecimal text."""
        return [digest.hexdigest() for digest in self._digests]


def row_hashes(raw: NDArray[Any], encoding: Encoding) -> list[str]:
    """Hashes of whole rows. raw: (rows, all features in the assay's order)."""
    hasher = RowHasher(len(raw), encoding)
    hasher.update(0, raw)
    return hasher.hexdigests()
