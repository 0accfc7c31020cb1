"""The page of an explanation: what else explains the groups stands first; safe, still, and whole without any part."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.report.explain_page import instead, render_explanation

EVIL = "<img src=x onerror=alert(1)>"
META: dict[str, Any] = {
    "reference": "explanations/groups@3", "title": EVIL, "strata": "strata/groups@2", "sizes": {"C1": 60, "C2": 40},
    "n_healthy": 20, "assays": {"rna": {"features": 500}}, "cohort": {"name": "demo", "snapshot": 4},
    "spec": {"job": "explain", "healthy": "disease == 'no'"}, "warnings": ["Few persons."],
}  # fmt: skip


def share(what: str, value: float, beyond: str = "", note: str = "") -> dict[str, Any]:
    return {
        "what": what, "beyond": beyond, "columns": "x", "n_samples": 100, "n_persons": 90, "share": value,
        "chance": -0.01, "chance_95": 0.02, "p_value": 0.01, "note": note,
    }  # fmt: skip


def tables() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(0)
    groups, modules = ("C1", "C2"), ("interferon type I", EVIL, "mine")
    against = ("healthy", "rest")
    found = [
        {
            "assay": "rna", "module": m, "group": g, "against": a, "n": 50, "mean": rng.normal(),
            "sd": 1.0, "share_high": 0.2, "effect": rng.normal(), "standard_error": 0.1, "statistic": 3.0, "df": 90.0,
            "p_value": 0.01, "q_value": 0.02,
            "n_descriptive": 1,
        }
        for g, a, m in itertools.product(groups, against, modules)
    ]  # fmt: skip
    top = [
        {
            "assay": "rna", "feature_id": f"f{i}", "gene_symbol": None if i == 2 else EVIL, "group": g, "against": a,
            "effect": 1.0, "standard_error": 0.1, "statistic": 9.0, "df": 90.0, "p_value": 1e-9, "q_value": 1e-7,
            "log_odds": 3.0, "mean": 7.0, "n_samples": 100, "descriptive": i == 0,
        }
        for g, a, i in itertools.product(groups, against, range(4))
    ]  # fmt: skip
    clinic = [
        {"column": name, "role": "clinical", "test": test, "n": 90, "n_groups": 2, "statistic": 5.0, "df": 1.0,
         "p_value": p, "q_value": p, "effect": 0.2, "effect_name": effect}
        for name, test, p, effect in (("essdai", "kruskal", 0.1, "epsilon2"), (EVIL, "permutation", np.nan, "cramer_v"))
    ]  # fmt: skip
    numbers = {"mean": 5.0, "sd": 1.0, "q1": 4.0, "median": 5.0, "q3": 6.0}
    by_group = [{"column": "essdai", "level": None, "group": g, "n": 40, **numbers} for g in (*groups, "healthy")]
    by_group += [
        {"column": EVIL, "level": level, "group": g, "n": 40, "share": 0.5}
        for g, level in itertools.product((*groups, "healthy"), (EVIL, "other"))
    ]
    stay = {
        "what": "samples of a person",
        "column": "p",
        "n_units": 30,
        "n_samples": 70,
        "n_pairs": 50,
        "agreement": 0.8,
    }
    chance = {f"{one}{at}": 0.4 for one in ("chance", "kappa", "p_value") for at in ("", "_within_kind")}
    moves = [{"from": a, "to": b, "n": 9, "share": 0.5, "chance": 0.5} for a, b in itertools.product(groups, groups)]
    summary = {
        "n_tested": 500,
        "n_up": 9,
        "n_down": 8,
        "n_descriptive": 3,
        "n_found_not_descriptive": 7,
        "inflation": 1.1,
    }
    return {
        "shares": pd.DataFrame([share("composition", 0.3), share("sex", 0.0), share("sex", 0.01, "composition")]),
        "modules": pd.DataFrame(found),
        "module_genes": pd.DataFrame(
            [{"assay": "rna", "module": EVIL, "n_genes": 3, "n_matched": 2, "n_features": 2, "missing": EVIL}]
        ),
        "module_scores": pd.DataFrame(
            {"assay": "rna", "module": np.repeat(modules, 30), "group": ["C1", "C2", "healthy"] * 30,
             "score": rng.normal(size=90)}
        ),
        "clinical": pd.DataFrame(clinic),
        "clinical_groups": pd.DataFrame(by_group),
        "summary": pd.DataFrame([{"assay": "rna", "group": "C1", "against": "rest", **summary}]),
        "top": pd.DataFrame(top),
        "stability": pd.DataFrame([{**stay, **chance, "chance_95": 0.5}]),
        "visits": pd.DataFrame(moves),
        "agreement": pd.DataFrame([{"column": EVIL, "n_samples": 9, "n_levels": 2, "ari": 0.1, "nmi": 0.2}]),
        "cross": pd.DataFrame(
            [{"column": EVIL, "level": one, "group": g, "n": 4} for g, one in itertools.product(groups, ("a", EVIL))]
        ),
    }  # fmt: skip


def test_a_page_with_all_parts_is_safe_and_still() -> None:
    page = render_explanation(META, tables())
    assert EVIL not in page and "&lt;img src=x" in page
    assert "<script" not in page and 'src="http' not in page
    assert page.index("What else explains the groups") < page.index("Modules</h2>") < page.index("Clinic</h2>")
    assert page.count("descriptive</td>") == 4
    assert "5 (4 to 6)" in page
    assert page == render_explanation(META, tables())


@pytest.mark.parametrize("absent", ["shares", "module_scores", "clinical_groups", "all"])
def test_any_part_may_be_absent(absent: str) -> None:
    given = {} if absent == "all" else {name: one for name, one in tables().items() if name != absent}
    page = render_explanation({} if absent == "all" else META, given)
    assert "What was done" in page


def test_what_the_groups_may_be_instead_is_said_first() -> None:
    rows = [
        share("composition", 0.25),
        share("batch", 0.19),
        share("interferon", 0.6),
        share("sex", 0.5, "composition"),
    ]
    rows += [share("drugs", float("nan"), note="too few")]
    (said,) = instead(pd.DataFrame(rows))
    assert said.startswith("The composition of cells alone explains 25 % of the grouping (chance: at most 2 %)")
    page = render_explanation(META, {"shares": pd.DataFrame(rows)})
    assert page.index(said[:40]) < page.index("Few persons.")
