"""Failed arrays, swapped arrays, masked cells."""

from __future__ import annotations

import numpy as np
import pytest

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.array_quality import (
    SAME_PERSON,
    bimodality,
    failed_array,
    genotype_calls,
    genotype_concordance,
    genotype_concordances,
    mask_cells,
)


def working(n=5000, seed=0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.5, rng.beta(2, 40, n), rng.beta(30, 3, n))


def test_shape_of_a_working_array():
    values = working()
    values[:500] = np.nan
    found = bimodality(values)
    assert found.missing_share == pytest.approx(0.1)
    assert found.low_share == pytest.approx(0.5, abs=0.03) and found.high_share == pytest.approx(0.46, abs=0.04)
    assert found.low_mode == pytest.approx(0.025, abs=0.015) and found.high_mode == pytest.approx(0.935, abs=0.02)
    assert failed_array(values) == ""
    nothing = bimodality(np.full(5, np.nan))
    assert nothing.missing_share == 1.0 and np.isnan(nothing.low_share) and np.isnan(nothing.high_mode)


def test_failed_arrays():
    rng = np.random.default_rng(1)
    lost = working()
    lost[: len(lost) // 3] = np.nan
    assert failed_array(lost) == "missing values"
    assert failed_array(np.full(9, np.nan)) == "missing values"
    assert failed_array(np.empty(0)) == "missing values"
    assert failed_array(rng.beta(20, 20, 5000)) == "no unmethylated mode"
    assert failed_array(rng.beta(2, 30, 5000)) == "no methylated mode"
    assert failed_array(rng.beta(30, 2, 5000)) == "no unmethylated mode"


def people(n, arrays, n_probes=59, seed=3):
    """Betas of SNP probes: `arrays` arrays of each of n people; allele frequency one half."""
    rng = np.random.default_rng(seed)
    genotypes = rng.binomial(2, 0.5, (n, n_probes))
    betas = np.array([0.05, 0.5, 0.93])[np.repeat(genotypes, arrays, axis=0)]
    return betas + rng.normal(0, 0.04, betas.shape)


def test_people_are_told_apart():
    betas = people(40, 2)
    betas[0, :5] = np.nan
    share, called = genotype_concordances(betas)
    same = np.repeat(np.arange(40), 2)[:, None] == np.repeat(np.arange(40), 2)
    assert share[same].min() > SAME_PERSON
    assert share[~same].max() < 0.75
    assert share[~same].mean() == pytest.approx(0.375, abs=0.02)
    assert called[0, 1] <= 54
    one, n = genotype_concordance(betas[0], betas[1])
    assert one == share[0, 1] and n == called[0, 1]


def test_calls():
    assert genotype_calls(np.array([0.0, 0.19, 0.25, 0.5, 0.75, 1.01, np.nan])).tolist() == [0, 0, -1, 1, -1, 2, -1]


def test_too_few_probes_say_nothing():
    share, called = genotype_concordance(np.full(14, 0.5), np.full(14, 0.5))
    assert np.isnan(share) and called == 14
    with pytest.raises(DataError, match="14 and 15"):
        genotype_concordance(np.full(14, 0.5), np.full(15, 0.5))


def test_mask_cells():
    values = np.array([[0.1, 0.2, np.nan, 0.4], [0.5, 0.6, 0.7, 0.8]])
    p = np.array([[0.0, 0.02, 0.5, np.nan], [0.01, 0.0, 0.0, 0.0]])
    beads = np.array([[5, 5, 5, 5], [5, 2, 3, np.nan]])
    found, masked = mask_cells(values, p, 0.01, beads, 3)
    assert masked.tolist() == [2, 2]
    assert np.array_equal(found, [[0.1, np.nan, np.nan, np.nan], [0.5, np.nan, 0.7, np.nan]], equal_nan=True)
    assert np.array_equal(mask_cells(values)[0], values, equal_nan=True)
    with pytest.raises(SpecError, match="threshold"):
        mask_cells(values, p, 0.0)
    with pytest.raises(DataError, match="shape"):
        mask_cells(values, p[:1])
