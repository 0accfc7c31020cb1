"""The panel by stability selection: what the elastic net takes again and again in halves of the persons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sjd_dask.classify.panel_elastic_net import elastic_net_order
from sjd_dask.classify.splits import draw_keys

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Pairs of halves: each person is in one of the two.
PAIRS = 25
# Share of halves from which a feature is stable.
STABLE = 0.6


def stability_panels(
    rows: Floats,
    y: Ints,
    weights: Floats,
    persons: NDArray[np.str_],
    n_classes: int,
    sizes: Sequence[int],
    *purpose: int | str,
) -> list[Ints]:
    """Positions of the features that are stable, the most stable first to each of `sizes`.

    Parameters
    ----------
    rows : ndarray (n, p)
        Features with weighted mean 0 and variance 1, none missing.
    y : ndarray of int64 (n,)
    weights : ndarray (n,)
    persons : array of str (n,)
        Halves are of persons, class by class.
    n_classes : int
    sizes : sequence of int
        Ascending. A size is also how many features a half may take.
    purpose : int or str
        The key of the draws, together with the person's id.

    Notes
    -----
    Meinshausen and Buehlmann (2010) with the complementary pairs of Shah and Samworth (2013). Of features that tell
    nothing at most q^2 / ((2 x 0.6 - 1) p) are expected among the stable ones, for q features a half out of p. Where
    no feature is stable the most frequent one is taken. Of equals that of the earlier places in the paths is first.
    """
    panels = []
    shares, places = selection_frequencies(rows, y, weights, persons, n_classes, sizes, *purpose)
    for size, share, place in zip(sizes, shares, places, strict=True):
        order = np.lexsort((place, -share))
        stable = int((share >= STABLE - 1e-9).sum())
        panels.append(np.asarray(order[: max(1, min(size, stable))]))
    return panels


def selection_frequencies(
    rows: Floats,
    y: Ints,
    weights: Floats,
    persons: NDArray[np.str_],
    n_classes: int,
    sizes: Sequence[int],
    *purpose: int | str,
) -> tuple[Floats, Floats]:
    """In which share of the halves each feature is among the first `sizes`, and its mean place there, (sizes, p)."""
    n_features = rows.shape[1]
    counts = np.zeros((len(sizes), n_features))
    places = np.zeros((len(sizes), n_features))
    halves = 0
    for pair in range(PAIRS):
        first = _half(y, persons, n_classes, *purpose, pair)
        for part in (first, ~first):
            path = elastic_net_order(rows[part], y[part], weights[part], n_classes, sizes[-1])
            for i, size in enumerate(sizes):
                order = path[:size]
                counts[i, order] += 1
                places[i] += size
                places[i, order] += np.arange(len(order)) - size
            halves += 1
    return counts / halves, places / halves


def _half(y: Ints, persons: NDArray[np.str_], n_classes: int, *purpose: int | str) -> NDArray[np.bool_]:
    """Which samples are in the first half: every other person of each class in a drawn order."""
    ids, first, at = np.unique(persons, return_index=True, return_inverse=True)
    # A person of several classes is dealt with the class of the first sample.
    own = y[first]
    numbers = draw_keys([str(name) for name in ids], "half", *purpose)
    chosen = np.zeros(len(ids), dtype=bool)
    dealt = 0
    for c in range(n_classes):
        members = np.flatnonzero(own == c)
        members = members[np.argsort(numbers[members], kind="stable")]
        chosen[members] = (dealt + np.arange(len(members))) % 2 == 0
        dealt += len(members)
    return np.asarray(chosen[at])
