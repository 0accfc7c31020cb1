"""The columns of a clinical sheet and of its scores, as JSON Schema and as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sjd_dask import names
from sjd_dask.clinical.definitions import MARKS, load_definition
from sjd_dask.jobs.mapping import Mapped
from sjd_dask.jobs.score_table import score_columns
from sjd_dask.jobs.table_columns import ResultTable

GROUPS = {
    "ids": "Who and when",
    "essdai": "Systemic activity: ESSDAI domains (levels, not points) and recorded totals",
    "esspri": "Symptoms: ESSPRI scales",
    "symptoms": "Symptoms: mood, sleep, pain",
    "eyes": "Eyes",
    "saliva": "Saliva",
    "ultrasound": "Ultrasound of the salivary glands",
    "biopsy": "Labial gland biopsy",
    "laboratory": "Serology and laboratory",
    "entry": "Entry questions of the 2016 ACR/EULAR criteria",
    "exclusion": "Exclusions of the 2016 ACR/EULAR criteria",
    "sledai": "SLEDAI descriptors: 0, 1, or the points of the item",
}


def sheet_schema() -> dict[str, Any]:
    """JSON Schema of a row of a clinical sheet, in canonical names and units.

    Beside JSON Schema's own words a column has ``kind``, ``unit``, ``units`` (others that are converted), ``aliases``,
    ``mark`` (how sure the definition is) and ``source``.
    """
    definition = load_definition("columns")
    properties = {name: _column(spec) for name, spec in definition["columns"].items()}
    return {
        "title": "clinical sheet",
        "description": "One row per sample or visit. A column may be absent and a cell empty: missing is never 0, and "
        "unknown never negative. A header may carry a unit, as in `igg [mg/dL]`; a column `igg_unit` gives it row by "
        "row. Ids are text. " + str(definition.get("note", "")),
        "type": "object",
        "properties": properties,
        "anyOf": [{"required": [names.SAMPLE_ID]}, {"required": [names.PERSON_ID]}],
        "missing": list(definition["values"]["missing"]["spellings"]),
        "marks": dict(MARKS),
    }


def _column(spec: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": spec["title"], "kind": spec["kind"]}
    kind = spec["kind"]
    if kind in ("id", "date"):
        found["type"] = ["string", "null"]
        if kind == "date":
            found["format"] = "date"
    elif kind == "category":
        found["enum"] = [*spec["values"], None]
    elif kind == "number":
        found["type"] = ["integer" if spec.get("integer") else "number", "null"]
        if "range" in spec:
            found["minimum"], found["maximum"] = spec["range"]
        found["unit"] = spec["unit"]
        others = {name: by for name, by in spec.get("units", {}).items() if name != spec["unit"]}
        if others:
            found["units"] = others
    elif kind == "level":
        found["enum"] = [*(spec.get("recode") or spec["levels"]), None]
    else:
        found["enum"] = [0, 1, None]
    for name in ("group", "aliases", "mark", "source"):
        if spec.get(name):
            found[name] = spec[name]
    return found


def scores_schema() -> dict[str, Any]:
    """JSON Schema of a row of what `sjd score` writes."""
    ids = {
        names.SAMPLE_ID: ("string", "Row of the sheet; person_id|visit where the sheet has none."),
        names.PERSON_ID: ("string?", "Person."),
        names.VISIT: ("string?", "Visit, as text."),
        names.DATE: ("string?", "Date of the visit, year-month-day."),
    }
    columns = {**ids, **score_columns()}
    table = ResultTable(
        "One row per row of the sheet, in its order, with the columns of the measures that were asked for. A score is "
        "missing where the missing items leave it open; its _min and _max say what is sure.",
        columns,
        tuple(name for name in columns if name != names.SAMPLE_ID),
    ).schema("scores")
    # Columns of a model are called after its groups.
    return {**table, "title": "scores", "additionalProperties": True}


def mapping_schema() -> dict[str, Any]:
    """JSON Schema of a mapping file."""
    return Mapped.model_json_schema()


def sheet_tables() -> str:
    """The columns as Markdown tables, one a group."""
    return "\n\n".join(_tables(load_definition("columns")["columns"])) + "\n"


def _tables(columns: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for group, title in GROUPS.items():
        lines = [
            f"### {title}",
            "",
            "| column | what | values | other units | also called | mark |",
            "|---|---|---|---|---|---|",
        ]
        for name, spec in columns.items():
            if spec["group"] != group:
                continue
            others = ", ".join(one for one in spec.get("units", {}) if one != spec.get("unit"))
            aliases = ", ".join(f"`{one}`" for one in spec.get("aliases", ()))
            lines.append(f"| `{name}` | {spec['title']} | {_values(spec)} | {others} | {aliases} | {spec['mark']} |")
        yield "\n".join(lines)


def _values(spec: Mapping[str, Any]) -> str:
    kind = spec["kind"]
    if kind == "id":
        return "text"
    if kind == "date":
        return "ISO date"
    if kind == "flag":
        return "yes or no"
    if kind == "category":
        return " or ".join(spec["values"])
    if kind == "level":
        return ", ".join(map(str, spec.get("recode") or spec["levels"]))
    unit = {"score": "", "a": " years"}.get(spec["unit"], f" {spec['unit']}")
    low, high = spec.get("range", ("", ""))
    return f"{low} to {high}{unit}" + (", whole" if spec.get("integer") else "")
