"""The paired timing of consensus clustering in its small form: it runs, and what it compares is right."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from benchmark_files import benchmark


def _has_peer() -> bool:
    if shutil.which("Rscript") is None:
        return False
    asked = ["Rscript", "-e", "quit(status = !requireNamespace('ConsensusClusterPlus', quietly = TRUE))"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def test_small_form(tmp_path: Path) -> None:
    module = benchmark("stratify")
    small = ["--features=300", "--samples=80", "--resamples=20", "--repeat=1", "--algorithms=kmeans", "--without-run"]
    peer = _has_peer()
    (row,) = module.main([str(tmp_path), *small, *([] if peer else ["--without-r"])])
    assert row["k"] == 5 and row["truth"] > 0.9
    (seconds, used), *others = row["times"]["ours"]
    assert not others and seconds > 0 and used > 0
    assert len(row["times"]["R"]) == peer
    if peer:
        assert row["agreement"][3] > 0.9
    table = (tmp_path / "stratify.md").read_text()
    assert table.count("\n| kmeans |") == 1 and f"{seconds:.2f} ({seconds:.2f}-{seconds:.2f})" in table


def test_a_failing_process_is_said() -> None:
    module = benchmark("stratify")
    with pytest.raises(RuntimeError, match="no-such-option"):
        module._timed(["ls", "--no-such-option"])
