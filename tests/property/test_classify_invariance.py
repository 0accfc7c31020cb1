"""A sample's numbers are the same bits alone, in any batch, order, layout of memory and number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trained_scene import samples, trained

from sjd_dask.classify.classifier import Classifier, Predictions

KINDS = [
    ("multinomial", 3, "sigmoid"),
    ("multinomial", 2, "temperature"),
    ("random_forest", 3, "sigmoid"),
    ("gradient_boosting", 3, "sigmoid"),
    ("gradient_boosting", 2, "sigmoid"),
    ("shrunken_centroid", 3, "isotonic"),
    ("shrunken_centroid", 3, "none"),
]


def batch(classifier: Classifier, n_classes: int) -> np.ndarray:
    """Ordinary samples, odd ones, missing and infinite values."""
    random = np.random.default_rng(11)
    values = np.vstack([samples(n_classes, seed=s).columns(classifier.features) for s in (1, 8)])
    values[::7] += random.normal(size=values.shape[1]) * 3
    values[3, :4] = np.nan
    values[4, 1] = np.inf
    values[5] = 1e300
    return values


def assert_same(found: Predictions, wanted: Predictions, rows: np.ndarray) -> None:
    for name, told in vars(wanted).items():
        part = told[rows]
        got = getattr(found, name)
        assert got.dtype == part.dtype and got.shape == part.shape
        if part.dtype == object:
            assert list(got) == list(part), name
        else:
            assert got.tobytes() == part.tobytes(), name


def laid_out(values: np.ndarray, how: str) -> np.ndarray:
    if how == "columns":
        return np.asfortranarray(values)
    if how == "strided":
        wide = np.zeros((2 * len(values), 2 * values.shape[1]))
        wide[::2, 1::2] = values
        return wide[::2, 1::2]
    if how == "backwards":
        return np.ascontiguousarray(values[::-1, ::-1])[::-1, ::-1]
    if how == "unaligned":
        held = np.zeros(values.nbytes + 1, dtype=np.uint8)[1:].view(np.float64).reshape(values.shape)
        held[:] = values
        return held
    return values


@pytest.mark.parametrize(("kind", "n_classes", "calibration"), KINDS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_sample_is_judged_by_itself(kind: str, n_classes: int, calibration: str, data: st.DataObject) -> None:
    classifier = trained(kind, n_classes, calibration).classifier
    values = batch(classifier, n_classes)
    wanted = classifier.predict(values)
    rows = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=40)))
    how = data.draw(st.sampled_from(["rows", "columns", "strided", "backwards", "unaligned"]))
    assert_same(classifier.predict(laid_out(values[rows], how)), wanted, rows)


@pytest.mark.parametrize(("kind", "n_classes", "calibration"), KINDS)
def test_alone_after_a_restart_in_threads_and_in_pieces(
    kind: str, n_classes: int, calibration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = trained(kind, n_classes, calibration).classifier
    values = batch(classifier, n_classes)
    wanted = classifier.predict(values)
    assert {"called", "out_of_distribution", "missing_data"} <= set(wanted.status)
    again = Classifier.from_files(classifier.to_files())
    for i in range(0, len(values), 5):
        assert_same(again.predict(values[i : i + 1]), wanted, np.array([i]))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(again.predict, [values] * 8):
            assert_same(found, wanted, np.arange(len(values)))
    monkeypatch.setattr(Classifier, "_ROWS", 7)
    assert_same(again.predict(values), wanted, np.arange(len(values)))
