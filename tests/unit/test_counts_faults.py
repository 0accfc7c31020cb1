"""Steps on counts: what can't be normalised is refused by name, with the remedy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import DataError, SpecError
from sjd_dask.normalise.counts import FilterByExpr, LibrarySize, LogCpm, Voom
from sjd_dask.normalise.counts_factors import Rle, Tmm, Tmmwsp, UpperQuartile
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.normalise.vst import Vst

GIVEN = Vst(dispersion={"asymptotic": 0.1, "extra": 2.0})
METHODS = [LibrarySize(), FilterByExpr(), Tmm(), Tmmwsp(), Rle(), UpperQuartile(), LogCpm(), Voom(), GIVEN]


def counts():
    return np.random.default_rng(1).negative_binomial(3, 0.03, size=(8, 40)).astype(float) + 1


def reference(values, samples=None):
    ids = [f"s{i}" for i in range(len(values))]
    if samples is not None:
        samples = pd.DataFrame(samples, index=ids)
    return MemoryReference(
        values, ids, [f"g{i}" for i in range(values.shape[1])], samples, scale="counts", block_rows=3
    )


def name(method):
    return method.method


@pytest.mark.parametrize("method", METHODS, ids=name)
@pytest.mark.parametrize(
    ("value", "text"), [(-1.0, "the count -1"), (np.nan, "a missing count"), (np.inf, "the count inf")]
)
def test_impossible_counts(method, value, text):
    good = counts()
    parameters = method.fit(reference(good))
    bad = counts()
    bad[4, 7] = value
    with pytest.raises(DataError, match=f"`{method.method}`.*'s4' has {text} at feature 'g7'.*correct the matrix"):
        method.apply(reference(bad).block(), parameters)
    if parameters and method is not GIVEN:
        with pytest.raises(DataError, match=f"'s4' has {text} at feature 'g7'"):
            method.fit(reference(bad))


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_a_sample_without_counts(method):
    parameters = method.fit(reference(counts()))
    bad = counts()
    bad[[2, 5]] = 0
    with pytest.raises(DataError, match=r"2 samples have no counts at all on the 40 features.*'s2', 's5'"):
        method.apply(reference(bad).block(), parameters)
    if parameters and method is not GIVEN:
        with pytest.raises(DataError, match="'s2'"):
            method.fit(reference(bad))


@pytest.mark.parametrize("method", [FilterByExpr(), Tmm(), Tmmwsp(), Rle(), UpperQuartile(), GIVEN], ids=name)
def test_another_feature_space(method):
    parameters = method.fit(reference(counts()))
    with pytest.raises(DataError, match="fitted on 40 features and is given 39"):
        method.apply(reference(counts()[:, 1:]).block(), parameters)


def test_nothing_in_common_with_the_reference_sample():
    values = counts()
    values[:, 30:] = 0
    method = Tmm(reference_sample="s1")
    parameters = method.fit(reference(values))
    assert str(parameters["reference_sample"]) == "s1" and (parameters["reference_counts"] == values[1]).all()
    other = np.zeros((1, 40))
    other[0, 30:] = 5
    with pytest.raises(DataError, match=r"1 sample shares no feature with counts with the reference sample 's1': 's0'"):
        method.apply(reference(other).block(), parameters)
    with pytest.raises(DataError, match=r"has no counts on any of the 30 features"):
        Rle(type="poscounts").apply(reference(other).block(), Rle(type="poscounts").fit(reference(values)))
    thin = values[:1].copy()
    thin[0, 1:] = 0
    with pytest.raises(DataError, match=r"'s0'.*type poscounts"):
        Rle().apply(reference(thin).block(), Rle().fit(reference(values)))
    with pytest.raises(DataError, match=r"has no counts on 75% or more of the 30 features.*'s0'"):
        UpperQuartile().apply(reference(other).block(), UpperQuartile().fit(reference(values)))


def test_reference_sample_without_counts_on_what_a_filter_kept():
    values = counts()
    values[3, :39] = 0
    start = reference(values)
    after = FilterByExpr(keep_lib_sizes=True)
    parameters = {"keep": np.arange(40) < 39}
    with pytest.raises(DataError, match=r"'s3'"):
        FilterByExpr().apply(start.block(), parameters)
    with pytest.raises(DataError, match=r"chosen as reference has no counts: 's3'.*reference_sample"):
        Tmm(reference_sample="s3").fit(start.after(after, parameters))


def test_no_geometric_means():
    values = counts()
    values[np.arange(8), np.arange(8)] = 0
    values = values[:, :8]
    with pytest.raises(DataError, match=r"every one of the 8 features has a zero.*poscounts"):
        Rle().fit(reference(values))
    assert Rle(type="poscounts").fit(reference(values))


def test_filter_that_keeps_nothing_and_groups_with_gaps():
    with pytest.raises(DataError, match=r"keeps none of 40 features.*min_count"):
        FilterByExpr(min_count=1e9).fit(reference(counts()))
    samples = {"group": ["a", None, "b", "b", "a", "a", "b", "b"]}
    with pytest.raises(DataError, match=r"1 sample has no 'group': 's1'"):
        FilterByExpr(group="group").check(reference(counts(), samples))
    with pytest.raises(DataError, match="'s1'"):
        FilterByExpr(design="~ group").fit(reference(counts(), samples))
    with pytest.raises(SpecError, match=r"'batch'.*there are: group"):
        FilterByExpr(group="batch").check(reference(counts(), samples))
    with pytest.raises(SpecError, match="batch"):
        FilterByExpr(design="~ batch").check(reference(counts(), samples))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Tmm(logratio_trim=0.5), "logratio_trim must be from 0 to below 0.5"),
        (lambda: Tmmwsp(sum_trim=-0.1), "sum_trim"),
        (lambda: Rle(type="iterate"), "ratio or poscounts"),
        (lambda: UpperQuartile(p=0), "p is a probability"),
        (lambda: LogCpm(prior_count=0), "prior_count must be above 0"),
        (lambda: FilterByExpr(min_count=-1), "min_count"),
        (lambda: FilterByExpr(min_prop=1.5), "min_prop"),
        (lambda: FilterByExpr(group="a", design="~ a"), "not both"),
        (lambda: Vst(fit_type="local"), "parametric or mean"),
        (lambda: Vst(n_sub=-1), "n_sub"),
        (lambda: Vst(design="~ a"), "blind: false"),
        (lambda: Vst(blind=False), "needs a `design`"),
        (lambda: Vst(dispersion={"asymptotic": 0.1}), "asymptotic and extra"),
        (lambda: Vst(dispersion={"asymptotic": 0.1, "extra": -1}), "above 0"),
        (lambda: Vst(blind=False, design="~ __import__('os')").fit_columns(), "not allowed"),
    ],
)
def test_options(make, text):
    with pytest.raises(SpecError, match=text):
        make()


def test_reference_sample_that_is_not_there():
    with pytest.raises(SpecError, match="'s99' is not one of the 8 reference samples"):
        Tmm(reference_sample="s99").fit(reference(counts()))


def test_vst_says_what_it_could_not_do():
    with pytest.raises(DataError, match=r"n_sub = 1,000.*only 40 of 40"):
        Vst().fit(reference(counts()))
    draw = np.random.default_rng(3)
    mean = np.exp(draw.uniform(2, 7, 300))
    size = 1 / (0.001 * mean)
    y = draw.negative_binomial(size, size / (size + mean), size=(30, 300)).astype(float) + 1
    with pytest.warns(UserWarning, match="`vst`.*does not fit.*their mean is used"):
        parameters = Vst(n_sub=100).fit(reference(y))
    assert str(parameters["fit_type"]) == "mean"
    after = Rle().fit(reference(counts()))
    frozen = GIVEN.fit(reference(counts()).after(Rle(), after))
    with pytest.raises(DataError, match="apply the whole chain"):
        GIVEN.apply(reference(counts()).block(), frozen)


def test_one_reference_sample():
    one = reference(counts()[:1])
    for method in (Tmm(), Tmmwsp(), Rle(), UpperQuartile()):
        done = method.apply(one.block(), method.fit(one))
        assert done.context["norm_factor"] == pytest.approx([1.0], rel=1e-14)
