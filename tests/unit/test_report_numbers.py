"""The numbers of a page, and the thinning of its figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sjd_dask.report.format import expression, number, plain
from sjd_dask.report.summary import inflation, minus_log10, natural_order, significance_line, split_contrasts
from sjd_dask.report.thin import KEPT, log_spaced, thin


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_inflation_is_the_median_chi_square_ratio(n: int) -> None:
    p = np.random.default_rng(n).random(n)
    expected = np.median(stats.chi2.isf(p, 1)) / stats.chi2.ppf(0.5, 1)
    assert inflation(np.append(p, np.nan)) == pytest.approx(expected, rel=1e-12)


def test_inflation_of_nothing_is_missing() -> None:
    assert np.isnan(inflation(np.array([np.nan])))


def test_chromosomes_come_in_natural_order() -> None:
    assert natural_order(["chrX", "chr10", "chrM", "chr2", "chrY", "scaffold"]) == [
        "chr2", "chr10", "chrX", "chrY", "chrM", "scaffold",
    ]  # fmt: skip


def test_contrasts_come_in_the_order_of_the_run_and_f_last() -> None:
    frame = pd.DataFrame({"contrast": ["F", "b", "a", "c", "b"], "x": range(5)})
    parts = split_contrasts(frame, ["a", "b", "gone"])
    assert list(parts) == ["a", "b", "c", "F"]
    assert parts["b"]["x"].tolist() == [1, 4]


def test_a_p_value_of_zero_has_a_height() -> None:
    assert minus_log10(np.array([0.0, 0.01])) == pytest.approx([323.306, 2], abs=1e-3)


def test_the_line_lies_between_what_is_below_and_above() -> None:
    p, q = np.array([1e-8, 1e-4, 0.5, np.nan]), np.array([1e-7, 0.06, 0.6, np.nan])
    assert significance_line(p, q) == pytest.approx(6)
    assert significance_line(p, q + 1) is None


def test_thinning_keeps_what_matters_and_covers_the_rest() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 100_000))
    important = y > 3
    kept = thin(x, y, important, 50, 50)
    assert set(np.flatnonzero(important)) <= set(kept)
    assert len(kept) <= important.sum() + 2500
    many = thin(x, y, np.ones_like(important), 5, 5)
    assert KEPT <= len(many) <= KEPT + 25
    assert set(np.argsort(-y)[:KEPT]) <= set(many)


@pytest.mark.parametrize("n", [1, 400, 1500, 1501, 1_000_000])
def test_ranks_of_a_quantile_plot_hold_both_ends(n: int) -> None:
    ranks = log_spaced(n)
    assert ranks[0] == 0 and ranks[-1] == n - 1 and len(ranks) <= 1500
    assert (np.diff(ranks) > 0).all()


def test_numbers_and_words() -> None:
    assert [number(v) for v in (None, float("nan"), "inf", -np.inf, 1.23456e-9, 0.5)] == [
        "–", "–", "∞", "-∞", "1.235e-09", "0.5",
    ]  # fmt: skip
    assert expression({"a": 1.0, "b": -0.5, "c": 0.0}) == "a - 0.5 b"
    assert plain("IFI44L日") == "IFI44L?"
