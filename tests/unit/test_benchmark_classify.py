"""The benchmark of classification runs, and a sample costs the same whatever the number of samples."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest


def test_small_form(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "classify.py"
    spec = importlib.util.spec_from_file_location("classify_benchmark", path)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TRAINED", 90)
    monkeypatch.setattr(module, "LOOKED_AT", 200)
    rows = module.main(
        [str(tmp_path), "--samples=200,400", "--features=300", "--panel=20", "--repeat=1", "--here"]
    )  # fmt: skip
    assert [row["samples"] for row in rows] == [200, 400]
    # Bytes, not seconds: a sample needs as many of them however many there are.
    assert rows[1]["gigabytes"] == pytest.approx(2 * rows[0]["gigabytes"])
    assert all(row["bare"] > 0 and row["job"] > 0 for row in rows)
    assert "| 400 x 300 |" in (tmp_path / "classify.md").read_text()
