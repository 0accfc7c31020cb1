"""The tables of docs/axes.md are those of the definitions."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from sjd_dask.clinical import endpoint_table, load_definition, trial_evidence

DOC = Path(__file__).parents[2] / "docs" / "axes.md"


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:g}"


def endpoints() -> list[str]:
    rows = ["| endpoint | systemic | gland | symptoms | why | mark |", "|---|---|---|---|---|---|"]
    for one in endpoint_table().itertuples():
        rows.append(f"| {one.title} | {one.systemic} | {one.gland} | {one.symptoms} | {one.why} | {one.mark} |")
    return rows


def evidence() -> list[str]:
    rows = ["| drug | target | n | aimed at | endpoint | week | result | mark |", "|---|---|---|---|---|---|---|---|"]
    for one in trial_evidence().itertuples():
        drug = ", ".join(part for part in (one.drug, one.trial, one.arm) if part)
        numbers = f"{_number(one.response)} v {_number(one.placebo)} {one.unit}" if pd.notna(one.response) else ""
        if pd.notna(one.effect):
            numbers = f"{one.effect:g}" + (f" (p = {one.p:g})" if pd.notna(one.p) else "")
        result = ", ".join(part for part in (one.result, numbers, one.note) if part)
        week = _number(one.week)
        rows.append(
            f"| {drug} | {one.target} | {one.n} | {one.axes} | {one.endpoint} | {week} | {result} | {one.mark} |"
        )
    return rows


def templates() -> list[str]:
    rows = ["| template | cohort | criteria | endpoint | mark |", "|---|---|---|---|---|"]
    for name, one in load_definition("templates")["templates"].items():
        when = " and ".join(f"`{rule['when']}`" for rule in one["include"])
        rows.append(f"| `{name}` | {one['title']} | {when} | {one['endpoint']} | {one['mark']} |")
    return rows


TABLES = {"endpoints": endpoints, "evidence": evidence, "templates": templates}


def filled(text: str) -> str:
    """The document with its tables made anew."""
    for name, make in TABLES.items():
        block = "\n".join([f"<!-- {name} -->", "", *make(), "", "<!-- end -->"])
        text, n = re.subn(rf"<!-- {name} -->.*?<!-- end -->", lambda _, block=block: block, text, flags=re.S)
        assert n == 1, name
    return text


def test_tables_are_current() -> None:
    text = DOC.read_text(encoding="utf-8")
    assert filled(text) == text, "write filled(text) of this test into docs/axes.md"


def test_cut_offs_are_those_of_the_definitions() -> None:
    text, table, glands = DOC.read_text(encoding="utf-8"), load_definition("axes"), load_definition("glands")
    own = table["axes"]
    assert f"`active` at >= {own['systemic']['at_least']}" in text
    assert f"`high burden` at >= {own['symptoms']['at_least']}" in text
    assert f"leads both others by at least {table['dominance']['margin']['percentiles']}" in text
    assert f"fewer than {table['dominance']['least_persons']['value']} persons" in text
    assert f"HADS anxiety >= {table['amplification_evidence']['anxiety']['test']['at_least']}" in text
    assert "(1 point of ESSDAI, 0.01 of axis 2, 0.05 of ESSPRI)" in text
    assert [own[axis]["grid"] for axis in ("systemic", "gland", "symptoms")] == [1, 0.01, 0.05]
    for test, one in table["gland_tests"].items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{test}` |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1] == one["part"] and cells[6] == ("yes" if one["in_position"] else "no")
        for name in one["instruments"]:
            instrument = table["gland_instruments"][name]
            cut = glands["tests"][name]["test"] if name in glands["tests"] else glands[name]
            at = next(cut[key] for key in ("at_least", "at_most") if key in cut)
            assert f"= {at}" in cells[2]
            middle = dict(zip(instrument["position"], instrument["values"], strict=True)).get(0.5)
            assert middle is None or (str(middle) in cells[4] and middle == at)
            for position, cell in ((0, cells[3]), (1, cells[5])):
                end = dict(zip(instrument["position"], instrument["values"], strict=True))[position]
                assert str(end) in cell, (name, position)
