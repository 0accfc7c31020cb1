"""Array methods: what they compute in small cases, and what they refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.methylation import beta_to_m
from sjd_dask.normalise.arrays import Beta, MaskProbes, MValue, Normexp
from sjd_dask.normalise.probe_types import Bmiq
from sjd_dask.normalise.quantile import Quantile, Scale
from sjd_dask.normalise.reference import MemoryReference


def reference(values, scale="beta", **columns):
    values = np.atleast_2d(np.asarray(values, float))
    features = [f"cg{i}" for i in range(values.shape[1])]
    annotation = pd.DataFrame(columns, index=features) if columns else None
    return MemoryReference(values, [f"s{i}" for i in range(len(values))], features, annotation=annotation, scale=scale)


def run(method, data):
    method.check(data)
    return method.apply(data.block(), method.fit(data))


def arrays(n=6, p=3000, seed=0):
    rng = np.random.default_rng(seed)
    state = rng.choice(3, p, p=[0.45, 0.15, 0.40])
    return rng.beta(np.array([2.5, 4, 30])[state], np.array([40, 4, 3])[state], (n, p))


def test_m_values_and_back():
    data = reference([[0.0, 0.2, 0.5, np.nan, 1.0]])
    done = run(MValue(), data)
    assert done.scale == "m_value"
    assert np.array_equal(done.values, beta_to_m(data.values), equal_nan=True)
    assert done.values[0, 1] == pytest.approx(-2.0)
    shifted = run(MValue(offset=0.01), data)
    assert shifted.values[0, [0, 2, 4]] == pytest.approx([np.log2(0.01 / 1.01), 0.0, np.log2(1.01 / 0.01)])
    for offset, block in ((0.0, done), (0.01, shifted)):
        back = Beta(offset=offset).apply(block, {})
        assert back.scale == "beta"
        assert np.nanmax(np.abs(back.values - data.values)) < 1e-5
    assert Beta().apply(done.with_(values=np.full((1, 5), 5000.0)), {}).values.tolist() == [[1.0] * 5]


def test_what_is_no_beta_is_named():
    with pytest.raises(DataError, match=r"'s1' has 3.5 at feature 'cg2'"):
        run(MValue(), reference([[0.1, 0.2, 0.3], [0.1, 0.2, 3.5]]))
    with pytest.raises(DataError, match="step `beta` makes betas"):
        Bmiq().fit(reference(np.full((2, 500), -3.0), probe_type=["I", "II"] * 250))
    with pytest.raises(SpecError, match="offset"):
        MValue(offset=-1.0).check(reference([[0.1]]))
    with pytest.raises(SpecError, match="works on beta"):
        MValue().out_scale("counts")


def test_mask_by_list(tmp_path):
    path = tmp_path / "mask.txt"
    path.write_text('# cross-reactive\ncg1,Chen\ncg3 Price\n\n"cg9"\nother\n', encoding="utf-8")
    data = reference([[0.1, 0.2, 0.3, 0.4]])
    method = MaskProbes(probe_list=str(path))
    done = run(method, data)
    assert done.feature_ids.tolist() == ["cg0", "cg2"]
    assert done.values.tolist() == [[0.1, 0.3]]
    parameters = method.fit(data)
    path.write_text("cg0\n", encoding="utf-8")
    assert method.apply(data.block(), parameters).feature_ids.tolist() == ["cg0", "cg2"]
    assert method.out_features(parameters, data.feature_ids).tolist() == [True, False, True, False]


def test_mask_by_column_and_missing_share():
    values = np.full((4, 4), 0.5)
    values[:3, 1] = np.nan
    values[0, 2] = np.nan
    data = reference(values, chromosome=["X", 1, "2", " Y"], mask=[False, True, "no", "TRUE"])
    assert run(MaskProbes(missing_share=0.5), data).feature_ids.tolist() == ["cg0", "cg2", "cg3"]
    assert run(MaskProbes(missing_share=0.0), data).feature_ids.tolist() == ["cg0", "cg3"]
    assert run(MaskProbes(column="chromosome", equals=["X", "Y"]), data).feature_ids.tolist() == ["cg1", "cg2"]
    assert run(MaskProbes(column="mask"), data).feature_ids.tolist() == ["cg0", "cg2"]
    assert run(MaskProbes(column="mask", missing_share=0.0), data).feature_ids.tolist() == ["cg0"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, SpecError, "would leave out nothing"),
        ({"missing_share": 1.0}, SpecError, "below 1"),
        ({"equals": ["X"]}, SpecError, "needs"),
        ({"missing_share": 0.1, "equals": ["X"]}, SpecError, "equals needs a column"),
        ({"column": "chr"}, SpecError, "'chr'; there are: chromosome"),
        ({"probe_list": "nowhere.txt"}, SpecError, "no file 'nowhere.txt'"),
        ({"column": "chromosome", "equals": ["1", "X"]}, DataError, "all 2 features"),
    ],
)
def test_masks_that_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        run(MaskProbes(**options), reference([[0.1, 0.2]], chromosome=["X", "1"]))


def test_a_list_of_another_array_is_refused(tmp_path):
    path = tmp_path / "mask.txt"
    path.write_text("ILMN_1\n", encoding="utf-8")
    with pytest.raises(DataError, match="none of the 1 ids"):
        run(MaskProbes(probe_list=str(path)), reference([[0.1, 0.2]]))


@pytest.mark.parametrize("target", ["reference", "own"])
@pytest.mark.parametrize("words", [("I", "II"), (1, 2), (1.0, 2.0), (" i ", "ii")])
def test_bmiq_brings_the_types_together(target, words):
    values = arrays(p=12_000)
    two = np.arange(12_000) % 3 > 0
    values[:, two] = 0.05 + 0.85 * values[:, two]
    values[:, 17] = np.nan
    data = reference(values, probe_type=[words[int(one)] for one in two])
    done = run(Bmiq(target=target), data)
    assert (done.pending == "").all() and (done.context["failed_array"] == 0).all()
    assert np.array_equal(done.values[:, ~two], values[:, ~two], equal_nan=True)
    at = np.linspace(0.02, 0.98, 49)
    for before, after in zip(values, done.values, strict=True):
        one = np.nanquantile(before[~two], at)
        first = np.mean(np.abs(np.nanquantile(before[two], at) - one))
        assert np.mean(np.abs(np.nanquantile(after[two], at) - one)) < first / 3
        known = ~np.isnan(before) & two
        order = np.argsort(before[known])
        assert (np.diff(after[known][order]) >= 0).all()


def test_bmiq_puts_off_what_is_no_array():
    values = arrays(p=3000)
    data = reference(values, probe_type=["I", "II"] * 1500)
    parameters = Bmiq().fit(data)
    rng = np.random.default_rng(0)
    bad = values.copy()
    bad[1] = rng.beta(20, 20, 3000)
    bad[2] = rng.beta(2, 40, 3000)
    bad[3, :1000] = np.nan
    done = Bmiq().apply(reference(bad).block(), parameters)
    assert done.pending.tolist() == ["", "failed_array", "failed_array", "failed_array", "", ""]
    assert done.context["failed_array"].tolist() == [0, 1, 1, 1, 0, 0]
    with pytest.raises(DataError, match=r"3 reference samples.*'s1', 's2', 's3'"):
        Bmiq().fit(reference(bad, probe_type=["I", "II"] * 1500))


def test_bmiq_needs_its_column():
    values = arrays(n=2)
    with pytest.raises(SpecError, match="'probe_type'; there are: design"):
        Bmiq().check(reference(values, design=["I"] * 3000))
    with pytest.raises(DataError, match=r"1 features have no type.*'cg4' with 'rs'"):
        Bmiq().check(reference(values, probe_type=["I", "II", "I", "II", "rs"] + ["I"] * 2995))
    with pytest.raises(DataError, match="has 0 of type II"):
        Bmiq().check(reference(values, probe_type=["I"] * 3000))
    with pytest.raises(SpecError, match="iterations"):
        Bmiq(iterations=0).check(reference(values, probe_type=["I", "II"] * 1500))
    flat = np.random.default_rng(0).random((2, 3000))
    flat[:, ::2] = np.where(flat[:, ::2] < 0.5, 0.1, 0.9)
    with pytest.raises(DataError, match="no unmethylated, middle and methylated state"):
        Bmiq().fit(reference(flat, probe_type=["I", "II"] * 1500))


def test_quantile_targets():
    data = reference(np.random.default_rng(0).normal(size=(5, 40)), "expression")
    assert Quantile(target_samples=["s2"]).fit(data)["target"] == pytest.approx(np.sort(data.values[2]))
    with pytest.raises(SpecError, match=r"1 of 2 target_samples.*'nobody'"):
        Quantile(target_samples=["s1", "nobody"]).check(data)
    with pytest.raises(SpecError, match="empty"):
        Quantile(target_samples=[]).check(data)
    with pytest.raises(DataError, match=r"5 quantiles.*40 features"):
        Quantile().apply(data.block(), {"target": np.arange(5.0)})
    data.values[3] = np.nan
    with pytest.raises(DataError, match="1 reference samples have fewer than two values: 's3'"):
        Quantile().fit(data)
    data.values[3] = np.inf
    with pytest.raises(DataError, match="'s3' has inf at feature 'cg0'"):
        Quantile().fit(data)


def test_scale_needs_positive_medians():
    data = reference([[1.0, 2.0, 3.0], [4.0, 8.0, 12.0]], "expression")
    parameters = Scale().fit(data)
    assert float(parameters["log_median"]) == pytest.approx(np.log(4.0))
    with pytest.raises(DataError, match=r"'s0' .*-2"):
        Scale().apply(reference([[-1.0, -2.0, -3.0]]).block(), parameters)
    with pytest.raises(DataError, match="remove them"):
        Scale(absolute=True).fit(reference(np.zeros((2, 3))))
    with pytest.raises(DataError, match="no reference sample has values"):
        Scale().fit(reference(np.full((2, 3), np.nan)))


def test_normexp_puts_off_and_refuses():
    rng = np.random.default_rng(0)
    values = rng.normal(100, 10, (4, 50)) + rng.exponential(200, (4, 50))
    values[1] = 7.0
    values[2, 3:] = np.nan
    done = run(Normexp(offset=16.0), reference(values, "concentration"))
    assert done.pending.tolist() == ["", "failed_array", "failed_array", ""]
    assert (done.values[[0, 3]] > 16.0).all()
    values[3, 5] = np.inf
    with pytest.raises(DataError, match="'s3' has an infinite intensity at feature 'cg5'"):
        run(Normexp(), reference(values, "concentration"))
