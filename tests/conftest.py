"""Fixtures every test room may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of public reference data and R results; tests that need it are skipped, visibly, without it."""
    folder = os.environ.get("SJD_REFERENCE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SJD_REFERENCE_DATA does not name a folder: reference data and R results are not here")
    return Path(folder)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Two worker processes for the whole session; tests that stop or kill workers open their own."""
    from sjd_dask.runtime.cluster import open_cluster

    with open_cluster("local", workers=2) as opened:
        yield opened
