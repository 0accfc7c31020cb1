"""Optional dependencies that are absent: a clear error that names the extra."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sjd_dask.errors import MissingDependency
from sjd_dask.store.cohort import create_cohort


def test_object_store_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "obstore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingDependency, match=r"sjd-dask\[s3\]"):
        create_cohort(tmp_path / "c", data="s3://bucket/cohort").files.exists("x")


def test_postgresql_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingDependency, match=r"sjd-dask\[postgres\]"):
        create_cohort(tmp_path / "c", catalogue="postgresql://nobody@127.0.0.1:1/none")


@pytest.mark.parametrize(
    ("kind", "package", "extra"), [("slurm", "dask_jobqueue", "slurm"), ("kubernetes", "dask_kubernetes", "kubernetes")]
)
def test_cluster_kinds_name_their_extra(
    kind: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sjd_dask.runtime.cluster import open_cluster

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    source = Path(__file__).parents[2] / "deploy" / f"{kind}.yaml"
    with pytest.raises(MissingDependency, match=rf"sjd-dask\[{extra}\]"), open_cluster(str(source)):
        pass
