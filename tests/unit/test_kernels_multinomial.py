"""Multinomial regression against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sjd_dask.kernels.multinomial import class_probabilities, fit_multinomial


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("separated", [False, True])
def test_the_same_model_as_scikit_learn(n_classes: int, separated: bool) -> None:
    rng = np.random.default_rng(n_classes)
    y = rng.integers(0, n_classes, 150)
    x = rng.normal(size=(150, 4)) + (20 if separated else 0.7) * (y[:, None] == np.arange(4))
    beta = fit_multinomial(x, y, n_classes)
    wanted = LogisticRegression(C=1.0, tol=1e-12, max_iter=100_000).fit(x, y)
    chances = wanted.predict_proba(x)
    if n_classes == 2:
        # With two classes its one slope is the difference of ours, penalised once and not twice.
        beta = fit_multinomial(x, y, 2, ridge=2.0)
    np.testing.assert_allclose(class_probabilities(x, beta), chances, atol=2e-5)
    np.testing.assert_allclose(beta[:-1].sum(axis=1), 0, atol=1e-8)


def test_a_class_without_samples_is_never_foretold() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)), rng.choice([0, 2], 60)
    chances = class_probabilities(x, fit_multinomial(x, y, 4))
    assert (chances[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(chances.sum(axis=1), 1)
