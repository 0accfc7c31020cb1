"""Fixtures every test room may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of public reference data and R results; tests that need it are skipped, visibly, without it."""
    folder = os.environ.get("SJD_REFERENCE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SJD_REFERENCE_DATA does not name a folder: reference data and R results are not here")
    return Path(folder)
