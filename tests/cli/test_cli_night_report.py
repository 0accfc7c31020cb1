"""The report of a night and the history of a person, from the command line, over nights as they happen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from night_scene import KEYS, counts, make, night, opened, sample, table, write_arrival, write_npz

from .conftest import Sjd, call_spec, check_refused


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first night, and one of arrivals, a second visit, a correction and a file that can't be read."""
    made = make(tmp_path_factory.mktemp("report"))
    night(made)
    inbox = made / "inbox"
    write_arrival(inbox, "new", [sample(i) for i in range(130, 165)])
    write_arrival(inbox, "again", [sample(i, 2) for i in range(12)])
    write_arrival(inbox, "corrected", [sample(7)], version=1)
    write_npz(inbox / "rna__other.npz", np.ones((2, 3)), ["one", "two"], ["x", "y", "z"])
    night(made)
    return made


def test_the_report_of_a_night(home: Path, sjd: Sjd, tmp_path: Path) -> None:
    page, facts = tmp_path / "night.html", tmp_path / "night.json"
    assert sjd("report", home / "cohort", "changes/calls", page).code == 0
    assert sjd("report", home / "cohort", "changes/calls", facts).code == 0
    found: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
    assert found["result"] == "changes/calls@2" and found["model"] == found["previous_model"] == "classes@1"
    # One corrected array and those of few reasons are hidden; what is shown adds up with the table.
    assert found["arrived"] == {"n_new": 47, "n_replaced": None, "n_unchanged": 0, "n_withdrawn": 0}
    assert [one["file"] for one in found["quarantined"]] == ["rna__other.npz"]
    changes = table(home, "changes")
    counted = changes["reason"].value_counts()
    shown = {one["reason"]: one["n"] for one in found["changes"]["reasons"]}
    assert set(shown) == set(counted.index) and shown["new_person"] == counted["new_person"] >= 30
    assert {name for name, n in shown.items() if n is None} >= set(counted[counted < 5].index)
    assert sum(one["n"] or 0 for one in found["statuses"]) <= found["n_samples"] == len(table(home, "classes"))
    assert found["drift"]["level"] == "none" and len(found["drift"]["variables"]) > 9
    text = page.read_text(encoding="utf-8")
    ids = {*changes["sample_id"].dropna(), *changes["person_id"].dropna()}
    for content in (text, facts.read_text(encoding="utf-8")):
        assert not [one for one in ids if one in content]
    assert text.count("<img") == 2 and "<script" not in text and not re.search(r'(src|href)="(?!data:|#)', text)


def test_the_report_with_persons(home: Path, sjd: Sjd, tmp_path: Path) -> None:
    page = tmp_path / "night.html"
    assert sjd("report", home / "cohort", "changes/calls", page, "--persons").code == 0
    text = page.read_text(encoding="utf-8")
    changes = table(home, "changes")
    assert all(str(one) in text for one in changes["sample_id"].dropna()) and "This page names persons" in text
    assert "features" in text.split("In quarantine")[1]  # the reason of the refusal


def test_the_history_of_a_person_follows_the_nights(home: Path, sjd: Sjd, tmp_path: Path) -> None:
    page = tmp_path / "person.html"
    done = sjd("history", home / "cohort", "calls", "person007", "--json")
    calls = json.loads(done.out)["calls"]
    assert done.code == 0, done.err
    # The first visit was scored twice, since its array was done again; the second visit came in the same night.
    assert [one["sample_id"] for one in calls] == [sample(7), sample(7), sample(7, 2)]
    assert calls[0]["retired_at"] is not None and calls[1]["row_hash"] != calls[0]["row_hash"]
    reported = table(home, "reported").set_index("person_id")["reported_call"]
    assert calls[-1]["reported"] == reported["person007"]
    shown = table(home, "classes").set_index("sample_id")["call"]
    assert [one["call"] for one in calls[1:]] == [shown[sample(7)], shown[sample(7, 2)]]
    assert sjd("history", home / "cohort", "calls", "person007", page).code == 0
    assert page.read_text(encoding="utf-8").count("<img") == 1
    for person in reported.index[:5]:
        calls = json.loads(sjd("history", home / "cohort", "calls", person, "--json").out)["calls"]
        assert calls[-1]["reported"] == reported[person]


def test_run_writes_the_report_of_its_night(home: Path, sjd: Sjd, tmp_path: Path) -> None:
    """As the schedules call it: a night that is held back leaves no report, and one of nothing to do neither."""
    page = tmp_path / "night.html"
    idle = call_spec(sjd, home, "run", KEYS, "--report", page, "-q")
    assert (idle.code, idle.out) == (0, "") and not page.exists()
    ids = [sample(i) for i in range(170, 200)]
    write_arrival(home / "inbox", "wrong", ids)
    write_npz(home / "inbox" / "rna__wrong.npz", counts(ids)[:, ::-1], ids, [f"g{i:02d}" for i in range(36)])
    before = len(opened(home).log())
    held = call_spec(sjd, home, "run", KEYS, "--report", page, "-q")
    check_refused(held, 3, ["holds this night back", "features have moved", "drift.accept=true"])
    assert not page.exists() and len(opened(home).log()) == before
    assert (home / "inbox" / "rna__wrong.npz").exists()
    accepted = call_spec(sjd, home, "run", KEYS, "--report", page, "-q", "--set", "drift.accept=true")
    assert accepted.code == 0 and "changes/calls@3" in accepted.out
    text = page.read_text(encoding="utf-8")
    assert "Night report" in text and "seen, and accepted" in text and "somebody accepted it" in text
