"""Cell fractions against quadprog and MASS: simulated tables kept here, and public blood methylation if present."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.normalise.cells import deconvolve

REFERENCE = Path(__file__).parent / "reference" / "cells"
TOTALS = ["free", "at_most_one", "one"]


def table(name):
    return pd.read_csv(REFERENCE / f"{name}.tsv.gz", sep="\t", index_col=0, dtype={"id": str}).astype(float)


def fractions(found, cells):
    return found[list(cells)].to_numpy()


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("k", [2, 6, 12])
def test_constrained_on_simulated(k, total):
    profiles, values = table(f"simulated{k}_profiles"), table(f"simulated{k}_values")
    found = deconvolve(values.T.to_numpy(), values.index, profiles, total=total)
    wanted = table(f"simulated{k}_{total}").to_numpy()
    assert np.abs(fractions(found, profiles) - wanted).max() <= 1e-11


@pytest.mark.parametrize("k", [2, 6, 12])
def test_robust_on_simulated(k):
    profiles, values = table(f"simulated{k}_profiles"), table(f"simulated{k}_values")
    found = deconvolve(values.T.to_numpy(), values.index, profiles, "robust")
    wanted = table(f"simulated{k}_robust")
    assert np.abs(fractions(found, profiles) - wanted.drop(columns="converged").to_numpy()).max() <= 1e-11
    assert (found["converged"].to_numpy() == (wanted["converged"] == 1).to_numpy()).all()


def blood(reference_data, name):
    folder = reference_data / "data" / "cell_reference_methylation"
    values = pd.read_csv(folder / "EpiDISH_LiuDataSub.m.csv", index_col=0)
    return values, pd.read_csv(folder / f"EpiDISH_{name}.m.csv", index_col=0)


@pytest.mark.parametrize("name", ["centDHSbloodDMC", "centBloodSub"])
@pytest.mark.parametrize("how", [*TOTALS, "robust"])
def test_blood(reference_data, name, how):
    values, profiles = blood(reference_data, name)
    options = {"method": "robust"} if how == "robust" else {"total": how}
    found = deconvolve(values.T.to_numpy(), values.index, profiles, sample_ids=values.columns, **options)
    wanted = table(f"liu_{name}_{how}").drop(columns="converged", errors="ignore")
    assert found["converged"].all()
    assert np.abs(fractions(found, profiles) - wanted.to_numpy()).max() <= 1e-11


def test_blood_fractions_are_those_published_with_the_samples(reference_data):
    """Fractions made by others, from all 450,000 probes of the same people and another reference."""
    values, profiles = blood(reference_data, "centDHSbloodDMC")
    people = pd.read_csv(reference_data / "data/ra_meth_GSE42861_500cpg/phenotype.csv", index_col=0)
    found = deconvolve(values.T.to_numpy(), values.index, profiles, "robust", sample_ids=values.columns)
    both = found.join(people, how="inner")
    assert len(both) >= 20
    pairs = {"Neutro": "cell_Nue", "B": "cell_Bcells", "CD8T": "cell_CD8.", "CD4T": "cell_CD4.", "NK": "cell_NK"}
    for ours, theirs in pairs.items():
        assert both[ours].corr(both[theirs]) > 0.75, ours
