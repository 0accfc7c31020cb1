"""Disk full, a read-only folder, damaged files: a clear error, nothing published, nothing lost."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from store_helpers import betas, decoded, put

from sjd_dask.errors import DataError, SjdError
from sjd_dask.store import files as files_module
from sjd_dask.store.cohort import create_cohort, open_cohort
from sjd_dask.store.gc import gc
from sjd_dask.store.verify import verify

SPAWN = multiprocessing.get_context("spawn")
IDS = [f"s{number}" for number in range(20)]


def _limited_put(path: str, limit: int, queue: Any) -> None:
    cohort = open_cohort(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        put(cohort, "meth", IDS, betas(20, 40_000, 0))
    except Exception as error:
        queue.put((type(error).__name__, str(error)))
    else:
        queue.put(("done", ""))


@pytest.mark.parametrize("limit", [2_000, 50_000, 300_000])
def test_a_file_size_limit_refuses_clearly(tmp_path: Path, limit: int) -> None:
    cohort = create_cohort(tmp_path / "c")
    queue = SPAWN.Queue()
    process = SPAWN.Process(target=_limited_put, args=(cohort.path, limit, queue))
    process.start()
    kind, message = queue.get(timeout=60)
    process.join(60)
    assert kind == "SjdError", message
    assert "Remedy" in message or "run the same command again" in message or "cannot be used" in message
    assert cohort.assays() == []
    gc(cohort, grace_hours=0)
    assert not list((tmp_path / "c").glob("segments/*/*"))
    put(cohort, "meth", IDS, betas(20, 40_000, 0))
    verify(cohort)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if done.returncode:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c", data=str(small_disk))
    put(cohort, "meth", IDS[:2], betas(2, 40_000, 0))
    with pytest.raises(SjdError, match=r"disk is full.*|No space left") as caught:
        put(cohort, "meth", IDS[2:], betas(18, 40_000, 1))
    assert str(small_disk) in str(caught.value) and "not published" in str(caught.value)
    assert cohort.assay("meth").n_samples == 2 and len(list(small_disk.glob("segments/meth/*"))) == 2
    big = pa.table({"x": np.random.default_rng(0).random(300_000)})
    with pytest.raises(SjdError, match=r"disk is full") as caught:
        cohort.publish_result("associations", "x", {"table": big}, {})
    assert cohort.results() == [] and not list(small_disk.glob("tables/*"))
    np.testing.assert_allclose(decoded(cohort, "meth"), betas(2, 40_000, 0), atol=8e-6)


def test_a_read_only_disk(small_disk: Path, tmp_path: Path) -> None:
    cohort = create_cohort(small_disk / "c")
    put(cohort, "meth", IDS[:1], betas(1, 100, 0))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(SjdError, match=r"read-only"):
        put(cohort, "meth", IDS[1:2], betas(1, 100, 1))
    with pytest.raises(SjdError, match=r"ead-only file system"):
        create_cohort(small_disk / "d")
    np.testing.assert_allclose(decoded(open_cohort(small_disk / "c"), "meth"), betas(1, 100, 0), atol=8e-6)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    put(cohort, "meth", IDS[1:2], betas(1, 100, 1))


@pytest.mark.parametrize("nth", [0, 1, 2])
def test_any_failed_small_write_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    cohort = create_cohort(tmp_path / "c")
    calls = iter(range(100))
    real = os.fsync

    def fail(handle: int) -> None:
        if next(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(files_module.os, "fsync", fail)
    with pytest.raises(SjdError, match="the disk is full"):
        put(cohort, "meth", IDS, betas(20, 50, 0))
    monkeypatch.undo()
    assert cohort.assays() == [] and not list((tmp_path / "c").glob("**/*.tmp"))
    put(cohort, "meth", IDS, betas(20, 50, 0))
    verify(cohort)


def test_verify_names_every_kind_of_damage(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c")
    done = put(cohort, "meth", IDS, betas(20, 50, 0))
    other = put(cohort, "meth", ["x"], betas(1, 50, 1))
    result = cohort.publish_result("associations", "x", {"table": pa.table({"x": [1.0]})}, {})
    lost = cohort.publish_result("associations", "y", {"table": pa.table({"x": [1.0]})}, {})
    report = verify(cohort)
    assert (report.n_segments, report.n_rows, report.n_tables, report.problems) == (2, 21, 2, [])
    json.dumps(report.to_json())
    base = tmp_path / "c" / "segments" / "meth"
    (base / f"{done.segment_id}.zarr" / "beta/c/0/0").unlink()
    with cohort.catalogue.write() as connection:
        connection.exec_driver_sql("UPDATE rows SET row_hash='0' WHERE sample_id='x'")
    table = Path(result.path)
    table.write_bytes(table.read_bytes() + b"x")
    Path(lost.path).unlink()
    next((tmp_path / "c" / "features").iterdir()).write_bytes(b"no")
    with pytest.raises(DataError, match="5 problems") as caught:
        verify(open_cohort(cohort.path))
    text = str(caught.value)
    assert f"{done.segment_id}: chunk beta/c/0/0 is lost" in text
    assert f"{other.segment_id}: 1 rows changed: 'x'" in text
    assert "associations/x@1, table 'table'" in text and "associations/y@1" in text and "feature table" in text
    assert len(verify(cohort, raise_errors=False).problems) == 5


def test_gc_removes_strangers_after_the_grace_period_only(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c")
    put(cohort, "meth", IDS, betas(20, 50, 0))
    cohort.publish_result("associations", "x", {"table": pa.table({"x": [1.0]})}, {})
    base = tmp_path / "c"
    for name in (
        "segments/meth/zzz.zarr/beta/c/0/0",
        "segments/meth/zzz.manifest.json",
        "tables/q.parquet",
        "features/q.parquet",
    ):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(b"12345")
    report = gc(cohort)
    assert report.items == [] and any("zzz" in one for one in report.kept)
    report = gc(cohort, grace_hours=0)
    assert sorted(item.kind for item in report.items) == ["features", "orphan", "table"] and report.n_bytes == 20
    assert gc(cohort, grace_hours=0).items == []
    verify(cohort)
    json.dumps(report.to_json())
