"""Counts of people for a page that names nobody."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sjd_dask.jobs.people_counts import count_answers, count_by_group, count_values


def answers(**counts: int) -> pd.Series:
    return pd.Series([answer for answer, n in counts.items() for _ in range(n)] + [None], dtype=object)


def test_counts_are_told_and_few_are_not() -> None:
    assert count_answers("all", answers(yes=9, no=6), 5).counts == {"yes": 9, "no": 6}
    # One small count alone would follow from the sum: another is hidden beside it.
    hidden = count_answers("all", answers(yes=20, no=9, open=3), 5)
    assert hidden.counts == {"yes": 20, "no": None, "open": None} and hidden.untold == 12
    assert count_answers("all", answers(yes=3), 5).untold is None
    assert count_answers("all", answers(yes=3), 0).counts == {"yes": 3}
    assert count_answers("all", answers(), 5).counts == {}


@pytest.mark.parametrize("seed", range(20))
def test_no_count_of_few_people_follows_from_what_is_told(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = pd.Series(rng.choice(list("abcd"), 60, p=[0.6, 0.25, 0.1, 0.05]))
    groups = pd.Series(rng.choice(["x", "y", "z"], 60, p=[0.7, 0.2, 0.1]))
    for one in [count_answers("all", people, 5), *count_by_group(people, groups, 5)]:
        told = [n for n in one.counts.values() if n is not None]
        hidden = len(one.counts) - len(told)
        assert not any(0 < n < 5 for n in told)
        assert one.untold is None or (one.untold == 0) == (hidden == 0)
        assert one.untold is None or one.untold == 0 or (hidden > 1 and one.untold >= 5)


def test_groups_keep_their_names_and_answers() -> None:
    found = count_by_group(answers(a=12, b=12)[:24], pd.Series(["x", "y"] * 12), 5)
    assert [one.title for one in found] == ["all", "x", "y"]
    assert [one.counts for one in found] == [{"a": 12, "b": 12}, {"a": 6, "b": 6}, {"a": 6, "b": 6}]


@pytest.mark.parametrize("seed", range(10))
def test_groups_and_their_sum_do_not_give_each_other_away(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = pd.Series(rng.choice(list("abc"), 50, p=[0.7, 0.2, 0.1]))
    groups = pd.Series(rng.choice(["x", "y", "z"], 50, p=[0.6, 0.3, 0.1]))
    every, *parts = count_by_group(people, groups, 5)
    for answer in every.counts:
        hidden = [one for one in (every, *parts) if one.counts[answer] is None]
        assert len(hidden) != 1, answer


def test_bins_are_round_hold_everyone_and_hide_few() -> None:
    values = np.r_[np.zeros(7), np.full(8, 5.0), np.full(6, 13.0), 40.0, np.full(9, np.nan)]
    found = count_values(values, 123, 5)
    assert found is not None
    assert found.edges[:3] == [0, 2, 4] and found.edges[-1] > 40
    whole = count_values(values, 123, 0)
    assert whole is not None and sum(n or 0 for n in whole.heights) == 22 == whole.known and whole.unknown == 9
    # The one person at 40 is not told, and not alone in that.
    assert found.heights[20] is None and sum(n is None for n in found.heights) > 1
    assert not any(n is not None and 0 < n < 5 for n in found.heights)
    assert found.quartiles == (0.0, 5.0, 13.0)


def test_a_value_at_the_end_of_the_scale_has_a_bin() -> None:
    found = count_values(np.r_[np.full(6, 10.0), np.full(6, 3.0)], 10, 5)
    assert found is not None and sum(n or 0 for n in found.heights) == 12 and found.edges[-1] > 10


def test_too_few_known_values_make_no_histogram() -> None:
    assert count_values(np.array([1.0, 2.0, np.nan, np.nan, np.nan]), 10, 5) is None
