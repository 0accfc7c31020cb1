"""Cell fractions don't depend on the batch, and surrogate variables not on how features are cut."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.errors import DataError, DesignError, SpecError
from sjd_dask.normalise.cells import deconvolve
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.normalise.surrogates import num_sv, surrogate_variables


def blood(n=24, m=90, k=6, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        rng.beta(0.4, 0.4, (m, k)), index=[f"cg{i}" for i in range(m)], columns=[f"cell{i}" for i in range(k)]
    )
    values = np.clip(rng.dirichlet(np.ones(k), n) @ table.to_numpy().T + rng.normal(0, 0.05, (n, m)), 0, 1)
    values[rng.random(values.shape) < 0.02] = np.nan
    return values, table.index.to_numpy(), table


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(["constrained", "robust"]), st.sampled_from(["free", "at_most_one", "one"]))
def test_a_sample_alone_as_in_any_batch(data, method, total):
    values, ids, table = blood(seed=data.draw(st.integers(0, 1000)))
    whole = deconvolve(values, ids, table, method, total=total)
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=len(values), unique=True))
    part = deconvolve(values[rows], ids, table, method, total=total)
    assert np.abs(part.to_numpy(dtype=float) - whole.to_numpy(dtype=float)[rows]).max() <= 1e-12
    # The order of features on either side doesn't matter, nor do features that the table lacks.
    order = np.array(data.draw(st.permutations(range(len(ids)))))
    mixed = np.column_stack((values[:, order], np.full(len(values), 0.5)))
    again = deconvolve(mixed, [*ids[order], "other"], table.sample(frac=1, random_state=1), method, total=total)
    # Sums over features in another order: rounding only, but the robust iteration may end one step apart.
    assert np.abs(again.to_numpy(dtype=float) - whole.to_numpy(dtype=float)).max() <= 1e-11


def test_refusals_name_what_is_wrong():
    values, ids, table = blood()
    with pytest.raises(DataError, match=r"10 of the 90 features .* 6 cell types need at least 18"):
        deconvolve(values[:, :10], ids[:10], table)
    few = values.copy()
    few[3, 15:] = np.nan
    with pytest.raises(DataError, match=r"1 samples have too few .* '3' \(1[0-5]\)"):
        deconvolve(few, ids, table)
    with pytest.raises(DataError, match="more than once"):
        deconvolve(values, ids, pd.concat([table, table.iloc[:1]]))
    with pytest.raises(DataError, match="no number for 'cell2' at 1 features, the first 'cg4'"):
        deconvolve(values, ids, table.where(table != table.iloc[4, 2]))
    with pytest.raises(DataError, match="told apart"):
        deconvolve(values, ids, table.assign(again=table["cell0"]))
    with pytest.raises(DataError, match="M-values"):
        deconvolve(np.log2(values + 0.01) - np.log2(1.01 - values), ids, table)
    with pytest.raises(SpecError, match="'residual'"):
        deconvolve(values, ids, table.rename(columns={"cell0": "residual"}))
    with pytest.raises(SpecError, match="unknown method 'ols'"):
        deconvolve(values, ids, table, "ols")
    with pytest.raises(SpecError, match="unknown rule"):
        deconvolve(values, ids, table, total="two")


def cohort(n=30, m=400, seed=1):
    rng = np.random.default_rng(seed)
    group = np.repeat([0.0, 1.0], n // 2)
    hidden = rng.normal(size=(n, 2))
    loads = rng.normal(size=(2, m)) * (rng.random((2, m)) < 0.5)
    y = rng.normal(size=(n, m)) + hidden @ loads + np.outer(group, rng.normal(size=m) * (rng.random(m) < 0.2)) + 8
    return y, np.column_stack((np.ones(n), group)), hidden


def reference(y, **options):
    n, m = y.shape
    return MemoryReference(y, [f"s{i}" for i in range(n)], [f"f{i}" for i in range(m)], **options)


@pytest.mark.parametrize("method", ["irw", "two_step"])
def test_surrogates_do_not_depend_on_stripes(method):
    y, design, hidden = cohort()
    y[3, 7] = np.nan
    y[:, 9] = 2.0
    runs = [surrogate_variables(reference(y, stripe=s), design, design[:, :1], 2, method) for s in (7, 64, 1000)]
    for one in runs[1:]:
        assert np.abs(one.vectors - runs[0].vectors).to_numpy().max() <= 1e-11
        assert np.nanmax(np.abs(one.probabilities["p_surrogate"] - runs[0].probabilities["p_surrogate"])) <= 1e-10
    assert (runs[0].n_features, runs[0].n_missing, runs[0].n_constant) == (398, 1, 1)
    assert runs[0].probabilities["p_surrogate"].isna().to_numpy().nonzero()[0].tolist() == [7, 9]
    # They span what was planted.
    q = np.linalg.qr(np.column_stack((design, runs[0].vectors)))[0]
    left = hidden - q @ (q.T @ hidden)
    assert (left**2).sum() < 0.15 * ((hidden - hidden.mean(axis=0)) ** 2).sum()
    for column in runs[0].vectors:
        assert runs[0].vectors[column].abs().max() == runs[0].vectors[column].max()


@pytest.mark.parametrize("method", ["leek", "be"])
def test_number_does_not_depend_on_stripes(method, monkeypatch):
    y, design, _ = cohort()
    y[3, 7] = np.nan
    found = [num_sv(reference(y, stripe=s), design, method, seed=4) for s in (11, 64, 1000)]
    assert found == [2, 2, 2]
    # In several passes, as with many samples.
    monkeypatch.setattr("sjd_dask.kernels.surrogates.rounds_at_once", lambda n: 3)
    assert num_sv(reference(y, stripe=50), design, method, seed=4) == 2


def test_features_left_out_are_as_if_not_there():
    y, design, _ = cohort()
    holes = y.copy()
    holes[2, ::10] = np.nan
    kept = np.ones(y.shape[1], dtype=bool)
    kept[::10] = False
    with_holes = surrogate_variables(reference(holes), design, design[:, :1], 2)
    without = surrogate_variables(reference(y[:, kept]), design, design[:, :1], 2)
    assert np.abs(with_holes.vectors - without.vectors).to_numpy().max() <= 1e-12


def test_surrogate_refusals():
    y, design, _ = cohort()
    ones = design[:, :1]
    with pytest.raises(DataError, match=r"0 of 400 features .* 400 have missing values"):
        surrogate_variables(reference(np.where(np.arange(30)[:, None] == 3, np.nan, y)), design, ones, 2)
    with pytest.raises(DesignError, match="no residual degrees of freedom"):
        surrogate_variables(reference(y), design, ones, 28)
    with pytest.raises(DesignError, match="intercept"):
        surrogate_variables(reference(y), design, design[:, 1:], 2)
    with pytest.raises(DesignError, match="5 rows and there are 30 samples"):
        num_sv(reference(y), design[:5])
    with pytest.raises(DataError, match="'f6' has negative counts"):
        surrogate_variables(
            reference(np.where(np.arange(400) == 6, -1.0, np.round(y + 9)), scale="counts"), design, ones, 1
        )
    with pytest.raises(SpecError, match="unknown method"):
        num_sv(reference(y), design, "kaiser")
    with pytest.raises(SpecError, match="unknown method"):
        surrogate_variables(reference(y), design, ones, 1, "supervised")
    none = surrogate_variables(reference(y), design, ones, 0)
    assert none.vectors.shape == (30, 0)


def test_two_step_says_which_axes_it_drops():
    y, design, _ = cohort()
    found = surrogate_variables(reference(y), design, design[:, :1], 6, "two_step")
    assert found.vectors.shape[1] < 6
    assert f"{found.vectors.shape[1]} of 6" in found.notes[0]
