"""Frozen batch methods: what they refuse, what they put off, and new batches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import DataError, DesignError, SpecError
from sjd_dask.kernels import batch as kernel
from sjd_dask.normalise.batch import Combat, extend, notes
from sjd_dask.normalise.method import METHODS, PENDING_BATCH
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.normalise.removal import RemoveBatchEffect

BATCHES = ("a", "b", "c", "d")


def scene(sizes=(14, 12, 10, 12), width=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(BATCHES[: len(sizes)], sizes)
    n = labels.size
    samples = pd.DataFrame(
        {
            "batch": labels,
            "disease": np.where(np.arange(n) % 2, "patient", "control"),
            "age": rng.integers(20, 70, n).astype(float),
            "plate": np.where(np.arange(n) // 2 % 2, "p", "q"),
        },
        index=pd.Index([f"s{i:03d}" for i in range(n)], name="sample_id"),
    )
    truth = rng.normal(8, 2, width) + np.outer(samples["disease"] == "patient", rng.normal(0, 0.7, width))
    spread = np.sqrt(1 / rng.gamma(4, 0.25, width))
    clean = truth + rng.normal(size=(n, width)) * spread
    values = clean.copy()
    for i, label in enumerate(BATCHES[: len(sizes)]):
        here = labels == label
        scale = np.sqrt(1 / rng.gamma(10, 0.1, width))
        values[here] = truth[here] + (clean[here] - truth[here]) * scale + spread * rng.normal(0.5 * i, 0.8, width)
    return values, samples, clean


def reference(values, samples, rows=slice(None), **options):
    index = np.arange(len(samples))[rows]
    ids = [f"f{j}" for j in range(values.shape[1])]
    return MemoryReference(values[index], samples.index[index], ids, samples, **options)


def test_registered_with_dims_for_every_parameter():
    values, samples, _ = scene()
    ref = reference(values, samples)
    assert METHODS["combat"] is Combat and METHODS["remove_batch_effect"] is RemoveBatchEffect
    sizes = {"batches": 4, "batches2": 2, "features": 300}
    for method, terms in (
        (Combat("batch"), 0),
        (Combat("batch", covariates="~ disease + age"), 2),
        (RemoveBatchEffect(batch="batch", batch2="plate", covariates=["age"]), 5),
    ):
        for name, value in method.fit(ref).items():
            assert value.shape == tuple({**sizes, "terms": terms}[d] for d in method.dims[name]), name
            assert value.dtype.kind in "fibU"
        assert method.out_scale("expression") == "expression"
        with pytest.raises(SpecError, match="counts"):
            method.out_scale("counts")


def test_columns():
    method = Combat("batch", covariates="~ disease * age")
    assert method.apply_columns() == ["batch", "disease", "age"] and method.outcome_columns() == ["disease", "age"]
    assert Combat("batch").outcome_columns() == []
    removal = RemoveBatchEffect(batch="batch", covariates=["age"], design="~ disease")
    assert removal.apply_columns() == ["batch", "age"] and removal.outcome_columns() == []
    assert removal.fit_columns() == ["batch", "age", "disease"]
    with pytest.raises(SpecError, match="can't be read"):
        Combat("batch", covariates="~ disease +* age").outcome_columns()


def test_batch_goes_and_disease_stays():
    values, samples, clean = scene((40, 36, 44, 40))
    ref = reference(values, samples)
    method = Combat("batch", covariates="~ disease")
    out = method.apply(ref.block(), method.fit(ref)).values
    patient = (samples["disease"] == "patient").to_numpy()
    labels = samples["batch"].to_numpy()

    def between(y):
        levels = np.stack([y[labels == b].mean(axis=0) for b in BATCHES])
        return float(np.median(levels.var(axis=0) / y.var(axis=0)))

    assert between(values) > 0.1 and between(out) < 0.01

    def effect(y):
        return y[patient].mean(axis=0) - y[~patient].mean(axis=0)

    assert np.corrcoef(effect(out), effect(clean))[0, 1] > 0.95


@pytest.mark.parametrize("covariates", [None, "~ 1", "~ disease"])
def test_one_frozen_sample_needs_no_others(covariates):
    values, samples, _ = scene()
    ref = reference(values, samples)
    method = Combat("batch", covariates=covariates)
    parameters = method.fit(ref)
    whole = method.apply(ref.block(), parameters).values
    np.testing.assert_array_equal(method.apply(ref.block(slice(20, 21)), parameters).values, whole[20:21])


def test_whole_numbers_are_labels():
    values, samples, _ = scene()
    number = samples["batch"].map({b: i for i, b in enumerate(BATCHES)})
    ref = reference(values, samples.assign(batch=number))
    parameters = Combat("batch").fit(ref)
    assert parameters["batch_levels"].tolist() == ["0", "1", "2", "3"]
    as_floats = reference(values, samples.assign(batch=number.astype(float))).block()
    as_text = reference(values, samples.assign(batch=number.astype(str))).block()
    np.testing.assert_array_equal(
        Combat("batch").apply(as_floats, parameters).values, Combat("batch").apply(as_text, parameters).values
    )


@pytest.mark.parametrize(
    "method", [Combat("batch", covariates="~ disease"), RemoveBatchEffect(batch="batch", covariates=["age"])]
)
def test_pending(method):
    values, samples, _ = scene()
    known = np.flatnonzero(samples["batch"] != "d")
    parameters = method.fit(reference(values, samples, known))
    block = reference(values, samples).block()
    held = block.put_off(samples["batch"].to_numpy() == "a", "earlier")
    blind = samples.copy()
    blind.loc[samples["batch"] == "a", ["batch", "disease", "age"]] = np.nan  # a sample put off is not looked at
    out = method.apply(held.with_(samples=blind), parameters)
    assert (out.pending[samples["batch"] == "a"] == "earlier").all()
    assert (out.pending[samples["batch"] == "d"] == PENDING_BATCH).all()
    rest = samples["batch"].isin(["b", "c"]).to_numpy()
    assert (out.pending[rest] == "").all()
    np.testing.assert_array_equal(out.values[rest], method.apply(block, parameters).values[rest])


@pytest.mark.parametrize("method", [Combat("batch"), RemoveBatchEffect(batch="batch")])
def test_missing_label(method):
    values, samples, _ = scene()
    parameters = method.fit(reference(values, samples))
    for empty in (None, "", " "):
        blank = samples.copy()
        blank.loc["s007", "batch"] = empty
        with pytest.raises(DataError, match=r"1 have no label: 's007'"):
            method.check(reference(values, blank))
        with pytest.raises(DataError, match=r"1 have no label: 's007'"):
            method.apply(reference(values, blank).block(), parameters)


def test_unknown_covariate():
    values, samples, _ = scene()
    method = Combat("batch", covariates="~ disease")
    parameters = method.fit(reference(values, samples))
    strange = samples.copy()
    strange.loc["s003", "disease"] = "other"
    with pytest.raises(DataError, match=r"'s003' has disease = 'other'"):
        method.apply(reference(values, strange).block(), parameters)
    with pytest.raises(SpecError, match="'disease'"):
        method.apply(reference(values, samples.drop(columns="disease")).block(), parameters)


def test_small_batches():
    values, samples, _ = scene((10, 9, 8, 1))
    with pytest.raises(DataError, match=r"needs 2 samples of a batch.*'d' \(1\).*mean_only"):
        Combat("batch").check(reference(values, samples))
    ref = reference(values, samples)
    assert np.isfinite(Combat("batch", mean_only=True).fit(ref)["gamma_star"]).all()
    with pytest.raises(DataError, match=r"'c' \(8\), 'd' \(1\)"):
        Combat("batch", mean_only=True, min_samples=9).fit(ref)
    with pytest.raises(DataError, match=r"'d' \(1\)"):
        RemoveBatchEffect(batch="batch").fit(ref)
    with pytest.raises(SpecError, match="2 at least"):
        Combat("batch", min_samples=1)
    one = np.flatnonzero(samples["batch"] == "a")
    for method in (Combat("batch"), RemoveBatchEffect(batch="batch")):
        with pytest.raises(DataError, match="only the batch 'a'"):
            method.fit(reference(values, samples, one))


def test_options():
    values, samples, _ = scene()
    ref = reference(values, samples)
    with pytest.raises(SpecError, match="reference_batch 'z'"):
        Combat("batch", reference_batch="z").fit(ref)
    with pytest.raises(SpecError, match="'site'"):
        Combat("site").fit(ref)
    with pytest.raises(SpecError, match="parametric"):
        Combat("batch", prior="flat")
    with pytest.raises(SpecError, match="what shall it remove"):
        RemoveBatchEffect()
    with pytest.raises(SpecError, match="'disease', which is not numeric"):
        RemoveBatchEffect(covariates=["disease"]).fit(ref)
    with pytest.raises(DataError, match=r"'age' of every sample.*'s004'"):
        RemoveBatchEffect(covariates=["age"]).fit(
            reference(values, samples.assign(age=samples["age"].mask(samples.index == "s004")))
        )


def test_confounded_batches_show_the_table():
    values, samples, _ = scene()
    samples["disease"] = np.where(samples["batch"].isin(["a", "b"]), "control", "patient")
    for method in (Combat("batch", covariates="~ disease"), RemoveBatchEffect(batch="batch", design="~ disease")):
        with pytest.raises(DesignError) as said:
            method.check(reference(values, samples))
        text = str(said.value)
        assert "disease  control  patient" in text and "a             14        0" in text


def test_partly_confounded_names_the_column():
    values, samples, _ = scene()
    samples["stage"] = np.where(samples["batch"] == "d", "late", samples["disease"])
    with pytest.raises(DesignError, match=r"the columns 'stage\[T.late\]' are") as said:
        Combat("batch", covariates="~ stage").fit(reference(values, samples))
    assert "late" in str(said.value)
    with pytest.raises(DesignError, match="already are within the covariates"):
        Combat("batch", covariates="~ age + twice").fit(reference(values, samples.assign(twice=2 * samples["age"])))


def test_batch_explained_by_covariates():
    values, samples, _ = scene((10, 9, 8, 2))
    samples["odd"] = ((samples["batch"] == "d") & (samples["disease"] == "patient")).astype(float)
    with pytest.raises(DesignError, match="explain every value of batch 'd'"):
        Combat("batch", covariates="~ odd").fit(reference(values, samples))


def test_odd_features():
    values, samples, _ = scene()
    values[(samples["batch"] == "b").to_numpy(), 4] = 1.0
    values[:, 9] = 3.0
    values[(samples["batch"] == "c").to_numpy(), 11] = np.nan
    ref = reference(values, samples)
    method = Combat("batch")
    parameters = method.fit(ref)
    status = parameters["feature_status"]
    assert np.flatnonzero(status).tolist() == [4, 9, 11] and status[11] == kernel.TOO_FEW_VALUES
    said = " ".join(notes(parameters))
    assert "2 of 300 features are not adjusted for batch: all values of a batch are equal" in said
    out = method.apply(ref.block(), parameters).values
    np.testing.assert_array_equal(out[:, [4, 9, 11]], values[:, [4, 9, 11]])
    values[3, 20] = np.inf
    with pytest.raises(DataError, match="'f20' has infinite"):
        method.fit(reference(values, samples))


@pytest.mark.parametrize(
    "options",
    [
        {}, {"covariates": "~ disease"}, {"mean_only": True}, {"reference_batch": "b"},
        {"prior": "nonparametric", "covariates": "~ disease"},
    ],
)  # fmt: skip
def test_new_batch(options):
    values, samples, _ = scene((40, 36, 44, 40), width=400)
    method = Combat("batch", **options)
    labels = samples["batch"].to_numpy()
    old, new = np.flatnonzero(labels != "d"), np.flatnonzero(labels == "d")
    frozen = method.fit(reference(values, samples, old))
    added = extend(method, frozen, reference(values, samples, slice(None), stripe=130), ["d"])
    for name, value in frozen.items():  # nothing of the batches before moves by a bit
        np.testing.assert_array_equal(added[name][:3] if method.dims[name][:1] == ("batches",) else added[name], value)
    assert added["batch_levels"].tolist() == ["a", "b", "c", "d"] and added["is_extended"].tolist() == [0, 0, 0, 1]
    assert "batch d was added" in " ".join(notes(added))
    block = reference(values, samples).block()
    now = method.apply(block, added)
    before = method.apply(block, frozen)
    np.testing.assert_array_equal(now.values[old], before.values[old])
    assert (before.pending[new] == PENDING_BATCH).all() and (now.pending == "").all()
    # A new fit of all four batches has another grand mean and pooled variance, a quarter of a standard deviation off
    # for these batches; with a reference batch, which alone defines both, there is no difference. The new batch comes
    # to lie 0.02 standard deviations from the old ones (0.27 with mean_only, whose prior is strong in sva).
    refit = method.fit(reference(values, samples))
    again = method.apply(block, refit).values
    moved = np.abs(now.values - again)[new] / again.std(axis=0)
    place = np.abs(now.values[new].mean(axis=0) - now.values[old].mean(axis=0)) / again.std(axis=0)
    assert np.median(moved) < (1e-9 if "reference_batch" in options else 0.3)
    assert np.median(place) < (0.3 if "mean_only" in options else 0.05)
    if "reference_batch" in options and "covariates" not in options:
        at = [list(added["batch_levels"]).index("d")]
        np.testing.assert_allclose(added["gamma_star"][at], refit["gamma_star"][3:], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(now.values[new], again[new], rtol=1e-9, atol=1e-9)


def test_extension_of_a_step():
    values, samples, _ = scene()
    old, new = np.flatnonzero(samples["batch"] != "d"), np.flatnonzero(samples["batch"] == "d")
    method = Combat("batch")
    frozen = method.fit(reference(values, samples, old))
    some = reference(values, samples, new)
    added, named = method.extend(frozen, some), extend(method, frozen, some, ["d"])
    for name, value in named.items():
        np.testing.assert_array_equal(added[name], value)
    with pytest.raises(SpecError, match="'a', 'b', 'c' have parameters already"):
        method.extend(frozen, reference(values, samples))
    removal = RemoveBatchEffect(batch="batch")
    coefficients = removal.fit(reference(values, samples, old))
    assert removal.extend(coefficients, reference(values, samples, old)) is None
    with pytest.raises(SpecError, match="the batches 'd' of column 'batch'"):
        removal.extend(coefficients, some)


def test_new_batch_is_refused():
    values, samples, _ = scene((10, 9, 8, 1))
    method = Combat("batch")
    old = np.flatnonzero(samples["batch"] != "d")
    frozen = method.fit(reference(values, samples, old))
    every = reference(values, samples)
    with pytest.raises(DataError, match=r"needs 2 samples.*'d' \(1\)"):
        extend(method, frozen, every, ["d"])
    with pytest.raises(DataError, match=r"'e' \(0\)"):
        extend(method, frozen, every, ["e"])
    with pytest.raises(SpecError, match="'a' have parameters already"):
        extend(method, frozen, every, ["a"])
    with pytest.raises(SpecError, match="name the batches"):
        extend(method, frozen, every, [])
    with pytest.raises(DataError, match="300 features"):
        extend(method, frozen, reference(values[:, :5], samples), ["d"])


def test_new_batch_with_odd_features():
    values, samples, _ = scene()
    old = np.flatnonzero(samples["batch"] != "d")
    new = np.flatnonzero(samples["batch"] == "d")
    values[new, 3] = 2.0
    values[new[1:], 5] = np.nan
    method = Combat("batch")
    added = extend(method, method.fit(reference(values, samples, old)), reference(values, samples, new), ["d"])
    assert added["n_unadjusted"].tolist() == [0, 0, 0, 2]
    assert (added["gamma_star"][3, [3, 5]] == 0).all() and (added["delta_star"][3, [3, 5]] == 1).all()


def test_removal_names_what_it_could_not_estimate():
    values, samples, _ = scene()
    values[(samples["batch"] == "c").to_numpy(), 7] = np.nan
    ref = reference(values, samples)
    method = RemoveBatchEffect(batch="batch", batch2="plate", design="~ disease")
    parameters = method.fit(ref)
    assert int(parameters["n_unestimated"]) == 1
    assert parameters["term_names"].tolist() == ["batch[a]", "batch[b]", "batch[c]", "plate[p]"]
    twice = samples.assign(site=samples["batch"])
    both = RemoveBatchEffect(batch="batch", batch2="site").fit(reference(values, twice))
    once = RemoveBatchEffect(batch="batch").fit(ref)
    np.testing.assert_allclose(both["coefficients"][:3], once["coefficients"], atol=1e-12)
    assert not both["coefficients"][3:].any()
