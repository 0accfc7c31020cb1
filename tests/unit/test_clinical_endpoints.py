"""Endpoints by axis, evidence of trials and templates: the tables say what the facts say, and answer to names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import endpoint_table, endpoints_for, score, trial_evidence, trial_template
from sjd_dask.clinical.axis_table import axis_table
from sjd_dask.clinical.trials.criteria import evaluate
from sjd_dask.errors import SpecError


def test_endpoints_read_axes() -> None:
    table = endpoint_table().set_index("endpoint")
    assert table.loc["essdai", ["systemic", "gland", "symptoms"]].tolist() == ["whole", "", ""]
    assert table.loc["esspri", ["systemic", "gland", "symptoms"]].tolist() == ["", "", "whole"]
    assert table.loc["star", ["systemic", "gland", "symptoms"]].tolist() == ["part"] * 3
    assert set(table["better"]) == {"lower", "higher"} and table["mark"].isin(list("PSK")).all()
    assert set(endpoints_for("gland")) == {"saliva", "schirmer", "ocular_staining", "ultrasound", "focus_score"}
    for endpoint in table.index:
        found = [axis for axis in ("systemic", "gland", "symptoms") if endpoint in endpoints_for(axis)]
        assert (endpoint in endpoints_for("none dominates")) == (not found)


def test_evidence_of_trials() -> None:
    table = trial_evidence().set_index("result_of")
    assert table.loc["joquer", ["response", "placebo", "n", "week"]].tolist() == [17.9, 17.2, 120, 24]
    assert table.loc["telitacicept_160", ["effect", "p"]].tolist() == [-4.3, 0.002]
    assert table.loc["telitacicept_240", ["effect", "p"]].tolist() == [-2.7, 0.056]
    assert table.loc["remibrutinib_essdai", ["effect", "p", "n"]].tolist() == [-2.86, 0.003, 73]
    assert [table.loc[name, "response"] for name in ("filgotinib", "lanraplenib", "tirabrutinib")] == [43, 42, 35]
    assert (table.loc[["filgotinib", "lanraplenib", "tirabrutinib"], "placebo"] == 27).all()
    assert table.loc[["iscalimab_1", "iscalimab_2"], "result"].tolist() == ["met", "not met"]
    assert table.loc[["dazodalibep_1", "dazodalibep_2"], "result"].tolist() == ["met", "met"]
    assert table.loc[["dazodalibep_1", "dazodalibep_2"], "mark"].tolist() == ["S", "S"]
    assert set(table["result"]) == {"met", "not met", "response", "reported"}
    assert table.loc["joquer", "matched"] and pd.isna(table.loc["filgotinib", "matched"])
    assert table.loc["filgotinib", "reads"] == ""


def test_evidence_by_axis_and_endpoint() -> None:
    gland = trial_evidence(axis="gland")
    assert gland["drug"].tolist() == ["belimumab then rituximab"]
    esspri = trial_evidence(axis="symptoms", endpoint="esspri")
    assert set(esspri["drug"]) == {"iscalimab", "dazodalibep", "remibrutinib"} and esspri["matched"].all()
    assert trial_evidence(axis="gland", endpoint="esspri").empty
    for wrong in ({"axis": "systemc"}, {"endpoint": "essda"}):
        with pytest.raises(SpecError, match="did you mean"):
            trial_evidence(**wrong)
    with pytest.raises(SpecError, match="no axis 'serology'"):
        endpoints_for("serology")


@pytest.mark.parametrize(
    ("row", "first", "second"),
    [
        ({"essdai": 5, "dryness": 5, "fatigue": 5, "pain": 5}, 1, 0),
        ({"essdai": 4, "dryness": 5, "fatigue": 0, "pain": 0}, 0, 1),
        ({"essdai": 4, "dryness": 4.9, "fatigue": 5, "pain": 0}, 0, 1),
        ({"essdai": 4, "dryness": 4.9, "fatigue": 4.9, "pain": 10}, 0, 0),
        ({"essdai": 5, "dryness": 5, "fatigue": 5, "pain": 4.9}, 0, 0),
        ({"essdai": 5, "dryness": 8, "fatigue": 8, "pain": np.nan}, 1, 0),
        ({"essdai": 5, "dryness": 5, "fatigue": 5, "pain": np.nan}, np.nan, 0),
        ({"essdai": 4, "dryness": np.nan, "fatigue": 6, "pain": 1}, 0, 1),
        ({"essdai": np.nan, "dryness": 6, "fatigue": 6, "pain": 6}, np.nan, np.nan),
    ],
)
def test_cohorts_of_finished_trials(row: dict[str, float], first: float, second: float) -> None:
    frame = pd.DataFrame([{"sample_id": "S1", **row}])
    for name, wanted in (("twinss_1", first), ("twinss_2", second)):
        template = trial_template(name)
        joined = pd.concat([frame[["dryness", "fatigue"]], score(frame, template["measures"])], axis=1)
        answers = [float(evaluate(rule["when"], joined)[0]) for rule in template["include"]]
        found = 0.0 if 0.0 in answers else np.nan if np.isnan(answers).any() else 1.0
        np.testing.assert_equal(found, wanted)
    with pytest.raises(SpecError, match="did you mean 'twinss_1'"):
        trial_template("twins_1")


def test_axes_in_long_form() -> None:
    frame = pd.DataFrame(
        {"sample_id": [f"S{i}" for i in range(25)], "person_id": "P", "essdai": range(25), "esspri": 1.0, "saliva": 1.0}
    )
    table = axis_table(score(frame, "axes"))
    assert len(table) == 75 and table["sample_id"].tolist()[:4] == ["S0", "S0", "S0", "S1"]
    assert table["axis"].tolist()[:3] == ["systemic", "gland", "symptoms"]
    assert table.loc[table["axis"] == "systemic", "position"].tolist() == list(range(25))
    assert table.loc[table["axis"] == "gland", "state"].isna().all()
    assert table["is_dominant"].isna().all() and table["unit"].str.len().gt(0).all()
    with pytest.raises(SpecError, match="score the measure"):
        axis_table(frame)
