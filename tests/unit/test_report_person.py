"""The page of a person: any number of visits, sheets that know little, texts of users."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import score
from sjd_dask.jobs.person_page_inputs import PersonInputs, open_questions, person_inputs
from sjd_dask.report import person_figures
from sjd_dask.report.person_page import render_person
from sjd_dask.simulate import Simulation


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


@pytest.mark.parametrize("n", [1, 9, 30])
def test_names_of_visits_and_words_on_bars_do_not_overlap(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(person_figures, "to_svg", lambda figure: drawn.append(figure) or "")
    visits = pd.DataFrame({"label": [f"20{i:02d}-01-01" for i in range(n)], "dominant": None})
    scores = ("essdai", "clinessdai", "esspri", "acr_eular")
    for one in scores:
        visits[[one, f"{one}_min", f"{one}_max"]] = 5.0
    axes = pd.DataFrame({"number": [1, 2, 3], "name": ["a", "b", "c"], "title": "axis", "unit": "points"})
    for axis in ("axis1", "axis2", "axis3"):
        visits[f"{axis}_state"] = "amplification"
        for measure in ("percentile", "position"):
            visits[[f"{axis}_{measure}_min", f"{axis}_{measure}_max"]] = [41.9, 90.8]
    scales = {one: {"title": one, "ends": (0, 123), "cuts": {"moderate": 5, "high": 14}} for one in scores}
    person_figures.scores_over_visits(visits, scores, scales)
    person_figures.axes_over_visits(visits, axes)
    for figure in drawn:
        figure.canvas.draw()
        for panel in figure.axes:
            ticks = [one for one in panel.get_xticklabels() if one.get_text() and one.get_visible()]
            for texts in (ticks, panel.texts):
                boxes = [one.get_window_extent() for one in texts]
                assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        names = {one.get_text() for one in figure.axes[-1].get_xticklabels()}
        assert names and names <= set(visits["label"])  # whole, not cut off
    # Where a cut is named no visit is drawn.
    for panel in drawn[0].axes:
        last = panel.transData.transform((n - 1, 0))[0]
        assert all(one.get_window_extent().x0 > last for one in panel.texts)


def test_the_best_reading_stands_beside_an_open_axis(tmp_path: Any) -> None:
    sheet = Simulation(300, 10, seed=1).clinical_sheet().reset_index()
    sheet.to_csv(tmp_path / "sheet.csv", index=False)
    scored = score(sheet, "axes")
    own = scored[scored["dominant"].isna() & scored["dominant_likely"].notna()].iloc[0]
    text = page(person_inputs(tmp_path / "sheet.csv", own["person_id"]))
    chance = 100 * own["dominant_likely_probability"]
    assert f"open; likely {own['dominant_likely']}, {chance:.0f} %" in text and "is a guess beside it" in text
