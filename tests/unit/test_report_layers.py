"""The page of a layer: what was done, its samples before and after, and which to look at; safe, small, still."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.report import write_report
from sjd_dask.report.format import natural_key
from sjd_dask.report.layer_facts import batches, flagged, why
from sjd_dask.report.layer_page import render_layer
from sjd_dask.report.meta import LayerMeta

META: LayerMeta = {
    "reference": "layers/combat@2",
    "title": "Batch-free methylation",
    "layer": "combat",
    "layer_version": 2,
    "assay": "methylation",
    "cohort": {"name": "demo", "path": "./cohort", "snapshot": 3},
    "steps": [
        {"method": "m_value", "version": 1, "options": {"clip": 1e-5}},
        {
            "method": "combat",
            "version": 2,
            "options": {"covariates": ["age", "sex"], "reference": None},
            "note": "of p_1",
        },
    ],
    "scale_before": "beta",
    "scale_after": "m_value",
    "masks": {"bead_count": 3.0, "detection_p": 0.01},
    "parameters_hash": "9f2c1a",
    "reference_samples": {"count": 40, "filter": "date < 2026", "hash": "7be0"},
    "features": {"before": 520, "after": 400, "dropped": [{"reason": "masked probes", "count": 120}]},
    "encoding": {"dtype": "float32"},
    "batch_column": "plate",
    "sex_column": "sex",
    "factors": ["plate", "disease"],
    "warnings": ["Plate p_2 is small."],
    "run": {"id": "abc123", "package_version": "0.3"},
}


def tables(n: int = 60, n_batches: int = 3) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(n)
    batch = rng.integers(0, n_batches, n) if n_batches > 1 else np.zeros(n, int)
    status = np.where(np.arange(n) % 20 == 19, "pending_batch", "ok").astype(object)
    table = pd.DataFrame({
        "sample_id": [f"S{i:06d}" for i in range(n)],
        "status": status,
        "in_reference": np.arange(n) < n // 2,
        "batch": [f"p_{b + 1}" for b in batch],
    })  # fmt: skip
    for stage, centre in (("before", 0.5), ("after", 0.0)):
        median = centre + rng.normal(0, 0.02, n)
        if stage == "after":
            median[status != "ok"] = np.nan
        for name, away in (("minimum", -0.5), ("q1", -0.2), ("median", 0), ("q3", 0.2), ("maximum", 0.5)):
            table[f"{name}_{stage}"] = median + away
    table["missing_before"] = rng.uniform(0, 0.01, n)
    table["iqr_after"] = 0.4
    table["distance_to_reference"] = np.where(status == "ok", 1 + rng.gamma(2, 0.05, n), np.nan)
    table["correlation_to_reference"] = 0.98
    table["x_median"] = np.where(np.arange(n) % 5, 0.5, 0.2) + rng.normal(0, 0.01, n)
    table["predicted_sex"] = np.where(np.arange(n) % 5, "female", "male").astype(object)
    table["sex_mismatch"] = np.arange(n) == 4
    table["is_swapped"] = table["sex_mismatch"]
    table["outlier_distance_to_reference"] = (np.arange(n) % 30 == 7) & (status == "ok")
    table["is_outlier"] = table["outlier_distance_to_reference"]
    table["n_flags"] = (table["is_outlier"].astype(int) + table["sex_mismatch"]).astype(np.int32)
    principal = pd.DataFrame({"sample_id": table["sample_id"]})
    for stage in ("before", "after"):
        for i in range(1, 5):
            principal[f"{stage}_{i}"] = rng.normal(size=n)
    principal["plate"], principal["disease"] = table["batch"], np.where(np.arange(n) % 2, "case", None)
    principal["age"] = rng.normal(50, 10, n)
    stages = ["before", "after"]
    explained = pd.DataFrame({"stage": np.repeat(stages, 2), "component": [1, 2] * 2, "share": [0.4, 0.2, 0.1, 0.05]})
    factors = pd.DataFrame({
        "factor": np.repeat(["plate", "disease"], 2), "stage": stages * 2, "share": [0.31, 0.02, 0.05, 0.06],
        "weighted_share": 0.1, "chance": 0.03, "n_levels": 2, "n_samples": n,
    })  # fmt: skip
    return {"table": table, "principal": principal[table["status"] == "ok"], "explained": explained, "factors": factors}


def text_of(page: str) -> str:
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)).replace("\u00a0", " ")


def test_the_page_says_what_was_done_and_shows_its_samples() -> None:
    page = render_layer(META, tables())
    text = text_of(page)
    for words in (
        "Batch-free methylation",
        "Plate p_2 is small.",
        "covariates [age, sex]",
        "ComBat batch adjustment",
        "of p_1",
        "9f2c1a",
        "40 samples, chosen by date &lt; 2026",
        "beta values to M-values",
        "masked probes 120",
        "detection p above 0.01, bead count below 3",
        "57 samples normalised",
        "30 in the reference",
        "3 samples flagged",
        "pending batch 3",
        "400 features",
        "31 → 2 % variance explained by plate",
        "3 flagged",
        "looks female, recorded otherwise",
        "far from the reference",
        "3 pending",
        "S000019",
        "abc123",
        "sjd export ./cohort qc/combat combat.tsv",
    ):
        assert words in text, words
    kinds = re.findall(r'<figure class="(\w+)"', page)
    assert kinds == ["wide", "half", "half", "wide", "wide", "half", "half"]
    assert "by plate" in text and "by disease" in text and "by age" not in text
    assert all(re.findall(r'<img src="data:image/svg\+xml;base64,[^"]+" alt="([^"]*)"', page))
    assert "<script" not in page and not re.search(r'(src|href)="(?!data:|#)', page)
    assert "default-src 'none'" in page


def test_what_is_absent_is_left_out() -> None:
    bare = text_of(render_layer({}, {}))
    assert "At a glance" not in bare and "Flagged" not in bare and "What was done" in bare
    only = tables()["table"][["sample_id", "status", "in_reference"]]
    text = text_of(render_layer({"reference": "qc/x@1"}, {"table": only}))
    assert "57 samples normalised" in text and "No sample is flagged" in text and "By batch" not in text
    nothing = tables()
    nothing["principal"] = nothing["principal"].iloc[:0]
    nothing["factors"] = nothing["factors"].iloc[:0]
    nothing["table"] = nothing["table"].iloc[:0]
    nothing["explained"]["share"] = np.nan
    assert "<figure" not in render_layer(META, nothing)


def test_text_of_users_is_escaped() -> None:
    evil = tables()
    evil["table"]["batch"] = "<b>$x$</b>"
    evil["principal"]["plate"] = "<b>$x$</b>"
    page = render_layer({**META, "title": "<script>1</script>"}, evil)
    assert "<script>1" not in page and "<b>$x$" not in page and "&lt;b&gt;$x$" in page


@pytest.mark.parametrize(("n", "n_batches"), [(1, 1), (2, 1), (250, 12), (20_000, 90)])
def test_pages_of_any_size_stay_small(n: int, n_batches: int) -> None:
    made = tables(n, n_batches)
    if n > 5000:
        made["principal"] = made["principal"].iloc[::4]
    page = render_layer({**META, "colour_by": "age"}, made)
    assert len(page) < 3_000_000
    assert "by age" in text_of(page)
    if n_batches > 60:
        assert "The 60 of 90 batches" in text_of(page)
        assert "2,500 of 19,000 samples are drawn" in text_of(page)


def test_the_same_tables_make_the_same_page() -> None:
    assert render_layer(META, tables(20)) == render_layer(META, tables(20))


def test_rows_of_the_tables() -> None:
    table = tables()["table"].assign(is_flagged=lambda t: t["n_flags"] > 0)
    rows = flagged(table)
    assert rows.n_all == 3 and [title for title, _ in rows.columns][:3] == ["sample", "batch", "why"]
    assert rows.rows[0][0] in ("S000007", "S000037")
    summary = batches(table)
    assert summary is not None and sum(int(row[1]) for row in summary.rows) == 60
    assert batches(table.drop(columns="batch")) is None
    record: dict[str, Any] = {
        "failed_array": True,
        "outlier_norm_factor": True,
        "is_swapped": True,
        "sex_mismatch": False,
    }
    assert why(record) == "failed array, norm factor, differs from other arrays of the person"


def test_plates_come_in_natural_order() -> None:
    assert sorted(["p_10", "p_2", "2", "10", "b"], key=natural_key) == ["2", "10", "b", "p_2", "p_10"]


def fake_cohort(**layer_meta: Any) -> Any:
    def result(kind: str, version: int, meta: dict[str, Any]) -> Any:
        made = tables(20)
        return SimpleNamespace(
            kind=kind, name="combat", version=version, ref=f"{kind}/combat@{version}", meta=meta, tables=list(made),
            to_pandas=lambda name: made[name],
        )  # fmt: skip

    found = [
        result("layers", 2, {**META, **layer_meta}),
        result("qc", 4, {**META, "layer_version": 1}),
        result("qc", 5, dict(META)),
    ]
    by_ref = {ref: one for one in found for ref in (one.ref, one.ref.split("@")[0])}
    return SimpleNamespace(results=lambda: found, result=by_ref.__getitem__)


def test_a_layer_and_its_quality_have_one_page(tmp_path: Path) -> None:
    page = write_report(fake_cohort(), "layers/combat", tmp_path / "a.html").read_text(encoding="utf-8")
    assert "layers/combat@2" in page and "qc/combat@5" in page and "<figure" in page
    page = write_report(fake_cohort(qc="qc/combat@4"), "layers/combat", tmp_path / "b.html").read_text(encoding="utf-8")
    assert "qc/combat@4" in page
    page = write_report(fake_cohort(), "qc/combat@5", tmp_path / "c.html").read_text(encoding="utf-8")
    assert "qc/combat@5" in page
