"""`sjd run` of `job: nightly`: arrivals, corrections, quarantine, models, reports, reasons; refusals by name."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import night_scene as scene
import numpy as np
import pandas as pd
import pytest

from sjd_dask.jobs.inbox import digest
from sjd_dask.runtime.here import Here
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.verify import verify

from .conftest import Called, Sjd, call_spec, check_refused

CALLS = ("classes/calls", "reported/calls", "changes/calls")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After the first night of a cohort with two models."""
    home = scene.make(tmp_path_factory.mktemp("nightly"), models=2)
    assert scene.night(home).results == [f"{one}@1" for one in CALLS]
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    return scene.copied(template, tmp_path)


def night(sjd: Sjd, home: Path, *options: object, command: str = "run", **keys: Any) -> Called:
    return call_spec(sjd, home, command, {**scene.KEYS, **keys}, *options)


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_first_night_and_one_of_nothing(sjd: Sjd, home: Path) -> None:
    first = scene.changed(home)
    assert {row["reason"] for row in first.values()} == {"new_person"}
    classes = scene.table(home, "classes").set_index("sample_id")
    assert list(classes.index) == sorted(classes.index) and len(classes) == scene.PERSONS
    healthy = classes["status"] == "not_eligible"
    assert set(first) == set(classes.index[~healthy]) and classes.loc[healthy, "p_A"].isna().all()
    assert classes.loc[healthy, "call"].isna().all() and healthy.sum() == 13
    truth = scene.sheet(list(classes.index))["group"]
    called = classes[classes["status"] == "called"]
    assert len(called) > 60 and (called["call"] == truth[called.index]).mean() > 0.9
    before = open_cohort(home / "cohort").snapshot()
    begin = time.process_time()
    done = night(sjd, home, "-q")
    assert (done.code, done.out) == (0, "") and "nothing to do" in done.err and "classes/calls@1" in done.err
    assert time.process_time() - begin < 5 and open_cohort(home / "cohort").snapshot() == before
    told = json.loads(night(sjd, home, "-q", "--json").out)
    assert (told["state"], told["results"]) == ("unchanged", []) and "nothing to do" in told["notes"][0]


def test_arrivals_corrections_and_what_can_not_be_read(sjd: Sjd, home: Path) -> None:
    inbox = home / "inbox"
    new, visit, wrong = scene.sample(150), scene.sample(1, 2), scene.sample(2)
    scene.write_arrival(inbox, "monday", [new, visit])
    (inbox / "rna__cut.npz").write_bytes(b"PK")
    (inbox / "proteins__x.npz").write_bytes(b"")
    (inbox / "notes.txt").write_text("hello")
    (inbox / ".hidden").write_text("")
    (inbox / "rna__later.npz.part").write_text("")
    words = scene.sheet([scene.sample(3)]).assign(training="maybe")
    scene.write_sheet(inbox, "words", words)
    done = night(sjd, home, "-q")
    assert (done.code, done.out.split()) == (0, [f"{one}@2" for one in CALLS]), done.err
    assert names_of(inbox) == [".hidden", "done", "quarantine", "rna__later.npz.part"]
    assert names_of(inbox / "done") == ["rna__monday.npz", "rna__monday.samples.csv"]
    bad = ["notes.txt", "proteins__x.npz", "rna__cut.npz", "rna__words.samples.csv"]
    assert names_of(inbox / "quarantine") == sorted([*bad, *(f"{one}.reason.txt" for one in bad)])
    reasons = {one: (inbox / "quarantine" / f"{one}.reason.txt").read_text() for one in bad}
    assert "ASSAY__ANYTHING.FORMAT" in reasons["notes.txt"] and "'proteins'" in reasons["proteins__x.npz"]
    assert "NPZ" in reasons["rna__cut.npz"] and "'maybe'" in reasons["rna__words.samples.csv"]
    assert all(one in done.err for one in bad)
    rows = scene.changed(home)
    assert {one: row["reason"] for one, row in rows.items()} == {new: "new_person", visit: "new_visit"}
    assert rows[visit]["previous_sample_id"] == scene.sample(1)
    facts = open_cohort(home / "cohort").result("changes/calls").meta
    assert {one["file"] for one in facts["night"]["quarantined"]} == set(bad) and facts["night"]["n_scored"] == 2
    assert facts["night"]["arrivals"][0] | {"file": ""} == {
        "file": "", "assay": "rna", "n_new": 2, "n_replaced": 0, "n_unchanged": 0, "n_withdrawn": 0,
    }  # fmt: skip
    # The same file again, and then a correction of one of its samples.
    scene.write_arrival(inbox, "monday", [new, visit])
    done = night(sjd, home, "-q")
    assert (done.code, done.out) == (0, "") and "nothing to do" in done.err
    before = scene.table(home, "classes").set_index("sample_id").loc[wrong]
    scene.write_arrival(inbox, "tuesday", [wrong], version=1)
    assert night(sjd, home, "-q").out.split() == [f"{one}@3" for one in CALLS]
    row = scene.changed(home)[wrong]
    after = scene.table(home, "classes").set_index("sample_id").loc[wrong]
    assert (row["reason"], row["previous_sample_id"]) == ("new_data", wrong)
    assert (row["previous_call"], row["call"]) == (before["call"], after["call"]) and before["call"] != after["call"]
    untouched = scene.table(home, "classes").query("sample_id not in @done", local_dict={"done": [wrong]})
    earlier = scene.table(home, "classes", 2).query("sample_id not in @done", local_dict={"done": [wrong]})
    pd.testing.assert_frame_equal(untouched, earlier)
    history = open_cohort(home / "cohort").call_history("calls", sample_id=wrong)
    assert history["call"].tolist() == [before["call"], after["call"]] and history["retired_in"].isna().sum() == 1
    verify(open_cohort(home / "cohort"))


def test_a_night_in_one_go_or_sample_by_sample_in_files_of_other_order(sjd: Sjd, home: Path, tmp_path: Path) -> None:
    """What is published depends on what has arrived, and on nothing of how."""
    other = scene.copied(home, tmp_path / "other")
    ids = [scene.sample(140), scene.sample(5, 2), scene.sample(141), scene.sample(140, 2)]
    scene.write_arrival(home / "inbox", "all", ids)
    assert night(sjd, home, "-q").code == 0
    for number, one in enumerate(reversed(ids)):
        scene.write_arrival(other / "inbox", f"file{number}", [one])
        assert scene.night(other, partition_samples=1).results
    assert scene.published(other) == scene.published(home)


def test_another_model_another_margin_and_the_same_model_again(sjd: Sjd, home: Path) -> None:
    before = scene.table(home, "classes").set_index("sample_id")
    open_cohort(home / "cohort").promote("classes", 2, "seed", "tests")
    done = night(sjd, home, "-q")
    assert (done.code, done.out.split()) == (0, [f"{one}@2" for one in CALLS]), done.err
    after = scene.table(home, "classes").set_index("sample_id")
    assert set(after["model"]) == {"classes@2"} and (after["p_A"] != before["p_A"]).any()
    rows = scene.changed(home)
    assert {row["reason"] for row in rows.values()} <= {"new_model", "threshold"}
    differ = after.index[(after["call"].fillna("") != before["call"].fillna(""))]
    assert set(differ) == {one for one, row in rows.items() if row["previous_call"] != row["call"]}
    assert all((row["previous_model"], row["model"]) == ("classes@1", "classes@2") for row in rows.values())
    assert night(sjd, home, "-q").out == ""
    assert night(sjd, home, "-q", margin=0.9).out.split() == [f"{one}@3" for one in CALLS]
    assert {row["reason"] for row in scene.changed(home).values()} <= {"threshold"}
    assert scene.table(home, "classes").equals(scene.table(home, "classes", 2))


def test_reports_follow_the_visits_and_a_sheet_that_comes_late(sjd: Sjd, home: Path) -> None:
    """Person 4's later arrays look like another class: the report flips when the evidence is there."""
    person = 4
    classes = scene.table(home, "classes").set_index("sample_id")
    first = classes.at[scene.sample(person), "call"]
    ids = [scene.sample(person, 2), scene.sample(person, 3)]
    scene.write_arrival(home / "inbox", "late", ids, version=1)
    (home / "inbox" / "rna__late.samples.csv").rename(home / "late.csv")
    assert night(sjd, home, "-q").code == 0
    classes = scene.table(home, "classes").set_index("sample_id")
    assert set(classes.loc[ids, "status"]) == {"not_eligible"}
    (home / "late.csv").rename(home / "inbox" / "rna__late.samples.csv")
    assert night(sjd, home, "-q").code == 0
    classes = scene.table(home, "classes").set_index("sample_id")
    rows = scene.changed(home)
    assert {rows[one]["reason"] for one in ids} == {"new_visit"} and set(rows) == set(ids)
    reported = scene.table(home, "reported").set_index("person_id").loc[f"person{person:03d}"]
    calls = [one for one in classes.loc[ids, "call"] if one is not None]
    assert calls and set(calls) == {reported["reported_call"]} != {first}
    assert all((row["reported_before"], row["reported_call"]) == (first, calls[0]) for row in rows.values())
    assert reported["since_date"] in set(classes.loc[ids, "date"])


def test_a_dry_run_says_what_would_happen_and_leaves_everything(sjd: Sjd, home: Path) -> None:
    scene.write_arrival(home / "inbox", "a", [scene.sample(150)])
    (home / "inbox" / "rna__cut.npz").write_bytes(b"PK")
    before, there = open_cohort(home / "cohort").snapshot(), names_of(home / "inbox")
    # To the byte: what it stages and computes lies elsewhere, and is gone afterwards.
    every = digest(home / "cohort"), digest(home / "inbox")
    done = night(sjd, home, "-q", "--set", "dry_run=true")
    assert (done.code, done.out) == (0, ""), done.err
    for word in ("rna__cut.npz", "1 new", "1 of 121 samples would be classified", "new_person", "changes/calls"):
        assert word in done.err
    assert open_cohort(home / "cohort").snapshot() == before and names_of(home / "inbox") == there
    assert (digest(home / "cohort"), digest(home / "inbox")) == every
    planned = night(sjd, home, "-q", command="plan")
    assert planned.code == 0 and "3 files in the inbox" in planned.out, planned.err


def test_a_second_night_exits_6_at_once(sjd: Sjd, home: Path) -> None:
    scene.write_arrival(home / "inbox", "a", [scene.sample(150)])
    with open_cohort(home / "cohort").lease():
        refused = night(sjd, home, "-q")
        assert night(sjd, home, "-q", "--set", "dry_run=true").code == 6
    assert refused.code == 6 and "process" in refused.err and refused.out == ""
    assert night(sjd, home, "-q").code == 0


def test_a_night_that_is_taken_back(sjd: Sjd, home: Path) -> None:
    before = scene.published(home)
    ids = [scene.sample(150), scene.sample(1, 2)]
    scene.write_arrival(home / "inbox", "a", ids)
    scene.write_arrival(home / "inbox", "b", [scene.sample(2)], version=1)
    assert night(sjd, home, "-q").code == 0
    after, told = scene.published(home), scene.changed(home)
    cohort = open_cohort(home / "cohort")
    undone = sjd("rollback", home / "cohort", cohort.snapshot(), "--why", "a swapped plate")
    assert undone.code == 0, undone.err
    assert scene.published(home) == before
    rows = scene.changed(home)
    assert {row["reason"] for row in rows.values()} == {"rollback"} and set(rows) == set(told)
    assert rows[scene.sample(2)]["call"] == told[scene.sample(2)]["previous_call"]
    assert rows[ids[0]]["call"] is None and rows[ids[0]]["previous_call"] == told[ids[0]]["call"]
    # Files that were taken back are in `done`; laid into the inbox again they are taken in again.
    assert night(sjd, home, "-q").out == ""
    for path in (home / "inbox" / "done").iterdir():
        path.rename(home / "inbox" / path.name)
    assert night(sjd, home, "-q").code == 0
    assert scene.published(home) == after


def test_a_batch_without_parameters_waits_and_drift_holds(sjd: Sjd, home: Path) -> None:
    strange = scene.sample(150)
    scene.write_arrival(home / "inbox", "a", [strange])
    scene.write_sheet(home / "inbox", "a", scene.sheet([strange]).assign(batch="b7"))
    assert night(sjd, home, "-q").code == 0
    row = scene.table(home, "classes").set_index("sample_id").loc[strange]
    assert row["status"] == "pending_batch" and row["call"] is None and row["p_A"] is None
    assert scene.changed(home)[strange]["reason"] == "new_person"
    # Forty people whose arrays are off: nothing is published before someone says that it is right.
    ids = [scene.sample(i) for i in range(160, 200)]
    scene.write_arrival(home / "inbox", "plate", ids, shift=1.0)
    before = open_cohort(home / "cohort").snapshot()
    held = night(sjd, home, "-q")
    check_refused(held, 3, ["drift", "drift.accept=true"])
    assert open_cohort(home / "cohort").snapshot() == before
    assert "rna__plate.npz" in names_of(home / "inbox")
    accepted = night(sjd, home, "-q", "--set", "drift.accept=true")
    assert (accepted.code, accepted.out.split()) == (0, [f"{one}@3" for one in CALLS]), accepted.err
    facts = open_cohort(home / "cohort").result("changes/calls").meta["night"]["drift"]
    assert facts["level"] == "hold" and facts["accepted"]


def test_withdrawn_people_do_not_come_back(sjd: Sjd, home: Path) -> None:
    gone = 3
    (home / "ids.txt").write_text(f"person{gone:03d}\n")
    done = sjd("withdraw", home / "cohort", home / "ids.txt")
    assert done.code == 0, done.err
    assert night(sjd, home, "-q").code == 0
    table = scene.table(home, "changes")
    assert table["reason"].tolist() == ["withdrawn"] and table["sample_id"].tolist() == [None]
    assert scene.sample(gone) not in set(scene.table(home, "classes")["sample_id"])
    scene.write_arrival(home / "inbox", "again", [scene.sample(gone), scene.sample(gone, 2), scene.sample(151)])
    done = night(sjd, home, "-q")
    assert done.code == 0 and "rna__again.npz holds samples of withdrawn people" in done.err
    assert set(scene.changed(home)) == {scene.sample(151)}
    # Whoever sends them once more can't know that nothing of them may be kept.
    assert [path for path in (home / "inbox").rglob("*") if path.is_file()] == []
    facts = open_cohort(home / "cohort").result("changes/calls").meta["night"]
    assert facts["arrivals"][0]["n_withdrawn"] == 2 and facts["sheets"][0]["n_samples"] == 1
    assert not any(f"person{gone:03d}" in str(one) for one in scene.table(home, "reported")["person_id"])


BAD: dict[str, tuple[int, dict[str, Any], list[str]]] = {
    "eligible": (2, {"eligible": None}, ["`eligible`", "`all`"]),
    "empty eligible": (2, {"eligible": " "}, ["`eligible`"]),
    "query": (2, {"eligible": "diseese == 'patient'"}, ["'diseese'", "disease"]),
    "model": (2, {"model": "clases@production"}, ["'clases'", "sjd models list"]),
    "version": (2, {"model": "classes@9"}, ["classes@9"]),
    "assay": (2, {"assay": "rnaseq"}, ["'rnaseq'", "rna"]),
    "inbox": (2, {"inbox": "inbux"}, ["inbux", "not a folder"]),
    "margin": (2, {"margin": 1.5}, ["`margin`", "1.5"]),
    "key": (2, {"margn": 0.1}, ["`margn`", "`margin`"]),
    "drift": (2, {"drift": {"hold": {"psy": 1}}}, ["psy"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(sjd: Sjd, template: Path, name: str) -> None:
    code, keys, words = BAD[name]
    before = open_cohort(template / "cohort").snapshot()
    check_refused(night(sjd, template, "-q", **keys), code, words)
    assert open_cohort(template / "cohort").snapshot() == before


def test_another_platform_is_refused(sjd: Sjd, home: Path) -> None:
    from jobs_helpers import bring, write_npz

    ids = [scene.sample(i) for i in range(3)]
    matrix = write_npz(home / "other.npz", np.ones((3, 5)), ids, [f"x{i}" for i in range(5)])
    bring(home / "cohort", "proteins", matrix, "concentration")
    check_refused(night(sjd, home, "-q", assay="proteins"), 3, ["'proteins'", "'rna'", "platform"])


def test_resume_of_a_night_is_the_night(sjd: Sjd, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.write_arrival(home / "inbox", "a", [scene.sample(150)])

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    with monkeypatch.context() as patch:
        patch.setattr("sjd_dask.store.cohort.Cohort.publish_night", fail)
        with pytest.raises(RuntimeError, match="out of order"):
            scene.night(home)
    cohort = open_cohort(home / "cohort")
    (failed,) = [one for one in cohort.runs() if one.state == "failed"]
    assert names_of(home / "inbox") == ["rna__a.npz", "rna__a.samples.csv"]
    done = sjd("resume", home / "cohort", failed.id, "-q")
    assert (done.code, done.out.split()) == (0, [f"{one}@2" for one in CALLS]), done.err
    assert cohort.result("classes/calls").meta["run"]["reused"] == 1
    assert Here.description in cohort.result("classes/calls").meta["run"]["cluster"]
