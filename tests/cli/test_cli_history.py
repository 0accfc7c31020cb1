"""`sjd history`: every call of a person, and what is reported after each visit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from sjd_dask.store.catalogue.nights import CallChanges
from sjd_dask.store.catalogue.runs import claim_run
from sjd_dask.store.cohort import Cohort, create_cohort

from .conftest import Sjd, check_refused

# Sample, person, visit, date, call, p of a.
CALLS = [
    ("S3", "P1", 3, "2025-09-01", "b", 0.2),
    ("S1", "P1", 1, "2025-01-01", "a", 0.9),
    ("S2", "P1", 2, "2025-05-01", "b", 0.45),
    ("S4", "P1", 4, "2026-01-01", None, 0.5),
    ("X1", "P2", 1, None, "b", 0.1),
    ("X10", "P2", 10, None, "b", 0.2),
    ("X2", "P2", 2, None, "a", 0.7),
    ("alone", None, None, None, "a", 0.8),
]


def row(sample: str, person: str | None, visit: Any, date: str | None, call: str | None, p: float) -> dict[str, Any]:
    return {
        "sample_id": sample, "person_id": person, "visit": None if visit is None else str(visit), "date": date,
        "status": "called" if call else "abstained", "call": call, "top_class": "a" if p >= 0.5 else "b",
        "confidence": max(p, 1 - p), "model": "m@1",
    }  # fmt: skip


def publish(cohort: Cohort, run: str, calls: list[Any]) -> None:
    rows = [row(*one) for one in calls]
    table = pd.DataFrame(rows)
    table["p_a"] = [one[-1] for one in calls]
    table["p_b"] = 1 - table["p_a"]
    claim = claim_run(cohort.catalogue, run, job="nightly", output="calls", spec={})
    items: list[Any] = [
        ("classes", "calls", {"table": pa.Table.from_pandas(table)}, {}),
        ("changes", "calls", {"table": pa.table({"sample_id": pa.array([], pa.string())})}, {"margin": 0.2}),
    ]
    cohort.publish_night(claim.run.id, claim.run.epoch, items=items, calls=CallChanges("calls", [], rows))


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights: S1 was called b at first."""
    folder = tmp_path_factory.mktemp("history") / "cohort"
    cohort = create_cohort(folder)
    publish(cohort, "one", [("S1", "P1", 1, "2025-01-01", "b", 0.3)])
    publish(cohort, "two", CALLS)
    return folder


def test_calls_go_by_visit_with_what_is_reported(nights: Path, sjd: Sjd) -> None:
    done = sjd("history", nights, "calls", "P1")
    lines = done.out.splitlines()
    assert done.code == 0, done.err
    assert lines[0].split() == [
        "visit", "date", "sample", "status", "call", "confidence", "reported", "model", "since", "until",
    ]  # fmt: skip
    cells = [re.split(r"\s{2,}", line) for line in lines[1:]]
    assert [one[2] for one in cells] == ["S1", "S1", "S2", "S3", "S4"]
    # The replaced call says nothing of reports; S2 is called b, but by less than the margin; S3 is the second in a row.
    assert [one[4:7] for one in cells[:4]] == [
        ["b", "0.700", "m@1"], ["a", "0.900", "a"], ["b", "0.550", "a"], ["b", "0.800", "b"],
    ]  # fmt: skip
    assert cells[4][3] == "abstained" and cells[4][-1] == "today" and cells[0][-1] != "today"


def test_json_has_every_column_and_visits_count_as_numbers(nights: Path, sjd: Sjd) -> None:
    done = sjd("history", nights, "classes/calls", "P2", "--json")
    found = json.loads(done.out)
    assert (done.code, found["output"], found["person"]) == (0, "calls", "P2")
    assert [(one["sample_id"], one["reported"]) for one in found["calls"]] == [("X1", "b"), ("X2", "a"), ("X10", "b")]
    assert found["calls"][0]["retired_in"] is None and found["calls"][0]["confidence"] == 0.9


def test_a_sample_without_a_person_is_found_by_its_id(nights: Path, sjd: Sjd) -> None:
    done = sjd("history", nights, "calls", "alone", "--json")
    assert [one["reported"] for one in json.loads(done.out)["calls"]] == ["a"]


def test_who_is_not_there_is_refused(nights: Path, sjd: Sjd, tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    check_refused(sjd("history", nights, "calls", "P9", page), 2, ["'calls' has no call of a person 'P9'"])
    # A sample of a person is no person: the history would lack the other visits.
    check_refused(sjd("history", nights, "calls", "S1", page), 2, ["no call of a person 'S1'"])
    check_refused(sjd("history", nights, "other", "P1", page), 2, ["no calls named 'other'", "it has: calls"])
    assert not page.exists()


def test_the_page_holds_every_call_and_one_plot(nights: Path, sjd: Sjd, tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    done = sjd("history", nights, "calls", "P1", page)
    assert (done.code, done.out.strip()) == (0, str(page))
    text = page.read_text(encoding="utf-8")
    assert text.count("<img") == 1 and "<script" not in text and not re.search(r'(src|href)="(?!data:|#)', text)
    assert (
        'alt="Calls of P1 over 4 samples: 2025-01-01: a; 2025-05-01: b; 2025-09-01: b; 2026-01-01: abstained."' in text
    )
    assert text.count("<tr>") == 6 and "By date of visit." in text and "at least 0.2" in text
    undated = sjd("history", nights, "calls", "P2", tmp_path / "q.html")
    assert undated.code == 0 and "not all have a date" in (tmp_path / "q.html").read_text(encoding="utf-8")
