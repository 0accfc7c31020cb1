"""Draws that hang on the seed, the round and the id alone: order, chunks and workers don't matter."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
SAMPLES, FEATURES, STARTS, NULL = 1, 2, 3, 4


def id_keys(ids: Sequence[str]) -> Keys:
    """A number for each id, (n,): the first 8 bytes of its BLAKE2 hash."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def position_keys(n: int) -> Keys:
    """A number for each position, (n,)."""
    return _mix(np.arange(1, n + 1, dtype=np.uint64))


def ranking(keys: Keys, *purpose: int) -> NDArray[np.int64]:
    """Positions of `keys` in a random order that `purpose` (seed, round, ...) fixes, (n,)."""
    with np.errstate(over="ignore"):
        state = np.zeros(1, dtype=np.uint64)
        for number in purpose:
            state = _mix(state ^ np.uint64(number & 0xFFFF_FFFF_FFFF_FFFF))
        return np.argsort(_mix(keys ^ state), kind="stable")


def _mix(x: Keys) -> Keys:
    """SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
