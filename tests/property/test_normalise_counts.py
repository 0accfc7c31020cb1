"""Steps on counts: a sample's values don't depend on its company, nor parameters on how the reference set is cut."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.normalise.counts import FilterByExpr, LibrarySize, LogCpm, Voom
from sjd_dask.normalise.counts_factors import Rle, Tmm, Tmmwsp, UpperQuartile
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.normalise.vst import Vst

N, P, N_REFERENCE = 40, 260, 30


def counts(fractions=False):
    draw = np.random.default_rng(5)
    mean = np.exp(draw.normal(3, 2, P))
    depth = np.exp(draw.normal(0, 0.6, N))
    mu = depth[:, None] * mean
    size = 1 / (0.1 + 4 / mean)
    y = draw.negative_binomial(size, size / (size + mu)).astype(float)
    y[:, :5] = 0
    # Features that only later samples have.
    y[N_REFERENCE:, :3] = 7
    # Equal features: ties in every order there is.
    y[:, 100:110] = y[:, 90:100]
    return y + 0.37 * (y > 3) if fractions else y


CHAINS = {
    "library_size": [LibrarySize()],
    "filter_by_expr": [FilterByExpr(group="group")],
    "filter_keeps_sizes": [Tmm(), FilterByExpr(design="~ group + age", keep_lib_sizes=True), LogCpm()],
    "tmm": [Tmm()],
    "tmm_ends": [Tmm(logratio_trim=0.0, sum_trim=0.49, weighting=False)],
    "tmmwsp": [Tmmwsp()],
    "rle": [Rle()],
    "poscounts": [Rle(type="poscounts")],
    "upper_quartile": [UpperQuartile()],
    "log_cpm": [Tmm(), LogCpm()],
    "log_cpm_alone": [LogCpm(prior_count=0.5)],
    "voom": [FilterByExpr(), Tmm(), Voom()],
    "vst": [Vst(n_sub=80)],
    "vst_design": [Rle(type="poscounts"), Vst(n_sub=80, blind=False, design="~ group + age")],
    "vst_mean": [Vst(n_sub=0, fit_type="mean")],
}


def everyone(values, **cut):
    ids = [f"{i:03d}" for i in range(N)]
    samples = pd.DataFrame({"group": ["a", "b"] * (N // 2), "age": np.linspace(20, 80, N) % 31}, index=ids)
    return MemoryReference(values, ids, [f"g{i}" for i in range(P)], samples, scale="counts", **cut)


def reference(values, **cut):
    whole = everyone(values)
    return MemoryReference(
        values[:N_REFERENCE], whole.sample_ids[:N_REFERENCE], whole.feature_ids, whole.samples, scale="counts", **cut
    )


def fit(chain, start):
    found = []
    for method in chain:
        method.check(start)
        found.append(method.fit(start))
        start = start.after(method, found[-1])
    return found


def apply(chain, parameters, block):
    for method, frozen in zip(chain, parameters, strict=True):
        block = method.apply(block, frozen)
    return block


def close(found, wanted):
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.dtype.kind not in "fi":
        return bool((found == wanted).all())
    missing = np.isnan(wanted)
    if (np.isnan(found) != missing).any():
        return False
    return bool(np.all((np.abs(found - wanted) <= 1e-12 * np.maximum(1, np.abs(wanted)))[~missing]))


@pytest.mark.parametrize("fractions", [False, True], ids=["whole", "fractions"])
@pytest.mark.parametrize("name", CHAINS)
def test_alone_in_a_batch_or_all_together(name, fractions):
    chain, values = CHAINS[name], counts(fractions)
    parameters = fit(chain, reference(values))
    whole = everyone(values)
    together = apply(chain, parameters, whole.block())
    assert np.isfinite(together.values).all()
    order = np.random.default_rng(1).permutation(N)
    for rows in [*(np.array([i]) for i in range(0, N, 3)), np.arange(24), order]:
        some = apply(chain, parameters, whole.block(rows))
        assert close(some.values, together.values[rows])
        assert some.context.keys() == together.context.keys()
        for key, value in some.context.items():
            assert close(value, together.context[key][rows]), key
        assert some.scale == together.scale and list(some.feature_ids) == list(together.feature_ids)


@pytest.mark.parametrize("name", CHAINS)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(block_rows=st.integers(1, N_REFERENCE), stripe=st.integers(1, P))
def test_parameters_do_not_depend_on_the_cut(name, block_rows, stripe):
    chain, values = CHAINS[name], counts(fractions=True)
    wanted = fit(chain, reference(values, block_rows=N_REFERENCE, stripe=P))
    found = fit(chain, reference(values, block_rows=block_rows, stripe=stripe))
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        assert all(close(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", CHAINS)
def test_pending_samples_are_passed_over(name):
    chain, values = CHAINS[name], counts()
    parameters = fit(chain, reference(values))
    block = everyone(values).block()
    wanted = apply(chain, parameters, block)
    spoilt = block.values.copy()
    spoilt[[2, 9]] = np.nan
    held = np.zeros(N, dtype=bool)
    held[[2, 9]] = True
    found = apply(chain, parameters, block.with_(values=spoilt).put_off(held, "pending_batch"))
    assert close(found.values[~held], wanted.values[~held])
    assert all(close(value[~held], wanted.context[key][~held]) for key, value in found.context.items())
    assert (found.pending[held] == "pending_batch").all()


@pytest.mark.parametrize("name", CHAINS)
def test_parameters_are_described(name):
    chain, values = CHAINS[name], counts()
    start = reference(values)
    for method in chain:
        frozen = method.fit(start)
        kept = method.out_features(frozen, start.feature_ids)
        sizes = {"features_in": start.n_features, "features": start.n_features if kept is None else int(kept.sum())}
        assert frozen.keys() <= method.dims.keys()
        for key, value in frozen.items():
            assert value.shape == tuple(sizes[dim] for dim in method.dims[key]), key
            assert value.dtype.kind in "fibU"
        start = start.after(method, frozen)
        assert start.scale == method.out_scale("counts")


def test_options_have_descriptions_and_defaults():
    for method in {type(one) for chain in CHAINS.values() for one in chain}:
        for option in dataclasses.fields(method):
            assert option.metadata["description"]
            assert option.default is not dataclasses.MISSING
