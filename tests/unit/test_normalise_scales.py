"""Methods for concentrations and shares: their numbers, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.composition import close, replace_zeros
from sjd_dask.kernels.principal import chance_share, principal_components, variance_explained
from sjd_dask.kernels.row_summary import summarise_rows
from sjd_dask.normalise.censoring import LimitOfDetection
from sjd_dask.normalise.method import Method
from sjd_dask.normalise.plates import PlateCentre
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.normalise.scales import Arcsinh, CentredLogRatio, Log, Logit, Standardise


def reference(
    values: Any, scale: str, samples: dict[str, list[Any]] | None = None, annotation: dict[str, list[Any]] | None = None
) -> MemoryReference:
    table = np.asarray(values, dtype=float)
    ids, features = [f"s{i}" for i in range(len(table))], [f"f{j}" for j in range(table.shape[1])]
    return MemoryReference(
        table,
        ids,
        features,
        pd.DataFrame(samples or {}, index=pd.Index(ids, name="sample_id")),
        pd.DataFrame(annotation or {}, index=pd.Index(features, name="feature_id")),
        scale=scale,
    )


def run(method: Method, fitted_on: MemoryReference) -> np.ndarray:
    method.check(fitted_on)
    return method.apply(fitted_on.block(), method.fit(fitted_on)).values


def test_logarithms() -> None:
    values = [[1.0, 8.0], [4.0, np.nan], [2.0, 2.0]]
    data = reference(values, "concentration")
    np.testing.assert_array_equal(run(Log(), data), [[0, 3], [2, np.nan], [1, 1]])
    np.testing.assert_allclose(run(Log(base=10, offset=1), data), np.log10(np.array(values) + 1))
    np.testing.assert_allclose(run(Log(base=np.e, offset="half_minimum"), data), np.log(np.add(values, [0.5, 1.0])))


def test_half_the_minimum_is_frozen() -> None:
    data = reference([[1.0, 8.0], [4.0, 6.0]], "concentration")
    parameters = Log(offset="half_minimum").fit(data)
    lower = reference([[0.0, 0.25]], "concentration").block()
    np.testing.assert_allclose(
        Log(offset="half_minimum").apply(lower, parameters).values, np.log2([[0.5, 3.25]]), rtol=1e-15
    )


def test_log_refuses_what_has_none_by_name() -> None:
    data = reference([[1.0, 0.0], [4.0, -1.0]], "concentration")
    with pytest.raises(DataError, match=r"'s0' has 0 at feature 'f1' \(2 such values"):
        run(Log(), data)
    assert np.isnan(run(Log(non_positive="missing"), data)).tolist() == [[False, True], [False, True]]
    with pytest.raises(DataError, match=r"1 features have no positive value .*'f1'"):
        run(Log(offset="half_minimum"), data)
    with pytest.raises(SpecError, match="base"):
        run(Log(base=1), data)
    with pytest.raises(SpecError, match="m_value"):
        run(Log(), reference([[1.0, 2.0]], "m_value"))


def test_values_of_pending_samples_are_ignored() -> None:
    block = reference([[-1.0], [2.0]], "concentration").block().put_off(np.array([True, False]), "pending_batch")
    assert Log().apply(block, {}).values[1, 0] == 1


def test_arcsinh() -> None:
    data = reference([[-5.0, 0.0, 5.0]], "counts")
    np.testing.assert_allclose(run(Arcsinh(), data), [[-np.log(1 + np.sqrt(2)), 0, np.log(1 + np.sqrt(2))]])
    with pytest.raises(SpecError, match="cofactor"):
        run(Arcsinh(cofactor=0), data)


def test_log_odds() -> None:
    data = reference([[0.0, 0.5, 1.0, 0.2, np.nan]], "proportion")
    edge = np.log(0.999 / 0.001)
    np.testing.assert_allclose(run(Logit(), data), [[-edge, 0, edge, np.log(0.25), np.nan]], rtol=1e-13)
    np.testing.assert_allclose(run(Logit(base=2), data), run(Logit(), data) / np.log(2), rtol=1e-14)
    shrunk = 0.025 + 0.95 * np.array([[0.0, 0.5, 1.0, 0.2, np.nan]])  # car::logit(p, adjust = 0.025)
    np.testing.assert_allclose(run(Logit(offset=0.025, rule="shrink"), data), np.log(shrunk / (1 - shrunk)), rtol=1e-13)
    with pytest.raises(DataError, match="'s0' has 50 at feature 'f0'"):
        run(Logit(), reference([[50.0]], "proportion"))
    with pytest.raises(SpecError, match="offset"):
        run(Logit(offset=0.5), data)


def test_log_ratios_keep_the_ratios_of_the_other_parts() -> None:
    values = np.array([[0.2, 0.3, 0.5], [0.0, 0.4, 0.6], [0.5, np.nan, 0.25]])
    data = reference(values, "proportion")
    found = run(CentredLogRatio(zero_replacement=0.01), data)
    np.testing.assert_allclose(found[0], np.log(values[0]) - np.log(values[0]).mean(), rtol=1e-14)
    replaced = np.array([0.01, 0.4 * 0.99, 0.6 * 0.99])
    np.testing.assert_allclose(found[1], np.log(replaced) - np.log(replaced).mean(), rtol=1e-14)
    np.testing.assert_allclose(found[2], [np.log(2) / 2, np.nan, -np.log(2) / 2], rtol=1e-14)
    assert np.nansum(found, axis=1) == pytest.approx([0, 0, 0], abs=1e-14)


def test_log_ratios_don_t_depend_on_the_sum() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(1, size=(5, 6)) * (rng.random((5, 6)) < 0.8)
    one = run(CentredLogRatio(), reference(close(values), "proportion"))
    np.testing.assert_allclose(run(CentredLogRatio(), reference(values * 7, "concentration")), one, rtol=1e-12)


def test_a_zero_becomes_half_the_smallest_reference_share() -> None:
    parameters = CentredLogRatio().fit(reference([[1.0, 3.0], [2.0, 2.0]], "counts"))
    np.testing.assert_allclose(parameters["zero_share"], [0.125, 0.25])
    replaced = replace_zeros(close(np.array([[0.0, 4.0]])), parameters["zero_share"])
    np.testing.assert_allclose(replaced, [[0.125, 0.875]])


def test_log_ratios_refuse_by_name() -> None:
    with pytest.raises(DataError, match="reference sample 's1' has no positive part"):
        run(CentredLogRatio(), reference([[1.0, 3.0], [0.0, 0.0]], "counts"))
    with pytest.raises(DataError, match="'f0'"):
        run(CentredLogRatio(), reference([[0.0, 3.0], [0.0, 1.0]], "counts"))
    fixed = CentredLogRatio(zero_replacement=0.1)
    with pytest.raises(DataError, match="sample 's1' has no positive part"):
        run(fixed, reference([[1.0, 3.0], [0.0, 0.0]], "counts"))
    with pytest.raises(DataError, match="'s0' has -1 at feature 'f0'"):
        run(fixed, reference([[-1.0, 3.0]], "counts"))
    with pytest.raises(DataError, match=r"sum to 0\.9, not to 1"):
        run(CentredLogRatio(sum_to=1.0), reference([[0.5, 0.5], [0.45, 0.45]], "proportion"))
    with pytest.raises(SpecError, match="zero_replacement"):
        run(CentredLogRatio(zero_replacement=0.6), reference([[0.5, 0.5]], "proportion"))


def test_z_scores() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(5, 2, (20, 4))
    values[3, 1] = np.nan
    data = reference(values, "expression")
    expected = (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0, ddof=1)
    np.testing.assert_allclose(run(Standardise(), data), expected, rtol=1e-12)
    middle = np.nanmedian(values, axis=0)
    mad = 1.4826 * np.nanmedian(np.abs(values - middle), axis=0)
    np.testing.assert_allclose(run(Standardise(robust=True), data), (values - middle) / mad, rtol=1e-12)


def test_a_feature_that_does_not_vary_is_named_or_dropped() -> None:
    data = reference([[1.0, 0.1, np.nan], [2.0, 0.1, 3.0], [3.0, 0.1, np.nan]], "expression")
    with pytest.raises(DataError, match=r"2 features don't vary .*'f1', 'f2'"):
        run(Standardise(), data)
    method = Standardise(constant="drop")
    parameters = method.fit(data)
    keep = method.out_features(parameters, data.feature_ids)
    assert keep is not None and keep.tolist() == [True, False, False]
    out = method.apply(data.block(), parameters)
    assert out.feature_ids.tolist() == ["f0"]
    np.testing.assert_allclose(out.values[:, 0], [-1, 0, 1])


PLATES = {"plate": [1, 1, 1, 2, 2, 2], "bridge": ["yes", "no", "yes", "yes", "yes", None]}


def test_plates_meet_at_the_reference_centre() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(6, 3)) + np.repeat([[0.0], [3.0]], 3, axis=0)
    values[0, 0] = np.nan
    data = reference(values, "expression", PLATES)
    found = run(PlateCentre(), data)
    for rows in (slice(0, 3), slice(3, 6)):
        np.testing.assert_allclose(np.nanmedian(found[rows], axis=0), np.nanmedian(values, axis=0), atol=1e-14)
    found = run(PlateCentre(centre="mean", controls="bridge"), data)
    controls = [0, 2, 3, 4]
    expected = values[3:] - values[[3, 4]].mean(axis=0) + np.nanmean(values[controls], axis=0)
    np.testing.assert_allclose(found[3:], expected, atol=1e-14)


def test_a_new_plate_waits() -> None:
    data = reference(np.arange(12.0).reshape(6, 2), "expression", PLATES)
    parameters = PlateCentre().fit(data)
    later = reference(np.ones((3, 2)), "expression", {"plate": [2.0, 7.0, np.nan]}).block()
    out = PlateCentre().apply(later, parameters)
    assert out.pending.tolist() == ["", "pending_batch", "missing_plate"]
    assert np.isfinite(out.values[0]).all() and np.isnan(out.values[1:]).all()


def test_plates_are_refused_by_name() -> None:
    values = np.ones((3, 2))
    with pytest.raises(DataError, match=r"1 plates have fewer than 2 reference samples: b \(1\)"):
        run(PlateCentre(), reference(values, "expression", {"plate": ["a", "a", "b"]}))
    with pytest.raises(DataError, match="1 reference samples have no 'plate': 's1'"):
        run(PlateCentre(), reference(values, "expression", {"plate": ["a", None, "b"]}))
    with pytest.raises(SpecError, match="'plate'"):
        run(PlateCentre(), reference(values, "expression"))
    marks = {"plate": ["a", "a", "b"], "bridge": ["yes", "no", "perhaps"]}
    with pytest.raises(DataError, match="'s2' has 'perhaps'"):
        run(PlateCentre(controls="bridge"), reference(values, "expression", marks))


CONCENTRATIONS = [[0.5, 10.0, 3.0], [2.0, 0.1, np.nan], [4.0, 0.2, 1.0], [0.9, 0.3, 0.1]]
LIMITS = {"lod": [1.0, 1.0, None]}


@pytest.mark.parametrize(("handling", "share"), [("half", 0.5), ("sqrt2", 2**-0.5), ("limit", 1), ("missing", np.nan)])
def test_values_below_the_limit(handling: Any, share: float) -> None:
    data = reference(CONCENTRATIONS, "concentration", annotation=LIMITS)
    expected = np.array(CONCENTRATIONS)
    expected[[0, 3, 1, 2, 3], [0, 0, 1, 1, 1]] = share
    np.testing.assert_allclose(run(LimitOfDetection(handling=handling), data), expected)


def test_shares_below_the_limit_are_counted_and_features_left_out() -> None:
    data = reference(CONCENTRATIONS, "concentration", annotation=LIMITS)
    method = LimitOfDetection(max_share=0.5)
    parameters = method.fit(data)
    assert parameters["reference_share"].tolist() == [0.5, 0.75, 0]
    out = method.apply(data.block(), parameters)
    assert out.feature_ids.tolist() == ["f0", "f2"]
    assert out.context["below_detection_share"].tolist() == [1, 0, 0, 1]
    assert out.scale == "concentration"


def test_blanks_may_mean_below_the_limit() -> None:
    data = reference([[np.nan, np.nan], [2.0, 3.0]], "concentration", annotation={"lod": [1.0, None]})
    found = run(LimitOfDetection(missing_is_below=True, handling="limit"), data)
    np.testing.assert_array_equal(found, [[1, np.nan], [2, 3]])


def test_limits_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lod.tsv"
    path.write_text("feature_id\tlod\nf1\t1\nf0\t1\n")
    data = reference(CONCENTRATIONS, "concentration")
    from_column = run(LimitOfDetection(), reference(CONCENTRATIONS, "concentration", annotation=LIMITS))
    np.testing.assert_array_equal(run(LimitOfDetection(table=str(path)), data), from_column)
    path.write_text("feature_id\tlod\nf1\t1\nf1\t2\n")
    with pytest.raises(DataError, match="'f1' more than once"):
        run(LimitOfDetection(table=str(path)), data)
    path.write_text("feature\tlimit\nf1\t1\n")
    with pytest.raises(DataError, match="'feature_id' or 'lod'"):
        run(LimitOfDetection(table=str(path)), data)
    with pytest.raises(SpecError, match="no file"):
        run(LimitOfDetection(table=str(tmp_path / "none")), data)


def test_limits_are_refused_by_name() -> None:
    with pytest.raises(SpecError, match="'lod' or 'limit_of_detection'"):
        run(LimitOfDetection(), reference(CONCENTRATIONS, "concentration"))
    with pytest.raises(DataError, match="feature 'f1' in 'lod' is -1"):
        run(LimitOfDetection(), reference(CONCENTRATIONS, "concentration", annotation={"lod": [1.0, -1.0, 2.0]}))
    with pytest.raises(DataError, match="none of the 3 features"):
        run(LimitOfDetection(), reference(CONCENTRATIONS, "concentration", annotation={"lod": [None] * 3}))
    with pytest.raises(DataError, match="all 1 features"):
        run(LimitOfDetection(max_share=0.1), reference([[1.0]], "concentration", annotation={"lod": [2.0]}))


def test_summaries_of_rows() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(5, 101))
    values[1, ::3], values[2] = np.nan, np.nan
    found = summarise_rows(values)
    for i in (0, 1, 3, 4):
        known = values[i][~np.isnan(values[i])]
        q1, middle, q3 = np.percentile(known, [25, 50, 75])
        mad = 1.4826 * np.median(np.abs(known - middle))
        expected = [known.min(), q1, middle, q3, known.max(), known.mean(), q3 - q1, mad]
        np.testing.assert_allclose([found[name][i] for name in found], expected, rtol=1e-13)
    assert all(np.isnan(found[name][2]) for name in found)


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
def test_components_are_those_of_the_singular_values(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(4).normal(size=shape)
    centred = values - values.mean(axis=0)
    u, d, _ = np.linalg.svd(centred, full_matrices=False)
    scores, explained = principal_components(values, 3)
    np.testing.assert_allclose(np.abs(scores), np.abs(u * d)[:, :3], rtol=1e-9)
    np.testing.assert_allclose(explained, (d**2 / (d**2).sum())[:3], rtol=1e-10)
    np.testing.assert_allclose(principal_components(-values, 3)[0][:, 0] ** 2, scores[:, 0] ** 2, rtol=1e-9)


def test_components_of_little() -> None:
    scores, explained = principal_components(np.array([[1.0, np.nan], [2.0, np.nan]]), 2)
    np.testing.assert_allclose(np.abs(scores[:, 0]), 0.5)
    assert np.isnan(scores[:, 1]).all() and explained[0] == 1
    assert np.isnan(principal_components(np.ones((3, 2)), 2)[0]).all()


def test_variance_explained_is_r_squared() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat([0, 1, 2], 10)
    values = rng.normal(size=(30, 3)) + groups[:, None] * [0.0, 1.0, 3.0]
    values[4, 1] = np.nan
    within = np.array([
        sum(((g - np.nanmean(g)) ** 2)[~np.isnan(g)].sum() for g in np.split(column, 3)) for column in values.T
    ])  # fmt: skip
    total = np.nansum((values - np.nanmean(values, axis=0)) ** 2, axis=0)
    share, weighted = variance_explained(values, groups)
    assert share == pytest.approx((1 - within / total).mean(), rel=1e-12)
    assert weighted == pytest.approx(1 - within.sum() / total.sum(), rel=1e-12)
    age = rng.normal(size=30)
    full = np.delete(values, 1, axis=1)
    expected = np.mean([np.corrcoef(age, column)[0, 1] ** 2 for column in full.T])
    assert variance_explained(full, age)[0] == pytest.approx(expected, rel=1e-12)
    unknown = np.where(np.arange(30) < 20, groups, -1)
    assert variance_explained(full, unknown)[0] == pytest.approx(variance_explained(full[:20], groups[:20])[0])
    assert np.isnan(variance_explained(np.ones((5, 2)) * 0.1, np.arange(5) % 2)[0])
    assert chance_share(31, 4) == pytest.approx(0.1)
