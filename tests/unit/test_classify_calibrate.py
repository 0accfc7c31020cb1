"""Calibration against scikit-learn's, and what must hold of it by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV

from sjd_dask.classify.calibrate import Calibrator, cross_calibrated, fit_calibrator, platt
from sjd_dask.errors import DataError

METHODS = ("sigmoid", "isotonic", "temperature")


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose answer is its input."""

    def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Given:
        self.classes_ = np.unique(y)
        return self

    def predict(self, x: Any) -> Any:
        return self.classes_[np.argmax(x, axis=1)]


class GivenScores(Given):
    def decision_function(self, x: Any) -> Any:
        return x[:, 1] - x[:, 0] if self.classes_.size == 2 else x


class GivenProbabilities(Given):
    def predict_proba(self, x: Any) -> Any:
        return x


def _scene(n_classes: int, n: int = 240) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_classes)
    labels = np.arange(n) % n_classes
    scores = 3 * rng.normal(size=(n, n_classes))
    scores[np.arange(n), labels] += 4
    weights = rng.uniform(0.2, 1, size=n)
    return scores, labels, weights / weights.mean()


def _limited(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, scale: str) -> np.ndarray:
    """Log-odds of each class against the rest, within log(1 + sum of weights) of the class and of the rest."""
    logits = scores if scale == "logits" else np.log(scores)
    out = np.empty_like(logits)
    for c in range(logits.shape[1]):
        odds = logits[:, c] - np.log(np.exp(np.delete(logits, c, axis=1)).sum(axis=1))
        out[:, c] = np.clip(odds, -np.log(1 + weights[labels != c].sum()), np.log(1 + weights[labels == c].sum()))
    # Of two classes the difference is taken.
    return out if logits.shape[1] > 2 else np.column_stack([np.zeros(len(out)), out[:, 1]])


def _softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("scale", ["logits", "probabilities"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_as_scikit_learn_on_the_same_scores(method: Any, n_classes: int, scale: Any) -> None:
    scores, labels, weights = _scene(n_classes)
    if scale == "probabilities":
        scores = _softmax(scores)
    given, new = scores, scores[::3] * (1.4 if scale == "logits" else 1.0)
    ours = fit_calibrator(scores, labels, weights, method, scale=scale).apply(new)
    if method == "sigmoid":
        # Theirs is given what ours takes: log-odds against the rest, no surer than the samples can tell.
        given, new = (_limited(one, labels, weights, scale) for one in (scores, new))
        scale = "logits"
    estimator = GivenProbabilities() if scale == "probabilities" else GivenScores()
    theirs = CalibratedClassifierCV(estimator, method=method, ensemble=False)
    theirs.fit(given, labels, sample_weight=weights)
    # Theirs stops Platt's likelihood at a gradient of 1e-6; ours goes on.
    np.testing.assert_allclose(ours, theirs.predict_proba(new), rtol=0, atol=2e-5)
    assert np.allclose(ours.sum(axis=1), 1)


def test_well_calibrated_scores_stay_as_they_are_however_sure() -> None:
    rng = np.random.default_rng(8)
    logits = 6 * rng.normal(size=(400, 3))
    labels = np.array([rng.choice(3, p=row) for row in _softmax(logits)])
    truth = np.eye(3)[labels]
    own, sure = _softmax(logits), fit_calibrator(logits, labels).apply(logits)
    # A line through scores of thirty, with targets of a few hundred samples, would miss by ten times as much.
    assert ((sure - truth) ** 2).sum(axis=1).mean() < ((own - truth) ** 2).sum(axis=1).mean() + 0.005
    assert 1 / 300 > sure.min() > 1 / 2000 and sure.max() < 0.999


def test_platt_is_at_the_top_of_its_likelihood() -> None:
    scores, labels, weights = _scene(2)
    s, truth = scores[:, 1], (labels == 1).astype(float)
    a, b = platt(s, truth, weights)
    positive, negative = weights[truth > 0].sum(), weights[truth <= 0].sum()
    target = np.where(truth > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    off = weights * (target - 1 / (1 + np.exp(a * s + b)))
    assert abs(off.sum()) < 1e-7 and abs((off * s).sum()) < 1e-7
    assert a < 0


@pytest.mark.parametrize("scale", ["logits", "probabilities"])
def test_none_gives_the_classifiers_own_probabilities(scale: Any) -> None:
    for n_classes in (2, 4):
        scores, labels, _ = _scene(n_classes)
        own = _softmax(scores)
        given = scores if scale == "logits" else own
        np.testing.assert_allclose(
            fit_calibrator(given, labels, None, "none", scale=scale).apply(given), own, atol=1e-14
        )


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_a_row_is_the_same_alone_and_comes_back_from_arrays(method: Any) -> None:
    scores, labels, weights = _scene(3)
    fitted = fit_calibrator(scores, labels, weights, method)
    whole = fitted.apply(scores)
    again = Calibrator.from_arrays(fitted.to_arrays())
    assert np.array_equal(again.apply(np.asfortranarray(scores)), whole)
    assert np.array_equal(np.vstack([fitted.apply(row[None, :]) for row in scores[:20]]), whole[:20])
    assert np.array_equal(fitted.apply(scores[::-1])[::-1], whole)
    assert all(array.dtype != object for array in fitted.to_arrays().values())


@pytest.mark.parametrize("method", METHODS)
def test_overconfident_scores_come_nearer_to_the_truth(method: Any) -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(3000, 3))
    labels = np.array([rng.choice(3, p=row) for row in _softmax(logits)])
    over = 4 * logits
    fitted = fit_calibrator(over[:1500], labels[:1500], None, method)
    truth = np.eye(3)[labels[1500:]]
    before = ((_softmax(over[1500:]) - truth) ** 2).sum(axis=1).mean()
    after = ((fitted.apply(over[1500:]) - truth) ** 2).sum(axis=1).mean()
    best = ((_softmax(logits[1500:]) - truth) ** 2).sum(axis=1).mean()
    # One class against the rest sees three classes through one of them: not all of the way.
    assert after < best + (0.1 if method == "temperature" else 0.4) * (before - best)


def test_a_missing_score_gives_no_probability() -> None:
    scores, labels, _ = _scene(3)
    for method in (*METHODS, "none"):
        holed = scores[:3].copy()
        holed[1, 2] = np.nan
        out = fit_calibrator(scores, labels, None, method).apply(holed)  # type: ignore[arg-type]
        assert np.isnan(out[1]).all() and np.isfinite(out[[0, 2]]).all()


def test_scores_that_say_nothing_give_everyone_the_classes_shares() -> None:
    labels = np.repeat([0, 1], [30, 10])
    out = fit_calibrator(np.zeros((40, 2)), labels, None, "sigmoid").apply(np.zeros((1, 2)))
    assert out[0, 1] == pytest.approx((10 * 11 / 12 + 30 / 32) / 40)


def test_only_the_ratios_of_weights_count() -> None:
    scores, labels, weights = _scene(3)
    for method in METHODS:
        one, other = (fit_calibrator(scores, labels, w, method) for w in (weights, weights / 10))  # type: ignore[arg-type]
        np.testing.assert_allclose(one.apply(scores), other.apply(scores), rtol=1e-6)


def test_cross_calibrated_leaves_a_fold_out_of_its_own_calibrator() -> None:
    scores, labels, weights = _scene(3)
    folds = np.arange(labels.size) % 7
    out = cross_calibrated(scores, labels, folds, weights, "isotonic")
    held = folds == 2
    alone = fit_calibrator(scores[~held], labels[~held], weights[~held], "isotonic").apply(scores[held])
    assert np.array_equal(out[held], alone)
    assert not np.array_equal(out, fit_calibrator(scores, labels, weights, "isotonic").apply(scores))


def test_refused() -> None:
    scores, labels, _ = _scene(3)
    with pytest.raises(DataError, match="1 of 240 samples have scores that are not finite"):
        fit_calibrator(np.where(np.arange(240)[:, None] == 7, np.inf, scores), labels)
    with pytest.raises(DataError, match=r"\[80, 160, 0\]"):
        fit_calibrator(scores, np.minimum(labels, 1))
    with pytest.raises(DataError, match="no calibration method 'beta'"):
        fit_calibrator(scores, labels, None, "beta")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="one column per class"):
        fit_calibrator(scores, labels).apply(scores[:, :2])
    arrays = fit_calibrator(scores, labels).to_arrays()
    del arrays["parameter_slope"]
    with pytest.raises(DataError, match="parameter_slope"):
        Calibrator.from_arrays(arrays)
