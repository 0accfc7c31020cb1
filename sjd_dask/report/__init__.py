"""Figures and HTML pages of results: the only room that imports matplotlib, and only when a figure is drawn."""

from __future__ import annotations

from sjd_dask.report.write import write_report

__all__ = ["write_report"]
