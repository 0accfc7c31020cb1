"""Numbers out of delimited text in one compiled pass: faster than the way through Arrow, which needs no compiler.

Worth its compilation (about a second) on large files only. It reads what is exact by construction: at most 2**53 in
the digits and a power of ten up to 22, so that one correctly rounded division or product gives the nearest double
(Clinger 1990, "How to read floating point numbers accurately", fast path). Longer numbers are handed to `float`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

# Fields the compiled pass may hand back, as a share of all, before another way is better.
_HARD_SHARE = 0.05
_POWERS = 10.0 ** np.arange(23)


def _read(
    text: npt.NDArray[np.uint8],
    delimiter: int,
    missing: npt.NDArray[np.int64],
    powers: npt.NDArray[np.float64],
    out: npt.NDArray[np.float64],
    ids: npt.NDArray[np.int64],
    hard: npt.NDArray[np.int64],
) -> int:
    n_lines, n_values = out.shape
    size = len(text)
    n_hard = 0
    i = 0
    for row in range(n_lines):
        ids[row, 0] = i
        while i < size and text[i] != delimiter and text[i] != 10:
            i += 1
        if i >= size or text[i] != delimiter:
            return -1
        ids[row, 1] = i
        i += 1
        for column in range(n_values):
            start = i
            negative = False
            if text[i] == 45 or text[i] == 43:
                negative = text[i] == 45
                i += 1
            mantissa = np.uint64(0)
            digits = 0
            significant = 0
            fraction = 0
            seen_point = False
            while True:
                byte = text[i]
                if byte >= 48 and byte <= 57:
                    digits += 1
                    if significant > 0 or byte != 48:
                        significant += 1
                    if significant <= 18:
                        mantissa = mantissa * np.uint64(10) + np.uint64(byte - 48)
                    if seen_point:
                        fraction += 1
                elif byte == 46 and not seen_point:
                    seen_point = True
                else:
                    break
                i += 1
            exponent = 0
            if digits > 0 and (text[i] == 101 or text[i] == 69):
                i += 1
                down = False
                if text[i] == 45 or text[i] == 43:
                    down = text[i] == 45
                    i += 1
                n = 0
                while text[i] >= 48 and text[i] <= 57:
                    if exponent < 10000:
                        exponent = exponent * 10 + int(text[i] - 48)
                    n += 1
                    i += 1
                if n == 0:
                    return -1
                if down:
                    exponent = -exponent
            byte = text[i]
            ends = byte == 10 if column == n_values - 1 else byte == delimiter
            if digits == 0 or not ends:
                # Not a number: one of the few words for missing, or something for the slow way.
                i = start
                packed = np.int64(0)
                length = 0
                while text[i] != delimiter and text[i] != 10:
                    if length == 4:
                        return -1
                    packed |= np.int64(text[i]) << np.int64(8 * length)
                    length += 1
                    i += 1
                if (text[i] == 10) != (column == n_values - 1):
                    return -1
                packed |= np.int64(length) << np.int64(32)
                known = False
                for k in range(len(missing)):
                    known = known or missing[k] == packed
                if not known:
                    return -1
                out[row, column] = np.nan
                i += 1
                continue
            power = exponent - fraction
            if significant > 18 or mantissa > np.uint64(9007199254740992) or power > 22 or power < -22:
                if n_hard == len(hard):
                    return -2
                hard[n_hard, 0] = row
                hard[n_hard, 1] = column
                hard[n_hard, 2] = start
                hard[n_hard, 3] = i
                n_hard += 1
            else:
                value = np.float64(mantissa)
                if power < 0:
                    value /= powers[-power]
                else:
                    value *= powers[power]
                out[row, column] = -value if negative else value
            i += 1
    return n_hard if i == size else -1


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., int]:
    import numba

    compiled: Callable[..., int]
    try:
        compiled = numba.njit(nogil=True, cache=True)(_read)
    except RuntimeError:
        # No folder to keep the compiled code in: it's compiled again in each process.
        compiled = numba.njit(nogil=True)(_read)
    return compiled


def parse_digits(
    block: bytes, delimiter: int, n_values: int, missing: npt.NDArray[np.int64]
) -> tuple[list[tuple[int, int]], npt.NDArray[np.float64]] | None:
    """Places of the ids in the block, and the values; None when the block needs another way.

    Parameters
    ----------
    block : bytes
        Whole lines, each ended by LF: an id, then `n_values` fields.
    delimiter : int
        Code of the delimiter.
    n_values : int
    missing : ndarray of int64
        Words for missing, packed: bytes in the low half, length in the high half.
    """
    text: npt.NDArray[np.uint8] = np.frombuffer(block, dtype=np.uint8)
    n_lines = block.count(b"\n")
    out: npt.NDArray[np.float64] = np.empty((n_lines, n_values))
    ids: npt.NDArray[Any] = np.empty((n_lines, 2), dtype=np.int64)
    hard: npt.NDArray[Any] = np.empty((int(out.size * _HARD_SHARE) + 16, 4), dtype=np.int64)
    n_hard = _compiled()(text, delimiter, missing, _POWERS, out, ids, hard)
    if n_hard < 0:
        return None
    for row, column, start, stop in hard[:n_hard].tolist():
        value = float(block[start:stop])
        if not np.isfinite(value):
            return None
        out[row, column] = value
    return [(a, b) for a, b in ids.tolist()], out
