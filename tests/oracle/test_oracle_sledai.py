"""SLEDAI of a public lupus cohort, summed again from its 24 items, against the total deposited beside them.

GSE65391 (Banchereau 2016): 618 visits of lupus patients and 55 arrays of healthy people, whose items read
"Not Applicable". Each item is deposited as its points.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import load_definition, score

# The deposited total is one point less than the items; each has a one-point item that the total leaves out.
DISAGREE = {"GSM1594689": ("leukopenia", 13, 12), "GSM1595000": ("leukopenia", 17, 16), "GSM1595041": ("fever", 3, 2)}


@pytest.fixture(scope="module")
def phenotype(reference_data: Path) -> pd.DataFrame:
    path = reference_data / "data" / "sle_wb_GSE65391_training" / "phenotype.csv"
    return pd.read_csv(path, index_col=0, dtype=str, keep_default_na=False).rename_axis("sample_id")


def test_three_of_618_totals_differ_from_their_items(phenotype: pd.DataFrame) -> None:
    result = score(phenotype, "sledai").set_index("sample_id")
    patients = phenotype["disease_state"] == "SLE"
    assert patients.sum() == 618 and (result["sledai_known"][patients] == 24).all()
    recorded = phenotype["sledai"][patients].astype(float)
    differ = result["sledai"][patients] != recorded
    assert set(differ[differ].index) == set(DISAGREE)
    flagged = result.index[result["sledai_reason"].str.contains("disagrees")]
    assert set(flagged) == set(DISAGREE)
    for sample, (item, summed, deposited) in DISAGREE.items():
        assert (result["sledai"][sample], result["sledai_recorded"][sample]) == (summed, deposited)
        assert phenotype.loc[sample, item] == "1"


def test_healthy_people_have_no_score_instead_of_0(phenotype: pd.DataFrame) -> None:
    healthy = phenotype["disease_state"] == "Healthy"
    result = score(phenotype[healthy], "sledai")
    assert len(result) == 55 and result["sledai"].isna().all()
    assert (result["sledai_min"] == 0).all() and (result["sledai_max"] == 105).all()
    assert (result["sledai_known"] == 0).all()


def test_without_an_item_the_interval_holds_the_sum(phenotype: pd.DataFrame) -> None:
    items = list(load_definition("sledai")["items"])
    patients = phenotype.loc[phenotype["disease_state"] == "SLE", items].iloc[::12]
    whole = score(patients, "sledai")["sledai"].to_numpy()
    for item, entry in load_definition("sledai")["items"].items():
        partial = score(patients.assign(**{item: "Not Applicable"}), "sledai")
        points = pd.to_numeric(patients[item]).to_numpy()
        np.testing.assert_array_equal(partial["sledai_min"], whole - points)
        np.testing.assert_array_equal(partial["sledai_max"], whole - points + entry["weight"])
        assert set(partial["sledai_reason"]) == {f"missing: {item}"}
