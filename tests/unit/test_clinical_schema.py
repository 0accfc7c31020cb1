"""The column dictionary: schema, document and what is read and written are one."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from sjd_dask.clinical import MEASURES
from sjd_dask.clinical.definitions import load_definition
from sjd_dask.jobs.clinical_schema import sheet_tables
from sjd_dask.jobs.mapping import read_mapping
from sjd_dask.jobs.schemas import schema_text
from sjd_dask.jobs.score_sheet import score_sheet
from sjd_dask.jobs.sheet_files import write_table
from sjd_dask.simulate import Simulation

DOCUMENT = Path(__file__).parents[2] / "docs" / "clinical_sheet.md"


def test_the_document_has_the_columns_of_the_definition() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = "sheet_tables -->\n", "<!-- end -->"
    told = text[text.index(begin) + len(begin) : text.index(end)]
    assert told == sheet_tables(), "put the text of sheet_tables() between the two comments"
    for name in load_definition("columns")["columns"]:
        assert told.count(f"| `{name}` |") == 1


def test_the_mapping_of_the_document_can_be_read(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    example = text[text.index("```yaml\n") + 8 :].split("```")[0]
    (tmp_path / "m.yaml").write_text(example, encoding="utf-8")
    assert read_mapping(tmp_path / "m.yaml").targets()["IgG result"] == "igg"
    assert set(yaml.safe_load(example)) <= set(json.loads(schema_text("clinical-mapping"))["properties"])


def test_a_simulated_sheet_keeps_the_schema() -> None:
    properties = json.loads(schema_text("clinical-sheet"))["properties"]
    frame = Simulation(200, 5, seed=1).clinical_sheet().reset_index()
    assert set(frame.columns) <= set(properties)
    for name in frame.columns:
        column, rule = frame[name].dropna(), properties[name]
        if rule["kind"] == "number":
            assert column.between(rule["minimum"], rule["maximum"]).all(), name
        elif rule["kind"] in ("level", "flag"):
            assert set(column) <= set(rule["enum"]), name
    assert properties["igg"]["units"]["mg/dL"] == 100 and properties["igg"]["unit"] == "g/L"
    assert all(rule.get("mark") and rule.get("source") for rule in properties.values())


@pytest.mark.parametrize("measures", [["all"], ["star", "esspri"]])
def test_scores_are_as_their_schema_says(tmp_path: Path, measures: list[str]) -> None:
    columns = json.loads(schema_text("scores"))["properties"]
    sheet = write_table(Simulation(60, 5, seed=1).clinical_sheet().reset_index(), tmp_path / "s.csv")
    score_sheet(sheet, tmp_path / "o.parquet", measures=measures)
    found = pq.read_schema(tmp_path / "o.parquet")
    for one in found:
        assert str(one.type) == columns[one.name]["dtype"], one.name


def test_no_two_measures_declare_a_column_of_two_types() -> None:
    """One table may hold all of them, and one schema tells of both."""
    types: dict[str, tuple[str, str]] = {}
    for measure in MEASURES.values():
        for name, (kind, _) in measure.columns.items():
            other = types.setdefault(name, (kind, measure.name))
            assert other[0] == kind, f"{name} is {kind} in {measure.name} and {other[0]} in {other[1]}"
