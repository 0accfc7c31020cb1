"""Classes by sums of one term an item, and what items that aren't known leave open.

Loops sum in the order of the items, so a row has the same bits alone, in a batch and in any order.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int8]
Flags = NDArray[np.bool_]


@njit(nogil=True, cache=True)
def category_scores(codes: Codes, offsets: Ints, table: Floats, intercepts: Floats) -> Floats:
    """Sum of the scores of each row's categories, and the intercept, (n, k).

    Parameters
    ----------
    codes : ndarray of int8 (n, p)
        Category of each variable, from 0; negative is not known and adds nothing.
    offsets : ndarray of int64 (p + 1,)
        Where the categories of each variable begin in `table`.
    table : ndarray (J, k)
    intercepts : ndarray (k,)
    """
    n, p = codes.shape
    k = intercepts.size
    out = np.empty((n, k))
    for i in range(n):
        for c in range(k):
            total = 0.0
            for j in range(p):
                if codes[i, j] >= 0:
                    total += table[offsets[j] + codes[i, j], c]
            out[i, c] = total + intercepts[c]
    return out


@njit(nogil=True, cache=True)
def open_classes(scores: Floats, known: Flags, least: Floats) -> tuple[Floats, Floats, Floats, Flags]:
    """Probabilities, and what the items that aren't known leave open.

    Parameters
    ----------
    scores : ndarray (n, k)
        Sums over the known items.
    known : ndarray of bool (n, p)
    least : ndarray (p, k, k)
        Least that item j can add to the score of class a over that of class b.

    Returns
    -------
    probability : ndarray (n, k)
        Softmax of the scores as they are.
    low, high : ndarray (n, k)
        Bounds of the probability: every completion lies within; the probability itself where all items are known. The
        difference to each other class is bounded by itself, exactly; bounds of all differences need not be met by one
        completion, so these may be wider than need be.
    possible : ndarray of bool (n, k)
        Classes that no other class beats in every completion.
    """
    n, k = scores.shape
    p = known.shape[1]
    probability = np.empty((n, k))
    low = np.empty((n, k))
    high = np.empty((n, k))
    possible = np.zeros((n, k), dtype=np.bool_)
    gap = np.empty((k, k))
    for i in range(n):
        top = 0
        for a in range(1, k):
            if scores[i, a] > scores[i, top]:
                top = a
        total = 0.0
        for a in range(k):
            probability[i, a] = math.exp(scores[i, a] - scores[i, top])
            total += probability[i, a]
        complete = True
        for j in range(p):
            complete = complete and known[i, j]
        for a in range(k):
            probability[i, a] /= total
            low[i, a] = high[i, a] = probability[i, a]
        possible[i, top] = True
        if complete:
            continue
        for a in range(k):
            for b in range(k):
                gap[a, b] = scores[i, a] - scores[i, b]
        for j in range(p):
            if not known[i, j]:
                for a in range(k):
                    for b in range(k):
                        gap[a, b] += least[j, a, b]
        for a in range(k):
            most_others = 0.0
            least_others = 0.0
            possible[i, a] = True
            for b in range(k):
                if b != a:
                    most_others += math.exp(-gap[a, b])
                    least_others += math.exp(gap[b, a])
                    # Of equals the first, as where the largest probability is looked for.
                    if gap[b, a] > 0.0 or (gap[b, a] == 0.0 and b < a):
                        possible[i, a] = False
            low[i, a] = 1.0 / (1.0 + most_others)
            high[i, a] = 1.0 / (1.0 + least_others)
    return probability, low, high, possible
