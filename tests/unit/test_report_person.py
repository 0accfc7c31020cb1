"""The page of a person: any number of visits, sheets that know little, texts of users."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.jobs.person_page_inputs import PersonInputs, open_questions, person_inputs
from sjd_dask.report.person_page import render_person


def inputs(path: Any, text: str, person: str = "P1", **options: Any) -> PersonInputs:
    file = path / "sheet.csv"
    file.write_text(text, encoding="utf-8")
    return person_inputs(file, person, **options)


def page(found: PersonInputs) -> str:
    return render_person(
        found.person, found.visits, sheet=found.sheet, axes=found.axes, scales=found.scales,
        open_questions=found.open, reference=found.reference, notes=found.notes,
    )  # fmt: skip


def test_visits_go_by_date_and_number_and_others_are_left_out(tmp_path: Any) -> None:
    text = (
        "sample_id,person_id,visit,dryness,fatigue,pain\n01,P1,10,1,1,1\n02,P2,1,9,9,9\n03,P1,2,5,5,\n04,P1,1,8,8,8\n"
    )
    found = inputs(tmp_path, text)
    assert found.visits["sample_id"].tolist() == ["04", "03", "01"] and found.visits["label"].tolist() == [
        "1",
        "2",
        "10",
    ]
    assert found.visits["esspri"].tolist()[::2] == [8, 1] and np.isnan(found.visits["esspri"].iloc[1])
    dated = text.replace("visit", "date").replace(",10,", ",2020-01-01,").replace(",2,5", ",2022-01-01,5")
    dated = dated.replace("P1,1,", "P1,2021-01-01,").replace("P2,1,", "P2,2021-01-01,")
    assert inputs(tmp_path, dated).visits["sample_id"].tolist() == ["01", "04", "03"]


def test_what_is_missing_is_listed_for_what_is_open_only(tmp_path: Any) -> None:
    text = "sample_id,person_id,visit,anti_ssa,focus_score,dryness,fatigue,pain\nA,P1,1,1,,2,2,2\nB,P1,2,1,3,5,5,\n"
    found = inputs(tmp_path, text)
    asked = {(row.label, row.question): (row.so_far, row.missing) for row in found.open.itertuples()}
    missing = "focal_lymphocytic_sialadenitis, ocular_staining, schirmer, unstimulated_saliva"
    assert asked[("1", "2016 ACR/EULAR class")] == ("3 to 9", missing)
    assert asked[("2", "acceptable symptoms (ESSPRI)")] == ("3.33 to 6.67", "pain")
    assert ("2", "2016 ACR/EULAR class") not in asked and ("1", "acceptable symptoms (ESSPRI)") not in asked
    # The points are there, but who enters and is excluded was not asked.
    assert "entry not recorded; exclusions not recorded: head_neck_radiation" in asked[("2", "entry and exclusions")][1]
    nothing = open_questions(found.visits.iloc[:0], found.measures)
    assert nothing.empty


def test_many_visits_make_a_page(tmp_path: Any) -> None:
    n = 30
    rng = np.random.default_rng(n)
    frame = pd.DataFrame({"sample_id": [f"S{i}" for i in range(n)], "person_id": "P1", "visit": np.arange(n) + 1})
    for name in ("dryness", "fatigue", "pain"):
        frame[name] = rng.integers(0, 11, n)
    found = inputs(tmp_path, frame.to_csv(index=False))
    text = page(found)
    assert text.count("<img") == 2 and text.count("<tr>") == 2 * (n + 1) + 1 + len(found.open) and len(text) < 1_000_000


def test_a_row_without_a_person_is_one_and_texts_are_escaped(tmp_path: Any) -> None:
    text = "sample_id,person_id,visit,anti_ssa\n<b>$x$</b>,,<i>$1,1\nB,P1,1,0\n"
    found = inputs(tmp_path, text, "<b>$x$</b>")
    text = page(found)
    assert not re.search(r"<b>\$|<i>\$|<script", text) and "&lt;b&gt;" in text
    assert text.count("<img") == 1 and "3 to 9" in text and "Three axes" not in text and "Gland tests" not in text


def test_a_response_that_can_not_be_read_is_told_and_ends_nothing(tmp_path: Any) -> None:
    found = inputs(tmp_path, "sample_id,person_id,visit,dryness,fatigue,pain\nA,P1,start,5,5,5\nB,P1,end,2,2,2\n")
    assert any("change is left out" in note and "nothing tells" in note for note in found.notes)
    named = inputs(
        tmp_path, "sample_id,person_id,visit,dryness,fatigue,pain\nA,P1,start,5,5,5\nB,P1,end,2,2,2\n",
        baseline="visit == 'start'",
    )  # fmt: skip
    assert not named.notes and named.visits.set_index("label").loc["end", "esspri_improved"] == "yes"


def test_a_reference_of_few_people_leaves_positions_and_says_why_once(tmp_path: Any) -> None:
    found = inputs(tmp_path, "sample_id,person_id,visit,dryness,fatigue,pain\nA,P1,1,5,5,5\nB,P1,2,2,2,2\n")
    text = page(found)
    assert "sheet.csv has no percentiles: positions in their own units" in text
    assert (
        text.split("What is missing to decide</h2>")[0].count("axis systemic, 20 needed") == 1
        and ">percentile<" not in text
    )
