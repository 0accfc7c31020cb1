"""SIGKILL while a model is trained: resumed, it is the undisturbed one, bit for bit; only what is missing is made."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import classify_scene as scene
import pytest
from spine_scene import DaskCluster, Ended, Processes, Running, wait_for
from strata_scene import phase_of

from sjd_dask.jobs import bundle
from sjd_dask.runtime.detached import status
from sjd_dask.runtime.here import Here
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.verify import verify

RESULT = "models/classes@1"
# Normalised copies of two folds, the features looked at, the fits: what a run goes through, in order.
PHASES = ("classes.stage1", "classes.stage2", "stripe_task", "fit", "publish")
LONG = [
    pytest.param(victim, phase, seed, marks=pytest.mark.slow)
    for victim in ("driver", "both")
    for phase in PHASES
    for seed in range(3)
]


@dataclass
class TrainScene:
    """A folder with a cohort and a spec, and what an undisturbed run made of it."""

    folder: Path
    processes: Processes
    bundle: str = ""
    tables: dict[str, str] = field(default_factory=dict)
    tasks: Counter[str] = field(default_factory=Counter)
    before: set[str] = field(default_factory=set)
    phases: dict[Path, str] = field(default_factory=dict)

    @property
    def cohort(self) -> Path:
        return self.folder / "cohort"

    def write_spec(self) -> None:
        self.before = {path.name for path in (self.cohort / "runs").iterdir()}
        spec = {**scene.TRAIN, "cohort": "cohort", "folds": {"outer": 2, "inner": 2}}
        (self.folder / "train.yaml").write_text(json.dumps(spec))

    def run(self, *arguments: object) -> Running:
        return self.processes.sjd("run", self.folder / "train.yaml", *arguments)

    def parts(self) -> dict[int, str]:
        """Parts of the training that are there, and the phase of each. Files only: it is asked all the time."""
        known: dict[int, str] = {}
        for path in self.cohort.glob("runs/*/*/parts/[0-9]*.arrow"):
            if path.parts[-4] not in self.before:
                if path not in self.phases:
                    self.phases[path] = phase_of(path)
                known[int(path.stem)] = self.phases[path]
        return known

    def wait_for_phase(self, phase: str, running: Running, least: int = 1) -> None:
        def seen() -> bool:
            there = Counter(self.parts().values())
            return there.total() >= self.tasks.total() if phase == "publish" else there[phase] >= least

        wait_for(lambda: not running.is_running or seen(), f"the phase {phase}")

    def content(self) -> tuple[str, dict[str, str]]:
        cohort = open_cohort(self.cohort)
        result = cohort.result(RESULT)
        return bundle.bundle_file(cohort, "classes@1").hash, {name: result.file(name).hash for name in result.tables}

    def check_nothing_visible(self) -> None:
        cohort = open_cohort(self.cohort)
        assert [one.ref for one in cohort.results() if one.kind == "models"] == []
        assert status(cohort, cohort.runs()[-1].id)["state"] == "interrupted"

    def check_published(self, done: Ended, reused: int | None = None) -> None:
        assert (done.code, done.out) == (0, f"{RESULT}\n"), done.err
        assert self.content() == (self.bundle, self.tables)
        cohort = open_cohort(self.cohort)
        facts = cohort.result(RESULT).meta["run"]
        assert facts["tasks"] == self.tasks.total()
        if reused is not None:
            assert facts["reused"] == reused
        assert list((self.cohort / "segments").glob("*stage*")) == []
        assert len(list((self.cohort / "models").iterdir())) == 1
        verify(cohort)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, dask_cluster: DaskCluster) -> TrainScene:
    """A cohort with a layer, and what an undisturbed training makes of it."""
    folder = tmp_path_factory.mktemp("train")
    made = TrainScene(folder, Processes(folder))
    scene.normalise(scene.make(made.cohort), Here(), scene.WITH_BATCH)
    made.write_spec()
    shutil.copytree(made.cohort, folder / "pristine")
    done = made.run("--cluster", dask_cluster.address).end()
    assert done.code == 0, done.err
    made.bundle, made.tables = made.content()
    made.tasks = Counter(made.parts().values())
    assert set(PHASES) - set(made.tasks) == {"publish"} and made.tasks["fit"] == 3
    made.check_published(done, reused=0)
    return made


@pytest.fixture
def fresh(template: TrainScene, tmp_path: Path) -> Iterator[TrainScene]:
    """A fresh copy; afterwards nothing that the test started may be left running."""
    shutil.copytree(template.folder / "pristine", tmp_path / "cohort")
    made = TrainScene(tmp_path, Processes(tmp_path), template.bundle, template.tables, template.tasks)
    made.write_spec()
    yield made
    left = made.processes.close()
    assert left == [], f"left running, now killed: {left}"


def settled(fresh: TrainScene) -> dict[int, str]:
    """The parts, once the workers of a lost driver are through."""
    seen, since = fresh.parts(), time.monotonic()
    while time.monotonic() - since < 0.5:
        time.sleep(0.05)
        if (now := fresh.parts()) != seen:
            seen, since = now, time.monotonic()
    return seen


def test_driver_killed_among_the_fits_and_at_publication(fresh: TrainScene, dask_cluster: DaskCluster) -> None:
    """Two drivers die, the third publishes what an undisturbed one would have; parts that were there stay."""
    where = ("--cluster", dask_cluster.address)
    for phase in ("fit", "publish"):
        run = fresh.run(*where)
        fresh.wait_for_phase(phase, run)
        run.kill()
        if run.end().code != -9:  # it was through before the signal came
            break
        there = settled(fresh)
        if any(one.kind == "models" for one in open_cohort(fresh.cohort).results()):
            break
        fresh.check_nothing_visible()
    done = fresh.run(*where).end()
    fresh.check_published(done)
    assert set(there) <= set(fresh.parts())


def test_a_worker_killed_among_the_fits(fresh: TrainScene, dask_cluster: DaskCluster) -> None:
    """The fit that it held is made again by another; nobody sees a difference."""
    run = fresh.run("--cluster", dask_cluster.address)
    fresh.wait_for_phase("stripe_task", run, fresh.tasks["stripe_task"])
    assert run.is_running, run.end().err
    dask_cluster.workers[0].kill()
    dask_cluster.replace_dead()
    fresh.check_published(run.end(), reused=0)


@pytest.mark.parametrize(("victim", "phase", "seed"), LONG)
def test_killed_at_any_moment(victim: str, phase: str, seed: int, fresh: TrainScene, dask_cluster: DaskCluster) -> None:
    """A seeded moment in every phase, the driver alone or with its workers."""
    draw = random.Random(f"{victim} {phase} {seed}")
    where = ("--cluster", dask_cluster.address)
    run = fresh.run(*where)
    fresh.wait_for_phase(phase, run, draw.randint(1, max(1, fresh.tasks[phase] - 1)))
    time.sleep(draw.random() * 0.3)
    if victim == "both":
        for worker in dask_cluster.workers:
            worker.kill()
        dask_cluster.replace_dead()
    run.kill()
    settled(fresh)
    fresh.check_published(fresh.run(*where).end())
