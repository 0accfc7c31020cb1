"""Folds of persons and the first choice of features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_selection import f_classif

from sjd_dask.classify.prefilter import ClassSums, class_sums, rounded
from sjd_dask.classify.splits import draw_seed, person_folds
from sjd_dask.errors import DataError, SpecError

PERSONS = np.array([f"P{i // 3}" for i in range(90)], dtype=object)
LABELS = np.array(["ab"[i // 3 % 5 == 0] for i in range(90)], dtype=object)


def test_a_person_is_in_one_fold_and_classes_are_dealt_evenly() -> None:
    folds = person_folds(PERSONS, LABELS, 4, seed=1)
    for person in np.unique(PERSONS):
        assert len(set(folds[person == PERSONS])) == 1
    sizes = np.array([[len(set(PERSONS[(folds == f) & (c == LABELS)])) for f in range(4)] for c in "ab"])
    assert sizes.sum() == 30 and (np.ptp(sizes, axis=1) <= 1).all() and np.ptp(sizes.sum(axis=0)) <= 1


def test_folds_hang_on_persons_and_seed_alone() -> None:
    folds = person_folds(PERSONS, LABELS, 4, seed=1)
    order = np.random.default_rng(0).permutation(90)
    assert np.array_equal(person_folds(PERSONS[order], LABELS[order], 4, seed=1), folds[order])
    # One more sample of a person who is there already.
    more = person_folds(np.append(PERSONS, "P7"), np.append(LABELS, LABELS[21]), 4, seed=1)
    assert np.array_equal(more[:90], folds)
    assert not np.array_equal(person_folds(PERSONS, LABELS, 4, seed=2), folds)


def test_a_person_of_several_classes_counts_for_the_most_frequent() -> None:
    persons = np.array(["x"] * 3 + [f"p{i}" for i in range(9)], dtype=object)
    labels = np.array(["b", "b", "a"] + ["a"] * 5 + ["b"] * 4, dtype=object)
    folds = person_folds(persons, labels, 5, seed=3)
    assert len(set(folds[:3])) == 1
    assert sorted(folds[[0, *range(8, 12)]]) == [0, 1, 2, 3, 4]


def test_too_few_persons_of_a_class_are_named() -> None:
    with pytest.raises(DataError, match=r"at least 7 persons.*'b': 6"):
        person_folds(PERSONS, LABELS, 7, seed=1)
    with pytest.raises(SpecError, match="at least 2"):
        person_folds(PERSONS, LABELS, 1, seed=1)
    with pytest.raises(DataError, match="don't belong together"):
        person_folds(PERSONS, LABELS[:80], 3, seed=1)


def test_a_seed_hangs_on_every_part_of_its_purpose() -> None:
    made = {draw_seed(1, "model", 1), draw_seed(1, "model", 2), draw_seed(2, "model", 1), draw_seed(1, "panel", 1)}
    assert len(made) == 4 and all(0 <= seed < 2**32 for seed in made)
    assert draw_seed(1, "model", 1) == draw_seed(1, "model", 1)


@pytest.fixture
def block() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    y = random.integers(0, 3, 50)
    values = random.normal(size=(50, 20)) + 1e4
    values[:, 0] += y
    return values, y


def test_f_statistics_are_those_of_scikit_learn(block: tuple[np.ndarray, np.ndarray]) -> None:
    values, y = block
    found = class_sums(values, y, 3, np.ones(50)).f_statistics()
    np.testing.assert_allclose(found, f_classif(values - 1e4, y)[0], rtol=1e-9)
    values[3, 4] = np.nan
    values[7, 4] = np.inf
    there = np.isfinite(values[:, 4])
    again = class_sums(values, y, 3, np.ones(50)).f_statistics()
    np.testing.assert_allclose(again[4], f_classif(values[there, 4:5] - 1e4, y[there])[0][0], rtol=1e-9)


def test_a_weight_is_a_repeat(block: tuple[np.ndarray, np.ndarray]) -> None:
    values, y = block
    twice = class_sums(np.repeat(values, 2, axis=0), np.repeat(y, 2), 3, np.full(100, 0.5)).f_statistics()
    np.testing.assert_allclose(twice, class_sums(values, y, 3, np.ones(50)).f_statistics(), rtol=1e-9)


def test_sums_of_a_training_part_are_all_less_a_fold(block: tuple[np.ndarray, np.ndarray]) -> None:
    values, y = block
    whole = ClassSums.empty(values[0], 3)
    for start in range(0, 50, 7):
        whole.add(values[start : start + 7], y[start : start + 7], np.ones(len(y[start : start + 7])))
    fold = class_sums(values[:20], y[:20], 3, np.ones(20), whole.pilot)
    rest = class_sums(values[20:], y[20:], 3, np.ones(30), whole.pilot)
    np.testing.assert_allclose((whole - fold).f_statistics(), rest.f_statistics(), rtol=1e-8)
    np.testing.assert_array_equal((whole - fold).top(5, 0.1, 30), rest.top(5, 0.1, 30))
    np.testing.assert_allclose((fold + rest).sums, whole.sums, rtol=1e-9, atol=1e-9)


def test_what_cannot_be_judged_is_never_taken(block: tuple[np.ndarray, np.ndarray]) -> None:
    values, y = block
    values[:, 1] = 3.0
    values[:, 2] = np.nan
    values[:10, 3] = np.nan
    sums = class_sums(values, y, 3, np.ones(50))
    assert (sums.f_statistics()[[1, 2]] == -1).all()
    assert set(sums.top(20, 0.1, 50)) == set(range(20)) - {1, 2, 3}
    assert 3 in sums.top(20, 0.2, 50)
    # Equal statistics: the first features are taken.
    same = class_sums(np.repeat(values[:, :1], 6, axis=1), y, 3, np.ones(50))
    assert list(same.top(2, 0.0, 50)) == [0, 1]


def test_rounding_makes_no_order_among_equals() -> None:
    assert rounded(np.array([1.0 + 1e-13]))[0] == 1.0 and rounded(np.array([1.0 + 1e-6]))[0] != 1.0
    assert rounded(np.array([-1.0, 0.0])).tolist() == [-1.0, 0.0]
