"""A small cohort, and the moments at which its withdrawal is stopped; as a program, a withdrawal that kills itself."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from sjd_dask.jobs.withdraw import withdraw
from sjd_dask.store.catalogue.session import Catalogue
from sjd_dask.store.cohort import Cohort, create_cohort, open_cohort
from sjd_dask.store.compact import compact
from sjd_dask.store.layout import Layout
from sjd_dask.store.withdraw import results, run, segments

LEAVING = ["PX02", "PX05"]
SAMPLES = ["SX02", "SX05", "SX15"]
# Before the transaction nothing has happened; from `shown` on nobody is seen any more.
BEFORE = ("segment", "table", "transaction")
AFTER = ("shown", "leftovers", "runs", "search", "forgotten", "vacuum", "signed")


def make(folder: Path, catalogue: str | None = None, data: str | None = None) -> Cohort:
    """Twenty samples of ten people in merged and small segments, a result that names them, and a run's log."""
    from store_helpers import betas, put

    cohort = create_cohort(folder, data=data, catalogue=catalogue, layout=Layout(4, 16))
    ids = [f"SX{i:02d}" for i in range(20)]
    sheet = pd.DataFrame({"person_id": [f"PX{i % 10:02d}" for i in range(20)]}, index=pd.Index(ids, name="sample_id"))
    for first in range(0, 20, 5):
        part = ids[first : first + 5]
        put(cohort, "meth", part, betas(5, 30, seed=first), sheet=sheet.loc[part])
        if first == 5:
            compact(cohort, "meth")
    put(cohort, "meth", ["SX05"], betas(1, 30, seed=77), replace=True)
    table = pa.table({"sample_id": ids, "stratum": ["C1", "C2"] * 10})
    cohort.publish_result("strata", "groups", {"table": table}, {"about": "SX05 was odd"})
    cohort.files.write_bytes("runs/r1/1/log.jsonl", b'{"text": "sample SX02"}\n')
    return cohort


@contextlib.contextmanager
def stopped(moment: str, stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at a moment of the withdrawal within the block."""
    places: dict[str, tuple[Any, str, bool]] = {
        "segment": (segments, "write_merge", True),
        "table": (results, "write_table", True),
        "transaction": (run, "publish_withdrawal", True),
        "shown": (run, "remove_segment", False),
        "leftovers": (run, "clean_leftovers", True),
        "runs": (run, "clean_runs", True),
        "search": (run, "find_them", True),
        "forgotten": (run, "_forget", True),
        "vacuum": (Catalogue, "vacuum", True),
        "signed": (run, "sign_off", True),
    }
    owner, name, after = places[moment]
    original = getattr(owner, name)

    def instead(*arguments: Any, **options: Any) -> Any:
        if not after:
            stop()
        made = original(*arguments, **options)
        stop()
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, instead)
        yield


if __name__ == "__main__":
    with stopped(sys.argv[2], lambda: os.kill(os.getpid(), signal.SIGKILL)):
        withdraw(open_cohort(sys.argv[1]), LEAVING)
