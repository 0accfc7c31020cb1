"""The quality table: its measures, frozen fences, sexes, swapped arrays, and the tables beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import DataError, SpecError
from sjd_dask.normalise.companions import companion_tables
from sjd_dask.normalise.judgement import QUALITY_DIMS, fit_quality, judge
from sjd_dask.normalise.method import Block
from sjd_dask.normalise.quality import distances, sample_metrics, sample_sketches, sketch_index, sketched

N, P = 80, 300


def block(values: np.ndarray, scale: str, features: list[str] | None = None, chromosome: Any = None) -> Block:
    n, p = values.shape
    ids = [f"s{i}" for i in range(n)]
    names = np.array(features or [f"f{j}" for j in range(p)], dtype=object)
    annotation = pd.DataFrame(index=pd.Index(names, name="feature_id"))
    if chromosome is not None:
        annotation["chr"] = chromosome
    return Block(values, tuple(ids), names, annotation, pd.DataFrame(index=ids), scale)


def betas(seed: int = 0, n: int = N) -> tuple[Block, pd.DataFrame]:
    """Betas of women and men: X at a half in women, Y noise in women; four SNP probes by person, two arrays each."""
    rng = np.random.default_rng(seed)
    is_female = (np.arange(n) // 2) % 3 > 0
    profile = rng.beta(0.5, 0.5, P)
    values = np.clip(profile + rng.normal(0, 0.03, (n, P)), 0.001, 0.999)
    where = np.array(["chr1"] * (P - 60) + ["chrX"] * 40 + ["chrY"] * 20, dtype=object)
    values[:, where == "chrX"] = np.where(is_female[:, None], 0.5, 0.2) + rng.normal(0, 0.02, (n, 40))
    values[:, where == "chrY"] = np.where(is_female[:, None], 0.4, 0.8) + rng.normal(0, 0.05, (n, 20))
    features = [f"cg{j}" for j in range(P)]
    genotype = np.repeat(rng.integers(0, 3, (n // 2 + 1, 20)), 2, axis=0)[:n]
    values[:, :20] = np.clip(np.array([0.05, 0.5, 0.95])[genotype] + rng.normal(0, 0.01, (n, 20)), 0, 1)
    features[:20] = [f"rs{j}" for j in range(20)]
    sheet = pd.DataFrame({
        "sex": np.where(is_female, "F", "M"),
        "person_id": [f"p{i // 2}" for i in range(n)],
        "batch": np.arange(n) % 4,
    }, index=[f"s{i}" for i in range(n)])  # fmt: skip
    return block(values, "beta", features, where), sheet


def fitted(data: Block, sheet: pd.DataFrame, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    metrics, sketches = sample_metrics(data, data), sample_sketches(data, data)
    return fit_quality(metrics, sketches["after"], sheet, scale=data.scale, **options), sketches


def test_a_sketch_is_evenly_spaced() -> None:
    assert sketch_index(5).tolist() == [0, 1, 2, 3, 4]
    at = sketch_index(866_091)
    assert len(at) == 2048 and at[0] == 0 and at[-1] >= 866_091 - 424 and set(np.diff(at)) <= {422, 423}
    assert len(sketched(100_000)) == 5000


def test_measures_of_counts() -> None:
    counts = np.array([[0.0, 3.0, 7.0, np.nan], [1.0, 1.0, 0.0, 2.0]])
    after = block(np.log2(counts + 0.5), "expression").with_(context={"norm_factor": np.array([0.9, 1.1])})
    found = sample_metrics(block(counts, "counts"), after)
    assert found["library_size"].tolist() == [10, 4] and found["n_detected"].tolist() == [2, 3]
    assert found["missing_before"].tolist() == [0.25, 0] == found["missing_after"].tolist()
    assert found["median_before"].tolist() == [2, 1] and found["maximum_before"].tolist() == [3, np.log2(3)]
    assert found["median_after"][0] == np.log2(3.5) and found["norm_factor"].tolist() == [0.9, 1.1]
    sketches = sample_sketches(block(counts, "counts"), after)
    np.testing.assert_allclose(sketches["before"][1], np.log2(np.array([1.5, 1.5, 0.5, 2.5]) / 5 * 1e6), rtol=1e-6)


def test_measures_of_betas_and_of_waiting_samples() -> None:
    values = np.array([[0.1, 0.15, 0.5, 0.9], [0.3, 0.3, 0.3, np.nan]])
    data = block(values, "beta")
    found = sample_metrics(data, data.put_off(np.array([False, True]), "pending_batch"))
    assert found["low_share_after"][0] == 0.5 and found["high_share_after"][0] == 0.25
    assert found["median_before"][1] == 0.3
    assert all(np.isnan(value[1]) for name, value in found.items() if name.endswith("_after"))


def test_a_sample_alone_is_measured_and_judged_as_in_the_set() -> None:
    data, sheet = betas()
    quality, _ = fitted(data, sheet, sex_column="sex")
    whole = judge(sample_metrics(data, data, quality), quality, sheet, sex_column="sex")
    for i in (0, 17, N - 1):
        one = block(data.values[i : i + 1], "beta", list(data.feature_ids), data.annotation["chr"].to_numpy())
        alone = judge(sample_metrics(one, one, quality), quality, sheet.iloc[[i]], sex_column="sex")
        pd.testing.assert_frame_equal(alone, whole.iloc[[i]].reset_index(drop=True), rtol=1e-12)


def test_frozen_arrays_have_dimensions() -> None:
    data, sheet = betas()
    quality, _ = fitted(data, sheet)
    assert quality.keys() == QUALITY_DIMS.keys()
    assert all(value.ndim == len(QUALITY_DIMS[name]) for name, value in quality.items())


def test_a_bad_sample_is_told_from_good_ones() -> None:
    data, sheet = betas()
    quality, _ = fitted(data, sheet)
    later, their_sheet = betas(seed=0, n=4)
    values = later.values.copy()
    values[1] = np.random.default_rng(5).uniform(0, 1, P)
    values[2, ::3] = np.nan
    later = later.with_(values=values)
    pending = np.array(["", "", "", "pending_batch"], dtype=object)
    metrics = sample_metrics(later, later.with_(pending=pending), quality)
    table = judge(metrics, quality, their_sheet, pending=pending, reference=["s0"], batch_column="batch")
    assert table["status"].tolist() == ["ok", "ok", "ok", "pending_batch"]
    assert table["in_reference"].tolist() == [True, False, False, False]
    assert table["batch"].tolist() == ["0", "1", "2", "3"]
    assert table["is_outlier"].tolist() == [False, True, True, False]
    assert table["outlier_distance_to_reference"].tolist() == [False, True, False, False]
    assert table["outlier_missing_before"].tolist() == [False, False, True, False]
    assert table["correlation_to_reference"][0] > 0.9 > 0.5 > table["correlation_to_reference"][1]
    assert table["distance_to_reference"][0] < 2 < table["distance_to_reference"][1]
    assert table["n_flags"].dtype == np.int32 and np.isnan(table["distance_to_reference"][3])


def test_equal_samples_are_no_outliers() -> None:
    """After a quantile normalisation all medians agree but for rounding."""
    rng = np.random.default_rng(2)
    values = np.array([rng.permutation(np.linspace(0, 10, P)) for _ in range(30)]) * (1 + 1e-12 * rng.random((30, 1)))
    data = block(values, "expression")
    quality, _ = fitted(data, pd.DataFrame(index=data.sample_ids))
    table = judge(sample_metrics(data, data, quality), quality, data.samples)
    assert not table["outlier_median_after"].any() and not table["outlier_iqr_after"].any()


def test_few_reference_samples_give_no_fences() -> None:
    data, sheet = betas(n=4)
    quality, _ = fitted(data, sheet)
    assert not judge(sample_metrics(data, data, quality), quality, sheet)["is_outlier"].any()


@pytest.mark.parametrize("sex_column", ["sex", None])
def test_sexes_are_read_from_two_clear_groups(sex_column: str | None) -> None:
    data, sheet = betas()
    quality, _ = fitted(data, sheet, sex_column=sex_column)
    claimed = sheet.assign(sex=sheet["sex"].where(sheet.index != "s0", "F")).replace({"sex": {"F": "female"}})
    table = judge(sample_metrics(data, data, quality), quality, claimed, sex_column="sex")
    assert (table["predicted_sex"] == sheet["sex"].map({"F": "female", "M": "male"}).to_numpy()).all()
    assert table.index[table["sex_mismatch"]].tolist() == [0] == table.index[table["is_swapped"]].tolist()


def test_sexes_stay_unsaid_without_clear_groups_or_against_the_sheet() -> None:
    data, sheet = betas()
    contrary = sheet.assign(sex=np.where(np.arange(N) % 2, "F", "M"))
    quality, _ = fitted(data, contrary, sex_column="sex")
    assert np.isnan(quality["sex_centre"]).all()
    table = judge(sample_metrics(data, data, quality), quality, contrary, sex_column="sex")
    assert not table["predicted_sex"].notna().any() and not table["sex_mismatch"].any()
    women = sheet["sex"].to_numpy() == "F"
    only = data.with_(values=data.values[women], sample_ids=tuple(np.array(data.sample_ids)[women]), pending=[])
    quality, _ = fitted(only, sheet[women])
    assert np.isnan(quality["sex_centre"]).all()
    with pytest.raises(SpecError, match="'gender'"):
        fitted(data, sheet, sex_column="gender")


def test_a_swapped_array_differs_from_the_others_of_its_person() -> None:
    data, sheet = betas()
    sheet["person_id"] = [f"p{i // 2}" if i < 6 else f"q{i}" for i in range(N)]
    sheet.loc["s5", "person_id"] = "p0"  # three arrays of p0; the third is another's
    quality, sketches = fitted(data, sheet)
    table = judge(sample_metrics(data, data, quality), quality, sheet, rs_values=sketches["rs_values"])
    assert table["rs_discordance"][[2, 3]].max() == 0 and table["rs_discordance"][5] > 0.3
    assert table["rs_discordance"][0] == table["rs_discordance"][5] / 2
    assert table["rs_discordance"].notna().sum() == 5 and table["is_swapped"][5]


def test_failed_arrays_are_told() -> None:
    rng = np.random.default_rng(6)
    values = rng.beta(0.4, 0.4, (3, 10_000))
    values[1] = rng.normal(0.5, 0.05, 10_000)
    data = block(values, "beta")
    pending = np.array(["", "", "failed_array"], dtype=object)
    metrics = sample_metrics(data, data.with_(pending=pending))
    quality = fit_quality(metrics, sample_sketches(data, data)["after"])
    table = judge(metrics, quality, data.samples, pending=pending)
    assert table["failed_array"].tolist() == [False, True, True] and table["n_flags"].tolist() == [0, 1, 1]


def test_a_profile_of_other_features_is_refused() -> None:
    with pytest.raises(DataError, match="300 features, and this layer gives 20"):
        distances(np.ones((2, 20)), {"profile_mean": np.ones(300), "profile_sd": np.ones(300)})


def test_components_and_shares_before_and_after() -> None:
    rng = np.random.default_rng(4)
    batch, disease = np.arange(60) % 3, np.arange(60) % 2
    signal = disease[:, None] * rng.normal(size=50) * 0.8
    after = (rng.normal(size=(60, 50)) + signal).astype(np.float32)
    before = (after + batch[:, None] * rng.normal(size=50) * 2).astype(np.float32)
    after[7] = np.nan
    sheet = pd.DataFrame(
        {
            "batch": batch,
            "disease": np.where(disease, "case", "control"),
            "age": rng.normal(50, 9, 60),
            "id": range(60),
        },
        index=[f"s{i}" for i in range(60)],
    ).astype({"id": str})
    tables = companion_tables(
        {"before": before, "after": after}, sheet, ["batch", "disease", "age", "id", "none"], groups=["batch"]
    )
    principal = tables["principal"]
    assert principal.columns.tolist() == [
        "sample_id", *(f"{stage}_{i}" for stage in ("before", "after") for i in range(1, 5)),
        "batch", "disease", "age", "id",
    ]  # fmt: skip
    assert len(principal) == 59 and "s7" not in set(principal["sample_id"])
    assert principal["batch"].tolist()[:3] == ["0", "1", "2"] and principal["age"].dtype == np.float64
    shares = tables["factors"].set_index(["factor", "stage"])
    assert set(shares.index.get_level_values(0)) == {"batch", "disease", "age"}
    assert shares.loc[("batch", "before"), "share"] > 0.4 and shares.loc[("batch", "after"), "share"] < 0.06
    assert shares.loc[("disease", "after"), "share"] > shares.loc[("disease", "before"), "share"]
    assert shares.loc[("batch", "before"), "chance"] == 2 / 58 and shares.loc[("age", "before"), "n_levels"] == 0
    assert tables["explained"].groupby("stage")["share"].sum().max() < 1
