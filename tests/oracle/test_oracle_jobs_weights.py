"""Associations with weights, from stored counts to the published table, against limma 3.54.1."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jobs_helpers import bring, compare, make_cohort, read_result, read_table, run, spec_of, write_npz

from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.associate import prepare
from sjd_dask.jobs.associate_inputs import layer_library_sizes
from sjd_dask.jobs.driver import Outcome, run_spec
from sjd_dask.jobs.spec import parse_spec
from sjd_dask.store.cohort import open_cohort

HERE = Path(__file__).parent / "reference/weights"
LIMITS = {
    "effect": 1e-10,
    "standard error": 1e-10,
    "t": 1e-10,
    "p": 1e-9,
    "B": 1e-9,
    "F": 1e-9,
    "df": 1e-11,
    "sigma": 1e-10,
    "mean": 1e-12,
}
# R finds the robust prior by root finding.
ROBUST = LIMITS | {"t": 1e-8, "standard error": 1e-8, "p": 1e-7, "B": 1e-7, "F": 1e-8, "df": 1e-7}
NAMES = ("c1", "c2", "c3")
SAMPLES = [f"S{i:02d}" for i in range(14)]


def table(name: str) -> np.ndarray:
    frame = pd.read_csv(HERE / f"{name}.tsv.gz", sep="\t", na_values=["NA", "NaN"])
    return frame.to_numpy(dtype=np.float64)


def wanted(name: str, contrasts: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """A fit table with the names of contrasts and the ids of features."""
    frame = pd.read_csv(HERE / f"{name}.tsv.gz", sep="\t", na_values=["NA", "NaN"]).astype(np.float64)
    frame.columns = [
        f"{column[:-1]}{contrasts[int(column[-1]) - 1]}" if column[-2:-1] == "." else column for column in frame
    ]
    rows = np.arange(300) if len(frame) == 300 else np.delete(np.arange(300), 19)
    return frame.set_axis([f"f{i:03d}" for i in rows], axis=0)


def within(worst: dict[str, float], limits: dict[str, float] = LIMITS) -> None:
    print({kind: f"{value:.1e}" for kind, value in worst.items()})
    over = {kind: (value, limits[kind]) for kind, value in worst.items() if not value <= limits[kind]}
    assert not over


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts, values, and values with holes; in several chunks and segments."""
    folder = tmp_path_factory.mktemp("weights")
    cohort = make_cohort(folder / "cohort", 4, 64)
    design = table("design")
    columns = {"a": design[:, 1], "b": design[:, 2], "c": design[:, 3], "d": list("xy" * 7)}
    sheet = pd.DataFrame(columns, index=pd.Index(SAMPLES, name="sample_id"))
    features = [f"f{i:03d}" for i in range(300)]
    for number, (assay, name, quantity) in enumerate(
        (("counts", "counts", "counts"), ("y", "y", "expression"), ("holes", "y_missing", "expression"))
    ):
        values = table(name).T
        keep = np.arange(300) if assay != "holes" else np.delete(np.arange(300), 19)
        for part in (slice(0, 5), slice(5, 14)):
            matrix = write_npz(folder / "m.npz", values[part][:, keep], SAMPLES[part], [features[i] for i in keep])
            bring(
                cohort, assay, matrix, quantity, samples=sheet if number == 0 and part.start == 0 else None,
                max_missing=1.0,
            )  # fmt: skip
    return cohort


def contrasts() -> dict[str, dict[str, float]]:
    weights = table("contrasts")
    rows = ("Intercept", "a", "b", "c")
    return {
        name: {row: float(w) for row, w in zip(rows, weights[:, k], strict=True) if w} for k, name in enumerate(NAMES)
    }


def model(assay: str) -> dict[str, Any]:
    return {"assay": assay, "design": "~ a + b + c", "contrasts": contrasts(), "na_contrasts": "limma"}


def test_voom(cohort: Path, cluster: Any) -> None:
    ran = run(
        cohort, cluster, "voom", assay="counts", design="~ a + b + c", weights="voom", na_contrasts="limma",
        contrasts=["Intercept", "a", "b", "c"],
    )  # fmt: skip
    within(compare(ran, wanted("voom_fit", ("Intercept", "a", "b", "c"))))
    assert ran.meta["weights"]["kind"] == "voom"
    assert ran.meta["quantity"] == "expression"
    assert ran.meta["method_versions"]["voom"] == 1
    robust = run(cohort, cluster, "robust", weights="voom", robust=True, **model("counts"))
    within(compare(robust, wanted("voom_contrasts_robust")), ROBUST)


def test_voom_quality(cohort: Path, cluster: Any) -> None:
    ran = run(cohort, cluster, "quality", weights="voom_quality", **model("counts"))
    within(compare(ran, wanted("quality_contrasts")))
    assert ran.meta["weights"]["array_method"] == "genebygene"
    found = ran.meta["weights"]["samples"]
    by_hand = np.quantile(table("quality_samples")[:, 0], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    reml = run(cohort, cluster, "reml", weights="voom_quality", array_method="reml", **model("counts"))
    by_hand = np.quantile(table("quality_samples_reml")[:, 0], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(reml.meta["weights"]["samples"], by_hand, atol=1e-6)


@pytest.mark.parametrize("width", [None, 37])
def test_array_weights(cohort: Path, cluster: Any, width: int | None) -> None:
    more = {"partition_features": width} if width else {}
    ran = run(cohort, cluster, f"array{width}", weights="array", **model("y"), **more)
    within(compare(ran, wanted("array_contrasts")))
    assert ran.meta["weights"]["array_method"] == "reml"
    holes = run(cohort, cluster, f"holes{width}", weights="array", **model("holes"), **more)
    within(compare(holes, wanted("array_contrasts_missing")))
    assert holes.meta["weights"]["array_method"] == "genebygene"


def test_array_weights_gene_by_gene(cohort: Path, cluster: Any) -> None:
    """Complete values: limma's contrasts take the correlations of the weighted design, however the weights are made."""
    keys = {**model("y"), "weights": "array", "array_method": "genebygene"}
    limma = run(cohort, cluster, "one_limma", **keys)
    exact = run(cohort, cluster, "one_exact", **{**keys, "na_contrasts": "exact"})
    assert limma.meta["weights"]["array_method"] == "genebygene"
    for contrast in NAMES:
        for name in ("standard_error", "statistic", "p_value"):
            np.testing.assert_allclose(limma.tables[contrast][name], exact.tables[contrast][name], rtol=1e-8)


def normalise(cohort: Path, cluster: Any, output: str, steps: list[str]) -> None:
    keys = {"job": "normalise", "cohort": str(cohort), "output": output, "assay": "counts", "steps": steps}
    run_spec(parse_spec(keys, "spec"), Path(), cluster=cluster, quiet=True)


def test_a_layer_that_ends_in_voom(cohort: Path, cluster: Any) -> None:
    """TMM factors and log counts are the layer's, library sizes its quality table's; the weights are made here."""
    normalise(cohort, cluster, "logs", ["tmm", "voom"])
    keys = {key: value for key, value in model("counts").items() if key != "assay"}
    ran = run(cohort, cluster, "layer", layer="layers/logs", **keys)
    within(compare(ran, wanted("voom_tmm_contrasts")))
    assert ran.meta["weights"]["kind"] == "voom"
    assert (ran.meta["layer"], ran.meta["assay"], ran.meta["quantity"]) == ("layers/logs@1", "counts", "expression")
    named = run(cohort, cluster, "layer", layer="logs@1", weights="voom", quantity="logs", **keys)
    within(compare(named, wanted("voom_tmm_contrasts")))
    few = run(cohort, cluster, "few", layer="logs", samples="b > -1.2", weights="voom_quality", **keys)
    assert few.meta["samples"]["used"] < 14
    plain = run(cohort, cluster, "plain", layer="logs", weights="none", **keys)
    assert "weights" not in plain.meta and plain.meta["warnings"] == []
    groups = run(cohort, cluster, "groups", layer="logs", design="~ d", test="wilcoxon")
    assert "weights" not in groups.meta


def test_layers_that_can_not_have_the_weights(cohort: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    normalise(cohort, cluster, "logs", ["tmm", "voom"])
    normalise(cohort, cluster, "cpm", ["tmm", "log_cpm"])
    keys: dict[str, Any] = {"design": "~ a + b + c"}
    for more, word in (
        ({"layer": "cpm", "weights": "voom"}, "whose last step is voom; that of cpm is log_cpm"),
        ({"layer": "logs", "block": "d"}, "block"),
        ({"layer": "logs", "precision": "single"}, "precision"),
        ({"layer": "logs", "quantity": "m_value"}, "a layer is tested as it is"),
        ({"layer": "gone"}, "no layer 'gone'"),
        ({"assay": "y", "weights": "voom"}, "needs counts"),
    ):
        with pytest.raises(SpecError, match=word):
            prepare(spec_of(cohort, "out", **keys, **more), Path())
    opened = open_cohort(cohort)
    layer = opened.layer("logs")
    sizes = layer_library_sizes(opened, layer, SAMPLES[::-1])
    factors = table("voom_factors")
    np.testing.assert_allclose(sizes, (factors[:, 0] * factors[:, 1])[::-1], rtol=1e-12)
    with pytest.raises(DataError, match=r"1 of 2 samples have no library size.*nobody \(nan\)"):
        layer_library_sizes(opened, layer, ["S00", "nobody"])
    monkeypatch.setattr(layer, "layer", "cpm2")
    with pytest.raises(DataError, match="there is no qc/cpm2"):
        layer_library_sizes(opened, layer, SAMPLES)


def test_from_the_command_line(cohort: Path, tmp_path: Path) -> None:
    spec = tmp_path / "voom.yaml"
    spec.write_text(
        f"job: associate\ncohort: {cohort}\nassay: counts\ndesign: '~ a + b + c'\nweights: voom\n"
        "na_contrasts: limma\ncontrasts: ['Intercept', 'a', 'b', 'c']\noutput: cli\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "sjd_dask.cli", "run", str(spec), "--workers", "1", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "associations/cli@1\n"
    outcome = Outcome(open_cohort(cohort), "", "published", ["associations/cli@1"], [], 0.0)
    within(compare(read_result(outcome), wanted("voom_fit", ("Intercept", "a", "b", "c"))))


def test_leukaemia(reference_data: Path, cluster: Any, tmp_path: Path) -> None:
    """Weights of 122 samples over 12,625 features, as arrayWeights gives them."""
    oracles = reference_data / "oracles"
    design = read_table(oracles / "limma/ALL_design.tsv.gz")
    values = read_table(oracles / "data/ALL_expr.tsv.gz")[list(design.index)]
    cohort = make_cohort(tmp_path / "cohort", chunk_features=4096)
    sheet = design.set_axis([f"x{i}" for i in range(design.shape[1])], axis=1)
    sheet.index.name = "sample_id"
    matrix = write_npz(tmp_path / "m.npz", values.to_numpy().T, values.columns, values.index)
    bring(cohort, "expr", matrix, samples=sheet)
    formula = "~ 0 + " + " + ".join(sheet.columns)
    ran = run(cohort, cluster, "array", assay="expr", design=formula, weights="array")
    known = read_table(oracles / "limma/ALL_arrayWeights.tsv.gz").iloc[:, 0]
    np.testing.assert_allclose(ran.meta["weights"]["samples"], np.quantile(known, [0, 0.25, 0.5, 0.75, 1]), atol=1e-6)
