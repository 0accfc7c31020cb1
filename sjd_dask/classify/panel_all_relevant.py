"""The panel of all features that a forest finds more useful than the best of permuted ones, in the manner of Boruta."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sjd_dask.classify.splits import draw_seed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDS = 40
LEVEL = 0.01
_TREES = 50
_DEPTH = 5
# Of fewer permuted features the best is too easily beaten.
_FEWEST_SHADOWS = 20


def all_relevant_order(rows: Floats, y: Ints, weights: Floats, *purpose: int | str) -> Ints:
    """Positions of the confirmed features, the most important first.

    Parameters
    ----------
    rows : ndarray (n, p)
        Features, none missing.
    y : ndarray of int64 (n,)
    weights : ndarray (n,)
    purpose : int or str
        The key of the draws: the round is added.

    Notes
    -----
    Kursa and Rudnicki (2010). In each round every feature still in question has a shadow, its values permuted over
    samples, and a random forest is grown on both; a feature scores if its importance (mean decrease in impurity) is
    above that of all shadows. Its number of scores is judged by a binomial test against 1/2 on either side after each
    round, at the level 0.01 divided by the number of features, as their package does: confirmed, rejected and left
    out of the later rounds, or still open. What is open at the end isn't taken; where nothing is confirmed, the
    feature with the most scores is.
    """
    from scipy.stats import binom
    from sklearn.ensemble import RandomForestClassifier

    p = rows.shape[1]
    scores = np.zeros(p, dtype=np.int64)
    importance = np.zeros(p)
    open_, confirmed = np.ones(p, dtype=bool), np.zeros(p, dtype=bool)
    for turn in range(1, ROUNDS + 1):
        columns = np.flatnonzero(open_ | confirmed)
        random = np.random.default_rng(draw_seed(*purpose, "shadow", turn))
        sources = columns if len(columns) >= _FEWEST_SHADOWS else np.resize(columns, _FEWEST_SHADOWS)
        shadows = random.permuted(rows[:, sources], axis=0)
        forest = RandomForestClassifier(_TREES, max_depth=_DEPTH, random_state=draw_seed(*purpose, "forest", turn))
        forest.fit(np.hstack([rows[:, columns], shadows]).astype(np.float32), y, sample_weight=weights)
        found = forest.feature_importances_
        best = found[len(columns) :].max()
        scores[columns[found[: len(columns)] > best]] += 1
        importance[columns] += found[: len(columns)]
        confirmed |= open_ & (binom.sf(scores - 1, turn, 0.5) <= LEVEL / p)
        open_ &= ~confirmed & (binom.cdf(scores, turn, 0.5) > LEVEL / p)
        if not open_.any():
            break
    if not confirmed.any():
        confirmed[np.lexsort((-importance, -scores))[0]] = True
    kept = np.flatnonzero(confirmed)
    return np.asarray(kept[np.argsort(-importance[kept], kind="stable")])
