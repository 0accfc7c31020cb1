"""The one function that scores: what it asks, returns and refuses, the same for every measure."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import sjd_dask as sjd
from sjd_dask.clinical import MEASURES, Sheet, load_definition, score
from sjd_dask.clinical.measures import computable, find_measure, text_kept
from sjd_dask.errors import SpecError

OWN = ("essdai", "clinessdai", "esspri", "laboratory", "sledai")
FRAME = pd.DataFrame(
    {
        "sample_id": ["01", "02"],
        "person_id": ["p", "p"],
        "visit": [1, 2],
        "renal": [1, None],
        "dryness": [5, 6],
        "fatigue": [5, 6],
        "pain": [5, None],
        "anti_ssa": ["yes", ""],
        "hb": [9.0, 13.0],
        "fever": [1, 0],
    }
)


@pytest.mark.parametrize("name", list(MEASURES))
def test_a_measure_is_described_whole(name: str) -> None:
    measure = MEASURES[name]
    assert measure.name == name and measure.title and callable(measure.function)
    assert measure.columns and {kind for kind, _ in measure.columns.values()} <= {"number", "integer", "text", "flag"}
    known = load_definition("columns")["columns"]
    assert set(measure.needs) <= set(known)
    assert "definitions" in inspect.signature(measure.function).parameters


@pytest.mark.parametrize("name", OWN)
def test_a_measure_returns_the_columns_it_promises(name: str) -> None:
    result = score(FRAME, name)
    assert list(result.columns) == ["sample_id", "person_id", "visit", *MEASURES[name].columns]
    for column, (kind, _) in MEASURES[name].columns.items():
        wanted = {"number": "f", "flag": "f", "integer": "i", "text": "O"}[kind]
        assert result[column].dtype.kind == wanted, column


def test_ids_come_first_then_each_measure_in_the_order_asked() -> None:
    result = score(FRAME, ["esspri", "essdai"])
    assert list(result.columns[:4]) == ["sample_id", "person_id", "visit", "esspri"]
    assert list(result.columns).index("essdai") > list(result.columns).index("esspri_reason")
    assert result["sample_id"].tolist() == ["01", "02"]


def test_names_with_hyphens_and_twice() -> None:
    assert find_measure("Clin-ESSDAI".replace("-", "")).name == "clinessdai"
    assert find_measure("acr-eular").name == "acr_eular"
    assert not score(FRAME, ["esspri", "ESSPRI"]).columns.duplicated().any()


def test_what_a_sheet_has_columns_for() -> None:
    assert set(OWN) <= set(computable(Sheet.read(FRAME)))
    only = computable(Sheet.read(FRAME[["sample_id", "pain"]]))
    assert "esspri" in only and not {"essdai", "sledai", "laboratory"} & set(only)


@pytest.mark.parametrize(
    ("measures", "options", "says"),
    [
        ("esdai", {}, "did you mean 'essdai'"),
        ([], {}, "no measure was asked for"),
        ("essdai", {"domians": ["renal"]}, "did you mean 'domains'"),
        ("esspri", {"domains": ["renal"]}, "none of esspri takes an option 'domains'"),
        ("esspri", {"definitions": {"espri": {}}}, "did you mean 'esspri'"),
    ],
)
def test_what_cannot_be_asked(measures: object, options: dict[str, object], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        score(FRAME, measures, **options)  # type: ignore[arg-type]


def test_an_option_goes_to_the_measures_that_take_it() -> None:
    assert score(FRAME, ["esspri", "essdai"], domains=["renal"])["essdai_items"].tolist() == [1, 1]


def test_a_sheet_with_none_of_a_measures_columns_is_refused_with_what_nearly_fits() -> None:
    with pytest.raises(SpecError, match=r"esspri needs at least one of .*dryness.*'drynes' .did you mean 'dryness'"):
        score(pd.DataFrame({"sample_id": ["a"], "drynes": [1]}), "esspri")


def test_a_dataset_scores_as_its_table() -> None:
    dataset = xr.Dataset(
        {name: ("samples", FRAME[name].to_numpy()) for name in ("dryness", "fatigue", "pain")},
        coords={"sample_id": ("samples", FRAME["sample_id"].tolist())},
    )
    expected = score(FRAME.drop(columns=["person_id", "visit"]), "esspri")
    made = score(dataset, "esspri")
    assert made["esspri"].dims == ("samples",) and "sample_id" in made.coords
    table = made.to_dataframe().reset_index(drop=True)[list(expected)]
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)


def test_an_empty_sheet_gives_an_empty_table_of_the_same_types() -> None:
    whole, none = score(FRAME, list(OWN)), score(FRAME.iloc[:0], list(OWN))
    assert len(none) == 0 and list(none.columns) == list(whole.columns)
    for column in MEASURES["essdai"].columns:
        assert none[column].dtype == whole[column].dtype, column


def test_the_public_names_are_functions_also_after_their_modules_were_imported() -> None:
    import sjd_dask.clinical.essdai  # noqa: F401  # binds the module of that name, or would

    assert callable(sjd.clinical.essdai) and callable(sjd.clinical.esspri) and sjd.clinical.score is score
    with pytest.raises(AttributeError, match="esdai"):
        sjd.clinical.esdai  # noqa: B018


def test_texts_stay_objects_also_where_there_are_none() -> None:
    made = text_kept({"a": np.array(["x", None], dtype=object), "b": np.array([None, None], dtype=object), "c": [1, 2]})
    assert [made[name].dtype.kind for name in made] == ["O", "O", "i"] and made["a"].tolist() == ["x", None]
