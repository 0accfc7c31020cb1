"""The page of a classification: what it says, whom it hides, and that it is safe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.report.classes_page import counted, hide, render_classes

META: dict[str, Any] = {
    "reference": "classes/calls@2", "title": "Calls of <b>blood</b>", "model": "blood@3", "model_hash": "0123456789",
    "classes": ["C1", "C2"], "n_panel": 30, "n_sentinels": 100, "coverage": 0.9, "max_missing": 0.1,
    "ood_threshold": 1.5, "chain": "tmm, log_cpm", "assay": "rna", "eligible": "disease == 'patient'",
    "cohort": {"name": "demo", "snapshot": 7}, "spec": {"job": "classify"},
    "warnings": ["3 samples: refused by a step of the model's chain; the table `scores` says why"],
    "run": {"id": "r1"},
}  # fmt: skip
STATUSES = ("called", "abstained", "out_of_distribution", "missing_data", "pending_batch", "not_eligible")


def tables(counts: tuple[int, ...] = (200, 40, 20, 3, 0, 30)) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(1)
    status = np.repeat(STATUSES, counts)
    n = len(status)
    ids = np.array([f"SAMPLE{i:04d}" for i in range(n)])
    p = rng.beta(8, 1, n) / 2 + 0.5
    none = np.isin(status, STATUSES[3:])
    top = np.where(rng.random(n) < 0.4, "C1", "C2")
    table = pd.DataFrame(
        {
            "sample_id": ids,
            "person_id": [f"PERSON{i // 2:04d}" for i in range(n)],
            "visit": np.tile(["1", "2"], n)[:n],
            "date": None,
            "call": np.where(status == "called", top, None),
            "status": status,
            "top_class": np.where(none, None, top),
            "confidence": np.where(none, np.nan, p),
            "p_C1": np.where(none, np.nan, np.where(top == "C1", p, 1 - p)),
            "p_C2": np.where(none, np.nan, np.where(top == "C2", p, 1 - p)),
            "conformal_set": np.where(none, None, top),
            "model": "blood@3",
            "run": "r1",
        }
    )
    scores = pd.DataFrame(
        {
            "sample_id": ids,
            "ood_score": np.where(none, np.nan, rng.normal(0, 0.6, n) + 2 * (status == "out_of_distribution")),
            "n_missing": 0,
            "reason": np.where(status == "missing_data", "refused: step `tmm`: 1 sample has no counts", None),
            "batch": np.where(np.arange(n) % 3 == 0, "run 10", "run 9"),
        }
    )[status != "not_eligible"]
    return table, scores


def text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>|data:[^\"]+", " ", page, flags=re.S))


def test_what_it_says() -> None:
    page = render_classes(META, *tables())
    said = text(page)
    for words in ("200", "blood@3", "at least 90 %", "tmm, log_cpm", "30 of the panel"):
        assert words in said
    assert said.index("run 9") < said.index("run 10")
    assert "refuses" in said and page.count("<img") == 2


def test_it_names_nobody_and_runs_nothing() -> None:
    page = render_classes(META, *tables())
    assert "SAMPLE0" not in page and "PERSON0" not in page
    assert "<b>blood</b>" not in page and "&lt;b&gt;blood" in page
    assert "<script" not in page and "http" not in re.sub(r"Content-Security-Policy|http-equiv", "", text(page))


def test_few_people_are_hidden_wherever_they_would_show() -> None:
    page = text(render_classes(META, *tables()))
    # Three samples of two people lack data: neither their number nor, beside it, the smallest other one is told.
    status = page[page.index("What became of the samples", 400) :]
    status = status[: status.index("By visit")]
    assert re.search(r"missing data \*", status) and re.search(r"out of distribution \*", status)
    assert not re.search(r"\b3 samples", page) and "Some samples: refused" in page
    with_all = text(render_classes({**META, "suppress_below": 1}, *tables()))
    assert re.search(r"missing data 3", with_all) and "not drawn" not in with_all


def test_people_are_counted_and_not_their_visits() -> None:
    frame = pd.DataFrame({"status": ["a"] * 12 + ["b"] * 9, "person": ["P1"] * 12 + [f"Q{i}" for i in range(9)]})
    assert counted(frame, "status", ["a", "b"], 5) == ({"a": None, "b": None}, 21)
    assert counted(frame, "status", ["a", "b"], 1) == ({"a": 12, "b": 9}, 21)
    assert counted(frame[:12], "status", ["a"], 5) == ({"a": None}, None)


@pytest.mark.parametrize("seed", range(8))
def test_no_hidden_cell_follows_from_totals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = rng.poisson(6, (5, 4)) * (rng.random((5, 4)) < 0.8)
    columns = rng.random(4) < 0.2
    away = hide(people, 5, columns)
    assert away[(people > 0) & (people < 5)].all() and not away[people == 0].any()
    for line, row in [*zip(away, people, strict=True), *zip(away.T, people.T, strict=True)]:
        assert line.sum() != 1 or (row > 0).sum() == 1


def test_a_small_and_a_plain_result(tmp_path: Path) -> None:
    table, scores = tables((3, 0, 0, 0, 0, 0))
    assert "*" in text(render_classes({}, table, scores))
    page = render_classes({}, table.iloc[:0], scores.iloc[:0])
    assert "0" in text(page) and "<img" not in page
    assert "By batch" not in text(render_classes(META, tables()[0], None))
