"""The page of a grouping: its groups, why so many, and how sure; safe, small, still."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.report import write_report
from sjd_dask.report.strata_page import render_strata

META: dict[str, Any] = {
    "reference": "strata/groups@2",
    "title": "Patients in whole blood",
    "assay": "layers/log_expression@1",
    "cohort": {"name": "demo", "path": "./cohort", "snapshot": 3},
    "k": 4,
    "chosen": "auto",
    "reason": "4 groups: the largest k that is stable.",
    "recipe": {
        "algorithms": ["hierarchical", "kmeans"], "distance": "pearson", "linkage": "average", "k": [1, 6],
        "resamples": 500, "sample_fraction": 0.8, "feature_fraction": 1.0, "seed": 1,
    },
    "features": {
        "available": 20000, "used": 1000, "choice": "the 1,000 of largest median absolute deviation",
        "dropped": [{"reason": "a missing value", "count": 12}],
    },
    "samples": {"available": 400, "filter": "disease == 'patient'", "used": 300, "dropped": []},
    "explained": [0.31, 0.12],
    "previous": "strata/groups@1",
    "warnings": ["Few resamples."],
    "spec": {"job": "stratify", "seed": 1},
    "run": {"id": "abc123", "package_version": "0.4"},
}  # fmt: skip


def tables(n: int = 300, k: int = 4) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(n)
    share = np.array([0.33, 0.29, 0.25, 0.13])[:k] if k > 1 else np.ones(1)
    group = np.sort(rng.choice(k, n, p=share / share.sum()))
    rng.shuffle(group)
    member = rng.dirichlet(np.ones(k) * 0.3, n) + 3 * np.eye(k)[group]
    member /= member.sum(axis=1, keepdims=True)
    own = member[np.arange(n), group]
    strata = np.array([f"C{i + 1}" for i in group], dtype=object)
    table = pd.DataFrame({
        "sample_id": [f"S{i:06d}" for i in range(n)], "stratum": strata, "core": own > 0.8, "consensus": own,
        "silhouette": np.nan if k == 1 else own * 0.8 - 0.25,
    })  # fmt: skip
    for i in range(k):
        table[f"membership_C{i + 1}"] = member[:, i]
    table["ambiguous"] = own < 0.78 if k > 1 else False
    order = np.lexsort((-own, group))[:: max(1, n // 300)][:400]
    block = 0.1 + 0.8 * (group[order][:, None] == group[order]) + rng.uniform(0, 0.1, (len(order), len(order)))
    heat = pd.DataFrame({"sample_id": table["sample_id"].to_numpy()[order], "stratum": strata[order]})
    block = np.minimum((block + block.T) / 2, 1).astype(np.float32)
    heat = heat.join(pd.DataFrame(block, columns=[f"with_{i + 1}" for i in range(len(order))]))
    ks, algorithms = np.arange(2, 7), ["hierarchical", "kmeans", "combined"]
    choice = pd.DataFrame({"algorithm": np.repeat(algorithms, 5), "k": np.tile(ks, 3)})
    far = np.abs(choice["k"] - k) + rng.uniform(0, 0.3, 15)
    choice["area"], choice["gain"], choice["pac"] = 0.4 + 0.05 * choice["k"], 0.3 / choice["k"], 0.05 + 0.1 * far
    choice["silhouette"], choice["gap"], choice["stability"] = 0.5 - 0.1 * far, 0.2 - 0.05 * far, 0.95 - 0.1 * far
    choice["separation_z"] = 9 - 3 * far
    choice["selected"] = (choice["algorithm"] == "combined") & (choice["k"] == k)
    x = np.linspace(0, 1, 101)
    curves = [
        pd.DataFrame({"algorithm": name, "k": one, "x": x, "y": np.clip(0.55 + 0.05 * one + x ** (4 + one), 0, 1)})
        for name in algorithms
        for one in ks
    ]
    centre = np.array([[3, 0], [-3, 1], [0, -3], [0, 4]])[group % 4]
    principal = pd.DataFrame(rng.normal(0, 1, (n, 2)) + centre, columns=["component_1", "component_2"])
    principal.insert(0, "sample_id", table["sample_id"])
    features = pd.DataFrame({"feature_id": [f"g{i}" for i in range(60)], "score": rng.gamma(2, 1, 60)})
    cross = pd.DataFrame(
        {
            "column": ["sex", "batch"],
            "n_samples": [n, n - 3],
            "n_levels": [2, 5],
            "ari": [0.01, 0.31],
            "nmi": [0.02, 0.4],
        }
    )
    return {
        "table": table, "choice": choice, "cdf": pd.concat(curves, ignore_index=True), "features": features,
        "principal": principal, "heat": heat, "cross": cross,
    }  # fmt: skip


def text_of(page: str) -> str:
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)).replace("\u00a0", " ")


def test_the_page_says_how_many_groups_and_why() -> None:
    page = render_strata(META, tables())
    text = text_of(page)
    for words in (
        "Patients in whole blood",
        "4 groups chosen by the criteria",
        "the largest k that is stable",
        "core samples",
        "ambiguous samples",
        "1,000 features of 20,000",
        "500 of 80 % of samples and 100 % of features, seed 1",
        "Names kept from strata/groups@1",
        "adjusted Rand index",
        "batch 297 5 0.31 0.4",
        "combined 4",
        "a missing value 12",
        "Few resamples.",
        "abc123",
        "sjd export ./cohort strata/groups@2 groups.tsv",
    ):
        assert words in text, words
    assert re.findall(r'<figure class="(\w+)"', page) == ["half"] * 4 + ["wide"] + ["half"] * 2
    assert all(re.findall(r'<img src="data:image/svg\+xml;base64,[^"]+" alt="([^"]*)"', page))
    assert "<script" not in page and not re.search(r'(src|href)="(?!data:|#)', page)
    assert "default-src 'none'" in page


def test_no_groups_are_said() -> None:
    made = tables(60, 1)
    page = render_strata({**META, "k": 1, "reason": "No groups."}, made)
    assert "1 group: the samples don&#39;t fall into groups" in text_of(page).replace("’", "'") or (
        "1 group: the samples don't fall into groups" in text_of(page)
    )
    assert "No groups." in page and "core samples" not in text_of(page).split("Groups")[0]
    assert "<figure" in page


def test_what_is_absent_is_left_out() -> None:
    page = render_strata({}, {"table": tables(30)["table"]})
    text = text_of(page)
    assert "How many groups" not in text and "Agreement" not in text and "4 groups" in text
    empty = {name: table if name == "table" else table.iloc[:0] for name, table in tables(30).items()}
    assert "4 groups" in text_of(render_strata(META, empty))


def test_text_of_users_is_escaped() -> None:
    made = tables(40)
    made["cross"]["column"] = "<b>$x$</b>"
    for name in ("table", "heat"):
        made[name]["stratum"] = made[name]["stratum"].replace("C1", "<i>$1</i>")
    page = render_strata({**META, "title": "<script>1</script>", "reason": "<b>$y$</b>"}, made)
    assert "<script>1" not in page and "<b>$" not in page and "<i>$" not in page and "&lt;b&gt;$x$" in page


@pytest.mark.parametrize(("n", "k"), [(8, 2), (40, 1), (20_000, 4)])
def test_pages_of_any_size_stay_small(n: int, k: int) -> None:
    page = render_strata({**META, "k": k}, tables(n, k))
    assert len(page) < 3_000_000
    if n > 2500:
        assert "2,500 of 20,000 samples are drawn" in text_of(page)


def test_the_same_tables_make_the_same_page(tmp_path: Path) -> None:
    made = tables(30)
    result = SimpleNamespace(
        kind="strata", name="groups", version=2, ref="strata/groups@2", meta=META, tables=list(made),
        to_pandas=lambda name: made[name],
    )  # fmt: skip
    cohort: Any = SimpleNamespace(result=lambda ref: result, results=lambda: [])
    page = write_report(cohort, "strata/groups", tmp_path / "a.html").read_text(encoding="utf-8")
    assert page == render_strata(META, tables(30))
