"""Frozen designs: later samples are coded as those of the reference, one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import DataError, SpecError
from sjd_dask.normalise.formula import FrozenDesign


@pytest.fixture
def sheet() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "group": draw.choice(["a", "b", "d"], 30),
            "age": draw.normal(50, 9, 30),
            "smokes": draw.random(30) < 0.5,
            "number": draw.integers(0, 3, 30),
        },
        index=pd.Index([f"s{i}" for i in range(30)]),
    )


@pytest.mark.parametrize(
    ("formula", "plain"),
    [
        ("~ group + age + smokes", True),
        ("~ age + number", True),
        ("~ group * age", False),
        ("~ 0 + group", False),
        ("~ C(group) + age", False),
        ("~ log(age)", False),
    ],
)
def test_a_sample_alone_is_coded_as_in_the_reference(sheet: pd.DataFrame, formula: str, plain: bool) -> None:
    frozen, matrix = FrozenDesign.fit(formula, sheet)
    again = FrozenDesign.from_text(frozen.to_text())
    assert again.is_plain is plain
    alone = np.vstack([again.matrix(sheet.iloc[[i]]) for i in range(len(sheet))])
    np.testing.assert_array_equal(alone, matrix)


@pytest.mark.parametrize("formula", ["~ C(number) + group", "~ bs(age, df=4)", "~ center(age)"])
def test_what_learns_from_the_data_is_refused(sheet: pd.DataFrame, formula: str) -> None:
    with pytest.raises(SpecError, match="frozen"):
        FrozenDesign.fit(formula, sheet)


def test_a_strange_level_and_a_missing_value_are_named(sheet: pd.DataFrame) -> None:
    frozen, _ = FrozenDesign.fit("~ group", sheet)
    with pytest.raises(DataError, match="'s0' has group = 'z'"):
        frozen.matrix(sheet.iloc[[0]].assign(group="z"))
    with pytest.raises(DataError, match="'s0' has no 'group'"):
        frozen.matrix(sheet.iloc[[0]].assign(group=None))
