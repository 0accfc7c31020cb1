"""Names of coefficients in lists and maps of YAML, as formulas write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sjd_dask.jobs.spec import read_spec
from sjd_dask.jobs.yaml_text import load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[disease[T.patient]]  # and sex[T.m]", ["disease[T.patient]"]),
        ("[disease[T.patient], age:sex[T.m], sex[T.m]:age]", ["disease[T.patient]", "age:sex[T.m]", "sex[T.m]:age"]),
        ("[a[T.b]:c[T.d e], \"x[T.y]\", 'x[T.y]']", ["a[T.b]:c[T.d e]", "x[T.y]", "x[T.y]"]),
        ("[C(disease)[T.Sjögren]]", ["C(disease)[T.Sjögren]"]),
        ("{both: {disease[T.patient]: 1, sex[T.m]: -0.5}}", {"both": {"disease[T.patient]": 1, "sex[T.m]": -0.5}}),
        ("- disease[T.patient]\n- age\n", ["disease[T.patient]", "age"]),
    ],
)
def test_coefficients_need_no_quotes(text: str, value: Any) -> None:
    assert load_yaml(text) == value


@pytest.mark.parametrize("text", ["[a[b]]", "[disease[T.patient], [", "a: 'x disease[T.patient]\nb: ["])
def test_what_is_wrong_otherwise_is_told_as_it_stands(text: str) -> None:
    with pytest.raises(yaml.YAMLError) as found:
        load_yaml(text)
    with pytest.raises(yaml.YAMLError) as plain:
        yaml.safe_load(text)
    assert str(found.value) == str(plain.value)


def test_specs_and_overrides_take_them(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    lines = [
        "job: associate",
        "cohort: c",
        "assay: a",
        "design: '~ disease'",
        "contrasts: [disease[T.patient]]",
        "output: o",
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert read_spec(file)[0].model_dump()["contrasts"] == ["disease[T.patient]"]
    spec, _ = read_spec(file, ["contrasts={a: {sex[T.m]: 2}}"])
    assert spec.model_dump()["contrasts"] == {"a": {"sex[T.m]": 2.0}}
