"""Random numbers addressed by place, so that a value never depends on which block was asked for, or when."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

# Multipliers of two Kronecker sequences: golden ratio and square root of two, as fractions of 2**64.
GOLDEN = 0x9E3779B97F4A7C15
SILVER = 0x6A09E667F3BCC909


@lru_cache(maxsize=256)
def key_words(seed: int, purpose: str) -> tuple[int, int]:
    """Two 64-bit words that name (seed, purpose)."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


class Stream:
    """A counter-based generator (Philox) that can be put anywhere in two coordinates.

    The key names the seed and the purpose; the upper half of the counter names the place. Each place has 2**128 draws
    of its own, so places never overlap. One object serves one thread.

    Parameters
    ----------
    seed : int
        The seed of the simulation.
    purpose : str
        What the draws are for. Two purposes share no draws.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        self._bits = np.random.Philox(key=np.array(key_words(seed, purpose), dtype=np.uint64))
        self._generator = np.random.Generator(self._bits)
        self._state = self._bits.state
        self._counter = np.zeros(4, dtype=np.uint64)
        # Setting the state of one generator costs 3 us; building a new one for each place costs 20 us.
        self._state["state"]["counter"] = self._counter
        self._state["buffer_pos"] = 4
        self._state["has_uint32"] = 0
        self._state["uinteger"] = 0

    def at(self, major: int = 0, minor: int = 0) -> np.random.Generator:
        """The generator at the start of place (major, minor). A later call moves it."""
        self._counter[:] = (0, 0, minor, major)
        self._bits.state = self._state
        return self._generator


def spread(index: np.ndarray, seed: int, purpose: str, multiplier: int = GOLDEN) -> np.ndarray:
    """A Kronecker sequence in [0, 1): every prefix is spread evenly, so planted shares hold to within a few units.

    Parameters
    ----------
    index : ndarray of int
        Places in the sequence.
    seed, purpose : int, str
        Together they shift the whole sequence.
    multiplier : int
        The step, as a fraction of 2**64.

    Returns
    -------
    ndarray of float64, same shape, in [0, 1).
    """
    offset = np.uint64(key_words(seed, purpose)[0])
    words = np.asarray(index, dtype=np.uint64) * np.uint64(multiplier) + offset
    # 53 bits, so that the result is never rounded up to 1.
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
