"""The benchmark of clinical scores in its small form; its row-by-row peer says what the vectorised code says."""

from __future__ import annotations

from pathlib import Path

from benchmark_files import benchmark


def test_small_form(tmp_path: Path) -> None:
    module = benchmark("clinical")
    found = module.main([str(tmp_path), "--visits=600", "--rows=300", "--repeat=1", "--without-workers"])
    assert found["visits"] == 600 and {one["what"] for one in found["peer"]} == set(module.PEER)
    assert [one["differ"] for one in found["peer"]] == [0, 0, 0, 0]
    assert all(one["ratio"] > 1 for one in found["peer"])
    assert (tmp_path / "clinical.md").read_text(encoding="utf-8").count("\n| ") > len(found["alone"])


def test_a_difference_is_counted() -> None:
    module = benchmark("clinical")
    pd = module.pd
    ours = pd.DataFrame({"a": [1.0, float("nan"), 2.0], "b": ["x", None, "y"]})
    assert module._differences(ours, ours.copy()) == 0
    assert module._differences(ours, pd.DataFrame({"a": [1.0, 3.0, 2.0 + 1e-9], "b": ["x", "z", "y"]})) == 3
