"""Sums and fits don't depend on how the matrix is cut; missing cells are left out exactly."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sjd_dask.kernels.gls import gls_fit
from sjd_dask.kernels.linear import (
    LinearDesign,
    LinearFit,
    accumulate,
    contrast_fit,
    finish,
    linear_design,
    new_sums,
    refit_columns,
)
from sjd_dask.kernels.linear_tiles import FEATURE_TILE, SINGLE_RUN
from sjd_dask.kernels.weighted import fit_weighted, weighted_contrasts

N, F = 150, FEATURE_TILE + 70
RNG = np.random.default_rng(11)
MATRIX = np.column_stack([np.ones(N), RNG.integers(0, 2, N), RNG.normal(40, 12, N), RNG.normal(size=(N, 3))])
DESIGN = linear_design(MATRIX)
CODES = RNG.integers(0, 65535, (N, F)).astype(np.uint16)
HOLED = np.where(RNG.random((N, F)) < 0.02, 65535, CODES).astype(np.uint16)
TABLE = np.log2((np.arange(65536.0) + 1) / (65536 - np.arange(65536.0)))
TABLE[65535] = np.nan
TABLES = {"double": TABLE, "single": TABLE.astype(np.float32)}


def _fit(codes: np.ndarray, design: LinearDesign, rows: list[int], precision: Any) -> LinearFit:
    sums = new_sums(design, codes.shape[1], precision)
    for start, stop in pairwise(rows):
        accumulate(sums, design.q[start:stop], codes[start:stop], TABLES[precision])
    fit = finish(sums, design)
    return refit_columns(fit, design, TABLE[codes[:, fit.needs_columns]])


def _fit_values(values: np.ndarray, design: LinearDesign) -> LinearFit:
    sums = new_sums(design, values.shape[1])
    accumulate(sums, design.q, values)
    return finish(sums, design)


def _same(one: LinearFit, other: LinearFit, part: slice = slice(None)) -> None:
    for name in ("coefficients", "stdev_unscaled", "sigma2", "df_residual", "mean", "n_samples"):
        np.testing.assert_array_equal(getattr(one, name)[..., part], getattr(other, name), err_msg=name)


WHOLE = {
    (holed, precision): _fit(HOLED if holed else CODES, DESIGN, [0, N], precision)
    for holed in (False, True)
    for precision in ("double", "single")
}


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.sets(st.integers(64, N - 1), max_size=6),
    start=st.integers(0, F - 1),
    width=st.integers(1, F),
    holed=st.booleans(),
    precision=st.sampled_from(["double", "single"]),
)
@example(cuts=set(), start=101, width=1, holed=True, precision="double")
def test_cuts_of_samples_and_features_leave_every_bit(
    cuts: set[int], start: int, width: int, holed: bool, precision: str
) -> None:
    codes = HOLED if holed else CODES
    part = slice(start, start + width)
    fit = _fit(codes[:, part], DESIGN, [0, *sorted(cuts), N], precision)
    _same(WHOLE[holed, precision], fit, part)
    weights = np.eye(6)[:, 1:4]
    whole = contrast_fit(WHOLE[holed, precision], DESIGN, weights)
    tested = contrast_fit(fit, DESIGN, weights)
    np.testing.assert_array_equal(whole.effects[:, part], tested.effects)
    np.testing.assert_array_equal(whole.f_quadratic[part], tested.f_quadratic)


@pytest.mark.parametrize("mode", ["exact", "limma"])
def test_contrasts_of_a_feature_alone_are_those_in_company(mode: Any) -> None:
    """Whether a neighbour lacks a cell changes the way that a complete feature is computed, and not a bit of it."""
    weights = np.eye(6)[:, 1:4]
    whole = contrast_fit(WHOLE[True, "double"], DESIGN, weights, mode)
    for f in range(F):
        alone = contrast_fit(_fit(HOLED[:, [f]], DESIGN, [0, N], "double"), DESIGN, weights, mode)
        for name in ("effects", "stdev_unscaled", "f_quadratic"):
            np.testing.assert_array_equal(getattr(whole, name)[..., [f]], getattr(alone, name), err_msg=f"{name} {f}")


@pytest.mark.parametrize("p", [3, 5, 9])
def test_deviations_of_complete_features_are_those_without_holes(p: int) -> None:
    rng = np.random.default_rng(p)
    matrix = np.column_stack([np.ones(40), rng.normal(size=(40, p - 1))])
    design = linear_design(matrix)
    values = rng.normal(size=(40, 3))
    values[4, 1] = np.nan
    blocks = np.arange(40) // 2
    for fits in (
        [_fit_values(values[:, part], design) for part in (slice(0, 3), slice(0, 1))],
        [gls_fit(values[:, part], matrix, blocks, 0.3)[0] for part in (slice(0, 3), slice(0, 1))],
    ):
        _same(fits[0], fits[1], slice(0, 1))


def test_weighted_and_correlated_features_alone_are_those_in_company() -> None:
    """Complete features beside holed ones, each with its own covariance: by its weights, or by its correlation."""
    rng = np.random.default_rng(5)
    values = TABLE[HOLED[:, :60]]
    cells = rng.uniform(0.2, 2.0, values.shape)
    blocks = np.arange(N) // 3
    weights = np.eye(6)[:, 1:4]
    weighted_all = weighted_contrasts(fit_weighted(values, cells, DESIGN), DESIGN, weights)
    correlated, basis = gls_fit(values, MATRIX, blocks, 0.3)
    correlated_all = contrast_fit(correlated, basis, weights)
    for f in range(values.shape[1]):
        there = np.isfinite(values[:, f])
        root = np.sqrt(cells[there, f])
        covariance = np.linalg.inv(np.square(root) * MATRIX[there].T @ MATRIX[there])
        beta = covariance @ MATRIX[there].T @ (root**2 * values[there, f])
        np.testing.assert_allclose(weighted_all.effects[:, f], weights.T @ beta, rtol=1e-8)
        fit = fit_weighted(values[:, [f]], cells[:, [f]], DESIGN)
        alone = weighted_contrasts(fit, DESIGN, weights)
        gls, _ = gls_fit(values[:, [f]], MATRIX, blocks, 0.3)
        own = contrast_fit(gls, basis, weights)
        for name in ("effects", "stdev_unscaled", "f_quadratic"):
            np.testing.assert_array_equal(getattr(weighted_all, name)[..., [f]], getattr(alone, name), err_msg=name)
            np.testing.assert_array_equal(getattr(correlated_all, name)[..., [f]], getattr(own, name), err_msg=name)


def test_block_of_one_sample_at_a_time_leaves_every_bit() -> None:
    for precision in ("double", "single"):
        _same(WHOLE[True, precision], _fit(HOLED, DESIGN, [0, 64, *range(65, N + 1)], precision))
    assert N % SINGLE_RUN != 0


def test_a_missing_cell_elsewhere_leaves_every_bit_of_complete_features() -> None:
    complete = (HOLED != 65535).all(axis=0)
    assert complete.any()
    for precision in ("double", "single"):
        np.testing.assert_array_equal(WHOLE[True, precision].sigma2[complete], WHOLE[False, precision].sigma2[complete])
        np.testing.assert_array_equal(
            WHOLE[True, precision].coefficients[:, complete], WHOLE[False, precision].coefficients[:, complete]
        )


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(N)))
def test_order_of_samples_changes_rounding_only(order: list[int]) -> None:
    other = _fit(HOLED[order], linear_design(MATRIX[order]), [0, N], "double")
    base = WHOLE[True, "double"]
    error = base.stdev_unscaled * np.sqrt(base.sigma2)
    assert np.max(np.abs(other.coefficients - base.coefficients) / error) < 1e-10
    np.testing.assert_allclose(other.sigma2, base.sigma2, rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0.0, 0.6), dtype=st.sampled_from(["float32", "float64"]))
def test_missing_cells_are_left_out_as_by_numpy(seed: int, share: float, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(5, 2, (N, 12)).astype(dtype)
    values[rng.random(values.shape) < share] = np.nan
    sums = new_sums(DESIGN, 12)
    accumulate(sums, DESIGN.q, values)
    fit = finish(sums, DESIGN)
    fit = refit_columns(fit, DESIGN, values[:, fit.needs_columns])
    for feature in range(12):
        there = np.isfinite(values[:, feature])
        x, y = MATRIX[there], values[there, feature].astype(np.float64)
        beta, rest, rank, _ = np.linalg.lstsq(x, y, rcond=None)
        assert rank == 6
        sigma2 = rest[0] / (there.sum() - 6)
        error = np.sqrt(np.diag(np.linalg.inv(x.T @ x)))
        assert np.max(np.abs(fit.coefficients[:, feature] - beta) / (error * np.sqrt(sigma2))) < 1e-9
        np.testing.assert_allclose(fit.stdev_unscaled[:, feature], error, rtol=1e-9)
        assert fit.sigma2[feature] == pytest.approx(sigma2, rel=1e-9)
        assert fit.mean[feature] == pytest.approx(y.mean(), rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), lacking=st.integers(0, 3), n_left=st.integers(1, 20))
def test_features_with_few_values_are_solved_on_what_they_have(seed: int, lacking: int, n_left: int) -> None:
    """Any pattern of missing cells: fitted values are the projection on the design of the feature's own samples."""
    rng = np.random.default_rng(seed)
    level = np.arange(N) % 4
    matrix = np.column_stack([np.ones(N), level == 1, level == 2, level == 3, rng.normal(size=N)]).astype(float)
    design = linear_design(matrix)
    values = rng.normal(5, 2, (N, 3))
    values[level == lacking, 0] = np.nan
    values[rng.permutation(N)[n_left:], 1] = np.nan
    sums = new_sums(design, 3)
    accumulate(sums, design.q, values)
    fit = finish(sums, design)
    fit = refit_columns(fit, design, values[:, fit.needs_columns])
    for feature in range(3):
        there = np.isfinite(values[:, feature])
        x, y = matrix[there], values[there, feature]
        beta, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
        known = np.nan_to_num(fit.coefficients[:, feature])
        assert np.isfinite(fit.coefficients[:, feature]).sum() == rank
        np.testing.assert_allclose(x @ known, x @ beta, atol=1e-8)
        assert fit.df_residual[feature] == there.sum() - rank
        if there.sum() > rank:
            rest = y - x @ beta
            assert fit.sigma2[feature] == pytest.approx(rest @ rest / (there.sum() - rank), rel=1e-8)
        else:
            assert np.isnan(fit.sigma2[feature])
