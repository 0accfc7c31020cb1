"""Really killing workers, the scheduler and the driver: the result equals the undisturbed one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import runtime_scene as scene
from runtime_block import block_sums, truth

from sjd_dask.errors import Busy, Interrupted, SjdError
from sjd_dask.runtime import budget, execute
from sjd_dask.runtime import cluster as cluster_module
from sjd_dask.runtime.cluster import Cluster, open_cluster
from sjd_dask.runtime.events import PartitionRetried, Recorder, WorkerLost
from sjd_dask.runtime.execute import run_partitions
from sjd_dask.runtime.parts import PartStore
from sjd_dask.runtime.plan import feature_partitions
from sjd_dask.store.cohort import Cohort, create_cohort, open_cohort

TEN = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 11)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with open_cluster(workers=2, memory="1GB") as opened:
        yield opened


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return create_cohort(tmp_path / "cohort")


def check_published(cohort: Cohort) -> None:
    results = cohort.results()
    assert [result.ref for result in results] == ["associations/sums@1"]
    assert cohort.result("associations/sums").table().equals(truth())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", [0, *TEN])
def test_worker_killed(cohort: Cohort, cluster: Cluster, seed: int) -> None:
    recorder = Recorder()
    pids = sorted(cluster.client.run(os.getpid).values())

    def assassin() -> None:
        scene.wait_for_moment(cohort, seed)
        kill(pids[seed % 2])

    thread = threading.Thread(target=assassin)
    thread.start()
    _, report = scene.drive(cohort, cluster, 0.1, recorder)
    thread.join()
    check_published(cohort)
    assert report is not None
    assert report.workers_lost == len(recorder.of(WorkerLost)) == 1
    assert report.n_run == len(scene.PARTITIONS)
    # The nanny puts another in its place, at the latest a little after the run.
    scene.wait_for(lambda: len(cluster.client.nthreads()) == 2, "the new worker")


def test_function_that_kills_its_worker_once(cohort: Cohort, cluster: Cluster, tmp_path: Path) -> None:
    recorder = Recorder()
    _, report = scene.drive(cohort, cluster, 0.05, recorder, deadly={5: str(tmp_path / "mark")})
    check_published(cohort)
    assert report is not None
    assert report.workers_lost == 1
    assert 5 in {event.index for event in recorder.of(PartitionRetried)}
    scene.wait_for(lambda: len(cluster.client.nthreads()) == 2, "the new worker")
    assert set(cluster.client.run(threads).values()) == {"1"}


def threads() -> str | None:
    return os.environ.get("RAYON_NUM_THREADS")


def test_function_that_always_kills_its_worker_is_named(cluster: Cluster, tmp_path: Path) -> None:
    scheduler = cluster.client.cluster.scheduler
    before, scheduler.allowed_failures = scheduler.allowed_failures, 1
    recorder = Recorder()
    parts = PartStore(create_cohort(tmp_path / "c").files, "run", 1)
    try:
        with pytest.raises(
            SjdError, match=r"partition 2 .*was given up: every worker .*a worker may use 1\.0 GB.*memory"
        ) as caught:
            run_partitions(
                cluster, block_sums, {"seed": 1, "seconds": 0.05, "deadly": {2: "always"}},
                feature_partitions(40, 4), parts, on_event=recorder, projected_bytes=10**8,
            )  # fmt: skip
    finally:
        scheduler.allowed_failures = before
    assert "the plan expected 100 MB" in str(caught.value)
    assert {event.index for event in recorder.of(PartitionRetried)} >= {2}
    assert recorder.of(WorkerLost)
    scene.wait_for(lambda: len(cluster.client.nthreads()) == 2, "the new workers")


@pytest.mark.parametrize("seed", [0, *TEN])
def test_driver_killed_then_resumed(cohort: Cohort, cluster: Cluster, seed: int) -> None:
    driver = scene.start_driver(cohort)
    try:
        n_before = scene.wait_for_moment(cohort, seed)
        with pytest.raises(Busy, match="is being worked on by process"):
            scene.drive(cohort, cluster, 0)
    finally:
        driver.kill()
        driver.communicate()
    assert cohort.results() == []
    begin = time.monotonic()
    session, report = scene.drive(cohort, cluster, 0)
    assert time.monotonic() - begin < 15
    assert (session.state, session.attempt, session.epoch) == ("resumed", 2, 2)
    assert report is not None
    assert report.n_reused >= n_before
    check_published(cohort)
    again, nothing = scene.drive(cohort, cluster, 0)
    assert (again.state, again.published, nothing) == ("published", ["associations/sums@1"], None)
    check_published(cohort)


@pytest.mark.parametrize("seed", [0, *TEN])
def test_scheduler_killed_then_resumed(cohort: Cohort, cluster: Cluster, tmp_path: Path, seed: int) -> None:
    remote = scene.SeparateCluster(tmp_path)
    try:
        with open_cluster(remote.address) as opened:

            def assassin() -> None:
                scene.wait_for_moment(cohort, seed)
                remote.scheduler.kill()

            thread = threading.Thread(target=assassin)
            thread.start()
            with pytest.raises(Interrupted, match=r"scheduler is gone.*resume with: sjd resume .*cohort \d"):
                scene.drive(cohort, opened, 0.1)
            thread.join()
            begin = time.monotonic()
        assert time.monotonic() - begin < 25, "closing hung after the scheduler died"
    finally:
        remote.close()
    assert cohort.results() == []
    n_before = scene.n_parts(cohort)
    session, report = scene.drive(cohort, cluster, 0)
    assert session.state == "resumed"
    assert report is not None
    assert (report.n_reused, report.n_run) == (n_before, len(scene.PARTITIONS) - n_before)
    check_published(cohort)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_signal_leaves_a_resumable_run_and_exit_code_5(
    cohort: Cohort, cluster: Cluster, number: signal.Signals
) -> None:
    driver = scene.start_driver(cohort, start_new_session=True)
    scene.wait_for(lambda: scene.n_parts(cohort) >= 3, "parts")
    # As a terminal does it: every process of the group gets the signal.
    if number == signal.SIGINT:
        os.killpg(driver.pid, number)
    else:
        driver.send_signal(number)
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 5, err
    assert out == ""
    (line,) = err.strip().splitlines()
    assert f"{number.name} received: stopped with" in line
    assert f"resume with: sjd resume {cohort.path}" in line
    session, report = scene.drive(open_cohort(cohort.path), cluster, 0)
    assert session.attempt == 2
    assert report is not None
    assert report.n_reused >= 3
    check_published(cohort)


@pytest.mark.slow
def test_second_sigint_ends_at_once(cohort: Cohort, cluster: Cluster) -> None:
    driver = scene.start_driver(cohort, seconds=20)
    scene.wait_for(lambda: any(Path(cohort.path).glob("runs/*/1/plan.json")), "the plan")
    time.sleep(1)
    driver.send_signal(signal.SIGINT)
    time.sleep(0.05)
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=20)
    assert driver.returncode in (-signal.SIGINT, 5)
    scene.drive(cohort, cluster, 0)
    check_published(cohort)


def test_frozen_scheduler_ends_the_run(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(execute, "SILENCE_SECONDS", 2.0)
    monkeypatch.setattr(budget, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(cluster_module, "CLOSE_SECONDS", 2.0)
    remote = scene.SeparateCluster(tmp_path)
    try:
        with open_cluster(remote.address) as opened:

            def freezer() -> None:
                scene.wait_for(lambda: scene.n_parts(cohort) >= 2, "parts")
                remote.scheduler.send_signal(signal.SIGSTOP)

            thread = threading.Thread(target=freezer)
            thread.start()
            begin = time.monotonic()
            with pytest.raises(Interrupted, match=r"has not answered for 2 s.*resume with"):
                scene.drive(cohort, opened, 0.1)
            thread.join()
        assert time.monotonic() - begin < 40
    finally:
        remote.close()


def test_no_workers_left_ends_the_run(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "WORKER_TIMEOUT", 2.0)
    remote = scene.SeparateCluster(tmp_path)
    try:
        with open_cluster(remote.address) as opened:

            def assassin() -> None:
                scene.wait_for(lambda: scene.n_parts(cohort) >= 2, "parts")
                for worker in remote.workers:
                    worker.kill()

            thread = threading.Thread(target=assassin)
            thread.start()
            with pytest.raises(Interrupted, match=r"no worker for 2 s; \d+ of 30 partitions .*resume with"):
                scene.drive(cohort, opened, 0.1)
            thread.join()
    finally:
        remote.close()
