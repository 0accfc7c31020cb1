"""ComBat against sva, removeBatchEffect against limma."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.kernels.batch import ADJUSTED, CONSTANT_IN_BATCH
from sjd_dask.normalise.batch import Combat
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.normalise.removal import RemoveBatchEffect

REFERENCE = Path(__file__).parent / "reference" / "batch"
MOD = {"covariates": "~ disease + age"}
MEAN = {"mean_only": True}
REF = {"reference_batch": "c"}
FREE = {"prior": "nonparametric"}
BLADDER = {"covariates": "~ cancer"}


def table(name):
    return pd.read_csv(REFERENCE / f"{name}.tsv.gz", sep="\t")


def reference(values, samples, stripe=17):
    return MemoryReference(values.to_numpy(float).T, values.columns, values.index, samples, stripe=stripe)


def distance(found, wanted):
    """Largest difference, in units of the value or of the feature's standard deviation, whichever is larger."""
    wanted = wanted.to_numpy(float)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    here = ~np.isnan(wanted).all(axis=1)
    found, wanted = found[here], wanted[here]
    spread = np.nanstd(wanted, axis=1, ddof=1)[:, None]
    return np.nanmax(np.abs(found - wanted) / np.maximum(np.abs(wanted), spread))


def run(method, values, samples, stripe=17):
    ref = reference(values, samples, stripe)
    parameters = method.fit(ref)
    return method.apply(ref.block(), parameters).values.T, parameters


@pytest.mark.parametrize(
    ("name", "data", "options"),
    [
        ("plain", "y", {}),
        ("covariates", "y", MOD),
        ("mean_only", "y", MOD | MEAN),
        ("reference", "y", MOD | REF),
        ("reference_mean_only", "y", MOD | REF | MEAN),
        ("nonparametric", "y", FREE),
        ("nonparametric_mean_only", "y", MOD | FREE | MEAN),
        ("nonparametric_reference", "y", MOD | FREE | REF),
        ("missing", "y_missing", MOD),
        ("missing_reference", "y_missing", MOD | REF),
        ("missing_mean_only", "y_missing", MOD | MEAN),
        ("missing_nonparametric", "y_missing", MOD | FREE),
        ("flat", "y_flat", MOD),
        ("flat_missing", "y_flat_missing", MOD),
        ("one_sample", "y", MOD | MEAN | {"batch": "one"}),
    ],
)
def test_combat(name, data, options):
    values, samples = table(data), table("samples").set_index("sample")
    found, parameters = run(Combat(**{"batch": "batch", **options}), values, samples)
    assert distance(found, table(name)) < 1e-11
    status = parameters["feature_status"]
    flat = {"flat": [2, 9, 10], "flat_missing": [9, 10]}.get(name, [])
    assert np.flatnonzero(status != ADJUSTED).tolist() == flat
    assert (status[flat] == CONSTANT_IN_BATCH).all()
    assert np.array_equal(found[flat], values.to_numpy(float)[flat], equal_nan=True)
    if "reference_batch" in options:
        same = (samples["batch"] == "c").to_numpy()
        assert np.array_equal(found[:, same], values.to_numpy(float)[:, same], equal_nan=True)


@pytest.mark.parametrize(
    ("name", "data", "options"),
    [
        ("removed_batch", "y", {"batch": "batch"}),
        ("removed_age", "y", {"covariates": ["age"], "design": "~ disease"}),
        ("removed_all", "y", {"batch": "batch", "batch2": "plate", "covariates": ["age"], "design": "~ disease"}),
        ("removed_gone", "y_gone", {"batch": "batch", "batch2": "plate", "covariates": ["age"], "design": "~ disease"}),
    ],
)
def test_removal(name, data, options):
    found, _ = run(RemoveBatchEffect(**options), table(data), table("samples").set_index("sample"))
    assert distance(found, table(name)) < 1e-11


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bladder3000_param", {}),
        ("bladder3000_param_mod", BLADDER),
        ("bladder3000_meanonly_mod", BLADDER | MEAN),
        ("bladder3000_ref2_mod", BLADDER | {"reference_batch": "2"}),
        ("bladder1000_nonparam_mod", BLADDER | FREE),
        ("bladder3000_na_param_mod", BLADDER),
    ],
)
def test_bladder(reference_data, name, options):
    folder = reference_data / "oracles" / "combat"
    wanted = pd.read_csv(folder / f"{name}.tsv.gz", sep="\t", index_col=0)
    values = pd.read_csv(folder / "bladder3000_input.tsv.gz", sep="\t", index_col=0).iloc[: len(wanted)]
    samples = pd.read_csv(folder / "bladder3000_samples.tsv.gz", sep="\t", index_col=0)
    values = values.mask(wanted.isna())  # the call's own missing cells stay missing
    found, _ = run(Combat(batch="batch", **options), values, samples, 700)
    assert distance(found, wanted) < 1e-12


def test_leukaemia(reference_data):
    folder = reference_data / "oracles"
    wanted = pd.read_csv(folder / "norm/rbe_ALL3000.tsv.gz", sep="\t", index_col=0)
    samples = pd.read_csv(folder / "norm/rbe_samples.tsv.gz", sep="\t", dtype={"sample": str}).set_index("sample")
    values = pd.read_csv(folder / "data/ALL_expr.tsv.gz", sep="\t", index_col=0, nrows=3000)[wanted.columns]
    method = RemoveBatchEffect(batch="batch", batch2="batch2", covariates=["age"], design="~ lineage")
    assert distance(run(method, values, samples, 700)[0], wanted) < 1e-12


def test_pasilla(reference_data):
    folder = reference_data / "oracles"
    wanted = pd.read_csv(folder / "counts/pasilla_voomE_rmBatch.tsv.gz", sep="\t", index_col=0)
    values = pd.read_csv(folder / "counts/pasilla_voom_E.tsv.gz", sep="\t", index_col=0)
    samples = pd.read_csv(folder / "data/pasilla_samples.tsv.gz", sep="\t", index_col=0)
    method = RemoveBatchEffect(batch="type", design="~ condition")
    assert distance(run(method, values, samples, 700)[0], wanted) < 1e-12
