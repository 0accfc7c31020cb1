"""The command `sjd`."""

from __future__ import annotations

from sjd_dask.cli.app import app, main

__all__ = ["app", "main"]
