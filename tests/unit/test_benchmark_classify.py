"""The benchmark of classification runs, and a sample costs the same whatever the number of samples."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import benchmark


def test_small_form(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("classify")
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
