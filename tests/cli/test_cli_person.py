"""`sjd person`: the page of a person, and of all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from sjd_dask.simulate import Simulation
from sjd_dask.store.catalogue.nights import CallChanges
from sjd_dask.store.catalogue.runs import claim_run
from sjd_dask.store.cohort import create_cohort

from .conftest import Sjd, check_refused


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clinical sheet with holes, some persons seen several times."""
    folder = tmp_path_factory.mktemp("person")
    Simulation(240, 10, seed=3, repeat_share=0.9).clinical_sheet().to_csv(folder / "items.csv")
    return folder / "items.csv"


@pytest.fixture(scope="module")
def often_seen(sheet: Path) -> str:
    return str(pd.read_csv(sheet)["person_id"].value_counts().index[0])


@pytest.fixture(scope="module")
def called(sheet: Path) -> Path:
    """A cohort with a night's calls of the sheet's samples."""
    frame = pd.read_csv(sheet, dtype=str)
    cohort = create_cohort(sheet.parent / "cohort")
    rows = [
        {
            "sample_id": one["sample_id"], "person_id": one["person_id"], "visit": one["visit"], "date": one["date"],
            "status": "called" if i % 7 else "abstained", "call": "ab"[i % 2] if i % 7 else None,
            "top_class": "ab"[i % 2], "confidence": 0.9, "model": "m@1",
        }
        for i, one in enumerate(frame.to_dict("records"))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table["p_a"] = [0.9 if row["top_class"] == "a" else 0.1 for row in rows]
    table["p_b"] = 1 - table["p_a"]
    claim = claim_run(cohort.catalogue, "one", job="nightly", output="calls", spec={})
    items = [
        ("classes", "calls", {"table": pa.Table.from_pandas(table)}, {}),
        ("changes", "calls", {"table": pa.table({"sample_id": pa.array([], pa.string())})}, {"margin": 0.2}),
    ]
    cohort.publish_night(claim.run.id, claim.run.epoch, items=items, calls=CallChanges("calls", [], rows))
    return sheet.parent / "cohort"


def check_page(text: str) -> None:
    assert "<script" not in text and not re.search(r'(src|href)="(?!data:|#)', text)


def test_the_page_of_a_person_has_axes_scores_and_class(
    sheet: Path, called: Path, often_seen: str, sjd: Sjd, tmp_path: Path
) -> None:
    page = tmp_path / "p.html"
    done = sjd("person", sheet, page, "--person", often_seen, "--cohort", called, "--calls", "classes/calls", "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    text = page.read_text(encoding="utf-8")
    check_page(text)
    assert said["file"] == str(page) and said["person"] == often_seen and said["n_visits"] == 3
    assert text.count("<img") == 3 and "Three axes over the visits" in text and "Molecular class" in text
    table = text.split('id="open"')[1]
    assert table.count("<tr>") == len(said["open"]) + bool(said["open"])
    assert all(set(one) == {"label", "question", "so_far", "missing"} for one in said["open"])
    # Every visit is named in the alternative text of the axes, with its three states.
    alt = re.search(r'alt="Three axes of [^"]*"', text)
    assert alt is not None and alt.group().count("axis 1") == 3


def test_the_page_of_all_names_nobody(sheet: Path, called: Path, sjd: Sjd, tmp_path: Path) -> None:
    page, odd = tmp_path / "all.html", tmp_path / "<b>.csv"
    odd.write_bytes(sheet.read_bytes())
    done = sjd("person", odd, page, "--cohort", called, "--calls", "calls", "--json")
    assert done.code == 0, done.err
    text = page.read_text(encoding="utf-8")
    check_page(text)
    assert "&lt;b&gt;.csv" in text and "<b>.csv" not in text
    frame = pd.read_csv(sheet, dtype=str)
    assert json.loads(done.out)["n_persons"] == frame["person_id"].nunique()
    assert not any(one in text for one in frame["person_id"]) and not any(one in text for one in frame["sample_id"])
    assert "Dominant axis, of all and by molecular class" in text and "calls joined by sample_id" in text
    # No count of one to four in any cell of the tables.
    cells = re.findall(r'<td class="n">([^<]*)</td>', text.split('id="missing"')[0])
    assert cells and not {"1", "2", "3", "4"} & {one for one in cells if one.isdigit()}


def test_a_person_without_a_call_gets_a_page_that_says_so(sheet: Path, called: Path, sjd: Sjd, tmp_path: Path) -> None:
    other = tmp_path / "sheet.csv"
    other.write_text("sample_id,person_id,dryness,fatigue,pain\n007,New,6,5,\n", encoding="utf-8")
    page = tmp_path / "p.html"
    done = sjd("person", other, page, "--person", "New", "--cohort", called, "--calls", "calls")
    assert (done.code, done.out.strip()) == (0, str(page)), done.err
    text = page.read_text(encoding="utf-8")
    assert "no molecular class" in text and "3.67 to 7" in text and "pain" in text.split('id="open"')[1]


def test_what_can_not_be_is_refused_and_nothing_is_written(
    sheet: Path, called: Path, often_seen: str, sjd: Sjd, tmp_path: Path
) -> None:
    page = tmp_path / "p.html"
    near = often_seen[:-1]
    check_refused(sjd("person", sheet, page, "--person", near), 2, [f"no person '{near}'", "did you mean"])
    check_refused(sjd("person", sheet, page, "--cohort", called), 2, ["--calls NAME together"])
    many = ("--person", often_seen, "--cohort", called, "--calls", "cals")
    check_refused(sjd("person", sheet, page, *many), 2, ["no calls named 'cals'", "did you mean 'calls'"])
    empty = tmp_path / "sheet.csv"
    empty.write_text("sample_id,dryness_\nA,1\nB,x\n", encoding="utf-8")
    check_refused(sjd("person", empty, page), 3, ["sample 'B', column 'dryness'"])
    empty.write_text("sample_id,shoe\nA,1\n", encoding="utf-8")
    check_refused(sjd("person", empty, page), 2, ["no column that"])
    empty.write_text("sample_id,anti_ssa\nA,1\nB,0\n", encoding="utf-8")
    check_refused(sjd("person", empty, page), 2, ["2 people", "fewer than 5", "--person ID"])
    check_refused(sjd("person", sheet, page, "--samples", "visit == 99"), 2, ["keeps none of the"])
    assert not page.exists()
