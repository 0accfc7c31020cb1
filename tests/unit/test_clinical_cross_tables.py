"""Cross tables: counts, odds and tests against plain counts and scipy; and nothing small that can be worked out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from sjd_dask.clinical.cross_tables import axes_by_group, cross_table, untold_groups
from sjd_dask.clinical.few_people import hide_small
from sjd_dask.errors import DataError, SpecError


def labels(counts: list[list[int]]) -> tuple[list[str], list[str]]:
    """The rows behind a table of counts."""
    cells = [(f"r{i}", f"c{j}") for i, row in enumerate(counts) for j, n in enumerate(row) for _ in range(n)]
    return [one for one, _ in cells], [other for _, other in cells]


def test_counts_shares_and_odds() -> None:
    found = cross_table(*labels([[30, 10], [20, 40]]))
    assert found.counts.to_numpy().tolist() == [[30, 10], [20, 40]]
    assert found.row_totals.tolist() == [40, 60] and found.column_totals.tolist() == [50, 50]
    cell = found.cells.iloc[0]
    assert (cell["first"], cell["second"], cell["n"]) == ("r0", "c0", 30)
    assert cell["share_of_first"] == 0.75 and cell["share_of_second"] == 0.6
    assert cell["odds_ratio"] == pytest.approx(6.0)
    half = 1.959963984540054 * np.sqrt(1 / 30 + 1 / 10 + 1 / 20 + 1 / 40)
    assert cell["odds_low"] == pytest.approx(6 * np.exp(-half)) and cell["odds_high"] == pytest.approx(6 * np.exp(half))
    assert cell["p_value"] == pytest.approx(stats.fisher_exact([[30, 10], [20, 40]]).pvalue)
    chi2 = 100 * (30 * 40 - 10 * 20) ** 2 / (40 * 60 * 50 * 50)
    assert found.test["test"] == "chi2" and found.test["statistic"] == pytest.approx(chi2)
    assert found.test["cramer_v"] == pytest.approx(np.sqrt(chi2 / 100)) and found.test["df"] == 1


def test_small_expected_counts_take_another_test() -> None:
    two = cross_table(*labels([[8, 1], [1, 7]]), minimum=0)
    assert two.test["test"] == "fisher"
    assert two.test["p_value"] == pytest.approx(stats.fisher_exact([[8, 1], [1, 7]]).pvalue)
    three = [cross_table(*labels([[6, 0, 1], [0, 5, 1]]), minimum=0, key="same").test for _ in range(2)]
    assert three[0]["test"] == "permutation" and three[0] == three[1]
    exact = stats.fisher_exact([[6, 0, 1], [0, 5, 1]]).pvalue
    assert three[0]["p_value"] == pytest.approx(exact, abs=0.01)


def test_a_zero_has_odds_without_an_interval() -> None:
    cells = cross_table(*labels([[9, 0], [6, 8]]), minimum=0).cells
    assert cells["odds_ratio"].tolist() == [np.inf, 0.0, 0.0, np.inf]
    assert cells["odds_low"].isna().all() and (cells["p_value"] < 0.05).all()


def test_one_level_says_nothing() -> None:
    found = cross_table(["a"] * 10 + ["b"] * 10, ["x"] * 20)
    assert found.test["test"] == "none" and np.isnan(found.test["p_value"])
    assert found.cells["odds_ratio"].isna().all() and found.counts.to_numpy().tolist() == [[10], [10]]


def test_ids_join_and_missing_labels_are_counted() -> None:
    one = pd.Series(["a", "a", "b", None, "b", "a"], index=["s1", "s2", "s3", "s4", "s5", "s6"])
    other = pd.Series(["y", "x", "x", "x", None], index=["s5", "s1", "s2", "s4", "s3"])
    found = cross_table(one, other, minimum=0)
    assert found.counts.loc["a", "x"] == 2 and found.counts.loc["b", "y"] == 1
    assert (found.test["n"], found.test["missing_first"], found.test["missing_second"]) == (3, 1, 1)
    turned = cross_table(one.iloc[::-1], other, minimum=0)
    pd.testing.assert_frame_equal(found.cells, turned.cells)


def test_few_people_are_hidden_and_so_is_what_gives_them_away() -> None:
    found = cross_table(*labels([[20, 30], [18, 19], [4, 4]]))
    assert found.counts.loc["r2"].isna().all()
    assert found.counts.isna().sum().tolist() == [2, 2]  # else a column total less its other counts tells
    assert found.row_totals.tolist() == [50, 37, 8] and found.test["hidden"] == 4
    hidden = found.cells[found.cells["hidden"]]
    assert hidden[["n", "share_of_first", "share_of_second", "odds_ratio", "p_value"]].isna().all(axis=None)
    assert found.cells.loc[~found.cells["hidden"], "odds_ratio"].notna().all()
    two = cross_table(*labels([[9, 3], [12, 14]]))
    assert two.counts.isna().all(axis=None) and np.isnan(two.test["p_value"])
    assert cross_table(*labels([[9, 3], [12, 14]]), minimum=0).counts.notna().all(axis=None)
    few = cross_table(["a", "b"], ["x", "y"])
    assert few.counts.isna().sum(axis=None) == 2 and few.test["n"] is None and few.test["missing_first"] == 0


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.integers(0, 12)))
def test_nothing_small_follows_from_a_sum(counts: np.ndarray) -> None:
    whole = np.vstack([np.column_stack([counts, counts.sum(axis=1)]), np.append(counts.sum(axis=0), counts.sum())])
    hidden = hide_small(counts, 5)
    assert hidden[(whole > 0) & (whole < 5)].all()
    for table, veil in ((whole, hidden), (whole.T, hidden.T)):
        for line, own in zip(table, veil, strict=True):
            assert own.sum() != 1
            assert own[-1] or not own.any() or line[own].sum() >= 5
    if not ((whole > 0) & (whole < 5)).any():
        assert not hidden.any()


def test_hidden_counts_have_more_than_one_solution() -> None:
    """By trying: every hidden count of a small table can be another one with the same sums."""
    counts = np.array([[3, 6, 7], [8, 2, 9], [6, 7, 9]])
    hidden = hide_small(counts, 5)
    cells = np.argwhere(hidden[:-1, :-1])
    assert not hidden[-1].any() and not hidden[:, -1].any()
    tried = np.stack(np.meshgrid(*[np.arange(14)] * len(cells), indexing="ij"), axis=-1).reshape(-1, len(cells))
    tables = np.repeat(counts[None], len(tried), axis=0)
    tables[:, cells[:, 0], cells[:, 1]] = tried
    fits = (tables.sum(axis=1) == counts.sum(axis=0)).all(axis=1) & (tables.sum(axis=2) == counts.sum(axis=1)).all(
        axis=1
    )
    assert all(len(set(tried[fits, at])) > 1 for at in range(len(cells)))


@pytest.mark.parametrize(
    "counts",
    [
        [[1, 4, 0, 20], [0, 0, 4, 13], [0, 0, 0, 4]],
        [[4, 0, 0, 0], [25, 4, 1, 1], [17, 4, 0, 0]],
    ],
)
def test_no_small_count_follows_from_all_rows_and_columns_together(counts: list[list[int]]) -> None:
    """Every hidden count of few people is another one in some table that agrees with all that is shown."""
    inner = np.array(counts)
    whole = np.vstack([np.column_stack([inner, inner.sum(axis=1)]), np.append(inner.sum(axis=0), inner.sum())])
    hidden = hide_small(inner, 5)
    places = np.argwhere(hidden)
    assert len(places) <= 12
    # A table that agrees can be reached by steps of one: all steps are tried.
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * len(places), indexing="ij"), axis=-1).reshape(-1, len(places))
    for at in range(2):
        for line in range(whole.shape[at]):
            own = np.flatnonzero(places[:, at] == line)
            is_total = places[own, 1 - at] == whole.shape[1 - at] - 1
            steps = steps[steps[:, own] @ np.where(is_total, -1, 1) == 0]
    steps = steps[(whole[hidden] + steps >= 0).all(axis=1)]
    small = (whole[hidden] > 0) & (whole[hidden] < 5)
    assert small.any() and (steps[:, small] != 0).any(axis=0).all()


def test_tables_side_by_side_hide_the_same_groups() -> None:
    assert untold_groups(["X"] * 3 + ["Y"] * 10 + ["Z"] * 20 + [None], 5) == ("X", "Y")
    assert untold_groups(["X"] * 30 + ["Y"] * 10, 5) == () == untold_groups([None], 5)
    found = cross_table(*labels([[20, 30], [18, 19], [14, 14]]), untold=("r2", "r1"))
    assert found.row_totals.isna().tolist() == [False, True, True]


def test_axes_by_class() -> None:
    axes = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(40)],
            "person_id": [f"p{i}" for i in range(40)],
            "axis1_state": ["active", "inactive"] * 20,
            "axis2_state": [None] * 40,
            "axis3_state": ["low burden"] * 20 + ["amplification"] * 20,
            "dominant": ["systemic", "none dominates"] * 20,
        }
    )
    groups = pd.Series(["C1", "C2"] * 20, index=axes["sample_id"])
    found = axes_by_group(axes, groups)
    assert list(found) == ["axis1_state", "axis3_state", "dominant"]
    assert found["axis1_state"].test["cramer_v"] == pytest.approx(1.0)
    assert found["axis3_state"].test["cramer_v"] == pytest.approx(0.0)
    with pytest.raises(DataError, match=r"person 'p1' has several rows \(1 rows too many"):
        axes_by_group(axes.assign(person_id=[*axes["person_id"][:-1], "p1"]), groups)
    with pytest.raises(SpecError, match="axis9"):
        axes_by_group(axes, groups, columns=["axis9"])


def test_refused() -> None:
    with pytest.raises(DataError, match="none has both labels"):
        cross_table([None, "a"], ["x", None])
    with pytest.raises(SpecError, match="2 and 3 rows"):
        cross_table(["a", "b"], ["x", "y", "z"])
    with pytest.raises(DataError, match="'s' has two labels"):
        cross_table(pd.Series(["a", "b"], index=["s", "s"]), pd.Series(["a"], index=["s"]))
    with pytest.raises(SpecError, match="minimum -1"):
        cross_table(["a"], ["b"], minimum=-1)
