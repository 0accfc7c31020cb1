"""Draws that hang on the seed, the round and the id alone: order, chunks and workers don't matter."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sjd_dask.kernels.keyed import mixed, positions_of_least

Keys = NDArray[np.uint64]
SAMPLES, FEATURES, STARTS, NULL = 1, 2, 3, 4


def id_keys(ids: Sequence[str]) -> Keys:
    """A number for each id, (n,): the first 8 bytes of its BLAKE2 hash."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def position_keys(n: int) -> Keys:
    """A number for each position, (n,)."""
    return mixed(np.arange(1, n + 1, dtype=np.uint64), np.empty(0, dtype=np.uint64))


def ranking(keys: Keys, *purpose: int) -> NDArray[np.int64]:
    """Positions of `keys` in a random order that `purpose` (seed, round, ...) fixes, (n,)."""
    return np.argsort(mixed(keys, _numbers(purpose)), kind="stable")


def drawn(keys: Keys, count: int, *purpose: int) -> NDArray[np.int64]:
    """The first `count` of `ranking`, ascending."""
    if count == len(keys):
        return np.arange(count)
    numbers = mixed(keys, _numbers(purpose))
    limit = np.partition(numbers, count - 1)[count - 1]
    found = np.flatnonzero(numbers <= limit)
    # Two keys can be equal; then the ranking decides.
    return found if len(found) == count else np.sort(np.argsort(numbers, kind="stable")[:count])


def first_few(keys: Keys, count: int, *purpose: int) -> NDArray[np.int64]:
    """The first `count` of `ranking`, in its order; made for a few of many."""
    return positions_of_least(mixed(keys, _numbers(purpose)), count)


def _numbers(purpose: tuple[int, ...]) -> Keys:
    return np.array([number & 0xFFFF_FFFF_FFFF_FFFF for number in purpose], dtype=np.uint64)
