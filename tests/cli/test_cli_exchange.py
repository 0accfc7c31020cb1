"""`sjd exchange`: Phenopackets that the official package reads, OMOP rows, and nothing said that isn't known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from sjd_dask.clinical.exchange import omop
from sjd_dask.clinical.exchange.phenopackets import check_packet
from sjd_dask.errors import DataError
from sjd_dask.store.cohort import create_cohort

Sjd = Callable[..., Any]
phenopackets = pytest.importorskip("phenopackets")

SHEET = """sample_id,person_id,visit,date,age,sex,igg [mg/dL],rf,anti_ssa,dryness,fatigue,pain,disease
01005a,01005,1,2024-01-10,45.5,F,1610,40,positive,6,5,4,patient
01005b,01005,2,2024-07-10,46,F,1400,,,4,4,3,patient
odd,../P 2,1,2024-02-01,,,1100,,negative,2,,2,control
lone,,1,2024-02-02,30,M,,,no,,,,control
"""
SCORES = """sample_id,esspri,esspri_min,esspri_max,esspri_known,esspri_acceptable,esspri_reason,acr_eular_class
01005a,5.0,5.0,5.0,3,False,,definite
01005b,3.6666666666666665,3.6666666666666665,3.6666666666666665,3,True,,undecided
odd,,1.3333333333333333,4.666666666666667,2,,missing: fatigue,no
lone,,0,10,0,,"missing: dryness, fatigue, pain",
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "sheet.csv").write_text(SHEET)
    (tmp_path / "scores.csv").write_text(SCORES)
    return tmp_path


def packet(file: Path) -> dict[str, Any]:
    check_packet(file.read_text(encoding="utf-8"))
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return result


def measured(found: dict[str, Any], label: str) -> list[dict[str, Any]]:
    return [one for one in found["measurements"] if one["assay"]["id"].endswith(label)]


def test_phenopackets_hold_what_is_known_and_no_more(sjd: Sjd, home: Path) -> None:
    done = sjd("exchange", home / "sheet.csv", home / "out", "--to", "phenopackets", "--scores", home / "scores.csv")
    assert done.code == 0 and done.out == f"{home / 'out'}: 3 Phenopackets of 4 rows\n", done.err
    assert "meet the 2016 ACR/EULAR criteria: 1 rows" in done.err
    assert sorted(one.name for one in (home / "out").iterdir()) == ["%2E.%2FP 2.json", "01005.json", "lone.json"]
    found = packet(home / "out" / "01005.json")
    assert found["subject"] == {
        "id": "01005", "sex": "FEMALE", "timeAtLastEncounter": {"age": {"iso8601duration": "P46Y"}},
    }  # fmt: skip
    assert found["diseases"] == [{"term": {"id": "MONDO:0010030", "label": "Sjogren syndrome"}}]
    igg = measured(found, "LOINC:2465-3")
    assert [one["value"]["quantity"] for one in igg] == [
        {"unit": {"id": "UCUM:g/L", "label": "g/L"}, "value": value} for value in (16.1, 14.0)
    ]
    assert [one["timeObserved"]["timestamp"] for one in igg] == ["2024-01-10T00:00:00Z", "2024-07-10T00:00:00Z"]
    assert igg[1]["description"] == "visit 2, sample 01005b"
    ssa = measured(found, "SJD:anti_ssa")
    assert [one["value"]["ontologyClass"]["label"] for one in ssa] == ["Present"], "missing at visit 2"
    assert {one["namespacePrefix"] for one in found["metaData"]["resources"]} == {
        "LOINC",
        "MONDO",
        "NCIT",
        "SJD",
        "UCUM",
    }
    assert measured(found, "SJD:esspri")[1]["value"]["quantity"]["value"] == 3.6666666666666665
    assert [one["value"]["ontologyClass"]["id"] for one in measured(found, "SJD:acr_eular_class")] == [
        "SJD:acr_eular_class.definite", "SJD:acr_eular_class.undecided",
    ]  # fmt: skip

    other = packet(home / "out" / "%2E.%2FP 2.json")
    assert other["id"] == "../P 2" and "diseases" not in other and other["subject"]["sex"] == "UNKNOWN_SEX"
    (score,) = measured(other, "SJD:esspri")
    assert "value" not in score and score["description"].endswith("undetermined (missing: fatigue)")
    bounds = [(one["type"]["id"], one["quantity"]["value"]) for one in score["complexValue"]["typedQuantities"]]
    assert bounds == [("SJD:least", 1.3333333333333333), ("SJD:greatest", 4.666666666666667)]

    lone = packet(home / "out" / "lone.json")
    assert [one["assay"]["id"] for one in lone["measurements"]] == ["SJD:anti_ssa"], "a score of nothing is no score"


def test_patients_are_who_the_user_says(sjd: Sjd, home: Path) -> None:
    asked = sjd(
        "exchange", home / "sheet.csv", home / "a", "--to", "phenopackets", "--patients", "disease == 'patient'"
    )
    assert asked.code == 0, asked.err
    stated = {one.stem: "diseases" in packet(one) for one in (home / "a").iterdir()}
    assert stated == {"01005": True, "%2E.%2FP 2": False, "lone": False}
    silent = sjd("exchange", home / "sheet.csv", home / "b", "--to", "phenopackets")
    assert "no disease is stated of anyone" in silent.err
    assert not any("diseases" in packet(one) for one in (home / "b").iterdir())


@pytest.fixture
def cohort(home: Path) -> Path:
    calls = {
        "sample_id": ["01005a", "01005b"], "call": ["C1", None], "status": ["called", "abstained"],
        "p_C1": [0.9, 0.55], "p_C2": [0.1, 0.45], "model": ["blood@1", "blood@2"],
    }  # fmt: skip
    create_cohort(home / "cohort").publish_result("classes", "calls", {"table": pa.table(calls)}, {})
    return home / "cohort"


def test_molecular_classes_are_measurements_and_an_abstention_says_so(sjd: Sjd, home: Path, cohort: Path) -> None:
    options = ("--cohort", cohort, "--calls", "classes/calls")
    assert sjd("exchange", home / "sheet.csv", home / "out", "--to", "phenopackets", *options).code == 0
    found = packet(home / "out" / "01005.json")
    labels = [one["value"]["ontologyClass"]["label"] for one in measured(found, "SJD:molecular_class")]
    models = [one["value"]["ontologyClass"]["label"] for one in measured(found, "molecular_class_model")]
    assert models == ["blood@1", "blood@2"]
    assert labels == ["C1", "not called: abstained"]
    assert [one["value"]["quantity"]["value"] for one in measured(found, "molecular_class_p_C2")] == [0.1, 0.45]
    assert not measured(packet(home / "out" / "lone.json"), "molecular_class")
    assert sjd("exchange", home / "sheet.csv", home / "omop", "--to", "omop", *options).code == 0
    rows = pd.read_csv(home / "omop" / "measurement.csv")
    classes = rows[rows["measurement_source_value"] == "molecular_class"]
    assert list(classes["value_source_value"]) == ["C1", "not called: abstained"]


def test_omop_rows(sjd: Sjd, home: Path) -> None:
    done = sjd("exchange", home / "sheet.csv", home / "o", "--to", "omop", "--scores", home / "scores.csv", "--json")
    payload = json.loads(done.out)
    rows = pd.read_csv(home / "o" / "measurement.csv")
    assert payload["measurements"] == len(rows) and payload["persons"] == 3
    assert list(rows["measurement_id"]) == list(range(1, len(rows) + 1))
    assert (
        rows[["person_id", "measurement_concept_id", "measurement_date", "measurement_type_concept_id"]]
        .notna()
        .all(axis=None)
    )
    assert rows[["range_low", "range_high", "measurement_datetime", "provider_id"]].isna().all(axis=None)
    persons = pd.read_csv(home / "o" / "person_ids.csv", dtype={"person_source_value": str})
    assert dict(persons.itertuples(index=False)) == {1: "../P 2", 2: "01005", 3: "lone"}
    visits = pd.read_csv(home / "o" / "visit_ids.csv", dtype=str)
    assert list(visits["sample_source_value"]) == ["01005a", "01005b", "odd", "lone"]
    assert list(visits["person_id"]) == ["2", "2", "1", "3"]

    def of(name: str) -> pd.DataFrame:
        return rows[rows["measurement_source_value"] == name]

    igg = of("igg")
    assert list(igg["value_as_number"]) == [16.1, 14.0, 11.0] and list(igg["visit_occurrence_id"]) == [1, 2, 3]
    assert (igg["unit_source_value"] == "g/L").all() and (igg["unit_concept_id"] == 8636).all()
    assert list(of("anti_ssa")["value_as_concept_id"]) == [9191, 9189, 9189]
    assert list(of("esspri_acceptable")["value_source_value"]) == ["absent", "present"]
    open_score = of("esspri")[of("esspri")["visit_occurrence_id"] == 3]
    assert list(open_score["operator_concept_id"]) == [4171755, 4171754]
    assert list(open_score["value_as_number"]) == [1.3333333333333333, 4.666666666666667]
    assert of("esspri")["operator_concept_id"].isna().sum() == 2 and 4 not in set(of("esspri")["visit_occurrence_id"])
    assert list(of("acr_eular_class")["value_source_value"]) == ["definite", "undecided", "no"]


def test_rows_do_not_depend_on_the_pieces_they_are_made_in(
    sjd: Sjd, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = home / "whole", home / "cut"
    assert sjd("exchange", home / "sheet.csv", whole, "--to", "omop", "--scores", home / "scores.csv").code == 0
    monkeypatch.setattr(omop, "BLOCK", 1)
    assert sjd("exchange", home / "sheet.csv", cut, "--to", "omop", "--scores", home / "scores.csv").code == 0
    assert (whole / "measurement.csv").read_bytes() == (cut / "measurement.csv").read_bytes()


def test_concepts_and_numbers_of_persons_are_the_users(sjd: Sjd, home: Path) -> None:
    (home / "omop.yaml").write_text("concepts: {igg: {concept_id: 2000000001}}\nunits: {'g/L': {concept_id: 7}}\n")
    (home / "persons.csv").write_text("person_id,person_source_value\n40,01005\n7,gone\n")
    done = sjd(
        "exchange", home / "sheet.csv", home / "o", "--to", "omop", "--definition", home / "omop.yaml", "--persons",
        home / "persons.csv",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = pd.read_csv(home / "o" / "measurement.csv")
    igg = rows[rows["measurement_source_value"] == "igg"]
    assert set(igg["measurement_concept_id"]) == {2000000001} and set(igg["unit_concept_id"]) == {7}
    persons = pd.read_csv(home / "o" / "person_ids.csv", dtype={"person_source_value": str})
    assert dict(persons.itertuples(index=False)) == {40: "01005", 7: "gone", 41: "../P 2", 42: "lone"}


REFUSED: list[tuple[str, dict[str, str], int, list[str]]] = [
    ("--to fhir", {}, 2, ["fhir", "phenopackets and omop"]),
    ("--to omop --calls calls", {}, 2, ["--cohort and --calls go together"]),
    ("--to phenopackets --persons {home}/persons.csv", {}, 2, ["--persons is for --to omop"]),
    ("--to omop --scores {home}/scores.csv", {"scores.csv": "sample_id,esspri\nzz,1\n"}, 3, ["none of its 1", "'zz'"]),
    ("--to omop --scores {home}/scores.csv", {"scores.csv": "person,esspri\nzz,1\n"}, 2, ["no column 'sample_id'"]),
    ("--to omop --scores {home}/scores.csv", {"scores.csv": SCORES + SCORES.splitlines()[1]}, 3, ["01005a"]),
    ("--to omop", {"sheet.csv": SHEET.replace("2024-02-02", "")}, 3, ["'lone' has no date", "1 of 4 rows"]),
    ("--to omop", {"sheet.csv": SHEET.replace(",1610,", ",1.6,")}, 3, ["01005a", "igg", "g/L"]),
    ("--to phenopackets", {"sheet.csv": SHEET.replace("46,F", "46,M")}, 3, ["'01005'", "female", "male"]),
    ("--to phenopackets --patients diseas==1", {}, 2, ["diseas", "did you mean 'disease'", "There are: sample_id, "]),
    ("--to phenopackets --definition {home}/phenopackets.yaml", {
        "phenopackets.yaml": "assays: {igg: {id: 'XYZ:1'}}\n"}, 2, ["'XYZ'", "resources"]),
    ("--to phenopackets --definition {home}/phenopackets.yaml", {
        "phenopackets.yaml": "assays: {igg: {id: 'SJD:'}}\n"}, 3, ["no CURIE"]),
    ("--to omop --persons {home}/persons.csv", {
        "persons.csv": "person_id,person_source_value\nx,01005\n"}, 3, ["'01005'", "whole number"]),
    ("--to omop --persons {home}/persons.csv", {
        "persons.csv": "person_id,person_source_value\n3,a\n3,b\n"}, 3, ["person_id 3 comes more than once"]),
    ("--to omop --scores {home}/other.csv", {
        "other.csv": "sample_id,batch\n01005a,1\n"}, 3, ["other.csv holds no score", "'batch'", "sjd score"]),
    ("--to omop --persons {home}/persons.csv", {"persons.csv": "person_id,person\n3,a\n"}, 2, ["person_source_value"]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "files", "code", "words"), REFUSED)
def test_what_is_refused_leaves_nothing(
    sjd: Sjd, home: Path, options: str, files: dict[str, str], code: int, words: list[str]
) -> None:
    for name, content in files.items():
        (home / name).write_text(content)
    before = sorted(home.iterdir())
    done = sjd("exchange", home / "sheet.csv", home / "out", *options.format(home=home).split())
    assert done.code == code and "Traceback" not in done.err and done.out == "", done.err
    for word in words:
        assert word in done.err, done.err
    assert sorted(home.iterdir()) == before


def test_a_folder_that_holds_something_is_left_alone(sjd: Sjd, home: Path) -> None:
    (home / "out").mkdir()
    assert sjd("exchange", home / "sheet.csv", home / "out", "--to", "omop").code == 0
    kept = (home / "out" / "measurement.csv").read_bytes()
    again = sjd("exchange", home / "sheet.csv", home / "out", "--to", "omop")
    assert again.code == 2 and "no empty folder" in again.err
    assert (home / "out" / "measurement.csv").read_bytes() == kept


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: one.pop("id"), "Phenopacket lacks id"),
        (lambda one: one.pop("metaData"), "lacks meta_data"),
        (lambda one: one["metaData"]["resources"].pop(), "prefix 'UCUM' is used"),
        (lambda one: one["metaData"]["resources"][0].pop("version"), r"resources\[0\] lacks version"),
        (lambda one: one["measurements"][0].pop("assay"), r"measurements\[0\] lacks assay"),
        (lambda one: one["measurements"][0].pop("value"), "lacks value or complex_value"),
        (lambda one: one["measurements"][0]["value"]["quantity"].pop("unit"), "value.quantity lacks unit"),
        (lambda one: one["measurements"][0]["assay"].update(id="igg"), "'igg' is no CURIE"),
        (lambda one: one["subject"].update(height=180), "height"),
    ],
)
def test_the_check_of_a_phenopacket_finds_what_is_wrong(
    sjd: Sjd, home: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    sjd("exchange", home / "sheet.csv", home / "out", "--to", "phenopackets")
    found = packet(home / "out" / "01005.json")
    change(found)
    with pytest.raises(DataError, match=words):
        check_packet(json.dumps(found))


def test_without_the_package_the_extra_is_named(sjd: Sjd, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "phenopackets.schema.v2", None)
    done = sjd("exchange", home / "sheet.csv", home / "out", "--to", "phenopackets")
    assert done.code == 1 and "sjd-dask[exchange]" in done.err and not (home / "out").exists()
