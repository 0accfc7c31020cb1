"""Kernels of weighted linear models against limma 3.54.1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jobs_helpers import read_table

from sjd_dask.kernels import array_weights as aw
from sjd_dask.kernels import linear, moderation, voom, weighted

HERE = Path(__file__).parent / "reference/weights"


def table(name: str) -> np.ndarray:
    """A table of the reference, features in rows."""
    frame = pd.read_csv(HERE / f"{name}.tsv.gz", sep="\t", na_values=["NA", "NaN"])
    return frame.to_numpy(dtype=np.float64)


def frame(name: str) -> pd.DataFrame:
    return pd.read_csv(HERE / f"{name}.tsv.gz", sep="\t", na_values=["NA", "NaN"]).astype(np.float64)


def error(found: np.ndarray, wanted: np.ndarray, scale: np.ndarray | None = None) -> float:
    """Largest difference over max(1e-300, |wanted|) or a scale; NaN must lie in the same places."""
    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    assert found.shape == wanted.shape
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    scale = np.abs(wanted) if scale is None else scale
    return float(np.nanmax(np.abs(found - wanted) / np.maximum(scale, 1e-300)))


def compare(
    found: weighted.WeightedFit,
    design: linear.LinearDesign,
    contrasts: np.ndarray,
    wanted: pd.DataFrame,
    *,
    na_contrasts: str = "limma",
    **options: bool,
) -> dict[str, float]:
    tested = weighted.weighted_contrasts(found, design, contrasts, na_contrasts)
    result = moderation.moderate(
        tested.effects, tested.stdev_unscaled, found.sigma2, found.scaled.df_residual, found.scaled.mean, **options
    )
    f, _ = moderation.f_test(tested.f_quadratic, tested.f_rank, result.s2_post, result.df_f)
    numbers: dict[str, float] = {}
    for k in range(contrasts.shape[1]):
        wanted_effect, wanted_stdev = wanted[f"coef.{k + 1}"], wanted[f"stdev_unscaled.{k + 1}"]
        spread = np.sqrt(wanted["s2_post"]) * wanted_stdev
        for kind, value in (
            ("effect", error(tested.effects[k], wanted_effect, np.fmax(np.abs(wanted_effect), spread))),
            ("stdev", error(tested.stdev_unscaled[k], wanted_stdev)),
            ("t", error(result.statistic[k], wanted[f"t.{k + 1}"], np.fmax(1, np.abs(wanted[f"t.{k + 1}"])))),
            ("p", error(result.p_value[k], wanted[f"p.{k + 1}"])),
            ("B", error(result.log_odds[k], wanted[f"B.{k + 1}"], np.fmax(1, np.abs(wanted[f"B.{k + 1}"])))),
        ):
            numbers[kind] = max(numbers.get(kind, 0.0), value)
    numbers["sigma"] = error(np.sqrt(found.sigma2), wanted["sigma"])
    numbers["mean"] = error(found.scaled.mean, wanted["Amean"], np.fmax(1, np.abs(wanted["Amean"])))
    numbers["df"] = error(found.scaled.df_residual, wanted["df_residual"])
    numbers["F"] = error(f, wanted["F"], np.fmax(1, np.abs(wanted["F"])))
    print({kind: f"{value:.1e}" for kind, value in numbers.items()})
    return numbers


@pytest.fixture(scope="module")
def design() -> linear.LinearDesign:
    return linear.linear_design(table("design"))


@pytest.fixture(scope="module")
def made(design: linear.LinearDesign) -> voom.Voom:
    return voom.voom(table("counts").T, design)


def test_voom(made: voom.Voom, design: linear.LinearDesign) -> None:
    line = table("voom_line")
    assert error(made.expression.T, table("voom_E")) < 1e-13
    assert error(made.line(line[:, 0]), line[:, 1]) < 1e-12
    assert error(made.weights.T, table("voom_weights")) < 1e-11
    spanned = voom.voom(table("counts").T, design, span=0.3)
    assert error(spanned.weights.T, table("voom_weights_span03")) < 1e-11
    factors = table("voom_factors")
    normalised = voom.voom(table("counts").T, design, factors[:, 0] * factors[:, 1])
    assert error(normalised.weights.T, table("voom_weights_tmm")) < 1e-11


def test_voom_fits(made: voom.Voom, design: linear.LinearDesign) -> None:
    fit = weighted.fit_weighted(made.expression, made.weights, design)
    assert max(compare(fit, design, np.eye(4), frame("voom_fit")).values()) < 1e-9
    found = compare(fit, design, table("contrasts"), frame("voom_contrasts_robust"), robust=True)
    assert max(found.values()) < 1e-8


@pytest.mark.parametrize("method", ["genebygene", "reml"])
def test_quality_weights(made: voom.Voom, design: linear.LinearDesign, method: aw.ArrayMethod) -> None:
    first = aw.array_weights(made.expression, design, made.weights, method=method)
    second = voom.voom(table("counts").T, design, sample_weights=first)
    found = aw.array_weights(second.expression, design, second.weights, method=method)
    suffix = "" if method == "genebygene" else "_reml"
    worst = error(found, table(f"quality_samples{suffix}")[:, 0])
    print(method, worst)
    assert worst < 1e-9
    if method == "genebygene":
        cells = second.weights * found[:, None]
        assert error(cells.T, table("quality_weights")) < 1e-9
        fit = weighted.fit_weighted(second.expression, cells, design)
        assert max(compare(fit, design, table("contrasts"), frame("quality_contrasts")).values()) < 1e-8


def test_array_weights(made: voom.Voom, design: linear.LinearDesign) -> None:
    y, missing, wanted = table("y").T, table("y_missing").T, frame("array_weights")
    calls: dict[str, np.ndarray] = {
        "auto": aw.array_weights(y, design),
        "genebygene": aw.array_weights(y, design, method="genebygene"),
        "missing": aw.array_weights(missing, design),
        "missing_reml": aw.array_weights(missing, design, method="reml"),
        "weighted": aw.array_weights(y, design, made.weights),
        "weighted_reml": aw.array_weights(y, design, made.weights, method="reml"),
        "weighted_missing": aw.array_weights(missing, design, made.weights),
        "prior5": aw.array_weights(y, design, prior=5),
    }
    found = {name: error(values, wanted[name]) for name, values in calls.items()}
    print(found)
    assert max(found.values()) < 1e-9


def test_fits_with_weights_of_samples(design: linear.LinearDesign) -> None:
    weights = frame("array_weights")
    own = weights["auto"].to_numpy()
    root = linear.linear_design(design.matrix * np.sqrt(own)[:, None])
    fit = weighted.fit_weighted(table("y").T, own, design, root.cov_unscaled)
    for kind in ("limma", "exact"):
        found = compare(fit, design, table("contrasts"), frame("array_contrasts"), na_contrasts=kind)
        assert max(found.values()) < 1e-9
    missing = np.delete(table("y_missing"), 19, axis=0).T
    fit = weighted.fit_weighted(missing, weights["missing"].to_numpy(), design)
    assert max(compare(fit, design, table("contrasts"), frame("array_contrasts_missing")).values()) < 1e-8


def test_fits_with_weights_of_cells(design: linear.LinearDesign) -> None:
    cells = table("w").T
    fit = weighted.fit_weighted(table("y").T, cells, design)
    assert max(compare(fit, design, np.eye(4), frame("cells_coef_trend"), trend=True).values()) < 1e-8
    missing, cells = (np.delete(x, 19, axis=1) for x in (table("y_missing").T, cells))
    fit = weighted.fit_weighted(missing, cells, design)
    assert max(compare(fit, design, table("contrasts"), frame("cells_contrasts_missing")).values()) < 1e-8


def test_exact_contrasts_are_those_of_each_feature(design: linear.LinearDesign) -> None:
    """Against a whitened fit of one feature at a time, by NumPy."""
    y, cells, contrasts = table("y_missing").T, table("w").T, table("contrasts")
    fit = weighted.fit_weighted(y, cells, design)
    found = weighted.weighted_contrasts(fit, design, contrasts)
    for f in (0, 30, 49, 50, 120):
        there = np.isfinite(y[:, f]) & (cells[:, f] > 0)
        root = np.sqrt(cells[there, f])
        x, v = design.matrix[there] * root[:, None], y[there, f] * root
        covariance = np.linalg.inv(x.T @ x)
        beta = covariance @ x.T @ v
        own = contrasts.T @ covariance @ contrasts
        np.testing.assert_allclose(found.effects[:, f], contrasts.T @ beta, rtol=1e-9)
        np.testing.assert_allclose(found.stdev_unscaled[:, f], np.sqrt(np.diag(own)), rtol=1e-9)
        e = contrasts.T @ beta
        np.testing.assert_allclose(found.f_quadratic[f], e @ np.linalg.solve(own, e), rtol=1e-7)


def test_pasilla(reference_data: Path) -> None:
    """edgeR's filter and TMM factors are limma's input here; the rest is computed."""
    oracles = reference_data / "oracles"
    counts = pd.read_csv(oracles / "data/pasilla_counts.tsv.gz", sep="\t", index_col=0)
    kept = read_table(oracles / "counts/pasilla_filterByExpr.tsv.gz").iloc[:, 0] > 0
    targets = read_table(oracles / "counts/pasilla_voom_targets.tsv.gz")
    design = linear.linear_design(read_table(oracles / "counts/pasilla_design.tsv.gz").to_numpy())
    made = voom.voom(counts[kept.to_numpy()].to_numpy().T, design, targets["lib_size"].to_numpy())
    line = read_table(oracles / "counts/pasilla_voom_line.tsv.gz").reset_index().to_numpy(dtype=float)
    print("line", error(made.line(line[:, 0]), line[:, 1]))
    assert error(made.expression.T, read_table(oracles / "counts/pasilla_voom_E.tsv.gz").to_numpy()) < 1e-13
    assert error(made.line(line[:, 0]), line[:, 1]) < 1e-10
    weights = error(made.weights.T, read_table(oracles / "counts/pasilla_voom_weights.tsv.gz").to_numpy())
    print("weights", weights)
    assert weights < 1e-9
    fit = weighted.fit_weighted(made.expression, made.weights, design)
    for name, options in (("fit", {}), ("fit_robust", {"robust": True})):
        wanted = read_table(oracles / f"counts/pasilla_voom_{name}.tsv.gz").reset_index(drop=True)
        numbers = {}
        for column in wanted.columns:
            kind, dot, coefficient = column.partition(".")
            place = ["(Intercept)", "typesingle_read", "conditiontreated"].index(coefficient) + 1 if dot else 0
            numbers[column] = f"{kind}.{place}" if dot else kind
        found = compare(fit, design, np.eye(3), wanted.rename(columns=numbers), **options)
        assert max(found.values()) < (1e-9 if name == "fit" else 1e-7)
    first = aw.array_weights(made.expression, design, made.weights)
    second = voom.voom(
        counts[kept.to_numpy()].to_numpy().T, design, targets["lib_size"].to_numpy(), sample_weights=first
    )
    quality = aw.array_weights(second.expression, design, second.weights)
    wanted_weights = read_table(oracles / "counts/pasilla_voomQW.tsv.gz").iloc[:, 0]
    print("quality", error(quality, wanted_weights.to_numpy()))
    assert error(quality, wanted_weights.to_numpy()) < 1e-8


def test_leukaemia_array_weights(reference_data: Path) -> None:
    oracles = reference_data / "oracles"
    design = read_table(oracles / "limma/ALL_design.tsv.gz")
    values = read_table(oracles / "data/ALL_expr.tsv.gz")[list(design.index)]
    wanted = read_table(oracles / "limma/ALL_arrayWeights.tsv.gz").iloc[:, 0]
    found = aw.array_weights(values.to_numpy().T, linear.linear_design(design.to_numpy()))
    print(error(found, wanted.to_numpy()))
    assert error(found, wanted.to_numpy()) < 1e-9
