"""`sjd trial`: from a protocol to tables, one JSON and one page."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from sjd_dask.clinical.trials.trial_columns import TABLES, columns_markdown
from sjd_dask.jobs.trial import read_protocol, run_trial

from .conftest import Sjd

SECTIONS = ["eligibility", "feasibility", "design", "randomisation", "reanalysis"]
DOMAINS = ("constitutional", "lymphadenopathy", "glandular", "articular", "cutaneous", "pulmonary", "renal", "muscular",
           "pns", "cns", "haematological", "biological")  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Sixty persons screened, their calls, and a finished trial of forty of them. Ids keep their leading zeros."""
    rng = np.random.default_rng(1)
    ids = [f"0{i:03d}" for i in range(60)]
    group = np.tile(["C1", "C2", "C3"], 20)
    sheet = pd.DataFrame({name: rng.integers(0, 2, 60) for name in DOMAINS}).assign(cns=0, person_id=ids, visit=1)
    sheet = sheet.assign(age=40, site=np.tile(["A", "B"], 30), anti_ssa="positive", hepatitis_c_active=0)
    sheet["igg [mg/dL]"] = 1500
    sheet["renal"] = sheet["renal"].where(sheet.index != 5)
    sheet.loc[3, ["anti_ssa", "hepatitis_c_active"]] = ["negative", np.nan]
    later = sheet.assign(visit=2, age=41)
    pd.concat([sheet, later]).to_csv(tmp_path / "sheet.csv", index=False)
    calls = pd.DataFrame({"person_id": ids, "call": group}).iloc[:-4]
    calls.to_csv(tmp_path / "calls.csv", index=False)
    arm = np.tile(["active", "active", "active", "placebo", "placebo", "placebo"], 10)[:42]
    change = -2 + rng.normal(0, 2, 42) - 4.0 * ((arm == "active") & (group[:42] == "C3"))
    pd.DataFrame({"person_id": ids[:42], "arm": arm, "change": change}).to_csv(tmp_path / "done.csv", index=False)
    return tmp_path


def protocol(home: Path, only: str = "", **changes: Any) -> Path:
    """The file of a protocol, with changed keys, and of its sections those named alone."""
    raw: dict[str, Any] = {
        "name": "small", "sheet": "sheet.csv", "calls": "calls.csv", "output": "out", "screening": "visit == 1",
        "criteria": {
            "include": [{"name": "active", "when": "essdai >= 14"}, {"name": "IgG", "when": "igg < 20"},
                        {"name": "anti-SSA", "when": "anti_ssa"}],
            "exclude": [{"name": "hepatitis C", "when": "hepatitis_c_active"}],
        },
        "feasibility": {"by": ["molecular_class", "site"], "needed": 20},
        "design": {"endpoints": [{"name": "essdai", "kind": "continuous", "sd": 6, "effect": 3}], "simulate": False},
        "randomisation": {
            "arms": ["active", "placebo"], "strata": ["molecular_class"], "seed": 987654, "per_stratum": 8,
        },
        "reanalysis": {"table": "done.csv", "endpoint": "change", "control": "placebo", "by": ["molecular_class"]},
    }  # fmt: skip
    others = ["criteria", *SECTIONS[1:]]
    raw = {key: value for key, value in raw.items() if not only or key not in others or key in only.split()}
    path = home / "protocol.yaml"
    kept = {key: value for key, value in {**raw, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(kept), encoding="utf-8")
    return path


def tables(path: Path) -> dict[str, pd.DataFrame]:
    """The tables of a protocol, without files and page."""
    return run_trial(*read_protocol(path)).tables


def read(home: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(home / "out" / f"{name}.csv", dtype={"person_id": str}, keep_default_na=False, na_values=[""])


def test_a_whole_protocol(sjd: Sjd, home: Path) -> None:
    done = sjd("trial", protocol(home))
    assert done.code == 0, done.err
    files = [Path(line) for line in done.out.splitlines()]
    assert all(file.is_file() for file in files) and {"trial.json", "trial.html"} <= {file.name for file in files}
    assert sorted(file.name for file in (home / "out").iterdir()) == sorted(file.name for file in files)
    persons = read(home, "eligibility").set_index("person_id")
    assert len(persons) == 60 and persons.loc["0003", "failures"] == "anti-SSA"
    sheet = pd.read_csv(home / "sheet.csv", dtype={"person_id": str}).query("visit == 1").set_index("person_id")
    weights = dict(zip(DOMAINS, (3, 4, 2, 2, 3, 5, 5, 6, 5, 5, 2, 1), strict=True))
    total = sum(sheet[name] * weight for name, weight in weights.items())
    expected = np.where(total >= 14, "yes", "no")
    known = [one for one in sheet.index if one not in ("0003", "0005")]
    assert (persons.loc[known, "eligible"] == pd.Series(expected, sheet.index)[known]).all()
    facts = json.loads((home / "out" / "trial.json").read_text(encoding="utf-8"))
    assert facts["sections"] == SECTIONS and sum(facts["eligible"].values()) == facts["screened"] == 60
    assert int(read(home, "design_sizes")["n_total"].iloc[0]) == 128
    counts = read(home, "feasibility").set_index(["by", "level"])
    assert counts.loc[("molecular_class", "unknown"), "screened"] == 4
    test = read(home, "reanalysis_interaction").iloc[0]
    assert test["p_value"] == facts["reanalysis"][0]["interactions"][0]["p_value"] < 0.05


def test_every_column_is_documented(home: Path) -> None:
    design = {
        "strata": [{"name": "C1", "share": 0.5}, {"name": "C2", "share": 0.3}, {"name": "C3", "share": 0.2}],
        "classifier": {"target": ["C3"], "sensitivity": 0.8, "specificity": 0.9},
        "endpoints": [
            {"name": "essdai", "kind": "continuous", "sd": 6, "effect": 3},
            {"name": "response", "kind": "binary", "control": 0.3, "treatment": 0.6},
        ],
        "simulate": {"trials": 100},
    }
    trial = pd.read_csv(home / "done.csv", dtype={"person_id": str})
    trial.assign(response=(trial["change"] < -2).astype(int)).to_csv(home / "done.csv", index=False)
    again = {"table": "done.csv", "endpoint": "response", "control": "placebo", "by": ["site"], "kind": "binary"}
    found = run_trial(*read_protocol(protocol(home, design=design, design_shares="molecular_class", reanalysis=again)))
    assert any("shares of the design's strata" in note for note in found.notes)
    placeholders = {"active", "placebo", "molecular_class", "sample_id", "visit"}
    for name, table in found.tables.items():
        for column in table:
            known = column in TABLES[name] or column in placeholders or column.startswith(("criterion_", "share_C"))
            assert known, f"{name}.csv has the column {column}"


def test_the_page_of_documentation_is_current() -> None:
    text = (Path(__file__).parents[2] / "docs" / "trials.md").read_text(encoding="utf-8")
    assert text.endswith("## Columns\n\n" + columns_markdown()), "write columns_markdown() anew below `## Columns`"


def test_the_list_is_kept_from_the_page_and_the_json(sjd: Sjd, home: Path) -> None:
    path = protocol(home, "criteria randomisation")
    assert sjd("trial", path).code == 0
    file = home / "out" / "randomisation.csv"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lists = read(home, "randomisation")
    facts = json.loads((home / "out" / "trial.json").read_text(encoding="utf-8"))
    assert facts["randomisation"]["sha256_of_list"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert set(lists["stratum"]) <= {f"molecular_class={one}" for one in ("C1", "C2", "C3", "unknown")}
    for name in ("trial.html", "trial.json"):
        text = re.sub(r"base64,[^\"]+", "", (home / "out" / name).read_text(encoding="utf-8"))
        assert "987654" not in text and "molecular_class=C1-0001" not in text
        assert not re.search(r"(?<![\d.])00\d\d(?!\d)", text)
    first = file.read_bytes()
    assert sjd("trial", path).code == 0 and file.read_bytes() == first


def test_a_list_in_use_is_continued_and_never_replaced(sjd: Sjd, home: Path) -> None:
    path = protocol(home, "randomisation")
    assert sjd("trial", path).code == 0
    file = home / "out" / "randomisation.csv"
    first, page = file.read_bytes(), (home / "out" / "trial.html").read_bytes()
    for change in ("randomisation.seed=5", "randomisation.per_stratum=2", "randomisation.block_sizes=[2]"):
        done = sjd("trial", path, "--set", change, "--set", "hide_below=0")
        assert done.code == 2 and "another list of allocations" in done.err and done.out == ""
        assert file.read_bytes() == first and (home / "out" / "trial.html").read_bytes() == page
    assert sjd("trial", path, "--set", "randomisation.per_stratum=30").code == 0
    assert len(file.read_bytes()) > 2 * len(first)
    assert {one.name for one in (home / "out").iterdir() if one.name.startswith(".")} == set()


def test_class_for_short(home: Path) -> None:
    rules = {"include": [{"name": "class", "when": "class in ['C1', 'C3']"}]}
    again = {"table": "done.csv", "endpoint": "change", "by": "class"}
    sections = "criteria feasibility reanalysis"
    found = tables(protocol(home, sections, criteria=rules, feasibility={"by": "class"}, reanalysis=again))
    counts = found["feasibility"].set_index(["by", "level"])["eligible"]
    assert counts[("class", "C1")] == 19 and counts[("class", "C2")] == 0
    assert found["reanalysis"]["level"].tolist() == ["all", "C1", "C2", "C3"]
    assert set(found["reanalysis"]["control"]) == {"placebo"}


def test_a_sheet_with_names_of_its_own(home: Path) -> None:
    before = tables(protocol(home, "criteria"))["eligibility"]
    sheet = pd.read_csv(home / "sheet.csv", dtype=str).rename(columns={"person_id": "Subject", "renal": "Kidney"})
    sheet.to_csv(home / "sheet.csv", index=False)
    (home / "names.yaml").write_text("columns: {Subject: person_id, Kidney: renal}\n", encoding="utf-8")
    after = tables(protocol(home, "criteria", mapping="names.yaml"))["eligibility"]
    pd.testing.assert_frame_equal(after[before.columns], before)


def test_a_protocol_of_one_section_and_json(sjd: Sjd, home: Path) -> None:
    path = protocol(home, "randomisation", **dict.fromkeys(("sheet", "calls", "screening")))
    done = sjd("trial", path, "--json", "--set", "randomisation.strata={site: [A, B]}", "--set", "output=only")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["sections"] == ["randomisation"] and found["randomisation"]["strata"] == {"site": ["A", "B"]}
    assert {Path(file).name for file in found["files"]} == {
        "randomisation.csv", "randomisation_balance.csv", "trial.json", "trial.html",
    }  # fmt: skip
    assert not (home / "out").exists()


def test_rows_in_another_order_give_the_same_answers(home: Path) -> None:
    path = protocol(home, "criteria reanalysis")
    before = tables(path)
    for name in ("sheet.csv", "calls.csv", "done.csv"):
        table = pd.read_csv(home / name, dtype=str, keep_default_na=False)
        table.sample(frac=1, random_state=3).to_csv(home / name, index=False)
    after = tables(path)
    persons = before["eligibility"].set_index("person_id")
    pd.testing.assert_frame_equal(after["eligibility"].set_index("person_id").loc[persons.index], persons)
    pd.testing.assert_frame_equal(after["criteria"], before["criteria"])
    pd.testing.assert_frame_equal(after["reanalysis"], before["reanalysis"], rtol=1e-9)


def test_a_column_nobody_recorded_leaves_everyone_undetermined(sjd: Sjd, home: Path) -> None:
    rules = {"exclude": [{"name": "sarcoidosis", "when": "sarcoidosis"}]}
    done = sjd("trial", protocol(home, "criteria", criteria=rules))
    assert done.code == 0 and "no column sarcoidosis" in done.err
    found = read(home, "eligibility")
    assert set(found["eligible"]) == {"undetermined"} and set(found["undetermined_by"]) == {"sarcoidosis: sarcoidosis"}


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"screening": None}, 2, "a person is screened once"),
        ({"screening": "visit == 9"}, 2, "keeps none"),
        ({"sheet": "other.csv"}, 3, "there is no file"),
        ({"criteria": {"include": [{"name": "a", "when": "esdai > 3"}]}}, 2, "did you mean 'essdai'"),
        ({"criteria": {"include": [{"name": "a", "when": "dominantt == 1"}]}}, 2, "did you mean 'dominant'"),
        ({"calls": None}, 2, "comes with `calls`"),
        ({"feasibility": {"by": ["sites"]}}, 2, "did you mean 'site'"),
        ({"scores": ["esdai"]}, 2, "did you mean 'essdai'"),
        ({"units": {"igg": "stone"}}, 2, "stone"),
        ({"calls": "done.csv"}, 2, "sample_id or person_id, and call"),
        ({"reanalysis": {"table": "done.csv", "endpoint": "y", "control": "placebo", "by": ["site"]}}, 2, "'y'"),
        (
            {"reanalysis": {"table": "done.csv", "endpoint": "change", "control": "placebo", "by": ["person_id"]}},
            2,
            "42 different values",
        ),
        ({"nam": "x"}, 2, "did you mean `name`?"),
        ({"output": "done.csv"}, 2, "which is a file"),
    ],
)
def test_refusals_leave_nothing(sjd: Sjd, home: Path, changes: dict[str, Any], code: int, said: str) -> None:
    done = sjd("trial", protocol(home, **changes))
    assert (done.code, done.out) == (code, ""), done.err
    assert said in done.err and "Traceback" not in done.err and not (home / "out").exists()


def test_an_implausible_value_names_person_and_unit(sjd: Sjd, home: Path) -> None:
    sheet = pd.read_csv(home / "sheet.csv", dtype=str).rename(columns={"igg [mg/dL]": "igg"})
    sheet.to_csv(home / "sheet.csv", index=False)
    done = sjd("trial", protocol(home))
    assert done.code == 3 and "igg" in done.err and "0000" in done.err and "mg/dL" in done.err
