"""Simulated persons of known classes, and classifiers trained on them; each is made once in a session."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from unittest import mock

import numpy as np

from sjd_dask.classify import models
from sjd_dask.classify.fitting import Fitted, fit_classifier
from sjd_dask.classify.recipe import Recipe

TELLING = 8  # the first features differ between classes


@dataclass(frozen=True, eq=False)
class Samples:
    values: np.ndarray
    labels: np.ndarray
    persons: np.ndarray
    ids: np.ndarray
    features: np.ndarray

    def columns(self, wanted: np.ndarray) -> np.ndarray:
        """Values of features by id."""
        at = {name: j for j, name in enumerate(self.features)}
        return self.values[:, [at[name] for name in wanted]]

    def take(self, rows: np.ndarray) -> Samples:
        return Samples(self.values[rows], self.labels[rows], self.persons[rows], self.ids[rows], self.features)


@cache
def samples(
    n_classes: int = 3, n_persons: int = 60, n_features: int = 60, seed: int = 1, effect: float = 1.5
) -> Samples:
    """One or two samples a person; features move together, some values are missing. Seeds are new persons."""
    fixed, random = np.random.default_rng(99), np.random.default_rng(seed)
    level, loadings = 6.0 + 2.0 * fixed.normal(size=n_features), fixed.normal(size=(3, n_features))
    shift = effect * fixed.normal(size=(n_classes, TELLING))
    person = np.repeat(np.arange(n_persons), 1 + np.arange(n_persons) % 2)
    y = (np.arange(n_persons) % n_classes)[person]
    n = len(person)
    values = level + random.normal(size=(n, n_features)) + random.normal(size=(n, 3)) @ loadings
    values[:, :TELLING] += shift[y]
    values[random.random(values.shape) < 0.01] = np.nan
    return Samples(
        values,
        np.array([f"class {'abcdef'[c]}" for c in y], dtype=object),
        np.array([f"P{i:03}" for i in person], dtype=object),
        np.array([f"S{i:04}" for i in random.permutation(n)], dtype=object),
        np.array([f"g{j:03}" for j in range(n_features)], dtype=object),
    )


def fit(data: Samples, recipe: Recipe, **more: object) -> Fitted:
    return fit_classifier(data.values, data.labels, data.persons, data.ids, data.features, recipe, **more)  # type: ignore[arg-type]


@cache
def trained(model: str = "multinomial", n_classes: int = 3, calibration: str = "sigmoid") -> Fitted:
    """A classifier of each kind; forests and boosting are small, and tuned over little."""
    recipe = Recipe(model=model, calibration=calibration, panel_size=10, inner=3, sentinels=12)
    few = {name: models.GRIDS[name][:2] for name in ("random_forest", "gradient_boosting")}
    with mock.patch.dict(models.GRIDS, few), mock.patch.object(models, "TREES", 40):
        return fit(samples(n_classes), recipe)
