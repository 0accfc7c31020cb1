"""What explains groups: modules, clinic, shares, stability; each against a plain count or a library."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sjd_dask.clinical import module_lists
from sjd_dask.errors import DataError
from sjd_dask.kernels.gene_modules import module_scores, spread_of
from sjd_dask.stratify import clinic, shares, stability

RNG = np.random.default_rng(5)
N = 240
IDS = [f"S{i:03d}" for i in range(N)]


def people(per_person: int = 1) -> tuple[pd.DataFrame, pd.Series]:
    """Three groups; a marker that tells them, noise, sex, and persons of some samples each."""
    rng = np.random.default_rng(1)
    group = np.repeat(rng.integers(0, 3, N // per_person), per_person)
    frame = pd.DataFrame(
        {
            "marker": group + rng.normal(0, 1.2, N),
            "noise": rng.normal(size=N),
            "sex": rng.choice(["f", "m"], N, p=[0.9, 0.1]),
            "drug": np.where(group + rng.normal(0, 1, N) > 1.5, "yes", "no"),
            "person": [f"P{i // per_person:03d}" for i in range(N)],
            "visit": [str(9 + i % per_person) for i in range(N)],
        },
        index=pd.Index(IDS, name="sample_id"),
    )
    return frame, pd.Series([f"C{one + 1}" for one in group], index=frame.index)


# -- modules ----------------------------------------------------------------------------------------------------------


def test_a_module_score_is_the_mean_of_genes() -> None:
    ids = np.array(["p1", "p2", "p3", "p4", "p5"], dtype=object)
    symbols = np.array(["MX1", "MX1", "IFIT1", None, "OTHER"], dtype=object)
    found = module_lists.match_modules({"m": (("MX1", "IFIT1", "gone"), 1, True)}, ids, symbols)
    assert found.table.iloc[0].tolist() == ["m", 3, 2, 3, "gone"]
    values = RNG.normal(size=(30, 5))
    values[4, 2] = np.nan
    mean, sd, usable = spread_of(values[:, found.features])
    assert usable.all()
    score = module_scores(values[:, found.features], mean, sd, found.weights)[:, 0]
    z = (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0, ddof=1)
    wanted = (z[:, :2].mean(axis=1) + z[:, 2]) / 2
    wanted[4] = z[4, :2].mean()
    np.testing.assert_allclose(score, wanted, rtol=1e-12)


def test_a_score_needs_half_of_its_genes() -> None:
    found = module_lists.match_modules({"m": (("a", "b", "c"), 1, True)}, np.array(["a", "b", "c"], dtype=object), None)
    values = np.array([[1.0, np.nan, np.nan], [1.0, 2.0, np.nan]])
    score = module_scores(values, np.zeros(3), np.ones(3), found.weights)[:, 0]
    assert np.isnan(score[0]) and score[1] == pytest.approx(1.5)


def test_low_methylation_is_high_activity_and_sets_of_genes_stay_out() -> None:
    given = module_lists.modules_of("beta", {"mine": ("MX1", "cg01")})
    ids, symbols = np.array(["cg01", "cg02"], dtype=object), np.array(["MX1", "IFIT1"], dtype=object)
    found = module_lists.match_modules(given, ids, symbols)
    assert found.names == ("interferon (methylation, turned)", "mine")
    score = module_scores(np.array([[2.0, 3.0]]), np.zeros(2), np.ones(2), found.weights)
    assert score.tolist() == [[-3.0, 2.0]]  # the gene MX1 isn't matched by its symbol, the site cg01 is
    assert list(module_lists.modules_of("expression", {})) == [module_lists.TYPE_I, "interferon type II"]


def test_features_at_the_floor_give_no_unit() -> None:
    values = np.column_stack([RNG.normal(size=40), np.r_[np.full(38, 3.32), 8.0, 9.0], np.full(40, 1.0)])
    assert spread_of(values)[2].tolist() == [True, False, False]


def test_gmt() -> None:
    assert module_lists.read_gmt("a\tsomething\tX\tY\tX\n\nb\t\tZ\n", "f") == {"a": ("X", "Y"), "b": ("Z",)}
    for text, words in (
        ("a\tno members\n", "line 1"),
        ("a\tx\tG\na\ty\tG\n", "two sets of the name 'a'"),
        ("", "no gene"),
    ):
        with pytest.raises(DataError, match=words):
            module_lists.read_gmt(text, "f.gmt")


# -- clinic -----------------------------------------------------------------------------------------------------------


def test_each_column_gets_the_test_it_needs() -> None:
    frame, groups = people()
    frame["rare"] = np.where(np.arange(N) < 3, "yes", "no")
    frame["same"] = "x"
    found = clinic.clinical_tests(frame, groups, ["marker", "drug", "rare", "same"]).set_index("column")
    h, p = stats.kruskal(*(frame.loc[groups == one, "marker"] for one in ("C1", "C2", "C3")))
    assert (found.test.tolist(), found.loc["marker", "p_value"]) == (
        ["kruskal", "chi2", "permutation", "none: one value only"], p,
    )  # fmt: skip
    assert found.loc["marker", "effect"] == pytest.approx(h / (N - 1))
    table = pd.crosstab(groups, frame["drug"])
    assert found.loc["drug", "p_value"] == pytest.approx(stats.chi2_contingency(table).pvalue)
    wanted = stats.contingency.association(table.to_numpy(), method="cramer")
    assert found.loc["drug", "effect"] == pytest.approx(wanted)
    exact = stats.fisher_exact(pd.crosstab(groups, frame["rare"]).to_numpy(), method=stats.MonteCarloMethod(rng=0))
    assert found.loc["rare", "p_value"] == pytest.approx(exact.pvalue, abs=0.02)
    assert np.isnan(found.loc["same", "q_value"])
    tested = ["marker", "drug", "rare"]
    wanted = stats.false_discovery_control(found.loc[tested, "p_value"])
    np.testing.assert_allclose(found.loc[tested, "q_value"], wanted)


def test_one_sample_of_a_person_is_tested() -> None:
    frame, groups = people(3)
    frame.loc["S000", "noise"] = np.nan
    found = clinic.clinical_tests(frame, groups, ["noise"], person="person", visit="visit")
    assert found["n"].tolist() == [N // 3]
    # Visits are numbers: 9 comes before 10, whatever their text.
    chosen = clinic.first_of_person(frame, "person", "visit")
    assert set(chosen["visit"]) == {"9"}
    wanted = pd.concat([frame.loc[["S001"]], chosen.drop("S000")])
    h = stats.kruskal(*(part["noise"] for _, part in wanted.groupby(groups.loc[wanted.index]))).statistic
    assert found["statistic"].iloc[0] == pytest.approx(h)


def test_tests_of_columns_that_mean_nothing_keep_their_level() -> None:
    found = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame({"x": rng.choice(["a", "b", "c"], 40, p=[0.8, 0.1, 0.1])}, index=IDS[:40])
        groups = pd.Series(rng.choice(["C1", "C2", "C3"], 40), index=IDS[:40])
        found.append(clinic.clinical_tests(frame, groups, ["x"]).iloc[0])
    p = pd.DataFrame(found).query("test == 'permutation'")["p_value"]
    assert len(p) > 60 and (p <= 0.05).mean() < 0.13


# -- shares -----------------------------------------------------------------------------------------------------------


def problem(columns: list[str], base: list[str], per_person: int = 1) -> shares.ShareProblem:
    frame, groups = people(per_person)
    found = shares.share_problem("x", frame, groups, columns, base, "person", 1)
    assert found is not None
    return found


def test_what_tells_the_groups_explains_them_and_noise_does_not() -> None:
    of_marker, of_noise = (
        shares.share_row(one, shares.share_explained(one, 0, 40))
        for one in (problem(["marker"], []), problem(["noise"], []))
    )
    assert of_marker["share"] > 0.1 > of_marker["chance_95"] and of_marker["p_value"] == pytest.approx(1 / 40)
    assert of_noise["share"] < 0.02
    # What repeats what is known adds nothing.
    frame, groups = people()
    frame["again"] = frame["marker"] * 2 + 1
    again = shares.share_problem("x", frame, groups, ["again"], ["marker"], None, 1)
    assert again is not None and abs(shares.share_explained(again, 0, 1)[0]) < 0.02


def test_blocks_of_rounds_give_the_same_bits_and_order_has_no_say() -> None:
    one = problem(["marker", "drug"], ["noise"])
    whole = shares.share_explained(one, 0, 6)
    np.testing.assert_array_equal(np.concatenate([shares.share_explained(one, i, i + 2) for i in (0, 2, 4)]), whole)
    frame, groups = people()
    order = np.random.default_rng(2).permutation(N)
    other = shares.share_problem("x", frame.iloc[order], groups.iloc[order], ["marker", "drug"], ["noise"], "person", 1)
    assert other is not None
    np.testing.assert_array_equal(shares.share_explained(other, 0, 6), whole)


def test_persons_of_many_samples_do_not_make_noise_significant() -> None:
    """A person's noise is one number for all their samples: rows that were dealt singly would call it an effect."""
    low = 0
    for seed in range(12):
        frame, groups = people(8)
        level = np.random.default_rng(seed).normal(size=N // 8)
        frame["level"] = np.repeat(level, 8)
        one = shares.share_problem("x", frame, groups, ["level"], [], "person", seed)
        assert one is not None
        low += shares.share_row(one, shares.share_explained(one, 0, 20))["p_value"] <= 0.05
    assert low <= 3


def test_too_few_persons_have_no_share() -> None:
    frame, groups = people(24)
    assert shares.share_problem("x", frame, groups, ["marker"], [], "person", 1) is None
    assert shares.share_problem("x", frame.assign(one=1.0), groups, ["one"], [], None, 1) is None


# -- stability --------------------------------------------------------------------------------------------------------


def test_persons_that_stay_are_stable_and_dealt_ones_are_not() -> None:
    frame, groups = people(4)
    stays = stability.agreement_within(groups, frame["person"], rounds=199)
    assert (stays["n_units"], stays["n_pairs"], stays["agreement"]) == (60, 360, 1.0)
    shares_ = groups.value_counts(normalize=True)
    assert stays["chance"] == pytest.approx((shares_**2).sum(), abs=0.02) and stays["p_value"] == 1 / 200
    dealt = pd.Series(np.random.default_rng(3).permutation(groups.to_numpy()), index=groups.index)
    assert stability.agreement_within(dealt, frame["person"], rounds=199)["p_value"] > 0.01
    # All stability is that of being healthy: within the kinds nothing is left.
    healthy = pd.Series(np.where(groups == "C1", "healthy", "other"), index=groups.index)
    two = pd.Series(np.where(groups == "C1", "A", np.where(dealt < "C2", "B", "C")), index=groups.index)
    found = stability.agreement_within(two, frame["person"], healthy, rounds=199)
    assert found["p_value"] < 0.02 < found["p_value_within_kind"]


def test_stability_does_not_hang_on_order() -> None:
    frame, groups = people(3)
    order = np.random.default_rng(4).permutation(N)
    kinds = frame["sex"]
    one = stability.agreement_within(groups, frame["person"], kinds, rounds=49)
    other = stability.agreement_within(groups.iloc[order], frame["person"].iloc[order], kinds, rounds=49)
    assert one == other


def test_moves_follow_visits() -> None:
    groups = pd.Series(["A", "B", "A", "A"], index=["s1", "s2", "s3", "s4"])
    persons = pd.Series(["p", "p", "p", "q"], index=groups.index)
    visits = pd.Series(["10", "9", "11", "1"], index=groups.index)
    found = stability.transitions(groups, persons, visits).set_index(["from", "to"])["n"].to_dict()
    assert found == {("B", "A"): 1, ("A", "A"): 1}
