"""Numbers that hang on a key and a purpose alone."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]


@numba.njit(cache=True, nogil=True)
def _mix(x: np.uint64) -> np.uint64:
    """SplitMix64 (Steele, Lea and Flood 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def mixed(keys: Keys, purpose: Keys) -> Keys:
    """A random number for each key, fixed by the numbers of `purpose`; different keys have different ones, (n,)."""
    state = np.uint64(0)
    for number in purpose:
        state = _mix(state ^ number)
    out = np.empty(keys.size, dtype=np.uint64)
    for i in range(keys.size):
        out[i] = _mix(keys[i] ^ state)
    return out


@numba.njit(cache=True, nogil=True)
def positions_of_least(numbers: Keys, count: int) -> NDArray[np.int64]:
    """Positions of the smallest numbers, ascending, of equals the first: few of many, (count,)."""
    out = np.empty(count, dtype=np.int64)
    for which in range(count):
        best = -1
        for i in range(numbers.size):
            if which > 0 and (
                numbers[i] < numbers[out[which - 1]] or (numbers[i] == numbers[out[which - 1]] and i <= out[which - 1])
            ):
                continue
            if best < 0 or numbers[i] < numbers[best]:
                best = i
        out[which] = best
    return out
