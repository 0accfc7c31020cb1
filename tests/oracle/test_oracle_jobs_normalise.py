"""Layers from an ingested matrix to the published values against sva, edgeR, limma, DESeq2 and preprocessCore.

Every value as it is stored, over max(|value|, SD of the feature).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jobs_helpers import bring, compare, make_cohort, read_table, run, write_npz
from normalise_helpers import error_of, normalise

from sjd_dask.jobs.driver import run_spec
from sjd_dask.jobs.spec import parse_spec

HERE = Path(__file__).parent / "reference"
# Asked: 1e-7. The worst figure seen of a closed form is about 1e-13; this leaves a factor of ten for other processors.
CLOSED = 1e-12
SINGLE = 1e-6
EXPRESSED = {"method": "filter_by_expr", "design": "~ type + condition"}
VOOM = ["tmm", EXPRESSED, "tmm", "voom"]


def within(found: float, limit: float) -> None:
    print(f"{found:.1e}")
    assert found <= limit


@pytest.fixture(scope="module")
def oracles(reference_data: Path) -> Path:
    return reference_data / "oracles"


def sheet_of(path: Path) -> pd.DataFrame:
    sheet = pd.read_csv(path, sep="\t", dtype=str)
    return sheet.set_index(sheet.columns[0]).rename_axis("sample_id")


def plain(folder: str, name: str, prefix: str = "f") -> pd.DataFrame:
    """An own table of R; features without ids get a number."""
    frame = pd.read_csv(HERE / folder / f"{name}.tsv.gz", sep="\t", na_values=["NA", "NaN"])
    if frame.columns[0] in ("id", "feature"):
        return frame.set_index(frame.columns[0])
    return frame.set_axis([f"{prefix}{i:04d}" for i in range(len(frame))], axis=0)


def numbered(values: pd.DataFrame) -> pd.DataFrame:
    """Features go by their number: several genes of khan are called NA, which an ingest refuses."""
    return values.set_axis([f"row{i}" for i in range(len(values))], axis=0)


def put(cohort: Path, assay: str, values: pd.DataFrame, quantity: str = "expression", **options: Any) -> None:
    """Ingest a table of R."""
    matrix = write_npz(cohort.parent / f"{assay}.npz", values.to_numpy(float).T, values.columns, values.index)
    bring(cohort, assay, matrix, quantity, max_missing=1.0, **options)


# -- ComBat and removeBatchEffect ------------------------------------------------------------------------------------

MOD = {"covariates": "~ cancer"}
FREE = {"prior": "nonparametric"}
BLADDER: dict[str, tuple[str, dict[str, Any]]] = {
    "bladder3000_param": ("all", {}),
    "bladder3000_param_mod": ("all", MOD),
    "bladder3000_meanonly_mod": ("all", MOD | {"mean_only": True}),
    "bladder3000_ref2_mod": ("all", MOD | {"reference_batch": "2"}),
    "bladder1000_nonparam_mod": ("few", MOD | FREE),
    "bladder3000_na_param_mod": ("holes", MOD),
}


@pytest.fixture(scope="module")
def bladder(oracles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bladder")
    cohort = make_cohort(folder / "cohort", 16, 1024)
    values = read_table(oracles / "combat/bladder3000_input.tsv.gz")
    sheet = sheet_of(oracles / "combat/bladder3000_samples.tsv.gz")
    bring(cohort, "all", oracles / "combat/bladder3000_input.tsv.gz", samples=sheet)
    put(cohort, "few", values.iloc[:1000])
    # Cells that R's call made missing are missing in what it gave.
    put(cohort, "holes", values.mask(read_table(oracles / "combat/bladder3000_na_param_mod.tsv.gz").isna()))
    return cohort


@pytest.mark.parametrize("name", BLADDER)
def test_combat(bladder: Path, cluster: Any, oracles: Path, name: str) -> None:
    assay, options = BLADDER[name]
    found = normalise(bladder, cluster, name, [{"method": "combat", "batch": "batch", **options}], assay=assay)
    within(found.error(read_table(oracles / f"combat/{name}.tsv.gz")), CLOSED)
    assert found.quality["status"].eq("ok").all() and len(found.quality) == 57


def test_single_precision(bladder: Path, cluster: Any, oracles: Path) -> None:
    step = {"method": "combat", "batch": "batch", **MOD}
    found = normalise(bladder, cluster, "single", [step], assay="all", precision="single")
    assert found.values.dtypes.eq(np.float32).all()
    within(found.error(read_table(oracles / "combat/bladder3000_param_mod.tsv.gz")), SINGLE)


def test_removal(cluster: Any, oracles: Path, tmp_path: Path) -> None:
    wanted = read_table(oracles / "norm/rbe_ALL3000.tsv.gz")
    cohort = make_cohort(tmp_path / "cohort", 32, 1024)
    sheet = sheet_of(oracles / "norm/rbe_samples.tsv.gz").astype({"age": float})
    values = read_table(oracles / "data/ALL_expr.tsv.gz").iloc[:3000]
    put(cohort, "expr", values[list(wanted.columns)], samples=sheet)
    step = {
        "method": "remove_batch_effect", "batch": "batch", "batch2": "batch2", "covariates": ["age"],
        "design": "~ lineage",
    }  # fmt: skip
    within(normalise(cohort, cluster, "removed", [step], assay="expr").error(wanted), CLOSED)


OWN_MOD = {"covariates": "~ disease + age"}
OWN_BATCH: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("y", {}),
    "reference_mean_only": ("y", OWN_MOD | {"reference_batch": "c", "mean_only": True}),
    "nonparametric_reference": ("y", OWN_MOD | FREE | {"reference_batch": "c"}),
    "missing_nonparametric": ("y_missing", OWN_MOD | FREE),
    "flat_missing": ("y_flat_missing", OWN_MOD),
    "one_sample": ("y", OWN_MOD | {"batch": "one", "mean_only": True}),
}


def test_batches_of_other_data(cluster: Any, tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort", 8, 64)
    sheet = pd.read_csv(HERE / "batch/samples.tsv.gz", sep="\t").set_index("sample").rename_axis("sample_id")
    for number, assay in enumerate(("y", "y_missing", "y_flat_missing")):
        put(cohort, assay, plain("batch", assay), samples=None if number else sheet)
    worst = {}
    for name, (assay, options) in OWN_BATCH.items():
        step = {"method": "combat", "batch": "batch", **options}
        worst[name] = normalise(cohort, cluster, name, [step], assay=assay).error(plain("batch", name))
    step = {"method": "remove_batch_effect", "batch": "batch", "batch2": "plate", "covariates": ["age"]}
    removed = normalise(cohort, cluster, "removed", [step | {"design": "~ disease"}], assay="y")
    worst["removed_all"] = removed.error(plain("batch", "removed_all"))
    print({name: f"{value:.1e}" for name, value in worst.items()})
    assert max(worst.values()) <= CLOSED


# -- counts ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pasilla(oracles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pasilla")
    cohort = make_cohort(folder / "cohort", 4, 4096)
    sheet = sheet_of(oracles / "data/pasilla_samples.tsv.gz")
    sheet["single"] = (sheet["type"] == "single-read").astype(float)
    sheet["treated"] = (sheet["condition"] == "treated").astype(float)
    counts = read_table(oracles / "data/pasilla_counts.tsv.gz")
    bring(cohort, "counts", oracles / "data/pasilla_counts.tsv.gz", "counts", samples=sheet)
    total = counts.sum(axis=1)
    put(cohort, "ten", counts[total >= 10], "counts")
    put(cohort, "fifty", counts[total >= 50], "counts")
    return cohort


def table(oracles: Path, name: str) -> pd.DataFrame:
    return read_table(oracles / f"counts/pasilla_{name}.tsv.gz")


@pytest.mark.parametrize("prior", ["2", "0.5"])
def test_log_cpm(pasilla: Path, cluster: Any, oracles: Path, prior: str) -> None:
    """R took the factors of all features, then some rows: the layer has all."""
    steps = ["tmm", {"method": "log_cpm", "prior_count": float(prior)}]
    found = normalise(pasilla, cluster, f"cpm{prior[0]}", steps, assay="counts")
    wanted = table(oracles, f"logcpm_pc{prior}")
    assert len(found.values) == 14599 > len(wanted)
    within(found.error(wanted), CLOSED)


def test_voom_and_its_fit(pasilla: Path, cluster: Any, oracles: Path) -> None:
    found = normalise(pasilla, cluster, "voom", VOOM, assay="counts")
    wanted = table(oracles, "voom_E")
    assert list(found.values.index) == list(wanted.index)
    within(found.error(wanted), CLOSED)
    targets, quality = table(oracles, "voom_targets"), found.quality
    effective = quality["library_size"] * quality["norm_factor"]
    for mine, theirs in ((effective, "lib_size"), (quality["norm_factor"], "norm_factor")):
        np.testing.assert_allclose(mine[targets.index], targets[theirs], rtol=CLOSED)
    removal = {"method": "remove_batch_effect", "covariates": [], "batch": "type", "design": "~ condition"}
    chained = normalise(pasilla, cluster, "rid", [*VOOM, removal], assay="counts")
    within(chained.error(table(oracles, "voomE_rmBatch")), CLOSED)
    names = ("Intercept", "single", "treated")
    wanted = table(oracles, "voom_fit")
    for old, new in zip(("(Intercept)", "typesingle_read", "conditiontreated"), names, strict=True):
        wanted.columns = [column.replace(old, new) for column in wanted.columns]
    ran = run(
        pasilla,
        cluster,
        "fit",
        layer="layers/voom",
        design="~ single + treated",
        contrasts=list(names),
        na_contrasts="limma",
    )
    worst = compare(ran, wanted)
    print({kind: f"{value:.1e}" for kind, value in worst.items()})
    assert max(worst.values()) <= 1e-11


def test_factors(pasilla: Path, cluster: Any, oracles: Path) -> None:
    """Factors are columns of the quality table; a layer of counts and factors holds counts per million of them."""
    wanted, sizes = table(oracles, "normfactors"), table(oracles, "deseq2_sf")
    counts = read_table(oracles / "data/pasilla_counts.tsv.gz")
    worst = {}
    for method, theirs in (("tmm", "TMM"), ("tmmwsp", "TMMwsp"), ("rle", "RLE"), ("upper_quartile", "upperquartile")):
        found = normalise(pasilla, cluster, method, [method], assay="counts")
        factor = found.quality["norm_factor"].loc[wanted.index]
        worst[method] = float((factor / wanted[theirs] - 1).abs().max())
        if method == "rle":
            worst["size_factor"] = float((found.quality["size_factor"][sizes.index] / sizes["ratio"] - 1).abs().max())
            scaled = counts / sizes["ratio"]
        else:
            scaled = counts / (wanted["lib_size"] * wanted[theirs]) * 1e6
        worst[f"{method} scaled"] = found.error(scaled)
    found = normalise(pasilla, cluster, "poscounts", [{"method": "rle", "type": "poscounts"}], assay="counts")
    worst["poscounts"] = float((found.quality["size_factor"][sizes.index] / sizes["poscounts"] - 1).abs().max())
    print({name: f"{value:.1e}" for name, value in worst.items()})
    assert max(worst.values()) <= CLOSED


@pytest.mark.parametrize("blind", [True, False])
def test_vst(pasilla: Path, cluster: Any, oracles: Path, blind: bool) -> None:
    """DESeq2 searches dispersions until the likelihood changes by less than 1e-6; the trend through them is near."""
    step = {"method": "vst"} | ({} if blind else {"blind": False, "design": "~ type + condition"})
    found = normalise(pasilla, cluster, f"vst{blind}", [step], assay="ten")
    within(found.error(table(oracles, f"deseq2_vst_blind{str(blind).upper()}")), 1e-8)


def test_counts_of_other_data(cluster: Any, tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort", 5, 256)
    sheet = pd.read_csv(HERE / "counts/samples.tsv.gz", sep="\t", dtype={0: str}, index_col=0)
    put(cohort, "counts", plain("counts", "counts"), "counts", samples=sheet.rename_axis("sample_id"))
    by_group = {"method": "filter_by_expr", "group": "group"}
    worst = {}
    for name, steps in {
        "log_cpm_0.5": ["tmm", {"method": "log_cpm", "prior_count": 0.5}],
        "log_cpm_after_filter": ["tmm", by_group, "log_cpm"],
        "voom": [by_group, "tmm", "voom"],
        "vst_blind": [{"method": "vst", "n_sub": 400}],
        "vst_additive": [{"method": "vst", "n_sub": 400, "blind": False, "design": "~ group + age"}],
    }.items():
        found = normalise(cohort, cluster, name.replace(".", ""), steps, assay="counts")
        worst[name] = found.error(plain("counts", name))
    print({name: f"{value:.1e}" for name, value in worst.items()})
    assert max(value for name, value in worst.items() if "vst" not in name) <= CLOSED
    assert max(worst.values()) <= 1e-8


# -- arrays ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arrays(oracles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrays")
    cohort = make_cohort(folder / "cohort", 8, 512)
    for assay in ("ALL_full", "ALL_ties", "khan_na"):
        put(cohort, assay, numbered(read_table(oracles / f"norm/{assay}_input.tsv.gz")))
    put(cohort, "own", plain("arrays", "ties_na_input"))
    put(cohort, "sim1", read_table(oracles / "normexp/sim1_x.tsv.gz"))
    return cohort


QUANTILE = {"limma_ties": "limma", "limma_noties": "limma_noties", "preprocessCore": "preprocesscore"}


def test_quantile(arrays: Path, cluster: Any, oracles: Path) -> None:
    worst = {}
    for data in ("ALL_full", "ALL_ties", "khan_na", "own"):
        for name, ties in QUANTILE.items():
            found = normalise(arrays, cluster, f"{data}_{name}", [{"method": "quantile", "ties": ties}], assay=data)
            if data == "own":
                wanted = plain("arrays", f"ties_na_{name}").set_axis([f"s{i}" for i in range(1, 7)], axis=1)
            else:
                wanted = numbered(read_table(oracles / f"norm/{data}_{name}.tsv.gz"))
            worst[f"{data} {name}"] = found.error(wanted)
    for data in ("ALL_full", "ALL_ties"):
        wanted = numbered(read_table(oracles / f"norm/{data}_preprocessCore_target15.tsv.gz"))
        step = {"method": "quantile", "ties": "preprocesscore", "target_samples": list(wanted.columns[:5])}
        worst[f"{data} target"] = normalise(arrays, cluster, f"{data}_target", [step], assay=data).error(wanted)
    print({name: f"{value:.1e}" for name, value in worst.items()})
    assert max(worst.values()) <= CLOSED


def test_scale(arrays: Path, cluster: Any, oracles: Path) -> None:
    worst = {}
    for data in ("ALL_full", "ALL_ties"):
        found = normalise(arrays, cluster, f"{data}_scale", ["scale"], assay=data)
        worst[data] = found.error(numbered(read_table(oracles / f"norm/{data}_scale.tsv.gz")))
    found = normalise(arrays, cluster, "own_scale", [{"method": "scale", "absolute": True}], assay="own")
    worst["own"] = found.error(plain("arrays", "ties_na_median_abs"))
    print({name: f"{value:.1e}" for name, value in worst.items()})
    assert max(worst.values()) <= CLOSED


def test_normexp(arrays: Path, cluster: Any, oracles: Path) -> None:
    """Each array by itself; limma's simplex search is done step by step, the likelihood's maximum by another search."""
    for method, limit in (("saddle", 1e-9), ("mle", 1e-7)):
        step = {"method": "normexp", "normexp_method": method, "offset": 15}
        found = normalise(arrays, cluster, f"normexp_{method}", [step], assay="sim1")
        within(found.error(read_table(oracles / f"normexp/sim1_bgcorrect_{method}.tsv.gz")), limit)


# -- surrogate variables ---------------------------------------------------------------------------------------------


def surrogates(cohort: Path, cluster: Any, output: str, **keys: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    keys = {"job": "surrogates", "cohort": str(cohort), "output": output, **keys}
    outcome = run_spec(parse_spec(keys, "spec"), Path(), cluster=cluster, quiet=True)
    result = outcome.cohort.result(outcome.results[0])
    first, second = (result.to_pandas(name) for name in ("table", "features"))
    return first.set_index(first.columns[0]), second.set_index(second.columns[0])


def off(found: pd.DataFrame, wanted: pd.DataFrame) -> float:
    """Largest difference over the SD of the variable, whatever the signs."""
    a, b = found.loc[list(wanted.index)].to_numpy(float), wanted.to_numpy(float)
    return float((np.abs(a - b * np.sign((a * b).sum(axis=0))) / b.std(axis=0, ddof=1)).max())


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("method", ["irw", "two_step"])
def test_surrogates(bladder: Path, cluster: Any, oracles: Path, method: str, n: int) -> None:
    name = f"bladder3000_{method.replace('_', '')}_n{n}"
    found, features = surrogates(bladder, cluster, f"{method}{n}", assay="all", design="~ cancer", n=n, method=method)
    within(off(found, read_table(oracles / f"sva/{name}.tsv.gz")), 1e-11)
    if method == "irw":
        wanted = read_table(oracles / f"sva/{name}_pprob.tsv.gz").to_numpy()
        within(float(np.abs(features.to_numpy(float) - wanted).max()), 1e-10)


def test_surrogates_of_counts(pasilla: Path, cluster: Any, oracles: Path) -> None:
    found, features = surrogates(pasilla, cluster, "sv", assay="fifty", design="~ condition", n=1)
    within(off(found, read_table(oracles / "sva/pasilla_svaseq_n1.tsv.gz")), 1e-11)
    wanted = read_table(oracles / "sva/pasilla_svaseq_n1_pprob.tsv.gz").to_numpy()
    within(float(np.abs(features.to_numpy(float) - wanted).max()), 1e-10)


def test_surrogates_of_other_data(cluster: Any, tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort", 7, 100)
    sheet = plain("sva", "samples").rename_axis("sample_id").astype({"group": str})
    put(cohort, "y", plain("sva", "y"), samples=sheet)
    model: dict[str, Any] = {"assay": "y", "design": "~ group + age", "null": "~ age", "n": 3}
    for name, more in (("irw_B5", {}), ("irw_B1", {"n_iterations": 1}), ("two_step", {"method": "two_step"})):
        found, _ = surrogates(cohort, cluster, name, **model, **more)
        within(off(found, plain("sva", name)), 1e-11)


# -- the command line ------------------------------------------------------------------------------------------------


def sjd(*arguments: object) -> str:
    command = [sys.executable, "-m", "sjd_dask.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


CLI = {
    "combat": ("combat/bladder3000_input", "combat/bladder3000_samples", "expression", "combat/bladder3000_param_mod",
               "[{method: combat, batch: batch, covariates: '~ cancer'}]"),
    "counts": ("data/pasilla_counts", "data/pasilla_samples", "counts", "counts/pasilla_logcpm_pc2", "[tmm, log_cpm]"),
}  # fmt: skip


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    sjd("init", folder / "cohort")
    return folder


@pytest.mark.parametrize("name", CLI)
def test_from_text_to_text(empty: Path, oracles: Path, name: str) -> None:
    """Real processes: ingest R's text file, run, export the layer as text."""
    matrix, sheet, quantity, wanted, steps = CLI[name]
    cohort, spec, text, samples = (
        empty / one for one in ("cohort", f"{name}.yaml", f"{name}.tsv", f"{name}_sheet.tsv")
    )
    # The column of ids is called sample in R's tables.
    sheet_of(oracles / f"{sheet}.tsv.gz").to_csv(samples, sep="\t")
    sjd("ingest", cohort, name, oracles / f"{matrix}.tsv.gz", "--quantity", quantity, "--samples", samples, "-q")
    spec.write_text(
        f"job: normalise\ncohort: cohort\nassay: {name}\nsteps: {steps}\noutput: {name}\n", encoding="utf-8"
    )
    assert sjd("run", spec, "--workers", "1", "-q").split() == [f"layers/{name}@1", f"qc/{name}@1"]
    sjd("export", cohort, f"layers/{name}", text)
    found = pd.read_csv(text, sep="\t", dtype={0: str}, index_col=0)
    right = read_table(oracles / f"{wanted}.tsv.gz")
    within(error_of(found.loc[list(right.index), list(right.columns)], right), CLOSED)
