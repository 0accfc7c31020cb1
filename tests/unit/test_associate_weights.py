"""`associate` with weights: limma's numbers, equal bits on NumPy and Dask, alignment by id, laziness and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import sjd_dask as sjd
from sjd_dask import names
from sjd_dask.errors import DataError, PlanRefused, SpecError

HERE = Path(__file__).parents[1] / "oracle/reference/weights"
N, F = 14, 299
IDS = [f"s{i:02d}" for i in range(N)]
FEATURES = [f"f{i}" for i in range(F)]


def table(name: str) -> np.ndarray:
    frame = pd.read_csv(HERE / f"{name}.tsv.gz", sep="\t", na_values=["NA", "NaN"])
    return frame.to_numpy(dtype=np.float64)


def array(name: str, chunks: tuple[int, int] | None = None) -> xr.DataArray:
    """The reference table without its empty feature, samples in rows."""
    values = np.delete(table(name), 19, axis=0).T
    return xr.DataArray(
        values if chunks is None else da.from_array(values, chunks=chunks),
        dims=("samples", "features"),
        coords={"sample_id": ("samples", IDS), "feature_id": ("features", FEATURES)},
    )


@pytest.fixture
def sheet() -> pd.DataFrame:
    design = table("design")
    columns = {"a": design[:, 1], "b": design[:, 2], "c": design[:, 3]}
    return pd.DataFrame(columns, index=pd.Index(IDS, name="sample_id"))


@pytest.fixture
def model(sheet: pd.DataFrame) -> dict[str, Any]:
    rows = ("Intercept", "a", "b", "c")
    contrasts = {
        f"c{k + 1}": {row: w for row, w in zip(rows, weights, strict=True) if w}
        for k, weights in enumerate(table("contrasts").T.tolist())
    }
    return {"design": "~ a + b + c", "samples": sheet, "contrasts": contrasts, "na_contrasts": "limma"}


def check(found: xr.Dataset, name: str) -> None:
    wanted = pd.read_csv(HERE / f"{name}.tsv.gz", sep="\t", na_values=["NA", "NaN"]).astype(np.float64)
    for k in range(3):
        np.testing.assert_allclose(found[names.FEATURE_EFFECT][k], wanted[f"coef.{k + 1}"], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found[names.FEATURE_P_VALUE][k], wanted[f"p.{k + 1}"], rtol=1e-9)
        np.testing.assert_allclose(found[names.FEATURE_LOG_ODDS][k], wanted[f"B.{k + 1}"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found[names.FEATURE_MEAN], wanted["Amean"], rtol=1e-12)
    np.testing.assert_allclose(found[names.FEATURE_F_STATISTIC], wanted["F"], rtol=1e-9)


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name].to_numpy(), other[name].to_numpy(), err_msg=str(name))


def test_weights_of_cells(model: dict[str, Any]) -> None:
    wanted = sjd.associate(array("y_missing"), weights=array("w"), **model)
    check(wanted, "cells_contrasts_missing")
    for chunks in ((14, 299), (3, 50)):
        lazy = sjd.associate(array("y_missing", chunks), weights=array("w", chunks), **model)
        same(lazy.compute(scheduler="synchronous"), wanted)
        held = sjd.associate(array("y_missing", chunks), weights=array("w"), **model)
        same(held.compute(scheduler="synchronous"), wanted)


def test_weights_of_samples(model: dict[str, Any]) -> None:
    own = pd.read_csv(HERE / "array_weights.tsv.gz", sep="\t")
    weights = pd.Series(own["auto"].to_numpy(), index=IDS)
    values = xr.DataArray(
        table("y").T, dims=("samples", "features"), coords={"sample_id": ("samples", IDS)}, name="expression"
    )
    check(sjd.associate(values, weights=weights, **model), "array_contrasts")
    wanted = sjd.associate(array("y_missing"), weights=weights, **model)
    given = xr.DataArray(weights.to_numpy(), dims="samples", coords={"sample_id": ("samples", IDS)})
    same(sjd.associate(array("y_missing"), weights=given.isel(samples=slice(None, None, -1)), **model), wanted)
    lazy = sjd.associate(array("y_missing", (5, 100)), weights=weights.sample(frac=1, random_state=0), **model)
    same(lazy.compute(scheduler="synchronous"), wanted)


def test_weights_of_samples_beside_missing_values(model: dict[str, Any]) -> None:
    """limma's contrasts then take the correlations of the design without weights, for every feature."""
    own = pd.read_csv(HERE / "array_weights.tsv.gz", sep="\t")
    weights = pd.Series(own["missing"].to_numpy(), index=IDS)
    found = sjd.associate(array("y_missing"), weights=weights, **model)
    check(found, "array_contrasts_missing")
    # The one missing value decides for the other stripes too, and only if its sample is used.
    values = array("y_missing").fillna(0.0)
    values[3, 250] = np.nan
    held = sjd.associate(values, weights=weights, **model)
    same(sjd.associate(values.chunk(samples=5, features=100), weights=weights, **model).compute(), held)
    sheet = model["samples"].assign(b=model["samples"]["b"].mask(model["samples"].index == "s03"))
    model = {**model, "samples": sheet}
    limma = sjd.associate(values, weights=weights, **model)
    exact = sjd.associate(values, weights=weights, **{**model, "na_contrasts": "exact"})
    for name in limma:
        np.testing.assert_allclose(limma[name], exact[name], rtol=1e-8, atol=1e-9, err_msg=str(name))


def test_order_and_selection(model: dict[str, Any], sheet: pd.DataFrame) -> None:
    """Weights in another order are aligned by id; samples that the design leaves out take theirs along."""
    sheet.loc["s03", "b"] = np.nan
    kept = [i for i in range(N) if i != 3]
    values, cells = array("y"), array("w")
    found = sjd.associate(
        values, weights=cells.isel(samples=slice(None, None, -1), features=slice(None, None, -1)), **model
    )
    few = sjd.associate(values.isel(samples=kept), weights=cells, **{**model, "samples": sheet.iloc[kept]})
    same(found, few)
    lazy = sjd.associate(array("y", (4, 60)), weights=array("w", (4, 60)), **model)
    same(lazy.compute(scheduler="synchronous"), found)


def test_nothing_is_computed_early(model: dict[str, Any]) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("computed while the graph was built")

    with dask.config.set(scheduler=refuse):
        sjd.associate(array("y", (4, 60)), weights=array("w", (4, 60)), **model)


def test_refusals(model: dict[str, Any]) -> None:
    y, w = array("y"), array("w")
    for weights, error, word in (
        (np.ones(N), SpecError, "sample ids"),
        (xr.DataArray(np.ones(N), dims="samples"), SpecError, "by position"),
        (w.isel(samples=slice(0, 9)), DataError, "5 of 14 samples"),
        (w.isel(features=slice(0, 9)), DataError, "290 of 299 features"),
        (pd.Series(np.ones(N), index=["s00"] * N), DataError, "more than once"),
        (array("w", (4, 60)), PlanRefused, "chunks"),
    ):
        with pytest.raises(error, match=word):
            sjd.associate(y, weights=weights, **model)
    with pytest.raises(PlanRefused, match=r"weights\.chunk"):
        sjd.associate(array("y", (4, 60)), weights=array("w", (4, 30)), **model)
    with pytest.raises(SpecError, match="weights"):
        sjd.associate(y, weights=w, precision="single", **model)
    with pytest.raises(SpecError, match="weights"):
        sjd.associate(y, weights=w, block="a", **model)
