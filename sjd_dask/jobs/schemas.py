"""JSON Schemas of job specs and of result tables, made from the code; `schemas/` holds the written form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.jobs.spec import JOBS, spec_model

_DRAFT = "https://json-schema.org/draft/2020-12/schema"

# Column -> (type, description). The order is names.ASSOCIATION_COLUMNS.
_ASSOCIATIONS: dict[str, tuple[str, str]] = {
    names.FEATURE_ID: ("string", "Feature."),
    names.CONTRAST: (
        "string",
        "Contrast or coefficient; F is the overall test of all contrasts; a group test names its factor.",
    ),
    "effect": (
        "double",
        "Estimate, in units of the tested quantity; group tests: see the job's description; missing for F.",
    ),
    "standard_error": ("double", "Standard error of the effect, from the moderated variance where moderated."),
    "statistic": ("double", "t (moderated where asked), F, or the statistic of the group test."),
    "df": ("double", "Degrees of freedom of the statistic (of the denominator for F), prior ones included."),
    "p_value": ("double", "Two-sided p-value (upper tail for F and chi-square)."),
    "q_value": ("double", "Benjamini-Hochberg within the contrast."),
    "log_odds": (
        "double",
        "B: log-odds of differential signal, natural logarithm; missing without moderation and for F.",
    ),
    "mean": ("double", "Mean of the feature over the samples used, in units of the tested quantity."),
    "sigma": ("double", "Residual standard deviation, before moderation."),
    "n_samples": ("int64", "Samples with a value."),
}


def association_columns() -> dict[str, str]:
    """Column -> type of `associations/NAME`, in the order they are written."""
    return {name: _ASSOCIATIONS[name][0] for name in names.ASSOCIATION_COLUMNS}


def schema_names() -> list[str]:
    """Names that :func:`schema_text` knows."""
    return [*JOBS, names.ASSOCIATIONS]


def schema_text(name: str) -> str:
    """A schema as JSON text.

    Raises
    ------
    SpecError
        If there is no schema of that name.
    """
    if name in JOBS:
        schema: dict[str, Any] = {"$schema": _DRAFT, **spec_model(name).model_json_schema()}
    elif name == names.ASSOCIATIONS:
        schema = {
            "$schema": _DRAFT,
            "title": "associations/NAME",
            "description": "One row per feature and contrast. Floats are written with 17 significant digits in text.",
            "type": "object",
            "properties": {
                column: {
                    "type": "string" if kind == "string" else "integer" if kind == "int64" else ["number", "null"],
                    "dtype": kind,
                    "description": text,
                }
                for column, (kind, text) in ((c, _ASSOCIATIONS[c]) for c in names.ASSOCIATION_COLUMNS)
            },
            "required": list(names.ASSOCIATION_COLUMNS),
            "additionalProperties": False,
        }
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
