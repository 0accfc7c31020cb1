"""Background correction: what the comparison with R doesn't cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special

from sjd_dask.errors import DataError
from sjd_dask.kernels.normexp import (
    NormexpParameters,
    _exact,
    _saddle,
    control_parameters,
    huber,
    normexp_fit,
    normexp_signal,
)


def array(n=4000, mu=200.0, sigma=30.0, alpha=700.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(mu, sigma, n) + rng.exponential(alpha, n)


@pytest.mark.parametrize("method", ["saddle", "mle"])
def test_parameters_are_found(method):
    found = normexp_fit(np.append(array(20_000), np.nan), method)
    assert found.mu == pytest.approx(200, rel=0.03)
    assert np.exp(found.log_sigma) == pytest.approx(30, rel=0.15)
    assert np.exp(found.log_alpha) == pytest.approx(700, rel=0.03)


@pytest.mark.parametrize("at", [(200.0, 3.4, 6.7), (200.0, 3.4, 2.0), (250.0, 8.0, 2.0), (180.0, 2.0, 7.0)])
def test_gradient(at):
    x = array(500)
    numeric = optimize.approx_fprime(np.array(at), lambda p: _exact(x, *p)[0], 1e-6)
    assert np.allclose(_exact(x, *at)[1:], numeric, rtol=1e-4, atol=1e-6)


def test_likelihood_is_the_convolution():
    x = np.linspace(50.0, 900.0, 40)
    mu, sigma, alpha = 200.0, 30.0, 300.0
    signal = np.linspace(0.0, 1500.0, 400_001)
    density = [
        np.trapezoid(np.exp(-signal / alpha - 0.5 * ((v - mu - signal) / sigma) ** 2), signal)
        / (alpha * sigma * np.sqrt(2 * np.pi))
        for v in x
    ]
    assert _exact(x, mu, np.log(sigma), np.log(alpha))[0] == pytest.approx(-np.mean(np.log(density)), rel=1e-8)
    weights = [np.exp(-signal / alpha - 0.5 * ((v - mu - signal) / sigma) ** 2) for v in x]
    mean = [np.trapezoid(signal * w, signal) / np.trapezoid(w, signal) for w in weights]
    found = normexp_signal(x, NormexpParameters(mu, np.log(sigma), np.log(alpha)))
    assert found == pytest.approx(np.array(mean), rel=1e-7)


@pytest.mark.parametrize("at", [(504.0, 28.6, -16.0), (200.0, 50.0, 6.0)])
def test_saddle_in_absurd_corners_is_the_normal(at):
    """With a background wider than everything the density is the normal's; cancellation gave minus 10^11 there."""
    x = array(30)
    wanted = 2 * len(x) * (at[1] + 0.5 * np.log(2 * np.pi))
    assert _saddle(x, *at) == pytest.approx(wanted, rel=1e-9)


def test_signal_far_below_the_background():
    z = np.array([-5.0, -9.9, -10.1, -40.0, -1e4, -1e8])
    found = normexp_signal(z * 3.0 + 100.0 + 9.0 / 50.0, NormexpParameters(100.0, np.log(3.0), np.log(50.0)))
    # z + phi / Phi by the scaled complementary error function, where it doesn't cancel; -1 / z beyond.
    exact = np.where(z > -50, z + np.sqrt(2 / np.pi) / special.erfcx(-z / np.sqrt(2)), -1 / z)
    assert found[:4] / 3 == pytest.approx(exact[:4], rel=1e-9)
    assert found[4:] / 3 == pytest.approx(exact[4:], rel=1e-6)
    assert (found > 0).all()


def test_signal_shape_and_missing():
    par = NormexpParameters(100.0, 1.0, 3.0)
    found = normexp_signal(np.array([[100.0, np.nan], [200.0, 90.0]]), par)
    assert found.shape == (2, 2)
    assert np.isnan(found[0, 1])


def test_faults():
    with pytest.raises(DataError, match="at least 4"):
        normexp_fit(np.array([1.0, 2.0, 3.0, np.nan]))
    with pytest.raises(DataError, match="all 5 intensities"):
        normexp_fit(np.full(5, 3.0))
    with pytest.raises(DataError, match="infinite"):
        normexp_fit(np.array([1.0, 2.0, 3.0, 4.0, np.inf]))
    with pytest.raises(DataError, match="more than half"):
        huber(np.array([1.0, 1.0, 1.0, 5.0]))
    with pytest.raises(DataError, match="all are missing"):
        huber(np.array([np.nan]))
    with pytest.raises(DataError, match="at least 2"):
        control_parameters(array(10), np.array([1.0]))
    with pytest.raises(DataError, match="spread"):
        control_parameters(array(10), np.array([1.0, 1.0]))
