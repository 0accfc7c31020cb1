"""Quantile normalisation and scaling against limma and preprocessCore, as frozen methods fitted on all samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import DataError
from sjd_dask.kernels.singleton_sort import singleton_argsort
from sjd_dask.normalise.quantile import Quantile, Scale
from sjd_dask.normalise.reference import MemoryReference

REFERENCE = Path(__file__).parent / "reference" / "arrays"

CALLS = {
    "limma_ties": {"ties": "limma"},
    "limma_noties": {"ties": "limma_noties"},
    "preprocessCore": {"ties": "preprocesscore"},
}


def table(folder, name, ids=True):
    frame = pd.read_csv(
        folder / f"{name}.tsv.gz", sep="\t", dtype={0: str} if ids else None, index_col=0 if ids else None
    )
    frame.columns = frame.columns.astype(str)
    return frame


def normalised(method, frame):
    reference = MemoryReference(frame.to_numpy(float).T, list(frame.columns), list(frame.index.astype(str)))
    method.check(reference)
    done = method.apply(reference.block(), method.fit(reference))
    assert (done.pending == "").all()
    return done.values.T


def relative(found, wanted):
    """Largest error over max(|value|, SD of the feature); missing values in the same places."""
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    scale = np.maximum(np.abs(wanted), np.nanstd(wanted, axis=1, keepdims=True))
    return float(np.nanmax(np.abs(found - wanted) / scale))


@pytest.mark.parametrize("data", ["ALL_full", "ALL_ties", "khan_na"])
@pytest.mark.parametrize("call", list(CALLS))
def test_public_data_as_limma_and_preprocesscore(reference_data, data, call):
    folder = reference_data / "oracles" / "norm"
    found = normalised(Quantile(**CALLS[call]), table(folder, f"{data}_input"))
    assert relative(found, table(folder, f"{data}_{call}").to_numpy(float)) <= 1e-12


@pytest.mark.parametrize("data", ["ALL_full", "ALL_ties"])
def test_public_data_to_the_target_of_five_samples(reference_data, data):
    folder = reference_data / "oracles" / "norm"
    frame = table(folder, f"{data}_input")
    found = normalised(Quantile(ties="preprocesscore", target_samples=list(frame.columns[:5])), frame)
    assert relative(found, table(folder, f"{data}_preprocessCore_target15").to_numpy(float)) <= 1e-12


@pytest.mark.parametrize("data", ["ALL_full", "ALL_ties"])
def test_public_data_scaled(reference_data, data):
    folder = reference_data / "oracles" / "norm"
    found = normalised(Scale(), table(folder, f"{data}_input"))
    assert relative(found, table(folder, f"{data}_scale").to_numpy(float)) <= 1e-12


def test_log_ratios_have_no_scale(reference_data):
    """limma gives NaN for every value, since medians are negative; here the samples are named."""
    folder = reference_data / "oracles" / "norm"
    assert table(folder, "khan_na_scale").isna().all(axis=None)
    with pytest.raises(DataError, match=r"positive medians.*absolute: true"):
        normalised(Scale(), table(folder, "khan_na_input"))


@pytest.mark.parametrize("call", list(CALLS))
def test_ties_and_missing_values_together(call):
    found = normalised(Quantile(**CALLS[call]), table(REFERENCE, "ties_na_input", ids=False))
    assert relative(found, table(REFERENCE, f"ties_na_{call}", ids=False).to_numpy(float)) <= 1e-12


def test_target_of_samples_with_missing_values():
    frame = table(REFERENCE, "ties_na_input", ids=False)
    found = normalised(Quantile(target_samples=["s1", "s2", "s3"]), frame)
    assert relative(found, table(REFERENCE, "ties_na_preprocessCore_target13", ids=False).to_numpy(float)) <= 1e-12


def test_scale_by_sizes():
    found = normalised(Scale(absolute=True), table(REFERENCE, "ties_na_input", ids=False))
    assert relative(found, table(REFERENCE, "ties_na_median_abs", ids=False).to_numpy(float)) <= 1e-12


def test_order_of_equal_values_is_that_of_r():
    for _, part in table(REFERENCE, "quick_order", ids=False).groupby(["size", "levels"]):
        assert np.array_equal(singleton_argsort(part["x"].to_numpy(float)), part["order"].to_numpy() - 1)
