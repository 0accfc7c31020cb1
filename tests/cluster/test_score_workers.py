"""A clinical sheet on real workers: the same bits as in one process, and errors that reach the caller."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sjd_dask.errors import DataError
from sjd_dask.jobs.score_sheet import score_sheet
from sjd_dask.jobs.sheet_files import read_table, write_table
from sjd_dask.runtime.cluster import Cluster
from sjd_dask.simulate import Simulation

MEASURES = ["essdai", "acr-eular", "star", "axes"]


def test_workers_give_the_bits_of_one_process(tmp_path: Path, cluster: Cluster) -> None:
    sheet = write_table(Simulation(400, 5, seed=6, repeat_share=0.6).clinical_sheet().reset_index(), tmp_path / "s.csv")
    (tmp_path / "essdai.yaml").write_text("activity: {high: {from: 10}}\n", encoding="utf-8")
    given = {"definitions": {"essdai": tmp_path / "essdai.yaml"}, "options": {"baseline": "visit == 1"}}
    score_sheet(sheet, tmp_path / "one.parquet", measures=MEASURES, **given)
    score_sheet(sheet, tmp_path / "two.parquet", measures=MEASURES, cluster=cluster, partition_rows=40, **given)
    one, two = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    assert one.num_rows > 150 and two.equals(one)
    assert {"high", "low"} <= set(one["essdai_activity"].to_pylist())
    bad = read_table(sheet)
    bad["igg"] = bad["igg"].astype(object)
    bad.loc[7, "igg"] = "much"
    write_table(bad.astype({"igg": str}), tmp_path / "bad.csv")
    with pytest.raises(DataError, match=f"{bad['sample_id'][7]}.*'igg'.*'much'"):
        score_sheet(
            tmp_path / "bad.csv", tmp_path / "o.csv", measures=["laboratory"], cluster=cluster, partition_rows=40
        )
    left = sorted(one.name for one in tmp_path.iterdir())
    assert left == ["bad.csv", "essdai.yaml", "one.parquet", "s.csv", "two.parquet"]
