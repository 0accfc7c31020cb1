"""The schemas on disk are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from jobs_helpers import bring, make_cohort, write_npz

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.jobs.driver import run_spec
from sjd_dask.jobs.schemas import association_columns, schema_names, schema_text, write_schemas
from sjd_dask.jobs.spec import parse_spec

SCHEMAS = Path(__file__).parents[2] / "schemas"


def test_written_schemas_are_current(tmp_path: Path) -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in write_schemas(tmp_path)}
    stored = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.glob("*.schema.json")}
    assert written == stored, "regenerate them with sjd_dask.jobs.schemas.write_schemas(Path('schemas'))"


def test_columns_are_the_contract() -> None:
    assert tuple(association_columns()) == names.ASSOCIATION_COLUMNS


def test_unknown_schema_is_named() -> None:
    assert "associate" in schema_names()
    with pytest.raises(SpecError, match="nonsense"):
        schema_text("nonsense")


@pytest.fixture(scope="module")
def quality(tmp_path_factory: pytest.TempPathFactory, cluster: Any) -> pa.Table:
    """The quality table of counts with a batch, recorded sex and annotated chromosomes."""
    folder = tmp_path_factory.mktemp("schemas")
    rng = np.random.default_rng(0)
    ids, genes = [f"S{i}" for i in range(24)], [f"g{i}" for i in range(200)]
    matrix = write_npz(folder / "m.npz", rng.poisson(np.exp(rng.normal(4, 1, (24, 200)))).astype(float), ids, genes)
    sheet = pd.DataFrame({"batch": ["a", "b"] * 12, "sex": "F"}, index=pd.Index(ids, name="sample_id"))
    table = folder / "features.csv"
    where = ["X"] * 20 + ["Y"] * 20 + ["1"] * 160
    pd.DataFrame({"feature_id": genes, "chromosome": where}).to_csv(table, index=False)
    bring(make_cohort(folder / "cohort"), "rna", matrix, "counts", samples=sheet, features=table)
    steps = ["filter_by_expr", "tmm", "log_cpm", {"method": "combat", "batch": "batch"}]
    raw = {"job": "normalise", "cohort": "cohort", "assay": "rna", "steps": steps, "sex": "sex", "output": "layer"}
    done = run_spec(parse_spec(raw, "spec"), folder, cluster=cluster, quiet=True)
    return done.cohort.result("qc/layer").table()


def test_a_quality_table_is_as_its_schema_says(quality: pa.Table) -> None:
    schema = json.loads(schema_text("qc"))
    columns = schema["properties"]
    assert set(schema["required"]) <= set(quality.schema.names) <= set(columns)
    assert quality.schema.names == [name for name in columns if name in quality.schema.names]
    for one in quality.schema:
        assert str(one.type).removeprefix("large_") == columns[one.name]["dtype"], one.name


def test_schemas_of_tables_with_columns_of_the_data() -> None:
    (cells,) = json.loads(schema_text("fractions"))["patternProperties"]
    assert re.match(cells, "CD4T") and not re.match(cells, "sample_id")
    (variables,) = json.loads(schema_text("surrogates-table"))["patternProperties"]
    assert re.match(variables, "SV12") and not re.match(variables, "sample_id")
