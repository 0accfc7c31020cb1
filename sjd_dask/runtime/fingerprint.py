"""A name for what a run computes: a hash of nested plain data, the same on every machine and in every session."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence, Set
from datetime import date, datetime
from pathlib import PurePath
from typing import Any

import numpy as np


def fingerprint(value: Any, length: int = 32) -> str:
    """Hash nested plain data canonically.

    Types count (1, 1.0, True and "1" differ). The order of mapping keys and set members doesn't, the order of sequences
    does, and lists equal tuples. Floats go by their exact bits (all NaN are one, -0.0 equals 0.0). Arrays go by dtype,
    shape and bytes in C order and little-endian form, so a view equals its copy; an array of strings goes by its
    strings, whatever their width.

    Parameters
    ----------
    value
        None, bool, int, float, str, bytes, date, enum, path, NumPy scalar or array, pandas Index or Series (by
        values), mapping, sequence or set.
    length
        Number of hexadecimal characters returned; at most 64.

    Returns
    -------
    str
        blake2b-256 in hexadecimal, cut to `length`.

    Raises
    ------
    TypeError
        Something in `value` has no canonical form. Nothing is ever hashed by its memory address or pickle.
    """
    digest = hashlib.blake2b(digest_size=32)
    _feed(digest, value, "$")
    return digest.hexdigest()[:length]


def _text(digest: hashlib.blake2b, tag: bytes, body: bytes) -> None:
    # The length makes ("ab", "c") and ("a", "bc") differ.
    digest.update(tag + str(len(body)).encode() + b":" + body)


def _feed(digest: hashlib.blake2b, value: Any, where: str) -> None:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        digest.update(b"N;")
    elif isinstance(value, bool):
        digest.update(b"T;" if value else b"F;")
    elif isinstance(value, int):
        _text(digest, b"i", str(value).encode())
    elif isinstance(value, float):
        _text(digest, b"f", _float(value))
    elif isinstance(value, str):
        _text(digest, b"s", value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        _text(digest, b"b", bytes(value))
    elif isinstance(value, (datetime, date)):
        _text(digest, b"d", value.isoformat().encode())
    elif isinstance(value, PurePath):
        _text(digest, b"p", value.as_posix().encode())
    elif isinstance(value, np.ndarray):
        _array(digest, value, where)
    elif isinstance(value, Mapping):
        _mapping(digest, value, where)
    elif isinstance(value, Set):
        members = sorted(_hash_of(member, where) for member in value)
        digest.update(b"{" + str(len(members)).encode() + b":" + b"".join(members))
    elif isinstance(value, Sequence):
        digest.update(b"[" + str(len(value)).encode() + b":")
        for position, item in enumerate(value):
            _feed(digest, item, f"{where}[{position}]")
    elif hasattr(value, "to_numpy"):
        _array(digest, np.asarray(value.to_numpy()), where)
    else:
        raise TypeError(
            f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which has no canonical form"
        )


def _float(value: float) -> bytes:
    if value != value:
        return b"nan"
    return (0.0 if value == 0 else value).hex().encode()


def _hash_of(value: Any, where: str) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    _feed(digest, value, where)
    return digest.digest()


def _mapping(digest: hashlib.blake2b, value: Mapping[Any, Any], where: str) -> None:
    digest.update(b"<" + str(len(value)).encode() + b":")
    pairs = sorted(((_hash_of(key, where), key) for key in value), key=lambda pair: pair[0])
    for key_hash, key in pairs:
        digest.update(key_hash)
        _feed(digest, value[key], f"{where}.{key}")


def _array(digest: hashlib.blake2b, value: np.ndarray[Any, Any], where: str) -> None:
    if value.dtype.kind in "OTU":
        digest.update(b"a" + repr(value.shape).encode())
        for position, item in enumerate(value.ravel().tolist()):
            _feed(digest, item, f"{where}[{position}]")
    elif value.dtype.kind in "biufcmMS":
        data = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        _text(digest, b"a" + data.dtype.str.encode() + repr(value.shape).encode(), data.tobytes())
    else:
        raise TypeError(f"{where} is an array of {value.dtype}, which has no canonical form")
