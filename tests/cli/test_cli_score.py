"""`sjd score`: from a clinical sheet to a table of scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import MEASURES, score
from sjd_dask.jobs.sheet_files import read_table, write_table
from sjd_dask.simulate import Simulation
from sjd_dask.store.cohort import create_cohort, open_cohort

from .conftest import Sjd, check_refused

TABLE = """\
patient,visit,constitutional,lymphadenopathy,glandular,articular,cutaneous,pulmonary,renal,muscular,pns,cns,haematological,biological,igg,anti_ssa,dryness,fatigue,pain
01,1,1,0,0,2,0,0,0,0,0,0,1,1,1250,positive,3,4,5
01,2,0,0,0,1,0,0,0,0,0,0,1,,1300,,3,,5
2,1,0,0,0,0,0,0,3,0,2,3,0,0,900,no,9,8,7
"""


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "sheet.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def test_a_sheet_becomes_a_table_and_a_summary(sheet: Path, tmp_path: Path, sjd: Sjd) -> None:
    out = tmp_path / "scores.csv"
    done = sjd("score", sheet, out, "--measure", "essdai", "--measure", "esspri", "--units", "igg=mg/dL")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[:2] == [str(out), "essdai: 2 of 3 rows determined"]
    assert "  essdai_activity: high 1, moderate 1, undetermined 1" in lines
    assert "  1 row: missing: biological" in lines and "  1 row: missing: fatigue" in lines
    assert "made of person_id and visit, as in '01|1'" in done.err
    found = read_table(out)
    assert found["sample_id"].tolist() == ["01|1", "01|2", "2|1"] and found["person_id"].tolist() == ["01", "01", "2"]
    # 3 + 4 + 2 + 1; 2 + 2 and a biological domain of 0 to 2 points; 15 + 10 + 15.
    assert found["essdai"].fillna(-1).tolist() == [10, -1, 40]
    assert found["essdai_min"].tolist() == [10, 4, 40] and found["essdai_max"].tolist() == [10, 6, 40]
    assert found["esspri"].fillna(-1).tolist() == [4, -1, 8]
    assert found["essdai_activity"].fillna("").tolist() == ["moderate", "", "high"]


def test_json_holds_the_counts(sheet: Path, tmp_path: Path, sjd: Sjd) -> None:
    done = sjd("score", sheet, tmp_path / "o.json", "--measure", "esspri", "--json")
    found = json.loads(done.out)
    assert found["file"] == str(tmp_path / "o.json") and found["n_rows"] == 3
    assert (found["measures"]["esspri"]["determined"], found["measures"]["esspri"]["undetermined"]) == (2, 1)
    assert found["measures"]["esspri"]["reasons"] == {"missing: fatigue": 1}
    assert json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))[2]["esspri"] == 8


def test_both_spellings_all_and_a_subset_of_domains(sheet: Path, tmp_path: Path, sjd: Sjd) -> None:
    for name in ("acr-eular", "acr_eular", "ACR-EULAR"):
        assert sjd("score", sheet, tmp_path / f"{name}.tsv", "--measure", name, "--units", "igg=mg/dL").code == 0
    assert (tmp_path / "acr-eular.tsv").read_bytes() == (tmp_path / "acr_eular.tsv").read_bytes()
    done = sjd("score", sheet, tmp_path / "all.parquet", "--measure", "all", "--units", "igg=mg/dL", "--json")
    assert done.code == 0, done.err
    measures = list(json.loads(done.out)["measures"])
    assert {"essdai", "clinessdai", "esspri", "acr_eular", "star", "axes"} <= set(measures)
    assert {"sledai", "nsst", "integrated"}.isdisjoint(measures)
    done = sjd("score", sheet, tmp_path / "two.csv", "--measure", "essdai", "--domains", "renal,pns", "-q")
    assert done.code == 0, done.err
    assert read_table(tmp_path / "two.csv")["essdai"].tolist() == [0, 0, 25]


def test_all_leaves_out_what_compares_visits_where_no_person_is_named(tmp_path: Path, sjd: Sjd) -> None:
    (tmp_path / "s.csv").write_text("sample_id,dryness,fatigue,pain\nS1,1,2,3\n", encoding="utf-8")
    done = sjd("score", tmp_path / "s.csv", tmp_path / "o.csv", "--measure", "all", "--json")
    assert done.code == 0 and "no person_id: star, cress, change" in done.err
    assert {"esspri", "axes"} <= set(json.loads(done.out)["measures"])
    (tmp_path / "s.csv").write_text("sample_id,drynes\nS1,1\n", encoding="utf-8")
    refused = sjd("score", tmp_path / "s.csv", tmp_path / "p.csv", "--measure", "all")
    check_refused(refused, 2, ["none of the columns that a measure reads", "did you mean 'dryness'"])


def test_serology_is_carried_to_later_visits_when_asked(sheet: Path, tmp_path: Path, sjd: Sjd) -> None:
    out = tmp_path / "scores.csv"
    done = sjd("score", sheet, out, "--measure", "acr-eular", "--carry", "anti_ssa", "--units", "igg=mg/dL")
    assert done.code == 0, done.err
    found = read_table(out)
    assert found["acr_eular_carried"].fillna("").tolist() == ["", "anti_ssa from 01|1", ""]
    assert found["acr_eular_item_anti_ssa"].tolist() == ["positive", "positive", "negative"]
    check_refused(
        sjd("score", sheet, tmp_path / "no.csv", "--measure", "acr-eular", "--carry", "anti_sa"), 2, "did you mean"
    )


def test_a_definition_is_replaced_by_a_file(sheet: Path, tmp_path: Path, sjd: Sjd) -> None:
    (tmp_path / "esspri.yaml").write_text("acceptable: {below: 4}\n", encoding="utf-8")
    (tmp_path / "other.yaml").write_text("acceptable: {below: 3}\n", encoding="utf-8")
    found = []
    for given in ("esspri.yaml", "other.yaml"):
        option = tmp_path / given if given == "esspri.yaml" else f"esspri={tmp_path / given}"
        done = sjd("score", sheet, tmp_path / "o.csv", "--measure", "esspri", "--definition", option)
        assert done.code == 0, done.err
        found.append(read_table(tmp_path / "o.csv")["esspri_acceptable"].iloc[0])
    assert found == [False, False]
    words = ["no definition is called 'other'", "NAME=FILE"]
    check_refused(
        sjd("score", sheet, tmp_path / "p.csv", "--measure", "esspri", "--definition", tmp_path / "other.yaml"),
        2,
        words,
    )


def test_a_mapping_brings_in_a_table_of_other_names(tmp_path: Path, sjd: Sjd) -> None:
    table, rules = tmp_path / "theirs.csv", tmp_path / "rules.yaml"
    table.write_text("ID,NRS dry,NRS tired,NRS pain\n0017,3,4,5\n18,-9,4,5\n", encoding="utf-8")
    rules.write_text(
        "columns: {ID: person_id, NRS dry: dryness, NRS tired: fatigue, NRS pain: pain}\nmissing: [-9]\n",
        encoding="utf-8",
    )
    done = sjd("score", table, tmp_path / "o.csv", "--measure", "esspri", "--mapping", rules)
    assert done.code == 0 and "each row is one person" in done.err
    assert (tmp_path / "o.csv").read_text(encoding="utf-8").splitlines()[1].startswith("0017,0017,4,4,4,3,3,true,")
    rules.write_text("columns: {ID: person_id, NRS dryy: dryness}\n", encoding="utf-8")
    refused = sjd("score", table, tmp_path / "p.csv", "--measure", "esspri", "--mapping", rules)
    check_refused(refused, 2, ["has no column 'NRS dryy'; near to it: 'NRS dry'"])


def test_scores_become_sample_columns_of_a_cohort_and_a_cohort_is_a_sheet(tmp_path: Path, sjd: Sjd) -> None:
    simulation = Simulation(40, 5, seed=2)
    cohort = create_cohort(tmp_path / "cohort")
    cohort.add_samples(simulation.samples())
    items = write_table(simulation.clinical_sheet().reset_index(), tmp_path / "items.csv")
    out = tmp_path / "scores.csv"
    assert sjd("score", items, out, "--measure", "clinessdai", "--measure", "acr-eular").code == 0
    done = sjd("samples", tmp_path / "cohort", out, "--json")
    assert done.code == 0, done.err
    columns = open_cohort(tmp_path / "cohort").samples()
    expected = score(simulation.clinical_sheet(), ["clinessdai", "acr_eular"]).set_index("sample_id")
    np.testing.assert_array_equal(
        columns.loc[expected.index, "clinessdai_max"].astype(float), expected["clinessdai_max"]
    )
    assert columns["acr_eular_class"].dropna().isin(expected["acr_eular_class"].unique()).all()
    # The cohort's own sheet has recorded totals and one-value columns.
    done = sjd("score", tmp_path / "cohort", tmp_path / "again.parquet", "--measure", "esspri", "--json")
    assert done.code == 0 and json.loads(done.out)["n_rows"] == 40


def test_a_model_is_fitted_kept_and_used_again(tmp_path: Path, sjd: Sjd) -> None:
    items = write_table(Simulation(240, 5, seed=3).clinical_sheet().reset_index(), tmp_path / "items.csv")
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    done = sjd("score", items, first, "--measure", "nsst", "--fit", tmp_path / "nsst.json", "--baseline", "visit == 1")
    assert done.code == 0 and done.out.splitlines()[:2] == [str(first), str(tmp_path / "nsst.json")], done.err
    assert sjd("score", items, second, "--measure", "nsst", "--model", tmp_path / "nsst.json").code == 0
    assert first.read_bytes() == second.read_bytes()
    both = sjd("score", items, second, "--measure", "nsst", "--model", "a", "--fit", "b")
    check_refused(both, 2, ["--model and --fit don't go together"])
    check_refused(sjd("score", items, second, "--measure", "nsst"), 2, ["nsst needs a model", "--fit FILE"])
    check_refused(
        sjd("score", items, second, "--measure", "esspri", "--fit", "b"), 2, ["belong to nsst and integrated"]
    )


def test_a_reference_of_the_axes_is_kept_and_used_again(tmp_path: Path, sjd: Sjd) -> None:
    items = write_table(Simulation(160, 5, seed=3).clinical_sheet().reset_index(), tmp_path / "items.csv")
    few = write_table(read_table(items).head(5), tmp_path / "few.csv")
    kept = tmp_path / "reference.json"
    assert sjd("score", items, tmp_path / "a.csv", "--measure", "axes", "--save-reference", kept).code == 0
    assert sjd("score", few, tmp_path / "b.csv", "--measure", "axes", "--reference", kept).code == 0
    whole, alone = read_table(tmp_path / "a.csv"), read_table(tmp_path / "b.csv")
    pd.testing.assert_frame_equal(whole.head(5), alone, check_dtype=False)
    assert set(whole["axes_reference"]) == {"items.csv"}
    refused = sjd("score", few, tmp_path / "c.csv", "--measure", "esspri", "--reference", kept)
    check_refused(refused, 2, ["belong to the measure axes"])


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--measure", "essday"], 2, ["no measure 'essday' (did you mean 'essdai'?)"]),
        (["--measure", "sledai"], 2, ["sledai needs at least one of the columns"]),
        (["--measure", "esspri", "--domains", "renal"], 2, ["none of esspri takes an option 'domains'"]),
        (["--measure", "essdai", "--domains", "renall"], 2, ["renal"]),
        (["--measure", "essdai", "--units", "igg"], 2, ["write it as column=unit"]),
        (["--measure", "essdai", "--units", "igg=stone"], 2, ["unknown unit 'stone'", "mg/dL"]),
        (["--measure", "laboratory"], 3, ["sample '01|1', column 'igg': 1250 is implausible", "mg/dL"]),
        (["--measure", "essdai", "--option", "laboratory=maybe"], 2, ["laboratory: 'maybe'"]),
    ],
)
def test_what_can_not_be_scored_is_refused_and_nothing_is_written(
    sheet: Path, tmp_path: Path, sjd: Sjd, options: list[str], code: int, words: list[str]
) -> None:
    done = sjd("score", sheet, tmp_path / "o.csv", *options)
    check_refused(done, code, words)
    assert [one.name for one in tmp_path.iterdir()] == ["sheet.csv"]


def test_an_ending_that_names_no_format_is_refused_before_anything_is_read(tmp_path: Path, sjd: Sjd) -> None:
    check_refused(sjd("score", tmp_path / "no.csv", "o.xls", "--measure", "essdai"), 2, ["'o.xls' ends in none of"])
    check_refused(sjd("score", tmp_path / "no.csv", "o.csv", "--measure", "essdai"), 3, ["there is no file"])


@pytest.mark.parametrize(
    ("out", "options", "words"),
    [
        ("sheet.csv", (), ("SHEET and OUT",)),
        ("o.json", ("--save-reference", "o.json"), ("OUT and --save-reference",)),
        ("o.csv", ("--save-reference", "sheet.csv"), ("SHEET and --save-reference",)),
    ],
)
def test_nothing_is_written_over_the_sheet_or_twice_into_one_file(
    sheet: Path, tmp_path: Path, sjd: Sjd, monkeypatch: pytest.MonkeyPatch, out: str, options: Any, words: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    check_refused(sjd("score", sheet, out, "--measure", "axes", *options), 2, words)
    assert sheet.read_text(encoding="utf-8") == TABLE and [one.name for one in tmp_path.iterdir()] == ["sheet.csv"]


def test_nothing_is_written_among_the_parts_of_the_sheet(sheet: Path, tmp_path: Path, sjd: Sjd) -> None:
    (tmp_path / "parts").mkdir()
    part = tmp_path / "parts" / "a.parquet"
    pd.read_csv(sheet, dtype=str).to_parquet(part)
    done = sjd("score", part.parent, part.with_name("scores.parquet"), "--measure", "essdai")
    check_refused(done, 2, ["one more part of the sheet"])
    assert list(part.parent.iterdir()) == [part]
    table = part.with_name("scores.csv")
    assert sjd("score", part.parent, table, "--measure", "essdai", "--units", "igg=mg/dL").code == 0


def test_every_measure_says_what_it_writes(tmp_path: Path) -> None:
    """What is not declared has no type of its own, and no place in the schema."""
    frame = Simulation(60, 5, seed=5).clinical_sheet().reset_index()
    names = [name for name, one in MEASURES.items() if not one.needs_model and name != "sledai"]
    for name in names:
        found = score(frame, name).columns.drop(["sample_id", "person_id", "visit", "date"])
        assert set(found) <= set(MEASURES[name].columns), name
