"""SIGKILL of a worker, the scheduler and the driver of `sjd run`: what is published is the undisturbed result."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from spine_scene import DaskCluster, Scene, wait_for

TEN = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 11)]


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """A cluster that may be broken."""
    cluster = DaskCluster(tmp_path)
    yield cluster
    cluster.close()


def events(scene: Scene, attempt: int, name: str) -> list[dict[str, object]]:
    (log,) = scene.data.glob(f"runs/*/{attempt}/log.jsonl")
    return [event for line in log.read_text().splitlines() if (event := json.loads(line))["event"] == name]


@pytest.mark.parametrize("seed", [0, *TEN])
def test_worker_killed(scene: Scene, seed: int) -> None:
    """A local worker comes back; the run goes on without a word from anybody. Every third time both are killed."""
    run = scene.start_run()
    scene.wait_for_moment(seed, run)
    victims = run.workers()
    assert len(victims) == 2
    chosen = victims if seed % 3 == 2 else [random.Random(seed).choice(victims)]
    scene.processes.kill_child(run, *chosen)
    done = run.end()
    assert done.code == 0, done.err
    assert done.out == "associations/ewas@1\n"
    assert len(events(scene, 1, "WorkerLost")) == len(chosen)
    scene.check_published(reused=set())


@pytest.mark.parametrize("seed", TEN)
def test_worker_of_a_cluster_killed_and_another_joins(scene: Scene, own_cluster: DaskCluster, seed: int) -> None:
    """Nobody restarts these workers; one that joins later, while none or one is there, takes part."""
    run = scene.start_run("--cluster", own_cluster.address)
    scene.wait_for_moment(seed, run)
    victims = own_cluster.workers if seed % 3 == 2 else own_cluster.workers[:1]
    for victim in victims:
        victim.kill()
    own_cluster.replace_dead()
    done = run.end()
    assert done.code == 0, done.err
    assert len(events(scene, 1, "WorkerLost")) == len(victims)
    scene.check_published(reused=set())


@pytest.mark.parametrize("seed", [0, *TEN])
def test_scheduler_killed(scene: Scene, own_cluster: DaskCluster, dask_cluster: DaskCluster, seed: int) -> None:
    """The driver ends with exit code 5 and says how to go on; the run goes on wherever there are workers."""
    run = scene.start_run("--cluster", own_cluster.address)
    scene.wait_for_moment(seed, run)
    own_cluster.scheduler.kill()
    done = run.end()
    assert done.code == 5, done.err
    assert done.out == ""
    assert "the Dask scheduler is gone" in done.err
    assert f"resume with: sjd resume {scene.cohort} {scene.run_id()}" in done.err
    assert "Traceback" not in done.err
    for worker in own_cluster.workers:
        worker.kill()
    reused = scene.settled_parts()
    assert 0 < len(reused) < scene.n_partitions
    scene.check_nothing_published()
    done = scene.resume(*(("--cluster", dask_cluster.address) if seed % 2 == 0 else ()))
    assert done.code == 0, done.err
    assert done.out == "associations/ewas@1\n"
    scene.check_published(reused)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 16))
def test_scheduler_killed_before_its_parts(scene: Scene, own_cluster: DaskCluster, seed: int) -> None:
    """While the driver connects, plans, or sends the first tasks."""
    run = scene.start_run("--cluster", own_cluster.address)
    scene.wait_for_moment(seed, run, 0, 0)
    own_cluster.scheduler.kill()
    done = run.end()
    assert "Traceback" not in done.err
    for worker in own_cluster.workers:
        worker.kill()
    reused = scene.settled_parts()
    if done.code == 1:
        # It never had a connection: an address that nobody answers at is not an interrupted run.
        assert f"no Dask scheduler answers at {own_cluster.address}" in done.err
        scene.check_nothing_published("failed")
    else:
        assert done.code == 5, done.err
        assert "scheduler" in done.err and "resume with: sjd resume" in done.err
        scene.check_nothing_published()
    done = scene.resume()
    assert done.code == 0, done.err
    scene.check_published(reused)


@pytest.mark.parametrize("seed", [0, *TEN])
def test_driver_killed(scene: Scene, dask_cluster: DaskCluster, seed: int) -> None:
    """Its workers end with it, or with a cluster of its own go on to the end of what they had. Then the run is resumed,
    or the same command is given again."""
    where = () if seed % 2 == 0 else ("--cluster", dask_cluster.address)
    run = scene.start_run(*where)
    scene.wait_for_moment(seed, run)
    run.kill()
    assert run.end().code == -9
    wait_for(lambda: scene.processes.alive() == [], "the workers of the dead driver to end")
    reused = scene.settled_parts()
    assert reused
    scene.check_nothing_published(by_command=seed == 0)
    again = ("--cluster", dask_cluster.address)
    done = scene.resume(*again) if seed % 4 < 2 else scene.start_run(*again).end()
    assert done.code == 0, done.err
    assert done.out == "associations/ewas@1\n"
    scene.check_published(reused, by_command=seed == 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 30))
def test_driver_killed_before_its_parts_or_while_it_publishes(
    scene: Scene, dask_cluster: DaskCluster, seed: int
) -> None:
    """Nothing or all of the result is visible at once, also when the moment is the one of publication."""
    again = ("--cluster", dask_cluster.address)
    run = scene.start_run(*again)
    if seed % 2:
        scene.wait_for_moment(seed, run, 0, 0)
    else:
        scene.wait_for_moment(seed, run, scene.n_partitions, scene.n_partitions)
        time.sleep(random.Random(seed).random())
    run.kill()
    code = run.end().code
    reused = scene.settled_parts()
    info = scene.call("info", scene.cohort, "--json").json()
    if not info["results"]:
        assert code == -9
        scene.check_nothing_published()
    done = scene.resume(*again)
    assert done.code == 0, done.err
    scene.check_published(None if info["results"] else reused)
    # What the killed driver may have left of its table goes.
    assert scene.call("gc", scene.cohort, "--grace", 0).code == 0
    assert len(list(scene.cohort.glob("tables/*"))) == 1
    scene.check_published()
