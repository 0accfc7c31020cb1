"""Criteria say yes, no or unknown; what isn't recorded never decides by itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.clinical.trials.criteria import evaluate, missing_columns, read_criterion
from sjd_dask.errors import SpecError

YES, NO, OPEN = 1.0, 0.0, np.nan
FRAME = pd.DataFrame(
    {
        "essdai": [5.0, 4.0, np.nan, np.nan, np.nan, np.nan],
        "essdai_min": [5.0, 4.0, 5.0, 2.0, 0.0, np.nan],
        "essdai_max": [5.0, 4.0, 9.0, 4.0, 9.0, np.nan],
        "group": ["C1", "C2", None, "undetermined", "C3", "C1"],
        "ssa": [1.0, 0.0, np.nan, 1.0, 0.0, np.nan],
        "visit": ["1", "2", "1", "2", "1", "2"],
        "empty": [None] * 6,
    }
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("essdai >= 5", [YES, NO, YES, NO, OPEN, OPEN]),
        ("essdai > 5", [NO, NO, OPEN, NO, OPEN, OPEN]),
        ("essdai < 5", [NO, YES, NO, YES, OPEN, OPEN]),
        ("essdai <= 4", [NO, YES, NO, YES, OPEN, OPEN]),
        ("5 <= essdai", [YES, NO, YES, NO, OPEN, OPEN]),
        ("4 <= essdai < 10", [YES, YES, YES, OPEN, OPEN, OPEN]),
        ("essdai == 5", [YES, NO, OPEN, NO, OPEN, OPEN]),
        ("essdai != 5", [NO, YES, OPEN, YES, OPEN, OPEN]),
        ("essdai in [4, 5]", [YES, YES, OPEN, OPEN, OPEN, OPEN]),
        ("essdai.between(5, 9)", [YES, NO, YES, NO, OPEN, OPEN]),
        ("essdai - 1 >= 4", [YES, NO, YES, NO, OPEN, OPEN]),
        ("-2 * essdai <= -10", [YES, NO, YES, NO, OPEN, OPEN]),
        ("10 / essdai <= 2", [YES, NO, YES, NO, OPEN, OPEN]),
        ("group == 'C1'", [YES, NO, OPEN, OPEN, NO, YES]),
        ("group not in ['C1', 'C2']", [NO, NO, OPEN, OPEN, YES, NO]),
        ("group == 'undetermined'", [NO, NO, OPEN, YES, NO, NO]),
        ("group.str.startswith('C')", [YES, YES, OPEN, OPEN, YES, YES]),
        ("group.isna()", [NO, NO, YES, NO, NO, NO]),
        ("ssa", [YES, NO, OPEN, YES, NO, OPEN]),
        ("not ssa", [NO, YES, OPEN, NO, YES, OPEN]),
        ("ssa and essdai >= 5", [YES, NO, OPEN, NO, NO, OPEN]),
        ("ssa or essdai >= 5", [YES, NO, YES, YES, OPEN, OPEN]),
        ("(ssa == 1) | (essdai >= 5)", [YES, NO, YES, YES, OPEN, OPEN]),
        ("visit == 1", [YES, NO, YES, NO, YES, NO]),
        ("visit == '1'", [YES, NO, YES, NO, YES, NO]),
        ("empty > 3 or empty == 'x'", [OPEN] * 6),
    ],
)
def test_three_values(query: str, expected: list[float]) -> None:
    np.testing.assert_array_equal(evaluate(query, FRAME), expected)


def test_a_cut_off_is_met_within_rounding() -> None:
    frame = pd.DataFrame({"x": [0.1 + 0.2, 0.3, 0.3 - 1e-6]})
    np.testing.assert_array_equal(evaluate("x <= 0.3", frame), [1, 1, 1])
    np.testing.assert_array_equal(evaluate("x > 0.3", frame), [0, 0, 0])
    np.testing.assert_array_equal(evaluate("x == 0.3", frame), [1, 1, 0])
    np.testing.assert_array_equal(evaluate("`odd name` >= 1", frame.assign(**{"odd name": [1, 0, 2]})), [1, 0, 1])


def test_the_word_class_is_a_column_and_a_text_stays_as_it_is() -> None:
    frame = pd.DataFrame({"class": ["first class", "C1", None], "molecular_class": ["C2", "C1", "C1"]})
    np.testing.assert_array_equal(evaluate("class == 'first class'", frame), [1, 0, np.nan])
    np.testing.assert_array_equal(evaluate("class in ['C1'] or molecular_class == 'C2'", frame), [1, 1, np.nan])
    assert read_criterion("class == 'a' and `class` != \"class\"").columns == ("class",)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("esdai >= 5", "did you mean 'essdai'"),
        ("class == 'C1'", "names the column 'class'"),
        ("group > 5", "text with a number"),
        ("essdai", "0 and 1"),
        ("essdai + group > 1", "which is text"),
        ("__import__('os').system('true')", "not allowed"),
        ("essdai.to_csv('x')", "not allowed"),
        ("essdai >", "can't be read"),
        ("group in 'C1'", "a list"),
        ("essdai + 1", "yes or no"),
    ],
)
def test_what_is_refused(query: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as found:
        evaluate(query, FRAME, "include 'a', when")
    assert "include 'a', when" in str(found.value)


def test_columns_that_are_missing() -> None:
    read = read_criterion("essdai >= 5 and group == 'C1'")
    assert read.columns == ("essdai", "group")
    missing = missing_columns(read, FRAME)
    assert missing["group"].tolist() == [False, False, True, True, False, False]
    assert missing["essdai"].tolist() == [False, False, True, True, True, True]


VALUES = st.sampled_from([0.0, 4.0, 5.0, 6.0, np.nan])
QUERIES = (
    "a >= 5",
    "a + b > 9 and not c",
    "a < b or c",
    "a == b",
    "a in [0, 5]",
    "not (a >= 5 and b < 6)",
    "a - b <= 0",
)


@settings(max_examples=60, deadline=None)
@given(
    query=st.sampled_from(QUERIES),
    rows=st.lists(st.tuples(VALUES, VALUES, st.sampled_from([0.0, 1.0, np.nan])), min_size=1, max_size=6),
    fill=st.tuples(st.sampled_from([0.0, 4.0, 5.0, 6.0]), st.sampled_from([0.0, 5.0]), st.sampled_from([0.0, 1.0])),
)
def test_what_is_decided_stays_so_however_the_rest_is_filled_in(
    query: str, rows: list[tuple[float, float, float]], fill: tuple[float, float, float]
) -> None:
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    before = evaluate(query, frame)
    after = evaluate(query, frame.fillna(dict(zip("abc", fill, strict=True))))
    assert not np.isnan(after).any()
    decided = ~np.isnan(before)
    np.testing.assert_array_equal(before[decided], after[decided])
