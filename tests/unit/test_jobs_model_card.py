"""The card of a model and its page: what they say, what they hide, whom they don't name."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.jobs.model_card import ModelCard, build, hide_few
from sjd_dask.report.model_page import render_model

CLASSES = ["calm", "inflamed", "<b>mixed</b>"]
FACTS: dict[str, Any] = {
    "title": "Blood classes",
    "classes": CLASSES,
    "labels": "strata/groups@1",
    "assay": "layers/log@1",
    "source_assay": "rnaseq",
    "quantity": "expression",
    "recipe": {"model": "multinomial", "panel_method": "elastic_net", "panel_size": 50, "calibration": "sigmoid",
               "coverage": 0.9, "abstain_rate": 0.05, "max_missing": 0.1},
    "refit": {"normalisation": True, "groups": False, "panel": True},
    "folds": {"outer": 5, "inner": 5, "repeats": 1},
    "platform": {"assay": "rnaseq", "quantity": "expression", "n_features": 2000},
    "n_panel": 12,
    "n_sentinels": 200,
    "threshold": 0.31,
}  # fmt: skip


def _predictions(sizes: tuple[int, ...] = (40, 30, 20), seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    own = np.repeat(np.arange(len(sizes)), sizes)
    visits = rng.integers(1, 4, size=own.size)
    label, person = np.repeat(own, visits), np.repeat(np.arange(own.size), visits)
    scores = rng.normal(size=(label.size, len(sizes)))
    scores[np.arange(label.size), label] += 1.2
    # The probabilities that made the classes, and some five times too sure.
    raw = np.exp(6 * scores)
    p = np.exp(1.2 * scores) / np.exp(1.2 * scores).sum(axis=1, keepdims=True)
    held = p >= 0.3
    frame = pd.DataFrame(
        {
            "sample_id": [f"secretsample{i}" for i in range(label.size)],
            "person_id": [f"secretperson{i}" for i in person],
            "label": np.array(CLASSES, dtype=object)[label],
            "core": rng.random(label.size) < 0.8,
            "status": np.where(held.sum(axis=1) == 1, "called", "abstained").astype(object),
            **{f"p_{name}": p[:, c] for c, name in enumerate(CLASSES)},
            "conformal_set": ["|".join(n for n, inside in zip(CLASSES, row, strict=True) if inside) for row in held],
            **{f"uncalibrated_{name}": (raw / raw.sum(axis=1, keepdims=True))[:, c] for c, name in enumerate(CLASSES)},
        }
    )
    frame.loc[3, "status"] = "missing_data"
    frame.loc[3, [f"p_{name}" for name in CLASSES]] = np.nan
    frame.loc[5, "person_id"] = None
    return frame


PANEL = pd.DataFrame(
    {
        "feature_id": [f"gene{i}" for i in range(12)],
        **{f"weight_{name}": np.linspace(-1, 1, 12) * (c + 1) for c, name in enumerate(CLASSES)},
        "direction": [f"higher in {CLASSES[i % 3]}" for i in range(12)],
        "selection_frequency": 0.8,
    }
)


def _card(frame: pd.DataFrame, **more: Any) -> ModelCard:
    sheet = pd.DataFrame(
        {"sex": np.where(np.arange(len(frame)) < 3, "f", "m"), "site": "north"}, index=frame["sample_id"]
    )
    return build(FACTS, frame, PANEL, subgroups=sheet, n_draws=30, **more)


@pytest.fixture(scope="module")
def made() -> ModelCard:
    return _card(_predictions())


def test_the_card_is_json_that_names_nobody(made: ModelCard) -> None:
    text = json.dumps(made.card, allow_nan=False)
    assert "secret" not in text
    assert made.card["data"]["n_persons"] == 91
    assert set(made.tables) == {"metrics", "reliability", "subgroups"}
    assert made.tables["metrics"]["of"].unique().tolist() == ["all", "core", "not core"]


def test_its_numbers_are_those_of_the_predictions(made: ModelCard) -> None:
    frame = _predictions()
    frame["person_id"] = frame["person_id"].fillna("alone")
    known = frame[frame["p_calm"].notna()]
    right = known[[f"p_{n}" for n in CLASSES]].to_numpy().argmax(axis=1) == known["label"].map(CLASSES.index)
    share = 1 / frame.groupby("person_id")["person_id"].transform("size")[known.index]
    by_hand = float((right * share).sum() / share.sum())
    found = {(m["of"], m["metric"], m["class"]): m for m in made.card["metrics"]}
    assert found["all", "accuracy", ""]["value"] == pytest.approx(by_hand)
    assert made.card["conformal"]["observed"]["value"] == found["all", "coverage", ""]["value"]
    calibration = made.card["calibration"]
    assert calibration["measured_in"] == "outer folds"
    assert calibration["difference"] < -calibration["standard_error"] < 0
    assert calibration["brier"] == pytest.approx(calibration["brier_uncalibrated"] + calibration["difference"])


def test_calibration_is_shown_in_the_inner_folds_where_the_outer_ones_cannot() -> None:
    frame = _predictions()
    outer = frame.drop(columns=[f"uncalibrated_{name}" for name in CLASSES])
    inner = frame.drop(columns=["status", "conformal_set"])
    assert "brier" not in build(FACTS, outer, PANEL, n_draws=2).card["calibration"]
    found = build(FACTS, outer, PANEL, inner=inner, n_draws=2).card["calibration"]
    assert found["measured_in"] == "inner folds of the final model" and found["difference"] < 0


def test_few_persons_are_hidden_also_from_subtraction() -> None:
    card = _card(_predictions((40, 30, 4))).card
    counts = {one["class"]: one["n_persons"] for one in card["data"]["classes"]}
    assert counts["<b>mixed</b>"] is None and counts["inflamed"] is None and counts["calm"] is not None
    assert all(m["value"] is None and m["n_samples"] is None for m in card["metrics"] if m["class"] == "<b>mixed</b>")
    women = [one for one in card["subgroups"] if one["level"] == "f"]
    assert women and all(one["value"] is None and one["n_persons"] is None for one in women)
    men = [one for one in card["subgroups"] if one["level"] == "m"]
    assert all(one["value"] is not None and one["n_persons"] is None for one in men)
    for row in card["reliability"]:
        assert row["n_persons"] is None or row["n_persons"] >= 5
        assert (row["n_persons"] is None) == (row["observed"] is None)
    for name in CLASSES:
        hidden = [one["share"] is None for one in card["confusion"] if one["class"] == name]
        shares = [one["share"] for one in card["confusion"] if one["class"] == name]
        assert sum(hidden) != 1 or sum(share or 0 for share in shares) == 0
    assert any("Fewer than 20 persons of '<b>mixed</b>'" in one for one in card["limits"])


def test_nothing_is_hidden_when_nothing_shall_be() -> None:
    table = pd.DataFrame({"metric": ["accuracy"], "value": [0.5], "n_samples": [3], "n_persons": [2]})
    assert hide_few(table, 0)["value"].iloc[0] == 0.5 and pd.isna(hide_few(table, 5)["value"].iloc[0])


def test_limits_follow_from_the_card(made: ModelCard) -> None:
    limits = " ".join(made.card["limits"])
    assert "91 persons of one cohort" in limits
    assert "groups found in the same data" in limits
    assert "Not made again inside the folds: groups." in limits
    assert "90 % coverage is over all persons together" in limits
    # What is not there can't have been left out.
    plain = build(
        {**FACTS, "labels": "diagnosis", "assay": "rna", "source_assay": "rna"}, _predictions(), PANEL, n_draws=2
    )
    assert "Not made again" not in " ".join(plain.card["limits"])


def test_the_page_says_it_and_fetches_nothing(made: ModelCard) -> None:
    meta = {"card": made.card, "reference": "models/blood@2", "title": "Blood classes", "warnings": ["look here"]}
    state = {"is_production": True, "promoted_by": "ann", "promoted_at": "2026-01-01", "promoted_why": "it is better"}
    page = render_model(meta, {"gene1": "MX1"}, state)
    assert "secret" not in page and "<b>mixed</b>" not in page and "&lt;b&gt;mixed&lt;/b&gt;" in page
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)", page) and "<script" not in page
    for text in ("look here", "MX1", "in production since 2026-01-01, promoted by ann", "At a glance", "91"):
        assert text in page
    assert page.count("<img") == 7
    for limit in made.card["limits"]:
        assert limit.split("'")[0].split("<")[0] in page
