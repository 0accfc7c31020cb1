"""A classifier of the samples of a DataArray: the job's mathematics in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sjd_dask import names
from sjd_dask.classify.classifier import STATUSES, Classifier
from sjd_dask.classify.fitting import Fitted, fit_classifier
from sjd_dask.classify.recipe import Recipe
from sjd_dask.errors import DataError

if TYPE_CHECKING:
    import xarray as xr


def train(
    data: xr.DataArray,
    labels: ArrayLike | Mapping[str, str],
    persons: ArrayLike | Mapping[str, str] | None = None,
    recipe: Recipe | None = None,
    *,
    core: ArrayLike | None = None,
    sentinel: Sequence[str] | None = None,
) -> Fitted:
    """Train a classifier.

    Parameters
    ----------
    data : DataArray, dims (samples, features)
        With coordinates ``sample_id`` and ``feature_id``; NaN = missing. Loaded as float64.
    labels : array of str (n,) or mapping of sample id to class
        A pandas Series is taken by its index.
    persons : array of str (n,) or mapping of sample id to person, optional
        Default: every sample is a person.
    recipe : Recipe, optional
    core, sentinel
        See `fit_classifier`.

    Returns
    -------
    Fitted

    Raises
    ------
    DataError
        Dims or coordinates are absent, a sample has no label or person, or see `fit_classifier`.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> random = np.random.default_rng(0)
    >>> values = random.normal(size=(40, 30)) + np.repeat(random.normal(size=(2, 30)), 20, axis=0)
    >>> coords = {
    ...     "sample_id": ("samples", [f"s{i:02}" for i in range(40)]),
    ...     "feature_id": ("features", [f"g{j:02}" for j in range(30)]),
    ... }
    >>> data = xr.DataArray(values, dims=("samples", "features"), coords=coords)
    >>> fitted = train(data, ["a"] * 20 + ["b"] * 20, recipe=Recipe(panel_size=10))
    >>> fitted.classifier.n_panel
    10
    >>> table = predict(fitted.classifier, data)
    >>> bool((table["top_class"] == ["a"] * 20 + ["b"] * 20).mean() > 0.9)
    True
    """
    data = _checked(data)
    ids = [str(name) for name in data[names.SAMPLE_ID].values]
    features = [str(name) for name in data[names.FEATURE_ID].values]
    label = _aligned(labels, ids, "label")
    person = np.asarray(ids, dtype=str) if persons is None else _aligned(persons, ids, "person")
    values = np.asarray(data.values, dtype=np.float64)
    return fit_classifier(values, label, person, ids, features, recipe or Recipe(), core=core, sentinel=sentinel)


def predict(classifier: Classifier, data: xr.DataArray) -> pd.DataFrame:
    """What a classifier says of each sample of a DataArray.

    Parameters
    ----------
    classifier : Classifier
    data : DataArray, dims (samples, features)
        With coordinates ``sample_id`` and ``feature_id``; features are taken by id, other ones are left alone, absent
        ones are missing values.

    Returns
    -------
    DataFrame
        sample_id, call (missing unless status is called), status, top_class, confidence, ``p_<class>``,
        conformal_set (classes joined by |), ood_score, n_missing.
    """
    data = _checked(data)
    at = {str(name): j for j, name in enumerate(data[names.FEATURE_ID].values)}
    places = [at.get(str(name), -1) for name in classifier.features]
    there = np.array([j >= 0 for j in places])
    values = np.full((data.sizes[names.SAMPLES], len(places)), np.nan)
    values[:, there] = data.isel({names.FEATURES: [j for j in places if j >= 0]}).values
    said = classifier.predict(values)
    classes = np.asarray([*classifier.classes, None], dtype=object)
    top = classes[said.top]
    return pd.DataFrame(
        {
            names.SAMPLE_ID: [str(name) for name in data[names.SAMPLE_ID].values],
            "call": np.where(said.status == STATUSES[0], top, None),
            "status": said.status,
            "top_class": top,
            "confidence": said.confidence,
            **{f"p_{name}": said.probabilities[:, c] for c, name in enumerate(classifier.classes)},
            "conformal_set": ["|".join(classes[:-1][row]) for row in said.conformal],
            "ood_score": said.ood_score,
            "n_missing": said.n_missing,
        }
    )


def _checked(data: xr.DataArray) -> xr.DataArray:
    if set(data.dims) != {names.SAMPLES, names.FEATURES}:
        raise DataError(f"the data have dims {tuple(data.dims)}; they must be ({names.SAMPLES}, {names.FEATURES}).")
    absent = [name for name in (names.SAMPLE_ID, names.FEATURE_ID) if name not in data.coords]
    if absent:
        raise DataError(
            f"the data have no coordinate {' and '.join(map(repr, absent))}: all is aligned by id. Assign it."
        )
    return data.transpose(names.SAMPLES, names.FEATURES)


def _aligned(given: ArrayLike | Mapping[str, str], ids: Sequence[str], what: str) -> NDArray[np.str_]:
    """One for each sample: by id from a mapping or a Series, else in the order of the data."""
    if isinstance(given, (Mapping, pd.Series)):
        by_id: dict[str, Any] = {str(name): one for name, one in given.items()}
        absent = [name for name in ids if pd.isna(by_id.get(name))]
        if absent:
            raise DataError(
                f"{len(absent)} of {len(ids)} samples have no {what}: {', '.join(absent[:5])}. "
                "Select the samples that have one first."
            )
        return np.array([str(by_id[name]) for name in ids], dtype=str)
    found = np.asarray(given, dtype=object)
    if found.shape != (len(ids),):
        raise DataError(f"{what}s have shape {found.shape} and there are {len(ids)} samples: one for each is needed.")
    empty = [ids[i] for i in np.flatnonzero(pd.isna(found))]
    if empty:
        raise DataError(f"{len(empty)} of {len(ids)} samples have no {what}: {', '.join(empty[:5])}. Leave them out.")
    return found.astype(str)
