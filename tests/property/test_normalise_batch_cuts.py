"""Batch methods: a sample's values don't depend on its company, nor a fit on how the data are cut."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sjd_dask.normalise.batch import Combat, extend
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.normalise.removal import RemoveBatchEffect

METHODS = [
    Combat("batch"),
    Combat("batch", covariates="~ disease * age"),
    Combat("batch", mean_only=True),
    Combat("batch", reference_batch="b1", covariates="~ disease"),
    Combat("batch", prior="nonparametric"),
    RemoveBatchEffect(batch="batch", covariates=["age"], design="~ disease"),
]
CALM = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def scene(seed, missing):
    rng = np.random.default_rng(seed)
    n, width = 60, 130
    samples = pd.DataFrame(
        {
            "batch": [f"b{i}" for i in rng.permutation(np.arange(n) % 4)],
            "disease": rng.choice(["control", "patient"], n),
            "age": rng.normal(50, 10, n),
        },
        index=[f"s{i}" for i in range(n)],
    )
    values = rng.normal(size=(n, width)) * rng.gamma(2, 1, width) + rng.normal(7, 3, width)
    for b in range(4):
        values[samples["batch"] == f"b{b}"] += rng.normal(size=width)
    values[rng.random(values.shape) < missing] = np.nan
    return values, samples


def reference(values, samples, **cut):
    return MemoryReference(values, samples.index, [f"f{j}" for j in range(values.shape[1])], samples, **cut)


def close(a, b):
    assert np.array_equal(np.isnan(a), np.isnan(b))
    there = ~np.isnan(a)
    assert (np.abs(a - b)[there] <= 1e-12 * np.maximum(1, np.abs(a[there]))).all()


@CALM
@given(method=st.sampled_from(METHODS), seed=st.integers(0, 99), missing=st.sampled_from([0.0, 0.05]), data=st.data())
def test_company(method, seed, missing, data):
    values, samples = scene(seed, missing)
    ref = reference(values, samples)
    parameters = method.fit(ref)
    whole = method.apply(ref.block(), parameters).values
    rows = np.array(data.draw(st.permutations(range(60))))[: data.draw(st.sampled_from([1, 24, 60]))]
    np.testing.assert_array_equal(method.apply(ref.block(rows), parameters).values, whole[rows])
    assert np.array_equal(np.isnan(whole), np.isnan(values))


@CALM
@given(
    method=st.sampled_from(METHODS), seed=st.integers(0, 99), missing=st.sampled_from([0.0, 0.05]),
    stripe=st.integers(1, 131), rows=st.integers(1, 61),
)  # fmt: skip
def test_cut(method, seed, missing, stripe, rows):
    values, samples = scene(seed, missing)
    one, other = reference(values, samples), reference(values, samples, stripe=stripe, block_rows=rows)
    first, second = method.fit(one), method.fit(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(second[name], value, rtol=1e-12, atol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(second[name], value, err_msg=name)
    close(method.apply(one.block(), first).values, method.apply(one.block(), second).values)


@CALM
@given(method=st.sampled_from(METHODS[:5]), seed=st.integers(0, 99), stripe=st.integers(1, 131))
def test_extension_and_cut(method, seed, stripe):
    values, samples = scene(seed, 0.02)
    old = (samples["batch"] != "b3").to_numpy()
    frozen = method.fit(reference(values[old], samples[old]))
    added = [extend(method, frozen, reference(values, samples, stripe=width), ["b3"]) for width in (131, stripe)]
    for name, value in added[0].items():
        np.testing.assert_array_equal(added[1][name], value, err_msg=name)
