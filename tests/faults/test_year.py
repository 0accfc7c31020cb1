"""A month of nights with SIGKILL at twenty moments ends as an undisturbed one does; `make year` tells a year."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import year


@pytest.mark.parametrize(("nights", "kills", "seed"), [(30, 20, 1), pytest.param(60, 60, 2, marks=pytest.mark.slow)])
def test_killed_nights_end_as_undisturbed_ones_do(tmp_path: Path, nights: int, kills: int, seed: int) -> None:
    facts = year.year(tmp_path, nights, kills, seed)
    assert facts["kills"] == kills and facts["looked_at_after_a_kill"] > kills // 2
    assert facts["killed_in"].get("night", 0) >= kills // 4 and len(facts["killed_in"]) >= 2
    assert facts["published"] >= nights // 2 and facts["withdrawn"] >= 2 and facts["merged"] >= 1
    assert set(facts["reasons"]) >= {"new_person", "new_visit", "new_data", "withdrawn"}
    assert {"new_model", "threshold"} & set(facts["reasons"])
