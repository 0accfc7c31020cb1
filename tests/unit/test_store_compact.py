"""Merged segments hold every row of every view, each once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from store_helpers import put

from sjd_dask.jobs.withdraw import withdraw
from sjd_dask.store.cohort import create_cohort
from sjd_dask.store.compact import compact
from sjd_dask.store.verify import verify


@pytest.mark.parametrize("leaves", [False, True])
def test_rows_that_came_back_by_a_rollback(tmp_path: Path, leaves: bool) -> None:
    cohort = create_cohort(tmp_path / "cohort")
    first = np.arange(12.0).reshape(4, 3) / 100
    put(cohort, "meth", ["a", "b", "c", "d"], first)
    before = cohort.snapshot()
    put(cohort, "meth", ["b"], first[[1]] + 0.5, replace=True)
    corrected = cohort.snapshot()
    # The old row comes back as another record of the same stored row.
    cohort.rollback(corrected)
    put(cohort, "meth", ["b"], first[[1]] + 0.7, replace=True)
    if leaves:
        withdraw(cohort, ["c"])
    else:
        assert compact(cohort)[0].n_after == 1
    stay = ["a", "b", "d"] if leaves else ["a", "b", "c", "d"]
    old, wrong = (cohort.assay("meth", snapshot=one).to_xarray()["beta"] for one in (before, corrected))
    new = cohort.assay("meth").to_xarray()["beta"]
    rows = [["a", "b", "c", "d"].index(one) for one in stay]
    assert np.allclose(old.sel(samples=old["sample_id"].isin(stay)).to_numpy(), first[rows], atol=1e-5)
    for view, shift in ((wrong, 0.5), (new, 0.7)):
        found = {str(one): view.to_numpy()[i] for i, one in enumerate(view["sample_id"].to_numpy())}
        assert sorted(found) == stay
        assert np.allclose(found["b"], first[1] + shift, atol=1e-5) and np.allclose(found["d"], first[3], atol=1e-5)
    verify(cohort)
