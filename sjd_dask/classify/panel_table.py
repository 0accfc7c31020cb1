"""The panel as a table: how much each feature weighs, for which class and in which direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.classify.classifier import Classifier

Floats = NDArray[np.float64]


def panel_table(classifier: Classifier, pipeline: Any, values: Floats, y: NDArray[np.int64]) -> pd.DataFrame:
    """One row a feature of the panel, in the panel's order.

    Parameters
    ----------
    classifier : Classifier
    pipeline : sklearn.pipeline.Pipeline
        Its model.
    values : ndarray (n, n_panel)
        Training samples, NaN = missing.
    y : ndarray of int64 (n,)

    Returns
    -------
    DataFrame
        feature_id; ``weight_<class>``: coefficient for a change of one standard deviation (multinomial), shrunken
        deviation of the class's centroid (shrunken_centroid), or the feature's share of the trees' splits, with the
        sign of the class's mean (forests and boosting); ``mean_<class>``: mean of the class in standard deviations from
        the mean of all; direction: the class whose mean is farthest from it, as "higher in <class>" or "lower in
        <class>".
    """
    arrays = classifier.model.arrays
    spread = (values - arrays["mean"]) / arrays["scale"]
    known = np.isfinite(spread)
    held = np.where(known, spread, 0.0)
    k = len(classifier.classes)
    means = np.array([held[y == c].sum(axis=0) / np.maximum(known[y == c].sum(axis=0), 1) for c in range(k)])
    estimator = pipeline.named_steps["model"]
    if classifier.model.kind == "multinomial":
        weights = arrays["weights"]
    elif classifier.model.kind == "shrunken_centroid":
        weights = np.asarray(estimator.deviations_)
    else:
        weights = np.asarray(estimator.feature_importances_) * np.sign(means)
    far = np.abs(means).argmax(axis=0)
    side = means[far, np.arange(means.shape[1])] >= 0
    return pd.DataFrame(
        {
            names.FEATURE_ID: classifier.panel,
            **{f"weight_{name}": weights[c] for c, name in enumerate(classifier.classes)},
            **{f"mean_{name}": means[c] for c, name in enumerate(classifier.classes)},
            "direction": [
                f"{'higher' if up else 'lower'} in {classifier.classes[c]}" for c, up in zip(far, side, strict=True)
            ],
        }
    )
