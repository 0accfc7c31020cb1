"""Groups as mean profiles: to show what tells them apart, and to know them again where no sample is shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError

# Columns before those of the groups.
OVERALL = (names.FEATURE_ID, "mean", "standard_deviation")


def centroid_table(feature_ids: NDArray[Any], values: NDArray[np.float64], strata: NDArray[Any]) -> pd.DataFrame:
    """Mean of each feature over all samples and in each group, in the units of the values.

    Parameters
    ----------
    feature_ids : ndarray (p,)
    values : ndarray (n, p)
        No missing values.
    strata : ndarray of str (n,)
        Group of each sample.

    Returns
    -------
    DataFrame
        A row for each feature: ``feature_id``, ``mean``, ``standard_deviation`` (n - 1; over all samples) and
        ``mean_C1``...: one column for each group in order of its number.
    """
    made = {
        names.FEATURE_ID: feature_ids,
        "mean": values.mean(axis=0),
        "standard_deviation": values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1]),
    }
    for name in sorted({str(one) for one in strata}, key=lambda one: (len(one), one)):
        made[f"mean_{name}"] = values[strata == name].mean(axis=0)
    return pd.DataFrame(made)


def group_names(centroids: pd.DataFrame) -> list[str]:
    """Names of the groups of a table of centroids."""
    return [str(name).removeprefix("mean_") for name in centroids.columns if name not in OVERALL]


def nearest_centroid(centroids: pd.DataFrame, feature_ids: NDArray[Any], values: NDArray[np.float64]) -> NDArray[Any]:
    """The group whose mean profile is nearest to each sample.

    Distances are Euclidean over the features of both, each in standard deviations of the cohort that the centroids are
    of: the values have to be on the same scale, as those of one frozen layer are. Ties fall to the first group.

    Parameters
    ----------
    centroids : DataFrame
        See `centroid_table`.
    feature_ids : ndarray (p,)
    values : ndarray (n, p)

    Returns
    -------
    ndarray of object (n,)
        Names of groups.

    Raises
    ------
    DataError
        Fewer than two features are shared.
    """
    table = centroids.set_index(names.FEATURE_ID)
    table = table[table["standard_deviation"] > 0]
    place = pd.Index(feature_ids).get_indexer(table.index)
    table, place = table[place >= 0], place[place >= 0]
    if len(place) < 2:
        raise DataError(
            f"{len(place)} of the {len(centroids):,} features of the centroids are among the {len(feature_ids):,} "
            "here, and at least 2 are needed to compare profiles: choose features that both have"
        )
    found = group_names(centroids)
    scale = table["standard_deviation"].to_numpy()
    means = table[[f"mean_{name}" for name in found]].to_numpy().T / scale
    z = values[:, place] / scale
    distances = np.stack([((z - mean) ** 2).sum(axis=1) for mean in means], axis=1)
    return np.asarray(np.array(found, dtype=object)[distances.argmin(axis=1)])
