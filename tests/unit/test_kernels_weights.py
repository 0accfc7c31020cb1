"""Weights at the edges: too little data, hard trends, wrong shapes, missing cells."""

from __future__ import annotations

import numpy as np
import pytest

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels import array_weights, linear, voom, weighted

N, F = 12, 80
RNG = np.random.default_rng(5)
DESIGN = linear.linear_design(np.column_stack([np.ones(N), np.repeat([0.0, 1.0], N // 2)]))


def counts() -> np.ndarray:
    rng = np.random.default_rng(6)
    return rng.negative_binomial(4, 4 / (4 + np.exp(rng.normal(4, 1, F))), (N, F)).astype(float)


def test_features_without_counts_take_no_part_in_the_trend() -> None:
    table = counts()
    more = np.concatenate([table, np.zeros((N, 5))], axis=1)
    one, other = voom.voom(table, DESIGN), voom.voom(more, DESIGN)
    np.testing.assert_array_equal(one.line.x, other.line.x)
    np.testing.assert_array_equal(one.weights, other.weights[:, :F])
    # A stored float32 is near enough to tell zero from one.
    offset = voom.log_offset(other.library_size)
    largest = voom.largest_log_count(other.expression.astype(np.float32).astype(float), offset)
    assert np.array_equal(largest > -0.5, more.max(axis=0) > 0)


def test_missing_counts_leave_the_rest_as_it_is() -> None:
    table = counts()
    table[2:5, 7] = table[:, 9] = np.nan
    made = voom.voom(table, DESIGN)
    assert np.isfinite(made.weights).all()
    fit = weighted.fit_weighted(made.expression, made.weights, DESIGN)
    assert fit.scaled.n_samples[7] == N - 3 and fit.scaled.n_samples[9] == 0
    assert np.isnan(fit.coefficients[:, 9]).all() and np.isfinite(np.delete(fit.coefficients, 9, axis=1)).all()


def test_lines_that_can_not_be_made() -> None:
    library = np.full(N, 1e6)
    flat = voom.voom_line([1.0, 2.0], [np.nan, 1.0], library)
    assert flat.y.tolist() == [1.0] and "weights are one" in flat.notes[0]
    assert (voom.voom_weights(flat, np.ones((2, 3)), DESIGN.matrix, np.zeros(N)) == 1).all()
    with pytest.raises(DataError, match="every count"):
        voom.voom_line([1.0, 2.0], [1.0, 1.0], library, [-1.0, -1.0])
    with pytest.raises(DataError, match="falls to"):
        voom.voom_line(np.arange(40.0), np.r_[np.full(20, 4.0), np.zeros(20)], library, span=0.2)
    with pytest.raises(DataError, match="below zero"):
        voom.voom(-counts(), DESIGN)


def test_weights_are_those_of_the_line() -> None:
    made = voom.voom(counts(), DESIGN)
    coefficients = RNG.normal(7, 6, (2, F))
    coefficients[1, 3] = np.nan
    offset = voom.log_offset(made.library_size)
    found = voom.voom_weights(made.line, coefficients, DESIGN.matrix, offset)
    fitted = DESIGN.matrix @ np.nan_to_num(coefficients) + offset[:, None]
    assert fitted.min() < made.line.x[0] and fitted.max() > made.line.x[-1]
    np.testing.assert_allclose(found, made.line(fitted) ** -4.0, rtol=1e-12)


def test_weights_of_samples_need_something_to_go_by() -> None:
    values = RNG.normal(size=(N, F))
    assert (array_weights.array_weights(values[:, :1], DESIGN) == 1).all()
    full = linear.linear_design(np.eye(N)[:, : N - 1])
    assert (array_weights.array_weights(values, full) == 1).all()
    constant = np.ones((N, F))
    for method in ("genebygene", "reml"):
        np.testing.assert_allclose(array_weights.array_weights(constant, DESIGN, method=method), 1)
    with pytest.raises(SpecError, match="method"):
        array_weights.array_weights(values, DESIGN, method="best")
    with pytest.raises(DataError, match="negative"):
        array_weights.array_weights(values, DESIGN, -np.ones((N, F)))


def test_a_noisy_sample_weighs_less() -> None:
    values = np.random.default_rng(7).normal(size=(N, 400))
    values[4] *= 3
    by_steps, in_order = (array_weights.array_weights(values, DESIGN, method=m) for m in ("reml", "genebygene"))
    for found in (by_steps, in_order):
        assert found.argmin() == 4 and found[4] < 0.3
        assert np.log(found).sum() == pytest.approx(0, abs=1e-9)
    cells = array_weights.array_weights(values, DESIGN, np.ones(values.shape), method="reml")
    # With weights of cells limma takes its steps for converged earlier.
    np.testing.assert_allclose(cells, by_steps, rtol=0.03)


def test_stripes_of_the_pass_in_order_are_one_pass() -> None:
    values = RNG.normal(size=(N, F))
    whole = array_weights.GeneByGene(DESIGN)
    whole.update(values)
    parts = array_weights.GeneByGene(DESIGN)
    for start in range(0, F, 17):
        parts.update(values[:, start : start + 17])
    np.testing.assert_array_equal(parts.weights, whole.weights)


def test_shapes_that_don_t_fit() -> None:
    sums = weighted.new_weighted_sums(DESIGN, F)
    values = np.ones((N, F))
    with pytest.raises(DataError, match="weights of shape"):
        weighted.accumulate_weighted(sums, DESIGN.q, values, np.ones((N, 3)), has_intercept=True)
    with pytest.raises(DataError, match="doesn't fit"):
        weighted.accumulate_weighted(sums, DESIGN.q[:3], values, np.ones(N), has_intercept=True)
    with pytest.raises(DataError, match="have seen 0 samples"):
        weighted.finish_weighted(sums, DESIGN)
