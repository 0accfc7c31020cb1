"""Metrics against scikit-learn's, and intervals that know that a person's samples are alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from sjd_dask.classify.conformal import person_weights
from sjd_dask.classify.metrics import Judged, brier_difference, draws, evaluate, evaluate_subgroups, reliability
from sjd_dask.errors import DataError


def _judged(k: int = 3, n_persons: int = 60, seed: int = 1) -> Judged:
    rng = np.random.default_rng(seed)
    persons = np.repeat([f"p{i}" for i in range(n_persons)], rng.integers(1, 6, size=n_persons))
    labels = rng.integers(0, k, size=persons.size)
    scores = rng.normal(size=(persons.size, k))
    scores[np.arange(persons.size), labels] += 1.2
    # Two digits, so that there are ties.
    p = np.round(np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True), 2)
    p /= p.sum(axis=1, keepdims=True)
    status = np.where(p.max(axis=1) > 0.6, "called", "abstained").astype(object)
    status[:4] = "out_of_distribution"
    return Judged(tuple("abcd"[:k]), labels, p, persons, p >= 0.25, status)


def _value(table: pd.DataFrame, metric: str, name: str = "") -> float:
    return float(table[(table["metric"] == metric) & (table["class"] == name)]["value"].iloc[0])


@pytest.mark.parametrize("k", [2, 3])
def test_as_scikit_learn_with_a_person_counting_once(k: int) -> None:
    judged = _judged(k)
    y, p, w = judged.labels, judged.probabilities, person_weights(judged.persons)
    top = p.argmax(axis=1)
    found = evaluate(judged, n_draws=5)
    theirs = {
        "accuracy": sk.accuracy_score(y, top, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, top, sample_weight=w),
        "macro_f1": sk.f1_score(y, top, average="macro", sample_weight=w),
        "log_loss": sk.log_loss(y, p, sample_weight=w),
        "auc": np.mean([sk.roc_auc_score(y == c, p[:, c], sample_weight=w) for c in range(k)]),
        "brier": np.average(((p - np.eye(k)[y]) ** 2).sum(axis=1) / 2, weights=w),
    }
    if k == 2:
        theirs["brier"] = sk.brier_score_loss(y, p[:, 1], sample_weight=w)
    for metric, value in theirs.items():
        assert _value(found, metric) == pytest.approx(value, abs=1e-12), metric
    for c, name in enumerate(judged.classes):
        assert _value(found, "auc", name) == pytest.approx(sk.roc_auc_score(y == c, p[:, c], sample_weight=w))
        recall = sk.recall_score(y, top, labels=[c], average=None, sample_weight=w)[0]
        assert _value(found, "recall", name) == pytest.approx(recall)
        precision = sk.precision_score(y, top, labels=[c], average=None, sample_weight=w)[0]
        assert _value(found, "precision", name) == pytest.approx(precision)


def test_what_scikit_learn_does_not_have_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.45, 0.55], [np.nan, np.nan]])
    status = np.array(["called", "out_of_distribution", "called", "abstained", "missing_data"], dtype=object)
    judged = Judged(("a", "b"), np.array([0, 1, 1, 0, 0]), p, np.array(list("vwxyz")), p >= 0.3, status)
    found = evaluate(judged, n_draws=3)
    assert _value(found, "accuracy") == 0.5
    assert _value(found, "coverage") == 0.75
    assert _value(found, "set_size") == 1.5
    # Of five samples, one without probabilities.
    assert _value(found, "called") == 0.4
    assert _value(found, "out_of_distribution") == 0.2
    assert _value(found, "accuracy_of_called") == 1
    assert _value(found, "coverage", "b") == 0.5
    # 0.9 right, 0.8 wrong, 0.6 right, 0.55 wrong: each bin of its own.
    assert _value(found, "calibration_error") == pytest.approx((0.1 + 0.8 + 0.4 + 0.55) / 4)


def test_intervals_hold_the_truth_as_often_as_they_say_when_visits_are_alike() -> None:
    rng = np.random.default_rng(2)
    held = naive = 0
    for trial in range(60):
        right = rng.random(80) < 0.7
        persons = np.repeat(np.arange(80), 6)
        p = np.where(right[persons], 0.8, 0.2)
        judged = Judged(("a", "b"), np.zeros(480, dtype=int), np.column_stack([p, 1 - p]), persons)
        row = evaluate(judged, seed=trial, n_draws=100).query("metric == 'accuracy'").iloc[0]
        held += row["low"] <= 0.7 <= row["high"]
        half = 1.96 * np.sqrt(row["value"] * (1 - row["value"]) / 480)
        naive += abs(row["value"] - 0.7) <= half
    assert held >= 0.86 * 60
    # What an interval over samples would have held: the persons are what there is.
    assert naive < 0.75 * 60


def test_draws_hang_on_the_person_and_the_round_alone() -> None:
    judged = _judged()
    order = np.random.default_rng(3).permutation(len(judged.labels))
    weights = np.concatenate(list(draws(judged.persons, 7, 50)))
    again = np.concatenate(list(draws(judged.persons[order], 7, 50)))
    assert np.array_equal(weights[:, order], again)
    other = np.concatenate(list(draws(judged.persons, 8, 50)))
    assert not np.array_equal(weights, other)
    many = np.concatenate(list(draws(np.arange(2000), 1, 30)))
    assert many.mean() == pytest.approx(1, abs=0.02) and many.var() == pytest.approx(1, abs=0.05)
    mixed_up = Judged(
        judged.classes,
        judged.labels[order],
        judged.probabilities[order],
        judged.persons[order],
        judged.sets[order] if judged.sets is not None else None,
        judged.status[order] if judged.status is not None else None,
    )
    pd.testing.assert_frame_equal(evaluate(judged), evaluate(mixed_up), rtol=1e-12)


def test_reliability_by_hand() -> None:
    p = np.array([0.05, 0.05, 0.95, 0.95, 0.95, 1.0])
    persons = np.array(["a", "b", "c", "d", "d", "e"])
    judged = Judged(("x", "y"), np.array([0, 1, 1, 0, 1, 1]), np.column_stack([1 - p, p]), persons)
    found = reliability(judged)
    y = found[found["class"] == "y"]
    assert y["low"].tolist() == [0.0, 0.9] and y["n_samples"].tolist() == [2, 4] and y["n_persons"].tolist() == [2, 3]
    assert y["observed"].tolist() == pytest.approx([0.5, 2.5 / 3])
    assert y["mean_probability"].tolist() == pytest.approx([0.05, (0.95 + 0.95 + 1) / 3])
    assert ((y["observed_low"] < y["observed"]) & (y["observed"] < y["observed_high"])).all()


def test_subgroups_hide_the_few() -> None:
    judged = _judged()
    rare = np.array(["f" if one in ("p1", "p2") else "m" for one in judged.persons], dtype=object)
    rare[judged.persons == "p3"] = None
    found = evaluate_subgroups(judged, {"sex": rare}, n_draws=20)
    assert found["level"].unique().tolist() == ["f", "m", "missing"]
    few = found[found["level"] != "m"]
    assert few[["value", "low", "high", "n_samples", "n_persons"]].isna().all(axis=None)
    m = found[found["level"] == "m"]
    assert m["value"].notna().all() and (m["n_persons"] == 57).all()
    alone = evaluate(judged.only(rare == "m"), n_draws=20)
    assert m[m["metric"] == "brier"]["value"].iloc[0] == _value(alone, "brier")


def test_brier_difference_is_over_persons() -> None:
    judged = _judged()
    uniform = np.full(judged.probabilities.shape, 1 / 3)
    found = brier_difference(judged, uniform)
    mine = evaluate(judged, n_draws=1)
    theirs = evaluate(Judged(judged.classes, judged.labels, uniform, judged.persons), n_draws=1)
    assert found.value == pytest.approx(_value(mine, "brier") - _value(theirs, "brier"))
    assert found.n_persons == 60 and 0 < found.standard_error < 0.1
    assert brier_difference(judged, judged.probabilities).value == 0


def test_refused() -> None:
    judged = _judged()
    with pytest.raises(DataError, match="no predictions"):
        evaluate(judged.only(np.zeros(len(judged.labels), dtype=bool)))
    with pytest.raises(DataError, match="2 classes"):
        Judged(("a", "b"), judged.labels, judged.probabilities, judged.persons)
    with pytest.raises(DataError, match="1 persons have both"):
        brier_difference(judged.only(judged.persons == "p0"), judged.probabilities[judged.persons == "p0"])
