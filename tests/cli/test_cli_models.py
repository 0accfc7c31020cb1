"""The registry of models and taking changes back, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from sjd_dask.store.bundle import write_bundle
from sjd_dask.store.catalogue.tombstones import insert_tombstones
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.models import RETRAIN

from .conftest import Sjd, check_refused


@pytest.fixture
def registry(tmp_path: Path, sjd: Sjd) -> Path:
    """A cohort with three versions of one model; the second was trained on somebody who left."""
    path = tmp_path / "cohort"
    assert sjd("init", path).code == 0
    cohort = open_cohort(path)
    for number in range(3):
        bundle = write_bundle(cohort.files, {"model.json": str(number).encode()}, {})
        meta = {"classes": ["high", "low"], "n_panel": 7, "platform": {"quantity": "counts", "n_features": 60}}
        more = {RETRAIN: "people who trained it were withdrawn"} if number == 1 else {}
        cohort.publish_model("blood", bundle, {"table": pa.table({"x": [number]})}, {**meta, **more})
    return path


def test_the_registry_from_list_to_rollback(registry: Path, sjd: Sjd) -> None:
    listed = json.loads(sjd("models", "list", registry, "--json").out)["models"]
    assert [(one["ref"], one["is_production"]) for one in listed] == [
        (f"models/blood@{number}", False) for number in (1, 2, 3)
    ]
    check_refused(
        sjd("models", "show", registry, "blood@production"),
        2,
        ["no version of model 'blood' is in production", "blood@3"],
    )
    done = sjd("models", "promote", registry, "blood@2", "--why", "first", "--who", "ann")
    assert done.out == "models/blood@2: promoted to production in snapshot 4\n"
    assert "warning: models/blood@2 needs retraining: people who trained it were withdrawn" in done.err
    # Without a version the newest; once more changes nothing.
    assert "snapshot 5" in sjd("models", "promote", registry, "blood").out
    assert sjd("models", "promote", registry, "blood").out == "models/blood@3: in production already, unchanged\n"
    shown = json.loads(sjd("models", "show", registry, "blood", "--json").out)
    assert (shown["ref"], shown["is_production"], shown["n_panel"]) == ("models/blood@3", True, 7)
    first = shown["promotions"][0]
    assert (first["version"], first["why"], first["who"]) == (2, "first", "ann")
    people = sjd("models", "show", registry, "blood@2").out
    assert "needs_retraining: people who trained it" in people and "platform: quantity counts, n_features 60" in people
    back = sjd("models", "rollback", registry, "blood", "--why", "worse")
    assert back.out == "models/blood@2: in production again, snapshot 6\n"
    lines = sjd("models", "list", registry).out.splitlines()
    assert [line.split()[0] for line in lines if "production" in line] == ["models/blood@2"]
    assert "needs retraining" in lines[2] and "worse" in lines[2]
    assert "models/blood@2  production" in sjd("info", registry).out
    assert "blood@2 is in production again (before: blood@3): worse" in sjd("log", registry).out
    for model in ("1", "2"):
        sjd("models", "promote", registry, f"blood@{model}")
    assert sjd("models", "rollback", registry, "blood@2").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "other"], ["no model 'other'", "models/blood@1"]),
        (["show", "blood@9"], ["no model 'blood@9'", "models/blood@3"]),
        (["show", "bloood"], ["no model 'bloood'", "did you mean 'models/blood@3'?"]),
        (["show", "blood@production"], ["no version of model 'blood' is in production", "sjd models promote"]),
        (["show", "a/b/c"], ["'a/b/c' does not name a model", "NAME@production"]),
        (["promote", "blood@9"], ["no model 'blood@9'", "models/blood@3"]),
        (["promote", "blood@production"], ["say which version"]),
        (["promote", "other"], ["no model 'other'"]),
        (["rollback", "blood"], ["no version of model 'blood' was ever promoted"]),
        (["rollback", "blood@1"], ["no version of model 'blood' was ever promoted"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_registry_refuses(registry: Path, sjd: Sjd, arguments: list[str], words: list[str]) -> None:
    verb, *rest = arguments
    check_refused(sjd("models", verb, registry, *rest), 2, words)
    assert open_cohort(registry).snapshot() == 3


def test_going_back_further_than_there_was(registry: Path, sjd: Sjd) -> None:
    sjd("models", "promote", registry, "blood@1")
    check_refused(sjd("models", "rollback", registry, "blood"), 2, ["blood@1 is the first that was promoted"])
    sjd("models", "promote", registry, "blood@2")
    check_refused(sjd("models", "rollback", registry, "blood@3"), 2, ["blood@3 is not one to go back to", "blood@1;"])


def test_taking_back_an_arrival(cohort: Path, sjd: Sjd) -> None:
    before = json.loads(sjd("info", cohort, "--json").out)
    done = sjd("rollback", cohort, before["snapshot"], "--why", "wrong plate", "--who", "ann")
    assert done.code == 0, done.err
    assert "left: 24 rows, 24 sample columns" in done.out
    log = sjd("log", cohort).out.splitlines()[-1]
    assert "rollback" in log and "wrong plate" in log and "ann" in log
    assert "[taken back in 2]" in sjd("log", cohort).out.splitlines()[1]
    assert json.loads(sjd("info", cohort, "--json").out)["n_samples"] == 0
    check_refused(sjd("rollback", cohort, "1"), 3, ["taken back already, in snapshot 2", "sjd rollback COHORT 2"])
    check_refused(sjd("rollback", cohort, "77"), 2, ["no snapshot 77", "newest is 2"])
    again = json.loads(sjd("rollback", cohort, "2", "--json").out)
    assert again["restored"] == {"rows": 24, "sample_columns": 24} and again["undone"]["undoes"] == 1
    assert "[taken back in 2]" not in sjd("log", cohort).out
    after = json.loads(sjd("info", cohort, "--json").out)
    assert {**after, "snapshot": 1} == before


def test_a_sheet_with_withdrawn_people(cohort: Path, tables: Path, sjd: Sjd) -> None:
    """Their samples are counted, and named nowhere."""
    opened = open_cohort(cohort)
    with opened.catalogue.write() as connection:
        insert_tombstones(connection, ["gone"], opened.snapshot())
    sheet = tables / "more.csv"
    sheet.write_text("sample_id,person_id,age\nlater,P1,50\nnever,gone,60\n", encoding="utf-8")
    done = sjd("samples", cohort, sheet)
    assert done.code == 0 and done.out.startswith("1 samples: published in snapshot")
    assert "warning: 1 samples of withdrawn people were left out" in done.err
    assert "never" not in done.err and "later" in done.err and "never" not in opened.samples().index
    sheet.write_text("sample_id,person_id\nnever,gone\n", encoding="utf-8")
    assert json.loads(sjd("samples", cohort, sheet, "--json").out) == {
        "n_samples": 0,
        "n_withdrawn": 1,
        "snapshot": None,
        "in_no_assay": [],
    }
