"""In or out of distribution: what is turned away, what is not, and that a row is judged alone."""

from __future__ import annotations

import numpy as np
import pytest

from sjd_dask.classify.distribution import Distribution, fit_distribution
from sjd_dask.errors import DataError

Q = 80


def _people(n_persons: int, seed: int, visits: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Samples of six programmes that differ between persons, some persons far more ill than others."""
    programmes = np.random.default_rng(99).normal(size=(6, Q)) * (np.random.default_rng(98).random((6, Q)) < 0.4)
    level = np.random.default_rng(97).uniform(4, 12, size=Q)
    rng = np.random.default_rng(seed)
    activity = rng.normal(size=(n_persons, 6)) * rng.gamma(2, 0.6, size=(n_persons, 1))
    persons = np.repeat(np.arange(n_persons), visits)
    own = activity[persons] + 0.3 * rng.normal(size=(persons.size, 6))
    return level + own @ programmes + 0.5 * rng.standard_t(5, size=(persons.size, Q)), persons.astype(str)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, Distribution]:
    values, persons = _people(120, 1)
    return values, persons, fit_distribution(values, persons, 1)


def test_new_persons_of_the_same_kind_are_turned_away_at_the_stated_rate() -> None:
    rates = []
    for seed in range(20):
        values, persons = _people(60, 100 + seed)
        fitted = fit_distribution(values, persons, seed)
        new, _ = _people(100, 500 + seed)
        rates.append((fitted.score(new) > fitted.threshold).mean())
        assert fitted.is_exact
    error = np.std(rates) / np.sqrt(len(rates))
    assert 0.01 < np.mean(rates) < 0.05 + 3 * error


def test_what_does_not_belong_is_turned_away(scene: tuple[np.ndarray, np.ndarray, Distribution]) -> None:
    values, _, fitted = scene
    new, _ = _people(100, 7)
    rng = np.random.default_rng(2)
    within = rng.permuted(new, axis=1)
    # Every value in its feature's range, but of different people.
    mixed = np.column_stack([rng.permutation(new[:, j]) for j in range(Q)])
    other = new + rng.normal(scale=3, size=Q)
    low_quality = 0.3 * new + 0.7 * values.mean()
    for strange in (within, mixed, other, low_quality):
        assert (fitted.score(strange) > fitted.threshold).mean() >= 0.95


def test_one_odd_feature_is_not_enough(scene: tuple[np.ndarray, np.ndarray, Distribution]) -> None:
    _, _, fitted = scene
    new, _ = _people(100, 8)
    before = fitted.score(new) > fitted.threshold
    new[:, 11] += 1e6
    after = (fitted.score(new) > fitted.threshold).mean()
    assert after < before.mean() + 0.1
    new[:, 12:30] += 1e6
    assert (fitted.score(new) > fitted.threshold).all()


def test_a_row_is_the_same_alone_in_any_layout_and_comes_back(
    scene: tuple[np.ndarray, np.ndarray, Distribution],
) -> None:
    values, _, fitted = scene
    values = values.copy()
    values[5, 3:9] = np.nan
    whole = fitted.score(values)
    again = Distribution.from_arrays(fitted.to_arrays())
    assert again.threshold == fitted.threshold and again.is_exact and again.abstain_rate == 0.05
    assert np.array_equal(again.score(np.asfortranarray(values)), whole)
    assert np.array_equal(np.concatenate([fitted.score(row[None, :]) for row in values[:20]]), whole[:20])
    assert np.array_equal(fitted.score(values[::-1])[::-1], whole)
    assert fitted.score(values[:0]).shape == (0,)


def test_missing_values_neither_hide_nor_accuse(scene: tuple[np.ndarray, np.ndarray, Distribution]) -> None:
    _, _, fitted = scene
    new, _ = _people(100, 9)
    rng = np.random.default_rng(3)
    holed = np.where(rng.random(new.shape) < 0.1, np.nan, new)
    full, less = fitted.score(new), fitted.score(holed)
    assert np.corrcoef(full, less)[0, 1] > 0.6 and abs(np.median(less - full)) < 0.1
    assert abs((less > fitted.threshold).mean() - (full > fitted.threshold).mean()) < 0.06
    mixed = np.column_stack([rng.permutation(new[:, j]) for j in range(Q)])
    mixed[rng.random(new.shape) < 0.1] = np.nan
    assert (fitted.score(mixed) > fitted.threshold).mean() >= 0.95
    assert np.isnan(fitted.score(np.full((1, Q), np.nan))[0])


def test_the_folds_hang_on_the_person_not_on_the_order() -> None:
    values, persons = _people(40, 4)
    order = np.random.default_rng(5).permutation(persons.size)
    one, other = fit_distribution(values, persons, 3), fit_distribution(values[order], persons[order], 3)
    assert one.threshold == pytest.approx(other.threshold, rel=1e-8)
    assert fit_distribution(values, persons, 4).threshold != one.threshold


def test_few_persons_and_flat_features() -> None:
    values, persons = _people(12, 6)
    values[:, 4] = 7.0
    few = fit_distribution(values, persons, 1)
    assert not few.is_exact and np.isfinite(few.threshold)
    changed = values.copy()
    changed[:, 4] = 700.0
    assert np.array_equal(few.score(changed), few.score(values))
    one = fit_distribution(values[:, :1], persons, 1)
    assert one.score(np.array([[1e3]])) > one.threshold


def test_refused() -> None:
    values, persons = _people(40, 4)
    with pytest.raises(DataError, match="4 persons"):
        fit_distribution(values[:12], persons[:12], 1)
    with pytest.raises(DataError, match="none of 80 features differs"):
        fit_distribution(np.ones_like(values), persons, 1)
    with pytest.raises(DataError, match="abstain_rate 0"):
        fit_distribution(values, persons, 1, 0.0)
    fitted = fit_distribution(values, persons, 1)
    with pytest.raises(DataError, match="for 80 features"):
        fitted.score(values[:, :5])
    arrays = fitted.to_arrays()
    del arrays["threshold"]
    with pytest.raises(DataError, match="threshold"):
        Distribution.from_arrays(arrays)


def test_the_trainings_own_persons_are_not_turned_away_more_often() -> None:
    """Many features with little in common: axes of noise fit those who made them, and must not make them strange."""
    rng = np.random.default_rng(4)
    values = rng.normal(size=(200, 250)) + 0.5 * rng.normal(size=(200, 2)) @ rng.normal(size=(2, 250))
    fitted = fit_distribution(values, np.arange(200).astype(str), 1)
    assert (fitted.score(values) > fitted.threshold).mean() <= 0.05
