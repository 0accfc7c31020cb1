"""Definitions: all marked, laid over by a user's file, and refused where they say nothing sensible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sjd_dask.clinical.columns import Columns
from sjd_dask.clinical.definitions import MARKS, check_marks, definition_names, load_definition
from sjd_dask.errors import SpecError


@pytest.mark.parametrize("name", definition_names())
def test_every_entry_of_every_definition_is_marked(name: str) -> None:
    table = load_definition(name)
    check_marks(table, name)
    marks = [entry["mark"] for entry in entries(table)]
    assert marks and set(marks) <= {"P", "S", "K"}


def entries(table: Any) -> list[dict[str, Any]]:
    found = []
    for section, value in table.items():
        if section in ("title", "note"):
            continue
        if "mark" in value:
            found.append(value)
        else:
            found += list(value.values()) if isinstance(value, dict) else value
    return found


def test_what_is_loaded_is_a_copy() -> None:
    load_definition("essdai")["items"].clear()
    assert len(load_definition("essdai")["items"]) == 12


def test_a_file_laid_over_changes_what_it_names_and_marks_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("items:\n  renal: {weight: 7}\n  biological: null\n", encoding="utf-8")
    items = load_definition("essdai", {"essdai": path})["items"]
    assert items["renal"]["weight"] == 7 and items["renal"]["levels"] == [0, 1, 2, 3]
    assert (items["renal"]["mark"], items["renal"]["source"]) == ("U", "given by the user")
    assert "biological" not in items and items["muscular"]["mark"] == "K"


def test_a_source_of_the_users_own_is_kept() -> None:
    given = {"essdai": {"items": {"renal": {"weight": 7, "mark": "K", "source": "our clinic"}}}}
    assert load_definition("essdai", given)["items"]["renal"]["source"] == "our clinic"


def test_replace_keeps_nothing_of_the_shipped_one() -> None:
    items = {"one": {"weight": 1, "levels": [0, 1]}}
    shipped = load_definition("essdai")
    given = {"replace": True, **{key: shipped[key] for key in ("activity", "improvement", "recorded")}, "items": items}
    table = load_definition("essdai", {"essdai": given})
    assert list(table["items"]) == ["one"] and table["items"]["one"]["mark"] == "U"
    with pytest.raises(SpecError, match="lacks its section 'activity'"):
        load_definition("essdai", {"essdai": {"replace": True, "items": items}})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"itmes": {}}, "did you mean 'items'"),
        ({"items": {"renal": {"weight": "five"}}}, "'weight' is a number and not a text"),
        ({"items": {"renal": 5}}, "'renal' is a mapping and not a number"),
        ({"items": {"renal": {"wieght": 6}}}, "did you mean 'weight'"),
        ({"items": {"rneal": None}}, "did you mean 'renal'"),
        ({"items": {"mine": 3}}, "carries no mark"),
    ],
)
def test_what_cannot_be_laid_over_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        load_definition("essdai", {"essdai": given})


def test_unknown_names_are_refused_also_among_the_users(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="did you mean 'essdai'"):
        load_definition("esdai")
    with pytest.raises(SpecError, match="did you mean 'esspri'"):
        load_definition("essdai", {"espri": {}})
    with pytest.raises(SpecError, match="can't be read"):
        load_definition("essdai", {"essdai": tmp_path / "gone.yaml"})
    for text in ("items: [", "- a\n"):
        (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(SpecError, match=r"no valid YAML|no mapping"):
            load_definition("essdai", {"essdai": tmp_path / "bad.yaml"})


@pytest.mark.parametrize(
    "table",
    [
        {"cut": 5},
        {"cut": {}},
        {"cut": {"value": 5}},
        {"cut": {"value": 5, "mark": "P"}},
        {"cut": {"value": 5, "mark": "Q", "source": "x"}},
        {"cut": {"a": {"mark": "P", "source": "x"}, "b": {"value": 1}}},
        {"cut": [{"value": 1}]},
    ],
)
def test_an_entry_without_mark_or_source_is_seen(table: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="cut"):
        check_marks(table, "mine")


def test_the_marks_are_explained() -> None:
    assert list(MARKS) == ["P", "S", "K", "U"]


def test_no_spelling_stands_for_two_columns() -> None:
    given = {"columns": {"columns": {"renal": {"aliases": ["kidney"]}, "muscular": {"aliases": ["Kidney"]}}}}
    with pytest.raises(SpecError, match="both 'renal' and 'muscular'"):
        Columns(load_definition("columns", given))


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("igg", ("igg", None)),
        ("IgG [mg/dL]", ("igg", "mg/dL")),
        (" Anti-Ro ", ("anti_ssa", None)),
        ("anti.SSA/Ro", ("anti_ssa", None)),
        ("ESSDAI CNS", ("central_nervous_system", None)),
        ("HADS anxiety", ("anxiety", None)),
        ("hgb", ("haemoglobin", None)),
        ("uwsfr", ("saliva_unstimulated", None)),
        ("shoe size", None),
    ],
)
def test_headers_of_many_spellings(header: str, name: tuple[str, str | None] | None) -> None:
    from sjd_dask.clinical.sheet import canonical_name

    assert canonical_name(header) == name


def test_the_dictionary_is_whole() -> None:
    for name, spec in load_definition("columns")["columns"].items():
        assert spec["title"] and spec["group"], name
        if spec["kind"] == "number":
            low, high = spec["range"]
            assert low < high and spec["unit"] in spec.get("units", {spec["unit"]: 1}), name
        elif spec["kind"] == "level":
            assert spec["levels"] == sorted(spec["levels"]), name
        elif spec["kind"] == "category":
            assert spec["values"], name
        else:
            assert spec["kind"] in ("id", "date", "flag"), name


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"kind": "flagg"}, "did you mean 'flag'"),
        ({"kind": "level"}, "lists no levels"),
        ({"kind": "number", "range": [5, 1]}, "least, greatest"),
        ({"kind": "number", "units": {"g/L": 0}}, "positive number"),
    ],
)
def test_a_column_of_the_users_own_has_what_its_kind_needs(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        Columns(load_definition("columns", {"columns": {"columns": {"mine": entry}}}))


def test_a_section_cannot_be_taken_out_whole() -> None:
    with pytest.raises(SpecError, match="'activity' can't be taken out whole"):
        load_definition("essdai", {"essdai": {"activity": None}})
