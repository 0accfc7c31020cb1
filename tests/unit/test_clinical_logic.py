"""Three-valued logic, texts by pattern, and sums with their intervals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sjd_dask.clinical import threeway as tw
from sjd_dask.clinical.reasons import by_pattern, join_reasons, missing_reason, where_reason
from sjd_dask.clinical.weighted_sum import item_names, strata, weighted_sum
from sjd_dask.errors import SpecError

UNKNOWN = float("nan")


@pytest.mark.parametrize("flags", list(itertools.product([0.0, 1.0, UNKNOWN], repeat=3)))
def test_logic_is_what_every_completion_agrees_on(flags: tuple[float, ...]) -> None:
    completions = [
        [given if given == given else guess for given, guess in zip(flags, guesses, strict=True)]
        for guesses in itertools.product([0.0, 1.0], repeat=3)
    ]
    arrays = [np.array([flag]) for flag in flags]
    for function, plain in ((tw.all_of, all), (tw.any_of, any)):
        answers = {float(plain(one)) for one in completions}
        expected = answers.pop() if len(answers) == 1 else UNKNOWN
        np.testing.assert_array_equal(function(*arrays), [expected])


def test_one_flag_is_itself_and_its_negation_keeps_the_unknown() -> None:
    flag = np.array([0.0, 1.0, UNKNOWN])
    np.testing.assert_array_equal(tw.all_of(flag), flag)
    np.testing.assert_array_equal(tw.any_of(flag), flag)
    np.testing.assert_array_equal(tw.negate(flag), [1, 0, UNKNOWN])


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        (tw.at_least, [0, 1, 1, UNKNOWN]),
        (tw.at_most, [1, 1, 0, UNKNOWN]),
        (tw.below, [1, 0, 0, UNKNOWN]),
        (tw.above, [0, 0, 1, UNKNOWN]),
    ],
)
def test_comparisons_at_the_cut(compare: object, expected: list[float]) -> None:
    np.testing.assert_array_equal(compare(np.array([4.999, 5.0, 5.001, UNKNOWN]), 5.0), expected)  # type: ignore[operator]


def test_rounding_does_not_move_a_value_over_the_cut() -> None:
    off = np.array([0.1 * 3, (0.1 + 0.2 + 0.3) / 3 + 0.1, 1.1 - 0.8])
    assert (off != 0.3).any()
    assert tw.at_least(off, 0.3).all() and tw.at_most(off, 0.3).all()
    assert not tw.below(off, 0.3).any() and not tw.above(off, 0.3).any()


def test_observed_and_attainable_points() -> None:
    first, second = np.array([1, 0, UNKNOWN, UNKNOWN]), np.array([1, UNKNOWN, 0, UNKNOWN])
    observed, attainable = tw.bounds(first, second, weights=[3, 1])
    assert observed.tolist() == [4, 0, 0, 0] and attainable.tolist() == [4, 1, 3, 4]
    with pytest.raises(ValueError, match="weights"):
        tw.bounds(first, weights=[1, 2])


def test_a_text_is_made_once_for_a_pattern() -> None:
    made: list[tuple[int, ...]] = []

    def make(*codes: int) -> str:
        made.append(codes)
        return "-".join(map(str, codes))

    texts = by_pattern([np.array([0, 1, 0, 1]), np.array([5, -1, 5, 7])], make)
    assert texts.tolist() == ["0-5", "1--1", "0-5", "1-7"] and len(made) == 3
    assert by_pattern([np.array([], dtype=int)], make).tolist() == []


def test_missing_items_are_named_in_order_however_many() -> None:
    names = [f"item{i}" for i in range(130)]
    known = np.ones((3, 130), dtype=bool)
    known[1, [0, 55, 56, 63, 129]] = False
    known[2] = False
    reasons = missing_reason(known, names)
    assert reasons[0] == "" and reasons[1] == "missing: item0, item55, item56, item63, item129"
    assert reasons[2] == "missing: " + ", ".join(names)


def test_reasons_are_joined_without_the_empty_ones() -> None:
    first = np.array(["a", "", None, "a"], dtype=object)
    second = where_reason(np.array([True, True, False, False]), "b")
    assert join_reasons(first, second).tolist() == ["a; b", "b", "", "a"]


DEFINITION = {
    "items": {"p": {"weight": 2, "levels": [0, 1, 3]}, "q": {"weight": 0.1, "levels": [1, 2]}},
    "activity": {"high": {"from": 6}, "low": {"from": 0}},
}


def test_a_sum_and_its_interval() -> None:
    result = weighted_sum(np.array([[1, 2], [UNKNOWN, 1], [3, UNKNOWN], [UNKNOWN, UNKNOWN]]), DEFINITION)
    np.testing.assert_array_equal(result["value"], [2.2, UNKNOWN, UNKNOWN, UNKNOWN])
    assert result["min"].tolist() == [2.2, 0.1, 6.1, 0.1] and result["max"].tolist() == [2.2, 6.1, 6.2, 6.2]
    assert result["known"].tolist() == [2, 1, 1, 0] and set(result["items"]) == {2}


def test_what_is_known_about_a_missing_item_narrows_it() -> None:
    levels = np.array([[UNKNOWN, 1], [UNKNOWN, 1], [3, 1]])
    low, high = {"p": np.array([1, 3, 0.0])}, {"p": np.array([3, 3, 0.0])}
    result = weighted_sum(levels, DEFINITION, low=low, high=high)
    assert result["min"].tolist() == [2.1, 6.1, 6.1] and result["max"].tolist() == [6.1, 6.1, 6.1]
    assert result["known"].tolist() == [1, 2, 2]


def test_rows_beyond_one_block_are_summed_like_the_first() -> None:
    levels = np.tile([[1.0, 2.0], [UNKNOWN, 1.0]], (40_000, 1))
    result = weighted_sum(levels, DEFINITION)
    assert set(result["min"][::2]) == {2.2} and set(result["max"][1::2]) == {6.1}


def test_bands_only_where_both_ends_are_in_one() -> None:
    low, high = np.array([0, 5.9, 6, UNKNOWN, -1]), np.array([5.9, 6, 9, 3, 2])
    assert strata(low, high, DEFINITION).tolist() == ["low", None, "high", None, None]


@pytest.mark.parametrize("entry", [{"weight": -1}, {"weight": "2"}, {"weight": UNKNOWN}, {"levels": []}, {"levels": 3}])
def test_a_definition_that_cannot_be_summed_is_refused(entry: dict[str, object]) -> None:
    broken = {"items": {"p": {**DEFINITION["items"]["p"], **entry}}}
    with pytest.raises(SpecError, match="'p'"):
        weighted_sum(np.array([[1.0]]), broken)


def test_items_in_the_definitions_order_whatever_the_asking() -> None:
    assert item_names(DEFINITION, ["q", "p"]) == ["p", "q"] == item_names(DEFINITION)
    with pytest.raises(ValueError, match="2 items"):
        weighted_sum(np.zeros((1, 3)), DEFINITION)
