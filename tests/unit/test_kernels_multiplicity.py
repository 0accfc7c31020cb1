"""Adjusted p-values, q-values and inflation."""

from __future__ import annotations

import numpy as np
import pytest

from sjd_dask.errors import SpecError
from sjd_dask.kernels.multiplicity import METHODS, adjust, benjamini_hochberg, genomic_inflation, storey_q


def test_benjamini_hochberg_by_hand():
    p = [0.01, 0.04, np.nan, 0.03, 0.005]
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, 0.04, np.nan, 0.04, 0.02])
    assert benjamini_hochberg([]).shape == (0,)
    assert np.isnan(benjamini_hochberg([np.nan, np.nan])).all()
    assert benjamini_hochberg([[0.5, 0.9]]).shape == (1, 2)


@pytest.mark.parametrize("method", METHODS)
def test_order_and_ties(method):
    rng = np.random.default_rng(0)
    p = np.round(rng.random(500), 2)
    adjusted = adjust(p, method)
    order = rng.permutation(500)
    assert np.array_equal(adjust(p[order], method), adjusted[order])
    for value in np.unique(p):
        assert np.unique(adjusted[p == value]).size == 1
    assert np.all(adjusted >= p)
    assert adjusted.max() <= 1


def test_unknown_method():
    with pytest.raises(SpecError, match="choose one of BH"):
        adjust([0.1], "fdr2")


def test_storey():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(8000), rng.beta(0.1, 10, 2000)])
    for method in ("smoother", "bootstrap"):
        assert storey_q(p, method=method).pi0 == pytest.approx(0.8, abs=0.04)
    p[5] = np.nan
    found = storey_q(p, tuning=0.5)
    assert np.isnan(found.q[5])
    np.testing.assert_allclose(found.q, found.pi0 * benjamini_hochberg(p))


def test_storey_refuses():
    with pytest.raises(SpecError, match="must lie in"):
        storey_q([0.1, 1.2])
    with pytest.raises(SpecError, match="share of true null hypotheses is 0"):
        storey_q([1e-9] * 100)
    with pytest.raises(SpecError, match="at least four"):
        storey_q([0.1, 0.2], tuning=[0.1, 0.2])
    with pytest.raises(SpecError, match="smoother or bootstrap"):
        storey_q([0.1, 0.2], method="mean")
    with pytest.raises(SpecError, match=r"\[0, 1\)"):
        storey_q([0.1, 0.2], tuning=1.0)


def test_genomic_inflation():
    p = np.arange(1, 1000) / 1000
    assert genomic_inflation(p=p) == pytest.approx(1.0, abs=1e-12)
    z = np.random.default_rng(0).normal(size=100_000) * np.sqrt(1.3)
    assert genomic_inflation(t=z) == pytest.approx(1.3, rel=0.02)
    t = np.random.default_rng(0).standard_t(5, size=100_000)
    assert genomic_inflation(t=t, df=5) == pytest.approx(1.0, rel=0.02)
    assert genomic_inflation(p=[np.nan, 0.5]) == pytest.approx(1.0)
    assert np.isnan(genomic_inflation(p=[np.nan]))
    with pytest.raises(SpecError):
        genomic_inflation()
