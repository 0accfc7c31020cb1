"""From files to published segments."""

from __future__ import annotations

from sjd_dask.store.ingest.pipeline import ingest
from sjd_dask.store.ingest.report import IngestReport
from sjd_dask.store.ingest.sheets import read_sheet

__all__ = ["IngestReport", "ingest", "read_sheet"]
