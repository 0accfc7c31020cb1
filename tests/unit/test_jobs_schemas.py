"""The schemas on disk are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.jobs.schemas import association_columns, schema_names, schema_text, write_schemas

SCHEMAS = Path(__file__).parents[2] / "schemas"


def test_written_schemas_are_current(tmp_path: Path) -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in write_schemas(tmp_path)}
    stored = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.glob("*.schema.json")}
    assert written == stored, (
        "regenerate them with sjd_dask.jobs.schemas.write_schemas(Path('schemas'))"
    )


def test_columns_are_the_contract() -> None:
    assert tuple(association_columns()) == names.ASSOCIATION_COLUMNS


def test_unknown_schema_is_named() -> None:
    assert "associate" in schema_names()
    with pytest.raises(SpecError, match="nonsense"):
        schema_text("nonsense")
