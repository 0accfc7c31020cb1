"""Background correction against limma's normexp, nec, and the published noob."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.kernels.normexp import (
    NormexpParameters,
    control_parameters,
    huber,
    noob_parameters,
    normexp_fit,
    normexp_signal,
)
from sjd_dask.normalise.arrays import Normexp
from sjd_dask.normalise.reference import MemoryReference

REFERENCE = Path(__file__).parent / "reference" / "arrays"


@pytest.fixture(scope="module")
def folder(reference_data):
    return reference_data / "oracles" / "normexp"


def arrays(folder, name):
    return pd.read_csv(folder / f"sim1_{name}.tsv.gz", sep="\t", index_col=0).to_numpy(float).T.copy()


def parameters(folder, method):
    frame = pd.read_csv(folder / "sim1_par.tsv.gz", sep="\t").set_index("method").loc[method]
    return [NormexpParameters(*row) for row in frame[["mu", "log_sigma", "log_alpha", "m2loglik"]].to_numpy(float)]


def relative(found, wanted):
    return float(np.max(np.abs(np.asarray(found) - wanted) / np.abs(wanted)))


def as_array(one):
    return np.array([one.mu, one.log_sigma, one.log_alpha])


# The simplex search is limma's, step by step; the likelihood's maximum is found by another search.
@pytest.mark.parametrize(("method", "tolerance"), [("saddle", 1e-9), ("mle", 1e-6)])
def test_fit(folder, method, tolerance):
    for x, wanted in zip(arrays(folder, "x"), parameters(folder, method), strict=True):
        found = normexp_fit(x, method)
        assert relative(as_array(found), as_array(wanted)) <= tolerance
        assert relative(found.m2loglik, wanted.m2loglik) <= 1e-12


def test_signal(folder):
    x, wanted = arrays(folder, "x"), arrays(folder, "bgcorrect_saddle")
    for row, par, right in zip(x, parameters(folder, "saddle"), wanted, strict=True):
        assert relative(normexp_signal(row, par) + 15, right) <= 1e-12


@pytest.mark.parametrize(("method", "tolerance"), [("saddle", 1e-9), ("mle", 1e-7)])
def test_method_corrects_as_background_correct(folder, method, tolerance):
    x = arrays(folder, "x")
    reference = MemoryReference(x, ["a", "b", "c", "d"], [f"p{i}" for i in range(x.shape[1])])
    done = Normexp(normexp_method=method, offset=15.0).apply(reference.block(), {})
    assert relative(done.values, arrays(folder, f"bgcorrect_{method}")) <= tolerance


def test_noob_and_controls(folder):
    x, oob = arrays(folder, "x"), arrays(folder, "oob")
    noob, nec = arrays(folder, "noob_like"), arrays(folder, "nec")
    for i, wanted in enumerate(parameters(folder, "huber_oob")):
        found = noob_parameters(x[i], oob[i])
        assert relative(as_array(found), as_array(wanted)) <= 1e-12
        assert relative(normexp_signal(x[i], found) + 15, noob[i]) <= 1e-12
        # nec's own offset is 16.
        assert relative(normexp_signal(x[i], control_parameters(x[i], oob[i])) + 16, nec[i]) <= 1e-12


def test_hard_arrays():
    for number, part in pd.read_csv(REFERENCE / "normexp.tsv.gz", sep="\t").groupby("array"):
        x, wanted = part["x"].to_numpy(float), part.iloc[0]
        found = normexp_fit(x)
        assert relative(as_array(found), wanted[["mu", "log_sigma", "log_alpha"]].to_numpy(float)) <= 1e-9
        assert relative(found.m2loglik, wanted["m2loglik"]) <= 1e-11
        # limma's formula cancels far below the background; the last digits of its smallest values are lost.
        assert relative(normexp_signal(x, found), part["signal"].to_numpy(float)) <= 1e-6
        exact = normexp_fit(x, "mle")
        assert exact.m2loglik <= wanted["mle_m2loglik"] + 1e-4
        if number == 2:
            right = wanted[["mle_mu", "mle_log_sigma", "mle_log_alpha"]].to_numpy(float)
            assert relative(as_array(exact), right) <= 1e-6


def test_huber():
    x = pd.read_csv(REFERENCE / "normexp.tsv.gz", sep="\t").query("array == 2")["x"].to_numpy(float)
    assert huber(x) == pytest.approx(pd.read_csv(REFERENCE / "huber.tsv.gz", sep="\t").to_numpy(float).ravel(), 1e-13)
