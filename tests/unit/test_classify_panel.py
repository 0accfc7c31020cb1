"""Panels: what tells the classes apart is found, the limit is kept, and nothing hangs on the order of samples."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sjd_dask.classify import panel_all_relevant, panel_stability
from sjd_dask.classify import recipe as recipes
from sjd_dask.classify.panel import scaled, select_panel, select_panels, training_weights
from sjd_dask.classify.panel_size import choose_size
from sjd_dask.classify.panel_stability import selection_frequencies
from sjd_dask.classify.recipe import Recipe
from sjd_dask.errors import DataError, SpecError

N, TELLING = 90, 6


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    y = np.arange(N) % 3
    values = random.normal(size=(N, 80))
    values[:, :TELLING] += 1.5 * np.array([[1, -1, 0], [0, 1, -1], [-1, 0, 1]])[y][:, [0, 1, 2, 0, 1, 2]]
    return values, y, np.array([f"P{i:02}" for i in range(N)])


@pytest.mark.parametrize("method", ["elastic_net", "stability", "none"])
def test_telling_features_are_found(method: str, data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    recipe = Recipe(panel_method=method, panel_size=12, prefilter=60)
    found = select_panel(*data, 3, recipe, "fold", 1)
    assert set(range(TELLING)) <= set(found)
    assert list(found) == sorted(set(found))
    # Stability says how many there are, and hardly takes what tells nothing.
    assert len(found) == {"none": 60, "elastic_net": 12}.get(method, len(found))
    assert method != "stability" or len(found) <= TELLING + 2


def test_all_relevant_features_are_confirmed(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel_all_relevant, "ROUNDS", 20)
    columns = [*range(TELLING), *range(40, 60)]
    values = data[0][:, columns]
    found = select_panel(values, *data[1:], 3, Recipe(panel_method="all_relevant", panel_size=TELLING - 1), "fold", 1)
    assert len(found) == TELLING - 1 and set(found) < set(range(TELLING))
    # What tells nothing is left out; where nothing is confirmed one feature remains.
    noise = select_panel(data[0][:, 60:], *data[1:], 3, Recipe(panel_method="all_relevant"), "fold", 1)
    assert len(noise) <= 2


@pytest.mark.parametrize("method", ["elastic_net", "stability"])
def test_the_size_is_an_upper_limit(method: str, data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    values = data[0][:, :20]
    found = select_panel(values, *data[1:], 3, Recipe(panel_method=method, panel_size=3), "fold", 1)
    assert 1 <= len(found) <= 3 and set(found) <= set(range(TELLING))


@pytest.mark.parametrize("method", ["elastic_net", "stability"])
def test_a_panel_among_several_sizes_is_that_of_its_size(
    method: str, data: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "SIZES", (3, 5, 30, 90))
    monkeypatch.setattr(panel_stability, "PAIRS", 4)
    recipe = Recipe(panel_method=method, panel_size="auto", prefilter=40)
    assert recipe.sizes == (3, 5, 30, 40)
    found = select_panels(*data, 3, recipe, "fold", 1)
    for size, panel in zip(recipe.sizes, found, strict=True):
        alone = select_panel(*data, 3, dataclasses.replace(recipe, panel_size=size), "fold", 1)
        assert len(panel) <= size and np.array_equal(panel, alone), size
    assert len(found[0]) < len(found[1])


def test_the_size_of_the_smallest_loss_is_taken() -> None:
    persons = np.repeat([f"P{i:02}" for i in range(50)], 2)
    random = np.random.default_rng(4)
    own = random.exponential(size=100)
    noise = random.normal(0, 0.2, size=100)
    chosen, loss, error = choose_size(np.array([own + 0.125, own + noise - noise.mean() + 0.01, own, own]), persons)
    assert chosen == 2 and loss[2] == loss[3] == loss.min() and error[2] == 0
    # The losses of one person go together: an eighth more for everybody is sure.
    np.testing.assert_allclose(error[0], 0, atol=1e-12)
    away = (noise - noise.mean() + 0.01).reshape(50, 2).mean(axis=1)
    np.testing.assert_allclose(error[1], away.std(ddof=1) / np.sqrt(50))
    assert choose_size(np.array([own, own, own]), persons)[0] == 0
    # A person with many samples counts once.
    one = np.zeros(100)
    one[:2] = 5.0
    many = np.r_[np.repeat("P00", 60), persons[2:]]
    loss = choose_size(np.array([np.r_[np.full(60, 5.0), one[2:]], np.zeros(158)]), many)[1]
    np.testing.assert_allclose(loss, [0.1, 0])


def test_stability_takes_little_where_nothing_tells() -> None:
    random = np.random.default_rng(9)
    persons = np.array([f"P{i:02}" for i in range(60)])
    recipe = Recipe(panel_method="stability", panel_size=5)
    # Expected at most 5^2 / (0.2 x 100) = 1.25.
    assert len(select_panel(random.normal(size=(60, 100)), np.arange(60) % 2, persons, 2, recipe)) <= 3


def test_halves_are_of_persons(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    values, y, persons = data
    weights = np.ones(N)
    (share,), (place,) = selection_frequencies(scaled(values, weights), y, weights, persons, 3, [10], 1, "fold")
    assert share[:TELLING].min() > 0.9 and share[TELLING:].mean() < 0.2
    assert np.isclose(share.sum(), 10) and place[:TELLING].max() < place[TELLING:].min()
    # Everyone twice under the same name: halves hold both copies, so nothing new is seen.
    both = np.repeat(values, 2, axis=0)
    halves = np.full(2 * N, 0.5)
    (again,), _ = selection_frequencies(
        scaled(both, halves), np.repeat(y, 2), halves, np.repeat(persons, 2), 3, [10], 1, "fold"
    )
    np.testing.assert_allclose(again, share, atol=0.1)


def test_every_person_counts_once_and_classes_as_told() -> None:
    y = np.array([0, 0, 0, 0, 1])
    persons = np.array(["a", "a", "b", "c", "d"])
    assert training_weights(y, persons, Recipe()).tolist() == [0.5, 0.5, 1, 1, 1]
    balanced = training_weights(y, persons, Recipe(class_weight="balanced"))
    assert np.isclose(balanced.sum(), 4) and np.isclose(balanced[y == 1].sum(), 2)
    assert np.isclose(balanced[0], balanced[2] / 2)


def test_scaling_keeps_missing_values_in_the_middle() -> None:
    values = np.array([[1.0, 5.0], [3.0, np.nan], [5.0, 5.0]])
    made = scaled(values, np.array([1.0, 1.0, 2.0]))
    assert np.isclose(np.array([1, 1, 2]) @ made[:, 0], 0) and np.isclose(np.array([1, 1, 2]) @ made[:, 0] ** 2, 4)
    assert (made[:, 1] == 0).all()


def test_a_feature_missing_too_often_is_not_taken(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    values = data[0].copy()
    values[: N // 5, 0] = np.nan
    assert 0 not in select_panel(values, data[1], data[2], 3, Recipe(panel_size=10, max_missing=0.1))
    assert 0 in select_panel(values, data[1], data[2], 3, Recipe(panel_size=10, max_missing=0.3))


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(DataError, match="none of 4 features varies"):
        select_panel(np.ones((6, 4)), np.arange(6) % 2, np.array(list("abcdef")), 2, Recipe())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"model": "svm"}, "'svm' is not known"),
        ({"panel_size": 0}, "panel_size is 0"),
        ({"panel_size": "large"}, "panel_size is 'large'.*'auto'"),
        ({"panel_size": "auto", "panel_method": "none"}, "method that ranks"),
        ({"inner": 1}, "inner is 1"),
        ({"inner": 2.5}, "whole number"),
        ({"coverage": 1.0}, "coverage is 1.0"),
        ({"abstain_rate": 0.0}, "abstain_rate is 0.0"),
        ({"max_missing": 1.0}, "max_missing is 1.0"),
        ({"class_weight": "even"}, "class_weight 'even'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        Recipe(**wrong)  # type: ignore[arg-type]
