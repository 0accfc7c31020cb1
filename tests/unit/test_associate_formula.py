"""Formulas, designs, contrasts and queries: what they give, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.designs.design import build_design, check_design, contrast_matrix, query_samples, single_factor
from sjd_dask.errors import DesignError, SpecError


@pytest.fixture
def sheet() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 40
    return pd.DataFrame(
        {
            "disease": np.where(np.arange(n) % 2, "patient", "control"),
            "age": rng.normal(50, 10, n),
            "my col": rng.normal(size=n),
            "grp": np.array(["B01", "B2", "B3", "B3"])[np.arange(n) % 4],
            "plate": np.array(["01", "02"])[np.arange(n) // 20],
        },
        index=pd.Index([f"s{i:02d}" for i in range(n)], name="sample_id"),
    )


@pytest.mark.parametrize(
    ("formula", "columns"),
    [
        ("~ disease + age", ["Intercept", "disease[T.patient]", "age"]),
        ("~ 0 + grp", ["grp[B01]", "grp[B2]", "grp[B3]"]),
        ("~ disease * age", ["Intercept", "disease[T.patient]", "age", "disease[T.patient]:age"]),
        ("~ `my col`", ["Intercept", "my col"]),
        ("~ plate", ["Intercept", "plate[T.02]"]),
        ("~ I(age ** 2)", ["Intercept", "I(age ** 2)"]),
        ("~ 1", ["Intercept"]),
    ],
)
def test_coefficients_are_named_as_formulaic_names_them(sheet: pd.DataFrame, formula: str, columns: list[str]) -> None:
    design = build_design(formula, sheet)
    assert list(design.columns) == columns
    assert design.matrix.shape == (40, len(columns))


def test_reference_level_by_contrast_coding(sheet: pd.DataFrame) -> None:
    design = build_design('~ C(grp, contr.treatment(base="B2"))', sheet)
    assert [name[-7:] for name in design.columns[1:]] == ["[T.B01]", ")[T.B3]"]
    np.testing.assert_array_equal(design.matrix[:, 1], sheet["grp"] == "B01")


@pytest.mark.parametrize(
    "formula", ["~ bs(age, df=4)", "~ cr(age, df=3, constraints='center')", "~ poly(age, degree=2)"]
)
def test_splines_and_polynomials_give_full_rank(sheet: pd.DataFrame, formula: str) -> None:
    check_design(build_design(formula, sheet))


def test_spline_with_its_own_constant_is_refused_with_the_remedy(sheet: pd.DataFrame) -> None:
    with pytest.raises(DesignError, match=r"constraints='center'"):
        check_design(build_design("~ cr(age, df=3)", sheet))


def test_sample_without_a_value_is_left_out_and_counted(sheet: pd.DataFrame) -> None:
    sheet.loc["s03", "age"] = np.nan
    sheet.loc[["s05", "s06"], "disease"] = None
    design = build_design("~ disease + age", sheet)
    assert design.dropped == {"missing disease": 2, "missing age": 1}
    assert not {"s03", "s05", "s06"} & set(design.sample_ids)
    assert len(build_design("~ grp", sheet).sample_ids) == 40


def test_level_that_is_gone_is_left_out_and_said(sheet: pd.DataFrame) -> None:
    sheet.loc[sheet["grp"] == "B2", "age"] = np.nan
    design = build_design("~ grp + age", sheet)
    assert list(design.columns) == ["Intercept", "grp[T.B3]", "age"]
    assert any("grp = B2" in warning for warning in design.warnings)
    with pytest.raises(DesignError, match=r"grp\[T.B2\].*grp\[T.B3\]"):
        contrast_matrix(design, ["grp[T.B2]"])


def test_group_of_one_is_allowed_and_said(sheet: pd.DataFrame) -> None:
    sheet.loc["s00", "grp"] = "alone"
    design = build_design("~ grp", sheet)
    check_design(design)
    assert any("alone" in warning for warning in design.warnings)


def test_one_level_only_is_refused(sheet: pd.DataFrame) -> None:
    with pytest.raises(DesignError, match=r"'disease' has only the level 'control'"):
        build_design("~ disease", sheet[sheet["disease"] == "control"])
    with pytest.raises(DesignError, match="no sample has"):
        build_design("~ age", sheet.assign(age=np.nan))


def test_no_residual_degrees_of_freedom_is_refused(sheet: pd.DataFrame) -> None:
    few = sheet.iloc[[0, 1, 2]]
    with pytest.raises(DesignError, match="3 coefficients for 3 samples"):
        check_design(build_design("~ disease + age", few))


def test_aliased_columns_are_named_with_their_combination(sheet: pd.DataFrame) -> None:
    double = sheet.assign(twice=2 * sheet["age"])
    with pytest.raises(DesignError, match=r"rank 2: twice = \+2 age"):
        check_design(build_design("~ age + twice", double))


def test_unknown_column_names_itself_the_formula_and_what_is_close(sheet: pd.DataFrame) -> None:
    with pytest.raises(SpecError, match=r"`~ diseas \+ age` names the sample column `diseas`.*`disease`"):
        build_design("~ diseas + age", sheet)


REFUSED = [
    "y ~ age",
    "~ age | disease",
    "~ nothing",
    "~ 0",
    "~ age b",
    "~ np.log(age)",
    "~ {__import__('os').system('touch {file}')}",
    "~ {().__class__.__bases__}",
    "~ {age.to_csv('{file}')}",
    "~ {open('{file}', 'w')}",
    "~ {age.values.tofile('{file}')}",
    "~ {9 ** 9 ** 9 * age}",
    "~ {(9 ** 60) ** 60 * age}",
    "~ {age ** age}",
    "~ {[0] * 10 ** 10}",
    "~ {'a' * 10 ** 10}",
    "~ {(lambda: 1)()}",
    "~ {[x for x in age]}",
    "~ {age if 1 else 2}",
    "~ {age[0]}",
    "~ {log(*age)}",
    "~ {bs(age, **{'df': 4})}",
    "~ bs(age, df=100000000)",
    "~ bs(age, 100000000)",
    "~ hashed(grp)",
    "~ eval('1')",
    "~ C(grp, contr.__class__)",
    "~ C(grp, {'a': 1})",
]


@pytest.mark.parametrize("formula", REFUSED)
def test_python_beyond_columns_and_transforms_is_refused(sheet: pd.DataFrame, tmp_path: Path, formula: str) -> None:
    file = tmp_path / "made"
    with pytest.raises(SpecError):
        build_design(formula.replace("{file}", str(file)), sheet)
    assert not file.exists()


def test_contrasts_by_name_by_weight_and_by_default(sheet: pd.DataFrame) -> None:
    design = build_design("~ 0 + grp + age", sheet)
    weights, names = contrast_matrix(design, {"B2vB01": {"grp[B2]": 1, "grp[B01]": -1.0}})
    np.testing.assert_array_equal(weights[:, 0], [-1, 1, 0, 0])
    assert names == ["B2vB01"]
    assert contrast_matrix(build_design("~ grp + age", sheet), None)[1] == ["grp[T.B2]", "grp[T.B3]", "age"]
    assert contrast_matrix(build_design("~ 1", sheet), None)[1] == ["Intercept"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["disease[T.patien]"], "did you mean"),
        ({"zero": {"age": 0}}, "not zero"),
        ({"inf": {"age": float("inf")}}, "finite"),
        ({"text": {"age": "1"}}, "a number is needed"),
        ([], "empty"),
        ("age", "list of names"),
    ],
)
def test_contrasts_that_mean_nothing_are_refused(sheet: pd.DataFrame, wanted: object, said: str) -> None:
    design = build_design("~ disease + age", sheet)
    with pytest.raises(SpecError, match=said):
        contrast_matrix(design, wanted)  # type: ignore[arg-type]


def test_single_factor_gives_codes_in_the_order_of_sorted_levels(sheet: pd.DataFrame) -> None:
    name, codes, levels = single_factor(build_design("~ grp", sheet), sheet)
    assert (name, levels) == ("grp", ["B01", "B2", "B3"])
    np.testing.assert_array_equal(codes[:4], [0, 1, 2, 2])
    with pytest.raises(DesignError, match="one categorical column"):
        single_factor(build_design("~ grp + age", sheet), sheet)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("disease == 'patient'", 20),
        ("disease == 'patient' and grp in ['B2', 'B3']", 20),
        ("(disease == 'patient') & (grp == 'B2')", 10),
        ("not (disease == 'patient')", 20),
        ("sample_id == 's01'", 1),
        ("`my col` < 1e9", 40),
        ("age.notna() and disease.str.startswith('p')", 20),
        ("grp.isin(['B01'])", 10),
    ],
)
def test_queries_keep_the_samples_they_say(sheet: pd.DataFrame, query: str, count: int) -> None:
    assert len(query_samples(sheet, query)) == count


def test_comparison_with_a_missing_value_is_false(sheet: pd.DataFrame) -> None:
    sheet.loc["s01", "age"] = np.nan
    assert "s01" not in query_samples(sheet, "age > -1000").index


@pytest.mark.parametrize(
    "query",
    [
        "@pd",
        "age.__class__",
        "age.to_csv('{file}')",
        "age.values.tofile('{file}')",
        "age.abs().to_csv('{file}')",
        "__import__('os').system('touch {file}')",
        "age[0] > 1",
        "age",
        "nothing > 1",
        "age >",
        "disease > 3",
        "age = 3",
        "[x for x in age]",
    ],
)
def test_queries_that_reach_further_are_refused(sheet: pd.DataFrame, tmp_path: Path, query: str) -> None:
    file = tmp_path / "made"
    with pytest.raises(SpecError):
        query_samples(sheet, query.replace("{file}", str(file)))
    assert not file.exists()
