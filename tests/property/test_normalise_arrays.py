"""Array methods: one sample alone, with 23 others, with all, and any partition of the fit give the same values."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sjd_dask.normalise.arrays import Beta, MaskProbes, MValue, Normexp
from sjd_dask.normalise.method import METHODS
from sjd_dask.normalise.probe_types import Bmiq
from sjd_dask.normalise.quantile import Quantile, Scale
from sjd_dask.normalise.reference import MemoryReference

N, P = 36, 2000


def scene(scale, seed=0):
    """Samples with ties, missing values, and one sample of all missing values that is not in the reference."""
    rng = np.random.default_rng(seed)
    state = rng.choice(3, P, p=[0.45, 0.15, 0.40])
    betas = rng.beta(np.array([2.5, 4, 30])[state], np.array([40, 4, 3])[state], (N, P))
    type_two = np.arange(P) % 3 > 0
    betas[:, type_two] = 0.05 + 0.85 * betas[:, type_two]
    values = {
        "beta": betas,
        "m_value": np.log2(betas / (1 - betas)),
        "expression": np.round(6 + rng.gamma(2, 2, (N, P)) + rng.normal(0, 1, (N, 1)), 2),
        "concentration": rng.normal(200, 20, (N, P)) + rng.exponential(500, (N, P)),
    }[scale]
    values[rng.random((N, P)) < 0.03] = np.nan
    values[:, 5][rng.random(N) < 0.5] = np.nan
    ids = [f"s{i:02d}" for i in range(N)]
    features = [f"cg{i:05d}" for i in range(P)]
    annotation = pd.DataFrame(
        {
            "probe_type": np.where(type_two, "II", "I"),
            "chromosome": np.where(np.arange(P) < 40, "X", "1"),
        },
        index=features,
    )
    return values, ids, features, annotation


CASES = {
    "quantile": (Quantile(), "expression"),
    "quantile_noties": (Quantile(ties="limma_noties"), "expression"),
    "quantile_preprocesscore": (Quantile(ties="preprocesscore", target_samples=["s03", "s20", "s21"]), "beta"),
    "scale": (Scale(), "expression"),
    "scale_absolute": (Scale(absolute=True), "m_value"),
    "bmiq": (Bmiq(), "beta"),
    "bmiq_own": (Bmiq(target="own"), "beta"),
    "m_value": (MValue(), "beta"),
    "m_value_offset": (MValue(offset=0.01), "beta"),
    "beta": (Beta(offset=0.01), "m_value"),
    "normexp_saddle": (Normexp(offset=16.0), "concentration"),
    "normexp_mle": (Normexp(normexp_method="mle"), "concentration"),
    "mask_probes": (MaskProbes(missing_share=0.3, column="chromosome", equals=["X", "Y"]), "beta"),
}


@pytest.fixture(scope="module")
def fitted():
    cache = {}

    def get(name):
        if name not in cache:
            method, scale = CASES[name]
            values, ids, features, annotation = scene(scale)
            reference = MemoryReference(values, ids, features, annotation=annotation, scale=scale)
            method.check(reference)
            parameters = method.fit(reference)
            new, _, _, _ = scene(scale, seed=1)
            new[7] = np.nan
            later = MemoryReference(new, [f"n{i}" for i in range(N)], features, annotation=annotation, scale=scale)
            done = method.apply(later.block(), parameters)
            cache[name] = SimpleNamespace(
                method=method, reference=reference, parameters=parameters, later=later, done=done
            )
        return cache[name]

    return get


def same(found, wanted, rows):
    assert np.array_equal(found.pending, wanted.pending[rows])
    assert np.array_equal(found.feature_ids, wanted.feature_ids)
    active = found.pending == ""
    a, b = found.values[active], wanted.values[rows][active]
    assert np.array_equal(np.isnan(a), np.isnan(b))
    assert np.nanmax(np.abs(a - b) / np.maximum(1.0, np.abs(b)), initial=0.0) <= 1e-12
    for name, value in wanted.context.items():
        assert np.array_equal(found.context[name], value[rows], equal_nan=True)


@pytest.mark.parametrize("name", list(CASES))
def test_alone_in_a_batch_and_in_all(fitted, name):
    one = fitted(name)
    rng = np.random.default_rng(2)
    before = one.later.values.copy()
    for rows in [*(np.array([i]) for i in (0, 7, 31)), np.arange(24), rng.permutation(N)[:24], np.arange(N)[::-1]]:
        same(one.method.apply(one.later.block(rows), one.parameters), one.done, rows)
    # Nothing in place.
    assert np.array_equal(before, one.later.values, equal_nan=True)


@pytest.mark.parametrize("name", list(CASES))
def test_the_fit_does_not_depend_on_the_partition(fitted, name):
    one = fitted(name)
    for block_rows, stripe in ((1, 700), (7, P), (24, 1), (N, 64)):
        reference = MemoryReference(
            one.reference.values,
            one.reference.sample_ids,
            one.reference.feature_ids,
            annotation=one.reference.annotation,
            scale=one.reference.scale,
            block_rows=block_rows,
            stripe=stripe,
        )
        found = one.method.fit(reference)
        assert found.keys() == one.parameters.keys()
        for key, value in one.parameters.items():
            assert np.allclose(
                np.asarray(found[key], float), np.asarray(value, float), rtol=1e-12, atol=1e-12, equal_nan=True
            )


@pytest.mark.parametrize("name", list(CASES))
def test_parameters_are_declared_and_rows_with_a_reason_are_left(fitted, name):
    one = fitted(name)
    assert METHODS[one.method.method] is type(one.method)
    for key, value in one.parameters.items():
        assert np.ndim(value) == len(one.method.dims[key])
    assert all(one_field.metadata["description"] for one_field in dataclasses.fields(one.method))
    block = one.later.block(np.arange(3))
    values = block.values.copy()
    values[1] = -1e9
    put_off = block.with_(values=values).put_off(np.array([False, True, False]), "pending_batch")
    done = one.method.apply(put_off, one.parameters)
    assert done.pending.tolist() == ["", "pending_batch", ""]
    two = np.array([0, 2])
    rest = SimpleNamespace(
        values=done.values[two],
        pending=done.pending[two],
        feature_ids=done.feature_ids,
        context={key: value[two] for key, value in done.context.items()},
    )
    same(rest, one.done, two)


@pytest.mark.parametrize("name", ["quantile", "quantile_noties", "scale", "bmiq", "normexp_saddle"])
def test_a_sample_without_values_is_put_off(fitted, name):
    done = fitted(name).done
    assert done.pending[7] == "failed_array"
    assert (np.delete(done.pending, 7) == "").all()
