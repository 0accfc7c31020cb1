"""Group tests: exact distribution, missing values, refusals, independence of features."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from sjd_dask.errors import DesignError
from sjd_dask.kernels.rank import kruskal, welch, wilcoxon


def test_exact_distribution_by_enumeration():
    values = np.arange(9.0)[:, None]
    ranks = np.arange(1, 10)
    chosen = [sum(ranks[list(c)]) - 10 for c in combinations(range(9), 4)]
    for members in ((0, 1, 2, 3), (1, 3, 5, 8), (5, 6, 7, 8)):
        groups = np.isin(np.arange(9), members).astype(int)
        found = wilcoxon(values, groups)
        w = sum(ranks[list(members)]) - 10
        assert found.statistic[0] == w
        tail = min(np.mean(np.array(chosen) <= w), np.mean(np.array(chosen) >= w))
        assert found.p_value[0] == pytest.approx(min(1.0, 2 * tail), rel=1e-12)
        assert found.effect[0] == w / 20


def test_exact_and_normal_agree_for_many():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(120, 20))
    groups = np.repeat([0, 1], 60)
    exact = wilcoxon(values, groups, exact=True)
    np.testing.assert_allclose(exact.p_value, wilcoxon(values, groups).p_value, rtol=0.02)
    assert not np.array_equal(exact.p_value, wilcoxon(values, groups).p_value)


@pytest.mark.parametrize("test", [wilcoxon, kruskal, welch])
def test_tests_that_cannot_be_made(test):
    groups = np.repeat([0, 1], [4, 3])
    block = np.array([[1.0, 1, 1, 1, 1, 1, 1], [np.nan] * 7, [1, 2, 3, 4, np.nan, np.nan, np.nan]]).T
    found = test(block, groups)
    assert np.isnan(found.p_value).all()
    assert found.n_samples.tolist() == [7, 0, 4]


def test_features_are_independent():
    rng = np.random.default_rng(1)
    block = rng.normal(size=(30, 200))
    block[rng.random(block.shape) < 0.1] = np.nan
    two, three = rng.integers(0, 2, 30), rng.integers(0, 3, 30)
    for test, codes in ((wilcoxon, two), (kruskal, three), (welch, two), (welch, three)):
        whole = test(block, codes)
        part = test(block[:, 77:79], codes)
        assert np.array_equal(part.p_value, whole.p_value[77:79])
        order = rng.permutation(30)
        np.testing.assert_allclose(test(block[order], codes[order]).p_value, whole.p_value, rtol=1e-12)


def test_empty_level_and_infinite_values():
    block = np.array([[1.0, 2, 3, 4, 5, np.inf]]).T
    assert kruskal(block, [0, 0, 2, 2, 3, 3], n_groups=5).df_numerator[0] == 2
    assert wilcoxon(block, [0, 0, 0, 1, 1, 1]).statistic[0] == 9


def test_refusals():
    block = np.zeros((4, 1))
    with pytest.raises(DesignError, match="all samples are in one group"):
        kruskal(block, [1, 1, 1, 1])
    with pytest.raises(DesignError, match="compares two groups"):
        wilcoxon(block, [0, 1, 2, 0])
    with pytest.raises(ValueError, match="don't match"):
        welch(block, [0, 1])
    with pytest.raises(ValueError, match="whole numbers"):
        welch(block, [0, 1, -1, 0])
    with pytest.raises(ValueError, match="group code of 3"):
        kruskal(block, [0, 1, 3, 0], n_groups=2)
