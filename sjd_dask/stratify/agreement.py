"""How far two labellings of the same samples agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import DataError


def cross_table(first: Sequence[object] | pd.Series, second: Sequence[object] | pd.Series) -> pd.DataFrame:
    """Samples by label of the first (rows) and of the second (columns), both sorted.

    Two Series are joined by their index, on the samples that both have; samples whose label is missing in either are
    left out.

    Raises
    ------
    DataError
        Sequences of different lengths, or no sample with both labels.
    """
    a, b = _pair(first, second)
    return pd.crosstab(a.to_numpy(), b.to_numpy(), rownames=["first"], colnames=["second"])


def adjusted_rand_index(first: Sequence[object] | pd.Series, second: Sequence[object] | pd.Series) -> float:
    """Agreement on pairs of samples, 1 for equal labellings and 0 for chance (Hubert and Arabie 1985).

    Missing labels and Series: see `cross_table`.
    """
    table = cross_table(first, second).to_numpy().astype(np.float64)
    both = _pairs(table).sum()
    rows, columns = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    total = float(_pairs(table.sum()))
    expected = rows * columns / total if total > 0 else 0.0
    most = (rows + columns) / 2.0
    return float((both - expected) / (most - expected)) if most != expected else 1.0


def normalised_mutual_information(first: Sequence[object] | pd.Series, second: Sequence[object] | pd.Series) -> float:
    """Mutual information over the mean of the two entropies, 0..1; not corrected for chance.

    1 where both have one label only. Missing labels and Series: see `cross_table`.
    """
    joint = cross_table(first, second).to_numpy().astype(np.float64)
    joint /= joint.sum()
    entropy_first, entropy_second = _entropy(joint.sum(axis=1)), _entropy(joint.sum(axis=0))
    mean = (entropy_first + entropy_second) / 2.0
    if mean == 0.0:
        return 1.0
    return float(np.clip((entropy_first + entropy_second - _entropy(joint.ravel())) / mean, 0.0, 1.0))


def _pair(first: Sequence[object] | pd.Series, second: Sequence[object] | pd.Series) -> tuple[pd.Series, pd.Series]:
    if isinstance(first, pd.Series) and isinstance(second, pd.Series):
        common = first.index.intersection(second.index)
        a, b = first.loc[common], second.loc[common]
    elif len(first) != len(second):
        raise DataError(
            f"{len(first)} and {len(second)} labels aren't of the same samples. Give Series with sample ids."
        )
    else:
        a, b = pd.Series(list(first)), pd.Series(list(second))
    known = a.notna().to_numpy() & b.notna().to_numpy()
    if not known.any():
        raise DataError(f"of {len(a)} samples in common none has both labels: there is nothing to compare.")
    return a[known], b[known]


def _pairs(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(counts * (counts - 1.0) / 2.0)


def _entropy(shares: NDArray[np.float64]) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())
