"""What is written before it is published: tables of results, and whatever else a result is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sjd_dask.store import tables as table_files
from sjd_dask.store.catalogue.results import ArraysFile, BundleFile, NewResult
from sjd_dask.store.files import Files
from sjd_dask.store.segment import check_name

# Kind, name, tables (or files that are written already) by name, and meta.
ResultItem: TypeAlias = tuple[str, str, Mapping[str, Any], Mapping[str, Any]]


def written(files: Files, items: Sequence[ResultItem]) -> list[NewResult]:
    """Write the tables of results that are about to be published; files that are written already are taken over."""
    new = []
    for kind, name, tables, meta in items:
        check_name(kind, "a kind of result")
        check_name(name, "a result")
        json.dumps(dict(meta))
        stored = {
            key: one if isinstance(one, ArraysFile | BundleFile) else table_files.write_table(files, one)
            for key, one in tables.items()
        }
        new.append(NewResult(kind, name, stored, dict(meta)))
    return new
