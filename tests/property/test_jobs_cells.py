"""Jobs that make sample columns: the same numbers as in memory, in any layout, and columns that follow the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jobs_helpers import bring, make_cohort, write_npz

from sjd_dask.errors import DataError, DesignError, SpecError
from sjd_dask.jobs import deconvolve, driver, surrogates
from sjd_dask.jobs.cells_spec import DeconvolveSpec, SurrogatesSpec
from sjd_dask.normalise.cells import deconvolve as in_memory
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.normalise.surrogates import num_sv, surrogate_variables
from sjd_dask.store.cohort import open_cohort

N, P = 60, 500
IDS = [f"S{i:02d}" for i in range(N)]
FEATURES = [f"cg{i:03d}" for i in range(P)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Betas of mixed cells with a batch that no column names, in two cohorts of different layout."""
    folder = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(3)
    table = pd.DataFrame(rng.beta(0.4, 0.4, (80, 5)), index=FEATURES[100:180], columns=list("ABCDE"))
    group, hidden = np.repeat(["a", "b"], N // 2), rng.normal(size=N)
    logits = rng.normal(size=P) + np.outer(hidden, rng.normal(0, 0.4, P)) + rng.normal(0, 0.3, (N, P))
    values = 1 / (1 + np.exp(-logits - np.outer(group == "b", rng.normal(0, 0.3, P) * (rng.random(P) < 0.1))))
    mix = rng.dirichlet(np.ones(5), N) @ table.to_numpy().T + rng.normal(0, 0.03, (N, 80))
    values[:, 100:180] = np.clip(mix, 0, 1)
    values[4, 120] = values[9, 300] = np.nan
    sheet = pd.DataFrame({"group": group}, index=pd.Index(IDS, name="sample_id"))
    matrix = write_npz(folder / "beta.npz", values, IDS, FEATURES)
    for name, layout in (("one", (64, 512)), ("two", (7, 64))):
        bring(make_cohort(folder / name, *layout), "meth", matrix, "beta", dtype="float64")
        open_cohort(folder / name).add_samples(sheet)
    table.rename_axis("probe").to_csv(folder / "table.tsv", sep="\t")
    table.rename_axis("probe").reset_index().to_parquet(folder / "table.parquet")
    (table[["A", "B"]] / 2).rename_axis("probe").to_csv(folder / "other.csv.gz")
    return folder, values, table, sheet


def run(module, spec, base, cluster):
    return driver._run(module.prepare(spec, base), cluster, None, True)


@pytest.mark.parametrize("method", ["constrained", "robust"])
@pytest.mark.parametrize("name", ["one", "two"])
def test_fractions_are_those_in_memory(scene, cluster, name, method):
    folder, values, table, _ = scene
    spec = DeconvolveSpec(
        cohort=name, output=method, assay="meth", reference="table.tsv", method=method, prefix=f"{method}_"
    )
    done = run(deconvolve, spec, folder, cluster)
    found = done.cohort.result(done.results[0]).to_pandas().set_index("sample_id").loc[IDS]
    wanted = in_memory(values, FEATURES, table, method, sample_ids=IDS)
    assert np.abs(found.astype(float) - wanted.astype(float)).to_numpy().max() <= 1e-12
    columns = done.cohort.samples().loc[IDS, [f"{method}_{cell}" for cell in table]]
    assert np.array_equal(columns.to_numpy(), found[list(table)].to_numpy())
    assert run(deconvolve, spec, folder, cluster).state == "unchanged"


def test_columns_follow_the_result(scene, cluster):
    folder, _, table, _ = scene
    spec = DeconvolveSpec(cohort="one", output="blood", assay="meth", reference="table.parquet")
    run(deconvolve, spec, folder, cluster)
    other = spec.model_copy(update={"reference": "other.csv.gz", "samples": "group == 'a'", "min_features": 20})
    done = run(deconvolve, other, folder, cluster)
    sheet = done.cohort.samples().loc[IDS]
    made = [f"cell_{cell}" for cell in table]
    assert sheet.loc[IDS[: N // 2], ["cell_A", "cell_B"]].notna().all().all()
    assert sheet.loc[IDS[: N // 2], made[2:]].isna().all().all()
    assert sheet.loc[IDS[N // 2 :], made].isna().all().all()
    assert (sheet["group"] == np.repeat(["a", "b"], N // 2)).all()
    with pytest.raises(SpecError, match="'group'"):
        deconvolve.prepare(spec.model_copy(update={"prefix": "gro", "reference": "bad.csv"}), _bad_table(folder))


def _bad_table(folder: Path) -> Path:
    table = pd.read_csv(folder / "table.tsv", sep="\t", index_col=0)
    table.rename(columns={"A": "up"}).to_csv(folder / "bad.csv")
    return folder


def test_refusals_of_tables(scene, cluster):
    folder, *_ = scene
    spec = DeconvolveSpec(cohort="one", output="x", assay="meth", reference="nothing.tsv")
    with pytest.raises(SpecError, match="is not a file"):
        deconvolve.prepare(spec, folder)
    with pytest.raises(SpecError, match="ends in"):
        deconvolve.prepare(spec.model_copy(update={"reference": "beta.npz"}), folder)
    pd.DataFrame({"id": ["rs1", "rs2"], "A": [0.1, 0.2], "B": [0.3, 0.1]}).to_csv(folder / "few.csv", index=False)
    with pytest.raises(DataError, match="0 of the 2 features"):
        deconvolve.prepare(spec.model_copy(update={"reference": "few.csv"}), folder)


@pytest.mark.parametrize("name", ["one", "two"])
def test_surrogates_are_those_in_memory(scene, cluster, name):
    folder, values, _, sheet = scene
    spec = SurrogatesSpec(cohort=name, output="hidden", assay="meth", quantity="m_value", design="~ group", n=2)
    done = run(surrogates, spec, folder, cluster)
    result = done.cohort.result(done.results[0])
    stored = done.cohort.assay("meth").reader(IDS)
    design = np.column_stack((np.ones(N), (sheet["group"] == "b").to_numpy(float)))
    from sjd_dask.kernels.methylation import beta_to_m

    assert stored.n_samples == N
    reference = MemoryReference(beta_to_m(values), IDS, FEATURES, sheet)
    wanted = surrogate_variables(reference, design, design[:, :1], 2)
    found = result.to_pandas().set_index("sample_id").loc[IDS]
    assert np.abs(found - wanted.vectors).to_numpy().max() <= 1e-9
    columns = done.cohort.samples().loc[IDS, ["hidden_1", "hidden_2"]]
    assert np.array_equal(columns.to_numpy(), found.to_numpy())
    assert result.meta["features"]["dropped"] == [{"reason": "a missing value", "count": 2}]
    assert result.to_pandas("features")["p_surrogate"].isna().sum() == 2
    # Fewer of them: the second column is emptied.
    fewer = run(surrogates, spec.model_copy(update={"n": 1, "method": "two_step"}), folder, cluster)
    assert fewer.cohort.samples()["hidden_2"].isna().all()


@pytest.mark.parametrize("rule", ["leek", "be"])
def test_their_number_is_that_in_memory(scene, cluster, rule):
    folder, values, _, sheet = scene
    spec = SurrogatesSpec(cohort="two", output=f"by_{rule}", assay="meth", design="~ group", n=rule, rounds=5)
    done = run(surrogates, spec, folder, cluster)
    design = np.column_stack((np.ones(N), (sheet["group"] == "b").to_numpy(float)))
    wanted = num_sv(MemoryReference(values, IDS, FEATURES), design, rule, rounds=5)
    assert done.cohort.result(done.results[0]).meta["n_wanted"] == wanted


def test_refusals_of_designs(scene):
    folder, *_ = scene
    spec = SurrogatesSpec(cohort="one", output="x", assay="meth", design="~ group", n=2)
    with pytest.raises(DesignError, match="the same"):
        surrogates.prepare(spec.model_copy(update={"null": "~ group"}), folder)
    with pytest.raises(SpecError, match="only beta or m_value"):
        surrogates.prepare(spec.model_copy(update={"quantity": "counts"}), folder)
