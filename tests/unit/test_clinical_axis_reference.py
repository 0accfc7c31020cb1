"""A reference cohort of axes: persons count once, files come back the same, what doesn't compare is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import AxisReference, Sheet, axis_positions, score
from sjd_dask.clinical.axes import place
from sjd_dask.errors import DataError, SpecError


def sheet(n: int = 60, seed: int = 3) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "sample_id": [f"S{i:03d}" for i in range(n)],
            "person_id": [f"P{i // 2:03d}" for i in range(n)],
            "visit": np.arange(n) % 2,
            "essdai": random.integers(0, 25, n).astype(float),
            "esspri": np.round(random.uniform(0, 10, n), 1),
            "saliva_unstimulated": np.round(random.uniform(0, 1, n), 2),
        }
    )


def test_a_person_counts_once() -> None:
    frame = sheet(8).assign(essdai=[0.0, 10, 2, 2, 4, 6, 8, np.nan])
    reference = AxisReference.fit(Sheet.read(frame), "small")
    one = reference.axes["systemic"]
    assert one.n_persons == 4
    assert dict(zip(one.steps.tolist(), one.weights.tolist(), strict=True)) == {
        0: 0.5,
        2: 1,
        4: 0.5,
        6: 0.5,
        8: 1,
        10: 0.5,
    }
    np.testing.assert_allclose(
        one.percentile(np.array([-1, 0, 2, 3, 10, 11, np.nan])), [0, 6.25, 25, 37.5, 93.75, 100, np.nan]
    )
    alone = AxisReference.fit(Sheet.read(frame.assign(person_id=None)), "rows")
    assert alone.axes["systemic"].n_persons == 7 and set(alone.axes["systemic"].weights) == {1.0, 2.0}


def test_order_and_partitions_of_the_cohort_change_no_bit() -> None:
    frame = sheet(300)
    frame["person_id"] = [f"P{i % 70}" for i in range(300)]
    whole = AxisReference.fit(Sheet.read(frame), "x")
    turned = AxisReference.fit(Sheet.read(frame.sample(frac=1, random_state=1)), "x")
    assert json.dumps(whole.to_dict()) == json.dumps(turned.to_dict())
    parts = [axis_positions(Sheet.read(part)) for part in (frame.iloc[:100], frame.iloc[100:])]
    joined = AxisReference.from_positions(pd.concat(parts), "x", persons=frame["person_id"].to_numpy())
    assert json.dumps(whole.to_dict()["axes"]) == json.dumps(joined.to_dict()["axes"])
    pd.testing.assert_frame_equal(
        score(frame, "axes", reference=whole).iloc[100:].reset_index(drop=True),
        score(frame.iloc[100:], "axes", reference=whole),
    )


def test_complete_takes_the_same_people_on_all_axes() -> None:
    frame = sheet(60)
    frame.loc[:29, "esspri"] = np.nan
    given = {"axes": {"gland_tests": {name: {"in_position": False} for name in ("schirmer", "staining", "ultrasound")}}}
    read = Sheet.read(frame)
    loose = AxisReference.fit(read, "x", definitions=given)
    strict = AxisReference.fit(read, "x", definitions=given, complete=True)
    assert [one.n_persons for one in loose.axes.values()] == [30, 30, 15]
    assert [one.n_persons for one in strict.axes.values()] == [15, 15, 15]


def test_a_file_gives_the_same_numbers(tmp_path: Path) -> None:
    frame = sheet()
    reference = AxisReference.fit(Sheet.read(frame), "Basel 2024")
    reference.write(tmp_path / "reference.json")
    text = (tmp_path / "reference.json").read_text()
    assert "P000" not in text and "S000" not in text
    wanted = score(frame, "axes")
    for given in (reference, reference.to_dict(), tmp_path / "reference.json", str(tmp_path / "reference.json")):
        found = score(frame, "axes", reference=given)
        assert found["axes_reference"].unique().tolist() == ["Basel 2024"]
        pd.testing.assert_frame_equal(found.drop(columns="axes_reference"), wanted.drop(columns="axes_reference"))


def test_positions_of_another_definition_are_refused() -> None:
    frame = sheet()
    reference = AxisReference.fit(Sheet.read(frame), "x")
    saliva = {"axes": {"gland_instruments": {"saliva": {"position": [1, 0.6, 0]}}}}
    with pytest.raises(SpecError, match="fitted with other definitions"):
        score(frame, "axes", reference=reference, definitions=saliva)
    with pytest.raises(SpecError, match="fitted with other definitions"):
        score(frame, "axes", reference=reference, domains=["renal"])
    # A cut-off of a state, or the margin, moves no position.
    later = {"axes": {"axes": {"systemic": {"at_least": 14}}, "dominance": {"margin": {"percentiles": 20}}}}
    assert score(frame, "axes", reference=reference, definitions=later)["axis1_percentile"].notna().all()


def test_domains_make_a_reference_of_their_own() -> None:
    frame = pd.DataFrame({"sample_id": [f"S{i}" for i in range(40)], "renal": [0, 1, 2, 3] * 10, "articular": 1})
    reference = AxisReference.fit(Sheet.read(frame), "two domains", domains=["renal", "articular"])
    assert reference.axes["systemic"].steps.tolist() == [2, 7, 12, 17]
    found = score(frame, "axes", reference=reference, domains="articular,renal")
    assert found["axis1_percentile"].tolist() == [12.5, 37.5, 62.5, 87.5] * 10


def test_what_is_no_reference(tmp_path: Path) -> None:
    frame = sheet()
    with pytest.raises(SpecError, match="can't be read"):
        score(frame, "axes", reference=tmp_path / "absent.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        score(frame, "axes", reference=tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(DataError, match="no reference of axes"):
        score(frame, "axes", reference=tmp_path / "b.json")
    good = AxisReference.fit(Sheet.read(frame), "x").to_dict()
    with pytest.raises(DataError, match="format 2"):
        AxisReference.from_dict({**good, "format": 2})
    with pytest.raises(DataError, match="damaged: KeyError"):
        AxisReference.from_dict({key: value for key, value in good.items() if key != "fingerprint"})
    turned = {**good, "axes": {**good["axes"], "systemic": {**good["axes"]["systemic"], "steps": [3, 2, 1]}}}
    with pytest.raises(DataError, match="don't ascend"):
        AxisReference.from_dict(turned)
    with pytest.raises(DataError, match="lacks"):
        AxisReference.from_dict({**good, "axes": {"systemic": good["axes"]["systemic"]}})
    with pytest.raises(SpecError, match="needs a name"):
        AxisReference.fit(Sheet.read(frame), " ")
    with pytest.raises(SpecError, match="grid of 1e-09"):
        AxisReference.fit(Sheet.read(frame), "x", definitions={"axes": {"axes": {"symptoms": {"grid": 1e-9}}}})


def test_placing_is_all_that_hangs_on_the_reference() -> None:
    frame = sheet()
    positions = axis_positions(Sheet.read(frame))
    reference = AxisReference.fit(Sheet.read(frame), "x")
    placed = place(positions, reference)
    whole = score(frame, "axes", reference=reference)
    pd.testing.assert_frame_equal(whole[[*positions.columns, *placed.columns]], pd.concat([positions, placed], axis=1))
