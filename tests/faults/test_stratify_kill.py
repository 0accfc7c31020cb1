"""SIGKILL while groups are made, Ctrl-C and a second driver: the groups are the undisturbed ones, bit for bit, and only
the missing resamples are computed."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from spine_scene import DaskCluster, Processes, standing_still, wait_for
from strata_scene import StrataScene, make_cohort

from sjd_dask.store.cohort import open_cohort

# What a run goes through, in order; the spec keys that lead there.
EXACT = ("values", "resamples", "null", "publish")
LONG = [
    pytest.param(victim, phase, seed, marks=pytest.mark.slow)
    for victim in ("driver", "worker", "both")
    for phase in EXACT
    for seed in range(10, 13)
]


@pytest.fixture(scope="module")
def strata_template(tmp_path_factory: pytest.TempPathFactory, dask_cluster: DaskCluster) -> StrataScene:
    """A cohort, and what an undisturbed run makes of it."""
    folder = tmp_path_factory.mktemp("strata")
    scene = StrataScene(folder, Processes(folder))
    make_cohort(folder)
    scene.write_spec()
    shutil.copytree(scene.cohort, folder / "pristine")
    done = scene.start_run("--cluster", dask_cluster.address).end()
    assert done.code == 0, done.err
    scene.hashes, scene.tasks = scene.table_hashes(), Counter(scene.parts().values())
    assert scene.tasks["resamples"] >= 8 and scene.tasks["null"] >= 4
    scene.check_published(done, reused=0)
    assert scene.processes.close() == []
    return scene


@pytest.fixture
def groups(strata_template: StrataScene, tmp_path: Path) -> Iterator[StrataScene]:
    """A fresh copy; afterwards nothing that the test started may be left running."""
    shutil.copytree(strata_template.folder / "pristine", tmp_path / "cohort")
    scene = StrataScene(tmp_path, Processes(tmp_path), strata_template.hashes, strata_template.tasks)
    scene.write_spec()
    yield scene
    left = scene.processes.close()
    assert left == [], f"left running, now killed: {left}"


def kill(scene: StrataScene, run: object) -> dict[int, str]:
    """SIGKILL of a driver; the parts that its workers leave."""
    run.kill()
    assert run.end().code == -9
    wait_for(lambda: scene.processes.alive() == [], "the workers of the dead driver to end")
    return scene.parts()


def test_driver_killed_among_the_resamples_and_a_worker_when_resumed(groups: StrataScene) -> None:
    """What was grouped before counts: the second attempt computes the missing parts and no other."""
    run = groups.start_run()
    groups.wait_for_phase("resamples", run, 3)
    there = kill(groups, run)
    assert 3 <= Counter(there.values())["resamples"] < groups.tasks["resamples"] and "null" not in there.values()
    groups.check_nothing_visible()
    run = groups.start_resume()
    groups.wait_for_phase("resamples", run, Counter(there.values())["resamples"] + 1)
    assert run.is_running, run.end().err
    groups.processes.kill_child(run, run.workers()[0])
    groups.check_published(run.end(), reused=len(there))
    again = groups.parts(attempt=2)
    assert set(again) & set(there) == set() and set(again) | set(there) == set(range(groups.tasks.total()))


def test_ctrl_c_among_the_draws_without_groups_a_second_driver_and_death_at_publication(
    groups: StrataScene, dask_cluster: DaskCluster
) -> None:
    """Exit code 5 with the remedy; 6 for whoever comes beside a living run; all or nothing at the end."""
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
    there = groups.parts()
    assert Counter(there.values())["resamples"] == groups.tasks["resamples"]
    run = groups.start_run(*where)
    groups.wait_for_phase("publish", run)
    run.kill()
    if run.end().code == -9 and not open_cohort(groups.cohort).results():
        groups.check_nothing_visible()
        groups.check_published(groups.start_resume(*where).end(), reused=groups.tasks.total())
    else:
        groups.check_published(groups.start_run(*where).end())


@pytest.mark.parametrize(("victim", "phase", "seed"), LONG)
def test_killed_at_any_moment(
    groups: StrataScene, dask_cluster: DaskCluster, victim: str, phase: str, seed: int
) -> None:
    """A worker comes back by itself; a dead driver's run is resumed, or its command given again."""
    run = groups.start_run()
    groups.wait_for_moment(phase, seed, run)
    if victim != "driver" and (workers := run.workers()):
        groups.processes.kill_child(run, *(workers if victim == "both" else workers[:1]))
    if victim == "worker":
        groups.check_published(run.end())
        return
    there = kill(groups, run) if run.is_running else groups.parts()
    if open_cohort(groups.cohort).results():
        assert phase == "publish"
        there = {}
    else:
        groups.check_nothing_visible()
    where = ("--cluster", dask_cluster.address)
    done = (groups.start_resume(*where) if seed % 2 == 0 else groups.start_run(*where)).end()
    groups.check_published(done, reused=len(there) or None)
