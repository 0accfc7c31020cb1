"""Sets of classes: the threshold by hand, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest

from sjd_dask.classify.conformal import fewest_persons, fit_threshold, person_weights, sets
from sjd_dask.errors import DataError


def _own(values: list[float]) -> tuple[np.ndarray, np.ndarray]:
    p = np.asarray(values)
    return np.column_stack([p, 1 - p]), np.zeros(p.size, dtype=int)


def test_threshold_by_hand() -> None:
    p, labels = _own([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55])
    persons = np.array([f"p{i}" for i in range(9)])
    # Nine persons: (9 + 1) * 0.9 = 9 of them must be held, 8 at a coverage of 0.8.
    assert fit_threshold(p, labels, persons, 0.9) == 0.55
    assert fit_threshold(p, labels, persons, 0.8) == 0.6
    # Ten would be needed for a coverage of 0.91: there is no such threshold, and all classes are in.
    assert fit_threshold(p, labels, persons, 0.91) == 0.0
    assert sets(p, 0.0).all()


@pytest.mark.parametrize("coverage", [0.51, 0.6, 2 / 3, 0.8, 0.9, 0.95, 0.99])
def test_fewest_persons_are_those_whose_threshold_leaves_a_class_out(coverage: float) -> None:
    n = fewest_persons(coverage)
    for count, there in ((n, True), (n - 1, False)):
        p, labels = _own([0.7] * count)
        if count:
            persons = np.array([f"p{i}" for i in range(count)])
            assert (fit_threshold(p, labels, persons, coverage) > 0) == there


def test_a_person_counts_once() -> None:
    p, labels = _own([0.9, 0.8, 0.7, 0.6, *[0.1] * 20])
    persons = np.array(["a", "b", "c", "d", *["e"] * 20])
    assert person_weights(persons).tolist() == [1, 1, 1, 1, *[0.05] * 20]
    # 0.66 of 6 is 3.96: the four sure persons are enough, however many samples the fifth has.
    assert fit_threshold(p, labels, persons, 0.66) == 0.6
    order = np.random.default_rng(1).permutation(24)
    for coverage in (0.3, 0.66, 0.7, 0.8):
        here = fit_threshold(p, labels, persons, coverage)
        assert fit_threshold(p[order], labels[order], persons[order], coverage) == here


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_coverage_over_new_persons_with_several_samples(coverage: float) -> None:
    rng = np.random.default_rng(3)
    held = []
    for _ in range(400):
        persons = np.repeat(np.arange(61), rng.integers(1, 9, size=61))
        # A person's samples are alike, and the probabilities are wrong: coverage must hold none the less.
        easy = rng.normal(size=61)[persons] + 0.3 * rng.normal(size=persons.size)
        p, labels = _own((1 / (1 + np.exp(-easy))).tolist())
        last = persons == 60
        threshold = fit_threshold(p[~last], labels[~last], persons[~last].astype(str), coverage)
        held.append(sets(p[last], threshold)[:, 0].mean())
    error = np.std(held) / np.sqrt(len(held))
    assert coverage - 3 * error < np.mean(held) < coverage + 1 / 61 + 3 * error


def test_missing_probabilities_give_an_empty_set() -> None:
    assert not sets(np.full((1, 3), np.nan), 0.0).any()


def test_refused() -> None:
    p, labels = _own([0.9, 0.8])
    with pytest.raises(DataError, match=r"coverage 1\.0 is not between 0 and 1"):
        fit_threshold(p, labels, np.array(["a", "b"]), 1.0)
    with pytest.raises(DataError, match="no samples"):
        fit_threshold(p[:0], labels[:0], np.array([]), 0.9)
    p[1] = np.nan
    with pytest.raises(DataError, match="1 of 2 samples have no probability"):
        fit_threshold(p, labels, np.array(["a", "b"]), 0.9)
