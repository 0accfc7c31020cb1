"""Surrogate variables against sva 3.46: a simulated table kept here, and public expression and counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.kernels.lfdr import local_fdr
from sjd_dask.kernels.surrogates import beyond, f_p_value, orthonormal
from sjd_dask.normalise.formula import design_matrix
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.normalise.surrogates import num_sv, surrogate_variables

REFERENCE = Path(__file__).parent / "reference" / "sva"


def table(name, folder=REFERENCE, text=False):
    frame = pd.read_csv(folder / f"{name}.tsv.gz", sep="\t", index_col=0, dtype=str, keep_default_na=False)
    return frame if text else frame.astype(float)


def off(found, wanted):
    """Largest difference, whatever the signs."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    return np.abs(found - wanted * np.sign((found * wanted).sum(axis=0))).max()


def simulated(stripe=130, scale="expression"):
    y, samples = table("y"), table("samples")
    samples["group"] = samples["group"].astype(int).astype(str)
    values = y.T.to_numpy() if scale == "expression" else np.round(np.exp(y.T.to_numpy() / 3))
    reference = MemoryReference(values, y.columns, y.index, samples, scale=scale, stripe=stripe)
    return reference, design_matrix("~ group + age", samples)[0], design_matrix("~ age", samples)[0]


@pytest.mark.parametrize("kind", ["even", "mixed", "strong", "ties", "rising"])
def test_local_fdr(kind):
    assert np.abs(local_fdr(table("p")[kind]) - table("lfdr")[kind]).max() <= 1e-10


@pytest.mark.parametrize("n_iterations", [1, 5])
def test_reweighted_on_simulated(n_iterations):
    found = surrogate_variables(*simulated(), 3, n_iterations=n_iterations)
    assert off(found.vectors, table(f"irw_B{n_iterations}")) <= 1e-9
    assert np.abs(found.probabilities - table(f"irw_B{n_iterations}_pprob")).to_numpy().max() <= 1e-9


def test_two_step_on_simulated():
    found = surrogate_variables(*simulated(), 3, "two_step")
    assert off(found.vectors, table("two_step")) <= 1e-10
    assert (found.probabilities["p_surrogate"].to_numpy() == table("two_step_used")["used"].to_numpy()).all()


def test_counts_on_simulated():
    found = surrogate_variables(*simulated(scale="counts"), 2)
    assert off(found.vectors, table("svaseq")) <= 1e-9


def test_number_on_simulated():
    reference, design, _ = simulated()
    assert num_sv(reference, design, "leek") == num_sv(reference, design, "be", seed=1) == 3


def bladder(reference_data):
    folder = reference_data / "oracles" / "combat"
    x, samples = table("bladder3000_input", folder), table("bladder3000_samples", folder, text=True)
    reference = MemoryReference(x.T.to_numpy(), x.columns, x.index, samples, stripe=700)
    return reference, design_matrix("~ cancer", samples)[0], np.ones((len(samples), 1))


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("method", ["irw", "two_step"])
def test_bladder(reference_data, method, n):
    reference, design, null = bladder(reference_data)
    found = surrogate_variables(reference, design, null, n, method)
    folder = reference_data / "oracles" / "sva"
    name = f"bladder3000_{method.replace('_', '')}_n{n}"
    assert off(found.vectors, table(name, folder)) <= 1e-10
    if method == "irw":
        assert np.abs(found.probabilities.to_numpy() - table(f"{name}_pprob", folder).to_numpy()).max() <= 1e-10
        given = orthonormal(np.column_stack((null, found.vectors)))
        p = f_p_value(reference.values, given, beyond(given, design[:, 1:]))
        # sva takes one minus the distribution function, so its own p-values are good to 1e-16 absolute.
        assert np.abs(p - table(f"{name}_fpvalue", folder)["p"].to_numpy()).max() <= 1e-11


def test_bladder_number(reference_data):
    reference, design, _ = bladder(reference_data)
    wanted = json.loads((reference_data / "oracles/sva/bladder3000_numsv.json").read_text())
    assert num_sv(reference, design, "leek") == wanted["leek"]
    assert [num_sv(reference, design, "be", seed=seed) for seed in range(3)] == wanted["be_seed1to5"][:3]


def test_pasilla_counts(reference_data):
    counts = table("pasilla_counts", reference_data / "oracles" / "data")
    counts = counts[counts.sum(axis=1) >= 50]
    samples = table("pasilla_samples", reference_data / "oracles" / "data", text=True)
    reference = MemoryReference(counts.T.to_numpy(), counts.columns, counts.index, samples, scale="counts")
    found = surrogate_variables(reference, design_matrix("~ condition", samples)[0], np.ones((7, 1)), 1)
    folder = reference_data / "oracles" / "sva"
    assert off(found.vectors, table("pasilla_svaseq_n1", folder)) <= 1e-10
    wanted = table("pasilla_svaseq_n1_pprob", folder).to_numpy()
    assert np.abs(found.probabilities.to_numpy() - wanted).max() <= 1e-9
