"""Linear fits and contrasts against limma 3.54.1: lmFit, contrasts.fit and the F of eBayes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.kernels.linear import (
    ContrastFit,
    LinearFit,
    accumulate,
    contrast_fit,
    finish,
    linear_design,
    new_sums,
    refit_columns,
)


def _table(path: Path) -> pd.DataFrame:
    # As text first: sample ids such as 01005 keep their zeros, and numbers are read to the last bit.
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    return frame.set_index(frame.columns[0]).replace("NA", "NaN").astype(np.float64)


class Case:
    """One matrix with its design, contrasts and limma's answer."""

    def __init__(self, folder: Path, data: str, answer: str) -> None:
        limma = folder / "oracles" / "limma"
        design = _table(limma / f"{data}_design.tsv.gz")
        contrasts = _table(limma / f"{data}_contrasts.tsv.gz")
        self.design = linear_design(design.to_numpy(dtype=np.float64))
        self.contrasts = contrasts.loc[design.columns].to_numpy(dtype=np.float64)
        values = _table(folder / "oracles" / "data" / f"{data}_expr.tsv.gz")[list(design.index)]
        self.values = values.to_numpy(dtype=np.float64)  # features x samples
        if answer.startswith("ALL_na"):
            at = pd.read_csv(limma / "ALL_na_positions.tsv.gz", sep="\t")
            self.values[at["row"].to_numpy() - 1, at["col"].to_numpy() - 1] = np.nan
        self.answer = _table(limma / f"{answer}.tsv.gz")
        assert list(self.answer.index) == list(values.index)
        self.names = list(contrasts.columns)

    def fit(self, precision: Any = "double") -> LinearFit:
        values = np.ascontiguousarray(self.values.T)
        sums = new_sums(self.design, values.shape[1], precision)
        for start in range(0, values.shape[0], 64):
            part = slice(start, start + 64)
            accumulate(sums, self.design.q[part], values[part], has_intercept=self.design.has_intercept)
        fit = finish(sums, self.design)
        return refit_columns(fit, self.design, values[:, fit.needs_columns])

    def tested(self, na_contrasts: Any) -> tuple[LinearFit, ContrastFit]:
        fit = self.fit()
        return fit, contrast_fit(fit, self.design, self.contrasts, na_contrasts)

    def column(self, prefix: str) -> np.ndarray:
        return self.answer[[f"{prefix}.{name}" for name in self.names]].to_numpy(dtype=np.float64).T


CASES = [("ALL", "ALL_full_contrast_default"), ("ALL", "ALL_na_contrast_default"), ("khan", "khan_contrast_default")]


@pytest.fixture(scope="module", params=CASES, ids=[case[1] for case in CASES])
def case(request: pytest.FixtureRequest, reference_data: Path) -> Case:
    return Case(reference_data, *request.param)


def test_contrasts_are_those_of_limma(case: Case) -> None:
    fit, tested = case.tested("limma")
    error = case.column("stdev_unscaled") * case.answer["sigma"].to_numpy()
    difference = np.abs(tested.effects - case.column("coef"))
    assert np.nanmax(difference / np.maximum(np.abs(case.column("coef")), error)) < 1e-9
    np.testing.assert_array_equal(np.isnan(tested.effects), np.isnan(case.column("coef")))
    np.testing.assert_allclose(tested.stdev_unscaled, case.column("stdev_unscaled"), rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(fit.sigma2), case.answer["sigma"], rtol=1e-9)
    np.testing.assert_array_equal(fit.df_residual, case.answer["df_residual"])
    np.testing.assert_allclose(fit.mean, case.answer["Amean"], rtol=1e-12)
    np.testing.assert_array_equal(fit.n_samples, np.isfinite(case.values).sum(axis=1))


def test_overall_f_is_that_of_limma(case: Case) -> None:
    _, tested = case.tested("limma")
    f = tested.f_quadratic / tested.f_rank / case.answer["s2_post"].to_numpy()
    np.testing.assert_allclose(f, case.answer["F"], rtol=1e-8)


def test_exact_contrasts_of_features_with_missing_values_are_those_of_their_own_fit(reference_data: Path) -> None:
    case = Case(reference_data, "khan", "khan_contrast_default")
    fit, tested = case.tested("exact")
    missing = np.flatnonzero(np.isnan(case.values).any(axis=1))
    for feature in missing[:200]:
        there = np.isfinite(case.values[feature])
        x, y = case.design.matrix[there], case.values[feature, there]
        beta = np.linalg.lstsq(x, y, rcond=None)[0]
        covariance = case.contrasts.T @ np.linalg.inv(x.T @ x) @ case.contrasts
        effects = case.contrasts.T @ beta
        np.testing.assert_allclose(tested.effects[:, feature], effects, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(tested.stdev_unscaled[:, feature], np.sqrt(np.diag(covariance)), rtol=1e-9)
        quadratic = effects @ np.linalg.solve(covariance, effects)
        np.testing.assert_allclose(tested.f_quadratic[feature], quadratic, rtol=1e-9)
    complete = np.isfinite(case.values).all(axis=1)
    limma = contrast_fit(fit, case.design, case.contrasts, "limma")
    np.testing.assert_allclose(tested.stdev_unscaled[:, complete], limma.stdev_unscaled[:, complete], rtol=1e-12)


def test_single_precision_stays_within_its_stated_error(reference_data: Path) -> None:
    case = Case(reference_data, "ALL", "ALL_full_contrast_default")
    double, single = case.fit(), case.fit("single")
    error = double.stdev_unscaled * np.sqrt(double.sigma2)
    assert np.max(np.abs(single.coefficients - double.coefficients) / error) < 1e-5
    np.testing.assert_allclose(single.sigma2, double.sigma2, rtol=1e-6)
