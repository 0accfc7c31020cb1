"""SIGKILL while groups are made, Ctrl-C and a second driver: the groups are the undisturbed ones, bit for bit, and only
the missing resamples are computed."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from spine_scene import DaskCluster, Processes, Running, standing_still, wait_for
from strata_scene import StrataScene, make_cohort

from sjd_dask.store.cohort import open_cohort

# What a run goes through, in order.
PHASES = {
    "exact": ("samples", "resamples", "null", "publish"),
    "landmarks": ("take", "resamples", "place", "publish"),
}
LONG = [
    pytest.param(kind, victim, phase, seed, marks=pytest.mark.slow)
    for kind, phases in PHASES.items()
    for victim in ("driver", "worker", "both")
    for phase in phases
    for seed in range(10, 13)
]


@pytest.fixture(scope="module")
def strata_templates(tmp_path_factory: pytest.TempPathFactory, dask_cluster: DaskCluster) -> dict[str, StrataScene]:
    """For each kind a cohort, and what an undisturbed run makes of it."""
    made = {}
    for kind in PHASES:
        folder = tmp_path_factory.mktemp(kind)
        scene = StrataScene(folder, Processes(folder), kind)
        make_cohort(folder, kind)
        scene.write_spec()
        shutil.copytree(scene.cohort, folder / "pristine")
        done = scene.start_run("--cluster", dask_cluster.address).end()
        assert done.code == 0, done.err
        scene.hashes, scene.tasks = scene.table_hashes(), Counter(scene.parts().values())
        assert set(PHASES[kind]) - set(scene.tasks) == {"publish"}
        scene.check_published(done, reused=0)
        assert scene.processes.close() == []
        made[kind] = scene
    return made


@pytest.fixture
def fresh(strata_templates: dict[str, StrataScene], tmp_path: Path) -> Iterator[Callable[[str], StrataScene]]:
    """Makes a fresh copy; afterwards nothing that the test started may be left running."""
    processes = Processes(tmp_path)

    def copy(kind: str) -> StrataScene:
        template = strata_templates[kind]
        shutil.copytree(template.folder / "pristine", tmp_path / "cohort")
        scene = StrataScene(tmp_path, processes, kind, template.hashes, template.tasks)
        scene.write_spec()
        return scene

    yield copy
    left = processes.close()
    assert left == [], f"left running, now killed: {left}"


def kill(scene: StrataScene, run: Running) -> dict[int, str]:
    """SIGKILL of a driver; the parts that its workers leave."""
    run.kill()
    assert run.end().code == -9
    wait_for(lambda: scene.processes.alive() == [], "the workers of the dead driver to end")
    return scene.settled_parts()


Fresh = Callable[[str], StrataScene]


def test_driver_killed_among_the_resamples_and_a_worker_when_resumed(fresh: Fresh) -> None:
    """What was grouped before counts: the second attempt computes the missing parts and no other."""
    groups = fresh("exact")
    run = groups.start_run()
    groups.wait_for_phase("resamples", run, 3)
    there = kill(groups, run)
    assert 3 <= Counter(there.values())["resamples"] < groups.tasks["resamples"]
    groups.check_nothing_visible()
    run = groups.start_resume()
    groups.wait_for_phase("resamples", run, Counter(there.values())["resamples"] + 1)
    assert run.is_running, run.end().err
    groups.processes.kill_child(run, run.workers()[0])
    groups.check_published(run.end(), reused=len(there))
    again = groups.parts(attempt=2)
    assert set(again) & set(there) == set() and set(again) | set(there) == set(range(groups.tasks.total()))


def test_ctrl_c_among_the_draws_without_groups_a_second_driver_and_death_at_publication(
    fresh: Fresh, dask_cluster: DaskCluster
) -> None:
    """Exit code 5 with the remedy; 6 for whoever comes beside a living run; all or nothing at the end."""
    groups = fresh("exact")
    where = ("--cluster", dask_cluster.address)
    run = groups.start_run(*where)
    groups.wait_for_phase("null", run, 2)
    with standing_still(run):
        second = groups.start_resume(*where).end()
    assert second.code == 6 and f"process {run.pid}" in second.err and second.out == "", second.err
    run.signal_group(signal.SIGINT)
    done = run.end()
    assert (done.code, done.out) == (5, ""), done.err
    assert "resume with: sjd resume" in done.err and "Traceback" not in done.err
    groups.check_nothing_visible()
    there = groups.settled_parts()
    assert Counter(there.values())["resamples"] == groups.tasks["resamples"]
    run = groups.start_run(*where)
    groups.wait_for_phase("publish", run)
    run.kill()
    if run.end().code == -9 and not open_cohort(groups.cohort).results():
        groups.check_nothing_visible()
        groups.check_published(groups.start_resume(*where).end(), reused=groups.tasks.total())
    else:
        groups.check_published(groups.start_run(*where).end())


def test_driver_killed_while_samples_are_placed_among_landmarks(fresh: Fresh, dask_cluster: DaskCluster) -> None:
    """Neither the landmarks nor the samples that were placed are computed again."""
    groups, where = fresh("landmarks"), ("--cluster", dask_cluster.address)
    run = groups.start_run(*where)
    groups.wait_for_phase("place", run)
    there = kill(groups, run)
    assert groups.tasks["place"] >= 3 and Counter(there.values())["resamples"] >= groups.tasks["resamples"] // 2
    groups.check_nothing_visible()
    groups.check_published(groups.start_resume(*where).end(), reused=len(there))


@pytest.mark.parametrize(("kind", "victim", "phase", "seed"), LONG)
def test_killed_at_any_moment(
    fresh: Fresh, dask_cluster: DaskCluster, kind: str, victim: str, phase: str, seed: int
) -> None:
    """A worker comes back by itself; a dead driver's run is resumed, or its command given again."""
    groups = fresh(kind)
    run = groups.start_run()
    groups.wait_for_moment(phase, seed, run)
    if victim != "driver" and (workers := run.workers()):
        groups.processes.kill_child(run, *(workers if victim == "both" else workers[:1]))
    if victim == "worker":
        groups.check_published(run.end())
        return
    there = kill(groups, run) if run.is_running else groups.settled_parts()
    if open_cohort(groups.cohort).results():
        assert phase == "publish"
        there = {}
    else:
        groups.check_nothing_visible()
    where = ("--cluster", dask_cluster.address)
    done = (groups.start_resume(*where) if seed % 2 == 0 else groups.start_run(*where)).end()
    groups.check_published(done, reused=len(there) or None)
