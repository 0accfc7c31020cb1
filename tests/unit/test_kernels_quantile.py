"""Quantile normalisation and scaling of single rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from sjd_dask.errors import DataError
from sjd_dask.kernels.quantile import add_quantiles, medians, scale_to_median, sorted_quantiles, to_target
from sjd_dask.kernels.singleton_sort import singleton_argsort


def plain(row, target):
    """The definition: the target, read at the mean rank of each value."""
    out = np.full(len(row), np.nan)
    known = ~np.isnan(row)
    rank = (rankdata(row[known]) - 1) / (known.sum() - 1)
    out[known] = np.interp(rank, np.linspace(0, 1, len(row)), target)
    return out


@pytest.mark.parametrize("levels", [None, 3, 500])
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("p", [2, 3, 64, 1000, 4097])
def test_against_the_definition(p, missing, levels):
    rng = np.random.default_rng(p)
    values = rng.normal(size=(4, p)) * 10.0 ** rng.integers(-8, 8, (4, 1))
    if levels:
        values = np.round(values / np.abs(values).max(axis=1, keepdims=True) * levels)
    values[:, 2:][rng.random((4, p - 2)) < missing] = np.nan
    target = np.sort(rng.normal(size=p))
    found, possible = to_target(values, target)
    assert possible.all()
    assert np.nanmax(np.abs(found - [plain(row, target) for row in values])) < 1e-12
    assert np.array_equal(found, to_target(values, target, "preprocesscore")[0], equal_nan=True)


def test_values_that_share_a_key_are_still_told_apart():
    """The keys drop a value's last bits; neighbours of one part in 10^15 must come out in order."""
    rng = np.random.default_rng(1)
    step = rng.permutation(300_000)
    row = 1.0 + step * np.finfo(float).eps
    row[:5] = [-np.pi, -0.0, 0.0, -np.inf, np.inf]
    target = np.arange(300_000.0)
    found, _ = to_target(row[None], target)
    assert np.array_equal(found[0], rankdata(row) - 1)
    assert found[0, 1] == found[0, 2]


def test_without_ties_every_value_takes_its_own_quantile():
    row = np.array([2.0, 1.0, 2.0, np.nan, 1.0])
    found, _ = to_target(row[None], np.arange(5.0), "limma_noties")
    assert sorted(found[0][[0, 1, 2, 4]]) == pytest.approx([0.0, 4 / 3, 8 / 3, 4.0])
    assert max(found[0][[1, 4]]) < min(found[0][[0, 2]])


@pytest.mark.parametrize("n", [0, 1, 2, 11, 12, 1000, 20_000])
def test_singleton_sort_sorts(n):
    rng = np.random.default_rng(n)
    for values in (
        rng.normal(size=n),
        np.arange(n) * 1.0,
        -np.arange(n) * 1.0,
        np.zeros(n),
        rng.integers(0, 5, n) * 1.0,
    ):
        order = singleton_argsort(values)
        assert np.array_equal(values[order], np.sort(values))
        assert np.array_equal(np.sort(order), np.arange(n))


def test_a_sample_on_its_own_target_stays():
    row = np.random.default_rng(0).normal(size=500)
    assert np.array_equal(to_target(row[None], np.sort(row))[0][0], row)


def test_too_few_values():
    values = np.full((3, 4), np.nan)
    values[1, 0] = 1.0
    values[2] = [1.0, np.nan, 3.0, np.nan]
    found, possible = to_target(values, np.arange(4.0))
    assert possible.tolist() == [False, False, True]
    assert np.isnan(found[:2]).all()
    assert found[2, [0, 2]].tolist() == [0.0, 3.0]
    assert sorted_quantiles(values[1]) is None
    assert sorted_quantiles(values[2]) == pytest.approx([1.0, 5 / 3, 7 / 3, 3.0])
    total = np.zeros(4)
    assert add_quantiles(total, values).tolist() == [False, False, True]


def test_one_feature():
    assert to_target(np.array([[3.0], [np.nan]]), np.array([7.0]))[0][0, 0] == 7.0


def test_another_target_is_refused():
    with pytest.raises(DataError, match=r"5 quantiles.*4 features"):
        to_target(np.zeros((1, 4)), np.arange(5.0))


def test_scale():
    values = np.array([[1.0, 2.0, np.nan, 3.0], [-2.0, -4.0, -6.0, np.nan], [np.nan] * 4])
    assert medians(values)[:2].tolist() == [2.0, -4.0]
    found, possible = scale_to_median(values, np.log(8.0))
    assert possible.tolist() == [True, False, False]
    assert found[0, [0, 1, 3]] == pytest.approx([4.0, 8.0, 12.0])
    found, possible = scale_to_median(values, np.log(8.0), absolute=True)
    assert possible.tolist() == [True, True, False]
    assert found[1, :3] == pytest.approx([-4.0, -8.0, -12.0])
