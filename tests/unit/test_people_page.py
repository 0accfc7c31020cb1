"""Who is on the page of all people, at which visit, and what is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import SpecError
from sjd_dask.jobs.people_page_inputs import people_inputs


def write(folder: Path, visits: tuple[object, object], n: int = 12) -> Path:
    """n people at two visits; everybody improves, and one fatigue in four is not recorded at the first."""
    rows = [
        {
            "sample_id": f"{visit}-{i}", "person_id": f"P{i:02d}", "visit": visit, "dryness": 8 - 4 * late,
            "fatigue": np.nan if i % 4 == 0 and not late else 8 - 4 * late, "pain": 8 - 4 * late,
            "schirmer": 3 + 10 * (i % 2), "anti_ssa": 1,
        }
        for i in range(n)
        for late, visit in enumerate(visits)
    ]  # fmt: skip
    file = folder / "sheet.csv"
    pd.DataFrame(rows).sample(frac=1, random_state=1).to_csv(file, index=False)
    return file


def test_first_visits_are_shown_and_responses_are_of_the_newest(tmp_path: Path) -> None:
    found = people_inputs(write(tmp_path, (1, 2)), below=2)
    assert (found.n_persons, found.n_visits, found.which) == (12, 24, "first visit")
    assert found.scores["esspri"].known == 9 and found.scores["esspri"].unknown == 3
    assert found.scores["esspri"].quartiles == (8.0, 8.0, 8.0)
    assert ("esspri", "fatigue", 3) in found.missing
    # Three points of anti-SSA and one of a Schirmer test, for every second person.
    assert found.parts["classification"][0].counts == {"definite": 6, "undecided": 6}
    assert found.parts["glands"][0].counts == {"positive": 6, "negative": 6}
    assert found.parts["responses"][0].title == "STAR" and not found.notes


def test_a_query_names_the_visit_that_is_shown(tmp_path: Path) -> None:
    file = write(tmp_path, ("start", "end"))
    found = people_inputs(file, baseline="visit == 'end'")
    assert found.scores["esspri"].quartiles == (4.0, 4.0, 4.0) and found.which == "first visit with visit == 'end'"
    with pytest.raises(SpecError, match="keeps none of the 24 rows"):
        people_inputs(file, baseline="visit == 'middle'")


def test_without_an_order_everybody_is_there_once_and_nobody_responds(tmp_path: Path) -> None:
    found = people_inputs(write(tmp_path, ("start", "end")))
    assert found.n_persons == 12 and "responses" not in found.parts
    assert any("no responses" in note and "nothing tells" in note for note in found.notes)
    assert not any("P0" in note or "start-" in note for note in found.notes)


def test_few_people_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, (1, 2), n=4)
    with pytest.raises(SpecError, match="4 people"):
        people_inputs(file)
    assert people_inputs(file, below=4).n_persons == 4


def test_only_rows_that_a_query_keeps_are_read(tmp_path: Path) -> None:
    found = people_inputs(write(tmp_path, (1, 2)), samples="visit == 2 and schirmer > 5")
    assert (found.n_persons, found.n_visits) == (6, 6) and found.scores["esspri"].quartiles == (4.0, 4.0, 4.0)
    assert "keeps 6 of 24 rows" in found.notes[0]
