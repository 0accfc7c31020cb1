"""Numbers out of blocks of delimited text: a fast way for what is plain, a slow one that names the offender.

The fast way never accepts what the slow one refuses: it hands a block over as soon as anything in it is unusual. A
number is an optional sign, digits with an optional decimal point, and an optional exponent. Booleans, dates,
hexadecimal, thousands separators and infinities are refused.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sjd_dask.errors import DataError
from sjd_dask.store.ingest.sources.digits import parse_digits

MISSING_TOKENS = ("", "NA", "NaN", "nan", "null", "NULL", "N/A", ".")

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LINE_END = 10


def _packed(token: bytes) -> int:
    return int.from_bytes(token.ljust(4, b"\0"), "little") | len(token) << 32


_MISSING_PACKED = np.array(sorted(_packed(t.encode()) for t in MISSING_TOKENS), dtype=np.int64)


def split_line(line: bytes, delimiter: str) -> list[str]:
    """Fields of one line, quotes removed, surrounding spaces removed.

    Raises
    ------
    csv.Error
        When a quoted field isn't closed on its line.
    """
    text = line.decode("utf-8")
    if '"' not in text:
        return [f.strip() for f in text.split(delimiter)]
    fields = next(csv.reader([text], delimiter=delimiter, strict=True), [""])
    return [f.strip() for f in fields]


def parse_block(
    block: bytes,
    first_line: int,
    delimiter: str,
    minor_ids: list[str],
    kinds: tuple[str, str],
    path: Path,
    *,
    compiled: bool = False,
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Ids and values of whole lines: an id, then one number for each of `minor_ids`.

    Parameters
    ----------
    block : bytes
        Lines of UTF-8, each ended by LF.
    first_line : int
        Number of the first line in its file, for messages.
    delimiter : str
        One ASCII character.
    minor_ids : list of str
        What the numbers of a line belong to.
    kinds : tuple of str
        What a line is and what a column is, for messages: ``("feature", "sample")``.
    path : Path
    compiled : bool
        Try the compiled pass first (`sjd_dask.store.ingest.sources.digits`): for large files.

    Returns
    -------
    ids : list of str
    values : ndarray of float64, shape (lines, len(minor_ids))
        NaN where a missing token stood (`MISSING_TOKENS`).

    Raises
    ------
    DataError
        Ragged line, text in numbers, an infinite number: with line, column, ids and the value.
    """
    found = None
    n_values = len(minor_ids)

    def fast(text: bytes) -> tuple[list[tuple[int, int]], npt.NDArray[np.float64]] | None:
        read = None
        if compiled and n_values:
            read = parse_digits(text, ord(delimiter), n_values, _MISSING_PACKED)
        return _fast(text, ord(delimiter), n_values) if read is None else read

    if b'"' in block:
        plain = _unquote(block, delimiter.encode())
        if plain is not None:
            ids, body = plain
            numbers = fast(body)
            found = None if numbers is None else (ids, numbers[1])
    else:
        numbers = fast(block)
        if numbers is not None:
            found = ([block[a:b].decode("utf-8").strip() for a, b in numbers[0]], numbers[1])
    return _slow(block, first_line, delimiter, minor_ids, kinds, path) if found is None else found


def _unquote(block: bytes, delimiter: bytes) -> tuple[list[str], bytes] | None:
    """Ids, and the lines with an empty id, when quotes stand only around whole fields; None when they're elsewhere."""
    ids = []
    lines = []
    quoted = b'"' + delimiter + b'"'
    for line in block[:-1].split(b"\n"):
        if line.startswith(b'"'):
            end = line.find(b'"', 1)
            name, rest = line[1:end], line[end + 1 :]
            if end < 0 or not rest.startswith(delimiter):
                return None
        else:
            end = line.find(delimiter)
            if end < 0:
                return None
            name, rest = line[:end], line[end:]
        if b'"' in rest:
            if not (rest.startswith(delimiter + b'"') and rest.endswith(b'"') and len(rest) > 2):
                return None
            rest = delimiter + rest[2:-1].replace(quoted, delimiter)
            if b'"' in rest:
                return None
        if b'"' in name:
            return None
        ids.append(name.decode("utf-8").strip())
        lines.append(rest)
    lines.append(b"")
    return ids, b"\n".join(lines)


def _fast(block: bytes, delimiter: int, n_values: int) -> tuple[list[tuple[int, int]], npt.NDArray[np.float64]] | None:
    """Places of the ids in the block, and the values; None when the block needs the slow way.

    The separators are squeezed out, so that the remaining bytes and the offsets of the fields make an Arrow string
    array, whose cast to float64 is exact and strict. Id fields and missing tokens are nulls there.
    """
    text: npt.NDArray[np.uint8] = np.frombuffer(block, dtype=np.uint8)
    is_separator = text == delimiter
    is_separator |= text == _LINE_END
    separators = np.flatnonzero(is_separator)
    n_fields = n_values + 1
    n_lines, rest = divmod(len(separators), n_fields)
    if rest or n_values == 0 or len(text) >= np.iinfo(np.int32).max:
        return None
    line_ends = text[separators] == _LINE_END
    if int(line_ends.sum()) != n_lines or not line_ends[n_fields - 1 :: n_fields].all():
        return None
    letters = text[~is_separator]
    offsets = np.zeros(len(separators) + 1, dtype=np.int32)
    offsets[1:] = separators - np.arange(len(separators))
    starts = offsets[:-1]
    lengths = np.diff(offsets)
    padded = np.append(letters, np.zeros(4, dtype=np.uint8))
    first = padded[starts]
    is_missing = lengths == 0
    is_missing |= first >= ord("A")
    is_missing |= (lengths == 1) & (first == ord("."))
    is_missing[::n_fields] = False  # the ids
    candidates = np.flatnonzero(is_missing)
    if len(candidates):
        length = lengths[candidates].astype(np.int64)
        if length.max() > 4:
            return None
        packed = length << 32
        for k in range(4):
            byte = padded[starts[candidates] + k].astype(np.int64)
            packed |= np.where(k < length, byte, 0) << (8 * k)
        if not np.isin(packed, _MISSING_PACKED).all():
            return None
    is_null = is_missing
    is_null[::n_fields] = True
    strings = pa.StringArray.from_buffers(
        len(separators),
        pa.py_buffer(offsets),
        pa.py_buffer(letters),
        pa.py_buffer(np.packbits(~is_null, bitorder="little")),
    )
    try:
        numbers = pc.cast(strings, pa.float64())
    except pa.ArrowInvalid:
        return None
    values = np.array(np.frombuffer(numbers.buffers()[1], dtype=np.float64, count=len(numbers)))
    values[is_null] = np.nan
    if int(np.isfinite(values).sum()) != len(values) - int(is_null.sum()):
        return None
    ends = separators[::n_fields].tolist()
    begins = [0, *(separators[n_fields - 1 :: n_fields] + 1)[:-1].tolist()]
    return list(zip(begins, ends, strict=True)), values.reshape(n_lines, n_fields)[:, 1:]


def _slow(
    block: bytes, first_line: int, delimiter: str, minor_ids: list[str], kinds: tuple[str, str], path: Path
) -> tuple[list[str], npt.NDArray[np.float64]]:
    lines = block[:-1].split(b"\n")
    ids = []
    values: npt.NDArray[Any] = np.full((len(lines), len(minor_ids)), np.nan)
    for row, line in enumerate(lines):
        number = first_line + row
        try:
            fields = split_line(line, delimiter)
        except csv.Error as error:
            raise DataError(f"{path}: line {number:,}: a quoted field is not closed on its line ({error}).") from None
        if len(fields) != len(minor_ids) + 1:
            if not line.strip():
                raise DataError(f"{path}: line {number:,} is empty, and data follow it. Remove it.")
            raise DataError(
                f"{path}: line {number:,} has {len(fields):,} fields where the header asks for {len(minor_ids) + 1:,} "
                f"(an id and {len(minor_ids):,} values). Every line must have the same number of fields."
            )
        name = fields[0]
        ids.append(name)
        for column, token in enumerate(fields[1:]):
            if token in MISSING_TOKENS:
                continue
            value = float(token) if _NUMBER.fullmatch(token) else np.nan
            if not np.isfinite(value):
                raise DataError(
                    f"{path}: line {number:,}, column {column + 2:,}: {kinds[0]} {name!r}, {kinds[1]} "
                    f"{minor_ids[column]!r}: {_why(token)}"
                )
            values[row, column] = value
    return ids, values


def _why(token: str) -> str:
    shown = repr(token if len(token) <= 40 else token[:37] + "...")
    if _NUMBER.fullmatch(token) or token.lstrip("+-").lower() in ("inf", "infinity"):
        return f"{shown} is not a finite number. Correct it, or leave it empty for missing."
    if re.fullmatch(r"[+-]?\d+,\d+", token):
        return f"{shown} is not a number: use a decimal point, not a comma."
    return (
        f"{shown} is not a number. Missing values may be written as {', '.join(MISSING_TOKENS[1:])} or left empty; "
        "columns that are not values belong into a sample sheet or a feature table."
    )
