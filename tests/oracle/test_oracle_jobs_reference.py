"""Associations from an ingested matrix to the published table against limma 3.54.1, on the tables in `reference`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jobs_helpers import Ran, bring, compare, make_cohort, run, write_npz

REFERENCE = Path(__file__).parent / "reference"
LIMITS = {
    "effect": 1e-10,
    "standard error": 1e-8,
    "t": 1e-8,
    "p": 1e-7,
    "B": 1e-7,
    "F": 1e-7,
    "df": 1e-6,
    "sigma": 1e-10,
    "mean": 1e-12,
}


def table(name: str) -> pd.DataFrame:
    frame = pd.read_csv(REFERENCE / f"{name}.tsv.gz", sep="\t").astype(np.float64)
    return frame.set_axis([f"f{i + 1:03d}" for i in range(len(frame))], axis=0)


def named(wanted: pd.DataFrame, contrasts: list[str]) -> pd.DataFrame:
    """Columns called NAME.1, NAME.2 by the contrasts' names."""
    last = {str(k + 1): name for k, name in enumerate(contrasts)}
    parts = [c.rpartition(".") for c in wanted.columns]
    return wanted.set_axis([f"{a}.{last[b]}" if b in last else a + dot + b for a, dot, b in parts], axis=1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    path = make_cohort(folder / "cohort", chunk_samples=4, chunk_features=32)
    for assay, data, design in (
        ("full", "moderation_y", "moderation_design"),
        ("holes", "moderation_y_missing", "moderation_design"),
        ("block", "block_y", "block_design"),
        ("block_holes", "block_y_missing", "block_design"),
    ):
        values, setting = table(data), table(design)
        # Each design has sample ids of its own; both sheets go to the same columns.
        ids = [f"{design}_{i:02d}" for i in range(len(setting))]
        columns = ["block", "one", "group", "x"] if design == "block_design" else ["one", "group", "x"]
        sheet = setting.set_axis(columns, axis=1).set_axis(ids, axis=0)
        matrix = write_npz(folder / f"{assay}.npz", values.to_numpy().T, ids, values.index)
        bring(path, assay, matrix, samples=sheet, max_missing=0.9)
    return path


CONTRASTS = {"group": {"group": 1}, "mixed": {"group": 1, "x": -0.5}}


@pytest.mark.parametrize("data", ["full", "na"])
@pytest.mark.parametrize("options", ["flat_plain", "flat_robust", "trend_plain", "trend_robust"])
def test_moderation(cohort: Path, cluster: Any, data: str, options: str) -> None:
    ran = run(
        cohort, cluster, f"{data}_{options}", assay="full" if data == "full" else "holes", design="~ group + x",
        contrasts=CONTRASTS, trend="trend" in options, robust="robust" in options, na_contrasts="limma",
    )  # fmt: skip
    if data == "na":
        # One feature has no value at all: it says so, and the rest is as if it were not there.
        assert ran["F"].loc["f020", ["statistic", "p_value"]].isna().all()
        assert ran["F"].loc["f020", "n_samples"] == 0
        ran = Ran({name: rows.drop("f020") for name, rows in ran.tables.items()}, ran.meta, ran.outcome)
    wanted = named(table(f"moderation_{data}_{options}"), ran.contrasts)
    worst = compare(ran, wanted.set_axis(ran["F"].index, axis=0))
    print(data, options, {kind: f"{value:.1e}" for kind, value in worst.items()})
    assert all(worst[kind] <= LIMITS[kind] for kind in worst), worst


@pytest.mark.parametrize("data", ["full", "na"])
def test_repeated_measures(cohort: Path, cluster: Any, data: str) -> None:
    wanted = named(table(f"block_fit_{data}"), ["group", "mixed"])
    ran = run(
        cohort, cluster, f"block_{data}", assay="block" if data == "full" else "block_holes", design="~ group + x",
        contrasts={"group": {"group": 1}, "mixed": {"group": 1, "x": 2}}, block="block", moderation="none",
        na_contrasts="limma",
    )  # fmt: skip
    assert ran.meta["block"]["correlation"] == pytest.approx(wanted["consensus"].iloc[0], abs=1e-10)
    for name in ran.contrasts:
        np.testing.assert_allclose(ran[name]["effect"], wanted[f"effect.{name}"], rtol=1e-9, atol=1e-11)
        error = wanted[f"effect_stdev.{name}"] * wanted["sigma"]
        np.testing.assert_allclose(ran[name]["standard_error"], error, rtol=1e-10)
