"""What tells groups apart and how samples move between k and between visits, on the page of a grouping."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from test_report_strata import META, tables, text_of

from sjd_dask.report.flow_figures import alluvial
from sjd_dask.report.strata_figures import strata_colors
from sjd_dask.report.strata_flows import flow_between_visits, modules_by_group, telling_features
from sjd_dask.report.strata_page import render_strata

COLORS = strata_colors(["C1", "C2", "C3", "C4"])


def centroids(groups: int = 4, p: int = 60) -> pd.DataFrame:
    """Feature 10 i + j is high in group i, of unlike spread; the last one doesn't vary."""
    means = np.full((p, groups), 5.0)
    spread = np.geomspace(0.1, 10, p)
    for i in range(groups):
        means[10 * i : 10 * (i + 1), i] += np.linspace(1.5, 0.5, 10) * spread[10 * i : 10 * (i + 1)]
    made = pd.DataFrame({"feature_id": [f"g{i:02d}" for i in range(p)], "mean": 5.0, "standard_deviation": spread})
    made.loc[p - 1, "standard_deviation"] = 0.0
    return made.join(pd.DataFrame(means, columns=[f"mean_C{i + 1}" for i in range(groups)]))


def visits() -> pd.DataFrame:
    rows = [("p1", "1", "C1"), ("p1", "2", "C1"), ("p2", "1", "C2"), ("p2", "10", "C2"), ("p3", "2", "C2"),
            ("p3", "10", "C1"), ("p4", "1", "C1"), ("p4", "2", "C2")]  # fmt: skip
    return pd.DataFrame([(*row[:2], f"s{i}", row[2]) for i, row in enumerate(rows)],
                        columns=["person", "visit", "sample_id", "stratum"])  # fmt: skip


def full(n: int) -> dict[str, pd.DataFrame]:
    made = tables(n)
    strata = made["table"]["stratum"]
    labels = pd.DataFrame({"sample_id": made["table"]["sample_id"], "k2": strata.replace({"C3": "C1", "C4": "C2"})})
    made["labels"] = labels.assign(k3=strata.replace({"C4": "C3"}), k4=strata)
    made["modules"] = pd.DataFrame(
        [{"assay": "rna", "module": m, "group": f"C{i}", "against": a, "mean": i - 2.0}
         for m in ("interferon", "B cells") for i in (1, 2, 3, 4) for a in ("healthy", "rest")]
    )  # fmt: skip
    return {**made, "centroids": centroids(), "visits": visits()}


def test_every_group_has_its_features_on_the_map() -> None:
    square = telling_features(centroids(), ["C1", "C2", "C3", "C4"])
    assert list(square.columns) == ["C1", "C2", "C3", "C4"] and len(square) == 24 and square.index.is_unique
    assert list(square.index[:6]) == [f"g0{i}" for i in range(6)]
    np.testing.assert_allclose(square.loc["g00"], [1.5, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(square.loc["g30"], [0, 0, 0, 1.5], atol=1e-12)


def test_visits_that_follow_each_other_are_counted_in_their_order() -> None:
    found = flow_between_visits({"visits": visits()}, COLORS)
    assert found is not None
    assert found["words"] == [
        "From visit 1 to 2: 1 of 2 persons seen at both stay in their group (50 %).",
        "From visit 2 to 10: 0 of 1 persons seen at both stay in their group (0 %).",
    ]
    assert flow_between_visits({"visits": visits().iloc[:0]}, COLORS) is None


def test_modules_of_several_assays_are_told_apart() -> None:
    rows = [{"assay": a, "module": "M", "group": g, "against": "rest", "mean": m}
            for a, g, m in (("x", "C10", 1.0), ("x", "C2", 2.0), ("y", "C2", 3.0))]  # fmt: skip
    square = modules_by_group(pd.DataFrame(rows))
    assert list(square.columns) == ["C2", "C10"] and list(square.index) == ["M (x)", "M (y)"]
    assert modules_by_group(pd.DataFrame(rows[:2])).index.tolist() == ["M"]


def test_bands_are_as_high_as_the_rows_they_carry() -> None:
    """Coloured by a label of their own: 3 flows of 8, 1 and 3 of 12 rows, the heights add up to the column."""
    table = pd.DataFrame({"a": ["A"] * 9 + ["B"] * 3, "b": ["X"] * 8 + ["Y"] * 4})
    svg = alluvial(table, None, {}, titles=["one", "two"], named=[0, 1], unit="rows")
    bands = re.findall(r'<path d="(M[^"]*C[^"]*z)[^>]*?style="fill: #b7c0ca; opacity: 0.5"', svg)
    heights = []
    for band in bands:
        y = [float(one) for one in re.findall(r"[ML]? ?[-\d.]+ ([-\d.]+)", band)]
        heights.append(y[4] - y[3])
    assert len(bands) == 3
    np.testing.assert_allclose(np.array(heights) / sum(heights), [8 / 12, 1 / 12, 3 / 12], atol=0.01)


def test_the_page_at_300_and_at_100_000_samples() -> None:
    small = render_strata({**META, "matched_by": "centroids", "explanation": "explanations/x@1"}, full(300))
    text = text_of(small)
    assert re.findall(r'<figure class="(\w+)"', small) == ["half"] * 6 + ["wide"] * 2 + ["half"] * 2 + ["wide"]
    for words in ("24 of 60", "in standard deviations of the healthy", "Persons over their visits",
                  "Names kept from strata/groups@1, by the mean profiles of the groups"):  # fmt: skip
        assert words in text, words
    landmarks = {"kind": "landmarks", "landmarks": 2000, "check": {"samples": 1990, "ari": 0.912}}
    large = render_strata({**META, "consensus": landmarks}, full(100_000))
    text = text_of(large)
    for words in ("100,000 samples", "of 2,000 landmarks are drawn", "2,500 of 100,000 samples are drawn",
                  "0.912 with the groups that 1,990 other samples make", "against the landmarks",
                  "Consensus of pairs of landmarks"):  # fmt: skip
        assert words in text, words
    assert len(large) < 3e6
