"""JSON Schemas of job specs and of result tables, made from the code; `schemas/` holds the written form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.jobs.spec import JOBS, spec_model
from sjd_dask.jobs.table_columns import ASSOCIATIONS, TABLES

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
# The protocol of `sjd trial`.
TRIAL = "trial"
# What `sjd score` reads and writes.
SHEET, SCORES, MAPPING = "clinical-sheet", "scores", "clinical-mapping"
# The files that `sjd score --model` takes.
CLUSTERS, MODULES = "cluster-model", "module-reference"


def association_columns() -> dict[str, str]:
    """Column -> type of `associations/NAME`, in the order they are written."""
    return {name: ASSOCIATIONS.columns[name][0] for name in names.ASSOCIATION_COLUMNS}


def schema_names() -> list[str]:
    """Names that :func:`schema_text` knows."""
    return [*JOBS, TRIAL, SHEET, MAPPING, SCORES, CLUSTERS, MODULES, *TABLES]


def schema_text(name: str) -> str:
    """A schema as JSON text.

    Raises
    ------
    SpecError
        If there is no schema of that name.
    """
    if name in JOBS:
        schema: dict[str, Any] = {"$schema": _DRAFT, **spec_model(name).model_json_schema()}
    elif name == TRIAL:
        from sjd_dask.clinical.trials.protocol import Protocol

        schema = {"$schema": _DRAFT, **Protocol.model_json_schema()}
    elif name in (SHEET, SCORES, MAPPING):
        from sjd_dask.jobs import clinical_schema

        makers = {
            SHEET: clinical_schema.sheet_schema,
            SCORES: clinical_schema.scores_schema,
            MAPPING: clinical_schema.mapping_schema,
        }
        schema = {"$schema": _DRAFT, **makers[name]()}
    elif name == CLUSTERS:
        from sjd_dask.clinical.multinomial_file import MultinomialModel

        schema = {"$schema": _DRAFT, **MultinomialModel.model_json_schema()}
    elif name == MODULES:
        from sjd_dask.clinical.module_scores import ModuleReference

        schema = {"$schema": _DRAFT, **ModuleReference.model_json_schema()}
    elif name in TABLES:
        schema = {"$schema": _DRAFT, **TABLES[name].schema(name)}
    else:
        raise SpecError(f"there is no schema {name!r}; there are: {', '.join(schema_names())}")
    return json.dumps(schema, indent=2, ensure_ascii=False)


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema into a folder as NAME.schema.json."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in schema_names():
        path = folder / f"{name}.schema.json"
        path.write_text(schema_text(name) + "\n", encoding="utf-8")
        written.append(path)
    return written
