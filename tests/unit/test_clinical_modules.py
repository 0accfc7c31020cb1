"""Module scores: what the healthy say once, then every sample by itself; old and new names of genes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sjd_dask.clinical import fit_modules, score, score_modules
from sjd_dask.clinical.module_lists import match_modules
from sjd_dask.errors import DataError, SpecError

TYPE_I = "interferon type I"
GENES = ["IFI44", "IFI44L", "IFIT1", "IFIT3", "MX1", "GBP1", "CXCL9", "OTHER"]
HEALTHY = [f"h{i:02d}" for i in range(20)]
PATIENTS = [f"p{i:02d}" for i in range(30)]


def values() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    data = rng.normal(6, 1, (50, len(GENES))) + np.r_[np.zeros(20), np.linspace(0, 4, 30)][:, None]
    return pd.DataFrame(data, index=[*HEALTHY, *PATIENTS], columns=GENES)


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    return fit_modules(values(), HEALTHY, name="a clinic")


def test_scores_are_means_of_healthy_distances(model: dict[str, Any]) -> None:
    frame = values()
    found = score_modules(frame, model)
    own = frame[GENES[:5]]
    z = (own - own.loc[HEALTHY].mean()) / own.loc[HEALTHY].std()
    np.testing.assert_allclose(found[TYPE_I], z.mean(axis=1), rtol=1e-12)
    cut = z.loc[HEALTHY].mean(axis=1).mean() + 2 * z.loc[HEALTHY].mean(axis=1).std()
    assert (found[f"{TYPE_I}_high"].to_numpy() == (z.mean(axis=1) > cut).to_numpy()).all()
    assert found[f"{TYPE_I}_high"].loc[PATIENTS].mean() > 0.6 and found[f"{TYPE_I}_high"].loc[HEALTHY].mean() < 0.15
    assert model["source"] == "20 healthy samples of a clinic"


def test_a_sample_has_its_score_alone_and_from_any_order_of_features(model: dict[str, Any]) -> None:
    frame = values()
    whole = score_modules(frame, model)
    pd.testing.assert_frame_equal(score_modules(frame.loc[["p03"], GENES[::-1]], model), whole.loc[["p03"]])
    array = xr.DataArray(
        frame.to_numpy(), dims=("samples", "features"),
        coords={"sample_id": ("samples", frame.index), "feature_id": ("features", GENES)},
    )  # fmt: skip
    pd.testing.assert_frame_equal(score_modules(array, model), whole)
    assert fit_modules(array, HEALTHY, name="a clinic") == model
    is_healthy = pd.Series(True, index=HEALTHY).reindex(frame.index[::-1])
    assert fit_modules(frame, is_healthy, name="a clinic") == model


@pytest.mark.parametrize(("n_missing", "known"), [(2, True), (3, False)])
def test_a_score_wants_half_of_its_genes(model: dict[str, Any], n_missing: int, known: bool) -> None:
    frame = values().loc[["p05"]]
    frame.iloc[0, :n_missing] = np.nan
    row = score_modules(frame, model).iloc[0]
    assert np.isfinite(row[TYPE_I]) == known == np.isfinite(row[f"{TYPE_I}_high"])
    assert row[f"{TYPE_I}_known"] == 5 - n_missing and row[f"{TYPE_I}_items"] == 5
    assert row[f"{TYPE_I}_reason"] == "missing: " + ", ".join(GENES[:n_missing])
    without = score_modules(values().loc[["p05"], GENES[n_missing:]], model).iloc[0]
    pd.testing.assert_series_equal(without, row)


def test_genes_are_found_by_old_and_new_names() -> None:
    sets = {"sensors": (("DDX58", "RIGI", "MX1", "gone"), 1, True)}
    ids = np.array(["RIGI", "MX1"], dtype=object)
    found = match_modules(sets, ids, None)
    # Two names of one gene are one gene.
    assert found.table.iloc[0].tolist() == ["sensors", 3, 2, 2, "gone"]
    assert found.renamed == ("DDX58 as RIGI",)
    np.testing.assert_allclose(found.weights.toarray()[:, 0], [0.5, 0.5])
    assert match_modules(sets, np.array(["MX1"], dtype=object), None).table.iloc[0]["missing"] == "DDX58, gone"


def test_renamed_genes_and_what_is_missing_are_told(model: dict[str, Any]) -> None:
    older = values().rename(columns={"IFI44L": "C1orf29", "IFIT3": "IFIT4"}).drop(columns="CXCL9")
    found = fit_modules(older, HEALTHY)
    assert found["renamed"] == ["IFI44L as C1orf29", "IFIT3 as IFIT4"]
    assert [(one["n_matched"], one["n_genes"], one["missing"]) for one in found["modules"]] == [
        (5, 5, []), (1, 2, ["CXCL9"]),
    ]  # fmt: skip
    np.testing.assert_allclose(score_modules(older, found)[TYPE_I], score_modules(values(), model)[TYPE_I])


def test_a_users_gmt_and_symbols_of_probes(tmp_path: Path) -> None:
    (tmp_path / "own.gmt").write_text("mine\tof ours\tOTHER\tGBP1\n")
    frame = values()
    probes = frame.set_axis([f"probe{i}" for i in range(len(GENES))], axis=1)
    symbols = dict(zip(probes.columns, GENES, strict=True))
    found = fit_modules(probes, HEALTHY, symbols=symbols, modules=tmp_path / "own.gmt")
    assert [one["name"] for one in found["modules"]] == [TYPE_I, "interferon type II", "mine"]
    both = score_modules(probes, found)
    z = (frame - frame.loc[HEALTHY].mean()) / frame.loc[HEALTHY].std()
    np.testing.assert_allclose(both["mine"], z[["OTHER", "GBP1"]].mean(axis=1))


def test_lower_methylation_is_higher_activity() -> None:
    sites = values().rename(columns={"IFI44": "RSAD2"})[["RSAD2", "IFIT1", "IFI44L"]]
    found = fit_modules(sites, HEALTHY, kind="methylation")
    name = "interferon (methylation, turned)"
    assert [one["name"] for one in found["modules"]] == [name]
    z = (sites - sites.loc[HEALTHY].mean()) / sites.loc[HEALTHY].std()
    np.testing.assert_allclose(score_modules(sites, found)[name], -z.mean(axis=1))


def test_a_small_panel_in_a_sheet(model: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_text(json.dumps(model))
    sheet = values().reset_index(names="sample_id")
    found = score(sheet, "modules", model=tmp_path / "reference.json")
    np.testing.assert_array_equal(found[TYPE_I], score_modules(values(), model)[TYPE_I])
    wrong = sheet.astype({"MX1": object})
    wrong.loc[3, "MX1"] = "high"
    with pytest.raises(DataError, match=r"'h03', column 'MX1': 'high' is no number"):
        score(wrong, "modules", model=model)
    with pytest.raises(SpecError, match="none of the reference's columns"):
        score(sheet[["sample_id", "OTHER"]], "modules", model=model)
    with pytest.raises(SpecError, match="fit_modules"):
        score(sheet, "modules")


def test_refusals(model: dict[str, Any], tmp_path: Path) -> None:
    frame = values()
    (tmp_path / "bad.gmt").write_text("alone\n")
    for said, kind, call in (
        (r"4 healthy samples: a spread wants 5", DataError, lambda: fit_modules(frame, HEALTHY[:4])),
        (r"'x' is not among the samples \(1 of 21", DataError, lambda: fit_modules(frame, [*HEALTHY, "x"])),
        (r"no gene of any module", DataError, lambda: fit_modules(frame[["OTHER"]], HEALTHY)),
        (r"bad.gmt, line 1", DataError, lambda: fit_modules(frame, HEALTHY, modules=tmp_path / "bad.gmt")),
        (r"none.gmt can't be read", SpecError, lambda: fit_modules(frame, HEALTHY, modules=tmp_path / "none.gmt")),
        (r"none of the 7 features", DataError, lambda: score_modules(frame[["OTHER"]], model)),
        (r"'MX1' is there twice", DataError, lambda: score_modules(frame[["MX1", "MX1"]], model)),
        (r"not ndarray", SpecError, lambda: score_modules(frame.to_numpy(), model)),
        (r"is none: source", SpecError, lambda: score_modules(frame, {})),
        (r"can't be read", SpecError, lambda: score_modules(frame, tmp_path / "none.json")),
    ):
        with pytest.raises(kind, match=said):
            call()
