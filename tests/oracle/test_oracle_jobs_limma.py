"""Associations from an ingested matrix to the published table against limma 3.54.1 and R's tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jobs_helpers import bring, compare, make_cohort, read_table, run, write_npz

from sjd_dask.store.cohort import open_cohort

# Asked of double precision: 1e-7 of the value or its standard error, 1e-6 of a p-value. About 1e-13 was seen; these
# leave a factor of ten and more for other processors and libraries. R finds the robust prior by root finding.
LIMITS = {
    "effect": 1e-11,
    "standard error": 1e-11,
    "t": 1e-11,
    "p": 1e-10,
    "B": 1e-10,
    "F": 1e-10,
    "df": 1e-11,
    "sigma": 1e-11,
    "mean": 1e-12,
}
ROBUST = LIMITS | {"t": 1e-9, "standard error": 1e-9, "p": 1e-8, "B": 1e-8, "F": 1e-8, "df": 1e-7}
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "trend": {"trend": True},
    "robust": {"robust": True},
    "trendrobust": {"trend": True, "robust": True},
}
ALL_CONTRASTS = {
    "TvB2": {"grp[T]": 1, "grp[B2]": -1},
    "B3vB2": {"grp[B3]": 1, "grp[B2]": -1},
    "B4vB01": {"grp[B4]": 1, "grp[B01]": -1},
}
ALL_MODEL = {"design": "~ 0 + grp + sex + age", "contrasts": ALL_CONTRASTS}


def within(worst: dict[str, float], limits: dict[str, float]) -> None:
    print({kind: f"{value:.1e}" for kind, value in worst.items()})
    over = {kind: (value, limits[kind]) for kind, value in worst.items() if not value <= limits[kind]}
    assert not over


@pytest.fixture(scope="module")
def oracles(reference_data: Path) -> Path:
    return reference_data / "oracles"


@pytest.fixture(scope="module")
def leukaemia(oracles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ALL cohort: the file as it is, the same with values missing, its first rows, and rounded to give ties."""
    folder = tmp_path_factory.mktemp("ALL")
    cohort = make_cohort(folder / "cohort", chunk_features=4096)
    sheet = pd.read_csv(oracles / "data/ALL_samples.tsv.gz", sep="\t", dtype=str, index_col=0)
    cells = sheet["BT"]
    sheet["grp"] = cells.where(~cells.str.startswith("T"), "T").replace({"B": "B01", "B1": "B01"})
    more = pd.read_csv(oracles / "norm/rbe_samples.tsv.gz", sep="\t", dtype=str, index_col=0)
    sheet = sheet[["sex", "age", "grp"]].join(more[["lineage", "block"]])
    sheet.to_csv(folder / "sheet.csv", index_label="sample_id")
    bring(cohort, "expr", oracles / "data/ALL_expr.tsv.gz", samples=folder / "sheet.csv")
    values = read_table(oracles / "data/ALL_expr.tsv.gz")
    used = values[list(read_table(oracles / "limma/ALL_design.tsv.gz").index)]
    holes = used.to_numpy(copy=True)
    at = pd.read_csv(oracles / "limma/ALL_na_positions.tsv.gz", sep="\t")
    holes[at["row"] - 1, at["col"] - 1] = np.nan
    bring(cohort, "holes", write_npz(folder / "holes.npz", holes.T, used.columns, used.index))
    few = values.iloc[:1000]
    bring(cohort, "few", write_npz(folder / "few.npz", few.to_numpy().T, few.columns, few.index))
    ties = values.iloc[:4000].round(1)
    bring(cohort, "ties", write_npz(folder / "ties.npz", ties.to_numpy().T, ties.columns, ties.index))
    return cohort


@pytest.fixture(scope="module")
def khan(oracles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("khan")
    cohort = make_cohort(folder / "cohort")
    pd.read_csv(oracles / "data/khan_samples.tsv.gz", sep="\t").to_csv(folder / "sheet.csv", index=False)
    # Several of its genes are called NA, which an ingest refuses: they go by their number here.
    values = read_table(oracles / "data/khan_expr.tsv.gz")
    matrix = write_npz(folder / "expr.npz", values.to_numpy().T, values.columns, numbered(values).index)
    bring(cohort, "expr", matrix, samples=folder / "sheet.csv")
    return cohort


def numbered(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_axis([f"row {i}" for i in range(len(table))], axis=0)


@pytest.mark.parametrize(
    ("options", "limits"), [("default", LIMITS), ("trend", LIMITS), ("robust", ROBUST), ("trendrobust", ROBUST)]
)
def test_contrasts(leukaemia: Path, cluster: Any, oracles: Path, options: str, limits: dict[str, float]) -> None:
    ran = run(leukaemia, cluster, options, assay="expr", **ALL_MODEL, **OPTIONS[options])
    wanted = read_table(oracles / f"limma/ALL_full_contrast_{options}.tsv.gz")
    within(compare(ran, wanted), limits)
    assert ran.meta["samples"]["used"] == 123
    assert ran["TvB2"]["n_samples"].eq(123).all()


def test_missing_values_as_limma_has_them(leukaemia: Path, cluster: Any, oracles: Path) -> None:
    ran = run(leukaemia, cluster, "holes_limma", assay="holes", na_contrasts="limma", **ALL_MODEL)
    within(compare(ran, read_table(oracles / "limma/ALL_na_contrast_default.tsv.gz")), LIMITS)
    assert ran.meta["features"]["with_missing"] > 12000


def test_missing_values_exactly(leukaemia: Path, cluster: Any, oracles: Path) -> None:
    """Each feature by itself, by NumPy's least squares over the samples that have a value."""
    ran = run(leukaemia, cluster, "holes_exact", assay="holes", **ALL_MODEL)
    design = read_table(oracles / "limma/ALL_design.tsv.gz")
    weights = read_table(oracles / "limma/ALL_contrasts.tsv.gz").loc[design.columns].to_numpy()
    every = slice(None, None, 5)
    values = open_cohort(leukaemia).assay("holes").to_xarray()["expression"][:, every].to_numpy().T
    rows = []
    for y in values:
        seen = ~np.isnan(y)
        x = design.to_numpy()[seen]
        b, rest, _, _ = np.linalg.lstsq(x, y[seen], rcond=None)
        covariance = weights.T @ np.linalg.inv(x.T @ x) @ weights
        effect = b @ weights
        df = len(x) - x.shape[1]
        quadratic = effect @ np.linalg.solve(covariance, effect)
        rows.append([*effect, *np.sqrt(np.diag(covariance)), rest[0] / df, df, quadratic])
    found = np.array(rows)
    # Contrasts leave the residual variances alone, so the prior is limma's.
    prior = json.loads((oracles / "limma/ALL_na_contrast_default.json").read_text())
    df_prior, s2_prior = prior["df_prior"], prior["s2_prior"]
    assert ran.meta["prior"]["df"] == pytest.approx(df_prior, rel=1e-10)
    s2_post = (found[:, 6] * found[:, 7] + s2_prior * df_prior) / (found[:, 7] + df_prior)
    for k, name in enumerate(ran.contrasts):
        table, error = ran[name][every], found[:, 3 + k] * np.sqrt(s2_post)
        assert np.max(np.abs(table["effect"] - found[:, k]) / np.fmax(np.abs(found[:, k]), error)) < 1e-11
        np.testing.assert_allclose(table["standard_error"], error, rtol=1e-11)
        np.testing.assert_allclose(table["statistic"], found[:, k] / error, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ran["F"][every]["statistic"], found[:, 8] / 3 / s2_post, rtol=1e-10)


@pytest.mark.parametrize("options", ["default", "trendrobust"])
def test_real_missing_values(khan: Path, cluster: Any, oracles: Path, options: str) -> None:
    contrasts = {f"{name}vBL": {f"class[{name}]": 1, "class[BL]": -1} for name in ("EWS", "NB", "RMS")}
    ran = run(
        khan, cluster, options, assay="expr", design="~ 0 + class", contrasts=contrasts, na_contrasts="limma",
        **OPTIONS[options],
    )  # fmt: skip
    wanted = numbered(read_table(oracles / f"limma/khan_contrast_{options}.tsv.gz"))
    known = read_table(oracles / "data/khan_expr.tsv.gz")
    within(compare(ran, wanted), ROBUST if "robust" in options else LIMITS)
    assert ran.meta["features"]["with_missing"] == int(known.isna().any(axis=1).sum()) > 0


@pytest.mark.parametrize("options", ["default", "trendrobust"])
def test_order_and_q_values_as_top_table(leukaemia: Path, cluster: Any, oracles: Path, options: str) -> None:
    ran = run(leukaemia, cluster, options, assay="expr", **ALL_MODEL, **OPTIONS[options])
    for contrast, table in (("TvB2", "topTable1"), ("F", "topTableF")):
        wanted = read_table(oracles / f"limma/ALL_full_contrast_{options}_{table}.tsv.gz")
        ordered = ran[contrast].sort_values("p_value", kind="stable")
        # p-values below 1e-300 would tie; there are none here.
        assert list(ordered.index) == list(wanted.index)
        np.testing.assert_allclose(ordered["q_value"], wanted["adj.P.Val"], rtol=1e-8)
    wanted = read_table(oracles / f"limma/ALL_full_contrast_{options}_decideTests.tsv.gz")
    for contrast in ran.contrasts:
        signs = np.where(ran[contrast]["q_value"] < 0.05, np.sign(ran[contrast]["effect"]), 0)
        assert np.array_equal(signs, wanted[contrast])


def test_repeated_measures(leukaemia: Path, cluster: Any, oracles: Path) -> None:
    ran = run(
        leukaemia, cluster, "repeats", assay="few", design="~ lineage", contrasts=["Intercept", "lineage[T.T]"],
        block="block",
    )  # fmt: skip
    wanted = read_table(oracles / "norm/dupcor_ALL1000_fit.tsv.gz")
    wanted.columns = [c.replace("(Intercept)", "Intercept").replace("grpT", "lineage[T.T]") for c in wanted.columns]
    within(compare(ran, wanted), LIMITS)
    expected = json.loads((oracles / "norm/dupcor_ALL1000.json").read_text())["consensus"]
    assert ran.meta["block"]["correlation"] == pytest.approx(expected, abs=1e-12)


def test_wilcoxon(cluster: Any, oracles: Path, tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort")
    sheet = pd.read_csv(oracles / "data/golub_samples.tsv.gz", sep="\t", dtype=str, index_col=0)
    sheet["cl"] = sheet["cl"].map({"0": "ALL", "1": "AML"})
    sheet.to_csv(tmp_path / "sheet.csv")
    bring(cohort, "expr", oracles / "data/golub_expr.tsv.gz", samples=tmp_path / "sheet.csv")
    wanted = read_table(oracles / "tests/wilcox_golub.tsv.gz")
    keys: dict[str, Any] = {"assay": "expr", "design": "~ cl"}
    corrected = run(cohort, cluster, "w", test="wilcoxon", exact=False, **keys)["cl[T.AML]"]
    plain = run(cohort, cluster, "w_plain", test="wilcoxon", exact=False, continuity=False, **keys)["cl[T.AML]"]
    welch = run(cohort, cluster, "welch", test="welch", **keys)["cl[T.AML]"]
    assert list(corrected.index) == list(wanted.index)
    assert np.array_equal(corrected["statistic"], wanted["W"])
    np.testing.assert_allclose(corrected["p_value"], wanted["p_correct"], rtol=1e-12)
    np.testing.assert_allclose(plain["p_value"], wanted["p_nocorrect"], rtol=1e-12)
    np.testing.assert_allclose(welch["statistic"], wanted["welch_t"], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(welch["df"], wanted["welch_df"], rtol=1e-11)
    np.testing.assert_allclose(welch["p_value"], wanted["welch_p"], rtol=1e-11)


@pytest.mark.parametrize("name", ["khan_na", "ALL4000_ties"])
def test_several_groups(leukaemia: Path, khan: Path, cluster: Any, oracles: Path, name: str) -> None:
    factor = "class" if name == "khan_na" else "grp"
    cohort, assay = (khan, "expr") if name == "khan_na" else (leukaemia, "ties")
    wanted = read_table(oracles / f"tests/kruskal_{name}.tsv.gz")
    kruskal = run(cohort, cluster, "kruskal", assay=assay, test="kruskal", design=f"~ {factor}")[factor]
    welch = run(cohort, cluster, "welch", assay=assay, test="welch", design=f"~ {factor}")[factor]
    assert len(kruskal) == len(wanted) == (2308 if name == "khan_na" else 4000)
    np.testing.assert_allclose(kruskal["statistic"], wanted["H"], rtol=1e-11)
    np.testing.assert_allclose(kruskal["p_value"], wanted["p"], rtol=1e-10)
    np.testing.assert_allclose(welch["statistic"], wanted["welchF"], rtol=1e-10)
    np.testing.assert_allclose(welch["p_value"], wanted["welchF_p"], rtol=1e-9)
