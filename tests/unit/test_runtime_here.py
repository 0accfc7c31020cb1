"""Tasks in the driver's process: parts, resume, retries, errors and stopping as on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sjd_dask.errors import DataError, Interrupted, SjdError
from sjd_dask.runtime.events import PartitionRetried, Recorder
from sjd_dask.runtime.execute import run_partitions
from sjd_dask.runtime.here import Here
from sjd_dask.runtime.parts import PartStore
from sjd_dask.runtime.plan import Partition, feature_partitions
from sjd_dask.store.files import Files

STRIPES = feature_partitions(20, 5)


@pytest.fixture
def parts(tmp_path: Path) -> PartStore:
    return PartStore(Files(tmp_path), "run", 1)


def note(calls: list[int], partition: Partition) -> dict[str, Any]:
    calls.append(partition.index)
    return {"stop": partition.feature_stop}


def test_what_is_there_is_not_computed_again(parts: PartStore) -> None:
    calls: list[int] = []
    run_partitions(Here(), note, calls, STRIPES[:2], parts)  # type: ignore[arg-type]
    later = PartStore(parts.files, "run", 2)
    report = run_partitions(Here(), note, calls, STRIPES, later)  # type: ignore[arg-type]
    assert calls == [0, 1, 2, 3]
    assert (report.n_partitions, report.n_run, report.n_reused) == (4, 2, 2)
    assert report.bytes > 0 and report.peak_rss > 0
    assert [later.read_json(one)["stop"] for one in STRIPES] == [5, 10, 15, 20]


def test_a_function_that_raises_is_called_again(parts: PartStore) -> None:
    calls: list[int] = []

    def shaky(common: list[int], partition: Partition) -> dict[str, Any]:
        common.append(partition.index)
        if common.count(partition.index) < 3:
            raise OSError("a moment's trouble")
        return {}

    recorder = Recorder()
    report = run_partitions(Here(), shaky, calls, STRIPES[:2], parts, on_event=recorder)
    assert calls == [0, 0, 0, 1, 1, 1]
    assert report.retried == 2
    assert len(recorder.of(PartitionRetried)) == 4


def test_errors_name_their_partition(parts: PartStore) -> None:
    def refuse(common: None, partition: Partition) -> dict[str, Any]:
        raise DataError("the values are wrong")

    with pytest.raises(DataError, match=r"features 0 to 4.*the values are wrong"):
        run_partitions(Here(), refuse, None, STRIPES, parts)

    def fail(common: None, partition: Partition) -> dict[str, Any]:
        raise OSError("gone")

    with pytest.raises(SjdError, match=r"failed 2 times: OSError: gone"):
        run_partitions(Here(), fail, None, STRIPES, parts, retries=1)


def test_asked_to_stop(parts: PartStore) -> None:
    calls: list[int] = []
    with pytest.raises(Interrupted, match="enough: stopped with 2 of 4"):
        run_partitions(Here(), note, calls, STRIPES, parts, should_stop=lambda: "enough" if len(calls) == 2 else None)
    assert parts.done(STRIPES) == {0, 1}
