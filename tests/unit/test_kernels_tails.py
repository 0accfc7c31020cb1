"""Tail probabilities: edges, extremes, inversion and threads."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sjd_dask.kernels import tails


def test_closed_forms():
    t = np.array([0.0, 1e-3, 1.0, 10.0, 1e4, 1e100])
    np.testing.assert_allclose(tails.t_two_sided(t, 1.0), 2 / math.pi * np.arctan2(1.0, t), rtol=1e-10)
    # With 2 degrees of freedom: 1 - t / sqrt(2 + t^2), written without cancellation.
    root = np.sqrt(2 + t[:5] ** 2)
    np.testing.assert_allclose(tails.t_two_sided(t[:5], 2.0), 2 / (root * (root + t[:5])), rtol=1e-10)
    f = np.array([0.0, 0.5, 3.0, 1e6])
    np.testing.assert_allclose(tails.f_upper(f, 2.0, 4.0), (1 + f / 2) ** -2.0, rtol=1e-12)
    np.testing.assert_allclose(tails.f_upper([0.5, 3.0, 300.0], 2.0, np.inf), np.exp([-0.5, -3.0, -300.0]), rtol=1e-12)


def test_missing_and_signs():
    assert tails.t_two_sided(-2.0, 5.0) == tails.t_two_sided(2.0, 5.0)
    assert np.isnan(tails.t_two_sided([np.nan, 1.0], [3.0, np.nan])).all()
    assert np.isnan(tails.f_upper([np.nan, 1.0], 2.0, [3.0, np.nan])).all()
    assert tails.f_upper(-1.0, 2.0, 3.0) == 1.0
    assert tails.t_two_sided(np.inf, 5.0) == 0.0


def test_logarithms_go_on_below_the_smallest_double():
    # (1 + f / 2)^-2 and exp(-f) in closed form
    np.testing.assert_allclose(
        tails.log_f_upper([1e160, 1e250], 2.0, 400.0), -200 * np.log1p(np.array([1e160, 1e250]) / 200)
    )
    np.testing.assert_allclose(tails.log_f_upper([1e3, 1e5], 2.0, np.inf), [-1e3, -1e5], rtol=1e-13)
    assert tails.log_f_upper(np.inf, 2.0, 5.0) == -np.inf


def test_continuous_where_the_method_changes():
    f = np.array([0.1, 1.0, 5.0, 20.0])
    for df1 in (1.0, 4.0, 50.0):
        below = tails.f_upper(f, df1, 2.99999e8)
        above = tails.f_upper(f, df1, 3.00001e8)
        np.testing.assert_allclose(below, above, rtol=2e-8)


@pytest.mark.parametrize("df", [1.5, 8.0, 120.3, 5e8, np.inf])
def test_inversion(df):
    p = np.array([1.0, 0.9, 0.05, 1e-6, 1e-60])
    t = tails.t_from_two_sided(p, df)
    np.testing.assert_allclose(tails.t_two_sided(t, df), p, rtol=1e-10)
    t = tails.t_from_log_two_sided(np.log(p[1:]), df, 3 * t[1:])
    np.testing.assert_allclose(tails.t_two_sided(t, df), p[1:], rtol=1e-10)
    start = 200.0 if df > 100 else 1e200
    far = tails.t_from_log_two_sided(np.array([-700.0]), df, np.array([start]))
    np.testing.assert_allclose(tails.log_t_two_sided(far, df), -700.0, rtol=1e-12)


@pytest.mark.parametrize("df2", [4.0, 30.0, np.inf])
def test_matching_f(df2):
    rng = np.random.default_rng(0)
    f = rng.f(6, 10, 6000)
    moved = tails.match_f(f, 6.0, 9.0, df2)
    np.testing.assert_allclose(tails.f_upper(moved, 9.0, df2), tails.f_upper(f, 6.0, df2), rtol=1e-8)
    assert np.array_equal(np.argsort(moved), np.argsort(f))
    same = tails.match_f(np.full(5000, 2.0), 6.0, 9.0, df2)
    assert np.unique(same).size == 1


def test_threads_change_nothing():
    rng = np.random.default_rng(1)
    t = rng.normal(size=(2, 70_000))
    df = rng.uniform(2, 50, 70_000)
    assert np.array_equal(tails.t_two_sided(t, df), tails.t_two_sided(t, df, threads=2))
    assert np.array_equal(tails.f_upper(t[0] ** 2, 3.0, df), tails.f_upper(t[0] ** 2, 3.0, df, threads=3))
