"""The page of a trial: counts of few persons are hidden, text is escaped, any section may be absent."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.clinical.trials import design
from sjd_dask.report.trial_hiding import PARTS, hidden_groups, steps_left
from sjd_dask.report.trial_page import _planned, render_trial


def groups(counts: dict[str, tuple[int, int, int]]) -> pd.DataFrame:
    """A table of feasibility of these levels, after the row of all."""
    total = tuple(sum(one[i] for one in counts.values()) for i in range(3))
    rows = [{"by": "all", "level": "all", **dict(zip(PARTS, total, strict=True)), "screened": sum(total)}]
    rows += [
        {"by": "site", "level": level, **dict(zip(PARTS, one, strict=True)), "screened": sum(one)}
        for level, one in counts.items()
    ]
    table = pd.DataFrame(rows)
    for name in ("eligible_share", "eligible_share_low", "eligible_share_high"):
        table[name] = 0.5
    return table


@settings(max_examples=70, deadline=None)
@given(
    counts=st.lists(st.tuples(*[st.integers(0, 40)] * 3), min_size=2, max_size=5),
    below=st.sampled_from([0, 5, 10]),
)
def test_no_count_of_few_is_shown_nor_follows_from_a_row_or_a_column(
    counts: list[tuple[int, int, int]], below: int
) -> None:
    table = groups({f"S{i}": one for i, one in enumerate(counts)})
    shown = hidden_groups(table, below)
    for row, (_, true) in zip(shown, table.iterrows(), strict=True):
        assert all(row[part] in (None, true[part]) for part in PARTS)
        assert not any(0 < (row[part] or 0) < below for part in PARTS)
    if below == 0:
        assert all(value is not None for row in shown for value in row.values())
        return
    # A row whose sum is shown, or a column beside that of all: never exactly one unknown of few.
    lines = [
        [(row[part], int(true[part])) for part in PARTS] for row, (_, true) in zip(shown, table.iterrows(), strict=True)
    ]
    if all(shown[0][part] is not None for part in PARTS):
        lines += [[(row[part], int(table[part].iloc[i + 1])) for i, row in enumerate(shown[1:])] for part in PARTS]
    for line in lines:
        gone = [true for value, true in line if value is None]
        others = [true for value, true in line if value]
        assert not (len(gone) == 1 and 0 < gone[0] < below and others), (line, table)


def test_a_step_of_few_is_hidden_until_enough_have_gone() -> None:
    assert steps_left([400, 350, 348, 346, 340, 340, 3, 0], 5) == [400, 350, None, None, 340, 340, None, 0]
    assert steps_left([10, 9], 0) == [10, 9]


def facts(**more: Any) -> dict[str, Any]:
    return {"trial": "<b>$x$</b>", "sections": [], "notes": [], **more}


def criteria(name: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "criterion": [name, "second"], "kind": ["include", "exclude"], "when": ["a < 5", "b"], "passed": [60, 97],
            "failed": [38, 2], "unknown": [2, 1], "left": [62, 61], "left_certain": [60, 58],
        }
    )  # fmt: skip


def test_eligibility_hides_few_and_escapes() -> None:
    told = facts(sections=["eligibility"], screened=100, eligible={"yes": 58, "no": 39, "undetermined": 3})
    page = render_trial(told, {"criteria": criteria("<i>one</i>")})
    assert "<i>one" not in page and "&lt;i&gt;one" in page and "<b>$x" not in page and "<script" not in page
    assert "a &lt; 5" in page and re.search(r"<td class=\"n\">38</td>", page) is None
    whole = render_trial(told, {"criteria": criteria("one")}, hide_below=0)
    assert re.search(r"<td class=\"n\">38</td>", whole) and "A star stands" not in whole
    assert render_trial(told, {"criteria": criteria("one")}) == render_trial(told, {"criteria": criteria("one")})


def effects(n: int, *, binary: bool = False) -> pd.DataFrame:
    rows = []
    for level, size in (("all", n + 60), ("C1", 30), ("C2", 30), ("C3", n)):
        row: dict[str, Any] = {
            "by": "molecular_class", "level": level, "arm": "active", "n_arm": size, "n_control": size,
            "mean_arm": -3.0, "mean_control": -1.0, "effect": -2.0, "low": -3.0, "high": -1.0, "p_value": 0.01,
            "reason": "",
        }  # fmt: skip
        if binary:
            row |= {"odds_ratio": 0.1, "odds_ratio_low": 0.05, "odds_ratio_high": 0.4}
        rows.append(row)
    return pd.DataFrame(rows)


def told_of(kind: str) -> dict[str, Any]:
    test = {"by": "molecular_class", "p_value": 0.02, "p_holm": 0.04, "test": "Wald F, HC3", "statistic": 4.0, "df": 2,
            "df_residual": np.nan, "left_out": "unknown", "reason": ""}  # fmt: skip
    one = {"endpoint": "change", "kind": kind, "control": "placebo", "baseline": None, "improvement": "down",
           "tables": "", "interactions": [test], "notes": []}  # fmt: skip
    return facts(sections=["reanalysis"], reanalysis=[one])


@pytest.mark.parametrize("binary", [False, True])
def test_a_stratum_of_few_has_neither_effect_nor_count(binary: bool) -> None:
    kind = "binary" if binary else "continuous"
    page = render_trial(told_of(kind), {"reanalysis": effects(3, binary=binary)})
    assert "fewer than 5 persons in an arm" in page and ">3 / 3<" not in page
    # Everyone less the strata shown: at least two strata are hidden.
    assert ">63 / 63<" in page and page.count(">30 / 30<") == 1 and page.count(">* / *<") == 2
    assert "p = 0.02, 0.04 after Holm" in page and "Left out of the test: unknown." in page
    page = render_trial(told_of(kind), {"reanalysis": effects(30, binary=binary)})
    assert "fewer than 5 persons in an arm" not in page and ">90 / 90<" in page


def test_effects_that_are_missing_or_far_apart_are_drawn() -> None:
    table = effects(30)
    table.loc[1, ["effect", "low", "high"]] = [-400.0, -900.0, 100.0]
    table.loc[2, ["effect", "low", "high"]] = np.nan
    table.loc[2, "reason"] = "fewer than 2 persons of arm <active> with an outcome"
    page = render_trial(told_of("continuous"), {"reanalysis": table})
    assert "arm &lt;active&gt;" in page
    table[["effect", "low", "high"]] = np.nan
    assert "Re-analysis" in render_trial(told_of("continuous"), {"reanalysis": table})


def test_a_page_without_sections() -> None:
    assert "At a glance" in render_trial(facts(notes=["nothing asked"]), {})


def test_feasibility_of_one_group() -> None:
    table = groups({"A": (10, 2, 30)})
    for name in ("to_screen", "to_screen_low", "to_screen_high"):
        table[name] = pd.array([40, None], dtype="Int64")
    told = facts(sections=["feasibility"], screened=42, eligible={"yes": 10, "no": 30, "undetermined": 2}, needed=7)
    page = render_trial(told, {"feasibility": table})
    assert "to screen for 7" in page and "site" in page


def test_the_sizes_shown_are_those_the_trial_is_planned_with() -> None:
    """Of a stratified design the comparison asked for sets them, and of several arms the table of arms."""
    spec = {
        "strata": [{"name": "C1", "share": 0.4}, {"name": "C2", "share": 0.6}],
        "classifier": {"target": ["C1"], "sensitivity": 0.9, "specificity": 0.9},
        "endpoints": [{"name": "e", "kind": "continuous", "sd": 6, "effect": 3}],
        "stratified_for": "target", "simulate": False, "screen_failure": 0.2,
    }  # fmt: skip
    found = design(spec).tables
    sizes = found["sizes"].set_index(["design", "analysis"])
    shown = _planned({f"design_{name}": table for name, table in found.items()})
    for name, at in (("all comers", ("all_comers", "all")), ("stratified", ("stratified", "target")),
                     ("enriched", ("enriched", "target"))):  # fmt: skip
        row = sizes.loc[at]
        assert (shown[name]["n_enrolled"], shown[name]["n_screened"]) == (row["n_enrolled"], row["n_screened"])
    arms = design({**spec, "arms": {"rule": "dunnett", "active": [{"name": "a"}, {"name": "b"}]}}).tables
    shown = _planned({f"design_{name}": table for name, table in arms.items()})
    assert shown["stratified"]["n_enrolled"] == arms["arms"].set_index("design").loc["stratified", "n_enrolled"].iloc[0]
