"""A sample alone, in a block, in the whole set: the same values; a fit in any partition: the same parameters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.normalise.censoring import LimitOfDetection
from sjd_dask.normalise.method import Method
from sjd_dask.normalise.plates import PlateCentre
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.normalise.scales import Arcsinh, CentredLogRatio, Log, Logit, Standardise

METHODS: list[tuple[Method, str]] = [
    (Log(offset=1), "concentration"),
    (Log(offset="half_minimum"), "concentration"),
    (Arcsinh(), "concentration"),
    (Logit(), "proportion"),
    (Logit(rule="shrink", base=2), "proportion"),
    (CentredLogRatio(), "proportion"),
    (CentredLogRatio(zero_replacement=1e-4), "proportion"),
    (Standardise(), "expression"),
    (Standardise(robust=True), "expression"),
    (PlateCentre(), "expression"),
    (PlateCentre(centre="mean", controls="bridge"), "expression"),
    (LimitOfDetection(max_share=0.5), "concentration"),
]


def data(seed: int, n: int, p: int, scale: str, block_rows: int = 64, stripe: int = 16_384) -> MemoryReference:
    rng = np.random.default_rng(seed)
    values = np.round(rng.gamma(0.7, 2, (n, p)), 3) + (rng.random((n, p)) < 0.5)
    if scale == "proportion":
        values /= values.sum(axis=1, keepdims=True)
    values[0], values[1] = values[0] + 0.01, values[1] + 0.02  # every feature has a positive value and varies
    values[rng.random((n, p)) < 0.05] = np.nan
    if scale == "proportion":
        values[:2] /= np.nansum(values[:2], axis=1, keepdims=True)
    ids = [f"s{i}" for i in range(n)]
    sheet = {"plate": [f"p{i % 3}" for i in range(n)], "bridge": [i % 9 < 6 for i in range(n)]}
    features = [f"f{j}" for j in range(p)]
    annotation = pd.DataFrame({"lod": np.where(np.arange(p) % 5, rng.gamma(1, size=p) + 0.1, np.nan)}, index=features)
    samples = pd.DataFrame(sheet, index=ids)
    return MemoryReference(
        values, ids, features, samples, annotation, scale=scale, block_rows=block_rows, stripe=stripe
    )


def close_to(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert (np.isnan(found) == np.isnan(expected)).all()
    assert np.nanmax(np.abs(found - expected) / np.maximum(1, np.abs(expected)), initial=0) <= 1e-12


@pytest.mark.parametrize(("method", "scale"), METHODS, ids=lambda one: getattr(one, "method", one))
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(27, 60), p=st.integers(8, 40), cut=st.integers(1, 24))
def test_a_sample_gets_the_same_values_alone_and_in_any_block(
    method: Method, scale: str, seed: int, n: int, p: int, cut: int
) -> None:
    whole = data(seed, n, p, scale)
    parameters = method.fit(whole)
    before = {name: value.copy() for name, value in parameters.items()}
    together = method.apply(whole.block(), parameters)
    for rows in (slice(0, 1), slice(n - 1, n), slice(0, cut), slice(cut, n)):
        part = method.apply(whole.block(rows), parameters)
        close_to(part.values, together.values[rows])
        assert part.feature_ids.tolist() == together.feature_ids.tolist()
        for name, value in part.context.items():
            close_to(value, together.context[name][rows])
    backwards = method.apply(whole.block(np.arange(n)[::-1]), parameters)
    close_to(backwards.values[::-1], together.values)
    for name, value in parameters.items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(("method", "scale"), METHODS, ids=lambda one: getattr(one, "method", one))
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 30), stripe=st.integers(1, 30))
def test_a_fit_does_not_depend_on_its_partition(method: Method, scale: str, seed: int, rows: int, stripe: int) -> None:
    one = method.fit(data(seed, 30, 25, scale))
    other = method.fit(data(seed, 30, 25, scale, rows, stripe))
    assert one.keys() == other.keys()
    for name, value in one.items():
        if value.dtype.kind == "f":
            close_to(other[name], value)
        else:
            np.testing.assert_array_equal(other[name], value)
