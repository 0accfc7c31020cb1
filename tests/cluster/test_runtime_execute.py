"""Partitions on real worker processes: results, retries, resume, stop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sjd_dask.errors import DataError, Interrupted, MissingDependency, SjdError
from sjd_dask.runtime.cluster import Cluster, open_cluster
from sjd_dask.runtime.events import (
    PartInvalid,
    PartitionDone,
    PartitionRetried,
    Recorder,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopping,
)
from sjd_dask.runtime.execute import run_partitions
from sjd_dask.runtime.parts import PartStore
from sjd_dask.runtime.plan import Partition, feature_partitions
from sjd_dask.store.files import Files

N_FEATURES = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with open_cluster(workers=2, memory="1GB") as opened:
        yield opened


@pytest.fixture
def parts(tmp_path: Path) -> PartStore:
    return PartStore(Files(tmp_path), "run", 1)


def stripes(width: int = 5) -> list[Partition]:
    return feature_partitions(N_FEATURES, width)


def sums(common: dict[str, Any], partition: Partition) -> pa.Table:
    """Sums over a block that is generated from the feature numbers; leaves a mark of each call."""
    folder = common.get("marks")
    if folder:
        (Path(folder) / f"{partition.index}-{time.time_ns()}-{os.getpid()}").touch()
    n_calls = len(list(Path(folder).glob(f"{partition.index}-*"))) if folder else 0
    trouble = common.get("trouble", {}).get(partition.index)
    if trouble is not None and n_calls <= trouble[1]:
        raise trouble[0]
    time.sleep(common.get("sleep", 0))
    features = np.arange(partition.feature_start, partition.feature_stop)
    return pa.table({"feature": features, "total": (common["weights"][:, None] * features).sum(axis=0)})


def expected(weights: np.ndarray) -> np.ndarray:
    return (weights[:, None] * np.arange(N_FEATURES)).sum(axis=0)


def total(parts: PartStore, partitions: list[Partition]) -> np.ndarray:
    return pa.concat_tables(list(parts.tables(partitions)))["total"].to_numpy()


def calls(folder: Path) -> dict[int, int]:
    found: dict[int, int] = {}
    for mark in folder.iterdir():
        index = int(mark.name.split("-")[0])
        found[index] = found.get(index, 0) + 1
    return found


def make_common(tmp_path: Path, **more: Any) -> dict[str, Any]:
    marks = tmp_path / "marks"
    marks.mkdir(exist_ok=True)
    return {"weights": np.linspace(0, 1, 7), "marks": str(marks), **more}


def test_all_partitions_once_and_report(cluster: Cluster, parts: PartStore, tmp_path: Path) -> None:
    common, recorder = make_common(tmp_path), Recorder()
    report = run_partitions(cluster, sums, common, stripes(), parts, on_event=recorder)
    assert np.array_equal(total(parts, stripes()), expected(common["weights"]))
    assert calls(tmp_path / "marks") == {index: 1 for index in range(12)}
    assert (report.n_partitions, report.n_run, report.n_reused, report.rows) == (12, 12, 0, N_FEATURES)
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / "runs/run/1/parts").iterdir())
    assert 30e6 < report.peak_rss < 1e9
    assert isinstance(recorder.events[0], RunStarted)
    assert isinstance(recorder.events[-1], RunFinished)
    assert [event.n_done for event in recorder.of(PartitionDone)] == list(range(1, 13))


def test_second_call_reuses_everything(cluster: Cluster, parts: PartStore, tmp_path: Path) -> None:
    common = make_common(tmp_path)
    run_partitions(cluster, sums, common, stripes(), parts)
    again = run_partitions(cluster, sums, common, stripes(), PartStore(parts.files, "run", 2))
    assert (again.n_run, again.n_reused) == (0, 12)
    assert sum(calls(tmp_path / "marks").values()) == 12


def test_torn_part_is_computed_again(cluster: Cluster, parts: PartStore, tmp_path: Path) -> None:
    common, recorder = make_common(tmp_path), Recorder()
    run_partitions(cluster, sums, common, stripes(), parts)
    torn = tmp_path / parts.path(4)
    torn.write_bytes(torn.read_bytes()[:100])
    later = PartStore(parts.files, "run", 2)
    report = run_partitions(cluster, sums, common, stripes(), later, on_event=recorder)
    assert (report.n_run, report.n_reused) == (1, 11)
    assert [event.index for event in recorder.of(PartInvalid)] == [4]
    assert np.array_equal(total(later, stripes()), expected(common["weights"]))


class Counted:
    """Counts in a folder how often it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        (self.folder / f"{os.getpid()}-{time.time_ns()}").touch()


def nothing(common: object, partition: Partition) -> dict[str, int]:
    return {"index": partition.index}


def test_common_data_reaches_each_worker_once(cluster: Cluster, parts: PartStore, tmp_path: Path) -> None:
    folder = tmp_path / "unpickled"
    folder.mkdir()
    run_partitions(cluster, nothing, Counted(folder), stripes(1), parts)
    pids = [mark.name.split("-")[0] for mark in folder.iterdir() if mark.name.split("-")[0] != str(os.getpid())]
    assert len(pids) == len(set(pids)) == 2
    assert parts.read_json(Partition(7, 7, 8)) == {"index": 7}


def test_window_is_kept(cluster: Cluster, parts: PartStore, tmp_path: Path) -> None:
    seen: list[int] = []

    def look() -> None:
        # One that ended stays in the client's list until its loop has let go of it.
        seen.append(sum(state.status == "pending" for state in list(cluster.client.futures.values())))

    run_partitions(cluster, sums, make_common(tmp_path, sleep=0.01), stripes(1), parts, window=4, should_stop=look)
    assert 1 <= max(seen) <= 4


def test_failing_twice_is_retried_and_told(cluster: Cluster, parts: PartStore, tmp_path: Path) -> None:
    common, recorder = make_common(tmp_path, trouble={3: (OSError("flaky"), 2)}), Recorder()
    report = run_partitions(cluster, sums, common, stripes(), parts, on_event=recorder)
    assert np.array_equal(total(parts, stripes()), expected(common["weights"]))
    assert calls(tmp_path / "marks")[3] == 3
    assert report.retried == 1
    told = recorder.of(PartitionRetried)
    assert [event.index for event in told] == [3, 3]
    assert "OSError: flaky" in told[0].reason


def test_failing_always_names_the_partition_and_keeps_the_rest(
    cluster: Cluster, parts: PartStore, tmp_path: Path
) -> None:
    common = make_common(tmp_path, trouble={3: (ZeroDivisionError("no"), 99)})
    recorder = Recorder()
    with pytest.raises(
        SjdError, match=r"partition 3 \(features 15 to 19\) failed 2 times: ZeroDivisionError: no"
    ) as caught:
        run_partitions(cluster, sums, common, stripes(), parts, retries=1, on_event=recorder)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert calls(tmp_path / "marks")[3] == 2
    assert isinstance(recorder.events[-1], RunFailed)
    kept = parts.done(stripes())
    assert 3 not in kept
    healed = make_common(tmp_path)
    report = run_partitions(cluster, sums, healed, stripes(), PartStore(parts.files, "run", 2))
    assert report.n_reused >= len(kept) > 0
    assert report.n_run + report.n_reused == 12


@pytest.mark.parametrize(
    "error", [DataError("chunk 7 is gone"), MissingDependency("zarrs", "fast", "reading")], ids=["data", "dependency"]
)
def test_errors_raised_on_purpose_keep_their_type_and_are_not_retried(
    cluster: Cluster, parts: PartStore, tmp_path: Path, error: SjdError
) -> None:
    common = make_common(tmp_path, trouble={2: (error, 99)})
    with pytest.raises(type(error)) as caught:
        run_partitions(cluster, sums, common, stripes(), parts)
    assert str(caught.value) == f"partition 2 (features 10 to 14): {error}"
    assert calls(tmp_path / "marks")[2] == 1


def test_stop_leaves_a_resumable_run(cluster: Cluster, parts: PartStore, tmp_path: Path) -> None:
    common, recorder = make_common(tmp_path, sleep=0.1), Recorder()
    with pytest.raises(Interrupted, match=r"enough: stopped with [1-9]\d* of 60 partitions done"):
        run_partitions(
            cluster, sums, common, stripes(1), parts,
            on_event=recorder, should_stop=lambda: "enough" if len(recorder.of(PartitionDone)) > 3 else None,
        )  # fmt: skip
    assert recorder.of(RunStopping)
    later = PartStore(parts.files, "run", 2)
    n_kept = len(later.done(stripes(1)))
    assert 4 <= n_kept < 30
    report = run_partitions(cluster, sums, make_common(tmp_path), stripes(1), later)
    assert report.n_run <= 60 - n_kept
    assert np.array_equal(total(later, stripes(1)), expected(common["weights"]))


def test_disk_that_refuses_is_a_clear_error(cluster: Cluster, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(SjdError, match=r"partition 0 .*cannot write .*nothing was written"):
        run_partitions(cluster, nothing, None, [Partition(0, 0, 1)], PartStore(Files(blocked), "run", 1))


def test_two_partitions_of_one_index_are_refused(cluster: Cluster, parts: PartStore) -> None:
    with pytest.raises(ValueError, match="same index"):
        run_partitions(cluster, nothing, None, [Partition(0, 0, 1), Partition(0, 1, 2)], parts)


def test_workers_forget_the_common_data_afterwards(cluster: Cluster) -> None:
    def kept() -> int:
        from sjd_dask.runtime import task

        return len(task._WORK)

    assert set(cluster.client.run(kept).values()) == {0}
