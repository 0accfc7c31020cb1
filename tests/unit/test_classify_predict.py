"""What a frozen classifier says of a sample: statuses, missing values, and the notebook's table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from trained_scene import samples, trained

import sjd_dask
from sjd_dask.classify import Recipe, predict, train
from sjd_dask.classify.classifier import STATUSES
from sjd_dask.errors import DataError


def columns() -> np.ndarray:
    """Persons that the classifier doesn't know."""
    return samples(seed=7).columns(trained().classifier.features)


def test_called_is_in_distribution_enough_features_and_a_sure_set() -> None:
    classifier = trained().classifier
    values = columns()
    odd = values.copy()
    odd[:, ::2] -= 25.0
    lacking = values.copy()
    lacking[:, : classifier.n_panel // 2] = np.nan
    said = classifier.predict(np.vstack([values, odd, lacking]))
    n = len(values)
    assert {"called", "abstained"} <= set(said.status[:n]) <= {"called", "abstained", "out_of_distribution"}
    assert (said.status[:n] == "out_of_distribution").mean() < 0.15
    assert set(said.status[n : 2 * n]) == {"out_of_distribution"}
    assert set(said.status[2 * n :]) == {"missing_data"}
    only_top = (said.conformal.sum(axis=1) == 1) & said.conformal[np.arange(3 * n), np.maximum(said.top, 0)]
    inside = said.ood_score <= classifier.distribution.threshold
    np.testing.assert_array_equal(said.status == "called", only_top & inside)
    np.testing.assert_array_equal(said.status == "abstained", ~only_top & inside)
    known = said.status != "missing_data"
    np.testing.assert_allclose(said.probabilities[known].sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_array_equal(said.top[known], said.probabilities[known].argmax(axis=1))
    np.testing.assert_array_equal(said.confidence[known], said.probabilities[known].max(axis=1))
    np.testing.assert_array_equal(said.conformal[known], said.probabilities[known] >= classifier.threshold)
    gone = ~known
    assert np.isnan(said.probabilities[gone]).all() and (said.top[gone] == -1).all()
    assert np.isnan(said.confidence[gone]).all() and np.isnan(said.ood_score[gone]).all()
    assert not said.conformal[gone].any()


def test_the_values_of_the_caller_stay() -> None:
    values = columns()
    values[0, 3] = np.inf
    before = values.copy()
    trained().classifier.predict(values)
    np.testing.assert_array_equal(values, before)


def test_missing_values_are_the_mean_up_to_the_limit() -> None:
    classifier = trained().classifier  # 10 features in the panel, 12 beside it, a tenth may be missing
    assert (classifier.n_panel, len(classifier.features)) == (10, 22)
    values = np.nan_to_num(columns()[:1], nan=5.0)
    one, two, beside = values.copy(), values.copy(), values.copy()
    one[0, 0] = np.nan
    two[0, :2] = np.nan
    beside[0, [12, 14, 16]] = np.nan
    filled = values.copy()
    filled[0, 0] = classifier.model.arrays["fill"][0]
    for bad in (np.nan, np.inf, -np.inf):
        one[0, 0] = bad
        said = classifier.predict(one)
        np.testing.assert_array_equal(said.probabilities, classifier.predict(filled).probabilities)
        assert said.status[0] != "missing_data" and said.n_missing[0] == 1
    assert classifier.predict(two).status[0] == "missing_data" and classifier.predict(two).n_missing[0] == 2
    assert classifier.predict(beside).status[0] == "missing_data"
    assert classifier.predict(np.full((1, 22), np.nan)).status[0] == "missing_data"


def test_extreme_values_are_out_of_distribution_not_an_error() -> None:
    classifier = trained().classifier
    said = classifier.predict(np.full((2, 22), 1e300))
    assert set(said.status) == {"out_of_distribution"}


def test_shapes_are_checked_and_no_sample_is_fine() -> None:
    classifier = trained().classifier
    with pytest.raises(DataError, match=r"shape \(3, 5\): this classifier takes \(samples, 22\)"):
        classifier.predict(np.zeros((3, 5)))
    said = classifier.predict(np.empty((0, 22)))
    assert said.probabilities.shape == (0, 3) and said.status.shape == (0,)


def array() -> xr.DataArray:
    data = samples()
    coords = {"sample_id": ("samples", data.ids), "feature_id": ("features", data.features)}
    return xr.DataArray(data.values, dims=("samples", "features"), coords=coords)


def test_a_notebook_trains_and_predicts_by_id() -> None:
    data = samples()
    recipe = Recipe(model="shrunken_centroid", panel_size=8, inner=3, sentinels=6)
    by_order = train(array(), data.labels, data.persons, recipe)
    shuffled = pd.Series(data.labels, index=data.ids).sample(frac=1, random_state=1)
    persons = dict(zip(data.ids, data.persons, strict=True))
    by_id = train(array().transpose("features", "samples"), shuffled, persons, recipe)
    assert by_order.classifier.to_files() == by_id.classifier.to_files()
    table = predict(by_id.classifier, array())
    said = by_id.classifier.predict(data.columns(by_id.classifier.features))
    assert list(table["sample_id"]) == list(data.ids) and set(table["status"]) <= set(STATUSES)
    np.testing.assert_array_equal(table["p_class b"], said.probabilities[:, 1])
    assert (table["call"].notna() == (table["status"] == "called")).all()
    called = table["status"] == "called"
    assert (table.loc[called, "call"] == table.loc[called, "conformal_set"]).all() and called.any()
    # Other features don't matter, absent ones are missing.
    moved = array().isel(features=np.r_[59:-1:-1])
    pd.testing.assert_frame_equal(predict(by_id.classifier, moved), table, check_exact=True)
    less = array().sel(features=~np.isin(data.features, by_id.classifier.panel[:3]))
    assert set(predict(by_id.classifier, less)["status"]) == {"missing_data"}
    assert sjd_dask.classify.train is train


def test_a_notebook_is_told_what_is_absent() -> None:
    data = samples()
    with pytest.raises(DataError, match=r"have dims \('samples', 'genes'\)"):
        train(array().rename(features="genes"), data.labels)
    with pytest.raises(DataError, match="no coordinate 'feature_id'"):
        train(array().drop_vars("feature_id"), data.labels)
    with pytest.raises(DataError, match=r"1 of 90 samples have no label: S"):
        train(array(), pd.Series(data.labels, index=data.ids).iloc[1:])
    with pytest.raises(DataError, match=r"persons have shape \(3,\)"):
        train(array(), data.labels, ["a", "b", "c"])
    with pytest.raises(DataError, match="2 of 90 samples have no label"):
        train(array(), np.where(np.arange(90) < 2, None, data.labels))
