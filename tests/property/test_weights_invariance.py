"""Numbers with weights don't depend on chunks, segments, partitions, or on what features stand beside a feature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs_scene import F, computed, fill, prepared, same_bits

from sjd_dask.errors import PlanRefused
from sjd_dask.jobs import associate_weights
from sjd_dask.kernels import linear, weighted

DESIGN: dict[str, Any] = {"design": "~ group + age"}
# Steps that sum over all features add partitions to one another: other partitions, other rounding.
CASES = {
    "voom": ("counts", {"weights": "voom"}, 0.0),
    "voom holes": ("counts holes", {"weights": "voom", "span": 0.8}, 0.0),
    "quality": ("counts", {"weights": "voom_quality"}, 0.0),
    "array": ("expression", {"weights": "array"}, 1e-11),
    "array holes": ("expression holes", {"weights": "array"}, 0.0),
    "quality reml": ("counts", {"weights": "voom_quality", "array_method": "reml"}, 1e-11),
}


@pytest.mark.parametrize("case", CASES)
def test_chunks_segments_and_partitions(case: str, tmp_path: Path) -> None:
    assay, keys, tolerance = CASES[case]
    (tmp_path / "cut").mkdir()
    one = fill(tmp_path, assay)
    cut = fill(tmp_path / "cut", assay, cuts=(1, 65, 131, 280), chunks=(7, 16))
    wanted = computed(one, assay, **DESIGN, **keys)
    assert wanted["p_value"].notna().mean() > 0.9
    for more in ({}, {"partition_features": 7}, {"partition_features": 1}):
        found = computed(cut, assay, **DESIGN, **keys, **more)
        if tolerance == 0.0:
            same_bits(found, wanted)
        else:
            for name in ("effect", "statistic"):
                np.testing.assert_allclose(found[name], wanted[name], rtol=tolerance, atol=tolerance)


def test_what_weights_come_to_makes_the_run(tmp_path: Path) -> None:
    """`auto` of an assay is no weights: the same run; another rule is another run."""
    cohort = fill(tmp_path, "counts")
    plain = prepared(cohort, "counts", **DESIGN)
    assert prepared(cohort, "counts", **DESIGN, weights="none").fingerprint == plain.fingerprint
    marks = {
        prepared(cohort, "counts", **DESIGN, **keys).fingerprint
        for keys in (
            {},
            {"weights": "voom"},
            {"weights": "voom", "span": 0.3},
            {"weights": "voom_quality"},
            {"weights": "voom_quality", "array_method": "reml"},
            {"weights": "array"},
        )
    }
    assert len(marks) == 6
    job = prepared(cohort, "counts", **DESIGN, weights="voom")
    plan = job.plan(2, 10**10, calibrate=True)
    assert plan.n_tasks == 3 and plan.estimated_seconds is not None and plan.estimated_seconds > 0
    assert prepared(cohort, "counts", **DESIGN, weights="array").plan(2, 10**10, calibrate=True).n_tasks == 2
    assert "voom" not in plain.method_versions


def test_too_many_samples_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = fill(tmp_path, "counts")
    monkeypatch.setattr(associate_weights, "MOST_SAMPLES", 100)
    with pytest.raises(PlanRefused, match="290 x 290 samples"):
        prepared(cohort, "counts", **DESIGN, weights="array").plan(2, 10**10)
    prepared(cohort, "counts", **DESIGN, weights="voom").plan(2, 10**10)


def test_sums_by_blocks_and_stripes() -> None:
    rng = np.random.default_rng(2)
    n = 150
    design = linear.linear_design(np.column_stack([np.ones(n), rng.normal(size=(n, 5))]))
    values = rng.normal(7, 2, (n, F))
    values[rng.random(values.shape) < 0.05] = np.nan
    weights = rng.gamma(2, size=values.shape)
    weights[rng.random(values.shape) < 0.02] = 0
    whole = weighted.fit_weighted(values, weights, design)
    for rows, width in ((64, 1), (99, 17), (150, 40)):
        for start in range(0, F, width):
            part = slice(start, start + width)
            sums = weighted.new_weighted_sums(design, values[:, part].shape[1])
            for first in range(0, n, rows):
                block = slice(first, first + rows)
                weighted.accumulate_weighted(
                    sums, design.q[block], values[block, part], weights[block, part], has_intercept=True
                )
            fit = weighted.finish_weighted(sums, design)
            np.testing.assert_array_equal(fit.coefficients, whole.coefficients[:, part])
            np.testing.assert_array_equal(fit.sigma2, whole.sigma2[part])
    # A weight of one in every cell is no weight.
    plain = linear.new_sums(design, F)
    linear.accumulate(plain, design.q, values)
    wanted = linear.finish(plain, design)
    found = weighted.fit_weighted(values, np.ones(n), design)
    np.testing.assert_allclose(found.coefficients, wanted.coefficients, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(found.sigma2, wanted.sigma2, rtol=1e-12)
    # The scale of a feature's weights changes its variance and nothing else.
    scaled = weighted.fit_weighted(values, weights * 1e8, design)
    np.testing.assert_allclose(scaled.coefficients, whole.coefficients, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(scaled.sigma2, whole.sigma2 * 1e8, rtol=1e-10)
