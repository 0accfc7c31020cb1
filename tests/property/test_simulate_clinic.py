"""The simulated clinical sheet: it agrees with the sample sheet, and no row hangs on how many there are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.clinical import Sheet, score
from sjd_dask.simulate import Simulation


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_items_agree_with_the_sample_sheet(seed: int) -> None:
    simulation = Simulation(500, 5, seed=seed)
    whole, sheet = simulation.clinical_sheet(complete=True), simulation.samples()
    assert whole.index.tolist() == sheet.index[sheet["disease"] == "patient"].tolist()
    sheet = sheet.loc[whole.index]
    assert not whole.isna().any().any()
    Sheet.read(whole).check()  # every column is known, every value allowed and plausible
    found = score(whole, ["essdai", "esspri"]).set_index("sample_id")
    np.testing.assert_array_equal(found["essdai"], sheet["essdai"])
    np.testing.assert_allclose(found["esspri"], sheet["esspri"], atol=0.006)
    np.testing.assert_array_equal(whole[["schirmer_right", "schirmer_left"]].min(axis=1), sheet["schirmer"])
    for name in ("igg", "anti_ssa"):
        np.testing.assert_array_equal(whole[name], sheet[name])
    # Blood counts propose the level that is recorded.
    np.testing.assert_array_equal(found["haematological_proposed"], whole["haematological"])


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 120), more=st.integers(1, 200))
def test_rows_of_a_larger_cohort_are_the_same(seed: int, n: int, more: int) -> None:
    small, large = (Simulation(size, 5, seed=seed).clinical_sheet() for size in (n, n + more))
    pd.testing.assert_frame_equal(small, large.loc[small.index])


def test_holes_take_values_out_and_change_none() -> None:
    simulation = Simulation(1500, 5, seed=2)
    whole, holes = simulation.clinical_sheet(complete=True), simulation.clinical_sheet()
    known = holes.notna()
    assert (whole.where(known).fillna(-1) == holes.fillna(-1)).all().all()
    share = 1 - known.mean()
    assert share["renal"] == pytest.approx(0.03, abs=0.015) and share["sgus_hocevar"] == pytest.approx(0.4, abs=0.05)
    # A biopsy is taken at the first visit only; an examination is recorded as a whole or not at all.
    assert holes.loc[holes["visit"] > 1, "focus_score"].isna().all()
    assert (known["oss_right"] == known["van_bijsterveld_left"]).all()
    # A total under missing domains holds the true one.
    found, true = score(holes, "essdai"), score(whole, "essdai")["essdai"]
    assert ((found["essdai_min"] <= true) & (true <= found["essdai_max"])).all()
    assert found["essdai"].isna().any()
