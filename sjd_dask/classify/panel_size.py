"""How large a panel should be: as large as the inner folds show to be best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.classify.conformal import person_weights

Floats = NDArray[np.float64]


def choose_size(losses: Floats, persons: NDArray[np.str_]) -> tuple[int, Floats, Floats]:
    """Which size to take.

    Parameters
    ----------
    losses : ndarray (sizes, n)
        Log loss of each sample by a panel and model that never saw the person; sizes ascending.
    persons : array of str (n,)
        A person counts once.

    Returns
    -------
    int
        The size with the smallest loss, of equals the smallest size.
    ndarray (sizes,)
        Mean loss over persons.
    ndarray (sizes,)
        Standard error of the difference to the smallest loss, over persons; 0 for that one itself. It says how surely
        another size is worse.

    Notes
    -----
    Not the smallest size within a standard error of the best: it gives away what `auto` is asked for, and swings
    between the ends of the ladder from fold to fold.
    """
    _, at = np.unique(np.asarray(persons, dtype=str), return_inverse=True)
    weights = person_weights(persons)
    n = int(at.max()) + 1
    by_person = np.array([np.bincount(at, weights=weights * one, minlength=n) for one in losses])
    # To 9 digits, as the parameters: rounding makes no order among equals.
    loss = np.round(by_person.mean(axis=1), 9)
    best = int(np.argmin(loss))
    away = by_person - by_person[best]
    error = away.std(axis=1, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(len(losses))
    return best, loss, np.asarray(error)


def sizes_table(
    sizes: Sequence[int], n_features: Sequence[Sequence[int]], loss: Floats, error: Floats, chosen: int
) -> pd.DataFrame:
    """One row a size of panel that was tried.

    Returns
    -------
    DataFrame
        size: most features asked for; n_features: median over the inner folds of those that the method took; log_loss:
        of the inner folds, a person counting once, with the best parameters of the model; difference: to the smallest;
        standard_error: of that difference, over persons; chosen.
    """
    return pd.DataFrame(
        {
            "size": np.asarray(sizes, dtype=np.int64),
            "n_features": np.median(np.asarray(n_features), axis=0),
            "log_loss": loss,
            "difference": loss - loss.min(),
            "standard_error": error,
            "chosen": np.arange(len(sizes)) == chosen,
        }
    )
