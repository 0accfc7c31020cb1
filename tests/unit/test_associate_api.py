"""`associate` on NumPy and Dask: laziness, equal bits, alignment by id, and refusals."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import sjd_dask as sjd
from sjd_dask import names
from sjd_dask.errors import DataError, DesignError, PlanRefused, SpecError
from sjd_dask.kernels.methylation import beta_to_m

N, F = 130, 90
RNG = np.random.default_rng(4)
IDS = [f"s{i:03d}" for i in range(N)]
DISEASE = np.where(RNG.random(N) < 0.5, "patient", "control")


def _values() -> np.ndarray:
    values = np.random.default_rng(5).normal(6, 1, (N, F))
    values[np.random.default_rng(6).random((N, F)) < 0.03] = np.nan
    values[:, 3] = np.nan
    values[DISEASE == "patient", 5] = np.nan
    values[:, 7] = 1.5
    return values


def _array(values: Any) -> xr.DataArray:
    return xr.DataArray(
        values,
        dims=("samples", "features"),
        coords={"sample_id": ("samples", IDS), "feature_id": ("features", [f"f{i}" for i in range(F)])},
        name="expression",
    )


@pytest.fixture
def sheet() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {"disease": DISEASE, "age": rng.normal(50, 9, N), "person": [f"p{i // 2}" for i in range(N)]},
        index=pd.Index(IDS, name="sample_id"),
    )
    frame.loc["s010", "age"] = np.nan
    return frame.sample(frac=1, random_state=1)


class Counting:
    """A scheduler that counts how often it is asked to compute."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, graph: Any, keys: Any, **options: Any) -> Any:
        self.calls += 1
        return dask.get(graph, keys, **options)


def _same(one: xr.Dataset, other: xr.Dataset) -> None:
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name].to_numpy(), other[name].to_numpy(), err_msg=str(name))


def test_numbers_are_those_of_least_squares(sheet: pd.DataFrame) -> None:
    values = _values()
    found = sjd.associate(_array(values), design="~ disease + age", samples=sheet, moderation="none")
    ordered = sheet.loc[IDS]
    matrix = np.column_stack([np.ones(N), ordered["disease"] == "patient", ordered["age"]]).astype(float)
    there = np.isfinite(values[:, 0]) & np.isfinite(matrix).all(axis=1)
    beta, rest, *_ = np.linalg.lstsq(matrix[there], values[there, 0], rcond=None)
    error = np.sqrt(rest[0] / (there.sum() - 3) * np.diag(np.linalg.inv(matrix[there].T @ matrix[there])))
    assert found[names.CONTRAST].to_numpy().tolist() == ["disease[T.patient]", "age"]
    np.testing.assert_allclose(found[names.FEATURE_EFFECT][:, 0], beta[1:], rtol=1e-9)
    np.testing.assert_allclose(found[names.FEATURE_STANDARD_ERROR][:, 0], error[1:], rtol=1e-9)
    np.testing.assert_allclose(found[names.FEATURE_T_STATISTIC][:, 0], (beta / error)[1:], rtol=1e-9)
    assert found[names.FEATURE_N_SAMPLES][0] == there.sum()
    assert found.attrs["n_samples"] == N - 1
    assert found.attrs["samples_left_out"] == ["missing age: 1"]


@pytest.mark.parametrize("chunks", [(64, 40), (7, 33), (-1, 10), (50, -1)])
@pytest.mark.parametrize("precision", ["double", "single"])
def test_dask_stays_lazy_and_gives_the_same_bits(sheet: pd.DataFrame, chunks: tuple[int, int], precision: Any) -> None:
    options: dict[str, Any] = {"design": "~ disease + age", "samples": sheet, "precision": precision}
    counting = Counting()
    data = da.from_array(_values(), chunks=chunks)
    with dask.config.set(scheduler=counting):
        lazy = sjd.associate(_array(data), **options)
        assert counting.calls == 0
    for name in lazy:
        assert dask.is_dask_collection(lazy[name].data), name
        if names.FEATURES in lazy[name].dims:
            assert lazy[name].data.chunks[-1] == data.chunks[1]
    with dask.config.set(scheduler="synchronous"):
        _same(lazy.compute(), sjd.associate(_array(_values()), **options))


@pytest.mark.parametrize("test", ["wilcoxon", "kruskal", "welch"])
def test_tests_between_groups_need_one_chunk_of_samples(sheet: pd.DataFrame, test: Any) -> None:
    options: dict[str, Any] = {"design": "~ disease", "samples": sheet, "test": test}
    whole = _array(da.from_array(_values(), chunks=(-1, 32)))
    found = sjd.associate(_array(_values()), **options)
    _same(sjd.associate(whole, **options).compute(scheduler="synchronous"), found)
    assert np.isnan(found[names.FEATURE_P_VALUE][0, 3])
    with pytest.raises(PlanRefused, match=r'data.chunk\(\{"samples": -1'):
        sjd.associate(_array(da.from_array(_values(), chunks=(50, 32))), **options)


@pytest.mark.parametrize("test", ["linear", "wilcoxon", "kruskal", "welch"])
def test_an_infinite_cell_is_missing_in_every_test(sheet: pd.DataFrame, test: Any) -> None:
    values, holed = _values(), _values()
    values[[2, 40], 11], values[9, 12] = np.inf, -np.inf
    holed[[2, 40], 11] = holed[9, 12] = np.nan
    options: dict[str, Any] = {"design": "~ disease", "samples": sheet, "test": test}
    found = sjd.associate(_array(values), **options)
    _same(found, sjd.associate(_array(holed), **options))
    assert np.isfinite(found[names.FEATURE_P_VALUE][0, 11:13]).all()


def test_repeated_measures_are_lazy_too(sheet: pd.DataFrame) -> None:
    options: dict[str, Any] = {"design": "~ disease", "samples": sheet, "block": "person"}
    whole = _array(da.from_array(_values(), chunks=(-1, 32)))
    found = sjd.associate(_array(_values()), **options)
    _same(sjd.associate(whole, **options).compute(scheduler="synchronous"), found)
    with pytest.raises(PlanRefused, match="block needs all"):
        sjd.associate(_array(da.from_array(_values(), chunks=(50, 32))), **options)
    with pytest.raises(SpecError, match="not a sample column"):
        sjd.associate(_array(_values()), design="~ disease", samples=sheet, block="family")


def test_betas_are_tested_as_m_values(sheet: pd.DataFrame) -> None:
    betas = _array(np.random.default_rng(8).beta(2, 5, (N, F))).rename("beta")
    found = sjd.associate(betas, design="~ age", samples=sheet, quantity="m_value")
    _same(found, sjd.associate(_array(beta_to_m(betas.to_numpy())), design="~ age", samples=sheet))
    with pytest.raises(SpecError, match=r"only 'm_value' of 'beta'"):
        sjd.associate(_array(betas.to_numpy()), design="~ age", samples=sheet, quantity="m_value")


def test_sample_columns_may_be_coordinates_or_a_column_of_ids(sheet: pd.DataFrame) -> None:
    found = sjd.associate(_array(_values()), design="~ age", samples=sheet)
    _same(found, sjd.associate(_array(_values()), design="~ age", samples=sheet.reset_index()))
    own = _array(_values()).assign_coords(age=("samples", sheet.loc[IDS, "age"]))
    _same(found, sjd.associate(own, design="~ age"))
    _same(found, sjd.associate(own.transpose(), design="~ age"))


def test_ids_that_do_not_match_are_named(sheet: pd.DataFrame) -> None:
    data = _array(_values())
    with pytest.raises(DataError, match=r"2 of 130 samples.*s004, s008"):
        sjd.associate(data, design="~ age", samples=sheet.drop(index=["s008", "s004"]))
    with pytest.raises(DataError, match="more than once in the sample sheet: s004"):
        sjd.associate(data, design="~ age", samples=pd.concat([sheet, sheet.loc[["s004"]]]))
    with pytest.raises(SpecError, match="never matched by position"):
        sjd.associate(data.drop_vars("sample_id"), design="~ age", samples=sheet)


def test_options_are_checked_before_anything_is_done(sheet: pd.DataFrame) -> None:
    data = _array(_values())
    for options, said in (
        ({"test": "anova"}, "test is one of"),
        ({"moderation": "full"}, "moderation is one of"),
        ({"na_contrasts": "some"}, "na_contrasts is one of"),
        ({"precision": "half"}, "precision is one of"),
        ({"test": "kruskal", "contrasts": ["age"]}, "belong to test='linear'"),
        ({"contrasts": ["height"]}, "names the coefficient"),
    ):
        with pytest.raises(SpecError, match=said):
            sjd.associate(data, design="~ disease + age", samples=sheet, **options)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="dims"):
        sjd.associate(data.rename(samples="people"), design="~ age", samples=sheet)
    with pytest.raises(DesignError, match="only the level"):
        sjd.associate(data, design="~ disease", samples=sheet.assign(disease="patient"))


def test_package_can_be_called_after_it_was_imported(sheet: pd.DataFrame) -> None:
    import sjd_dask.associate as package
    from sjd_dask.designs.design import build_design

    assert build_design("~ age", sheet).columns == ("Intercept", "age")
    _same(
        package(_array(_values()), design="~ age", samples=sheet),  # type: ignore[operator]
        sjd.associate(_array(_values()), design="~ age", samples=sheet),
    )
