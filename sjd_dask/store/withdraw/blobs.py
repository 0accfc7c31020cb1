"""Whether the bytes of a file name somebody: text, JSON, tables, arrays, archives, packed or not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sjd_dask.store.files import Files
from sjd_dask.store.withdraw.ids import Leaving
from sjd_dask.store.withdraw.tables import table_names

# Files up to this are read at once.
_WHOLE = 1 << 26
_UNPACK = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ": lzma.decompress}


def blob_names(name: str, content: bytes, leaving: Leaving) -> bool:
    """Whether a file's content names one of them.

    Parameters
    ----------
    name : str
        Its ending says what it is where the first bytes don't.
    content : bytes
    leaving : Leaving
    """
    if name.endswith(".parquet") or content[:4] == b"PAR1":
        try:
            with pq.ParquetFile(pa.BufferReader(content)) as opened:
                return table_names(opened, leaving)
        except pa.ArrowInvalid:
            # Half a table, which a killed writer left.
            return _bytes_name(content, leaving)
    for mark, unpack in _UNPACK.items():
        if content.startswith(mark):
            try:
                return _bytes_name(unpack(content), leaving)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
                return _bytes_name(content, leaving)
    if content[:2] == b"PK":
        try:
            return any(blob_names(member, inner, leaving) for member, inner in _members(content))
        except (zipfile.BadZipFile, OSError, zlib.error):
            # Half an archive, as an inbox's quarantine has them.
            return _bytes_name(content, leaving)
    if content[:6] == b"\x93NUMPY":
        return _array_names(name, content, leaving)
    return _bytes_name(content, leaving)


def file_names(path: Path, leaving: Leaving) -> bool:
    """Whether a local file names one of them; a large one is read in pieces."""
    if path.suffix == ".parquet":
        try:
            with pq.ParquetFile(path) as opened:
                return table_names(opened, leaving)
        except pa.ArrowInvalid:
            return blob_names("", path.read_bytes(), leaving)
    with path.open("rb") as stream:
        start = stream.read(8)
    if path.stat().st_size <= _WHOLE or start[:2] == b"PK" or start[:6] == b"\x93NUMPY":
        return blob_names(path.name, path.read_bytes(), leaving)
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
    opener = next((one for mark, one in openers.items() if start.startswith(mark)), open)
    rest = b""
    try:
        with opener(path, "rb") as stream:
            while piece := stream.read(_WHOLE):
                rest += piece
                # Cut between fields, so that no id is seen in half.
                cut = next((at for sign in (b"\n", b"\t", b",", b" ") if (at := rest.rfind(sign)) >= 0), len(rest) - 1)
                if _bytes_name(rest[: cut + 1], leaving):
                    return True
                rest = rest[cut + 1 :]
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False
    return _bytes_name(rest, leaving)


def stored_names(files: Files, path: str, leaving: Leaving) -> bool:
    """Whether a file of the cohort, local or in an object store, names one of them."""
    if files.is_local:
        return file_names(files.local_path(path), leaving)
    return blob_names(path, files.read_bytes(path), leaving)


def _members(content: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for one in archive.namelist():
            yield one, archive.read(one)


def _array_names(name: str, content: bytes, leaving: Leaving) -> bool:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError:
        return _bytes_name(content, leaving)
    if array.dtype.kind == "U":
        own = leaving.ids if "sample" in name else leaving.plain
        return any(one in own or leaving.in_text(one) for one in np.unique(array).tolist())
    if array.dtype.kind in "uS" and array.dtype.itemsize == 1:
        # Text as bytes, such as the attributes of stored arrays.
        return _bytes_name(array.tobytes(), leaving)
    return False


def _bytes_name(content: bytes, leaving: Leaving) -> bool:
    text = content.decode("utf-8", "replace")
    return leaving.may_name(text) and leaving.in_text(text)
