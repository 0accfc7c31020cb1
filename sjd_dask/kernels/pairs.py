"""Consensus of pairs of samples, each pair once: what several algorithms and many resamples say of it."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def pair_shares(labels: NDArray[np.int8], start: int, stop: int, below: bool) -> NDArray[np.float32]:
    """Mean over algorithms of the share of the resamples that drew both samples in which they shared a group.

    Parameters
    ----------
    labels : ndarray of int8 (n_algorithms, R, n)
        Groups in each of R < 65,536 resamples; negative: not drawn.
    start, stop : int
        The samples whose pairs are wanted.
    below : bool
        With all samples; or else only with those that come after them.

    Returns
    -------
    ndarray of float32
        Row after row; with `below` n of each sample (1 with itself), else n - 1 - i of sample i. 0 for pairs that were
        never drawn together. Algorithms are added in their order, in float32.
    """
    n_algorithms, rounds, n = labels.shape
    length = 0
    for i in range(start, stop):
        length += n if below else n - 1 - i
    out = np.zeros(length, dtype=np.float32)
    every_same = np.empty(n, dtype=np.uint16)
    every_both = np.empty(n, dtype=np.uint16)
    at = 0
    for i in range(start, stop):
        first = 0 if below else i + 1
        # From zero on, so that machines take many pairs at a time.
        same, both = every_same[first:], every_both[first:]
        row = out[at : at + n - first]
        for a in range(n_algorithms):
            same[:] = 0
            both[:] = 0
            for r in range(rounds):
                own = labels[a, r, i]
                if own >= 0:
                    line = labels[a, r, first:]
                    for j in range(line.size):
                        same[j] += np.uint16(line[j] == own)
                        both[j] += np.uint16(line[j] >= 0)
            for j in range(same.size):
                row[j] += np.float32(same[j]) / np.float32(max(both[j], np.uint16(1)))
            if below:
                # Also where it was never drawn.
                row[i] += np.float32(1.0) - np.float32(same[i]) / np.float32(max(both[i], np.uint16(1)))
        at += n - first
    if n_algorithms > 1:
        out /= np.float32(n_algorithms)
    return out


@numba.njit(cache=True, nogil=True)
def never_together(drawn: NDArray[np.uint64]) -> int:
    """How many pairs of samples no resample drew together; `drawn` has a bit for each resample, (n, words)."""
    n, words = drawn.shape
    never = 0
    for i in range(n):
        own = drawn[i]
        for j in range(i + 1, n):
            met = False
            for w in range(words):
                if own[w] & drawn[j, w]:
                    met = True
                    break
            if not met:
                never += 1
    return never
