"""Linear model kernel: edge cases and what is refused. Parity with limma is in tests/oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sjd_dask.errors import DataError, DesignError, SpecError
from sjd_dask.kernels.linear import (
    LinearFit,
    accumulate,
    aliased_columns,
    contrast_fit,
    finish,
    linear_design,
    new_sums,
    refit_columns,
)

N = 60


def _design(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    group = np.r_[np.zeros(30), np.ones(30)]
    return np.column_stack([np.ones(N), group, rng.normal(50, 10, N)])


def _fit(matrix: np.ndarray, values: np.ndarray, precision: Any = "double") -> LinearFit:
    design = linear_design(matrix)
    sums = new_sums(design, values.shape[1], precision)
    accumulate(sums, design.q, values, has_intercept=design.has_intercept)
    fit = finish(sums, design)
    return refit_columns(fit, design, values[:, fit.needs_columns])


def _values(n_features: int = 40, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(8, 1, (N, n_features))


def test_constant_feature_has_no_effect_and_no_variance_and_is_not_missing() -> None:
    values = _values()
    values[:, 3] = 0.1
    values[:, 4] = -1e6 / 3
    for precision in ("double", "single"):
        fit = _fit(_design(), values, precision)
        assert (fit.sigma2[3:5] == 0).all()
        assert (fit.coefficients[1:, 3:5] == 0).all()
        np.testing.assert_array_equal(fit.coefficients[0, 3:5], values[0, 3:5])
        assert np.isfinite(fit.stdev_unscaled).all()


def test_feature_without_values_is_missing_with_no_samples() -> None:
    values = _values()
    values[:, 7] = np.nan
    fit = _fit(_design(), values)
    assert fit.n_samples[7] == 0
    assert fit.df_residual[7] == 0
    assert np.isnan(fit.coefficients[:, 7]).all() and np.isnan(fit.sigma2[7]) and np.isnan(fit.mean[7])
    tested = contrast_fit(fit, linear_design(_design()), np.eye(3)[:, 1:])
    assert np.isnan(tested.effects[:, 7]).all() and np.isnan(tested.f_quadratic[7])
    assert np.isfinite(np.delete(tested.effects, 7, axis=1)).all()


def test_group_that_a_feature_lacks_has_no_effect_there() -> None:
    values = _values()
    values[30:, 2] = np.nan
    matrix = _design()
    fit = _fit(matrix, values)
    own = np.linalg.lstsq(matrix[:30][:, [0, 2]], values[:30, 2], rcond=None)[0]
    np.testing.assert_allclose(fit.coefficients[[0, 2], 2], own, rtol=1e-10)
    assert np.isnan(fit.coefficients[1, 2])
    assert fit.df_residual[2] == 28
    for mode in ("exact", "limma"):
        tested = contrast_fit(fit, linear_design(matrix), np.eye(3)[:, 1:], mode)  # type: ignore[arg-type]
        assert np.isnan(tested.effects[0, 2])
        assert tested.effects[1, 2] == pytest.approx(own[1], rel=1e-10)


def test_contrast_against_a_reference_without_values_is_not_a_silent_number() -> None:
    """lm.fit drops a later level where the reference has no values, so what it calls B is B less C; exact says NaN."""
    level = np.arange(N) % 3
    matrix = np.column_stack([np.ones(N), level == 1, level == 2]).astype(float)
    values = _values()
    values[level == 0, 5] = np.nan
    fit, design = _fit(matrix, values), linear_design(matrix)
    weights = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, -1.0]]).T
    exact, limma = contrast_fit(fit, design, weights), contrast_fit(fit, design, weights, "limma")
    b, c = values[level == 1, 5].mean(), values[level == 2, 5].mean()
    np.testing.assert_allclose(exact.effects[:, 5], [np.nan, np.nan, b - c], rtol=1e-10)
    np.testing.assert_allclose(limma.effects[:2, 5], [b - c, np.nan], rtol=1e-10)
    assert np.isnan(exact.f_quadratic[5])


def test_other_effects_stay_where_a_feature_lacks_the_reference() -> None:
    """Only the levels and the constant can't be told apart; the slopes of the others have no part in that."""
    rng = np.random.default_rng(4)
    level = np.arange(N) % 3
    year, score = 2021.0 + rng.integers(-8, 9, N), rng.normal(0, 1e-9, N)
    matrix = np.column_stack([np.ones(N), level == 1, level == 2, year, score]).astype(float)
    values = _values()
    for feature in range(20):
        values[(level == 0) | (rng.random(N) < 0.3), feature] = np.nan
    fit, design = _fit(matrix, values), linear_design(matrix)
    weights = np.array([[0, 0, 0, 1.0, 0], [0, 0, 0, 0, 1.0], [0, 0, 0, -2.0, 1.0], [0, 1.0, 0, 0, 0]]).T
    tested = contrast_fit(fit, design, weights)
    assert np.isnan(tested.effects[3, :20]).all() and np.isnan(tested.f_quadratic[:20]).all()
    for feature in range(20):
        there = np.isfinite(values[:, feature])
        known = matrix[there][:, [0, 1, 3, 4]]
        year_effect, score_effect = (
            np.linalg.lstsq(known / np.abs(known).max(axis=0), values[there, feature], rcond=None)[0][2:]
            / np.abs(known).max(axis=0)[2:]
        )
        expected = [year_effect, score_effect, score_effect - 2 * year_effect]
        np.testing.assert_allclose(tested.effects[:3, feature], expected, rtol=1e-8)


def test_no_residual_degrees_of_freedom_leaves_the_variance_missing() -> None:
    matrix = _design()[[0, 31, 32]]
    fit = _fit(matrix, _values()[:3])
    assert np.isnan(fit.sigma2).all() and (fit.df_residual == 0).all()
    np.testing.assert_allclose(matrix @ fit.coefficients, _values()[:3], rtol=1e-9)


def test_feature_that_the_design_explains_almost_wholly_keeps_its_variance() -> None:
    matrix, values = _design(), _values()
    noise = 1e-7 * np.random.default_rng(3).normal(size=N)
    values[:, 1] = 3 + 0.7 * matrix[:, 2] + noise
    fit = _fit(matrix, values)
    rest = noise - matrix @ np.linalg.lstsq(matrix, noise, rcond=None)[0]
    assert fit.sigma2[1] == pytest.approx(rest @ rest / (N - 3), rel=1e-5)


def test_design_without_the_constant() -> None:
    matrix = np.random.default_rng(5).normal(size=(N, 2))
    values = _values()
    values[4, 9] = np.nan
    fit = _fit(matrix, values)
    for feature in (0, 9):
        there = np.isfinite(values[:, feature])
        beta, rest, *_ = np.linalg.lstsq(matrix[there], values[there, feature], rcond=None)
        np.testing.assert_allclose(fit.coefficients[:, feature], beta, rtol=1e-10)
        assert fit.sigma2[feature] == pytest.approx(rest[0] / (there.sum() - 2), rel=1e-10)
    assert not linear_design(matrix).has_intercept


def test_group_means_and_their_overall_test_know_the_constant() -> None:
    """In ~ 0 + group the contrast of a mean is not free of the shift by the pilot."""
    group = np.arange(N) % 2
    matrix = np.column_stack([group == 0, group == 1]).astype(float)
    values = _values()
    for holed in (False, True):
        if holed:
            values[5, :10] = np.nan
        fit, design = _fit(matrix, values), linear_design(matrix)
        tested = contrast_fit(fit, design, np.eye(2))
        there = np.isfinite(values)
        totals = np.where(there, values, 0.0)
        sizes = np.stack([there[group == g].sum(axis=0) for g in (0, 1)])
        means = np.stack([totals[group == g].sum(axis=0) for g in (0, 1)]) / sizes
        np.testing.assert_allclose(tested.effects, means, rtol=1e-12)
        np.testing.assert_allclose(tested.f_quadratic, (means**2 * sizes).sum(axis=0), rtol=1e-12)


def test_dependent_contrasts_count_once_in_the_overall_test() -> None:
    fit, design = _fit(_design(), _values()), linear_design(_design())
    two = contrast_fit(fit, design, np.eye(3)[:, 1:])
    three = contrast_fit(fit, design, np.column_stack([np.eye(3)[:, 1:], [0.0, 1.0, 2.0]]))
    limma = contrast_fit(fit, design, np.column_stack([np.eye(3)[:, 1:], [0.0, 1.0, 2.0]]), "limma")
    assert two.f_rank == three.f_rank == limma.f_rank == 2
    np.testing.assert_allclose(three.f_quadratic, two.f_quadratic, rtol=1e-8)
    np.testing.assert_allclose(limma.f_quadratic, two.f_quadratic, rtol=1e-8)


def test_infinite_cell_counts_as_missing() -> None:
    values, holed = _values(), _values()
    values[3, 2], values[4, 2] = np.inf, -np.inf
    holed[3:5, 2] = np.nan
    np.testing.assert_array_equal(_fit(_design(), values).coefficients, _fit(_design(), holed).coefficients)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_stored_types_give_the_numbers_of_float64(dtype: str) -> None:
    whole = np.random.default_rng(2).integers(0, 200, (N, 30)).astype(dtype)
    fill = None if dtype == "float32" else 199
    as_float = whole.astype(np.float64)
    if fill is None:
        whole[whole == 199] = np.nan
    as_float[as_float == 199] = np.nan
    design = linear_design(_design())
    sums = [new_sums(design, 30) for _ in range(2)]
    accumulate(sums[0], design.q, whole, fill=fill)
    accumulate(sums[1], design.q, as_float)
    np.testing.assert_array_equal(sums[0].products, sums[1].products)
    np.testing.assert_array_equal(sums[0].gram_missing, sums[1].gram_missing)
    np.testing.assert_array_equal(sums[0].n, np.isfinite(as_float).sum(axis=0))


def test_table_gives_the_numbers_of_its_values() -> None:
    codes = np.random.default_rng(2).integers(0, 65536, (N, 30)).astype(np.uint16)
    codes[5, 6] = 65535
    table = np.log1p(np.arange(65536.0))
    table[65535] = np.nan
    design = linear_design(_design())
    coded, plain = new_sums(design, 30), new_sums(design, 30)
    accumulate(coded, design.q, codes, table)
    accumulate(plain, design.q, table[codes])
    np.testing.assert_array_equal(coded.products, plain.products)
    np.testing.assert_array_equal(coded.squares, plain.squares)
    assert coded.n[6] == N - (codes[:, 6] == 65535).sum()


def test_what_the_machine_code_would_read_wrongly_is_refused() -> None:
    design = linear_design(_design())
    sums = new_sums(design, 4)
    floats = np.zeros((N, 4))
    codes = np.zeros((N, 4), dtype=np.uint16)
    table = np.zeros(65536)
    for block, options, said in (
        (np.zeros((N, 5)), {}, "4 features"),
        (floats[:3], {}, "rows of the design"),
        (codes, {"table": table[:100]}, "65536 entries"),
        (codes.astype(np.int16), {"table": table}, "uint8 or uint16"),
        (floats, {"fill": 3}, "NaN"),
        (codes, {"fill": -1}, "does not fit"),
        (floats.astype(complex), {}, "can't be summed"),
    ):
        with pytest.raises(DataError, match=said):
            accumulate(sums, design.q, block, **options)
    with pytest.raises(DataError, match="have seen 0 samples"):
        finish(sums, design)
    with pytest.raises(SpecError, match="precision"):
        new_sums(design, 4, "half")  # type: ignore[arg-type]


def test_designs_that_cannot_be_estimated_are_refused() -> None:
    matrix = _design()
    with pytest.raises(DesignError, match=r"\[3\]"):
        linear_design(np.column_stack([matrix, matrix[:, 0] - matrix[:, 1]]))
    with pytest.raises(DesignError, match="only 2 samples"):
        linear_design(matrix[:2])
    matrix[3, 2] = np.nan
    with pytest.raises(DesignError, match="row 3, column 2"):
        linear_design(matrix)
    # Columns of very different size are not taken for each other.
    assert aliased_columns(np.column_stack([np.ones(N), 1e-9 * np.arange(N)])) == []


def test_contrasts_that_test_nothing_are_refused() -> None:
    fit, design = _fit(_design(), _values()), linear_design(_design())
    with pytest.raises(DesignError, match="all zero"):
        contrast_fit(fit, design, np.zeros((3, 1)))
    with pytest.raises(DesignError, match="3 rows"):
        contrast_fit(fit, design, np.ones((2, 1)))
    with pytest.raises(SpecError, match="na_contrasts"):
        contrast_fit(fit, design, np.ones((3, 1)), "both")  # type: ignore[arg-type]


def test_contrasts_wait_for_the_features_that_need_their_columns() -> None:
    values = _values()
    values[30:, 2] = np.nan
    design = linear_design(_design())
    sums = new_sums(design, values.shape[1])
    accumulate(sums, design.q, values)
    fit = finish(sums, design)
    assert fit.needs_columns.tolist() == [2]
    with pytest.raises(SpecError, match="refit_columns"):
        contrast_fit(fit, design, np.eye(3)[:, 1:])
    with pytest.raises(DataError, match="shape"):
        refit_columns(fit, design, values)
