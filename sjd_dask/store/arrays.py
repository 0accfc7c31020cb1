"""Files of named arrays (parameters of a fitted method): a zip of .npy members that `numpy.load` opens too.

Equal content gives equal bytes: members are sorted, times are fixed, nothing is compressed by a library whose output
may change. Nothing is ever pickled or unpickled.
"""

from __future__ import annotations

import io
import json
import re
import secrets
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike, NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.catalogue.results import ArraysFile
from sjd_dask.store.files import Files, writing

ATTRS: Final = "attrs"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,199}")
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Arrays:
    """What such a file holds.

    Attributes
    ----------
    arrays : dict of str to ndarray
        bool, integers, floats or fixed-width unicode, any shape.
    attrs : dict
        Plain data.
    """

    arrays: dict[str, NDArray[Any]]
    attrs: dict[str, Any]


def arrays_bytes(arrays: Mapping[str, ArrayLike], attrs: Mapping[str, Any]) -> bytes:
    """The file's content; equal arrays and attrs give equal bytes.

    Parameters
    ----------
    arrays : mapping of str to array
        bool, integers, floats, unicode, or object arrays that hold str only (stored as unicode of one width).
    attrs : mapping
        Plain data, as JSON takes it.

    Raises
    ------
    SpecError
        A name or a type that can't be stored.
    """
    members: dict[str, NDArray[Any]] = {}
    for name, given in arrays.items():
        if name == ATTRS or not _NAME.fullmatch(name) or ".." in name or name.endswith(".npy"):
            raise SpecError(f"{name!r} cannot be the name of a stored array")
        members[name] = _plain(name, np.asarray(given))
    try:
        text = json.dumps(dict(attrs), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SpecError(f"the attributes of stored arrays must be plain data: {error}") from error
    members[ATTRS] = np.frombuffer(text.encode(), dtype=np.uint8)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            member = zipfile.ZipInfo(f"{name}.npy", _TIME)
            member.external_attr = 0o644 << 16
            member.create_system = 3
            with archive.open(member, "w", force_zip64=True) as target:
                npy.write_array(target, members[name], version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "O":
        strange = [one for one in array.ravel() if not isinstance(one, str)]
        if strange:
            what = type(strange[0]).__name__
            raise SpecError(f"array {name!r} holds {what}, not text; an object array may hold text only")
        if any(one.endswith("\0") for one in array.ravel()):
            raise SpecError(f"array {name!r} holds text that ends in a null character, which would be lost")
        array = array.astype(str)
    if array.dtype.kind not in "biufU":
        raise SpecError(f"array {name!r} has type {array.dtype}; bool, integers, floats and text can be stored")
    # One byte order and one memory order, so that equal content has equal bytes.
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def write_arrays(files: Files, arrays: Mapping[str, ArrayLike], attrs: Mapping[str, Any]) -> ArraysFile:
    """Write arrays under a new id below ``tables/``. See `arrays_bytes` for what can be stored."""
    content = arrays_bytes(arrays, attrs)
    path = f"tables/{secrets.token_hex(12)}.npz"
    with writing(files.where(path), "nothing was published"):
        files.write_bytes(path, content)
    return ArraysFile(path, len(content), blake2b(content, digest_size=16).hexdigest())


def read_arrays(files: Files, record: ArraysFile) -> Arrays:
    """Read stored arrays.

    Raises
    ------
    DataError
        The file is lost, or is not the one that was published.
    """
    where = files.where(record.path)
    try:
        content = files.read_bytes(record.path)
    except FileNotFoundError as error:
        raise DataError(f"the arrays file {where} is lost; restore it from a backup") from error
    if len(content) != record.n_bytes or blake2b(content, digest_size=16).hexdigest() != record.hash:
        raise DataError(f"the arrays file {where} changed after it was published; restore it from a backup")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
        attrs = json.loads(arrays.pop(ATTRS).tobytes())
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"the arrays file {where} cannot be understood: {error}") from error
    return Arrays(arrays, attrs)


def check_arrays(files: Files, record: ArraysFile) -> None:
    """Refuse a file that is not there any more with its size (DataError); its content is not read."""
    where = files.where(record.path)
    try:
        size = files.size(record.path)
    except FileNotFoundError as error:
        raise DataError(f"the arrays file {where} is lost; nothing was published") from error
    if size != record.n_bytes:
        raise DataError(f"the arrays file {where} has {size} bytes instead of {record.n_bytes}; nothing was published")
